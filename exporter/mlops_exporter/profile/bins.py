"""Bins of one variable (a feature, the score, the prediction, the label) and how values fall into them.

A variable owns a run of cells in the ledger. Numeric: underflow, the fine bins, overflow, invalid, missing.
Categorical: the categories, other, invalid, missing. Groups of neighbouring fine bins are the exported bins.
"""

from collections.abc import Sequence
from itertools import pairwise

import msgspec
import numpy as np

from mlops_exporter.arrays import Floats, Ints
from mlops_exporter.profile.values import Codes

FINE_PER_EXPORTED = 5
"""Fine bins inside one exported bin; with 10 exported bins, the binned KS statistic is exact to 0.02."""

BELOW, BEYOND, INVALID, MISSING = 0, -3, -2, -1
"""Special cells of a variable, counted from its first (BELOW) or from behind its last.

BELOW holds what lies below a numeric reference, BEYOND what lies above it or is in none of its categories, INVALID what
is of the wrong type. Those before INVALID hold the valid values.
"""


class NumericVariable(msgspec.Struct, tag_field="kind", tag="numeric", forbid_unknown_fields=True):
    """A numeric variable of the reference.

    `edges` are the m+1 ascending edges of the m fine bins [edge, next edge); `exported` the fine bins with which an
    exported bin begins (the first is 0); `counts` the m+4 reference counts in ledger order; `positions` the mean
    reference value of each fine bin (its middle where the reference has none).
    """

    edges: list[float]
    exported: list[int]
    counts: list[int]
    positions: list[float]
    mean: float
    standard_deviation: float

    @property
    def cells(self) -> int:
        """Number of ledger cells: m fine bins and underflow, overflow, invalid, missing."""
        return len(self.edges) + 3

    @property
    def boundaries(self) -> Floats:
        """Where sorted values are cut into the cells: the edges, then infinity (invalid) and NaN (missing)."""
        return np.array([*self.edges, np.inf, np.nan])

    @property
    def fine_starts(self) -> list[int]:
        """First cells of the fine bins: the outermost two take underflow and overflow in."""
        return [0, *range(2, len(self.edges))]

    @property
    def exported_starts(self) -> list[int]:
        """First cells of the exported bins, the outermost of which are open-ended."""
        return [0, *(index + 1 for index in self.exported[1:])]

    @property
    def exported_labels(self) -> list[tuple[str, str]]:
        """Labels `bin` and `range` of the exported bins, then of invalid and missing; that of one value 7 is [7,7]."""
        inner = [self.edges[index] for index in self.exported[1:]]
        after_value = [bool(edge == np.nextafter(before, np.inf)) for before, edge in pairwise([-np.inf, *inner])]
        lows = ["(-inf", *(f"{'[('[after]}{edge:.6g}" for edge, after in zip(inner, after_value, strict=True))]
        highs = [*(f"{edge:.6g}{')]'[after]}" for edge, after in zip(inner, after_value, strict=True)), "+inf)"]
        ranges = [f"{low},{high}" for low, high in zip(lows, highs, strict=True)]
        return [*((f"{i:02d}", text) for i, text in enumerate(ranges, 1)), ("invalid", ""), ("missing", "")]

    def validate(self, name: str) -> None:
        """Raise ValueError where the parts do not fit each other."""
        bins = len(self.edges) - 1
        if bins < 1 or not np.all(np.diff(self.edges) > 0) or not np.all(np.isfinite(self.edges)):
            raise ValueError(f"{name}: edges must be at least two finite ascending numbers")
        if len(self.counts) != bins + 4 or len(self.positions) != bins or min(self.counts) < 0:
            raise ValueError(f"{name}: {bins} fine bins need {bins + 4} counts of 0 or more and {bins} positions")
        if self.exported[:1] != [0] or not np.all(np.diff(self.exported) > 0) or self.exported[-1] >= bins:
            raise ValueError(f"{name}: exported must ascend from 0 and stay below {bins}")


class CategoricalVariable(msgspec.Struct, tag_field="kind", tag="categorical", forbid_unknown_fields=True):
    """A categorical variable of the reference; `counts` are those of the categories, other, invalid, missing."""

    categories: list[str]
    counts: list[int]

    @property
    def cells(self) -> int:
        """Number of ledger cells: one per category and other, invalid, missing."""
        return len(self.categories) + 3

    @property
    def exported_starts(self) -> list[int]:
        """First cells of the exported bins: each category, and other."""
        return list(range(len(self.categories) + 1))

    @property
    def codes(self) -> Codes:
        """Cell of each value, counted from the variable's first cell."""
        n = len(self.categories)
        return Codes(self.categories, other=n, invalid=n + 1, missing=n + 2)

    @property
    def exported_labels(self) -> list[tuple[str, str]]:
        """Labels `bin` and `range` of every cell; a category named like a special bin still differs by range."""
        return [*((name, name) for name in self.categories), ("other", ""), ("invalid", ""), ("missing", "")]

    def validate(self, name: str) -> None:
        """Raise ValueError where the parts do not fit each other."""
        if len(set(self.categories)) != len(self.categories):
            raise ValueError(f"{name}: categories must differ from each other")
        if len(self.counts) != self.cells or min(self.counts) < 0:
            raise ValueError(f"{name}: {len(self.categories)} categories need {self.cells} counts of 0 or more")


Variable = NumericVariable | CategoricalVariable


def quantile_edges(sample: Floats, minimum: float, maximum: float, exported_bins: int) -> tuple[list[float], list[int]]:
    """Return the edges of fine bins and the fine bins with which the exported bins begin.

    `sample` are finite values (n >= 1), `minimum` and `maximum` the extremes of all reference values. Fine bins hold
    about equal shares; a value that alone holds more than a fine bin's share gets a bin of its own, so that
    discrete features and point masses (many zeros) are told apart from what lies beside them. A constant has three
    exported bins, below, itself and above: in one alone, no statistic would ever see another value.
    """
    if minimum == maximum:
        above = np.nextafter(minimum, np.inf)
        edges = np.array([np.nextafter(minimum, -np.inf), minimum, above, np.nextafter(above, np.inf)])
        return edges.tolist(), [0, 1, 2]
    fine = exported_bins * FINE_PER_EXPORTED
    values, counts = np.unique(sample, return_counts=True)
    if len(values) <= fine:
        starts = values
    else:
        heavy = values[counts > len(sample) / fine]
        quantiles = np.quantile(sample, np.arange(1, fine) / fine)
        starts = np.unique(np.concatenate([[minimum], quantiles, heavy, np.nextafter(heavy, np.inf)]))
    starts = starts[(starts > minimum) & (starts <= maximum)]
    edges = np.concatenate([[minimum], starts, [np.nextafter(maximum, np.inf)]])
    below = np.searchsorted(np.sort(sample), edges[:-1]) / len(sample)
    exported = [0]
    for target in np.arange(1, exported_bins) / exported_bins:
        index = int(np.argmin(np.abs(below - target)))
        if index > exported[-1]:
            exported.append(index)
    return edges.tolist(), exported


def count_numeric(sorted_values: Floats, boundaries: Floats) -> Ints:
    """Count the values of each cell from values in NumPy's sort order (infinity, then NaN, last)."""
    below = np.searchsorted(sorted_values, boundaries)
    return np.diff(below, prepend=0, append=len(sorted_values))


def encode(values: Sequence[object], codes: Codes) -> Ints:
    """Return the cell of each value, counted from the variable's first cell."""
    return np.fromiter(map(codes.__getitem__, values), np.intp, len(values))
