"""How differently a model treats groups of people, with 95 % intervals.

Arrays end with the axis of the groups, G. A group counts only where `usable`, (..., G), or where there is enough of
what its rate is divided by; what is left undefined by fewer than two such groups is NaN. Values equal Fairlearn's on
them.

Every measure is a range: the largest of all differences of two groups (or the smallest of all ratios). The noise of
the groups adds to a range, so its interval is made from those of all pairs, which hold at once at Bonferroni's level:
the true range lies above every pair's lower limit and below the largest upper one. So the interval of a fair model
begins at 0 (a ratio's ends at 1) in at least 95 % of all windows, whatever the number of groups.
"""

import numpy as np
from scipy.special import ndtri

from mlops_exporter.arrays import Flags, Floats
from mlops_exporter.statistics.intervals import Estimate

_ALPHA = 0.05


def demographic_parity_difference(selected: Floats, n: Floats, usable: Flags) -> Estimate:
    """Largest difference of selection rates `selected / n` (Agarwal et al. 2018, ICML), in [0, 1]."""
    return _rate_range(selected, n, usable, comparisons=1)


def demographic_parity_ratio(selected: Floats, n: Floats, usable: Flags) -> Estimate:
    """Smallest ratio of two selection rates, in [0, 1]: the four-fifths rule of 29 CFR 1607.4(D) asks for 0.8.

    The interval of a pair's ratio is MOVER's on the logarithms of Wilson's limits (Zou and Donner 2008, Stat. Med.
    27(10)). NaN where nobody is selected.
    """
    n = np.where(usable & (n > 0), n, np.nan)
    rate, lower, upper = _wilson(selected, n, _z(usable, 1))
    largest = _extreme(np.fmax, rate)
    value = _extreme(np.fmin, rate) / np.where((largest > 0) & _distinct(rate).any((-2, -1)), largest, np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_rate, log_lower, log_upper = np.log(rate), np.log(lower), np.log(upper)
        centre = _pairs(log_rate, log_rate)
        below = np.hypot((log_rate - log_lower)[..., :, np.newaxis], (log_upper - log_rate)[..., np.newaxis, :])
        above = np.hypot((log_upper - log_rate)[..., :, np.newaxis], (log_rate - log_lower)[..., np.newaxis, :])
        # A rate of 0 has no logarithm: as numerator the ratio is from 0 to the limits' ratio, as denominator unbounded.
        nobody = (rate == 0)[..., :, np.newaxis]
        ratio_lower = np.where(nobody, 0.0, np.exp(centre - below))
        at_most = upper[..., :, np.newaxis] / lower[..., np.newaxis, :]
        ratio_upper = np.where(nobody, at_most, np.exp(centre + above))
    pairs = _distinct(rate) & ((rate > 0)[..., np.newaxis, :])
    return _where_defined(
        value,
        np.minimum(_over_pairs(np.fmin, ratio_lower, pairs), value),
        np.clip(_over_pairs(np.fmin, ratio_upper, pairs), value, 1.0),
    )


def equal_opportunity_difference(confusion: Floats, least: Floats | float) -> Estimate:
    """Largest difference of true positive rates (Hardt, Price and Srebro 2016, NeurIPS), in [0, 1].

    `confusion` is (..., G, 2, 2), indexed [predicted, actual], the favourable outcome being 1. Groups with fewer than
    `least` favourable labels, which a rate is divided by, are left out: one missed positive of two is no finding.
    Fairlearn takes every group, and gives one without positives a rate of 0.
    """
    hits, positives = confusion[..., 1, 1], confusion[..., 1].sum(-1)
    return _rate_range(hits, positives, (positives >= least) & (positives > 0), comparisons=1)


def equalized_odds_difference(confusion: Floats, least: Floats | float) -> Estimate:
    """Return the larger of the largest differences of true and of false positive rates (Hardt et al. 2016).

    In [0, 1]; `confusion` and `least` as for `equal_opportunity_difference`, of both kinds of labels.
    """
    labels = confusion.sum(-2)
    enough = ((labels >= np.expand_dims(least, -1)) & (labels > 0)).all(-1)
    ranges = [_rate_range(confusion[..., 1, actual], labels[..., actual], enough, comparisons=2) for actual in (1, 0)]
    return Estimate(*(np.maximum(one, other) for one, other in zip(*ranges, strict=True)))


def mean_difference(n: Floats, total: Floats, total_of_squares: Floats, usable: Flags) -> Estimate:
    """Largest difference of the groups' means, from sums; in the unit of the values, ≥ 0.

    Of |error| it is the largest gap in mae, of the error the largest gap in bias. The interval of a pair is normal with
    the groups' own variances (Welch 1947, Biometrika 34).
    """
    n = np.where(usable & (n > 1), n, np.nan)
    mean = total / n
    variance = np.maximum(total_of_squares / n - mean**2, 0.0) / (n - 1)
    z = _z(~np.isnan(n), 1)[..., np.newaxis, np.newaxis]
    half = z * np.sqrt(variance[..., :, np.newaxis] + variance[..., np.newaxis, :])
    return _range(mean, _pairs(mean, mean) - half, _pairs(mean, mean) + half, np.inf)


def _rate_range(successes: Floats, n: Floats, usable: Flags, comparisons: int) -> Estimate:
    """Largest difference of rates; a pair's interval is Newcombe's hybrid score interval (1998, Stat. Med. 17(8))."""
    n = np.where(usable & (n > 0), n, np.nan)
    rate, lower, upper = _wilson(successes, n, _z(usable, comparisons))
    down, up = rate - lower, upper - rate
    difference = _pairs(rate, rate)
    below = np.hypot(down[..., :, np.newaxis], up[..., np.newaxis, :])
    above = np.hypot(up[..., :, np.newaxis], down[..., np.newaxis, :])
    return _range(rate, difference - below, difference + above, 1.0)


def _range(values: Floats, lower: Floats, upper: Floats, largest: float) -> Estimate:
    """Range of `values`, (..., G), from the limits of all pairs, (..., G, G)."""
    pairs = _distinct(values)
    value = _extreme(np.fmax, values) - _extreme(np.fmin, values)
    return _where_defined(
        np.where(pairs.any((-2, -1)), value, np.nan),
        np.maximum(_over_pairs(np.fmax, lower, pairs), 0.0),
        np.minimum(_over_pairs(np.fmax, upper, pairs), largest),
    )


def _wilson(successes: Floats, n: Floats, z: Floats) -> tuple[Floats, Floats, Floats]:
    """Rate and Wilson's limits at z standard errors, (...,) for all groups (Wilson 1927, JASA 22(158))."""
    z2 = (z**2)[..., np.newaxis]
    rate = successes / n
    centre = (rate + z2 / (2 * n)) / (1 + z2 / n)
    half = np.sqrt(z2 * (np.maximum(rate * (1 - rate), 0.0) / n + z2 / (4 * n**2))) / (1 + z2 / n)
    return rate, np.clip(centre - half, 0.0, rate), np.clip(centre + half, rate, 1.0)


def _z(usable: Flags, comparisons: int) -> Floats:
    """Return the normal quantile at which all pairs of usable groups hold at once, (...)."""
    groups = usable.sum(-1)
    pairs = np.maximum(groups * (groups - 1) / 2, 1) * comparisons
    quantile: Floats = -ndtri(_ALPHA / 2 / pairs)
    return quantile


def _pairs(left: Floats, right: Floats) -> Floats:
    return left[..., :, np.newaxis] - right[..., np.newaxis, :]


def _distinct(values: Floats) -> Flags:
    """Pairs of two different groups that both have a value."""
    defined = ~np.isnan(values)
    both: Flags = defined[..., :, np.newaxis] & defined[..., np.newaxis, :] & ~np.eye(values.shape[-1], dtype=np.bool_)
    return both


def _extreme(largest: np.ufunc, values: Floats) -> Floats:
    extreme: Floats = largest.reduce(values, axis=-1, initial=np.nan)
    return extreme


def _over_pairs(largest: np.ufunc, values: Floats, pairs: Flags) -> Floats:
    extreme: Floats = largest.reduce(np.where(pairs, values, np.nan), axis=(-2, -1), initial=np.nan)
    return extreme


def _where_defined(value: Floats, lower: Floats, upper: Floats) -> Estimate:
    return Estimate(value, np.where(np.isnan(value), np.nan, lower), np.where(np.isnan(value), np.nan, upper))
