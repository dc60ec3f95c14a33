"""Critical values: how large a drift statistic becomes by chance alone when nothing has drifted.

A window of n values and a reference of N values from one distribution differ by sampling noise with a variance
proportional to v = 1/n + 1/N. So psi is about a fixed random variable times v, and the others, distances, about one
times √v; the 1 − α quantile of that variable is the statistic's *coefficient*.

Textbook limits give it only for many counts in every bin: a χ² with B − 1 degrees of freedom for psi (Yurdakul and
Naranjo 2020, J. Risk Model Validation 14(4)), and to second order for 8 ln 2 · js² and 8 · hellinger²; a Brownian
bridge for ks. Rare categories, ties, bins without reference mass and the 1/2 that is added to every bin all break them.
So the coefficients are simulated, once per profile, from the reference counts alone:

1. The true shares of the bins are drawn from what the reference leaves possible: a Dirichlet distribution with the
   reference counts. For bins cut at quantiles of the reference sample that is the exact law of the shares between order
   statistics (Wilks 1942, Ann. Math. Stat. 13(4)). An empty bin counts 0.4, a compromise that the simulations of
   docs/statistics.md settle: the open ends below and above the sample would need 1, bins in which nothing ever falls
   (missing values of a feature that has none) 0. It matters only when n comes near N.
2. A window is drawn from those shares, and the very function of `drift` is computed.

ks, tvd and wasserstein are homogeneous in the differences of shares, so that step 1 alone (n → ∞) gives a coefficient
which holds for every n. psi, js and hellinger are not: theirs is a small table over n.

Where the rate of false alarms leaves [α/2, 2α], as measured in docs/statistics.md: psi, js and hellinger alarm 2 to 10
times too often with a window several times as long as a small reference (N = 150 from n = 300, N = 1000 from
n = 10 000), because there the added 1/2 weighs more in the reference than in the window. With rare categories, and a
window near the reference's size, they alarm down to 0.3 times as often.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from mlops_exporter.arrays import Floats
from mlops_exporter.statistics import drift
from mlops_exporter.statistics.drift import Starts, Statistic, traits

SMALLEST_ALPHA = 0.001  # the simulation does not hold enough of rarer events

_SEED = 20_000
_DRAWS = 4096
_BLOCK = 64  # draws at a time, so that they stay in the processor's cache
_SMALL = np.array([25, 50, 100, 400, 1600])
_LARGE = 25_600
_SIZES = np.array([*_SMALL, _LARGE, np.inf])  # n of the table, which is linear in 1/√n between
_KNOTS = 1 / np.sqrt(_SIZES[::-1])
_RESOLUTION = 1 << 16  # windows are drawn as 16-bit integers
_EMPTY = 0.4  # concentration of an empty bin


def coefficients(
    statistics: Sequence[Statistic], reference: Floats, starts: Starts, positions: Floats | None, alpha: float
) -> dict[Statistic, Floats]:
    """Return what `critical_value` needs of a profile by statistic, (S, knots): compute it once, pass it on unread.

    `reference`, (C,), are the reference counts; `starts`, (S,), the first cell of each variable; `positions`, (C,), is
    read for wasserstein alone. `alpha` is the share of windows without drift that may exceed the critical value. A
    variable without reference counts is NaN.
    """
    if not SMALLEST_ALPHA <= alpha <= 0.5:
        raise ValueError(f"the false-alarm rate must lie in [{SMALLEST_ALPHA}, 0.5], not {alpha}")
    if not len(starts):
        return dict.fromkeys(statistics, np.empty((0, len(_KNOTS))))
    homogeneous = [statistic for statistic in statistics if traits(statistic).homogeneous]
    others = [statistic for statistic in statistics if not traits(statistic).homogeneous]
    totals = drift.totals(reference, starts)
    tables: dict[Statistic, Floats] = {}
    for chosen, simulate, sizes in ((homogeneous, _shares, _SIZES[-1:]), (others, _windows, _SIZES)):
        draws: dict[Statistic, list[Floats]] = {statistic: [] for statistic in chosen}
        for window in simulate(reference, starts) if chosen else ():
            for statistic in chosen:
                draws[statistic].append(traits(statistic).function(window, reference, starts, positions))
        tables |= {statistic: _table(statistic, draws[statistic], sizes, totals, alpha) for statistic in chosen}
    return tables


def at_all_knots(coefficients: Floats) -> Floats:
    """Return coefficients, (S, knots), of those that were kept: a single one, (S, 1), holds for every n."""
    return np.broadcast_to(coefficients, (len(coefficients), len(_KNOTS)))


def _table(statistic: Statistic, draws: Sequence[Floats], sizes: Floats, reference_n: Floats, alpha: float) -> Floats:
    """Return the coefficients, (S, knots), from values of simulated windows, (sizes, draws, S)."""
    quantile: Floats = np.quantile(np.concatenate(draws, axis=-2), 1 - alpha, axis=-2, method="higher")
    scale = _scale(statistic, sizes[:, np.newaxis], reference_n)
    return np.tile((quantile / scale).T[:, ::-1], len(_SIZES) // len(sizes))


def critical_value(statistic: Statistic, coefficients: Floats, n: Floats, reference_n: Floats) -> Floats:
    """Critical value, (..., S), for windows of `n` values, (..., S), and a reference of `reference_n`, (S,)."""
    n = np.where(n > 0, n, np.nan)
    knot = np.interp(1 / np.sqrt(n), _KNOTS, np.arange(len(_KNOTS)))
    left = np.where(np.isnan(knot), 0, np.minimum(knot, len(_KNOTS) - 2)).astype(np.intp)
    weight = knot - left
    variable = np.arange(len(coefficients))
    coefficient = (1 - weight) * coefficients[variable, left] + weight * coefficients[variable, left + 1]
    return coefficient * _scale(statistic, n, reference_n)


def _scale(statistic: Statistic, n: Floats, reference_n: Floats) -> Floats:
    with np.errstate(divide="ignore"):
        variance = 1 / n + 1 / reference_n
    return variance if traits(statistic).squared else np.sqrt(variance)


def _concentration(reference: Floats) -> Floats:
    return np.where(reference > 0, reference, _EMPTY)


def _shares(reference: Floats, starts: Starts) -> Iterator[Floats]:
    """Draws of the true shares, (1, _BLOCK, C) each."""
    rng = np.random.default_rng(_SEED)
    for _ in range(_DRAWS // _BLOCK):
        yield _dirichlet(rng, _concentration(reference), starts)[np.newaxis]


def _windows(reference: Floats, starts: Starts) -> Iterator[Floats]:
    """Draws of windows without drift, as counts (len(_SIZES), _BLOCK, C) each.

    In the small windows all variables are counted from the same uniform numbers, cut at each one's cumulative mean
    shares, and longer windows extend shorter ones; what the true shares differ from their mean is added to the counts.
    In the large window counts are as good as continuous. n = ∞ is the true shares themselves, as counts of the
    reference's total.
    """
    rng = np.random.default_rng(_SEED)
    concentration = _concentration(reference)
    mean = drift.proportions(concentration, starts)
    bins = drift.sizes(starts, len(mean))
    total = np.repeat(drift.totals(reference, starts), bins)
    upper = np.cumsum(mean) - np.repeat(np.arange(len(starts)), bins)
    edges, edge = np.unique(np.rint(upper * _RESOLUTION).astype(np.intp), return_inverse=True)
    interval = np.searchsorted(edges, np.arange(_RESOLUTION), side="right").astype(np.int32)  # small: it stays in cache
    intervals = len(edges) + 1
    row = np.arange(_BLOCK, dtype=np.int32)[:, np.newaxis] * intervals
    for _ in range(_DRAWS // _BLOCK):
        shares = _dirichlet(rng, concentration, starts)
        uniform = rng.integers(0, _RESOLUTION, (_BLOCK, _SMALL[-1]), dtype=np.uint16)
        parts = np.split(interval[uniform] + row, _SMALL[:-1], axis=1)
        counts = np.cumsum([np.bincount(part.ravel(), minlength=_BLOCK * intervals) for part in parts], axis=0)
        below = np.cumsum(counts.reshape(len(_SMALL), _BLOCK, intervals), axis=-1)[..., edge]
        current = np.empty((len(_SIZES), _BLOCK, len(mean)))
        small = current[: len(_SMALL)]
        small[..., 1:] = np.diff(below, axis=-1)
        small[..., starts] = below[..., starts]
        small += _SMALL[:, np.newaxis, np.newaxis] * (shares - mean)
        current[-2] = _LARGE * (shares - mean + _dirichlet(rng, _LARGE * mean, starts))
        current[-1] = total * shares
        yield np.maximum(current, 0.0)


def _dirichlet(rng: np.random.Generator, concentration: Floats, starts: Starts) -> Floats:
    """Dirichlet shares of each variable, (_BLOCK, C): gamma variables over their sum.

    These come from normal ones by Wilson and Hilferty's cube (1931, PNAS 17(12)), good down to a concentration of
    about 1/2. One matrix of normals serves all variables: each needs its own law, not independence of the others.
    """
    bins = drift.sizes(starts, len(concentration))
    within = np.arange(len(concentration)) - np.repeat(starts, bins)
    normal = rng.standard_normal((_BLOCK, bins.max()))[:, within]
    root = np.maximum(1 - 1 / (9 * concentration) + normal / (3 * np.sqrt(concentration)), 0.0)
    return drift.proportions(concentration * root * root * root, starts)
