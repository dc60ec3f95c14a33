"""How values of events, profiles and configuration are compared: classes and categories are strings.

`1`, `1.0` and `"1"` are all `1`, `true` is `true`, and so is pandas' `True` in a CSV file.
"""

import math
import re
import struct
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

_WHOLE_NUMBER = re.compile(r"([+-]?\d+)\.0+")

MISSING_TEXT = frozenset({"", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "none"})
"""Texts that mean a missing value in files without types (CSV)."""


class Invalid:
    """The marker of a value that cannot be what its feature is declared to be."""

    __slots__ = ()


INVALID = Invalid()

OTHER_TEXT = "\0other"
"""The value of the member that stands for any text that is no category."""


def canonical(value: object) -> str | None:
    """Return the string that stands for a class or category, or None for a missing value.

    Raises TypeError for what is no single value (a list, an object).
    """
    if value is None:
        return None
    if isinstance(value, str):
        whole = _WHOLE_NUMBER.fullmatch(value)
        return whole[1] if whole else value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        if math.isnan(value):
            return None
        return str(int(value)) if value.is_integer() else repr(value)
    raise TypeError(f"a class or category is a string, a number or a boolean, not {type(value).__name__}")


def canonical_text(cell: str) -> str | None:
    """Return `canonical` of a cell of an untyped file, where missing values and booleans are texts too."""
    if cell in MISSING_TEXT:
        return None
    if cell in ("True", "False", "TRUE", "FALSE"):  # pandas', and R's and spreadsheets'
        return cell.lower()
    return canonical(cell)


class Codes(dict[object, int]):
    """Code of each category, by any value that means it; `other` for every other value.

    `missing` and `invalid` are the codes of None and of the marker INVALID. A look-up never fails and never grows
    the table. A JSON boolean must not be looked up raw, since Python holds True equal to 1: see `holds_booleans`.
    """

    def __init__(self, categories: Iterable[str], *, other: int, invalid: int, missing: int) -> None:
        super().__init__()
        self.other = other
        self.names = names = list(categories)
        self.holds_booleans = bool(names) and set(names) <= {"true", "false"}
        for code, name in enumerate(names):
            self[name] = code
            if self.holds_booleans:
                self[name == "true"] = code
            elif (number := _number(name)) is not None:
                self[number] = code
        self[None] = missing
        self[INVALID] = invalid

    @property
    def only_texts(self) -> bool:
        """Whether no JSON number or boolean alone means a category."""
        return not self.holds_booleans and all(_number(name) is None and name != OTHER_TEXT for name in self.names)

    def __missing__(self, value: object) -> int:
        name = canonical(value)
        return self.other if name == value or name not in self else self[name]


class Category(float, Enum):
    """Categories that are texts, as the numbers of their codes: a typed decoder turns JSON to codes right away.

    To be filled by `of`. The value of a member is the text, and any other text means `OTHER`.
    """

    def __new__(cls, code: float, text: str) -> "Category":
        """Make a member: a number whose value, for the decoder, is a text."""
        member = float.__new__(cls, code)
        member._value_ = text
        return member

    @classmethod
    def _missing_(cls, value: object) -> "Category":
        return cls["OTHER"]

    @classmethod
    def of(cls, codes: Codes) -> Any:
        """Return the type of a category whose codes are `only_texts`."""
        members = {f"C{codes[name]}": (codes[name], name) for name in codes.names}
        make: Any = cls  # a call with members makes a subclass, not a member
        return make("Category", {**members, "OTHER": (codes.other, OTHER_TEXT)})


def floats(*several: Sequence[float | None] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Return numbers one after the other as one new array, NaN for None.

    Packing is two to three times as fast as any way from a sequence to an array.
    """
    return np.frombuffer(bytearray().join(map(_packed, several)))


def _packed(values: Sequence[float | None] | NDArray[np.float64]) -> bytes:
    if isinstance(values, np.ndarray):
        return values.tobytes()
    if len(values) and values[0] is None and values.count(None) == len(values):
        return np.full(len(values), np.nan).tobytes()
    try:
        return struct.pack(f"{len(values)}d", *values)
    except struct.error:  # of None
        return np.fromiter(values, np.float64, len(values)).tobytes()


def _number(name: str) -> float | None:
    """Return the JSON number whose canonical string is `name`, if there is one."""
    try:
        number = float(name)
    except ValueError:
        return None
    return number if math.isfinite(number) and canonical(number) == name else None
