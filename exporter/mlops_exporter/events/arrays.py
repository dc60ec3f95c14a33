"""Where the elements of a JSON array begin and end, found without making anything of them.

An array of nothing but `{}` takes thirty times its size as Python objects, so a large one is never decoded as a whole.
Only quotes, brackets and commas matter for where an element ends; NumPy finds them a window at a time.
"""

import re
from collections.abc import Iterator

import numpy as np

WINDOW_BYTES = 64 * 1024

_QUOTE, _COMMA, _OPEN, _CLOSE = 1, 2, 3, 4
_KINDS = np.zeros(256, np.uint8)
for _characters, _kind in ((b'"', _QUOTE), (b",", _COMMA), (b"[{", _OPEN), (b"]}", _CLOSE)):
    _KINDS[list(_characters)] = _kind
_STEPS = np.array([0, 0, 0, 1, -1], np.int32)
_ESCAPE = re.compile(rb"\\.", re.DOTALL)


class Elements:
    """Finds the elements of the array that begins at the first byte of a text, at most `limit` of them."""

    def __init__(self, text: bytes, limit: int | None = None) -> None:
        self._text = text
        self._limit = limit
        self._commas: list[np.ndarray[tuple[int], np.dtype[np.intp]]] = []
        self.count = 0
        """How many there are, or more than `limit`."""
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
            ends = np.flatnonzero(outside & (kinds == _CLOSE) & (depths == 0))
            if len(ends):
                end = start + int(at[ends[0]])
                commas = outside & (kinds == _COMMA) & (depths == 1)
                commas[ends[0] :] = False
                self._commas.append(at[commas] + start)
                self.whole = not text[end + 1 :].strip()
                self._end = end
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
        stops = np.append(np.concatenate(self._commas), self._end)
        starts = np.concatenate([[1], stops[:-1] + 1])
        first = 0
        while first < len(stops):
            last = max(first + 1, int(np.searchsorted(stops, starts[first] + size)))
            yield first + 1, [*map(slice, starts[first:last].tolist(), stops[first:last].tolist())]
            first = last
