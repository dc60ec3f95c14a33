"""The command line in process: exit status, what is printed where, flags and their twins in the environment."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from mlops_exporter import __version__, cli
from mlops_exporter.profile.profile import load
from mlops_exporter.service import service


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """train.csv in the working directory."""
    monkeypatch.chdir(tmp_path)
    rows = [f"{number},{'ab'[number % 2]},{number / 100},{int(number > 50)}" for number in range(100)]
    (tmp_path / "train.csv").write_text("\n".join(["amount,kind,p,y", *rows]) + "\n")
    return tmp_path / "train.csv"


BUILD = ["profile", "build", "--data", "train.csv", "--task", "binary", "--label", "y", "--score", "p"]


def test_a_profile_is_built_shown_and_checked(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*BUILD, "--model-version", "3", "--output", "credit.json"]) == 0
    assert capsys.readouterr().out == "credit.json: 100 rows, 2 features; profile show prints it\n"
    assert load(Path("credit.json")).provenance.model_version == "3"

    assert cli.main(["profile", "show", "credit.json"]) == 0
    assert "kind: categorical" in capsys.readouterr().out

    Path("exporter.yml").write_text("models: [{name: credit, task: binary, profile: credit.json}]")
    assert cli.main(["check", "exporter.yml"]) == 0
    assert capsys.readouterr().out == (
        "credit: binary, 2 features, profile credit.json\n"
        "exporter.yml: good, 1 model\n"
        "memory: 1.5 GB once as much waits as limits.pending_predictions and remembered_labels allow\n"
    )


@pytest.mark.slow
def test_the_flags_of_build_reach_the_profile(table: Path) -> None:
    command = [*BUILD, "--categorical", "amount", "--exclude", "kind", "--bins", "4", "--output", "p.json"]
    assert cli.main(command) == 0
    assert list(load(Path("p.json")).features) == ["amount"]
    assert cli.main([*BUILD, "--features", "amount", "--groups", "kind", "--bins", "4", "--output", "p.json"]) == 0
    profile = load(Path("p.json"))
    assert len(profile.features["amount"].exported_starts) == 4
    assert list(profile.groups) == ["kind"]


def test_scores_of_several_classes(table: Path) -> None:
    Path("train.csv").write_text("x,a,b,y\n1,0.3,0.7,u\n2,0.6,0.4,v\n")
    command = ["profile", "build", "--data", "train.csv", "--task", "multiclass", "--label", "y"]
    assert cli.main([*command, "--scores", "u=a,v=b", "--output", "p.json"]) == 0
    assert load(Path("p.json")).has_scores


@pytest.mark.parametrize(
    ("command", "status", "message"),
    [
        ([*BUILD, "--output", "nowhere/p.json"], 1, "nowhere/p.json: No such file or directory"),
        ([*BUILD, "--exclude", "knid", "--output", "p.json"], 1, "did you mean 'kind'?"),
        ([*BUILD, "--bins", "1", "--output", "p.json"], 2, "'1': write a whole number from 2 to 50"),
        ([*BUILD, "--scores", "a=p", "--output", "p.json"], 2, "not allowed with argument --score"),
        ([*BUILD, "--engine", "spark", "--output", "p.json"], 1, "needs PySpark: pip install 'mlops-exporter[spark]'"),
        (["profile", "build", "--data", "no.csv", "--task", "binary", "--output", "p"], 1, "no.csv: no such file"),
        (["profile", "show", "none.json"], 1, "none.json: No such file or directory; make it with"),
        (["check", "none.yml"], 1, "none.yml: cannot be read"),
        (["run", "--config.file=none.yml"], 1, "none.yml: cannot be read"),
        (["run", "--no-such-flag"], 2, "try mlops-exporter --help"),
        ([], 2, "the following arguments are required: COMMAND"),
        (["profile"], 2, "the following arguments are required: COMMAND"),
        (["fly"], 2, "invalid choice: 'fly'"),
        (["healthcheck", "--web.listen-address=127.0.0.1:1"], 1, "http://127.0.0.1:1/-/ready: "),
        (["healthcheck", "--web.listen-address=here"], 1, "listen address 'here': write host:port"),
        (["healthcheck", "--web.listen-address=:99999"], 1, "listen address ':99999': write host:port"),
        ([*BUILD, "--threshold=50", "--output", "p.json"], 2, "'50': write a number from 0 to 1"),
        ([*BUILD, "--threshold=nan", "--output", "p.json"], 2, "'nan': write a number from 0 to 1"),
    ],
)
def test_failures_say_why_on_standard_error(
    command: list[str], status: int, message: str, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        actual = cli.main(command)
    except SystemExit as exit_:
        actual = exit_.code  # type: ignore[assignment]
    output = capsys.readouterr()
    assert actual == status
    assert output.out == ""
    assert message in output.err
    assert "Traceback" not in output.err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"mlops-exporter {__version__}\n"


@pytest.mark.parametrize(
    "command",
    [[], ["run"], ["demo"], ["check"], ["profile"], ["profile", "build"], ["healthcheck"], ["doctor"], ["replay"]],
)
def test_every_command_explains_itself(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        cli.main([*command, "--help"])
    assert "usage: mlops-exporter" in capsys.readouterr().out


@pytest.fixture
def started(table: Path, monkeypatch: pytest.MonkeyPatch) -> list[service.Options]:
    """Runs record their options and end at once."""
    cli.main([*BUILD, "--output", "credit.json"])
    Path("mlops-exporter.yml").write_text("models: [{name: credit, task: binary, profile: credit.json}]")
    seen: list[service.Options] = []
    monkeypatch.setattr(service, "run", lambda config, profiles, options, *tasks: seen.append(options))
    return seen


def test_flags_of_run(started: list[service.Options]) -> None:
    assert cli.main(["run"]) == 0
    assert cli.main(["run", "--web.listen-address=127.0.0.1:1", "--web.listen-address=[::1]:2"]) == 0
    assert cli.main(["run", "--web.telemetry-path=/m", "--no-collector.data"]) == 0
    default, listening, other = started
    assert (default.listen, default.telemetry_path, default.collectors_off) == ((":10042",), "/metrics", frozenset())
    assert listening.listen == ("127.0.0.1:1", "[::1]:2")
    assert (other.telemetry_path, other.collectors_off) == ("/m", frozenset({"data"}))


def test_every_flag_has_a_twin_in_the_environment(
    started: list[service.Options], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("mlops-exporter.yml").rename("other.yml")
    for name, value in {
        "CONFIG_FILE": "other.yml",
        "WEB_LISTEN_ADDRESS": "127.0.0.1:1,127.0.0.1:2",
        "WEB_TELEMETRY_PATH": "/twin",
        "COLLECTOR_DATA": "false",
    }.items():
        monkeypatch.setenv(f"MLOPS_EXPORTER_{name}", value)
    assert cli.main(["run"]) == 0
    assert cli.main(["run", "--web.listen-address=:3", "--collector.data"]) == 0
    monkeypatch.setenv("MLOPS_EXPORTER_WEB_ENABLE_LIFECYCLE", "off")
    assert cli.main(["run"]) == 0
    assert not started.pop().lifecycle
    monkeypatch.setenv("MLOPS_EXPORTER_WEB_ENABLE_LIFECYCLE", "perhaps")
    with pytest.raises(SystemExit, match="2"):
        cli.main(["run"])
    monkeypatch.setenv("MLOPS_EXPORTER_WEB_ENABLE_LIFECYCLE", "true")
    assert cli.main(["run"]) == cli.main(["run", "--no-web.enable-lifecycle"]) == 0
    twin, flags, *_ = started
    assert [options.lifecycle for options in started] == [False, False, True, False]
    assert {options.config_file for options in started} == {Path("other.yml")}
    assert (twin.listen, twin.telemetry_path) == (("127.0.0.1:1", "127.0.0.1:2"), "/twin")
    assert twin.collectors_off == {"data"}
    assert (flags.listen, flags.collectors_off) == ((":3",), frozenset())


def test_a_bad_twin_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("MLOPS_EXPORTER_LOG_LEVEL", "loud")
    with pytest.raises(SystemExit, match="2"):
        cli.main(["run"])
    assert "MLOPS_EXPORTER_LOG_LEVEL: 'loud' is none of debug, info, warning, error" in capsys.readouterr().err


class _Ready(BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/-/ready" else 404)
        self.end_headers()
        self.wfile.write(b"an answer\n")

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - named by http.server
        pass


@pytest.mark.parametrize(("status", "expected"), [(200, 0), (503, 1)])
def test_healthcheck(status: int, expected: int, capsys: pytest.CaptureFixture[str]) -> None:
    handler = type("Handler", (_Ready,), {"status": status})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        assert cli.main(["healthcheck", f"--web.listen-address=:{server.server_address[1]}"]) == expected
        thread.join()
    output = capsys.readouterr()
    assert (output.out if expected == 0 else output.err) == "an answer\n"


@pytest.mark.parametrize("style", ["logfmt", "json"])
def test_log_lines(style: str, capsys: pytest.CaptureFixture[str]) -> None:
    import logging

    from mlops_exporter import logs

    logs.configure("info", style)  # type: ignore[arg-type]
    try:
        logging.getLogger("mlops_exporter.cli").info('said "hello" to %s', "you")
        logging.getLogger("mlops_exporter.cli").debug("unheard")
    finally:
        logging.basicConfig(handlers=[], force=True)
    (line,) = capsys.readouterr().err.splitlines()
    if style == "json":
        assert json.loads(line)["msg"] == 'said "hello" to you'
    else:
        assert "level=info caller=test_cli:" in line
        assert line.endswith('msg="said \\"hello\\" to you"')
