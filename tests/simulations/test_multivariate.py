"""Error rates by simulation: multivariate."""

from pathlib import Path

import numpy as np
import pytest

from mlops_exporter.counting.multivariate import VectorMap
from mlops_exporter.judging.multivariate import VectorDrift
from tests.support.multivariate import REQUEST, correlated, table_of
from tests.support.one_model import make_model


@pytest.mark.parametrize("lognormal", [False, True])
@pytest.mark.simulation
def test_without_drift_the_false_alarm_rate_is_kept(tmp_path: Path, lognormal: bool) -> None:
    alpha, draws = 0.05, 600
    model = make_model(tmp_path, table_of(correlated(20_000, 1, 0.5, lognormal=lognormal)), REQUEST)
    reference = model.reference.profile.vectors
    assert reference is not None
    assert model.reference.vectors is not None
    drift = VectorDrift(reference, alpha, {}, 100)
    vector_map = VectorMap.of(reference, model.reference.layout.numeric)
    for n in (100, 1000, 10_000):
        windows = draws if n < 10_000 else 200
        cells = np.zeros((windows, model.reference.vectors.cells))
        for window in range(windows):
            x = correlated(n, 10_000 * n + window, 0.5, lognormal=lognormal)
            model.reference.vectors.count(cells[window], vector_map(np.ascontiguousarray(x.T)))
        values, thresholds = drift.compare(model.reference.vectors.sums(cells))
        rates = (values > thresholds).mean(axis=0)
        tolerance = 3 * np.sqrt(alpha * (1 - alpha) / windows)
        assert (np.abs(rates - alpha) <= tolerance + 0.01).all(), (n, rates)


@pytest.mark.simulation
def test_without_drift_categories_raise_no_more_false_alarms(tmp_path: Path) -> None:
    alpha, windows = 0.05, 400
    shares = [0.4, 0.3, 0.15, 0.1, 0.05]

    def drawn(seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(seed)
        kind, other = (rng.choice(5, n, p=shares) for _ in range(2))
        return rng.standard_normal((2, n)), np.stack([kind, np.where(rng.random(n) < 0.8, kind, other)])

    numeric, kinds = drawn(1, 20_000)
    table = {"x": numeric[0].tolist(), "y": numeric[1].tolist()}
    table |= {name: np.array(list("abcde"))[row].tolist() for name, row in zip(("kind", "other"), kinds, strict=True)}
    reference = make_model(tmp_path, table, {"task": "outcomes"}, outcomes={"stars": {"low": 0, "high": 5}}).reference
    vectors, counts = reference.profile.vectors, reference.vectors
    assert vectors is not None
    assert counts is not None
    drift = VectorDrift(vectors, alpha, {}, 100)
    vector_map = VectorMap.of(vectors, reference.layout.numeric, reference.layout.categorical)
    for n in (100, 1000):
        cells = np.zeros((windows, counts.cells))
        for window, row in enumerate(cells):
            counts.count(row, vector_map(*drawn(10_000 * n + window, n)))
        values, thresholds = drift.compare(counts.sums(cells))
        rates = (values > thresholds).mean(axis=0)
        assert (rates <= alpha + 3 * np.sqrt(alpha * (1 - alpha) / windows) + 0.01).all(), (n, rates)
