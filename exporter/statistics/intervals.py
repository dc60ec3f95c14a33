"""Confidence intervals at one level, 95 %, shared by all metrics."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

Z = 1.959963984540054  # 97.5 % quantile of the standard normal distribution


class Estimate(NamedTuple):
    """A value and its 95 % interval, arrays of one shape. NaN where it cannot be computed."""

    value: F64
    lower: F64
    upper: F64


def wilson(successes: F64, n: F64) -> Estimate:
    """Share `successes / n` with Wilson's score interval (Wilson 1927, JASA 22(158)); NaN for n = 0."""
    n = np.where(n > 0, n, np.nan)
    share = successes / n
    shrink = 1 / (1 + Z**2 / n)
    centre = (share + Z**2 / (2 * n)) * shrink
    half = Z * shrink * np.sqrt(np.maximum(share * (1 - share), 0.0) / n + Z**2 / (4 * n**2))
    # Rounding must not put a share of 0 or 1 outside its own interval.
    return Estimate(share, np.minimum(centre - half, share).clip(0.0), np.maximum(centre + half, share).clip(None, 1.0))


def normal(value: F64, variance: F64, low: float = -np.inf, high: float = np.inf) -> Estimate:
    """`value` ± Z·√`variance`, the variance being that of the value itself, cut to the range [low, high]."""
    half = Z * np.sqrt(np.maximum(variance, 0.0))
    return Estimate(value, np.maximum(value - half, low), np.minimum(value + half, high))


def mean_from_sums(n: F64, total: F64, total_of_squares: F64, low: float = -np.inf, high: float = np.inf) -> Estimate:
    """Mean with the central limit theorem's interval, from Σx and Σx². NaN for n = 0, no interval for n = 1."""
    n = np.where(n > 0, n, np.nan)
    mean = total / n
    variance = np.maximum(total_of_squares / n - mean**2, 0.0) / np.where(n > 1, n - 1, np.nan)
    return normal(mean, variance, low, high)


def delta_multinomial(probabilities: F64, gradient: F64, n: F64, axes: tuple[int, ...]) -> F64:
    """Variance of a smooth function of multinomial shares from `n` draws, by the delta method.

    (Σ p g² − (Σ p g)²) / n over the cell `axes`, where g is the function's gradient in the shares p
    (Agresti 2013, Categorical Data Analysis, section 16.1).
    """
    weighted = probabilities * gradient
    return np.maximum((weighted * gradient).sum(axes) - weighted.sum(axes) ** 2, 0.0) / n
