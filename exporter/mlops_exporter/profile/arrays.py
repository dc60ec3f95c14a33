"""Arrow columns by the one reading of a value: each function agrees cell by cell with those of `values`.

A file without types (CSV) comes as columns of text, and is read with `untyped`.
"""

from collections.abc import Collection
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlops_exporter.arrays import Flags, Floats, Ints
from mlops_exporter.profile.values import INVALID, MISSING_TEXTS, Codes, as_category, text_as_number

_PROBED = 64


def numbers(column: Any, missing: Collection[str] = MISSING_TEXTS, *, untyped: bool = False) -> Floats:
    """Return a column as numbers: NaN missing, infinity invalid. Dictionaries and decimals are read as their values.

    `untyped` lets texts be numbers.
    """
    type_ = value_type(column.type)
    if is_number(type_):
        found = floats(column)
        found[np.isinf(found)] = np.inf
        return found
    if pa.types.is_null(type_):
        return np.full(len(column), np.nan)
    if not is_text(type_) or not (untyped or missing):
        return np.where(valid(column), np.inf, np.nan)
    if untyped and (found_at_once := _cast(column)) is not None:
        return found_at_once
    texts, which = distinct(column)
    if untyped:
        each = [text_as_number(text, missing) for text in texts]
    else:
        each = [np.nan if text in missing else np.inf for text in texts]
    return np.array([*each, np.nan])[which]


def _cast(column: Any) -> Floats | None:
    """Return texts that are all numbers, as Arrow reads them; None where some are none."""
    try:
        floats(column.slice(0, _PROBED))  # since a cast spends a microsecond on each cell that is no number
        found = floats(column)
    except pa.ArrowInvalid:
        return None
    found[np.isinf(found)] = np.inf
    return found


def categories(column: Any, missing: Collection[str] = MISSING_TEXTS) -> tuple[list[object], Ints]:
    """Return distinct categories (None missing, INVALID what is none; the last is None), and which each cell is."""
    if not is_category(column.type):
        return [INVALID, None], np.where(valid(column), 0, 1)
    values, which = distinct(column)
    return [*(as_category(value, missing) for value in values), None], np.where(which < 0, len(values), which)


def codes(column: Any, table: Codes) -> Ints:
    """Return the code of each cell of a column of categories; what is no single value is invalid."""
    if not is_category(column.type):
        return np.where(valid(column), table[INVALID], table[None])
    values, which = distinct(column)
    names = (value if isinstance(value, str) else as_category(value) for value in values)  # the table knows its texts
    return np.array([*(table[name] for name in names), table[None]], np.intp)[which]


def valid(column: Any) -> Flags:
    """Return which cells are not null."""
    flags: Flags = column.is_valid().to_numpy(zero_copy_only=False)
    return flags


def floats(column: Any) -> Floats:
    """Return a column of numbers as float64, NaN where null."""
    array: Floats = np.array(plain(column).cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False))
    return array


def usual(column: Any) -> Any:
    """Return a column whose type is a usual one for the same values: no view of texts, no runs, no extension."""
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    if pa.types.is_run_end_encoded(column.type):
        column = pc.run_end_decode(column)
    if pa.types.is_struct(column.type):
        members = [usual(column.field(index)) for index in range(column.type.num_fields)]
        if any(member.type != field.type for member, field in zip(members, column.type, strict=True)):
            fields = [pa.field(field.name, member.type) for field, member in zip(column.type, members, strict=True)]
            return pa.StructArray.from_arrays(members, fields=fields, mask=column.is_null())
    view = getattr(pa.types, "is_string_view", None)
    return column.cast(pa.large_string()) if view is not None and view(column.type) else column


def distinct(column: Any) -> tuple[list[Any], Ints]:
    """Return the distinct values of a column, and the index of each cell's, -1 where null."""
    if pa.types.is_null(column.type):
        return [], np.full(len(column), -1)
    if not pa.types.is_dictionary(column.type):
        decimal = pa.types.is_decimal(column.type)  # which Arrow cannot encode in every version
        column = pc.dictionary_encode(column.cast(pa.string()) if decimal else column)
        if decimal:
            which = column.indices.cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False)
            return [Decimal(text) for text in column.dictionary.to_pylist()], which
    which = column.indices.cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False)
    return column.dictionary.to_pylist(), which


def plain(column: Any) -> Any:
    """Return a column of dictionary type as one of its values."""
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def value_type(type_: Any) -> Any:
    """Return a type, or that of its values for a dictionary."""
    return type_.value_type if pa.types.is_dictionary(type_) else type_


def is_text(type_: Any) -> bool:
    """Tell whether cells are texts."""
    type_ = value_type(type_)
    view = getattr(pa.types, "is_string_view", None)
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_) or (view is not None and view(type_)))


def is_number(type_: Any) -> bool:
    """Tell whether cells are numbers."""
    type_ = value_type(type_)
    return bool(pa.types.is_integer(type_) or pa.types.is_floating(type_) or pa.types.is_decimal(type_))


def is_category(type_: Any) -> bool:
    """Tell whether cells may be categories: texts, numbers, booleans, nulls."""
    type_ = value_type(type_)
    return bool(is_text(type_) or is_number(type_) or pa.types.is_boolean(type_) or pa.types.is_null(type_))
