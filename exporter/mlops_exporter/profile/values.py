"""The one reading of a value: what is missing, a number, a class or category, a probability, an id.

Whoever reads a value (profile build, events in JSON and Arrow, CloudEvents, replay) reads it by these functions, or
by those of `arrays` for whole Arrow columns, which agree with them cell by cell:

- missing: None, NaN, and the texts that the profile names (`missing`, the empty one unless said otherwise);
- number: an int, float or Decimal, not a boolean. A text is one only where a file has no types (CSV). What is no
  finite number is invalid, and stands as infinity in an array;
- class or category: a text. `1`, `1.0` and `"1"` are `1`; `true`, `"True"` and `"TRUE"` are `true`;
- probability: between 0 and 1, but for PROBABILITY_TOLERANCE;
- id: as a category, so that `125`, `125.0` and `"125.0"` are one.
"""

import math
import re
import struct
from collections.abc import Collection, Iterable, Sequence
from decimal import Decimal
from enum import Enum
from itertools import starmap
from typing import Any

import numpy as np

from mlops_exporter.arrays import Flags, Floats

_WHOLE_NUMBER = re.compile(r"([+-]?\d+)\.0+")

_BOOLEAN_TEXTS = {"True": "true", "TRUE": "true", "False": "false", "FALSE": "false"}
"""As pandas, R and spreadsheets write booleans."""

MISSING_TEXTS = ("",)
"""Texts that mean a missing value unless something else is said when the profile is built."""

PROBABILITY_TOLERANCE = 0.005
"""How far from its value a probability may be by rounding: that to two digits. It may lie so far outside of [0, 1],
and k of them may add up to so much more or less than 1, k times."""


class Invalid:
    """The marker of a value that cannot be what its feature is declared to be."""

    __slots__ = ()


INVALID = Invalid()

OTHER_TEXT = "\0other"
"""The value of the member that stands for any text that is no category."""


def canonical(value: object) -> str | None:
    """Return the string that stands for a class, category or id, or None for a missing value.

    Raises TypeError for what is no single value (a list, an object, a date).
    """
    if value is None:
        return None
    if isinstance(value, str):
        whole = _WHOLE_NUMBER.fullmatch(value)
        return whole[1] if whole else _BOOLEAN_TEXTS.get(value, value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, Decimal):
        whole_decimal = value.is_finite() and value == value.to_integral_value()
        return str(int(value)) if whole_decimal else canonical(float(value))
    if isinstance(value, float):
        if math.isnan(value):
            return None
        return str(int(value)) if value.is_integer() else _shortest(value)
    raise TypeError(f"a class or category is a string, a number or a boolean, not {type(value).__name__}")


def _shortest(value: float) -> str:
    """Return the shortest text of a number that is none of a whole; of one of single precision, what it was there."""
    if math.isfinite(value):
        single = np.float32(value) if abs(value) < 1e38 else np.float32(0)
        if float(single) == value:
            return str(single)
    return repr(value)


def as_category(value: object, missing: Collection[str] = MISSING_TEXTS) -> object:
    """Return the string that stands for a category, None for a missing value, INVALID for what is no single value."""
    if isinstance(value, str) and value in missing:
        return None
    try:
        return canonical(value)
    except TypeError:
        return INVALID


def as_number(value: object, missing: Collection[str] = MISSING_TEXTS) -> float:
    """Return a number, NaN for a missing value, infinity for what is no finite number."""
    if value is None or (isinstance(value, str) and value in missing):
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return math.inf
    try:
        return math.inf if math.isinf(found := float(value)) else found
    except (OverflowError, ValueError):
        return math.inf


def text_as_number(text: str, missing: Collection[str] = MISSING_TEXTS) -> float:
    """Return the number that a cell of a file without types holds; otherwise as `as_number`."""
    if text in missing:
        return math.nan
    if "_" in text or not text.isascii():  # Python reads `2024_01` as a number, which is a code
        return math.inf
    try:
        found = float(text)
    except ValueError:
        return math.inf
    return math.inf if math.isinf(found) else found


def probabilities(scores: Floats, *, exclusive: bool = True) -> tuple[Floats, Flags]:
    """Return probabilities (n, columns) cut to [0, 1], and which rows are none; NaN is missing.

    With several columns, one per class, they must add up to 1 where classes are `exclusive`. See PROBABILITY_TOLERANCE.
    """
    slack = PROBABILITY_TOLERANCE + 1e-9  # of the sum in floating point
    with np.errstate(invalid="ignore"):
        wrong: Flags = np.logical_or.reduce((scores < -slack) | (scores > 1 + slack), axis=1)
        if exclusive and scores.shape[1] > 1:
            wrong |= np.abs(scores.sum(axis=1) - 1) > scores.shape[1] * slack
    return np.clip(scores, 0.0, 1.0), wrong


class Codes(dict[object, int]):
    """Code of each category, by any value that means it; `other` for every other value.

    `missing` and `invalid` are the codes of None and of the marker INVALID; the `missing_texts` that are no category
    count as None. A look-up never fails and never grows the table. A JSON boolean must not be looked up raw, since
    Python holds True equal to 1: see `holds_booleans`.
    """

    def __init__(
        self,
        categories: Iterable[str],
        *,
        other: int,
        invalid: int,
        missing: int,
        missing_texts: Iterable[str] = MISSING_TEXTS,
    ) -> None:
        super().__init__()
        self.update(dict.fromkeys(missing_texts, missing))
        self.other = other
        self.names = names = list(categories)
        self.holds_booleans = bool(names) and set(names) <= {"true", "false"}
        for code, name in enumerate(names):
            self[name] = code
            if self.holds_booleans:
                self[name == "true"] = code
            elif (number := _number(name)) is not None:
                self[number] = code
        for text, name in _BOOLEAN_TEXTS.items():
            if name in self:
                self.setdefault(text, self[name])
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
        texts = {text: code for text, code in codes.items() if isinstance(text, str)}
        members = {f"T{number}": (code, text) for number, (text, code) in enumerate(texts.items())}
        make: Any = cls  # a call with members makes a subclass, not a member
        return make("Category", {**members, "OTHER": (codes.other, OTHER_TEXT)})


def floats(*several: Sequence[float | None] | Floats) -> Floats:
    """Return numbers one after the other as one new array, NaN for None.

    Packing is two to three times as fast as any way from a sequence to an array.
    """
    return np.frombuffer(bytearray().join(map(_packed, several)))


def table(rows: Iterable[tuple[float | None, ...]], count: int, width: int) -> Floats | None:
    """Return the columns of `count` rows of numbers, (width, count); None where one of them holds None.

    Packing whole rows takes half the time of packing their columns.
    """
    try:
        packed = b"".join(starmap(struct.Struct(f"{width}d").pack, rows))
    except struct.error:
        return None
    return np.frombuffer(packed).reshape(count, width).T


def _packed(values: Sequence[float | None] | Floats) -> bytes:
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
