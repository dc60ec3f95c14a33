import numpy as np
import pytest
from scipy.special import ndtr

from mlops_exporter.statistics import classification, fairness
from mlops_exporter.statistics.intervals import bounded_mean
from tests.simulations import coverage

WINDOWS = 4_000

pytestmark = pytest.mark.simulation


def outside(shares: dict[str, float]) -> dict[str, float]:
    return {name: share for name, share in shares.items() if not 0.93 <= share <= 0.97}


@pytest.mark.parametrize("n", [200, 2_000])
def test_confusion_metrics(n: int) -> None:
    shares = coverage.confusion(np.random.default_rng(n), n, WINDOWS)
    assert outside(shares) == {}


@pytest.mark.parametrize("n", [200, 2_000])
def test_score_metrics(n: int) -> None:
    assert outside(coverage.scores(np.random.default_rng(n), n, WINDOWS)) == {}


@pytest.mark.parametrize("positives", [3, 5, 10])
def test_the_upper_limit_of_roc_auc_with_few_positives(positives: int) -> None:
    # What a benchmark's alert asks for. From the normal distribution's quantile 6 % lay beyond it with 3 positives.
    shift, windows = 0.7, 3_000
    actual = np.tile(np.arange(200 + positives) < positives, (windows, 1))
    score = ndtr(np.random.default_rng(positives).standard_normal(actual.shape) + shift * actual)
    cell = (np.arange(windows)[:, np.newaxis] * 256 + (score * 256).astype(int)) * 2 + actual
    histogram = np.bincount(cell.ravel(), minlength=windows * 512).reshape(windows, 256, 2).astype(np.float64)
    assert (classification.roc_auc(histogram).upper < ndtr(shift / np.sqrt(2))).mean() < 0.035


@pytest.mark.parametrize("n", [200, 2_000])
def test_regression_metrics_with_normal_errors(n: int) -> None:
    assert outside(coverage.errors(np.random.default_rng(n), n, WINDOWS, "normal")) == {}


@pytest.mark.parametrize("n", [200, 2_000])
def test_means_of_heavy_tailed_errors(n: int) -> None:
    # Not rmse and r2: their variance needs the fourth moment, which such errors hardly have.
    shares = coverage.errors(np.random.default_rng(n), n, WINDOWS, "t5")
    assert outside({name: shares[name] for name in ("mae", "bias", "mape")}) == {}


@pytest.mark.parametrize("n", [200, 2_000])
@pytest.mark.parametrize("excess", [0.0, 0.02, 0.05, 0.1])
def test_calibration_error_is_conservative(n: int, excess: float) -> None:
    assert coverage.calibration(np.random.default_rng(n), n, WINDOWS, excess) >= 0.93


@pytest.mark.parametrize("scores", coverage.SCORES)
@pytest.mark.parametrize("n", [50, 100])
def test_the_lower_limit_of_the_calibration_error_with_few_labels(n: int, scores: str) -> None:
    # Without the smoothed shares of small bins 1 to 34 % of calibrated models lay below it at 50 labels.
    assert coverage.calibration_above_truth(np.random.default_rng(n), n, WINDOWS, scores) <= 0.035


@pytest.mark.parametrize("rate", [0.5, 0.8, 0.95])
@pytest.mark.parametrize("positives", [(30, 30), (30, 300), (40, 40, 40), (30,) * 5])
def test_equal_groups_are_seldom_told_apart(positives: tuple[int, ...], rate: float) -> None:
    told = coverage.fairness_of_equal_groups(np.random.default_rng(3), positives, rate, WINDOWS)
    assert max(told.values()) <= 0.07, told


def test_one_missed_positive_is_no_finding() -> None:
    confusion = np.array([[[90.0, 0.0], [10.0, 5.0]], [[89.0, 1.0], [10.0, 0.0]]])  # 5 of 5 and 0 of 1 positive found
    assert np.isnan(fairness.equal_opportunity_difference(confusion, 30).value)
    assert fairness.equal_opportunity_difference(confusion, 0).value == 1.0


COSTS = {
    "one kind of error": ([0.0, 20.0], [0.9, 0.1]),
    "a dear error of a thousandth": ([0.0, 1.0, 500.0], [0.949, 0.05, 0.001]),
    "gains and a dear error": ([-10.0, 0.0, 100.0], [0.3, 0.69, 0.01]),
    "a rating": ([1.0, 2.0, 3.0, 4.0, 5.0], [0.05, 0.05, 0.1, 0.3, 0.5]),
}


@pytest.mark.parametrize("n", [100, 1_000, 10_000])
@pytest.mark.parametrize("law", COSTS)
def test_the_mean_of_a_bounded_value(law: str, n: int) -> None:
    costs, shares = (np.array(part) for part in COSTS[law])
    drawn = np.random.default_rng(n).multinomial(n, shares, WINDOWS).astype(np.float64)
    found = bounded_mean(drawn.sum(1), drawn @ costs, drawn @ costs**2, costs.min(), costs.max())
    assert 0.90 <= coverage.covered(found, float(costs @ shares)) <= 0.995
    assert (found.upper < costs @ shares).mean() < 0.05, "a dear error that is rare is no surprise"
