"""How often a window without drift exceeds the critical value.

Each group of windows has its own reference sample, and the bins are quantiles of that very sample, as in production.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from mlops_exporter.statistics import drift, thresholds
from mlops_exporter.statistics.drift import Statistic

F64 = NDArray[np.float64]

COARSE: tuple[Statistic, ...] = ("psi", "js", "hellinger", "tvd")
FINE: tuple[Statistic, ...] = ("ks", "wasserstein")
SKEWED = np.array([0.9, 0.05, 0.03, 0.015, 0.005])


class References(NamedTuple):
    """Reference samples: counts and representative positions of their bins, and the truth, each (references, C)."""

    counts: F64
    positions: F64
    truth: F64


def numeric(rng: np.random.Generator, data: str, size: int, bins: int, references: int) -> References:
    """Bins: underflow, quantiles of the sample, overflow, and two for missing and invalid values that stay empty."""
    normal = np.sort(rng.standard_normal((references, size)), axis=1)
    values = np.exp(normal) if data == "log-normal" else normal
    edges = np.quantile(values, np.linspace(0, 1, bins + 1), axis=1).T
    inner = np.array([np.searchsorted(row, edge) for row, edge in zip(values, edges[:, 1:-1], strict=True)])
    inner = np.concatenate([np.zeros((references, 1), int), inner, np.full((references, 1), size)], axis=1)
    empty = np.zeros((references, 1))
    counts = np.concatenate([empty, np.diff(inner), empty, empty, empty], axis=1)
    running = np.concatenate([np.zeros((references, 1)), np.cumsum(values, axis=1)], axis=1)
    means = np.diff(np.take_along_axis(running, inner, axis=1)) / np.diff(inner)
    last = edges[:, -1:]
    positions = np.concatenate([edges[:, :1], means, last, last, last], axis=1) / values.std(axis=1, keepdims=True)
    below = ndtr(np.log(edges) if data == "log-normal" else edges)
    one = np.ones((references, 1))
    truth = np.diff(np.concatenate([0 * one, below, one], axis=1))
    return References(counts, positions, np.concatenate([truth, empty, empty], axis=1))


def categorical(rng: np.random.Generator, shares: F64, size: int, references: int) -> References:
    """Bins: the categories, and three for other, missing and invalid values that stay empty."""
    truth = np.tile(np.append(shares, [0.0, 0.0, 0.0]), (references, 1))
    counts = rng.multinomial(size, truth).astype(np.float64)
    return References(counts, np.tile(np.arange(float(truth.shape[1])), (references, 1)), truth)


def rates(
    rng: np.random.Generator,
    references: References,
    statistics: Sequence[Statistic],
    sizes: Sequence[int],
    alphas: Sequence[float],
    windows: int,
) -> dict[tuple[Statistic, int, float], float]:
    """Share of windows above the critical value, for `windows` windows of each size for each reference."""
    groups, cells = references.counts.shape
    reference = references.counts.ravel()
    starts = np.arange(0, groups * cells, cells)
    reference_n = drift.totals(reference, starts)
    coefficients = {(s, alpha): _coefficients(s, references, alpha) for s in statistics for alpha in alphas}
    result = {}
    for n in sizes:
        current = rng.multinomial(n, references.truth, size=(windows, groups)).reshape(windows, -1).astype(np.float64)
        for statistic in statistics:
            if statistic == "wasserstein":
                value = drift.wasserstein(current, reference, starts, references.positions.ravel())
            else:
                value = getattr(drift, statistic)(current, reference, starts)
            for alpha in alphas:
                table = coefficients[statistic, alpha]
                critical = thresholds.critical_value(statistic, table, np.full(groups, float(n)), reference_n)
                result[statistic, n, alpha] = float((value > critical).mean())
    return result


def _coefficients(statistic: Statistic, references: References, alpha: float) -> F64:
    """One row per reference; equal references, of which quantile bins make many, are computed once."""
    rows = references.counts
    if statistic == "wasserstein":
        rows = np.concatenate([rows, references.positions], axis=1)
    _, first, inverse = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    cells = references.counts.shape[1]
    starts = np.arange(0, len(first) * cells, cells)
    reference, positions = references.counts[first].ravel(), references.positions[first].ravel()
    return thresholds.coefficients([statistic], reference, starts, positions, alpha)[statistic][inverse]
