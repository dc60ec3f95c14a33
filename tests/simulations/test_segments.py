"""Many slices that are alike bring no alarm in a month of looks; a small one that gets worse is told."""

import numpy as np
import pytest
from numpy.typing import NDArray

from mlops_exporter.judging.judge import chance
from mlops_exporter.statistics import discovery, drift, estimation, thresholds
from mlops_exporter.statistics.discovery import discoveries
from mlops_exporter.statistics.intervals import Estimate, wilson
from mlops_exporter.statistics.slices import p_of_no_worse

pytestmark = pytest.mark.simulation

F64 = NDArray[np.float64]
DAY = float(chance(np.array([86400.0]))[0])
LOOKS_A_MONTH = 300
"""Looks at a sliding day that are about independent: ten a day, more than there are."""


def told(right: F64, labels: F64, tolerance: float) -> NDArray[np.bool_]:
    """Tell which slices, (..., S), are worse, from the right ones of their labels."""
    here = wilson(right, labels)
    rest = wilson(right.sum(-1, keepdims=True) - right, labels.sum(-1, keepdims=True) - labels)
    p = p_of_no_worse(here, rest, tolerance, "higher")
    return discoveries(np.where(labels >= 100, p, np.nan), DAY)


@pytest.mark.parametrize("accuracy", [0.7, 0.9, 0.98])
@pytest.mark.parametrize("skewed", [False, True])
def test_two_hundred_slices_that_are_alike(accuracy: float, skewed: bool) -> None:
    rng = np.random.default_rng(1)
    shares = 1 / np.arange(1, 201) if skewed else np.ones(200)
    labels = rng.multinomial(40_000, shares / shares.sum(), 20 * LOOKS_A_MONTH).astype(np.float64)
    right = rng.binomial(labels.astype(int), accuracy).astype(np.float64)
    assert told(right, labels, 0.02).any(-1).mean() * LOOKS_A_MONTH < 1, "alarms a month"
    assert told(right, labels, 0.0).any(-1).mean() < 1.2 * DAY, "without a tolerance it errs as often as it says"


def test_a_slice_of_two_per_cent_that_loses_ten_points() -> None:
    rng = np.random.default_rng(2)
    labels = rng.multinomial(30_000, [0.02, *[0.98 / 49] * 49], 1_000).astype(np.float64)
    accuracy = np.array([0.8, *[0.9] * 49])
    right = rng.binomial(labels.astype(int), accuracy).astype(np.float64)
    found = told(right, labels, 0.02)
    assert found[:, 0].mean() > 0.9
    assert found[:, 1:].any(-1).mean() < 0.02


def drifted(current: F64, reference: F64) -> NDArray[np.bool_]:
    """Tell which slices have drifted, (looks, S), by counts in bins, (looks, S, B), and the profile's, (S, B)."""
    starts, bins = np.arange(0, reference.size, reference.shape[-1]), np.full(len(reference), reference.shape[-1])
    coefficients = thresholds.coefficients(["tvd"], reference.ravel(), starts, None, 0.01)["tvd"]
    n, of_reference = current.sum(-1), reference.sum(-1)
    value = drift.tvd(current.reshape(len(current), -1), reference.ravel(), starts)
    critical = thresholds.critical_value("tvd", coefficients, n, of_reference)
    p = discovery.p_values("tvd", value / critical, bins, 0.01)
    return discoveries(np.where((n >= 100) & (of_reference >= 100), p, np.nan), DAY) & (value > 0.1)


@pytest.mark.parametrize(("rows", "predictions"), [(20_000, 40_000), (100_000, 40_000), (20_000, 400_000)])
@pytest.mark.parametrize("skewed", [False, True])
def test_two_hundred_slices_of_which_the_model_says_what_it_said(rows: int, predictions: int, skewed: bool) -> None:
    rng = np.random.default_rng(3)
    shares = 1 / np.arange(1, 201) if skewed else np.ones(200)
    alarms = 0.0
    for _ in range(3):  # references
        said = rng.dirichlet(np.full(10, 3.0), 200)
        reference = rng.multinomial(rng.multinomial(rows, shares / shares.sum()), said).astype(np.float64)
        sizes = rng.multinomial(predictions, shares / shares.sum(), LOOKS_A_MONTH)
        current = rng.multinomial(sizes, said).astype(np.float64)
        alarms += drifted(current, reference).any(-1).sum()
    assert alarms / 3 < 1, "alarms a month"


def test_a_slice_of_two_per_cent_whose_scores_move_by_half_a_standard_deviation() -> None:
    rng = np.random.default_rng(4)
    shares = np.array([0.02, *[0.98 / 49] * 49])
    said = np.full((50, 10), 0.1)
    reference = rng.multinomial(rng.multinomial(20_000, shares), said).astype(np.float64)
    deciles = np.quantile(rng.normal(size=100_000), np.arange(0.1, 1, 0.1))
    said[0] = np.bincount(np.searchsorted(deciles, rng.normal(0.5, 1, 100_000)), minlength=10) / 100_000
    current = rng.multinomial(rng.multinomial(50_000, shares, 500), said).astype(np.float64)
    found = drifted(current, reference)
    assert found[:, 0].mean() > 0.9
    assert found[:, 1:].any(-1).mean() < 0.02


def expected_worse(scores: F64, tolerance: float) -> NDArray[np.bool_]:
    """Tell which slices, (looks, S), must be expected to be worse, from the chances, (looks, S, n), of being right."""

    def estimate(chances: F64, squares: F64) -> Estimate:
        none = np.zeros_like(chances)
        matrix = np.stack([np.stack([chances, n - chances], -1), np.stack([none, none], -1)], -2)
        spread = np.stack([np.stack([squares, squares], -1), np.stack([none, none], -1)], -2)
        return estimation.accuracy(matrix, spread)

    n: F64 = np.full(scores.shape[:-1], float(scores.shape[-1]))
    right, spread = scores.sum(-1), (scores * (1 - scores)).sum(-1)
    here = estimate(right, spread)
    n = n.sum(-1, keepdims=True) - n
    rest = estimate(right.sum(-1, keepdims=True) - right, spread.sum(-1, keepdims=True) - spread)
    return discoveries(p_of_no_worse(here, rest, tolerance, "higher"), DAY)


def test_two_hundred_slices_with_scores_alike_and_one_with_worse() -> None:
    rng = np.random.default_rng(5)
    scores = 0.5 + 0.5 * rng.beta(4, 1, (LOOKS_A_MONTH, 200, 150))
    assert not expected_worse(scores, 0.0).any(), "the scores' own spread is less than that of labels"
    scores = 0.5 + 0.5 * rng.beta(4, 1, (200, 50, 600))
    scores[:, 0] -= 0.1
    found = expected_worse(scores, 0.02)
    assert found[:, 0].mean() > 0.9
    assert not found[:, 1:].any()
