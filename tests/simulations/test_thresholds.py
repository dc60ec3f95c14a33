"""Error rates by simulation: thresholds."""

import numpy as np
import pytest
from scipy.stats import norm

from mlops_exporter.statistics.drift import Statistic
from tests.simulations import false_alarms
from tests.simulations.false_alarms import COARSE, FINE, SKEWED


@pytest.mark.simulation
@pytest.mark.parametrize("data", ["normal", "log-normal"])
@pytest.mark.parametrize(("statistics", "bins", "references"), [(COARSE, 10, 1_000), (FINE, 50, 400)])
def test_without_drift_the_false_alarm_rate_is_alpha(
    data: str, statistics: tuple[Statistic, ...], bins: int, references: int
) -> None:
    rng = np.random.default_rng(2)
    reference = false_alarms.numeric(rng, data, 20_000, bins, references)
    rates = false_alarms.rates(rng, reference, statistics, [100, 300, 1_000, 10_000], [0.01, 0.05], windows=20)
    outside = {case: rate for case, rate in rates.items() if not case[2] / 2 <= rate <= 2 * case[2]}
    assert not outside


@pytest.mark.simulation
def test_small_reference_in_windows_up_to_its_size() -> None:
    rng = np.random.default_rng(3)
    reference = false_alarms.numeric(rng, "normal", 150, 5, 2_000)
    rates = false_alarms.rates(rng, reference, COARSE + FINE, [100, 150], [0.01, 0.05], windows=20)
    outside = {case: rate for case, rate in rates.items() if not case[2] / 2 <= rate <= 2 * case[2]}
    assert not outside


@pytest.mark.simulation
def test_skewed_categories_never_alarm_too_often() -> None:
    rng = np.random.default_rng(4)
    reference = false_alarms.categorical(rng, SKEWED, 20_000, 200)
    rates = false_alarms.rates(rng, reference, COARSE, [100, 1_000, 10_000], [0.01, 0.05], windows=50)
    assert {case: rate for case, rate in rates.items() if rate > 2 * case[2]} == {}
    # Too rarely only in windows that come near the reference in size.
    assert {case: rate for case, rate in rates.items() if case[1] <= 1_000 and rate < case[2] / 2} == {}


@pytest.mark.simulation
def test_real_drift_is_found() -> None:
    # Half a standard deviation, in windows of 300: nearly always above what chance passes in one of a hundred.
    rng = np.random.default_rng(5)
    sample = false_alarms.numeric(rng, "normal", 20_000, 10, 50)
    edges = norm.ppf(np.cumsum(sample.truth, axis=1).clip(0, 1))
    shifted = np.diff(norm.cdf(edges - 0.5), axis=1, prepend=0.0)
    rates = false_alarms.rates(rng, sample._replace(truth=shifted), COARSE + FINE, [300], [0.01], windows=20)
    assert min(rates.values()) > 0.95
