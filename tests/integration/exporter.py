"""The real exporter for tests, as a process of its own."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from exporter.profile.profile import save
from tests.integration.prometheus import eventually, free_port
from tests.models import profiles


@dataclass(frozen=True)
class Exporter:
    """A running exporter at `url`."""

    url: str
    process: "subprocess.Popen[bytes]"

    def metric(self, name: str) -> dict[str, float]:
        """The samples of a metric by their label text (`{...}`)."""
        text = httpx.get(f"{self.url}/metrics", trust_env=False).text
        lines = (line.rpartition(" ") for line in text.splitlines() if line.startswith(f"{name}{{"))
        return {series.removeprefix(name): float(value) for series, _, value in lines}

    def predictions(self, model: str) -> float:
        """How many predictions of a model were counted."""
        values = self.metric("ml_model_predictions_total")
        return sum(value for labels, value in values.items() if f'model="{model}"' in labels)


def write_config(directory: Path, **more: Any) -> Path:
    """Write profiles and a configuration of the test models; returns the latter."""
    models = []
    for name, profile in profiles().items():
        save(profile, directory / f"{name}.json")
        models.append({"name": name, "task": profile.task, "profile": f"{name}.json"})
    config = directory / "mlops-exporter.yml"
    config.write_text(yaml.safe_dump(json.loads(json.dumps({"models": models, **more}))))
    return config


@contextmanager
def running_exporter(directory: Path, port: int | None = None, **config: Any) -> Iterator[Exporter]:
    """Run the exporter on a port of 127.0.0.1 with the test models; `config` are further keys of the configuration."""
    address = f"127.0.0.1:{port or free_port()}"
    command = [sys.executable, "-m", "exporter", "run", f"--config.file={write_config(directory, **config)}"]
    with (directory / "exporter.log").open("wb") as log:
        process = subprocess.Popen([*command, f"--web.listen-address={address}"], stdout=log, stderr=log)
        with process:
            exporter = Exporter(f"http://{address}", process)
            try:
                eventually(lambda: _is_ready(exporter, directory))
                yield exporter
            finally:
                process.kill()


def _is_ready(exporter: Exporter, directory: Path) -> bool:
    assert exporter.process.poll() is None, (directory / "exporter.log").read_text()
    try:
        return httpx.get(f"{exporter.url}/-/ready", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False
