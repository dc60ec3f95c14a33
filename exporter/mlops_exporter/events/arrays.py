"""Where the elements of a JSON array begin and end, found without making anything of them.

An array of nothing but `{}` takes thirty times its size as Python objects, so a large one is never decoded as a whole.
Only quotes, brackets and commas matter for where an element ends; NumPy finds them a window at a time.
"""

import re
from collections.abc import Callable, Generator, Iterator
from typing import Any

import numpy as np

from mlops_exporter.events.reasons import Refused

WINDOW_BYTES = 64 * 1024
STEP_BYTES = 128 * 1024
"""Text that is parsed at a time."""

MAX_CONTAINERS = 200_000
"""Arrays and objects of a text that is parsed whole: each takes thirty times its text, and the collector's time."""

MAX_LONG_LEVELS = 16
"""Arrays and objects within each other that are each too long for one step: every one is looked through."""

_QUOTE, _COMMA, _OPEN, _CLOSE = 1, 2, 3, 4
_KINDS = np.zeros(256, np.uint8)
for _characters, _kind in ((b'"', _QUOTE), (b",", _COMMA), (b"[{", _OPEN), (b"]}", _CLOSE)):
    _KINDS[list(_characters)] = _kind
_STEPS = np.array([0, 0, 0, 1, -1], np.int32)
_ESCAPE = re.compile(rb"\\.", re.DOTALL)
_KEY = re.compile(rb'\s*("(?:[^"\\]|\\.)*+")\s*:', re.DOTALL)


class Elements:
    """Finds the elements of the array, or object, that begins at the first byte of a text, at most `limit` of them."""

    def __init__(self, text: bytes, limit: int | None = None) -> None:
        self._text = text
        self._limit = limit
        self._commas: list[np.ndarray[tuple[int], np.dtype[np.intp]]] = []
        self.count = 0
        """How many there are, or more than `limit`."""
        self.containers = 0
        """How many arrays and objects were begun in what was looked at."""
        self.end = -1
        """Where the array ends; -1 where it does not."""
        self.whole = False
        """Whether the array ends, and nothing comes after it."""

    def find(self) -> Iterator[None]:
        """Look for them, pausing after each window so that a caller can let others run."""
        text, depth, inside, escaped = self._text, 0, 0, False
        found = 1
        for start in range(0, len(text), WINDOW_BYTES):
            window = text[start : start + WINDOW_BYTES]
            if escaped:
                window, escaped = b"_" + window[1:], False
            if b"\\" in window:
                window = _ESCAPE.sub(b"__", window)
                escaped = window.endswith(b"\\")
            kinds = _KINDS[np.frombuffer(window, np.uint8)]
            at = np.flatnonzero(kinds)
            kinds = kinds[at]
            parity = np.cumsum(kinds == _QUOTE) + inside & 1
            outside = parity == 0
            depths = np.cumsum(np.where(outside, _STEPS[kinds], 0)) + depth
            self.containers += int(np.count_nonzero(outside & (kinds == _OPEN)))
            ends = np.flatnonzero(outside & (kinds == _CLOSE) & (depths == 0))
            if len(ends):
                end = start + int(at[ends[0]])
                commas = outside & (kinds == _COMMA) & (depths == 1)
                commas[ends[0] :] = False
                self._commas.append(at[commas] + start)
                self.whole = not text[end + 1 :].strip()
                self.end = end
                empty = found == 1 and not len(self._commas[-1]) and not text[1:end].strip()
                self.count = 0 if empty else found + len(self._commas[-1])
                return
            self._commas.append(at[outside & (kinds == _COMMA) & (depths == 1)] + start)
            found += len(self._commas[-1])
            if self._limit is not None and found > self._limit:
                self.count = found
                return
            if len(at):
                depth, inside = int(depths[-1]), int(parity[-1])
            yield

    def chunks(self, size: int) -> Iterator[tuple[int, list[slice]]]:
        """Yield the number (from 1) of the first element of a run, and where each lies: some `size` bytes a run."""
        if not self.count:
            return
        stops = np.append(np.concatenate(self._commas), self.end)
        starts = np.concatenate([[1], stops[:-1] + 1])
        first = 0
        while first < len(stops):
            last = max(first + 1, int(np.searchsorted(stops, starts[first] + size)))
            yield first + 1, [*map(slice, starts[first:last].tolist(), stops[first:last].tolist())]
            first = last


def parse_steps(text: bytes, parse: Callable[[bytes], Any], level: int = 0) -> Generator[None, None, Any]:
    """Return what `parse` makes of a JSON text, pausing after each little so that a caller can let others run.

    A long array or object is parsed by runs of its elements. Raises Refused, and whatever `parse` does.
    """
    if len(text) <= STEP_BYTES:
        return parse(text)
    text = text.strip()
    if text[:1] not in (b"[", b"{"):
        return parse(text)
    if level == MAX_LONG_LEVELS:
        raise Refused("event_too_large")
    elements = Elements(text)
    yield from elements.find()
    if elements.containers > MAX_CONTAINERS:
        raise Refused("event_too_large")
    opening, closing = text[:1], b"]" if text[:1] == b"[" else b"}"
    if not elements.whole or text[elements.end : elements.end + 1] != closing:
        raise Refused("malformed_json")
    array: list[Any] = []
    members: dict[str, Any] = {}
    for _, places in elements.chunks(STEP_BYTES):
        run = text[places[0].start : places[-1].stop]
        if len(run) > STEP_BYTES:  # of one element
            key = _KEY.match(run) if opening == b"{" else None
            if opening == b"{" and key is None:
                raise Refused("malformed_json")
            value = yield from parse_steps(run[key.end() if key else 0 :], parse, level + 1)
            if key:
                members[parse(key[1])] = value
            else:
                array.append(value)
        else:
            found = parse(opening + run + closing)
            if opening == b"[":
                array += found
            else:
                members.update(found)
        yield
    return array if opening == b"[" else members
