"""The first pass over a table: what each column holds.

A column that looks like numbers is not looked at as categories, which costs far more. Where one turns out to be
categories after all, the table is read once more.
"""

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlops_exporter.arrays import Flags, Floats, Ints
from mlops_exporter.profile.arrays import indices, is_text
from mlops_exporter.tables import cells

SEED = 1

SAMPLE_ROWS = 100_000
"""Numbers per column from which quantiles are taken; exact up to that many rows."""

MAX_CATEGORIES = 100
"""Categories kept by name, the most frequent ones; the rest is `other`.

The most frequent ones *of a sample* are partly so by luck: their counts in that sample promise more than they keep, and
every window would seem to drift towards `other`. So where not all can be kept, one half of the rows chooses, and the
other half is counted.
"""

_LEAST_COUNT = 5
"""Rows of the half that chooses which must have a category, for it to be kept by name where not all can be."""

_TRACKED_CATEGORIES = 10_000
"""Distinct cells of a column after which no more are collected: what is not frequent by then is `other` anyway."""

_NUMERIC_SHARE = 0.95
_CODE = "^[+-]?0[0-9]+$"
_MARKERS = ("NA", "N/A", "#N/A", "<NA>", "NaN", "nan", "NaT", "null", "NULL", "None", "none")


class Draw:
    """Which rows are in a sample: those with the smallest keys.

    It never changes. Columns that have numbers in the same rows go from one draw to the next together, and what each
    step leaves of the rows is worked out once for all of them.
    """

    def __init__(self, keys: Sequence[Floats] = (), largest: float = 1.0) -> None:
        self._keys = keys
        self._largest = largest
        self.size = sum(map(len, keys))
        self._next: tuple[object, tuple[Draw, Ints | None]] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return Draw, (self._keys, self._largest)

    def with_rows(self, keys: Floats) -> "tuple[Draw, Ints | None]":
        """Return the draw of the rows that follow, too, and which of these are in it, None for all."""
        return self._step(keys, lambda: self._with_rows(keys))

    def with_draw(self, other: "Draw") -> "Draw":
        """Return the draw that has the rows of another one, too."""
        if not self.size:
            return other
        return self._step(other, lambda: (Draw([*self._keys, *other._keys], self._largest), None))[0]

    def cut(self, rows: int) -> "tuple[Draw, Ints | None]":
        """Return the draw of so many rows, and which of those of this one are in it, None for all."""
        return self._step(None, lambda: self._cut(rows)) if self.size > rows else (self, None)

    def forget_step(self) -> None:
        """Let go of the draw that others have gone on to: whoever stays would keep it, and all that follow it."""
        self._next = None

    def _step(self, of: object, made: "Callable[[], tuple[Draw, Ints | None]]") -> "tuple[Draw, Ints | None]":
        if self._next is None or self._next[0] is not of:
            self._next = of, made()
        return self._next[1]

    def _with_rows(self, keys: Floats) -> "tuple[Draw, Ints | None]":
        if self._largest == 1.0:
            return Draw([*self._keys, keys]), None
        chosen = np.flatnonzero(keys < self._largest)
        return Draw([*self._keys, keys.take(chosen)], self._largest), chosen

    def _cut(self, rows: int) -> "tuple[Draw, Ints | None]":
        keys = np.concatenate(self._keys)
        largest = float(np.partition(keys, rows)[rows])
        chosen = np.flatnonzero(keys < largest)
        return Draw([keys.take(chosen)], largest), chosen


class Column:
    """What the first pass learns of one column; columns that begin with the same `draw` share it."""

    def __init__(self, rows: int = 0, draw: Draw | None = None) -> None:
        self.rows = rows
        self.numbers = 0
        self.texts = 0
        self.categories: Counter[str] = Counter()
        self.unnamed = 0
        """Rows whose cells were numbers, and were not looked at as categories."""
        self._candidates: Counter[str] = Counter()
        self._categorised = 0
        self.minimum, self.maximum = math.inf, -math.inf
        self.mean = 0.0
        self._squares = 0.0
        self._draw = draw or Draw()
        self._values: list[Floats] = []
        self.missing = 0
        self.markers: Counter[str] = Counter()
        """How many cells say what elsewhere means a missing value, and here does not."""
        self.leading_zeros = 0
        self.temporal = False
        """Whether cells are dates or times."""
        self.nested = False
        """Whether cells are lists or structs that are no vectors."""
        self.whole = True
        """Whether all numbers are whole."""
        self._first = self._last = math.nan
        self._rising = self._falling = True
        self.half = False
        """Whether they came in half precision."""
        self.vectors = np.zeros((3, 0))
        """Of a column of vectors: n, sum and sum of squares of each dimension, (3, dimensions)."""

    @property
    def dimensions(self) -> int:
        """Length of the vectors, 0 for a column of single values."""
        return self.vectors.shape[1]

    def add(self, column: Any, keys: Floats, *, typed: bool, named: bool) -> Any:
        """Take in the cells of a block, and a random key in [0, 1) per row; `named` looks at numbers by name, too.

        Returns the column, as numbers where nothing else is wanted of it.
        """
        if cells.is_vector(column.type):
            self._add_vectors(column)
        self.half |= pa.types.is_float16(column.type)
        self.temporal |= pa.types.is_temporal(column.type)
        single = cells.is_vector(column.type) or cells.is_several(column.type)
        self.nested |= pa.types.is_nested(column.type) and not single
        numbers = cells.numbers(column, typed=typed)
        self.rows += len(numbers)
        finite = np.isfinite(numbers)
        if finite.all():
            values, texts, missing = numbers, 0, 0
            if is_text(column.type) and self.whole:
                self._look_for_codes(column)
        else:
            if is_text(column.type):
                column = cells.encoded(column)
                self._look_for_codes(column)
                self._look_for_markers(column)
            values, keys_of_numbers = numbers[finite], keys[finite]
            missing = int(np.count_nonzero(np.isnan(numbers)))
            texts = len(numbers) - len(values) - missing
        self.missing += missing
        self.texts += texts
        by_name = named or not _mostly(len(values), texts) or not len(values)
        if by_name:
            column = cells.encoded(column)
            self._add_categories(column, keys, typed=typed)
        else:
            self.unnamed += len(numbers)
        if len(values):
            self._add_numbers(values, keys if values is numbers else keys_of_numbers)
        return column if by_name else pa.array(numbers)

    def _add_vectors(self, column: Any) -> None:
        """Take in the vectors of a block, all as long as the first."""
        if not self.dimensions:
            self.vectors = np.zeros((3, cells.dimensions_of(column)))
        if self.dimensions:
            vectors = cells.vectors(column, self.dimensions).astype(np.float64)
            vectors = vectors[:, ~np.isnan(vectors[0])]
            self.vectors += [np.full(self.dimensions, vectors.shape[1]), vectors.sum(1), np.square(vectors).sum(1)]

    def _add_categories(self, column: Any, keys: Floats, *, typed: bool) -> None:
        if len(self.categories) >= _TRACKED_CATEGORIES:
            return
        found = cells.categories(column, typed=typed)
        counts = found.counts(chooses(keys))
        for name, (count, candidates) in zip(found.names, counts.tolist(), strict=True):
            if isinstance(name, str):
                self.categories[name] += count
                self._candidates[name] += candidates
        self._categorised = self.rows

    def _look_for_markers(self, column: Any) -> None:
        """Count texts that say what means a missing value elsewhere."""
        names = column.dictionary
        marked = pc.is_in(names, pa.array(_MARKERS, names.type))
        if marked.true_count:
            counts = np.bincount(indices(column) + 1, minlength=len(names) + 1)[1:]
            for place in np.flatnonzero(marked.to_numpy(zero_copy_only=False)).tolist():
                if counts[place]:
                    self.markers[names[place].as_py()] += int(counts[place])

    def _look_for_codes(self, column: Any) -> None:
        """Count numbers that are codes; what has had fractions has none."""
        if pa.types.is_dictionary(column.type):
            found = pc.match_substring_regex(column.dictionary, _CODE).to_numpy(zero_copy_only=False)
            if found.any():
                which = indices(column)
                self.leading_zeros += int(np.count_nonzero(found[which[which >= 0]]))
        else:
            self.leading_zeros += pc.match_substring_regex(column, _CODE).true_count

    def _add_numbers(self, values: Floats, keys: Floats) -> None:
        self.whole = self.whole and bool(np.all(values == np.floor(values)))
        if math.isnan(self._first):
            self._first = float(values[0])
        if self._rising or self._falling:
            before = np.concatenate([[self._last], values[:-1]])
            later = ~np.isnan(before)
            self._rising = self._rising and bool(np.all(values[later] > before[later]))
            self._falling = self._falling and bool(np.all(values[later] < before[later]))
            self._last = float(values[-1])
        self.minimum = min(self.minimum, float(values.min()))
        self.maximum = max(self.maximum, float(values.max()))
        with np.errstate(over="ignore", invalid="ignore"):  # of numbers too large, which are refused later
            mean = float(values.mean())
            deviations = values - mean
            self._add_moments(len(values), mean, float(np.square(deviations, out=deviations).sum()))
        self._add_to_sample(values, keys)

    def _add_moments(self, numbers: int, mean: float, squares: float) -> None:
        """Take in count, mean and squared deviations (Chan, Golub and LeVeque 1983, Am. Stat. 37(3))."""
        with np.errstate(over="ignore", invalid="ignore"):
            shift = np.float64(mean) - self.mean
            total = self.numbers + numbers
            self.mean = float(self.mean + shift * (numbers / total))
            self._squares = float(self._squares + squares + shift * shift * self.numbers * numbers / total)
        self.numbers = total

    def _add_to_sample(self, values: Floats, keys: Floats) -> None:
        """Keep the values with the smallest keys: a uniform sample of all."""
        self._draw, chosen = self._draw.with_rows(keys)
        self._values.append(values if chosen is None else values.take(chosen))
        if self._draw.size > 2 * SAMPLE_ROWS:
            self._cut_sample()

    def end_block(self, rows: int) -> None:
        """Take note that the table had so many rows by the end of a block, of this column or without it."""
        self.rows = rows
        self._draw.forget_step()

    def _cut_sample(self) -> None:
        """Keep the SAMPLE_ROWS values with the smallest keys."""
        self._draw, chosen = self._draw.cut(SAMPLE_ROWS)
        if chosen is not None:
            self._values = [np.concatenate(self._values).take(chosen)]

    def add_column(self, other: "Column") -> None:
        """Take in what was learned of the same column in the rows that follow."""
        if other._categorised and len(self.categories) < _TRACKED_CATEGORIES:
            self.categories.update(other.categories)
            self._candidates.update(other._candidates)
            self._categorised = self.rows + other._categorised
        for name in ("rows", "texts", "unnamed", "missing", "leading_zeros"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.markers.update(other.markers)
        for name in ("temporal", "nested", "half"):
            setattr(self, name, getattr(self, name) or getattr(other, name))
        self.whole = self.whole and other.whole
        if not self.dimensions:
            self.vectors = other.vectors
        elif other.dimensions == self.dimensions:
            self.vectors = self.vectors + other.vectors
        if not other.numbers:
            return
        self._rising = self._rising and other._rising and not self._last >= other._first
        self._falling = self._falling and other._falling and not self._last <= other._first
        self._first = other._first if math.isnan(self._first) else self._first
        self._last = other._last
        self.minimum, self.maximum = min(self.minimum, other.minimum), max(self.maximum, other.maximum)
        self._add_moments(other.numbers, other.mean, other._squares)
        self._draw, self._values = self._draw.with_draw(other._draw), self._values + other._values
        self._cut_sample()

    @cached_property
    def sample(self) -> Floats:
        """A uniform sample of SAMPLE_ROWS of the finite numbers, ascending; all of them where there are fewer.

        It is for when all rows are taken in: their keys are let go.
        """
        self._cut_sample()
        found = np.sort(np.concatenate([np.empty(0), *self._values]))
        self._values, self._draw = [found], Draw()
        return found

    @cached_property
    def _distinct(self) -> int:
        """How many numbers of the sample differ from each other."""
        return int(np.count_nonzero(np.diff(self.sample))) + bool(len(self.sample))

    @property
    def standard_deviation(self) -> float:
        """Return the population standard deviation of the finite numbers; that of a constant without rounding's."""
        return math.sqrt(self._squares / self.numbers) if self.minimum < self.maximum else 0.0

    @property
    def has_too_many_categories(self) -> bool:
        """Whether not all of its categories can be kept by name."""
        return len(self.categories) > MAX_CATEGORIES

    def kept_categories(self) -> list[str]:
        """Return the categories to be kept by name, sorted."""
        if not self.has_too_many_categories:
            return sorted(self.categories)
        frequent = sorted(self._candidates.items(), key=lambda item: (-item[1], item[0]))[:MAX_CATEGORIES]
        return sorted(name for name, count in frequent if count >= _LEAST_COUNT)

    @property
    def is_numeric(self) -> bool:
        """Whether nearly all present cells are numbers, and no codes."""
        marked = sum(count for text, count in self.markers.items() if text.lower() != "nan")
        return self.numbers > 0 and not self.leading_zeros and _mostly(self.numbers, max(self.texts - marked, 0))

    @property
    def monotone(self) -> bool:
        """Whether every number is above, or every one below, that of the row before."""
        return self._rising or self._falling

    @property
    def all_distinct(self) -> bool:
        """Whether no two numbers are equal, in the sample."""
        return self._distinct == len(self.sample)

    @property
    def mostly_distinct(self) -> bool:
        """Whether more than half of the numbers are the first of their kind, in the sample."""
        return 2 * self._distinct > len(self.sample)

    @property
    def is_empty(self) -> bool:
        """Whether no cell has a value."""
        return not self.numbers and not self.categories and not self.dimensions

    @property
    def looks_like_identifiers(self) -> bool:
        """Whether the cells are texts most of which differ."""
        distinct = len(self.categories)
        return not self.is_numeric and self.has_too_many_categories and 2 * distinct > self._categorised


def keys_of(rows: int, start: int, seed: int = SEED) -> Floats:
    """Return a random key in [0, 1) for each of so many rows from the number `start` on: it goes by the number alone.

    So it is the same whoever reads the row, and in whatever order.
    """
    return np.random.Generator(np.random.PCG64(seed).advance(start)).random(rows)


def survey(
    blocks: Iterable[Any],
    named: Collection[str],
    keep: Callable[[Any], None],
    *,
    typed: bool,
    unread: Collection[str] = (),
    start: int = 0,
) -> dict[str, Column]:
    """Return what each column of a table holds; the numbers of the `named` ones are looked at as categories, too.

    `keep` is given every block, columns of numbers as such. Of the `unread` ones only their names are taken in. The
    first row has the number `start`, where the blocks are a part of the table.
    """
    columns: dict[str, Column] = {}
    rows = 0
    for block in blocks:
        draw = Draw()
        keys = keys_of(block.num_rows, start + rows)
        kept: dict[str, Any] = {}
        for name in block.column_names:
            if name not in columns:
                columns[name] = Column(rows, draw)
            if name in unread:
                continue
            kept[name] = columns[name].add(block[name].chunk(0), keys, typed=typed, named=name in named)
        keep(pa.table(kept))
        rows += block.num_rows
        for column in columns.values():
            column.end_block(rows)
    return columns


def joined(parts: Iterable[dict[str, Column]]) -> dict[str, Column]:
    """Return what the columns of a table hold whose parts, in their order, hold this."""
    columns: dict[str, Column] = {}
    rows = 0
    for part in parts:
        here = next(iter(part.values())).rows if part else 0
        for name in {**columns, **part}:
            columns.setdefault(name, Column(rows)).add_column(part.get(name) or Column(here))
        rows += here
    return columns


def misjudged(columns: dict[str, Column]) -> set[str]:
    """Return the columns that are categories although some blocks looked like numbers."""
    return {
        name
        for name, column in columns.items()
        if column.unnamed and (column.texts or column.leading_zeros) and not column.is_numeric
    }


def chooses(keys: Floats) -> Flags:
    """Return which rows choose the categories that are kept by name, where not all can be; the others are counted."""
    return keys < 0.5


def _mostly(numbers: int, texts: int) -> bool:
    """Whether so many numbers beside so many texts make a column of numbers."""
    return numbers >= _NUMERIC_SHARE * (numbers + texts)
