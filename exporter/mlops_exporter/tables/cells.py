"""Cells of a column as numbers or as categories: the same reading as that of events, without Python per cell.

In a typed file (NDJSON, Parquet, Arrow) a text is never a number, as in events; in CSV every cell is a text.
"""

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mlops_exporter.arrays import Flags, Floats, Ints, Singles
from mlops_exporter.profile.values import INVALID, canonical
from mlops_exporter.tables.readers import NUMBER, OTHER, TEXT

_NOT_A_NUMBER = r"^[+-]?[nN][aA][nN]$"  # a number, and a missing one
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"

_PROBED = 64


class Categories(NamedTuple):
    """Distinct names, or INVALID for what is no single value, and the index of each cell's, −1 where missing."""

    names: list[object]
    which: Ints

    def counts(self, rows: Flags | None = None) -> NDArray[np.int64]:
        """Return how many cells have each name, of all rows or of some."""
        which = self.which if rows is None else self.which[rows]
        return np.bincount(which + 1, minlength=len(self.names) + 1)[1:]

    def codes(self, table: Any) -> Ints:
        """Return the code of each cell by a table of codes that knows None and INVALID, too."""
        codes = np.array([*(table[name] for name in self.names), table[None]], np.intp)
        return codes[self.which]


def numbers(column: Any, *, typed: bool) -> Floats:
    """Return cells as numbers: NaN for missing ones, infinity for what is no finite number."""
    kind = column.type
    if pa.types.is_null(kind):
        return np.full(len(column), np.nan)
    if is_several(kind):
        values = _floats(column.field(0))
        for member in (column.field(1), column.field(2)):
            values[member.is_valid().to_numpy(zero_copy_only=False)] = np.inf
    elif is_number(kind):
        values = _floats(column)
    elif typed or not is_text(kind):
        return np.where(column.is_valid().to_numpy(zero_copy_only=False), np.inf, np.nan)
    else:
        values = _of_texts(_plain(column))
    values[np.isinf(values)] = np.inf
    return values


def _of_texts(column: Any) -> Floats:
    try:
        _floats(column.slice(0, _PROBED))  # since a cast spends a microsecond on each cell that is no number
        return _floats(column)
    except pa.ArrowInvalid:
        pass
    distinct = column.dictionary_encode()
    column, which = distinct.dictionary, distinct.indices.cast(pa.int64()).fill_null(-1).to_numpy()
    column = pc.utf8_trim_whitespace(column)
    fit = pc.match_substring_regex(column, _NUMBER)
    missing = pc.match_substring_regex(column, _NOT_A_NUMBER)
    values = _floats(pc.if_else(fit, column, pa.scalar(None, column.type)))
    values[~(fit.to_numpy(zero_copy_only=False) | missing.to_numpy(zero_copy_only=False))] = np.inf
    return np.asarray(np.append(values, np.nan)[which], np.float64)


def categories(column: Any, *, typed: bool) -> Categories:
    """Return cells as categories."""
    kind = column.type
    if pa.types.is_null(kind):
        return Categories([], np.full(len(column), -1))
    if is_several(kind):
        return _of_several(column)
    if not (is_text(kind) or is_number(kind) or pa.types.is_boolean(kind)):
        return Categories([INVALID], np.where(column.is_valid().to_numpy(zero_copy_only=False), 0, -1))
    if pa.types.is_decimal(_value_type(kind)):
        column = column.cast(pa.float64(), safe=False)
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    return _named([canonical(value) for value in column.dictionary.to_pylist()], indices(column))


def encoded(column: Any) -> Any:
    """Return a column of texts as codes and a dictionary, which costs to make; any other as it is."""
    return column if not is_text(column.type) or pa.types.is_dictionary(column.type) else column.dictionary_encode()


def _of_several(column: Any) -> Categories:
    texts = categories(column.field(1), typed=True)
    amounts = categories(column.field(0), typed=True)
    others = column.field(2).is_valid().to_numpy(zero_copy_only=False)
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


def indices(column: Any) -> Ints:
    """Return the place of each cell in the dictionary of a column of codes, −1 where missing."""
    return np.asarray(column.indices.cast(pa.int64()).fill_null(-1).to_numpy(), np.intp)


def vectors(column: Any, dimensions: int) -> Singles:
    """Return vectors as columns, (dimensions, n); NaN for what is no list of so many finite numbers."""
    found = np.full((dimensions, len(column)), np.nan, np.float32)
    if not is_vector(column.type):
        return found
    lengths = pc.list_value_length(column).fill_null(-1).to_numpy(zero_copy_only=False)
    fit = lengths == dimensions
    flat = _floats(column.filter(pa.array(fit)).flatten())
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


def is_text(kind: Any) -> bool:
    """Whether cells of a type are texts."""
    kind = _value_type(kind)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def is_number(kind: Any) -> bool:
    """Whether cells of a type are numbers."""
    kind = _value_type(kind)
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def is_vector(kind: Any) -> bool:
    """Whether cells of a type are lists of numbers."""
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return bool(lists and is_number(kind.value_type))


def is_several(kind: Any) -> bool:
    """Whether cells are numbers, texts or others, each in a member of a struct."""
    return bool(
        pa.types.is_struct(kind)
        and [kind.field(index).name for index in range(kind.num_fields)] == [NUMBER, TEXT, OTHER]
    )


def _value_type(kind: Any) -> Any:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _plain(column: Any) -> Any:
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _floats(column: Any) -> Floats:
    """Return a column of numbers as a new array of float64, NaN where null."""
    found = _plain(column).cast(pa.float64(), safe=False)
    values: Floats = np.asarray(found.to_numpy(zero_copy_only=False), np.float64)
    return values if values.flags.writeable else values.copy()
