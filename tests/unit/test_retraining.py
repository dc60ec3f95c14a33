"""The receiver for Alertmanager's webhook: reasons, quorum, once, cool-down, tries, dead letters, restarts."""

import asyncio
import errno
import json
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import yaml

from mlops_exporter.lifecycle.collector import RetrainingCollector
from mlops_exporter.lifecycle.evidence import UnreadableError
from mlops_exporter.lifecycle.receiver import Receiver, read
from mlops_exporter.lifecycle.record import Record
from mlops_exporter.lifecycle.retrainer import Retrainer
from mlops_exporter.settings.document import ConfigError
from mlops_exporter.settings.models import ModelSettings
from mlops_exporter.settings.probes import ProbeSettings
from mlops_exporter.settings.registry import MlflowSettings
from mlops_exporter.settings.retraining import RetrainingConfig
from tests.support.one_model import samples

NOW = 1_790_000_000.0
ESTIMATED = "MLModelEstimatedPerformanceBelowBenchmark"
PERFORMANCE = "MLModelPerformanceBelowBenchmark"


def alert(name: str, status: str = "firing", **labels: str) -> dict[str, Any]:
    category = "drift" if "Drift" in name and "Concept" not in name else "performance"
    labels = {"alertname": name, "category": category, "model": "credit", "version": "3", **labels}
    return {
        "status": status,
        "labels": labels,
        "annotations": {"description": f"{name} of credit: 0.86, at least 0.9 is agreed."},
        "startsAt": "2026-11-28T10:00:00Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus/graph",
        "fingerprint": f"{name}-{labels['version']}",
    }


def notification(*alerts: dict[str, Any]) -> bytes:
    """As Alertmanager 0.25 to 0.34 write it."""
    return json.dumps({"version": "4", "groupKey": "{}", "truncatedAlerts": 0, "status": "firing", "alerts": alerts,
                       "receiver": "retraining", "groupLabels": {}, "commonLabels": {}, "commonAnnotations": {},
                       "externalURL": "http://alertmanager"}).encode()  # fmt: skip


class Clock:
    def __init__(self) -> None:
        self.time = NOW

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


def retrainer(directory: Path, clock: Callable[[], float], **settings: Any) -> Retrainer:
    model = {"model": "credit", "command": ["true"], "retry_after": "10s", **settings}
    config = RetrainingConfig.model_validate({"state": {"path": str(directory)}, "models": [model]})
    return Retrainer(config, Record(directory), clock)


def decisions(directory: Path) -> list[str]:
    return [line["decision"] for line in audit(directory)]


def audit(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / "audit.ndjson").read_text().splitlines()]


def settle(subject: Retrainer) -> None:
    """Let what is due be done."""

    async def work() -> None:
        for _ in range(500):
            subject.look()
            if not subject._tasks:
                return
            await asyncio.sleep(0.01)
        raise AssertionError("not done")

    asyncio.run(work())


@pytest.mark.parametrize(
    ("names", "starts"),
    [
        ([PERFORMANCE], True),
        (["MLFeatureDrift"], False),
        ([ESTIMATED], False),
        ([ESTIMATED, "MLFeatureDrift"], True),
        (["MLPredictionDrift", "MLFeatureDrift"], False),
        (["MLNoLabels"], False),
    ],
)
def test_reasons_must_be_enough(names: list[str], starts: bool, tmp_path: Path, clock: Clock) -> None:
    subject = retrainer(tmp_path, clock)
    subject.notify(notification(*(alert(name) for name in names)))
    assert subject.counts.triggered == {"credit": int(starts)}


def test_reasons_may_come_one_after_the_other_and_go(tmp_path: Path, clock: Clock) -> None:
    subject = retrainer(tmp_path, clock)
    subject.notify(notification(alert(ESTIMATED)))
    subject.notify(notification(alert(ESTIMATED, "resolved")))
    subject.notify(notification(alert("MLFeatureDrift")))
    assert subject.counts.triggered == {"credit": 0}, "they never stood together"
    subject.notify(notification(alert(ESTIMATED)))
    assert subject.counts.triggered == {"credit": 1}
    assert decisions(tmp_path) == ["quorum", "quorum", "started"]


def test_a_reason_of_ones_own(tmp_path: Path, clock: Clock) -> None:
    subject = retrainer(tmp_path, clock, when=["new_market"])
    subject.notify(notification(alert("Ours", reason="new_market")))
    assert subject.counts.triggered == {"credit": 1}


def test_a_version_starts_once_whatever_is_repeated(tmp_path: Path, clock: Clock) -> None:
    subject = retrainer(tmp_path, clock)
    for _ in range(3):
        subject.notify(notification(alert(PERFORMANCE)))
        settle(subject)
        clock.time += 2 * 86400
    assert decisions(tmp_path) == ["started", "done", "already_started", "already_started"]


def test_a_restart_starts_nothing_twice(tmp_path: Path, clock: Clock) -> None:
    retrainer(tmp_path, clock).notify(notification(alert(PERFORMANCE)))
    again = retrainer(tmp_path, clock)
    again.notify(notification(alert(PERFORMANCE)))
    assert again.counts.triggered == {"credit": 0}
    settle(again)
    assert decisions(tmp_path) == ["started", "already_started", "done"], "what was ordered is done after the restart"


def test_another_version_waits_for_the_cool_down_and_no_longer(tmp_path: Path, clock: Clock) -> None:
    subject = retrainer(tmp_path, clock, cool_down="1h")
    subject.notify(notification(alert(PERFORMANCE)))
    settle(subject)
    clock.time += 1800
    subject.notify(notification(alert(PERFORMANCE, version="4")))
    settle(subject)
    clock.time += 1801
    settle(subject)
    assert decisions(tmp_path) == ["started", "done", "cool_down", "started", "done"]


def test_after_its_alerts_are_over_a_version_may_start_again(tmp_path: Path, clock: Clock) -> None:
    subject = retrainer(tmp_path, clock, cool_down="1h")
    subject.notify(notification(alert(PERFORMANCE)))
    settle(subject)
    subject.notify(notification(alert(PERFORMANCE, "resolved")))
    clock.time += 60
    subject.notify(notification(alert(PERFORMANCE)))
    assert decisions(tmp_path)[-1] == "cool_down", "what comes and goes starts nothing"
    clock.time += 3600
    settle(subject)
    assert subject.counts.triggered == {"credit": 2}


def test_what_is_not_repeated_is_no_evidence(tmp_path: Path, clock: Clock) -> None:
    subject = retrainer(tmp_path, clock)
    subject.notify(notification(alert(ESTIMATED)))
    clock.time += 86401
    settle(subject)
    subject.notify(notification(alert("MLFeatureDrift")))
    assert subject.counts.triggered == {"credit": 0}


def test_dry_run_decides_and_starts_nothing(tmp_path: Path, clock: Clock) -> None:
    proof = tmp_path / "proof"
    subject = retrainer(tmp_path / "state", clock, dry_run=True, command=["touch", str(proof)])
    subject.notify(notification(alert(PERFORMANCE)))
    settle(subject)
    subject.notify(notification(alert(PERFORMANCE)))
    assert decisions(tmp_path / "state") == ["dry_run", "already_started"]
    assert not proof.exists()


def test_a_command_knows_why_it_was_started(tmp_path: Path, clock: Clock) -> None:
    script = (
        "import json, os, sys; print(json.dumps([sys.argv[1:], json.load(sys.stdin), os.environ['RETRAINING_ID']]))"
    )
    command = [sys.executable, "-c", script, "--model=$model", "$version; rm -rf $reasons"]
    subject = retrainer(tmp_path, clock, command=command)
    subject.notify(notification(alert(ESTIMATED), alert("MLFeatureDrift")))
    settle(subject)
    (output,) = (tmp_path / "output").iterdir()
    arguments, order, identifier = json.loads(output.read_text())
    assert arguments == ["--model=credit", "3; rm -rf drift,estimated_performance"], "no shell has seen it"
    assert order["id"] == identifier == output.stem
    assert [each["reason"] for each in order["evidence"]] == ["drift", "estimated_performance"]
    assert order["evidence"][1]["description"] == f"{ESTIMATED} of credit: 0.86, at least 0.9 is agreed."


def test_tries_are_spaced_and_then_given_up(tmp_path: Path, clock: Clock) -> None:
    subject = retrainer(tmp_path, clock, tries=3, command=[sys.executable, "-c", "raise SystemExit('no data')"])
    subject.notify(notification(alert(PERFORMANCE)))
    waited = []
    for _ in range(3):
        settle(subject)
        if subject.orders:
            waited.append(subject.orders["credit"].due - clock.time)
            clock.time = subject.orders["credit"].due
    assert waited == [10.0, 20.0]
    assert decisions(tmp_path) == ["started", "failed", "failed", "given_up"]
    (letter,) = [json.loads(line) for line in (tmp_path / "dead-letters.ndjson").read_text().splitlines()]
    assert (letter["model"], letter["tries"]) == ("credit", 3)
    assert "exit status 1: no data" in letter["error"]
    assert letter["evidence"][0]["alert"] == PERFORMANCE
    found = samples(RetrainingCollector(subject))
    assert found['ml_retraining_last_result{model="credit"}'] == 0
    assert found['ml_retraining_failures_total{model="credit"}'] == 3
    assert found['ml_retraining_dead_letters_total{model="credit"}'] == 1
    assert found['ml_retraining_triggered_total{model="credit"}'] == 1


@pytest.mark.slow
def test_a_command_that_takes_too_long_is_stopped_with_its_children(tmp_path: Path, clock: Clock) -> None:
    proof = tmp_path / "proof"
    command = ["sh", "-c", f"(sleep 2; touch {proof}) & sleep 60"]
    subject = retrainer(tmp_path / "state", clock, tries=1, timeout="1s", command=command)
    subject.notify(notification(alert(PERFORMANCE)))
    began = time.monotonic()
    settle(subject)
    assert time.monotonic() - began < 4
    assert "stopped after 1 s" in (tmp_path / "state" / "dead-letters.ndjson").read_text()
    time.sleep(max(0.0, began + 2.5 - time.monotonic()))
    assert not proof.exists()


def test_a_program_that_is_not_there(tmp_path: Path, clock: Clock) -> None:
    subject = retrainer(tmp_path, clock, tries=1, command=["/no/such/program"])
    subject.notify(notification(alert(PERFORMANCE)))
    settle(subject)
    assert "cannot be started" in (tmp_path / "dead-letters.ndjson").read_text()


@pytest.mark.slow
def test_a_stop_in_the_middle_counts_as_a_failed_try(tmp_path: Path, clock: Clock) -> None:
    subject = retrainer(tmp_path, clock, command=["sleep", "60"])
    subject.notify(notification(alert(PERFORMANCE)))

    async def stopped() -> None:
        running = asyncio.create_task(subject.run())
        await asyncio.sleep(0.3)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(stopped())
    again = retrainer(tmp_path, clock, command=["true"])
    settle(again)
    clock.time += 10
    settle(again)
    assert decisions(tmp_path) == ["started", "failed", "done"]
    assert audit(tmp_path)[1]["error"] == "the receiver was stopped meanwhile"
    assert len({line["id"] for line in audit(tmp_path)}) == 1, "all tries have one id"


@contextmanager
def pipeline(statuses: list[int]) -> Iterator[tuple[str, list[tuple[str, dict[str, str], Any]]]]:
    """A server that answers with these statuses, one after the other."""
    calls: list[tuple[str, dict[str, str], Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            calls.append((self.path, dict(self.headers), body))
            self.send_response(statuses[min(len(calls), len(statuses)) - 1])
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", calls
        finally:
            server.shutdown()
            thread.join()


def test_a_call_has_values_in_address_and_body(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "token").write_text("pipeline's own secret")
    with pipeline([503, 200]) as (url, calls):
        target = {
            "url": f"{url}/runs/$model/$id?why=$reasons",
            "token_file": str(tmp_path / "token"),
            "body": {"conf": {"why": "$reasons", "all": "$evidence", "text": "$model of $$5", "n": 1}},
        }
        subject = retrainer(tmp_path / "state", clock, command=None, call=target)
        subject.notify(notification(alert(PERFORMANCE, version="3/b")))
        settle(subject)
        clock.time += 10
        settle(subject)
    assert [path for path, _, _ in calls] == [f"/runs/credit/{audit(tmp_path / 'state')[0]['id']}?why=performance"] * 2
    conf = calls[1][2]["conf"]
    assert (conf["why"], conf["text"], conf["n"]) == (["performance"], "credit of $5", 1)
    assert conf["all"][0]["labels"]["version"] == "3/b"
    assert calls[1][1]["Authorization"] == "Bearer pipeline's own secret"
    assert decisions(tmp_path / "state") == ["started", "failed", "done"]
    assert "own secret" not in (tmp_path / "state" / "audit.ndjson").read_text()


def test_a_run_that_is_there_already_is_no_failure(tmp_path: Path, clock: Clock) -> None:
    with pipeline([409]) as (url, _):
        subject = retrainer(tmp_path, clock, command=None, call={"url": url})
        subject.notify(notification(alert(PERFORMANCE)))
        settle(subject)
    assert decisions(tmp_path) == ["started", "done"]


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"version": "3", "alerts": []}', b'{"version": "4", "alerts": [{"labels": 1}]}']
)
def test_what_is_no_notification_is_refused(body: bytes, tmp_path: Path, clock: Clock) -> None:
    subject = retrainer(tmp_path, clock)
    with pytest.raises(UnreadableError):
        subject.notify(body)
    assert subject.counts.notifications["unreadable"] == 1


def test_names_that_could_be_options_are_left_out(tmp_path: Path, clock: Clock) -> None:
    subject = retrainer(tmp_path, clock, model="*")
    odd = [{"model": "--help"}, {"model": ""}, {"version": "--delete"}, {"version": "3\n4"}]
    assert subject.notify(notification(*(alert(PERFORMANCE, **labels) for labels in odd))) == 0


def test_a_label_that_is_no_reason_takes_none_away(tmp_path: Path, clock: Clock) -> None:
    subject = retrainer(tmp_path, clock)
    subject.notify(notification(alert(PERFORMANCE, reason="Because I say so")))
    assert audit(tmp_path)[0]["reasons"] == ["performance"]


def test_evidence_of_hundreds_of_features_does_not_keep_a_command_from_starting(tmp_path: Path, clock: Clock) -> None:
    script = "import json, os, sys; json.loads(sys.argv[1]); print(len(json.load(sys.stdin)['evidence']))"
    command = [sys.executable, "-c", script, "$evidence"]
    subject = retrainer(tmp_path, clock, command=command, when=["drift"], tries=1)
    alerts = [alert(f"MLFeatureDrift{number}", feature="x" * 100) for number in range(1000)]
    subject.notify(notification(*alerts))
    settle(subject)
    assert decisions(tmp_path) == ["started", "done"]
    assert [file.read_text() for file in (tmp_path / "output").iterdir()] == ["1000\n"], "standard input has it all"


@pytest.mark.parametrize("years", [-10, 10])
def test_a_clock_that_was_wrong_once_blocks_nothing_for_ever(years: int, tmp_path: Path, clock: Clock) -> None:
    right = clock.time
    clock.time += years * 365 * 86400.0
    subject = retrainer(tmp_path, clock, command=["false"], tries=2)
    subject.notify(notification(alert(PERFORMANCE)))
    settle(subject)
    clock.time = right
    settle(subject)
    assert decisions(tmp_path) == ["started", "failed", "given_up"]
    subject.notify(notification(alert(PERFORMANCE, version="4")))
    assert decisions(tmp_path)[-1] == "started"


def test_a_full_disk_starts_nothing_and_forgets_nothing(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Record, state: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    proof = tmp_path / "proof"
    subject = retrainer(tmp_path / "state", clock, command=["touch", str(proof)], tries=1)
    with monkeypatch.context() as patched:
        patched.setattr(Record, "save", full)
        answer = asyncio.run(_post(Receiver(subject, None), notification(alert(PERFORMANCE))))
        assert answer == 503, "Alertmanager tries again"
        settle_once(subject)
        assert not proof.exists()
    settle(subject)
    assert proof.exists()
    assert decisions(tmp_path / "state") == ["started", "done"]


def settle_once(subject: Retrainer) -> None:
    """Let what is due be tried."""

    async def work() -> None:
        subject.look()
        await asyncio.gather(*subject._tasks.values())

    asyncio.run(work())


async def _post(receiver: Receiver, body: bytes) -> int:
    transport = httpx.ASGITransport(app=receiver)
    async with httpx.AsyncClient(transport=transport, base_url="http://receiver") as client:
        return (await client.post("/v1/alerts", content=body)).status_code


def test_two_receivers_do_not_share_a_state(tmp_path: Path) -> None:
    first = Record(tmp_path)
    first.lock()
    with pytest.raises(ConfigError, match="another receiver uses it"):
        Record(tmp_path).lock()


def test_what_is_remembered_is_bounded(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlops_exporter.lifecycle.evidence.MOST_ALERTS", 5)
    monkeypatch.setattr("mlops_exporter.lifecycle.record.LONGEST_LOG", 2000)
    subject = retrainer(tmp_path, clock, model="*", when=["concept_drift"])
    for version in range(20):
        clock.time += 1
        subject.notify(notification(alert(PERFORMANCE, version=str(version))))
        subject.look()
    assert [version for _, version in subject.evidence.alerts] == ["15", "16", "17", "18", "19"]
    assert (tmp_path / "audit.ndjson.1").stat().st_size < 3000


def test_http(tmp_path: Path, clock: Clock) -> None:
    token = tmp_path / "token"
    subject = retrainer(tmp_path / "state", clock)
    transport = httpx.ASGITransport(app=Receiver(subject, token))

    async def ask() -> list[int]:
        async with httpx.AsyncClient(transport=transport, base_url="http://receiver") as client:
            good = {"Authorization": "Bearer 0123456789abcdef"}
            body = notification(alert(PERFORMANCE))
            before = await client.post("/v1/alerts", content=body, headers=good)
            token.write_text("0123456789abcdef\n")
            answers = [
                before,
                await client.post("/v1/alerts", content=body),
                await client.post("/v1/alerts", content=body, headers={"Authorization": "Bearer 0123456789abcdeg"}),
                await client.post("/v1/alerts", content=b"{}", headers=good),
                await client.get("/v1/alerts"),
                await client.post("/metrics"),
                await client.get("/elsewhere"),
                await client.get("/-/ready"),
            ]
            assert subject.counts.triggered == {"credit": 0}
            answers.append(await client.post("/v1/alerts", content=body, headers=good))
            scrape = await client.get("/metrics")
            assert 'ml_retraining_triggered_total{model="credit"} 1' in scrape.text
            assert 'ml_retraining_notifications_total{outcome="unauthorized"} 2' in scrape.text
            return [answer.status_code for answer in answers]

    assert asyncio.run(ask()) == [503, 401, 401, 400, 405, 405, 404, 200, 200]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("models: [{model: a, command: [x]}]", "state: missing"),
        ("state: {path: s}\nmodels: [{model: a}]", "give a command or a call, not none"),
        ("state: {path: s}\nmodels: [{model: a, command: [x], call: {url: 'http://a'}}]", "not both"),
        ("state: {path: s}\nmodels: [{model: a, command: [x], when: [a, [a]]}]", "every reason once"),
        ("state: {path: s}\nmodels: [{model: a, command: [x], coldown: 1d}]", "did you mean cool_down?"),
        ("state: {path: s}\nmodels: [{model: a, call: {url: 'a'}}]", "write http://HOST:PORT/PATH"),
        ("state: {path: s}\nmodels: [{model: a, command: [x]}, {model: a, command: [x]}]", "there twice: a"),
    ],
)
def test_configurations_of_no_use(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "retrain.yml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"retrain\.yml:") as caught:
        read(path)
    assert says in str(caught.value)


PAGE = Path(__file__).parents[2] / "docs" / "retraining.md"
BLOCKS = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)]
CALLS = [block[0] for block in BLOCKS if isinstance(block, list)]

EXPECTED = {
    "airflow": ("/api/v2/dags/retrain/dagRuns", ("dag_run_id",)),
    "github": ("/repos/example/models/actions/workflows/retrain.yml/dispatches", ("ref",)),
    "azure": ("/jobs", ("properties", "InputData", "model", "Value")),
    "argo": ("/api/v1/workflows/ml/submit", ("submitOptions", "name")),
    "kubernetes": ("/apis/batch/v1/namespaces/ml/jobs", ("metadata", "name")),
    "kubeflow": ("/pipeline/apis/v2beta1/runs", ("display_name",)),
}


@pytest.mark.slow
@pytest.mark.parametrize("entry", CALLS, ids=lambda entry: urlsplit(entry["call"]["url"]).hostname)
def test_documented_pipelines_are_called_as_documented(entry: dict[str, Any], tmp_path: Path, clock: Clock) -> None:
    call = entry["call"]
    host = urlsplit(call["url"])
    path, key = next(wanted for name, wanted in EXPECTED.items() if name in str(host.hostname))
    (tmp_path / "token").write_text("of the pipeline")
    with pipeline([201]) as (url, calls):
        local = {
            **call,
            "url": call["url"].replace(f"https://{host.netloc}", url),
            "token_file": str(tmp_path / "token"),
        }
        local.pop("ca_file", None)
        subject = retrainer(tmp_path / "state", clock, command=None, call=local)
        subject.notify(notification(alert(PERFORMANCE)))
        settle(subject)
    ((asked, headers, body),) = calls
    identifier = audit(tmp_path / "state")[0]["id"]
    assert asked == path
    assert headers["Authorization"] == "Bearer of the pipeline"
    found = body
    for part in key:
        found = found[part]
    assert found in (identifier, "credit", "main")
    text = json.dumps(body)
    assert "credit" in text
    assert "$" not in text, "every value is filled in"
    assert re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", identifier), "a name for Kubernetes"


def test_every_kind_of_pipeline_is_documented() -> None:
    assert len(CALLS) == len(EXPECTED)


def test_documented_configurations_are_read() -> None:
    for block in BLOCKS:
        if "token_file" in block:
            RetrainingConfig.model_validate(block)
        elif "mlflow" in block:
            MlflowSettings.model_validate(block["mlflow"])
            for model in block["models"]:
                ModelSettings.model_validate(model)
        elif "probes" in block:
            for probe in block["probes"]:
                ProbeSettings.model_validate(probe)
        else:
            assert isinstance(block, list)


def test_the_stacks_configuration_is_a_dry_run() -> None:
    assert read(PAGE.parents[1] / "retraining" / "retrain.yml").dry_run
