"""The landing page tells of what the alerts tell."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlops_exporter.counting.model import Model
from mlops_exporter.judging.drift import Comparison
from mlops_exporter.judging.status import ModelState, Observer
from mlops_exporter.judging.suspicions import CALIBRATION_EXCESS, CALIBRATION_NOISE, LABELS, PREDICTIONS
from prometheus.source.model_alerts import ALERTS
from prometheus.source.thresholds import THRESHOLDS
from tests.unit.models import feed, make_model

BENCHMARKS = {"accuracy": {"min": 0.75}}
FAIRNESS = {"attributes": ["sex"], "benchmarks": {"demographic_parity_ratio": {"min": 0.8}}}


def table(rows: int, seed: int, *, unfair: bool = False, vague: bool = False, flipped: float = 0.0) -> dict[str, Any]:
    """Rows of a calibrated model; women are chosen less often, scores say little, labels are often the other one."""
    rng = np.random.default_rng(seed)
    sex = rng.choice(["female", "male"], rows)
    score = rng.beta(0.4, 0.4, rows)
    if vague:
        score = 0.5 + (score - 0.5) / 5
    if unfair:
        sex = np.where(rng.random(rows) < np.where(score < 0.5, 0.8, 0.2), "female", "male")
    label = (rng.random(rows) < score) ^ (rng.random(rows) < flipped)
    return {
        "x": rng.normal(size=rows).tolist(),
        "sex": sex.tolist(),
        "score": score.tolist(),
        "y": label.astype(int).tolist(),
    }


@pytest.fixture
def model(tmp_path: Path) -> Model:
    request = {"task": "binary", "label": "y", "scores": {"1": "score"}, "groups": ("sex",), "features": ("x",)}
    drift = {"statistics": ["psi"], "min_effect": {"psi": 9.0}}
    return make_model(tmp_path, table(5000, 0), request, benchmarks=BENCHMARKS, fairness=FAIRNESS, drift=drift)


def state(model: Model, labelled: bool = True, **changes: Any) -> ModelState:
    rows = table(2000, 1, **changes)
    events = [
        {"features": {"x": x}, "score": score, "groups": {"sex": sex}, **({"label": y} if labelled else {})}
        for x, sex, score, y in zip(*rows.values(), strict=True)
    ]
    feed(model, events)
    observer = Observer(model, Comparison(model.layout, model.settings.drift, model.settings.min_samples.drift))
    (found,) = observer.states(time.time())
    return found


def test_a_healthy_model_shows_no_signs(model: Model) -> None:
    found = state(model)
    assert (found.state, found.reasons) == ("good", [])


def test_fairness_outside_its_benchmark(model: Model) -> None:
    found = state(model, unfair=True)
    assert found.state == "unfair"
    assert found.reasons[0].startswith("demographic_parity_ratio by sex 0.")
    assert found.reasons[0].endswith(" in 1h, at least 0.8 is agreed")


def test_estimated_performance_below_the_benchmark(model: Model) -> None:
    found = state(model, labelled=False, vague=True)
    assert found.state == "suspect"
    assert found.reasons[0].startswith("estimated accuracy 0.5")


def test_calibration_and_change(model: Model) -> None:
    model.settings.benchmarks.clear()
    found = state(model, flipped=0.3)
    assert found.state == "suspect"
    assert [reason.split()[0] for reason in found.reasons] == ["expected_calibration_error", "evidence"]


def test_the_alerts_judge_likewise() -> None:
    limits = {"min_labels": LABELS, "min_predictions": PREDICTIONS, "calibration_error_excess": CALIBRATION_EXCESS}
    assert {name: THRESHOLDS[name].value for name in limits} == limits
    (alert,) = (alert for alert in ALERTS if alert.name == "MLModelCalibrationOff")
    assert f"({CALIBRATION_NOISE:g} / sqrt(" in alert.expr
