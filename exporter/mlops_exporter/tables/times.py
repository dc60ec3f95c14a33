"""Cells of a table as times: with a zone, without one, or Unix seconds."""

from bisect import bisect_left
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlops_exporter.arrays import Floats
from mlops_exporter.profile.arrays import doubles, floats, is_number, is_text, plain
from mlops_exporter.tables.errors import TableError

_KINDS = (*(pa.timestamp(unit, zone) for unit in ("us", "ns") for zone in ("UTC", None)), pa.float64())


def parsed(texts: Any) -> Any:
    """Return texts as times, None where not all are such; all of them have a zone, or none has."""
    return next((found for kind in _KINDS if (found := _cast(texts, kind)) is not None), None)


def first_odd(texts: Any) -> int:
    """Return the place of the first text that is no time, or none like those before; not all are."""
    return max(_first_unlike(texts, kind) for kind in _KINDS)


def in_zone(column: Any, timezone: str) -> Any:
    """Return times with a zone, or numbers as they are, which are Unix seconds.

    What says no zone is of `timezone`.
    """
    if pa.types.is_date(column.type):
        column = column.cast(pa.timestamp("us"))
    if pa.types.is_timestamp(column.type) and column.type.tz is None:
        column = pc.assume_timezone(column, timezone, ambiguous="earliest", nonexistent="earliest")
    if pa.types.is_timestamp(column.type):
        return column.cast(pa.timestamp("us", "UTC"), safe=False)
    return column if not pa.types.is_decimal(column.type) else doubles(column)


def seconds(column: Any, timezone: str) -> Floats:
    """Return times as Unix seconds, (n,), NaN where there is none. Raises TableError."""
    if is_text(column.type):
        texts = plain(column)
        column = parsed(pc.if_else(pc.equal(texts, ""), pa.scalar(None, texts.type), texts))
        if column is None:
            raise TableError(_NO_TIMES)
    found = in_zone(column, timezone)
    if pa.types.is_timestamp(found.type):
        return floats(found.cast(pa.int64())) / 1e6
    if not is_number(found.type) and not pa.types.is_null(found.type):
        raise TableError(_NO_TIMES)
    if pa.types.is_null(found.type):
        return np.full(len(found), np.nan)
    numbers = floats(found)
    return np.where(np.isfinite(numbers), numbers, np.nan)


_NO_TIMES = "not all are times, as in 2026-11-01T12:00:00Z or Unix seconds"


def _cast(texts: Any, kind: Any) -> Any:
    try:
        return texts.cast(kind)
    except pa.ArrowInvalid:
        return None


def _first_unlike(texts: Any, kind: Any) -> int:
    """Return the place of the first text that is none of a kind, which not all are."""
    return bisect_left(range(1, len(texts)), True, key=lambda rows: _cast(texts.slice(0, rows), kind) is None)
