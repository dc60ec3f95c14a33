"""A CloudEvent that was acknowledged while it waits for its other half is neither lost nor counted twice."""

import json
import os
import random
import signal
import threading
import time
from http.client import HTTPException
from pathlib import Path
from typing import Any, Literal

from tests.integration.durability import Child
from tests.support.prometheus import free_port

KILLS = 40
BATCHED = "application/cloudevents-batch+json"
PREDICTIONS = 'ml_model_predictions_total{model="m",version="default"}'
DUPLICATES = 'ml_model_predictions_duplicate_total{model="m"}'
WAITING = 'ml_exporter_cloud_events_waiting{source="push"}'
LABELS = 'ml_model_labels_total{model="m",version="default"}'
ERRORS = 'ml_model_absolute_error_sum_total{model="m",version="default"}'

Kind = Literal["request", "response"]


def outcome(name: str) -> str:
    return f'ml_exporter_cloud_events_total{{source="push",outcome="{name}"}}'


def cloud_event(kind: Kind, number: int) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": f"{number}",
        "source": "http://127.0.0.1/",
        "type": f"org.kubeflow.serving.inference.{kind}",
        "inferenceservicename": "m",
        "data": {"instances": [{"x": 0.5}]} if kind == "request" else {"predictions": [1.5]},
    }


def send(child: Child, kind: Kind, *numbers: int) -> int:
    """Post CloudEvents as one batch; returns how many events they became."""
    body = json.dumps([cloud_event(kind, number) for number in numbers]).encode()
    status, answer = child.post(body, BATCHED)
    assert (status, answer["rejected"]) == (202, 0)
    return answer["accepted"]


def restarted(child: Child, directory: Path, **kserve: object) -> Child:
    """Kill a service at once and start it again."""
    assert child.kill() == -signal.SIGKILL
    child = Child(directory, free_port(), **kserve)
    child.wait_for("/-/ready")
    return child


def test_halves_meet_over_a_kill(tmp_path: Path) -> None:
    child = Child(tmp_path, free_port())
    child.wait_for("/-/ready")
    assert send(child, "request", *range(10)) == 0
    child = restarted(child, tmp_path)
    assert child.value(WAITING) == 10
    assert send(child, "request", 3, 4) == 0
    assert child.value(outcome("duplicate")) == 2
    assert send(child, "response", *range(6)) == 6
    child = restarted(child, tmp_path)
    assert (child.value(WAITING), child.value(PREDICTIONS), child.value(outcome("joined"))) == (4, 6, 12)
    assert send(child, "response", *range(6)) == 0
    assert send(child, "request", *range(10)) == 0
    assert child.value(outcome("duplicate")) == 2 + 6 + 10
    labels = [f'{{"model":"m","id":"{number}","label":0.5}}' for number in range(6)]
    assert child.post("\n".join(labels).encode())[0] == 202
    child.kill(signal.SIGTERM)
    child = Child(tmp_path, free_port())  # from a checkpoint this time
    child.wait_for("/-/ready")
    assert (child.value(WAITING), child.value(outcome("duplicate")), child.value(DUPLICATES)) == (4, 18, 0)
    assert (child.value(PREDICTIONS), child.value(LABELS), child.value(ERRORS)) == (6, 6, 6)
    assert send(child, "response", *range(10)) == 4
    child.kill(signal.SIGTERM)


def test_a_half_counted_alone_is_not_counted_again(tmp_path: Path) -> None:
    child = Child(tmp_path, free_port(), wait="1s")
    child.wait_for("/-/ready")
    send(child, "request", 1)
    deadline = time.monotonic() + 20
    while child.value(outcome("request_alone")) == 0:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    send(child, "request", 2)
    child = restarted(child, tmp_path, wait="1h")  # what was given out stays so, whatever `wait` is now
    assert (child.value(WAITING), child.value(PREDICTIONS), child.value(outcome("request_alone"))) == (1, 1, 1)
    assert send(child, "response", 1, 2) == 1
    assert (child.value(WAITING), child.value(PREDICTIONS), child.value(DUPLICATES)) == (1, 2, 0)
    child.kill(signal.SIGTERM)


def test_joins_are_counted_exactly_once_through_kills(tmp_path: Path) -> None:
    rng = random.Random(11)
    port = free_port()
    requests = responses = 0  # acknowledged; those beyond are unsure until they are sent again
    for kill in range(KILLS):
        child = Child(tmp_path, port)
        child.wait_for("/-/ready")
        made = child.value(PREDICTIONS, absent=0.0)  # a pair may be counted whose answer the kill has cut off
        assert 0 <= made - responses <= 5, f"after {kill} kills"
        assert 0 <= child.value(WAITING) + made - requests <= 5, f"after {kill} kills"
        killer = threading.Timer(rng.uniform(0.0, 0.1), os.kill, (child.pid, signal.SIGKILL))
        killer.start()
        try:
            while True:
                if requests - responses < 10:
                    send(child, "request", *range(requests, requests + 5))
                    requests += 5
                if requests > responses:
                    send(child, "response", *range(responses, responses + 5))
                    responses += 5
        except (OSError, HTTPException):
            pass
        killer.join()
        assert child.wait() == -signal.SIGKILL
    assert responses > KILLS
    child = Child(tmp_path, port)
    child.wait_for("/-/ready")
    send(child, "request", *range(requests, requests + 5))
    send(child, "response", *range(responses, requests + 5))
    assert (child.value(WAITING), child.value(PREDICTIONS), child.value(DUPLICATES)) == (0, requests + 5, 0)
    assert child.value(outcome("joined")) == 2 * (requests + 5)
    child.kill(signal.SIGTERM)
