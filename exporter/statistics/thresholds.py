"""Critical values: how large a drift statistic becomes by chance alone when nothing has drifted.

A window of n values and a reference of N values from one distribution differ by sampling noise of variance
proportional to v = 1/n + 1/N. For large n every statistic is a fixed random variable times v (psi) or √v (the others),
whose 1 − α quantile is its *coefficient*:

- psi, js and hellinger are, to second order, a χ² with B − 1 degrees of freedom times v, times v / (8 ln 2) under a
  root, and times v / 8 under a root (psi: Yurdakul and Naranjo 2020, J. Risk Model Validation 14(4); B counts the bins
  that hold reference mass).
- ks, tvd and wasserstein are functions of a Gaussian vector with the covariance of a multinomial at the reference's own
  bin shares (a Brownian bridge seen at the bin edges), so ties and binning are accounted for; the quantile is
  simulated once per profile.

In small windows the χ² is wrong: rare bins hold a handful of counts, and the added 1/2 alone moves the statistic. So
the coefficients of psi, js and hellinger are a small table over n, simulated once per profile by drawing windows from
the reference itself and computing the very statistic, and end in the χ² for n → ∞.
"""

from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtri

from exporter.statistics import drift

F64 = NDArray[np.float64]
Starts = NDArray[np.intp]
Statistic = Literal["psi", "js", "hellinger", "ks", "wasserstein", "tvd"]

SMALLEST_ALPHA = 0.001  # rarer events than this the simulation does not hold enough of

_SEED = 20_000
_DRAWS_OF_WINDOWS = 4096
_DRAWS_OF_LIMIT = 8192
_BLOCK = 256  # draws at a time, so that they stay in the processor's cache
_WINDOWS = np.array([25, 100, 400, 1600])  # n of the table; between them and to infinity, linear in 1/√n
_KNOTS = np.append(0.0, 1 / np.sqrt(_WINDOWS[::-1]))
_RESOLUTION = 1 << 16  # uniform numbers are 16-bit integers

# Second-order expansions in a χ² variable, per unit of v.
_CHI_SQUARE: dict[Statistic, Callable[[F64], F64]] = {
    "psi": lambda chi2: chi2,
    "js": lambda chi2: np.sqrt(chi2 / (8 * np.log(2))),
    "hellinger": lambda chi2: np.sqrt(chi2 / 8),
}


def coefficients(statistic: Statistic, reference: F64, starts: Starts, positions: F64 | None, alpha: float) -> F64:
    """Return what `critical_value` needs of a profile, (S, knots): compute once, keep, pass on unread.

    `reference`, (C,), are the reference counts; `starts`, (S,), the first cell of each variable; `positions`, (C,), is
    read for wasserstein alone. `alpha` is the share of windows without drift that may exceed the critical value. A
    variable without reference counts is NaN.
    """
    if not SMALLEST_ALPHA <= alpha <= 0.5:
        raise ValueError(f"the false-alarm rate must lie in [{SMALLEST_ALPHA}, 0.5], not {alpha}")
    if statistic not in _CHI_SQUARE:
        limit = _quantile(_limit(statistic, reference, starts, positions), alpha)
        return np.repeat(limit[:, np.newaxis], len(_KNOTS), axis=1)
    degrees = drift.totals((reference > 0).astype(np.float64), starts) - 1
    asymptote = _CHI_SQUARE[statistic](np.where(degrees > 0, chdtri(np.maximum(degrees, 1), alpha), 0.0))
    simulated = _quantile(_windows(statistic, reference, starts), alpha)
    scale = _scale(statistic, _WINDOWS[:, np.newaxis], drift.totals(reference, starts))
    return np.concatenate([asymptote[:, np.newaxis], (simulated / scale).T[:, ::-1]], axis=1)


def critical_value(statistic: Statistic, coefficients: F64, n: F64, reference_n: F64) -> F64:
    """Critical value, (..., S), for windows of `n` values, (..., S), and a reference of `reference_n`, (S,)."""
    n = np.where(n > 0, n, np.nan)
    knot = np.interp(1 / np.sqrt(n), _KNOTS, np.arange(len(_KNOTS)))
    left = np.where(np.isnan(knot), 0, np.minimum(knot, len(_KNOTS) - 2)).astype(np.intp)
    weight = knot - left
    variable = np.arange(len(coefficients))
    coefficient = (1 - weight) * coefficients[variable, left] + weight * coefficients[variable, left + 1]
    return coefficient * _scale(statistic, n, reference_n)


def _scale(statistic: Statistic, n: F64 | NDArray[np.int_], reference_n: F64) -> F64:
    with np.errstate(divide="ignore"):
        variance = 1 / n + 1 / reference_n
    return variance if statistic == "psi" else np.sqrt(variance)


def _quantile(blocks: Iterator[F64], alpha: float) -> F64:
    """Quantile 1 − alpha over the draws, the second last axis of each block (..., draws, S)."""
    draws = np.concatenate(list(blocks), axis=-2)
    return np.quantile(draws, 1 - alpha, axis=-2, method="higher")


def _noise(rng: np.random.Generator, shares: F64, starts: Starts) -> F64:
    """Gaussian noise of multinomial shares times √n, (_BLOCK, C): covariance diag(q) − q qᵀ within a variable."""
    bins = drift.sizes(starts, len(shares))
    within = np.arange(len(shares)) - np.repeat(starts, bins)
    # One matrix of normals serves all variables: each needs the right law, not independence of the others.
    scaled = rng.standard_normal((_BLOCK, bins.max()))[:, within] * np.sqrt(shares)
    return scaled - shares * np.repeat(drift.totals(scaled, starts), bins, axis=-1)


def _limit(statistic: Statistic, reference: F64, starts: Starts, positions: F64 | None) -> Iterator[F64]:
    """Draws of the Gaussian limit of a statistic that is homogeneous in the differences of shares."""
    rng = np.random.default_rng(_SEED)
    shares = np.nan_to_num(drift.proportions(reference, starts))
    total = np.repeat(drift.totals(reference, starts), drift.sizes(starts, len(reference)))
    for _ in range(_DRAWS_OF_LIMIT // _BLOCK):
        current = reference + total * _noise(rng, shares, starts)
        if statistic == "wasserstein":
            if positions is None:
                raise ValueError("wasserstein needs the positions of the bins")
            yield drift.wasserstein(current, reference, starts, positions)
        else:
            yield getattr(drift, statistic)(current, reference, starts)


def _windows(statistic: Statistic, reference: F64, starts: Starts) -> Iterator[F64]:
    """Draws of a statistic over windows without drift, (len(_WINDOWS), _BLOCK, S) each.

    All variables are counted from the same uniform numbers, cut at each one's cumulative reference shares; longer
    windows extend the shorter ones. The reference's own noise is added as a Gaussian: N is large, or its bins are.
    """
    rng = np.random.default_rng(_SEED)
    function = getattr(drift, statistic)
    shares = np.nan_to_num(drift.proportions(reference, starts))
    bins = drift.sizes(starts, len(reference))
    total = np.maximum(np.repeat(drift.totals(reference, starts), bins), 1.0)
    upper = np.cumsum(shares)
    upper -= np.repeat(np.append(0.0, upper)[starts], bins)
    upper = np.rint(upper * _RESOLUTION).astype(np.intp)
    edges, edge = np.unique(upper, return_inverse=True)
    interval = np.searchsorted(edges, np.arange(_RESOLUTION), side="right")
    row = np.arange(_BLOCK)[:, np.newaxis] * (len(edges) + 1)
    for _ in range(_DRAWS_OF_WINDOWS // _BLOCK):
        uniform = rng.integers(0, _RESOLUTION, (_BLOCK, _WINDOWS[-1]), dtype=np.uint16)
        cell = interval[uniform] + row
        parts = np.split(cell, _WINDOWS[:-1], axis=1)
        counts = [np.bincount(part.ravel(), minlength=row[-1, 0] + len(edges) + 1) for part in parts]
        below = np.cumsum(np.cumsum(counts, axis=0).reshape(len(_WINDOWS), _BLOCK, -1), axis=-1)[..., edge]
        current = np.diff(below, axis=-1, prepend=0).astype(np.float64)
        current[..., starts] = below[..., starts]
        noise = _noise(rng, shares, starts) / np.sqrt(total)
        current += _WINDOWS[:, np.newaxis, np.newaxis] * noise
        yield function(np.maximum(current, 0.0), reference, starts)
