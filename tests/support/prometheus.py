"""A real Prometheus for tests: Debian's or any other `prometheus` on the path."""

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.requirements import require_program


def free_port() -> int:
    """A port on 127.0.0.1 that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def eventually(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    """Return the first true value of `condition`, tried every tenth of a second; fail after `seconds`.

    On a busy machine the environment variable PATIENCE says how many times as long to wait.
    """
    deadline = time.monotonic() + seconds * float(os.environ.get("PATIENCE", "1"))
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s, last value {value!r}"
        time.sleep(0.1)
    return value


@dataclass(frozen=True)
class Prometheus:
    """A running server, at `url`, asked of the time `moment`: without one, of now."""

    url: str
    log: Path
    moment: float | None = None

    def without_gaps(self, targets: int) -> "Prometheus":
        """Itself, asked of a moment at which all targets were there for some scrapes.

        On a busy machine a scrape may be too slow, and all series of that target are absent until the next.
        """
        moments: list[Prometheus] = []

        def is_whole() -> bool:
            moments.append(replace(self, moment=time.time()))
            return bool(moments[-1].query(f"count(min_over_time(up[3s]) == 1) == {targets}"))

        eventually(is_whole)
        return moments[-1]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Result of an instant query: for a vector, dicts with `metric` and `value`."""
        time_asked = {} if self.moment is None else {"time": str(self.moment)}
        data = self.api("query", query=expression, **time_asked)
        result: list[dict[str, Any]] = data["result"]
        return result

    def api(self, endpoint: str, **parameters: str) -> Any:
        """`data` of the answer of an endpoint under /api/v1."""
        answer = httpx.get(f"{self.url}/api/v1/{endpoint}", params=parameters, timeout=600, trust_env=False)
        body = answer.json()
        assert body["status"] == "success", body
        return body["data"]


@contextmanager
def running_prometheus(config: Mapping[str, Any], directory: Path, *flags: str) -> Iterator[Prometheus]:
    """Run Prometheus with `config` (scrape and evaluation interval 1 s unless it says otherwise), data in `directory`.

    Yields once it is ready, and stops it at the end. Relative paths in the configuration start from `directory`.
    """
    program = require_program("prometheus")
    defaults = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    complete = {**config, "global": {**defaults, **config.get("global", {})}}
    config_file = directory / "prometheus.yml"
    config_file.write_text(yaml.safe_dump(complete))
    log = directory / "prometheus.log"
    address = f"127.0.0.1:{free_port()}"
    command = [
        program,
        f"--config.file={config_file}",
        f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address={address}",
        *flags,
    ]
    server = Prometheus(f"http://{address}", log)
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        try:
            eventually(lambda: _is_ready(server, process))
            yield server
        finally:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()


def scrape_job(job: str, *targets: str, **settings: Any) -> dict[str, Any]:
    """One entry of `scrape_configs` with static targets (`host:port`)."""
    return {"job_name": job, "static_configs": [{"targets": list(targets)}], **settings}


def _is_ready(server: Prometheus, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, f"prometheus ended:\n{server.log.read_text()}"
    try:
        return httpx.get(f"{server.url}/-/ready", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False
