"""Error rates by simulation: fairness."""

import numpy as np
import pytest

from mlops_exporter.statistics import fairness


@pytest.mark.parametrize("rates", [(0.3, 0.3), (0.1, 0.15, 0.2, 0.3), (0.02, 0.05)])
@pytest.mark.parametrize("n", [50, 400])
@pytest.mark.simulation
def test_intervals_cover_the_true_value(rates: tuple[float, ...], n: int) -> None:
    rng = np.random.default_rng(1)
    truth = np.array(rates)
    selected = rng.binomial(n, truth, (4000, len(truth))).astype(np.float64)
    usable = np.ones_like(selected, np.bool_)
    difference = fairness.demographic_parity_difference(selected, np.full_like(selected, n), usable)
    true_difference = truth.max() - truth.min()
    covered = (difference.lower <= true_difference) & (true_difference <= difference.upper)
    assert covered.mean() >= 0.945
    ratio = fairness.demographic_parity_ratio(selected, np.full_like(selected, n), usable)
    true_ratio = truth.min() / truth.max()
    covered = (ratio.lower <= true_ratio) & (true_ratio <= ratio.upper) | np.isnan(ratio.value)
    assert covered.mean() >= 0.945


@pytest.mark.simulation
def test_fair_models_with_many_groups_do_not_alarm() -> None:
    rng = np.random.default_rng(2)
    selected = rng.binomial(60, 0.3, (4000, 12)).astype(np.float64)
    usable = np.ones_like(selected, np.bool_)
    difference = fairness.demographic_parity_difference(selected, np.full_like(selected, 60), usable)
    assert difference.value.mean() > 0.15, "the range of twelve fair groups is far from 0 by chance"
    assert (difference.lower > 0).mean() <= 0.05
    errors = rng.standard_normal((2000, 12, 60))
    n = np.full((2000, 12), 60.0)
    gap = fairness.mean_difference(n, errors.sum(-1), np.square(errors).sum(-1), n >= 30)
    assert (gap.lower > 0).mean() <= 0.06
