from pathlib import Path

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression

from mlops_exporter.judging.performance import PerformanceSums, metrics_of
from mlops_exporter.statistics import calibration
from tests.support.calibration import bins
from tests.support.one_model import feed, make_model


def test_error_by_chance_of_a_single_bin_is_the_binomial_mean_deviation() -> None:
    n, p = 7, 0.3
    counts = np.arange(n + 1)
    from scipy.stats import binom

    exact = (np.abs(counts - n * p) * binom.pmf(counts, n, p)).sum() / n
    assert calibration.expected_error_if_calibrated(np.array([n, 0.0]), np.array([n * p, 0.0])) == pytest.approx(exact)


def test_isotonic_map_equals_scikit_learns() -> None:
    rng = np.random.default_rng(5)
    scores = np.linspace(0.01, 0.99, 40)
    count = rng.integers(0, 50, 40).astype(np.float64)
    positives = rng.binomial(count.astype(int), scores**2).astype(np.float64)
    seen = count > 0
    oracle = IsotonicRegression(out_of_bounds="clip").fit(
        scores[seen], (positives / np.maximum(count, 1))[seen], count[seen]
    )
    np.testing.assert_allclose(calibration.isotonic(positives, count, scores), oracle.predict(scores), atol=1e-12)


def test_the_isotonic_map_is_taken_only_where_it_helps() -> None:
    rng = np.random.default_rng(6)
    scores = np.linspace(0.02, 0.98, 25)

    def folds(truth: np.ndarray) -> np.ndarray:
        positives = rng.binomial(400, truth, (5, 25))
        return np.stack([400 - positives, positives], axis=-1).astype(np.float64)

    found = calibration.calibrate(folds(scores**2), scores)
    assert found is not None
    np.testing.assert_allclose(found, scores**2, atol=0.06)
    exact = np.stack([200 * (1 - scores), 200 * scores], axis=-1)
    assert calibration.calibrate(np.stack([exact] * 5), scores) is None


def test_multiclass_models_have_the_error_of_their_top_class(tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    n = 3000
    scores = rng.dirichlet([1, 1, 1], n)
    label = np.array([rng.choice(3, p=row) for row in scores])
    table = {"x": rng.random(n).tolist(), "y": label.tolist(), **{f"p{k}": scores[:, k].tolist() for k in range(3)}}
    request = {"task": "multiclass", "label": "y", "scores": {str(k): f"p{k}" for k in range(3)}, "features": ("x",)}
    model = make_model(tmp_path, table, request)
    events = [
        {"scores": {str(k): float(p) for k, p in enumerate(row)}, "label": int(actual)}
        for row, actual in zip(scores, label, strict=True)
    ]
    feed(model, events)
    sums = PerformanceSums(model.reference.layout, model.versions["default"].lifetime)
    metrics = metrics_of(model.reference.layout)
    confidence, correct = scores.max(1), scores.argmax(1) == label
    count, hits, total = bins(confidence, correct)
    error = metrics["expected_calibration_error"](sums)
    assert error.value == pytest.approx(np.abs(hits - total).sum() / n)
    assert error.lower < error.value < error.upper
    exact = np.square(confidence - correct).mean()
    assert calibration.top_class_error(count, hits, total) == pytest.approx(exact, rel=0.01)
    assert metrics["expected_calibration_error_corrected"](sums).value < error.value
