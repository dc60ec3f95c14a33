"""The shell commands of docs/runbooks, run as they stand there, of an exporter and a Prometheus that have trouble."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import yaml

from tests.requirements import require_program
from tests.support.exporter import Exporter, running_exporter, write_config
from tests.support.pages import Shell, blocks
from tests.support.prometheus import eventually, running_prometheus, scrape_job

RUNBOOKS = Path(__file__).parents[2] / "docs" / "runbooks"

SAID = {
    "{state, reasons, drifted}": '"state"',
    "{level, message, count}": "source queue",
    "select(.source == $source)": '"up": false',
    ".ignored[$model]": "colour",
    "'.configuration.error'": "mlops-exporter.yml",
    ".configuration.broken | to_entries": "churn.yml",
    "'.configuration.broken'": "churn.yml",
    "'.series'": '"limit"',
    "/-/healthy": "healthy",
    "mlops-exporter doctor": "queue",
    "{health, lastError, lastScrape}": '"health": "up"',
    "scrapePool": "mlops-exporter",
    "status/config": "- job_name: mlops-exporter",
    '.health == "err"': "many-to-many matching not allowed",
    "activeAlertmanagers": "127.0.0.1:9",
    "ps -eo": "PID",
    "journalctl": "--",
}
"""What a command says here, by a part of the command."""

FAULTY = {"groups": [{"name": "faulty", "rules": [{"record": "many", "expr": "up + on () up"}]}]}
"""A rule that finds two series where it needs one."""

REDIS = {"url": "redis://127.0.0.1:1", "stream": "feedback", "group": "mlops-exporter"}
"""Nobody listens there."""

EVENT = {"model": "credit", "version": "3", "score": 0.5, "features": {"amount": 5, "colour": "red"}}


def commands() -> set[str]:
    return {block for page in RUNBOOKS.glob("*.md") for block in blocks(page.read_text(), "sh")}


def test_every_command_of_a_runbook_says_what_it_is_for(tmp_path: Path) -> None:
    for program in ("curl", "jq", "journalctl", "ps"):
        require_program(program)
    push, queue = {"name": "push", "http": {}}, {"name": "queue", "redis": REDIS}
    path = write_config(tmp_path, sources=[push], models_dir="models", state={"path": "state"})
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "churn.yml").write_text("task: binary\nprofle: churn.json\n")
    (tmp_path / "faulty.yml").write_text(yaml.safe_dump(FAULTY))
    with running_exporter(tmp_path, "run", "--web.enable-lifecycle") as exporter:
        exporter.post(json.dumps(EVENT).encode())
        path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "sources": [push, queue]}))
        assert _reload(exporter).is_success
        with _instead(path, "models: {}"):
            assert _reload(exporter).is_error
        with running_prometheus(_prometheus(exporter.address), tmp_path) as server:
            eventually(lambda: len(server.query("up == 1")) == 2)
            eventually(lambda: any(group["rules"][0].get("lastError") for group in server.api("rules")["groups"]))
            shell = Shell(
                tmp_path, instance=exporter.address, model="credit", version="3", source="queue", file="churn.yml",
                MLOPS_EXPORTER_WEB_LISTEN_ADDRESS=exporter.address,
            )  # fmt: skip
            used = set()
            for command in sorted(commands()):
                (part,) = (part for part in SAID if part in command)
                used.add(part)
                said = _said(shell, command.replace("http://localhost:9090", server.url))
                assert SAID[part] in said, f"{command}{said}"
            assert used == SAID.keys()


def _reload(exporter: Exporter) -> httpx.Response:
    return httpx.post(f"{exporter.url}/-/reload", timeout=30, trust_env=False)


@contextmanager
def _instead(path: Path, text: str) -> Iterator[None]:
    """Let a file hold another text for a while."""
    good = path.read_text()
    path.write_text(text)
    yield
    path.write_text(good)


def _said(shell: Shell, command: str) -> str:
    if "doctor" in command:  # which finds the trouble
        return shell.refused(command)
    if "--grep" in command:  # which may find nothing
        return shell.run(f"{command.strip()} || [ $? = 1 ]")
    return shell.run(command)


def _prometheus(address: str) -> dict[str, object]:
    return {
        "scrape_configs": [scrape_job("mlops-exporter", address), scrape_job("prometheus", address)],
        "rule_files": ["faulty.yml"],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": ["127.0.0.1:9"]}]}]},
    }
