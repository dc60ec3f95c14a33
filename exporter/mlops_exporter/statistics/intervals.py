"""Confidence intervals at one level, 95 %, shared by all metrics."""

from typing import NamedTuple

import numpy as np
from scipy.special import betaincinv, expit, gammaincinv, logit, stdtrit

from mlops_exporter.arrays import Floats

Z = 1.959963984540054  # 97.5 % quantile of the standard normal distribution


class Estimate(NamedTuple):
    """A value and its 95 % interval, arrays of one shape. NaN where it cannot be computed."""

    value: Floats
    lower: Floats
    upper: Floats


def wilson(successes: Floats, n: Floats) -> Estimate:
    """Share `successes / n` with Wilson's score interval (Wilson 1927, JASA 22(158)); NaN for n = 0."""
    n = np.where(n > 0, n, np.nan)
    share = successes / n
    shrink = 1 / (1 + Z**2 / n)
    centre = (share + Z**2 / (2 * n)) * shrink
    half = Z * shrink * np.sqrt(np.maximum(share * (1 - share), 0.0) / n + Z**2 / (4 * n**2))
    # Rounding must not put a share of 0 or 1 outside its own interval.
    return Estimate(share, np.minimum(centre - half, share).clip(0.0), np.maximum(centre + half, share).clip(None, 1.0))


def exact_share(successes: Floats, n: Floats) -> Estimate:
    """Share `successes / n` with an interval that covers at least 95 % (Clopper and Pearson 1934, Biometrika 26(4)).

    NaN for n = 0. Wilson's is narrower, but where about one in `n` is a success it is beyond that at 8 of 100 times.
    """
    n = np.where(n > 0, n, np.nan)
    some, others = np.maximum(successes, 0.0), np.maximum(n - successes, 0.0)
    lower = np.where(some > 0, betaincinv(np.where(some > 0, some, 1.0), others + 1, 1 - _LEVEL), 0.0)
    upper = np.where(others > 0, betaincinv(some + 1, np.where(others > 0, others, 1.0), _LEVEL), 1.0)
    unknown = np.isnan(n)
    return Estimate(successes / n, np.where(unknown, np.nan, lower), np.where(unknown, np.nan, upper))


def normal(
    value: Floats, variance: Floats, low: float = -np.inf, high: float = np.inf, degrees: Floats | float = np.inf
) -> Estimate:
    """`value` ± Z·√`variance`, the variance being that of the value itself, cut to the range [low, high].

    By Student's t where the variance has so few `degrees` of freedom that it matters.
    """
    half = (Z if isinstance(degrees, float) else quantile(degrees)) * np.sqrt(np.maximum(variance, 0.0))
    value = np.clip(value, low, high)  # which rounding may have left
    return Estimate(value, np.maximum(value - half, low), np.minimum(value + half, high))


def log_normal(value: Floats, variance: Floats) -> Estimate:
    """Interval of a quantity ≥ 0, symmetric on the log scale, which skewed variances and ratios prefer."""
    factor = np.exp(Z * np.sqrt(variance) / np.where(value > 0, value, 1.0))
    return Estimate(value, value / factor, value * factor)


def quantile(degrees: Floats) -> Floats:
    """97.5 % quantile of Student's t for a variance estimated with so many degrees of freedom; NaN counts as many."""
    limit = np.asarray(stdtrit(np.where(degrees > 0, degrees, np.inf), 0.975), np.float64)
    return np.where(np.isnan(limit), Z, limit)


def degrees_of_freedom(first: Floats, second: Floats, n_first: Floats, n_second: Floats) -> Floats:
    """Of the sum of two variances of means, of `n_*` values each (Satterthwaite 1946, Biometrics Bull. 2(6))."""
    degrees: Floats = (first + second) ** 2 / (first**2 / (n_first - 1) + second**2 / (n_second - 1))
    return degrees


def logit_normal(value: Floats, variance: Floats, trials: Floats, degrees: Floats) -> Estimate:
    """Interval of a quantity in [0, 1], symmetric in its log-odds, which keeps it inside and follows its skewness.

    The variance has so many `degrees` of freedom. Where it is 0 or unknown, as of a perfect value, Wilson's interval of
    a share of `trials` stands in: a finite window is never certain.
    """
    usable = (variance > 0) & (value > 0) & (value < 1)
    inside = np.where(usable, value, 0.5)
    half = quantile(degrees) * np.sqrt(np.where(usable, variance, 0.0)) / (inside * (1 - inside))
    fallback = wilson(value * trials, trials)
    lower = np.where(usable, expit(logit(inside) - half), fallback.lower)
    return Estimate(value, lower, np.where(usable, expit(logit(inside) + half), fallback.upper))


def mean_of_independent(parts: Estimate) -> Estimate:
    """Mean over the last axis of independent estimates, leaving out NaN; all NaN give NaN.

    The distances from value to limit add up as squares on either side (MOVER: Zou and Donner 2008, Stat. Med. 27(10)).
    """
    count = (~np.isnan(parts.value)).sum(-1)
    count = np.where(count > 0, count, np.nan)
    value = np.nansum(parts.value, -1) / count
    below = np.sqrt(np.nansum((parts.value - parts.lower) ** 2, -1)) / count
    above = np.sqrt(np.nansum((parts.upper - parts.value) ** 2, -1)) / count
    return Estimate(value, value - below, value + above)


def mean_of_correlated(parts: Estimate, correlation: Floats) -> Estimate:
    """Mean over the last axis of estimates in [0, 1] with `correlation`, (..., K, K), leaving out NaN.

    MOVER with covariances (Zou 2008, Stat. Med. 27(10)): the distances from value to limit stand for standard errors.
    """
    defined = ~np.isnan(parts.value)
    count = defined.sum(-1)
    count = np.where(count > 0, count, np.nan)
    value = np.where(defined, parts.value, 0.0).sum(-1) / count

    def distance(each: Floats) -> Floats:
        each = np.where(defined, each, 0.0)
        squared = np.einsum("...i,...ij,...j->...", each, correlation, each)
        return np.asarray(np.sqrt(np.maximum(squared, 0.0)) / count, np.float64)

    below, above = distance(parts.value - parts.lower), distance(parts.upper - parts.value)
    return Estimate(value, np.maximum(value - below, 0.0), np.minimum(value + above, 1.0))


class Spread(NamedTuple):
    """How numbers ≥ 0 vary: their variance, and the size Σx³/Σx² of those that the variance is made of."""

    variance: Floats
    size: Floats


def mean_of_losses(n: Floats, total: Floats, total_of_squares: Floats, expected: Spread) -> Estimate:
    """Mean of numbers ≥ 0, a few of which may be large, from Σx and Σx². NaN for n = 0; no interval for n = 1.

    Gamma distributed limits, the upper one as if one large number more had come (Fay and Feuer 1997, Stat. Med. 16(7);
    Tiwari, Clegg and Zou 2006, Stat. Methods Med. Res. 15(6)): with many numbers they are those of the central limit
    theorem. A sum that k large numbers would make hardly tells how much these vary: the window counts as k observations
    of that, and what is `expected` as five.
    """
    n = np.where(n > 0, n, np.nan)
    mean, variance = mean_and_variance(n, total, total_of_squares)
    size = np.where(total > 0, total_of_squares / np.where(total > 0, total, 1.0), 0.0)
    large = np.maximum(size, expected.size)
    share = _EXPECTED / (_EXPECTED + total / np.where(large > 0, large, 1.0))
    variance += share * np.maximum(expected.variance / n - variance, 0.0)
    size = (size + share * (large - size)) / n
    lower = _gamma_quantile(mean, variance, 1 - _LEVEL)
    upper = _gamma_quantile(mean + size, variance + size**2, _LEVEL)
    return Estimate(mean, np.minimum(lower, mean), np.maximum(upper, mean))


_EXPECTED = 5.0
_LEVEL = 0.975


def _gamma_quantile(mean: Floats, variance: Floats, level: float) -> Floats:
    """Quantile of a gamma distribution with that mean and variance; the mean itself where nothing varies."""
    varies = (variance > 0) & (mean > 0)
    scale = np.where(varies, variance, 1.0) / np.where(varies, mean, 1.0)
    found = gammaincinv(np.where(varies, mean, 1.0) / scale, level) * scale
    return np.where(np.isnan(variance), np.nan, np.where(varies, found, mean))


def mean_and_variance(n: Floats, total: Floats, total_of_squares: Floats) -> tuple[Floats, Floats]:
    """Mean of x and the variance of that mean, from Σx and Σx². NaN for n = 0; no variance for n = 1."""
    n = np.where(n > 0, n, np.nan)
    mean = total / n
    return mean, np.maximum(total_of_squares / n - mean**2, 0.0) / np.where(n > 1, n - 1, np.nan)


def mean_from_sums(
    n: Floats, total: Floats, total_of_squares: Floats, low: float = -np.inf, high: float = np.inf
) -> Estimate:
    """Mean with the central limit theorem's interval, from Σx and Σx²."""
    return normal(*mean_and_variance(n, total, total_of_squares), low, high)


def bounded_mean(n: Floats, total: Floats, total_of_squares: Floats, low: float, high: float) -> Estimate:
    """Mean of x in [low, high] with an interval that holds where large values are rare, from Σx and Σx²; NaN for n = 0.

    A mean m leaves a variance of at most (high − m)(m − low) (Bhatia and Davis 2000, Amer. Math. Monthly 107(4)), which
    two values at the ends reach, and for those this is Wilson's interval. Other values have a share r of it: Wilson's
    interval for n / r trials. Half an observation at either end is added before r is estimated, since a dear value may
    be one that the window has not seen yet.
    """
    if not low < high:
        value = np.where(n > 0, low, np.nan)
        return Estimate(value, value, value)
    count = n + 1.0
    mean = (total + (low + high) / 2) / count
    variance = (total_of_squares + (low**2 + high**2) / 2) / count - mean**2
    share = (variance / ((high - mean) * (mean - low))).clip(1e-6, 1.0)
    scaled = ((total - n * low) / (high - low) / share).clip(0.0, n / share)
    return Estimate(*(low + part * (high - low) for part in wilson(scaled, n / share)))


def delta_multinomial(probabilities: Floats, gradient: Floats, n: Floats, axes: tuple[int, ...]) -> Floats:
    """Variance of a smooth function of multinomial shares from `n` draws, by the delta method.

    (Σ p g² − (Σ p g)²) / n over the cell `axes`, where g is the function's gradient in the shares p
    (Agresti 2013, Categorical Data Analysis, section 16.1).
    """
    weighted = probabilities * gradient
    variance: Floats = np.maximum((weighted * gradient).sum(axes) - weighted.sum(axes) ** 2, 0.0)
    return variance / n
