"""Two hundred models in trouble at once, half of them failing and half slow: one message for each half.

Prometheus, Alertmanager and the shipped rules are real. The exporter is a page of counters; all that is made shorter is
how long conditions must hold and groups wait. Alertmanager begins when all of the alerts fire, as after a restart: made
so short, the two minutes by which the alert on many models comes first are less than an evaluation takes.
"""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.alerting.alertmanager import Alertmanager, Inbox, local, receiving, running_alertmanager
from tests.integration.alerting.hastened import hastened
from tests.support.prometheus import Prometheus, eventually, free_port, running_prometheus, scrape_job

MODELS = 200
FACTOR = 180
A_SECOND = 1000  # predictions of a model
TOLD = {"MLManyModelsFailing": "MLPredictionFailures", "MLManyModelsTroubled": "MLPredictionLatencyHigh"}
"""What is told, and what each model's own alert is."""


def page(seconds: float) -> str:
    """Counters of the models: of every other one a fifth of the predictions fails, and the rest take 40 seconds."""
    lines = ['ml_exporter_build_info{version="1"} 1']
    made = int(seconds * A_SECOND)
    for number in range(MODELS):
        answered, slow = (made * 4 // 5, 0) if number % 2 else (made, made)
        of = f'model="m{number:03d}",version="1"'
        lines += [
            f'ml_model_info{{{of},task="binary",profile_hash="p",profile_version="1"}} 1',
            f"ml_model_predictions_total{{{of}}} {made}",
            f"ml_model_prediction_failures_total{{{of}}} {made - answered}",
            f'ml_model_prediction_latency_seconds_bucket{{{of},le="0.1"}} {answered - slow}',
            f'ml_model_prediction_latency_seconds_bucket{{{of},le="60.0"}} {answered}',
            f'ml_model_prediction_latency_seconds_bucket{{{of},le="+Inf"}} {answered}',
            f"ml_model_prediction_latency_seconds_sum{{{of}}} {40 * slow}",
            f"ml_model_prediction_latency_seconds_count{{{of}}} {answered}",
        ]
    return "\n".join(lines) + "\n"


@contextmanager
def fleet(address: str) -> Iterator[None]:
    """Serve the page at host:port."""
    began = time.monotonic()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            with suppress(BrokenPipeError):  # Prometheus was stopped
                self.wfile.write(page(time.monotonic() - began).encode())

        def log_message(self, *args: Any) -> None:
            pass

    host, _, port = address.rpartition(":")
    with ThreadingHTTPServer((host, int(port)), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.slow
def test_two_hundred_models_in_trouble_are_one_message_each_for_pages_and_for_warnings(tmp_path: Path) -> None:
    (tmp_path / "rules").mkdir()
    for name, text in hastened(FACTOR).items():
        (tmp_path / "rules" / name).write_text(text)
    config = {
        "rule_files": ["rules/*.yml"],
        "alerting": {"alertmanagers": [{"file_sd_configs": [{"files": ["alertmanagers.json"]}]}]},
        "scrape_configs": [scrape_job("mlops-exporter", address := f"127.0.0.1:{free_port()}")],
    }
    with (
        receiving() as inbox,
        fleet(address),
        running_prometheus(config, tmp_path, "--rules.alert.resend-delay=2s") as server,
    ):
        for together, each in TOLD.items():
            eventually(partial(_fire, server, together, 1), 120)
            eventually(partial(_fire, server, each, MODELS // 2), 120)
        with running_alertmanager(local(inbox, "15s", "60s"), tmp_path) as alertmanager:
            targets = [{"targets": [alertmanager.url.removeprefix("http://")]}]
            (tmp_path / "alertmanagers.json").write_text(json.dumps(targets))
            for together, each in TOLD.items():
                eventually(partial(_all_held_back, alertmanager, each, together), 60)
            eventually(lambda: all(_told(inbox, name) for name in TOLD), 60)
    for name in TOLD:
        (alert,) = {str(each["labels"]): each for body in _told(inbox, name) for each in body["alerts"]}.values()
        assert alert["labels"]["of"] == "serving"
        assert "100 models of mlops-exporter have trouble" in alert["annotations"]["description"]
    assert not _of_models(inbox), "theirs are held back"


def _fire(server: Prometheus, name: str, number: int) -> bool:
    found = server.query(f'count(ALERTS{{alertname="{name}",alertstate="firing"}})')
    return bool(found) and int(found[0]["value"][1]) == number


def _told(inbox: Inbox, name: str) -> list[dict[str, Any]]:
    """Return the notifications that hold the alert."""
    bodies = [notification.body for notification in inbox.notifications]
    return [b for b in bodies if any(alert["labels"]["alertname"] == name for alert in b.get("alerts", []))]


def _all_held_back(alertmanager: Alertmanager, name: str, by: str) -> bool:
    """Return whether Alertmanager has the alert of each of the models, and holds it back for that one alert on all."""
    alerts = httpx.get(f"{alertmanager.url}/api/v2/alerts", trust_env=False).json()
    causes = {alert["fingerprint"] for alert in alerts if alert["labels"]["alertname"] == by}
    held = [alert["status"]["inhibitedBy"] for alert in alerts if alert["labels"]["alertname"] == name]
    return len(held) == MODELS // 2 and all(causes & set(each) for each in held)


def _of_models(inbox: Inbox) -> list[str]:
    bodies = [notification.body for notification in inbox.notifications]
    return [
        alert["labels"]["alertname"]
        for body in bodies
        for alert in body.get("alerts", [])
        if alert["labels"].get("category") == "serving" and "model" in alert["labels"]
    ]
