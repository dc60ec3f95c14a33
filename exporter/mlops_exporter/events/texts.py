"""Where the events of a body of JSON stand: on lines, in an array, or one object over several lines."""

import json
from collections.abc import Generator, Iterator
from contextlib import suppress
from typing import Any

import msgspec
import numpy as np

from mlops_exporter.events.arrays import Elements
from mlops_exporter.events.formats import BYTE_ORDER_MARK
from mlops_exporter.events.reasons import MAX_EVENT_BYTES, Refused, TooManyEventsError

CHUNK_BYTES = 256 * 1024
"""Text decoded at a time: less makes more calls, more leaves the cache."""


def parse(text: bytes) -> Any:
    """Return a JSON value as lenient as it gets: with NaN and infinities, bytes that are no UTF-8 as lone surrogates.

    So a damaged id is not taken for another one. Raises Refused.
    """
    try:
        return json.loads(text.removeprefix(BYTE_ORDER_MARK).decode(errors="surrogateescape"))
    except (ValueError, RecursionError):
        raise Refused("malformed_json") from None


def is_json(text: bytes) -> bool:
    """Tell whether a text is JSON, as lenient as `parse` is."""
    try:
        parse(text)
    except Refused:
        return False
    return True


def is_one_object(text: bytes) -> bool:
    """Tell whether a body that begins with { is one object printed over several lines."""
    end = text.find(b"\n")
    if end < 0 or end == len(text) - 1:
        return False
    first = text[:end].rstrip()
    if len(first) > MAX_EVENT_BYTES or (first.endswith(b"}") and is_json(first)):
        return False  # the usual case, decided without a copy of the body
    return bool(text[end:].strip()) and len(text) <= MAX_EVENT_BYTES and is_json(text)


def are_json(text: bytes, elements: Elements) -> Generator[None, None, bool]:
    """Tell whether all elements of an array are JSON, or too long to be looked at."""
    with suppress(msgspec.MsgspecError, ValueError, RecursionError):
        msgspec.json.decode(text, type=msgspec.Raw)  # makes nothing of it
        return True
    for _, places in runs(elements):
        for place in places:
            if place.stop - place.start <= MAX_EVENT_BYTES and not is_json(text[place]):
                return False
            yield
    return True


def hold(events: int, limit: int | None) -> None:
    """Raise TooManyEventsError for more than `limit` events."""
    if limit is not None and events > limit:
        raise TooManyEventsError(limit)


def count_lines(text: bytes) -> int:
    """Return the number of lines; NumPy counts them several times as fast as `bytes.count`."""
    ends = np.count_nonzero(np.frombuffer(text, np.uint8) == ord("\n"))
    return int(ends) + (not text.endswith(b"\n"))


def lines_of(data: bytes | memoryview) -> tuple[int, bool]:
    """Return the number of lines, and whether each begins with { and those before the last end with }.

    No JSON value goes on from } to {, so no value then spans lines. The decoder of lines would let it, and would let
    several values share a line.
    """
    if isinstance(data, bytes) and data.find(b"\n", 0, len(data) - 1) < 0:
        return 1, True
    text = np.frombuffer(data, np.uint8)
    (ends,) = (text == ord("\n")).nonzero()
    count = len(ends) + int(text[-1] != ord("\n"))
    last = text[ends - 1].tobytes()
    if b"\r" in last:
        last = bytes(text[end - 2] if byte == ord("\r") else byte for end, byte in zip(ends, last, strict=True))
    starts = text[ends[: count - 1] + 1].tobytes()
    regular = text[0] == ord("{") and last.count(b"}") == len(last) and starts.count(b"{") == len(starts)
    return count, bool(regular)


def chunks(body: bytes) -> Iterator[bytes | memoryview]:
    """Cut a body at line ends into chunks that stay in the cache. A longer line is a chunk of its own."""
    if len(body) <= CHUNK_BYTES:
        if body.strip():
            yield body
        return
    view = memoryview(body)
    start = 0
    while start < len(body):
        end = body.rfind(b"\n", start, start + CHUNK_BYTES) + 1 or body.find(b"\n", start) + 1 or len(body)
        yield view[start:end]
        start = end


def runs(elements: Elements) -> Iterator[tuple[int, list[slice]]]:
    """Yield the number (from 1) of the first element of a run that stays in the cache, and where each lies."""
    return elements.chunks(CHUNK_BYTES)
