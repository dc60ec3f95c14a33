"""A rolling window: a ring of panes, each the ledger of a short stretch of time.

The window at `now` holds the panes that began within its length, so it covers between 59/60 and all of the length.
Totals are summed when asked for and nothing is ever subtracted: no rounding error builds up, and a window whose
traffic stopped empties as time goes by.
"""

import numpy as np
from numpy.typing import NDArray

PANES = 60

Floats = NDArray[np.float64]


class Window:
    """The sums of the last `length` seconds of event time."""

    def __init__(self, length: float, cells: int) -> None:
        self.length = length
        self.width = length / PANES
        self._numbers = np.full(PANES, -PANES, np.int64)
        self._panes = np.zeros((PANES, cells))

    def add(self, delta: Floats, time: float) -> bool:
        """Add counts to the pane of `time` (Unix seconds); False when the ring has moved past that pane."""
        number = int(time // self.width)
        slot = number % PANES
        if self._numbers[slot] > number:
            return False
        if self._numbers[slot] < number:
            self._numbers[slot] = number
            self._panes[slot] = 0.0
        self._panes[slot] += delta
        return True

    def total(self, now: float) -> Floats:
        """Return the sum of the panes within the window that ends `now`."""
        live = self._numbers > now // self.width - PANES
        total: Floats = self._panes[live].sum(axis=0)
        return total
