"""A real exporter process for tests."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.integration.prometheus import eventually, free_port
from tests.unit.pipeline import Exposition

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def command(*arguments: str) -> list[str]:
    """The command line that runs `mlops-exporter` with these arguments."""
    return [sys.executable, "-m", "exporter", *arguments]


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


@dataclass(frozen=True)
class Exporter:
    """A running exporter at `host:port`."""

    address: str
    process: subprocess.Popen[bytes]
    log: Path

    def url(self, path: str) -> str:
        return f"http://{self.address}{path}"

    def post(self, content: bytes, **headers: str) -> httpx.Response:
        """Send events, as NDJSON unless the headers say otherwise; they must be taken."""
        headers = {"content-type": "application/x-ndjson"} | headers
        answer = httpx.post(self.url("/v1/events"), content=content, headers=headers, timeout=30, trust_env=False)
        assert answer.status_code == 202, answer.text
        return answer

    def scrape(self) -> Exposition:
        """What a scrape shows now."""
        return Exposition(httpx.get(self.url("/metrics"), timeout=30, trust_env=False).text)


@contextmanager
def running_exporter(directory: Path, *arguments: str) -> Iterator[Exporter]:
    """Run the exporter in `directory` on a free port; yields once it is ready, and stops it at the end."""
    address = f"127.0.0.1:{free_port()}"
    log = directory / "exporter.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command(*arguments, f"--web.listen-address={address}"),
            cwd=directory,
            env=ENVIRONMENT,
            stdout=output,
            stderr=output,
        )
        try:
            exporter = Exporter(address, process, log)
            eventually(lambda: _is_ready(exporter))
            yield exporter
        finally:
            process.terminate()
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()
                raise


def write_config(directory: Path, *models: Mapping[str, Any], **settings: Any) -> None:
    """Write mlops-exporter.yml."""
    (directory / "mlops-exporter.yml").write_text(yaml.safe_dump({"models": list(models), **settings}))


def _is_ready(exporter: Exporter) -> bool:
    assert exporter.process.poll() is None, f"the exporter ended:\n{exporter.log.read_text()}"
    try:
        return httpx.get(exporter.url("/-/ready"), trust_env=False).status_code == 200
    except httpx.TransportError:
        return False
