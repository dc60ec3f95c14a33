"""Design effects from panes."""

import numpy as np

from mlops_exporter.statistics import dependence

ONE = np.zeros(1, np.intp)


def test_pairs_of_equal_events_count_half_at_most() -> None:
    rng = np.random.default_rng(1)
    twice = 2.0 * np.array([rng.multinomial(200, np.full(10, 0.1)) for _ in range(60)])
    (effect,) = dependence.design_effects(dependence.counts(twice, ONE))
    assert 2 <= effect < 6  # as if all of it lay along one line


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


def test_stretches_that_differ_tell_by_how_much() -> None:
    rng = np.random.default_rng(4)
    right = rng.binomial(1_000, 0.7 + 0.1 * rng.standard_normal(60)).astype(np.float64)
    (between,), (count,) = dependence.variance_between(dependence.counts(np.stack([1_000 - right, right], -1), ONE), 1)
    assert count == 60
    assert np.isclose(between * 0.7 * 0.3, 0.1**2, rtol=0.3)


def test_a_lasting_change_is_no_excuse_for_itself() -> None:
    rng = np.random.default_rng(5)
    shares = np.where(np.arange(60) < 50, 0.7, 0.4) + 0.02 * rng.standard_normal(60)
    right = rng.binomial(1_000, shares).astype(np.float64)
    (between,), _ = dependence.variance_between(dependence.counts(np.stack([1_000 - right, right], -1), ONE), 1)
    assert np.sqrt(between * right.mean() / 1_000 * (1 - right.mean() / 1_000)) < 0.1
