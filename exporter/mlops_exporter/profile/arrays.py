"""Arrow columns by the one reading of a value: each function agrees cell by cell with those of `values`.

A file without types (CSV) comes as columns of text, and is read with `untyped`.
"""

from collections.abc import Collection
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mlops_exporter.arrays import Flags, Floats, Ints
from mlops_exporter.profile.values import INVALID, MISSING_TEXTS, Codes, as_category, text_as_number

_PROBED = 64
_UUID_BYTES, _UUID_LENGTH = 16, 36
_UUID_DIGITS = np.array([place for place in range(_UUID_LENGTH) if place not in (8, 13, 18, 23)])
_HEXADECIMAL = np.frombuffer(b"0123456789abcdef", np.uint8)
_VARIANT_BYTE, _RFC_VARIANT = 8, 0b10


def _ids(*names: str) -> frozenset[int]:
    """Return the numbers of Arrow's types of these names, those that the installed version has."""
    return frozenset(number for name in names if (number := getattr(pa.lib, f"Type_{name}", None)) is not None)


# A type is told by its number, in a tenth of the time that the functions of `pa.types` take.
_TEXTS = _ids("STRING", "LARGE_STRING", "STRING_VIEW")
_VIEWS = _ids("STRING_VIEW", "BINARY_VIEW")
_BYTES = _ids("BINARY", "LARGE_BINARY", "FIXED_SIZE_BINARY", "BINARY_VIEW")
_NUMBERS = _ids(
    *("INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64"),
    *("HALF_FLOAT", "FLOAT", "DOUBLE", "DECIMAL32", "DECIMAL64", "DECIMAL128", "DECIMAL256"),
)
_CATEGORIES = _TEXTS | _NUMBERS | _ids("BOOL", "NA")
_USUAL = _ids("BOOL", "NA", "STRING", "LARGE_STRING", "DATE32", "DATE64", "TIMESTAMP") | _NUMBERS
(_DICTIONARY,) = _ids("DICTIONARY")


def numbers(column: Any, missing: Collection[str] = MISSING_TEXTS, *, untyped: bool = False) -> Floats:
    """Return a column as numbers: NaN missing, infinity invalid. Dictionaries and decimals are read as their values.

    `untyped` lets texts be numbers.
    """
    type_ = value_type(column.type)
    if is_number(type_):
        return _of_one_infinity(floats(column))
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
    return _of_one_infinity(found)


def _of_one_infinity(numbers: Floats) -> Floats:
    """Return numbers in which −∞ is ∞."""
    endless = np.isinf(numbers)
    return np.where(endless, np.inf, numbers) if endless.any() else numbers


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
    """Return a column of numbers as float64, NaN where null; for reading only, since it may be the column's memory."""
    array: Floats = doubles(plain(column)).to_numpy(zero_copy_only=False)
    return array


def doubles(column: Any) -> Any:
    """Return a column of numbers, or of texts that are such, as float64; a decimal as the double that is nearest.

    Arrow's own cast of decimals is off by one place in a tenth of the cases, and bins begin at values.
    """
    if column.type.id == pa.lib.Type_DOUBLE:
        return column
    column = column.cast(pa.string()) if pa.types.is_decimal(column.type) else column
    return column.cast(pa.float64(), safe=False)


def usual(column: Any) -> Any:
    """Return a column whose type is a usual one for the same values: no view, no runs, no extension, texts as such.

    Bytes are texts where all are UTF-8, as older programs write them, and UUIDs where they are 16 that are no text.
    """
    if column.type.id in _USUAL:
        return column
    if isinstance(column, pa.ExtensionArray):
        column = _uuids(column.storage) if column.type.extension_name == "arrow.uuid" else column.storage
    if pa.types.is_run_end_encoded(column.type):
        column = _without_runs(column)
    if pa.types.is_struct(column.type):
        members = [usual(column.field(index)) for index in range(column.type.num_fields)]
        if any(member.type != field.type for member, field in zip(members, column.type, strict=True)):
            fields = [pa.field(field.name, member.type) for field, member in zip(column.type, members, strict=True)]
            return pa.StructArray.from_arrays(members, fields=fields, mask=column.is_null())
    if column.type.id == _DICTIONARY:
        if column.type.value_type.id in _USUAL:
            return column
        values = usual(column.dictionary)
        same = values.type == column.dictionary.type
        return column if same else pa.DictionaryArray.from_arrays(column.indices, values)
    if is_text(column.type):  # of views
        return column.cast(pa.large_string())
    return _text_of_bytes(column) if column.type.id in _BYTES else column


def _text_of_bytes(column: Any) -> Any:
    may_be_uuids = pa.types.is_fixed_size_binary(column.type) and column.type.byte_width == _UUID_BYTES
    try:
        texts = column.cast(pa.large_binary()).cast(pa.large_string())
    except pa.ArrowInvalid:
        return _uuids(column) if may_be_uuids else column
    return _uuids(column) if may_be_uuids and _are_uuids(column) else texts


def _are_uuids(column: Any) -> bool:
    """Whether all have the variant of RFC 9562, by which a few of them might be UTF-8 as well, and an ASCII text not.

    There must be one at least.
    """
    given = _bytes_of(column)[valid(column)]
    return len(given) > 0 and bool((given[:, _VARIANT_BYTE] >> 6 == _RFC_VARIANT).all())


def _bytes_of(column: Any) -> NDArray[np.uint8]:
    """Return the bytes of a column of 16 each, (n, 16); of null any."""
    if not len(column):
        return np.empty((0, _UUID_BYTES), np.uint8)
    cells = np.frombuffer(column.buffers()[1], np.uint8).reshape(-1, _UUID_BYTES)
    return cells[column.offset :][: len(column)]


def _uuids(column: Any) -> Any:
    """Return 16 bytes each as the text of a UUID: 8-4-4-4-12 lower-case hexadecimal digits (RFC 9562)."""
    given = _bytes_of(column)
    texts = np.full((len(given), _UUID_LENGTH), ord("-"), np.uint8)
    digits = np.stack([given >> 4, given & 15], axis=-1).reshape(-1, 2 * _UUID_BYTES)
    texts[:, _UUID_DIGITS] = _HEXADECIMAL[digits]
    ends = pa.py_buffer(_UUID_LENGTH * np.arange(len(given) + 1, dtype=np.int64))
    found = pa.LargeStringArray.from_buffers(len(given), ends, pa.py_buffer(texts))
    return found if not column.null_count else pc.if_else(column.is_valid(), found, pa.scalar(None, found.type))


def viewed_bytes(column: Any) -> int:
    """Return the bytes of the cells of a column that are views, of which many may be of the same; of others 0."""
    kind = column.type
    if kind.id in _USUAL or not len(column):
        return 0
    if kind.id in _VIEWS:
        lengths = np.frombuffer(column.buffers()[1], np.int32)[::4][column.offset :][: len(column)]
        return int(lengths.sum(dtype=np.int64))
    if pa.types.is_struct(kind) or pa.types.is_union(kind):
        return sum(viewed_bytes(column.field(index)) for index in range(kind.num_fields))
    if pa.types.is_dictionary(kind):
        return viewed_bytes(column.dictionary)
    return viewed_bytes(column.values) if pa.types.is_nested(kind) or pa.types.is_run_end_encoded(kind) else 0


def _without_runs(column: Any) -> Any:
    """Return a column of runs cell by cell; texts as a dictionary, since each cell would take as much as the text."""
    values = usual(column.values)
    numbers = pa.array(np.arange(len(values)), mask=~valid(values))
    runs = pa.RunEndEncodedArray.from_arrays(column.run_ends, numbers).slice(column.offset, len(column))
    indices = pc.run_end_decode(runs)
    if pa.types.is_primitive(values.type) or pa.types.is_decimal(values.type) or pa.types.is_dictionary(values.type):
        return values.take(indices)
    return pa.DictionaryArray.from_arrays(indices, values)


def distinct(column: Any) -> tuple[list[Any], Ints]:
    """Return the distinct values of a column, and the index of each cell's, -1 where null."""
    if pa.types.is_null(column.type):
        return [], np.full(len(column), -1)
    if not pa.types.is_dictionary(column.type):
        decimal = pa.types.is_decimal(column.type)  # which Arrow cannot encode in every version
        column = pc.dictionary_encode(column.cast(pa.string()) if decimal else column)
        if decimal:
            return [Decimal(text) for text in column.dictionary.to_pylist()], indices(column)
    elif len(column.dictionary) > len(column) or column.dictionary.null_count:
        column = _of_what_it_uses(column)
    return column.dictionary.to_pylist(), indices(column)


def indices(column: Any) -> Ints:
    """Return the place of each cell in the dictionary of a column of codes, -1 where null."""
    found = column.indices
    found = found.cast(pa.int64()).fill_null(-1) if found.null_count else found  # a byte without sign has no -1
    return np.asarray(found.to_numpy(zero_copy_only=False), np.intp)


def _of_what_it_uses(column: Any) -> Any:
    """Return a column whose dictionary, which all parts of a table share, holds the values of this part alone."""
    used = pc.unique(column.indices).drop_null()
    return pa.DictionaryArray.from_arrays(pc.index_in(column.indices, value_set=used), column.dictionary.take(used))


def plain(column: Any) -> Any:
    """Return a column of dictionary type as one of its values."""
    return column.dictionary_decode() if column.type.id == _DICTIONARY else column


def value_type(type_: Any) -> Any:
    """Return a type, or that of its values for a dictionary."""
    return type_.value_type if type_.id == _DICTIONARY else type_


def is_text(type_: Any) -> bool:
    """Tell whether cells are texts."""
    return value_type(type_).id in _TEXTS


def is_number(type_: Any) -> bool:
    """Tell whether cells are numbers."""
    return value_type(type_).id in _NUMBERS


def is_category(type_: Any) -> bool:
    """Tell whether cells may be categories: texts, numbers, booleans, nulls."""
    return value_type(type_).id in _CATEGORIES
