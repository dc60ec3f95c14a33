"""Progress on a terminal, for what takes longer than two seconds; nothing where nobody looks."""

import sys
import time
from typing import TextIO

QUIET_SECONDS = 2.0
_REDRAWN = 0.5


class Progress:
    """One line that is drawn again and again: rows, share, rate, time left."""

    def __init__(self, output: TextIO | None = None) -> None:
        self._output = sys.stderr if output is None else output
        self._start = time.monotonic()
        self._next = self._start + QUIET_SECONDS
        self._on_terminal = self._output.isatty()
        self._drawn = False

    def tell(self, rows: int, total: int | None) -> None:
        """Note how many rows are done, and of how many, None where nobody knows."""
        now = time.monotonic()
        done = total is not None and rows >= total
        if not self._on_terminal or (now < self._next and not (done and self._drawn)):
            return
        self._next = now + _REDRAWN
        self._output.write("\r\x1b[K" + ("" if done else line(rows, total, now - self._start)))
        self._output.flush()
        self._drawn = True

    def clear(self) -> None:
        """Take the line away."""
        if self._drawn:
            self._output.write("\r\x1b[K")
            self._output.flush()


def line(rows: int, total: int | None, seconds: float) -> str:
    """Return the line after so many seconds."""
    rate = rows / max(seconds, 1e-9)
    parts = [f"{rows:,} rows", f"{rate:,.0f} rows/s"]
    if total:
        left = (total - rows) / max(rate, 1e-9)
        parts.insert(1, f"{rows / total:.0%}")
        parts.append(f"{left // 60:.0f}m {left % 60:02.0f}s left")
    return ", ".join(parts)
