"""Real exporters, and one that adds them up: the same windows and counters as one that got all events."""

import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.integration.durability import write_profile
from tests.support.exporter import Exporter, running_exporter
from tests.support.prometheus import eventually

NAMES = (
    "ml_model_predictions_total",
    "ml_model_labels_total",
    "ml_model_absolute_error_sum_total",
    "ml_model_window_predictions",
    "ml_model_window_labels",
    "ml_model_performance",
    "ml_model_performance_lower",
    "ml_model_performance_upper",
    "ml_feature_values_total",
    "ml_feature_drift",
    "ml_feature_drift_threshold",
    "ml_model_pending_predictions",
)


def directory_of(parent: Path, name: str, source: dict[str, Any]) -> Path:
    """Write the configuration of an exporter into a directory of its own."""
    directory = parent / name
    directory.mkdir()
    model = {
        "name": "m",
        "task": "regression",
        "profile": write_profile(directory).name,
        "windows": ["1h"],
        "min_samples": {"performance": 1, "drift": 10},
    }
    content = {"models": [model], "sources": [{"name": "in", **source}]}
    (directory / "mlops-exporter.yml").write_text(yaml.safe_dump(content))
    return directory


def test_two_exporters_and_one_that_adds_them_up(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("t" * 32)
    guarded = {"http": {"tokens": [{"file": str(token)}]}}
    now = time.time()
    events: list[dict[str, Any]] = [
        {"model": "m", "id": str(n), "ts": now - n, "features": {"x": n % 20 / 10}, "prediction": 1.0 + n % 3}
        for n in range(200)
    ]
    events += [{"model": "m", "id": str(n), "ts": now - n, "label": 1.5} for n in range(150)]

    def post(exporter: Exporter, chosen: list[dict[str, Any]]) -> None:
        body = "\n".join(map(json.dumps, chosen))
        headers = {"authorization": "Bearer " + "t" * 32, "content-type": "application/x-ndjson"}
        answer = httpx.post(f"{exporter.url}/v1/events", content=body, headers=headers, trust_env=False)
        assert answer.json()["accepted"] == len(chosen)

    with (
        running_exporter(directory_of(tmp_path, "one", guarded)) as one,
        running_exporter(directory_of(tmp_path, "first", guarded)) as first,
        running_exporter(directory_of(tmp_path, "second", guarded)) as second,
    ):
        post(one, events)
        post(first, [event for event in events if int(event["id"]) % 2])
        post(second, [event for event in events if not int(event["id"]) % 2])
        assert httpx.get(f"{first.url}/v1/ledgers", trust_env=False).status_code == 401
        replicas = {"urls": [first.url, second.url], "interval": "1s", "token_file": str(token)}
        with running_exporter(directory_of(tmp_path, "fleet", {"replicas": replicas})) as fleet:
            eventually(lambda: fleet.value("ml_model_predictions_total") == 200)
            expected, found = one.scrape(), fleet.scrape()
            for name in NAMES:
                assert found.series(name), name
                assert found.series(name) == pytest.approx(expected.series(name), rel=1e-9), name
            assert fleet.value("ml_exporter_source_up") == 1
            assert httpx.post(f"{fleet.url}/v1/ledgers", trust_env=False).status_code == 404
            second.process.kill()
            eventually(lambda: fleet.value("ml_exporter_source_up") == 0)
            assert fleet.value("ml_model_predictions_total") == 200
            assert fleet.value("ml_model_window_predictions", window="1h") == 200
