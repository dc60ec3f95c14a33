from pathlib import Path

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression

from mlops_exporter.judging.performance import Sums, metrics_of
from mlops_exporter.statistics import calibration
from tests.unit.models import feed, make_model


def _bins(score: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    place = np.minimum((score * 10).astype(int), 9)
    count, positives, total = (np.bincount(place, weights, 10) for weights in (None, label, score))
    return count.astype(np.float64), positives, total


@pytest.mark.parametrize(
    ("n", "shape", "mean"), [(100, 1, 0.100), (100, 0.5, 0.088), (2000, 1, 0.022), (2000, 0.5, 0.020)]
)
@pytest.mark.simulation
def test_error_by_chance_is_the_mean_error_of_a_calibrated_model(n: int, shape: float, mean: float) -> None:
    """Scores are beta distributed, both parameters `shape`: the figures are those of docs/judgement.md."""
    rng = np.random.default_rng(4)
    errors, expected, corrected = [], [], []
    for _ in range(800):
        score = rng.beta(shape, shape, n)
        count, positives, total = _bins(score, rng.random(n) < score)
        errors.append(np.abs(positives - total).sum() / n)
        expected.append(float(calibration.expected_error_if_calibrated(count, total)))
        corrected.append(errors[-1] - expected[-1])
    assert np.mean(expected) == pytest.approx(np.mean(errors), rel=0.03)
    assert abs(np.mean(corrected)) < 0.03 * np.mean(errors)
    assert np.mean(errors) == pytest.approx(mean, rel=0.04)


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
    sums = Sums(model.reference.layout, model.versions["default"].lifetime)
    metrics = metrics_of(model.reference.layout)
    confidence, correct = scores.max(1), scores.argmax(1) == label
    count, hits, total = _bins(confidence, correct)
    error = metrics["expected_calibration_error"](sums)
    assert error.value == pytest.approx(np.abs(hits - total).sum() / n)
    assert error.lower < error.value < error.upper
    exact = np.square(confidence - correct).mean()
    assert calibration.top_class_error(count, hits, total) == pytest.approx(exact, rel=0.01)
    assert metrics["expected_calibration_error_corrected"](sums).value < error.value
