"""Cells of a column of a table as numbers or as categories, by the one reading of a value (`profile.arrays`).

In a typed file (NDJSON, Parquet, Arrow) a text is never a number, as in events; in CSV every cell is a text.
"""

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mlops_exporter.arrays import Flags, Floats, Ints, Singles
from mlops_exporter.profile import arrays
from mlops_exporter.profile.arrays import distinct, floats, is_number, is_text, valid
from mlops_exporter.profile.sets import from_codes
from mlops_exporter.profile.values import INVALID, canonical
from mlops_exporter.tables.readers import NUMBER, OTHER, TEXT


class Categories(NamedTuple):
    """Distinct names, or INVALID for what is no single value, and the index of each cell's, −1 where missing."""

    names: list[object]
    which: Ints

    def counts(self, rows: Flags) -> NDArray[np.int64]:
        """Return how many cells have each name, of all rows and of some, (names, 2)."""
        of_both = np.bincount(2 * self.which + rows + 2, minlength=2 * len(self.names) + 2).reshape(-1, 2)[1:]
        of_both[:, 0] += of_both[:, 1]
        return of_both

    def codes(self, table: Any) -> Ints:
        """Return the code of each cell by a table of codes that knows None and INVALID, too."""
        codes = np.array([*(table[name] for name in self.names), table[None]], np.intp)
        return codes[self.which]


def numbers(column: Any, *, typed: bool) -> Floats:
    """Return cells as numbers: NaN for missing ones, infinity for what is no finite number."""
    if not is_several(column.type):
        return arrays.numbers(column, (), untyped=not typed)
    values = arrays.numbers(column.field(0)).copy()
    for member in (column.field(1), column.field(2)):
        values[valid(member)] = np.inf
    return values


def categories(column: Any, *, typed: bool) -> Categories:
    """Return cells as categories."""
    if is_several(column.type):
        return _of_several(column)
    if not arrays.is_category(column.type):
        return Categories([INVALID], np.where(valid(column), 0, -1))
    values, which = distinct(column)
    return _named([canonical(value) for value in values], which)


class Sets(NamedTuple):
    """Sets of names, one a cell: member i is `names[which[i]]` of the cell `rows[i]`, −1 missing.

    `present` are the cells that say a set.
    """

    names: list[object]
    which: Ints
    rows: Ints
    present: Flags

    def numbers(self, table: Any, classes: int) -> Floats:
        """Return the number of each set of classes, NaN where there is none, or one with what is no class."""
        codes = np.array([*(table[name] for name in self.names), table[None]], np.intp)[self.which]
        found, wrong = from_codes(self.rows, codes, len(self.present), classes)
        return np.where(self.present & ~wrong, found, np.nan)


def sets(column: Any, separator: str | None) -> Sets:
    """Return cells as sets of names: lists, or texts whose parts stand between `separator`s."""
    if is_list(column.type):
        members = categories(column.flatten(), typed=True)
        lengths = pc.list_value_length(column).fill_null(0).to_numpy(zero_copy_only=False)
        return Sets(members.names, members.which, np.repeat(np.arange(len(column)), lengths), valid(column))
    texts = categories(column, typed=True)
    parts = [[canonical(part.strip()) for part in str(name).split(separator) if part.strip()] for name in texts.names]
    names = dict.fromkeys(part for several in parts for part in several)
    places = {name: place for place, name in enumerate(names)}
    flat = np.array([places[part] for several in parts for part in several], np.intp)
    lengths_of = np.array([*map(len, parts), 0], np.intp)
    starts, lengths = (np.cumsum(lengths_of) - lengths_of)[texts.which], lengths_of[texts.which]
    within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    which = flat[np.repeat(starts, lengths) + within]
    return Sets(list(names), which, np.repeat(np.arange(len(column)), lengths), texts.which >= 0)


def encoded(column: Any) -> Any:
    """Return a column of texts as codes and a dictionary, which costs to make; any other as it is."""
    return column if not is_text(column.type) or pa.types.is_dictionary(column.type) else column.dictionary_encode()


def _of_several(column: Any) -> Categories:
    texts = categories(column.field(1), typed=True)
    amounts = categories(column.field(0), typed=True)
    others = valid(column.field(2))
    which = np.where(texts.which >= 0, texts.which, -1)
    which = np.where(amounts.which >= 0, amounts.which + len(texts.names), which)
    invalid = len(texts.names) + len(amounts.names)
    which = np.where(others, invalid, which)
    return _named([*texts.names, *amounts.names, INVALID], which)


def _named(names: list[object], which: Ints) -> Categories:
    """Return categories by names that may repeat, or be None: each name once."""
    places: dict[object, int] = {}
    index = [-1 if name is None else places.setdefault(name, len(places)) for name in names]
    return Categories(list(places), np.array([*index, -1], np.intp)[which])


def vectors(column: Any, dimensions: int) -> Singles:
    """Return vectors as columns, (dimensions, n); NaN for what is no list of so many finite numbers."""
    found = np.full((dimensions, len(column)), np.nan, np.float32)
    if not is_vector(column.type):
        return found
    lengths = pc.list_value_length(column).fill_null(-1).to_numpy(zero_copy_only=False)
    fit = lengths == dimensions
    flat = floats(column.filter(pa.array(fit)).flatten())
    with np.errstate(over="ignore"):
        values = flat.astype(np.float32).reshape(-1, dimensions).T
    found[:, fit] = np.where(np.isfinite(values).all(axis=0), values, np.float32(np.nan))
    return found


def dimensions_of(column: Any) -> int:
    """Return the length of the first vector of a column, 0 where it has none."""
    if not is_vector(column.type):
        return 0
    lengths = pc.list_value_length(column.drop_null())
    return int(lengths[0].as_py()) if len(lengths) else 0


def is_vector(kind: Any) -> bool:
    """Whether cells of a type are lists of numbers."""
    return is_list(kind) and bool(is_number(kind.value_type))


def is_list(kind: Any) -> bool:
    """Whether cells of a type are lists."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def is_several(kind: Any) -> bool:
    """Whether cells are numbers, texts or others, each in a member of a struct."""
    return bool(
        pa.types.is_struct(kind)
        and [kind.field(index).name for index in range(kind.num_fields)] == [NUMBER, TEXT, OTHER]
    )
