"""`make stack`: the exporter, Prometheus and Alertmanager as they are installed, with the shipped configuration."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx

from tests.requirements import require_program
from tests.support.prometheus import Prometheus, eventually, free_port

ROOT = Path(__file__).parents[2]
PARTS = ("EXPORTER", "PROMETHEUS", "ALERTMANAGER", "RETRAINING", "NOTIFICATIONS", "GRAFANA")


def test_the_stack_runs_without_containers(tmp_path: Path) -> None:
    require_program("prometheus")
    require_program("prometheus-alertmanager")
    names = tuple(f"{name}_PORT" for name in PARTS)
    ports = {name: str(free_port()) for name in names}
    log = tmp_path / "log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [ROOT / "stack.sh"], env={**os.environ, **ports, "PYTHON": sys.executable}, stdout=output, stderr=output
        ) as stack,
    ):
        try:
            server = Prometheus(f"http://127.0.0.1:{ports['PROMETHEUS_PORT']}", log)
            eventually(lambda: log.read_text().endswith("Ctrl-C stops everything.\n"))
            eventually(lambda: is_ready(server), 40)
            eventually(lambda: {each["health"] for each in targets(server)} == {"up"}, 40)
            assert {each["labels"]["job"] for each in targets(server)} >= {
                "mlops-exporter",
                "mlops-retraining",
                "prometheus",
            }
            (alertmanager,) = server.api("alertmanagers")["activeAlertmanagers"]
            assert ports["ALERTMANAGER_PORT"] in alertmanager["url"]
            assert server.api("rules")["groups"]
            eventually(lambda: "Held" in notifications(ports["NOTIFICATIONS_PORT"]), 90)
        finally:
            stack.terminate()
            assert stack.wait(timeout=20) == 0, log.read_text()


def notifications(port: str) -> str:
    return httpx.get(f"http://127.0.0.1:{port}/", trust_env=False).text


def is_ready(server: Prometheus) -> bool:
    try:
        return httpx.get(f"{server.url}/-/ready", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def targets(server: Prometheus) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = server.api("targets")["activeTargets"]
    return found
