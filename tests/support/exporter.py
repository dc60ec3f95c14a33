"""The real exporter for tests: a process with its command line, its port and its log."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from mlops_exporter.profile.profile import save
from tests.models import profiles
from tests.support.pipeline import Exposition
from tests.support.prometheus import eventually, free_port

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def command(*arguments: str, program: Sequence[str] = ("mlops_exporter",)) -> list[str]:
    """The command line that runs `mlops-exporter` with these arguments; `program` is a module and what comes first."""
    return [sys.executable, "-m", *program, *arguments]


def run(
    *arguments: str, directory: Path, timeout: float = 30.0, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        command(*arguments),
        cwd=directory,
        env={**ENVIRONMENT, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def write_config(directory: Path, *models: Mapping[str, Any], **settings: Any) -> Path:
    """Write mlops-exporter.yml; without models, with those of `tests.models` and their profiles."""
    config = {"models": list(models) or _test_models(directory), **settings}
    path = directory / "mlops-exporter.yml"
    path.write_text(yaml.safe_dump(json.loads(json.dumps(config))))
    return path


@dataclass(frozen=True)
class Exporter:
    """An exporter at `address` (`host:port`)."""

    address: str
    process: "subprocess.Popen[bytes]"
    log: Path

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def post(self, content: bytes, **headers: str) -> httpx.Response:
        """Send events, as NDJSON unless the headers say otherwise; they must be taken."""
        headers = {"content-type": "application/x-ndjson"} | headers
        answer = httpx.post(f"{self.url}/v1/events", content=content, headers=headers, timeout=30, trust_env=False)
        assert answer.status_code == 202, answer.text
        return answer

    def scrape(self) -> Exposition:
        """What a scrape shows now."""
        return Exposition(httpx.get(f"{self.url}/metrics", timeout=30, trust_env=False).text)

    def value(self, name: str, **labels: str) -> float | None:
        """The value of one series now, None where it is absent."""
        return self.scrape().value(name, **labels)

    def is_ready(self) -> bool:
        """Whether it takes events; it must not have ended."""
        assert self.process.poll() is None, f"the exporter ended:\n{self.log.read_text()}"
        try:
            return httpx.get(f"{self.url}/-/ready", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False


def start_exporter(
    directory: Path,
    *arguments: str,
    port: int | None = None,
    environment: Mapping[str, str] = ENVIRONMENT,
    program: Sequence[str] = ("mlops_exporter",),
) -> Exporter:
    """Start the exporter in `directory` on a port of 127.0.0.1; `run` is what it does without arguments."""
    address = f"127.0.0.1:{port or free_port()}"
    log = directory / "exporter.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            command(*(arguments or ("run",)), f"--web.listen-address={address}", program=program),
            cwd=directory,
            env=environment,
            stdout=output,
            stderr=output,
        )
    return Exporter(address, process, log)


@contextmanager
def running_exporter(
    directory: Path, *arguments: str, port: int | None = None, program: Sequence[str] = ("mlops_exporter",)
) -> Iterator[Exporter]:
    """Run the exporter in `directory`; yields once it is ready, and stops it at the end."""
    exporter = start_exporter(directory, *arguments, port=port, program=program)
    with exporter.process as process:
        try:
            eventually(exporter.is_ready)
            yield exporter
        finally:
            process.terminate()
            try:
                process.wait(timeout=15 * float(os.environ.get("PATIENCE", "1")))
            except subprocess.TimeoutExpired:
                process.kill()
                raise


def _test_models(directory: Path) -> list[dict[str, str]]:
    """Write the profiles of the test models; returns the models' settings."""
    models = []
    for name, profile in profiles().items():
        save(profile, directory / f"{name}.json")
        models.append({"name": name, "task": profile.task, "profile": f"{name}.json"})
    return models
