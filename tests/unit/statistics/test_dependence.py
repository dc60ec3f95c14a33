"""Design effects from panes."""

import numpy as np

from mlops_exporter.statistics import dependence

ONE = np.zeros(1, np.intp)


def test_pairs_of_equal_events_count_half_at_most() -> None:
    rng = np.random.default_rng(1)
    twice = 2.0 * np.array([rng.multinomial(200, np.full(10, 0.1)) for _ in range(60)])
    (effect,) = dependence.design_effects(dependence.counts(twice, ONE))
    assert 2 <= effect < 6  # the lengths of batches and their small numbers are allowed for


def test_independent_events_count_in_full() -> None:
    rng = np.random.default_rng(2)
    counts = np.array([rng.multinomial(200, np.full(10, 0.1)) for _ in range(60)]).astype(np.float64)
    assert dependence.design_effects(dependence.counts(counts, ONE)).tolist() == [1.0]


def test_a_single_step_is_no_dependence() -> None:
    rng = np.random.default_rng(3)
    shares = np.where(np.arange(60) < 30, 0.9, 0.7)
    right = rng.binomial(100, shares).astype(np.float64)
    assert dependence.design_effects(dependence.counts(np.stack([100 - right, right], -1), ONE)).tolist() == [1.0]


def test_a_window_of_one_pane_tells_nothing() -> None:
    panes = np.zeros((60, 2))
    panes[-1] = 40, 60
    assert dependence.design_effects(dependence.counts(panes, ONE)).tolist() == [1.0]


def test_day_and_night_of_a_longer_window_tell_what_a_shorter_one_is_worth() -> None:
    rng = np.random.default_rng(4)
    shares = 0.7 + 0.2 * np.sin(np.arange(60) / 60 * 2 * np.pi)
    right = rng.binomial(1_000, shares).astype(np.float64)
    between = dependence.variance_between(dependence.counts(np.stack([1_000 - right, right], -1), ONE), 1)
    assert np.isclose(between[0] * 0.7 * 0.3, 0.02, rtol=0.15)  # the variance of a sine of amplitude 0.2
