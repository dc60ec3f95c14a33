"""Many slices that are alike bring no alarm in a month of looks; a small one that gets worse is told."""

import numpy as np
import pytest
from numpy.typing import NDArray

from mlops_exporter.judging.judge import chance
from mlops_exporter.statistics.discovery import discoveries
from mlops_exporter.statistics.intervals import wilson
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
