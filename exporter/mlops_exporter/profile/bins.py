"""Bins of one variable (a feature, the score, the prediction, the label) and how values fall into them.

A variable owns a run of cells in the ledger. Numeric: underflow, the fine bins, overflow, invalid, missing.
Categorical: the categories, other, invalid, missing. Groups of neighbouring fine bins are the exported bins.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from mlops_exporter.arrays import Floats, Ints, Singles
from mlops_exporter.profile.values import MISSING_TEXTS, Codes

FINE_PER_EXPORTED = 5
"""Fine bins inside one exported bin; with 10 exported bins, the binned KS statistic is exact to 0.02."""

BELOW, BEYOND, INVALID, MISSING = 0, -3, -2, -1
"""Special cells of a variable, counted from its first (BELOW) or from behind its last.

BELOW holds what lies below a numeric reference, BEYOND what lies above it or is in none of its categories, INVALID what
is of the wrong type. Those before INVALID hold the valid values.
"""

Precision = Literal["half", "single", "double"]
"""How many binary digits numbers have: 11, 24 or 53."""

_DTYPES: dict[Precision, Any] = {"half": np.float16, "single": np.float32, "double": np.float64}


class NumericVariable(msgspec.Struct, tag_field="kind", tag="numeric", forbid_unknown_fields=True):
    """A numeric variable of the reference.

    `edges` are the m+1 ascending edges of the m fine bins [edge, next edge); `exported` the fine bins with which an
    exported bin begins (the first is 0); `counts` the m+4 reference counts in ledger order; `positions` the mean
    reference value of each fine bin (its middle where the reference has none). `precision` is that at which values are
    told apart: see `quantile_edges`.
    """

    edges: list[float]
    exported: list[int]
    counts: list[int]
    positions: list[float]
    mean: float
    standard_deviation: float
    precision: Precision = "double"

    @property
    def cells(self) -> int:
        """Number of ledger cells: m fine bins and underflow, overflow, invalid, missing."""
        return len(self.edges) + 3

    @property
    def boundaries(self) -> Floats | Singles:
        """Where sorted values are cut into the cells: the edges, then infinity (invalid) and NaN (missing).

        In single precision these are the numbers with which the bins begin, for values `rounded_to` it.
        """
        edges = np.array(self.edges)
        if self.precision != "single":
            return np.array([*edges, np.inf, np.nan])
        return np.array([*_first_values(edges, "single"), np.inf, np.nan], np.float32)

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
        edges = np.array([self.edges[index] for index in self.exported[1:]])
        inner = _first_values(edges, self.precision).tolist()
        after_value = [bool(edge == _after(before, self.precision)) for before, edge in pairwise([-np.inf, *inner])]
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
        return self.codes_with(MISSING_TEXTS)

    def codes_with(self, missing: Iterable[str]) -> Codes:
        """Return the cell of each value, where the texts `missing` mean a missing one."""
        n = len(self.categories)
        return Codes(self.categories, other=n, invalid=n + 1, missing=n + 2, missing_texts=missing)

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


def quantile_edges(
    sample: Floats, minimum: float, maximum: float, exported_bins: int, precision: Precision = "double"
) -> tuple[list[float], list[int]]:
    """Return the edges of fine bins and the fine bins with which the exported bins begin.

    `sample` are finite values, ascending (n >= 1), `minimum` and `maximum` the extremes of all reference values. Fine
    bins hold about equal shares; a value that alone holds more than a fine bin's share gets a bin of its own, so that
    discrete features and point masses (many zeros) are told apart from what lies beside them. A constant has three
    exported bins, below, itself and above: in one alone, no statistic would ever see another value.

    In a `precision` coarser than double, an edge lies halfway before the value that it stands for and the number of
    that precision next below: so values fall into the same bin whether they were rounded to that precision or not.
    """
    if minimum == maximum:
        above = _after(minimum, precision)
        starts = np.array([_before(minimum, precision), minimum, above, _after(above, precision)])
        return _edges(starts, precision).tolist(), [0, 1, 2]
    fine = exported_bins * FINE_PER_EXPORTED
    values, counts = _distinct(_rounded(sample, precision))
    if len(values) <= fine:
        starts = values
    else:
        heavy = values[counts > len(sample) / fine]
        cuts = _rounded(quantiles(sample, np.arange(1, fine) / fine), precision)
        starts = np.unique(np.concatenate([cuts, heavy, _after(heavy, precision)]))
    lowest, highest = _rounded(np.array([minimum, maximum]), precision)
    starts = starts[(starts > lowest) & (starts <= highest)]
    edges = _edges(np.concatenate([[lowest], starts, [_after(highest, precision)]]), precision)
    below = np.searchsorted(sample, edges[:-1]) / len(sample)
    exported = [0]
    for target in np.arange(1, exported_bins) / exported_bins:
        index = int(np.argmin(np.abs(below - target)))
        if index > exported[-1]:
            exported.append(index)
    return edges.tolist(), exported


def precision_of(sample: Floats, minimum: float, maximum: float, exported_bins: int) -> Precision:
    """Return the precision at which values of a variable are told apart: single, unless that would merge bins.

    `sample` are finite values, ascending.

    Models take single precision, tables and JSON double, and the same value may come as either: so nothing finer is
    asked for than the bins need. Numbers that need more (seconds since 1970 within one hour, long codes) keep double.
    """
    values, counts = _distinct(sample)
    fine = exported_bins * FINE_PER_EXPORTED
    if len(values) > fine:
        heavy = values[counts > len(sample) / fine]
        values = np.unique(np.concatenate([quantiles(sample, np.arange(1, fine) / fine), heavy]))
    values = np.unique(np.concatenate([values, [minimum, maximum]]))
    single = _rounded(values, "single")
    return "single" if np.isfinite(single).all() and np.all(np.diff(single) > 0) else "double"


def quantiles(ascending: NDArray[Any], shares: Floats) -> Floats:
    """Return what np.quantile does, of values that are sorted already: that would sort them once more."""
    places = (len(ascending) - 1) * shares
    before = np.floor(places).astype(np.intp)
    low, high = ascending[before], ascending[np.minimum(before + 1, len(ascending) - 1)]
    part = places - before
    found: Floats = np.where(part < 0.5, low + (high - low) * part, high - (high - low) * (1 - part))
    return found


def _distinct(ascending: Floats) -> tuple[Floats, Ints]:
    """Return the distinct values of sorted ones, and how many there are of each."""
    starts = np.flatnonzero(np.concatenate([[True], ascending[1:] != ascending[:-1]]))
    return ascending[starts], np.diff(starts, append=len(ascending))


def edges_at(values: Floats, precision: Precision) -> Floats:
    """Return ascending edges, none twice, each of which parts a value and all above it from what lies below."""
    return np.unique(_edges(_rounded(values, precision), precision))


def _rounded(values: Floats, precision: Precision) -> Floats:
    with np.errstate(over="ignore"):
        return np.asarray(values, np.float64).astype(_DTYPES[precision]).astype(np.float64)


def _after(value: Any, precision: Precision) -> Any:
    dtype = _DTYPES[precision]
    return np.nextafter(np.asarray(value, dtype), np.array(np.inf, dtype)).astype(np.float64)


def _before(value: Any, precision: Precision) -> Any:
    dtype = _DTYPES[precision]
    return np.nextafter(np.asarray(value, dtype), np.array(-np.inf, dtype)).astype(np.float64)


def _first_values(edges: Floats, precision: Precision) -> Floats:
    """Return the numbers of a precision with which the bins begin: the reverse of `_edges`."""
    nearest = _rounded(edges, precision)
    return np.where(nearest < edges, _after(nearest, precision), nearest)


def _edges(starts: Floats, precision: Precision) -> Floats:
    """Return the edges of bins that begin with these values of a precision."""
    if precision == "double":
        return starts
    with np.errstate(over="ignore"):
        before = _before(starts, precision)
    return np.where(np.isfinite(before), (starts + before) / 2, starts)


def rounded_to(boundaries: Floats | Singles, values: Floats) -> Floats | Singles:
    """Return values in the precision of the boundaries: single floats sort twice as fast."""
    if boundaries.dtype == np.float64:
        return values
    with np.errstate(over="ignore"):
        singles = values.astype(np.float32)
    endless = singles == np.inf
    if endless.any():
        singles[endless & (values < np.inf)] = np.finfo(np.float32).max  # which is no infinity, but beyond all bins
    return singles


def count_numeric(values: Floats, boundaries: Floats | Singles) -> Ints:
    """Count the values of each cell."""
    found = np.sort(rounded_to(boundaries, values))
    below = found.searchsorted(boundaries)
    return np.diff(below, prepend=0, append=len(found))


def encode(values: Sequence[object], codes: Codes) -> Ints:
    """Return the cell of each value, counted from the variable's first cell."""
    return np.fromiter(map(codes.__getitem__, values), np.intp, len(values))
