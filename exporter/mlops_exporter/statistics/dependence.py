"""How much events that neighbour each other in time resemble each other: design effects from panes.

The mean of n dependent events varies as that of n / φ independent ones; φ ≥ 1 is the *design effect* (Kish 1965, Survey
Sampling). Batch means measure it (Law and Kelton 2000, Simulation Modeling and Analysis, section 9.5): panes that
follow one another in time are joined to batches, and their spread is set beside what independent events would have.

- `variance_between` takes many stretches, each as long as a window: what they differ by is what a window may differ by.
- `design_effects` knows the window alone. A slow movement within it may be a change, so it looks at short range only,
  at differences of batches that follow one another (von Neumann 1941, Ann. Math. Stat. 12(4)).
- Nothing is believed that chance explains, so that independent events cost next to nothing, and both take the median
  over batches, so that a single change is not taken for dependence.

A variable is counts in bins, or a number of which sums are kept. All functions take the panes in the order of their
time, the oldest first; `starts`, (S,), are each variable's first cell, as in `drift`.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import chdtri, stdtrit

from mlops_exporter.arrays import Flags, Floats, Ints
from mlops_exporter.statistics.drift import Starts, sizes, totals
from mlops_exporter.statistics.intervals import Z

SCALES = (1, 2, 5)
"""Panes in a batch."""

LEAST_BATCHES = 4
MEDIAN_OF_CHI_SQUARED = 0.455
"""That of the χ² with one degree of freedom, whose mean is 1."""

SIGNIFICANCE = 0.002
"""Chance at each length of batch that independent events look dependent."""

OF_STRETCHES = 0.02
"""The same of stretches as long as a window: of those there are few, so that half as much variance again is hard to
tell from chance, and it would let 95 % intervals cover 88 %. Believed in error it is small, so it costs little."""


class PaneSums(NamedTuple):
    """What panes hold of S variables: sums of C cells, (P, C), and how many events, (P, S).

    `mean`, (C,), is each cell's sum per event, `variance`, (C,), what its squared deviations are divided by, so that a
    variable's sum over cells has the expectation `dimensions`, (S,). `rarity`, (S,), is what rare bins or heavy tails
    add to the variance of a batch of one event.
    """

    sums: Floats
    n: Floats
    starts: Starts
    mean: Floats
    variance: Floats
    dimensions: Floats
    rarity: Floats

    def before(self, last: int) -> "PaneSums":
        """Return the panes before so many of the newest, with their own means."""
        sums, n = self.sums[:-last], self.n[:-last]
        mean = sums.sum(0) / np.maximum(self.spread(n.sum(0)), 1.0)
        return self._replace(sums=sums, n=n, mean=mean)

    def squared(self, deviations: Floats) -> Floats:
        """Return squared deviations from means, (K, C), in variances of a single event, (K, S)."""
        scale = np.where(self.variance > 0, self.variance, np.inf)
        return totals(deviations**2 / scale, self.starts) / np.maximum(self.dimensions, 1.0)

    def median_variance(self, far: Floats, n: Floats) -> Floats:
        """Return the variance beyond chance of means of `n` events that lie so `far`, (K, S): that of the median, (S,).

        In variances of a single event, as if all lay along one line.
        """
        by_chance = (1 - 2 / (9 * np.maximum(self.dimensions, 1.0))) ** 3  # Wilson and Hilferty 1931, of a χ² by degree
        beyond = np.where(n > 0, (far - by_chance / np.maximum(n, 1.0)) / MEDIAN_OF_CHI_SQUARED, 0.0)
        return np.maximum(_weighted_median(beyond, n), 0.0)

    def spread(self, of_variables: Floats) -> Floats:
        """Repeat a number of each variable, (..., S), over its cells, (..., C)."""
        return np.repeat(of_variables, sizes(self.starts, self.sums.shape[-1]), axis=-1)


def counts(panes: Floats, starts: Starts) -> PaneSums:
    """Take panes of counts in bins, (P, C)."""
    n = totals(panes, starts)
    bins = sizes(starts, panes.shape[-1])
    pooled = panes.sum(0)
    shares = pooled / np.repeat(np.maximum(n.sum(0), 1.0), bins)
    seen = totals((shares > 0).astype(np.float64), starts)
    inverse = totals(np.divide(1.0, shares, out=np.zeros_like(shares), where=shares > 0), starts)
    rarity = np.maximum(inverse - seen**2 - 2 * seen + 2, 0.0)  # Haldane 1937, Biometrika 29(1-2)
    return PaneSums(panes, n, starts, shares, shares, np.maximum(seen - 1, 0.0), rarity)


def means(n: Floats, sums: Floats, variances: Floats, kurtosis: Floats | float = 3.0) -> PaneSums:
    """Take panes of sums of S numbers, (P, S), of `n` events, (P,), each with a variance and a kurtosis, (S,)."""
    variables = sums.shape[-1]
    repeated = np.repeat(n[:, np.newaxis], variables, axis=1)
    ones = np.ones(variables)
    rarity = np.maximum(kurtosis - 3.0, 0.0) * ones
    mean = sums.sum(0) / max(float(n.sum()), 1.0)
    return PaneSums(sums, repeated, np.arange(variables), mean, np.maximum(variances, 0.0), ones, rarity)


def vector(n: Floats, sums: Floats, eigenvalues: Floats) -> PaneSums:
    """Take panes of a vector's sums, (P, D), of `n` events, (P,), whose covariance has these eigenvalues."""
    trace, squares = eigenvalues.sum(), np.square(eigenvalues).sum()
    dimensions = trace**2 / squares if squares > 0 else 0.0
    mean = sums.sum(0) / max(float(n.sum()), 1.0)
    variance = np.full(sums.shape[-1], trace / dimensions if dimensions else 0.0)
    return PaneSums(sums, n[:, np.newaxis], np.zeros(1, np.intp), mean, variance, np.full(1, dimensions), np.zeros(1))


def design_effects(panes: PaneSums) -> Floats:
    """Return by how much more the means of all panes vary than those of independent events, at short range, (S,)."""
    found = [_between_neighbours(panes, length) for length in SCALES if len(panes.n) // length > LEAST_BATCHES]
    return np.asarray(np.maximum.reduce(found, axis=0, initial=1.0), np.float64)


def _between_neighbours(panes: PaneSums, length: int) -> Floats:
    """Return the design effect that differences of successive batches show, (S,)."""
    sums, n = _joined(panes.sums, length), _joined(panes.n, length)
    both = (n[1:] > 0) & (n[:-1] > 0)
    shares = np.divide(sums, panes.spread(n), out=np.zeros_like(sums), where=panes.spread(n) > 0)
    size = np.divide(2.0, 1 / np.maximum(n[1:], 1.0) + 1 / np.maximum(n[:-1], 1.0)) * both
    far = panes.squared(np.diff(shares, axis=0)) / 2 * both
    pairs = both.sum(0).astype(np.float64)
    ratios = far * size
    largest = ratios.max(0)  # may be a change
    degrees = np.maximum(pairs - 1, 0.0) * panes.dimensions
    inverse = np.divide(1.0, size, out=np.zeros_like(size), where=both).sum(0)
    total = np.divide(
        (ratios.sum(0) - largest) * panes.dimensions, degrees, out=np.ones_like(degrees), where=degrees > 0
    )
    of_pairs = 1.5 * (2 * degrees + panes.rarity * inverse)  # of which neighbours share a batch
    dependent = (pairs >= LEAST_BATCHES) & _significant(_Dispersion(total, degrees, of_pairs), SIGNIFICANCE)
    batch = n.sum(0) / np.maximum((n > 0).sum(0), 1)
    return np.where(dependent, 1 + batch * panes.median_variance(far, size), 1.0)


def variance_between(panes: PaneSums, length: int) -> tuple[Floats, Floats]:
    """Return what stretches of `length` panes differ by beyond chance, and how many had events; (S,) each.

    In variances of a single event, ≥ 0: a stretch of n events has the design effect 1 + n times this. It is that of
    the median stretch, so a change is hardly an excuse for itself while it has lasted for less than a quarter of the
    panes. 0 where nothing is significant, or a single step explains it.
    """
    stretches, n = _joined(panes.sums, length), _joined(panes.n, length)
    count = (n > 0).sum(0).astype(np.float64)
    dependent = (count >= LEAST_BATCHES) & _significant(
        _dispersion(panes, _with_a_step(panes), length, 2), OF_STRETCHES
    )
    if not dependent.any():
        return np.zeros(len(count)), count
    of_cells = panes.spread(n)
    shares = np.divide(stretches, of_cells, out=np.tile(panes.mean, (len(n), 1)), where=of_cells > 0)
    far = panes.squared(shares - panes.mean)
    return np.where(dependent, panes.median_variance(far, n) * _student(count), 0.0), count


def concentrated(effects: Floats, dimensions: Floats, alpha: float) -> Floats:
    """Raise design effects for a test at level alpha, as if all dependence lay in one of the dimensions.

    The mean over a feature's bins says nothing of how they share it: an hour's rhythm moves them all along one line,
    and a χ² with one degree of freedom has the longer tail.
    """
    degrees = np.maximum(dimensions, 1.0)
    return 1 + (effects - 1) * chdtri(1.0, alpha) * degrees / chdtri(degrees, alpha)


class _Dispersion(NamedTuple):
    """X² over its degrees of freedom, these, and by how much it varies; (S,) each."""

    ratio: Floats
    degrees: Floats
    variance: Floats


def _dispersion(panes: PaneSums, expected: Floats, length: int, fitted: int) -> _Dispersion:
    """Return how far batches are from what is expected of their panes, (P, C), for which `fitted` means were fitted."""
    sums, n, of_batches = (_joined(part, length) for part in (panes.sums, panes.n, expected))
    scale = panes.spread(n) * panes.variance
    deviations = np.divide((sums - of_batches) ** 2, scale, out=np.zeros_like(scale), where=scale > 0)
    batches = (n > 0).sum(0).astype(np.float64)
    degrees = np.maximum(batches - fitted, 0.0) * panes.dimensions
    inverse = np.divide(1.0, n, out=np.zeros_like(n), where=n > 0).sum(0)
    squares = totals(deviations, panes.starts).sum(0)
    ratio = np.divide(squares, degrees, out=np.ones_like(squares), where=degrees > 0)
    return _Dispersion(ratio, degrees, 2 * degrees + panes.rarity * inverse)


def _significant(found: _Dispersion, chance: float) -> Flags:
    """Tell where independent events spread so far with a small chance: by the χ² of X²'s own mean and variance."""
    freedom = np.where(found.degrees > 0, 2 * found.degrees**2 / np.maximum(found.variance, 1e-9), 1.0)
    freedom = np.maximum(freedom, 1e-3)
    return np.asarray((found.degrees > 0) & (found.ratio * freedom > chdtri(freedom, chance)), np.bool_)


def _with_a_step(panes: PaneSums) -> Floats:
    """Return what is expected of each pane, (P, C), if a variable's mean changed once, where that explains most."""
    variables = np.arange(panes.n.shape[-1])
    before, n_before = np.cumsum(panes.sums, 0)[:-1], np.cumsum(panes.n, 0)[:-1]
    total, n_total = panes.sums.sum(0), panes.n.sum(0)
    n_after = n_total - n_before
    moved = (before - panes.spread(n_before) * panes.mean) ** 2
    moved = np.divide(moved, panes.variance, out=np.zeros_like(moved), where=panes.variance > 0)
    both = n_before * n_after
    gained = np.where(both > 0, totals(moved, panes.starts) * n_total / np.where(both > 0, both, 1.0), 0.0)
    last: Ints = gained.argmax(0)
    cells = np.repeat(last, sizes(panes.starts, panes.sums.shape[-1]))
    columns = np.arange(panes.sums.shape[-1])
    first = before[cells, columns] / panes.spread(np.maximum(n_before[last, variables], 1.0))
    second = (total - before[cells, columns]) / panes.spread(np.maximum(n_after[last, variables], 1.0))
    later = np.arange(len(panes.n))[:, np.newaxis] > cells
    return np.asarray(panes.spread(panes.n) * np.where(later, second, first), np.float64)


def _joined(panes: Floats, length: int) -> Floats:
    """Join panes, (P, ..), to batches of so many, the newest ones whole: (P // length, ..)."""
    whole = len(panes) // length
    return np.asarray(panes[len(panes) - whole * length :].reshape(whole, length, -1).sum(1), np.float64)


def _weighted_median(values: Floats, weights: Floats) -> Floats:
    """Return the median along the first axis, (S,), of values that count by their weights, (K, S) each."""
    order = values.argsort(0)
    passed = np.take_along_axis(weights, order, 0).cumsum(0)
    middle = (passed >= passed[-1] / 2).argmax(0)
    return np.asarray(np.take_along_axis(values, order, 0)[middle, np.arange(values.shape[1])], np.float64)


def _student(batches: Floats) -> Floats:
    """Return how many times its variance an interval by Student's t has, of so many batches."""
    return np.asarray((stdtrit(np.maximum(batches - 1, 1.0), 0.975) / Z) ** 2, np.float64)
