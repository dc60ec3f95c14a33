import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlops_exporter.collectors.change import ChangeCollector
from mlops_exporter.counting.change import StreamMonitor
from mlops_exporter.profile.fitted import StreamReference
from mlops_exporter.settings.models import ChangeSettings
from mlops_exporter.statistics.sequential import ChangeEvidence
from tests.support.one_model import feed, make_model, samples


def stream(seed: int, *parts: tuple[int, float]) -> np.ndarray:
    """Errors with the given rates, one stretch after the other."""
    rng = np.random.default_rng(seed)
    return np.concatenate([(rng.random(n) < rate).astype(np.float64) for n, rate in parts])


@pytest.mark.parametrize("rate", [0.2, 0.13])
def test_evidence_rises_soon_after_a_change_that_follows_a_long_calm(rate: float) -> None:
    information = rate * math.log(rate / 0.1) + (1 - rate) * math.log((1 - rate) / 0.9)  # nats per error
    spent = math.log(100) + math.log(4) + math.log(5000 * (1 + math.log(2)) ** 2 / 0.8)
    within = round(spent / information)
    delays = []
    for seed in range(20):
        evidence = ChangeEvidence(0.1, binary=True)
        evidence.update(stream(seed, (20_000, 0.1)))
        values = stream(100 + seed, (4 * within, rate))
        for start in range(0, len(values), 50):
            evidence.update(values[start : start + 50])
            if evidence.log_evidence > math.log(100):
                break
        delays.append(start + 50)
    assert np.median(delays) <= within


def test_evidence_of_a_fall_mirrors_that_of_a_rise() -> None:
    values = stream(3, (1000, 0.2), (500, 0.35))
    up, down = ChangeEvidence(0.2, "up"), ChangeEvidence(0.8, "down")
    up.update(values)
    down.update(1 - values)
    assert up.log_evidence > 5
    assert down.log_evidence == pytest.approx(up.log_evidence, rel=1e-9)


def test_evidence_goes_when_the_change_does() -> None:
    evidence = ChangeEvidence(0.2, most=8)
    evidence.update(stream(4, (5000, 0.5)))
    assert 6 < evidence.log_evidence <= 8.1
    evidence.update(stream(5, (5000, 0.1)))
    assert evidence.log_evidence < 4


def test_state_survives_a_restart() -> None:
    values = stream(6, (1003, 0.1), (1004, 0.4))
    unbroken, before, after = (ChangeEvidence(0.1) for _ in range(3))
    before.update(values[:1500])
    after.restore(before.state())
    after.update(values[1500:])
    unbroken.update(values[:1500])
    unbroken.update(values[1500:])
    for name, value in unbroken.state().items():
        np.testing.assert_allclose(after.state()[name], value)


@pytest.mark.parametrize("binary", [True, False])
def test_evidence_of_an_older_rule_is_kept(binary: bool) -> None:
    older = {"steps": 2500, "log_wealth": np.array([-30.0, 2.0, 3.0, -1.0]), "partial": np.array([0.0, 1.0])}
    evidence = ChangeEvidence(0.1, binary=binary)
    evidence.restore(older)
    spent = np.mean(np.exp([-30.0, 2.0, 3.0, -1.0]))
    assert evidence.log_evidence == pytest.approx(math.log(spent + math.log(2) / math.log(2502)))
    evidence.update(stream(7, (2000, 0.05)))
    again = ChangeEvidence(0.1, binary=binary)
    again.restore(evidence.state())
    assert again.log_evidence == evidence.log_evidence < math.log(spent)


def test_zeros_and_ones_tell_more_one_by_one() -> None:
    values = stream(8, (5_000, 0.1), (400, 0.25))
    one_by_one, in_blocks = ChangeEvidence(0.1, binary=True), ChangeEvidence(0.1)
    for evidence in (one_by_one, in_blocks):
        evidence.update(values)
    assert one_by_one.log_evidence > in_blocks.log_evidence + 1


def test_a_change_is_one_by_more_than_the_tolerance_and_than_the_reference_is_uncertain() -> None:
    settings = ChangeSettings(tolerance=0.01)
    errors = stream(9, (60_000, 0.12))
    for rows, told in ((1_000, False), (1_000_000, True)):
        monitor = StreamMonitor(StreamReference(rows, 0.1), settings, both=False, binary=True)
        monitor.update(errors, 0.0)
        assert (monitor.log_evidence > math.log(100)) is told


def _model(directory: Path, **settings: Any) -> Any:
    rng = np.random.default_rng(1)
    x = rng.random(5000)
    label = (rng.random(5000) < x).astype(int)
    table = {"x": x.tolist(), "score": x.tolist(), "y": label.tolist()}
    request = {"task": "binary", "label": "y", "scores": {"1": "score"}, "features": ("x",)}
    return make_model(directory, table, request, **settings)


def _events(n: int, seed: int, *, flipped: float = 0.0) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    score = rng.random(n)
    label = (rng.random(n) < score) ^ (rng.random(n) < flipped)
    return [{"score": s, "label": int(y)} for s, y in zip(score.tolist(), label.tolist(), strict=True)]


def test_a_models_errors_and_scores_are_watched(tmp_path: Path) -> None:
    model = _model(tmp_path)
    collector = ChangeCollector([model])

    def evidence(name: str) -> float:
        return samples(collector)[f'ml_model_change_evidence{{model="m",version="default",stream="{name}"}}']

    feed(model, _events(6000, 2))
    found = samples(collector)
    threshold = found['ml_model_change_evidence_threshold{model="m",version="default",stream="error"}']
    assert threshold == pytest.approx(math.log(100))
    assert evidence("error") < threshold
    assert evidence("score") < threshold
    feed(model, _events(2000, 3, flipped=0.4))
    assert evidence("error") > threshold > evidence("score")

    again = _model(tmp_path)
    again.restore(model.state())
    assert samples(ChangeCollector([again])) == samples(collector)


DAY = 86_400.0


def _dated(events: list[dict[str, Any]], ages: np.ndarray) -> list[dict[str, Any]]:
    now = time.time()
    return [{**event, "ts": now - age} for event, age in zip(events, np.asarray(ages).tolist(), strict=True)]


def _evidence(model: Any, stream: str = "error") -> float:
    collector = ChangeCollector([model])
    return samples(collector)[f'ml_model_change_evidence{{model="m",version="default",stream="{stream}"}}']


@pytest.mark.slow
@pytest.mark.parametrize(
    ("windows", "lively"),
    [(["15m", "1h", "24h"], False), (["15m", "1h", "24h"], True), (["1h", "30d"], True)],
)
def test_a_batch_of_history_is_no_change(tmp_path: Path, windows: list[str], lively: bool) -> None:
    """30,000 labelled events that are days old, and 8,000 more with more errors, beside what comes live or alone."""
    model = _model(tmp_path, windows=windows)
    model.admit({"default"})
    if lively:
        feed(model, _dated(_events(3000, 2), np.linspace(600, 0, 3000)))
    before = _evidence(model)
    now = time.time()
    feed(model, _dated(_events(30_000, 3), np.linspace(9, 5, 30_000) * DAY), arrived=now)
    feed(model, _dated(_events(8000, 4, flipped=0.4), np.linspace(5, 3, 8000) * DAY), arrived=now)
    assert _evidence(model) == pytest.approx(before)
    feed(model, _dated(_events(3000, 5), np.linspace(60, 0, 3000)), arrived=now)
    assert _evidence(model) < math.log(100)


@pytest.mark.slow
def test_a_change_is_seen_in_order_of_its_own_time_however_late_it_came(tmp_path: Path) -> None:
    model = _model(tmp_path, windows=["1d", "30d"])
    events = _dated(_events(6000, 2), np.linspace(6, 3, 6000) * DAY)
    events += _dated(_events(2000, 3, flipped=0.4), np.linspace(3, 2, 2000) * DAY)
    feed(model, events, batch=500)
    assert _evidence(model) > math.log(100)
    again = _model(tmp_path, windows=["1d", "30d"])
    again.restore(model.state())
    seen = _evidence(again)
    feed(again, _dated(_events(2000, 5), np.linspace(9, 7, 2000) * DAY))  # older than what it had seen before a restart
    assert _evidence(again) == pytest.approx(seen)


def test_the_family_can_be_switched_off(tmp_path: Path) -> None:
    model = _model(tmp_path, change={"enabled": False})
    feed(model, _events(100, 2))
    assert samples(ChangeCollector([model])) == {}
