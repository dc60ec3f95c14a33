"""Critical values: how large a drift statistic becomes by chance alone when nothing has drifted.

A window of n values and a reference of N values from one distribution differ by sampling noise with a variance
proportional to v = 1/n + 1/N. So psi is about a fixed random variable times v, and the others, distances, about one
times √v; the 1 − α quantile of that variable is the statistic's *coefficient*.

Textbook limits give it only for many counts in every bin: a χ² with B − 1 degrees of freedom for psi (Yurdakul and
Naranjo 2020, J. Risk Model Validation 14(4)), and to second order for 8 ln 2 · js² and 8 · hellinger²; a Brownian bridge
for ks. Rare categories, ties, bins without reference mass and the 1/2 that is added to every bin all break them. So the
coefficients are simulated, once per profile, from the reference counts alone:

1. The true shares of the bins are drawn from what the reference leaves possible: a Dirichlet distribution with the
   reference counts, and 1/2 for an empty bin. For bins cut at quantiles of the reference sample that is the exact law of
   the share between two order statistics (Wilks 1942, Ann. Math. Stat. 13(4)).
2. A window is drawn from those shares, and the very function of `drift` is computed.

ks, tvd and wasserstein are homogeneous in the differences of shares, so that step 1 alone (n → ∞) gives a coefficient
which holds for every n. psi, js and hellinger are not: theirs is a small table over n.
"""

from collections.abc import Iterator
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from exporter.statistics import drift

F64 = NDArray[np.float64]
Starts = NDArray[np.intp]
Statistic = Literal["psi", "js", "hellinger", "ks", "wasserstein", "tvd"]

SMALLEST_ALPHA = 0.001  # the simulation does not hold enough of rarer events

_SEED = 20_000
_DRAWS = 4096
_BLOCK = 128  # draws at a time, so that they stay in the processor's cache
_WINDOWS = np.array([25, 100, 400, 1600])  # n of the table, whose end is n → ∞; linear in 1/√n between
_SIZES = np.append(_WINDOWS, np.inf)
_KNOTS = 1 / np.sqrt(_SIZES[::-1])
_RESOLUTION = 1 << 16  # windows are drawn as 16-bit integers


def coefficients(statistic: Statistic, reference: F64, starts: Starts, positions: F64 | None, alpha: float) -> F64:
    """Return what `critical_value` needs of a profile, (S, knots): compute it once, keep it, pass it on unread.

    `reference`, (C,), are the reference counts; `starts`, (S,), the first cell of each variable; `positions`, (C,), is
    read for wasserstein alone. `alpha` is the share of windows without drift that may exceed the critical value. A
    variable without reference counts is NaN.
    """
    if not SMALLEST_ALPHA <= alpha <= 0.5:
        raise ValueError(f"the false-alarm rate must lie in [{SMALLEST_ALPHA}, 0.5], not {alpha}")
    if statistic == "wasserstein":
        if positions is None:
            raise ValueError("wasserstein needs the positions of the bins")
        function = partial(drift.wasserstein, positions=positions)
    else:
        function = getattr(drift, statistic)
    windows = _windows(reference, starts) if statistic in ("psi", "js", "hellinger") else _shares(reference, starts)
    draws = np.concatenate([function(block, reference, starts) for block in windows], axis=-2)
    quantile = np.quantile(draws, 1 - alpha, axis=-2, method="higher")
    if quantile.ndim == 1:
        quantile = np.repeat(quantile[np.newaxis], len(_SIZES), axis=0)
        sizes = np.full((1, 1), np.inf)
    else:
        sizes = _SIZES[:, np.newaxis]
    scale = _scale(statistic, sizes, drift.totals(reference, starts))
    return (quantile / scale).T[:, ::-1]


def critical_value(statistic: Statistic, coefficients: F64, n: F64, reference_n: F64) -> F64:
    """Critical value, (..., S), for windows of `n` values, (..., S), and a reference of `reference_n`, (S,)."""
    n = np.where(n > 0, n, np.nan)
    knot = np.interp(1 / np.sqrt(n), _KNOTS, np.arange(len(_KNOTS)))
    left = np.where(np.isnan(knot), 0, np.minimum(knot, len(_KNOTS) - 2)).astype(np.intp)
    weight = knot - left
    variable = np.arange(len(coefficients))
    coefficient = (1 - weight) * coefficients[variable, left] + weight * coefficients[variable, left + 1]
    return coefficient * _scale(statistic, n, reference_n)


def _scale(statistic: Statistic, n: F64, reference_n: F64) -> F64:
    with np.errstate(divide="ignore"):
        variance = 1 / n + 1 / reference_n
    return variance if statistic == "psi" else np.sqrt(variance)


def _shares(reference: F64, starts: Starts) -> Iterator[F64]:
    """Draws of the true shares, (_BLOCK, C) each.

    A Dirichlet is a set of gamma variables over their sum; these come from normal ones by Wilson and Hilferty's cube
    (1931, PNAS 17(12)), good from a = 1/2 on. One matrix of normals serves all variables: each needs its own law, not
    independence of the others.
    """
    rng = np.random.default_rng(_SEED)
    counts = _concentration(reference)
    bins = drift.sizes(starts, len(counts))
    within = np.arange(len(counts)) - np.repeat(starts, bins)
    mean, slope = 1 - 1 / (9 * counts), 1 / (3 * np.sqrt(counts))
    for _ in range(_DRAWS // _BLOCK):
        root = np.maximum(mean + slope * rng.standard_normal((_BLOCK, bins.max()))[:, within], 0.0)
        yield drift.proportions(counts * root * root * root, starts)


def _windows(reference: F64, starts: Starts) -> Iterator[F64]:
    """Draws of windows without drift, as counts (len(_SIZES), _BLOCK, C) each; n = ∞ as shares times a huge number.

    All variables are counted from the same uniform numbers, cut at each one's cumulative mean shares; longer windows
    extend the shorter ones. What the true shares differ from their mean is added to the counts.
    """
    rng = np.random.default_rng(_SEED + 1)
    mean = drift.proportions(_concentration(reference), starts)
    bins = drift.sizes(starts, len(mean))
    upper = np.cumsum(mean) - np.repeat(np.arange(len(starts)), bins)
    edges, edge = np.unique(np.rint(upper * _RESOLUTION).astype(np.intp), return_inverse=True)
    interval = np.searchsorted(edges, np.arange(_RESOLUTION), side="right")
    intervals = len(edges) + 1
    row = np.arange(_BLOCK)[:, np.newaxis] * intervals
    for shares in _shares(reference, starts):
        uniform = rng.integers(0, _RESOLUTION, (_BLOCK, _WINDOWS[-1]), dtype=np.uint16)
        parts = np.split(interval[uniform] + row, _WINDOWS[:-1], axis=1)
        counts = np.cumsum([np.bincount(part.ravel(), minlength=_BLOCK * intervals) for part in parts], axis=0)
        below = np.cumsum(counts.reshape(len(_WINDOWS), _BLOCK, intervals), axis=-1)[..., edge]
        current = np.diff(below, axis=-1, prepend=0).astype(np.float64)
        current[..., starts] = below[..., starts]
        current += _WINDOWS[:, np.newaxis, np.newaxis] * (shares - mean)
        yield np.concatenate([np.maximum(current, 0.0), 1e15 * shares[np.newaxis]])


def _concentration(reference: F64) -> F64:
    return np.where(reference > 0, reference, 0.5)
