"""The mean of bounded numbers by which answers are rated, from their sums; each sum is of distances to the lowest."""

import numpy as np

from mlops_exporter.arrays import Floats
from mlops_exporter.statistics.intervals import Estimate, bounded_mean, mean_and_variance

CELLS = 3
"""n, Σ(x − low), Σ(x − low)²."""


def moments(values: Floats, low: float) -> Floats:
    """Return the sums of values, (n, ...): (..., CELLS). NaN counts nowhere."""
    known = ~np.isnan(values)
    above = np.where(known, values - low, 0.0)
    return np.stack([known.sum(0), above.sum(0), np.square(above).sum(0)], axis=-1)


def mean(sums: Floats, low: float, high: float) -> Estimate:
    """Mean of values in [low, high] from sums, (..., CELLS), with an interval that holds where few values are large."""
    n, total, squares = np.moveaxis(sums, -1, 0)
    return Estimate(*(low + part for part in bounded_mean(n, total, squares, 0.0, high - low)))


def standard_deviation(sums: Floats) -> Floats:
    """Return the standard deviation of values from sums, (..., CELLS), by n − 1 degrees of freedom; NaN for n < 2."""
    n, total, squares = np.moveaxis(sums, -1, 0)
    _, of_mean = mean_and_variance(n, total, squares)
    return np.asarray(np.sqrt(of_mean * n), np.float64)
