"""Error rates by simulation: sequential."""

import math

import numpy as np
import pytest

from mlops_exporter.counting.change import StreamMonitor
from mlops_exporter.profile.fitted import StreamReference
from mlops_exporter.settings.models import ChangeSettings
from mlops_exporter.statistics.sequential import ChangeEvidence

pytestmark = pytest.mark.simulation


def test_evidence_stays_below_its_threshold_over_all_time() -> None:
    alpha, streams, steps = 0.05, 200, 10_000
    rng = np.random.default_rng(5)
    crossed = {"errors": 0, "errors as any numbers": 0, "scores": 0, "scores one by one": 0}
    for _ in range(streams):
        errors = (rng.random(steps) < 0.1).astype(np.float64)
        scores = rng.beta(0.4, 3.6, steps)
        for name, values, binary in zip(crossed, (errors, errors, scores, scores), (True, False) * 2, strict=True):
            evidence = ChangeEvidence(0.1, binary=binary)
            highest = -math.inf
            for start in range(0, steps, 100):
                evidence.update(values[start : start + 100])
                highest = max(highest, evidence.log_evidence)
            crossed[name] += highest >= math.log(1 / alpha)
    for count in crossed.values():
        assert count / streams <= alpha + 2 * math.sqrt(alpha * (1 - alpha) / streams)


def monitor(rate: float, rows: int = 20_000) -> StreamMonitor:
    """Watches errors whose rate was found in so many rows."""
    return StreamMonitor(StreamReference(rows, rate), ChangeSettings(), both=False, binary=True)


@pytest.mark.parametrize("rate", [0.02, 0.15, 0.4])
def test_a_model_that_is_as_good_as_its_reference_is_not_told_of(rate: float) -> None:
    alpha = ChangeSettings().false_alarm_probability
    rng = np.random.default_rng(6)
    told = 0
    for _ in range(60):
        watched = monitor(rng.binomial(20_000, rate) / 20_000)
        for _ in range(100):
            watched.update((rng.random(1_000) < rate).astype(np.float64), 0.0)
            told += watched.log_evidence >= math.log(1 / alpha)
    assert told == 0


@pytest.mark.parametrize("calm", [0, 5_000, 20_000])
@pytest.mark.parametrize(("before", "after", "within"), [(0.15, 0.20, 2_000), (0.05, 0.08, 3_500), (0.3, 0.4, 800)])
def test_a_rise_of_the_error_is_told_soon(before: float, after: float, within: int, calm: int) -> None:
    rng = np.random.default_rng(calm)
    delays = []
    for _ in range(40):
        watched = monitor(before)
        watched.update((rng.random(calm) < before).astype(np.float64), 0.0)
        labels = 0
        while watched.log_evidence < math.log(100) and labels < 4 * within:
            watched.update((rng.random(100) < after).astype(np.float64), 0.0)
            labels += 100
        delays.append(labels)
    assert np.median(delays) <= within
