"""Error rates by simulation: calibration."""

import numpy as np
import pytest

from mlops_exporter.statistics import calibration
from tests.support.calibration import bins


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
        count, positives, total = bins(score, rng.random(n) < score)
        errors.append(np.abs(positives - total).sum() / n)
        expected.append(float(calibration.expected_error_if_calibrated(count, total)))
        corrected.append(errors[-1] - expected[-1])
    assert np.mean(expected) == pytest.approx(np.mean(errors), rel=0.03)
    assert abs(np.mean(corrected)) < 0.03 * np.mean(errors)
    assert np.mean(errors) == pytest.approx(mean, rel=0.04)
