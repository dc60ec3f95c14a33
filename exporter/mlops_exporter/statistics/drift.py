"""How far the binned distribution of a window is from that of the reference: one short function per statistic.

The bins of many variables lie one behind the other on one flat axis of C cells. `starts`, shape (S,), strictly
ascending from 0, holds the first cell of each of the S variables; the last variable ends with the axis. All functions
take `current` of shape (..., C), `reference` of shape (C,) and give (..., S). A variable without a single count on
either side is NaN.

Ratios and logarithms need no bin to be empty: `psi`, `js` and `hellinger` first add 1/2 to every bin on both sides.
`ks`, `tvd` and `wasserstein` use the plain proportions.

A further statistic is a function here, its name in `Statistic` and its record in `STATISTICS`; whatever else there is
to know of one follows from these.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from scipy.special import chdtrc, chdtri, kolmogi, kolmogorov, ndtr, ndtri

from mlops_exporter.arrays import Flags, Floats, Ints

Starts = Ints

PSEUDOCOUNT = 0.5


def totals(counts: Floats, starts: Starts) -> Floats:
    """Sum the cells of each variable: (..., C) to (..., S)."""
    result: Floats = np.add.reduceat(counts, starts, axis=-1)
    return result


def sizes(starts: Starts, cells: int) -> Ints:
    """Return the number of cells of each variable, (S,)."""
    return np.diff(starts, append=cells)


def proportions(counts: Floats, starts: Starts, pseudocount: float = 0.0) -> Floats:
    """Share of each cell in its variable, (..., C), after adding `pseudocount` to every cell; NaN without counts."""
    bins = sizes(starts, counts.shape[-1])
    total = totals(counts, starts)
    scale = np.where(total > 0, total + pseudocount * bins, np.nan)
    shares: Floats = (counts + pseudocount) / np.repeat(scale, bins, axis=-1)
    return shares


def psi(current: Floats, reference: Floats, starts: Starts) -> Floats:
    """Return the population stability index, Σ (p − q) ln(p / q), in nats, ≥ 0.

    It is Jeffreys' symmetric divergence (Jeffreys 1946, Proc. R. Soc. A 186); credit scoring gave it its name
    (Siddiqi 2006, Credit Risk Scorecards).
    """
    p = proportions(current, starts, PSEUDOCOUNT)
    q = proportions(reference, starts, PSEUDOCOUNT)
    return totals((p - q) * np.log(p / q), starts)


def js(current: Floats, reference: Floats, starts: Starts) -> Floats:
    """Jensen–Shannon distance with base-2 logarithms: the square root of the divergence, in [0, 1].

    Lin 1991, IEEE Trans. Inf. Theory 37(1); a metric by Endres and Schindelin 2003, IEEE Trans. Inf. Theory 49(7).
    """
    p = proportions(current, starts, PSEUDOCOUNT)
    q = proportions(reference, starts, PSEUDOCOUNT)
    middle = (p + q) / 2
    divergence = totals(p * np.log2(p / middle) + q * np.log2(q / middle), starts) / 2
    return np.sqrt(np.maximum(divergence, 0.0))


def hellinger(current: Floats, reference: Floats, starts: Starts) -> Floats:
    """Hellinger distance √(½ Σ (√p − √q)²), in [0, 1] (Hellinger 1909, J. reine angew. Math. 136)."""
    p = proportions(current, starts, PSEUDOCOUNT)
    q = proportions(reference, starts, PSEUDOCOUNT)
    return np.sqrt(totals((np.sqrt(p) - np.sqrt(q)) ** 2, starts) / 2)


def tvd(current: Floats, reference: Floats, starts: Starts) -> Floats:
    """Total variation distance ½ Σ |p − q|, in [0, 1]: the share that would have to change its bin."""
    return totals(np.abs(proportions(current, starts) - proportions(reference, starts)), starts) / 2


def ks(current: Floats, reference: Floats, starts: Starts) -> Floats:
    """Kolmogorov–Smirnov distance max |P − Q| of the cumulative shares at the bin edges, in [0, 1].

    For ordered bins. It never exceeds the distance of the raw samples and falls short by at most one bin's share.
    """
    distance, defined = _cumulative_distance(current, reference, starts)
    return np.where(defined, np.maximum.reduceat(distance, starts, axis=-1), np.nan)


def wasserstein(current: Floats, reference: Floats, starts: Starts, positions: Floats) -> Floats:
    """First Wasserstein (earth mover's) distance of the binned distributions, in the unit of `positions`, ≥ 0.

    `positions`, shape (C,), ascending within a variable: where a bin's mass is taken to lie. In units of the
    reference's standard deviation the distance compares between variables.
    """
    distance, defined = _cumulative_distance(current, reference, starts)
    gaps = np.diff(positions, append=0.0)
    gaps[starts[1:] - 1] = 0.0
    gaps[-1:] = 0.0
    return np.where(defined, totals(distance * gaps, starts), np.nan)


def _cumulative_distance(current: Floats, reference: Floats, starts: Starts) -> tuple[Floats, Flags]:
    """|P − Q| at each bin's upper edge, (..., C), and which variables are defined, (..., S).

    One running sum serves all variables, as the differences within each sum to 0.
    """
    difference = proportions(current, starts) - proportions(reference, starts)
    undefined = np.isnan(difference)
    difference[undefined] = 0.0
    return np.abs(np.cumsum(difference, axis=-1)), ~undefined[..., starts]


Statistic = Literal["psi", "js", "hellinger", "ks", "wasserstein", "tvd"]
Tail = Callable[[Floats, Ints, float], Floats]


def _chi_squared(power: int) -> Tail:
    """Tail of a statistic whose `power`th power follows a χ² with one degree of freedom less than bins."""

    def tail(ratio: Floats, bins: Ints, alpha: float) -> Floats:
        degrees = np.maximum(bins - 1, 1)
        return np.asarray(chdtrc(degrees, ratio**power * chdtri(degrees, alpha)), np.float64)

    return tail


def _kolmogorov(ratio: Floats, bins: Ints, alpha: float) -> Floats:
    return np.asarray(kolmogorov(ratio * kolmogi(alpha)), np.float64)


def _normal(ratio: Floats, bins: Ints, alpha: float) -> Floats:
    return np.asarray(2 * ndtr(ratio * ndtri(alpha / 2)), np.float64)


class Traits(NamedTuple):
    """All that is to be known of a statistic.

    `function` takes counts, reference, starts and the bins' positions. `fine`: it compares the fine bins of numeric
    variables, else the exported bins of all. `homogeneous`: in the differences of shares, so that one coefficient holds
    for every n. `squared`: noise makes it about 1/n + 1/N, else the root of it. `tail` gives the p-value of a ratio to
    the critical value of rate alpha, from (ratio, bins of each variable, alpha), as in large samples.
    """

    function: Callable[[Floats, Floats, Starts, Floats | None], Floats]
    fine: bool
    homogeneous: bool
    squared: bool
    tail: Tail
    unit: str
    source: str


def _wasserstein(current: Floats, reference: Floats, starts: Starts, positions: Floats | None) -> Floats:
    if positions is None:
        raise ValueError("wasserstein needs the positions of the bins")
    return wasserstein(current, reference, starts, positions)


STATISTICS: dict[Statistic, Traits] = {
    "psi": Traits(
        lambda p, q, starts, _: psi(p, q, starts), False, False, True, _chi_squared(1), "nats", "Jeffreys 1946"
    ),
    "js": Traits(
        lambda p, q, starts, _: js(p, q, starts), False, False, False, _chi_squared(2), "0 to 1, base 2", "Lin 1991"
    ),
    "hellinger": Traits(
        lambda p, q, starts, _: hellinger(p, q, starts),
        False,
        False,
        False,
        _chi_squared(2),
        "0 to 1",
        "Hellinger 1909",
    ),
    "ks": Traits(lambda p, q, starts, _: ks(p, q, starts), True, True, False, _kolmogorov, "0 to 1", "Kolmogorov 1933"),
    "wasserstein": Traits(
        _wasserstein, True, True, False, _normal, "reference standard deviations", "Kantorovich 1942, Vaserstein 1969"
    ),
    "tvd": Traits(
        lambda p, q, starts, _: tvd(p, q, starts), False, True, False, _normal, "0 to 1, share moved", "Jordan 1881"
    ),
}


def traits(statistic: str) -> Traits:
    """Return what is known of a statistic; raises ValueError for an unknown one."""
    known = {str(name): its for name, its in STATISTICS.items()}
    if statistic not in known:
        raise ValueError(f"unknown drift statistic {statistic}: there are {', '.join(known)}")
    return known[statistic]
