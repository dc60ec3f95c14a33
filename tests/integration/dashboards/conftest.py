"""The demonstration and a Prometheus that scrapes it, shared by all tests of dashboards."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.prometheus import Prometheus, eventually, free_port, running_prometheus, scrape_job


@contextmanager
def demonstration() -> Iterator[str]:
    """Run the demonstration as a user would; yields `host:port`."""
    address = f"127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "exporter", "demo", f"--web.listen-address={address}"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield address
        finally:
            process.terminate()
            process.wait(timeout=20)


@pytest.fixture(scope="session")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Prometheus with half a minute of the demonstration."""
    directory: Path = tmp_path_factory.mktemp("prometheus")
    with demonstration() as address:
        config = {"scrape_configs": [scrape_job("mlops-exporter", address)]}
        with running_prometheus(config, directory) as server:
            eventually(lambda: len(server.query("group by (model) (ml_model_performance)")) == 2, 40)
            eventually(lambda: len(server.query("ml_model_info offset 20s")) == 2, 40)
            yield server
