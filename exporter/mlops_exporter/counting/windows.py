"""A rolling window: a ring of panes, each the ledger of a short stretch of time.

The window at `now` holds the panes that began within its length, so it covers between 59/60 and all of the length.
Totals are summed anew whenever a pane has come or gone, and nothing is ever subtracted from them: no rounding error
builds up, and a window whose traffic stopped empties as time goes by.
"""

from typing import Any

import numpy as np

from mlops_exporter.arrays import Floats, Ints

PANES = 60

Cells = list[tuple[slice, slice]]


class Window:
    """The sums of the last `length` seconds of event time, in `panes` panes."""

    def __init__(self, length: float, cells: int, panes: int = PANES) -> None:
        self.length = length
        self.width = length / panes
        self.numbers = np.full(panes, -panes, np.int64)
        self.first = -panes
        """Number of the first pane that has counted everything of its time."""
        self.panes = np.zeros((panes, cells))
        self._newest = -1
        """The pane in which the window ended whose sum is `_total`; -1 for none."""
        self._total = np.zeros(cells)

    def state(self) -> dict[str, Any]:
        """Return what `restore` needs."""
        return {"numbers": self.numbers, "panes": self.panes, "first": self.first}

    def restore(self, state: dict[str, Any], cells: Cells | None = None) -> None:
        """Take over the panes of an equal window, or only the cells that lie elsewhere there: (here, there) pairs."""
        if len(state["numbers"]) != len(self.numbers):
            return
        self._newest = -1
        self.numbers[:] = state["numbers"]
        self.first = state["first"]
        for here, there in cells or [(slice(None), slice(None))]:
            self.panes[:, here] = state["panes"][:, there]

    def begin_after(self, time: float) -> None:
        """Note that events up to `time` were counted elsewhere, so that nothing of them can be changed here."""
        self.first = int(time // self.width) + 1

    def add(self, delta: Floats, time: float) -> bool:
        """Add counts to the pane of `time` (Unix seconds); False when the ring has moved past that pane."""
        number = int(time // self.width)
        slot = number % len(self.panes)
        if self.numbers[slot] > number:
            return False
        if self.numbers[slot] < number:
            self.numbers[slot] = number
            self.panes[slot] = 0.0
        self.panes[slot] += delta
        if number > self._newest:
            self._newest = -1
        elif number > self._newest - len(self.panes):
            self._total += delta
        return True

    def add_panes(self, numbers: Ints, delta: Floats, *, held: bool) -> None:
        """Add counts, (n, cells), to panes by their numbers, which ascend: to those that are whole.

        With `held` only to those that are in the ring already.
        """
        numbers, delta = numbers[-len(self.panes) :], delta[-len(self.panes) :]  # the others are in no window
        slots = numbers % len(self.panes)
        known = self.numbers[slots]
        taken = (numbers >= self.first) & ((known == numbers) if held else (known <= numbers))
        fresh = taken & (known < numbers)
        self.numbers[slots[fresh]] = numbers[fresh]
        self.panes[slots[fresh]] = 0.0
        self.panes[slots[taken]] += delta[taken]
        self._newest = -1

    def is_whole(self, time: float) -> bool:
        """Whether the pane of `time` has counted everything of its time."""
        return int(time // self.width) >= self.first

    def holds(self, time: float) -> bool:
        """Whether the pane of `time` is in the ring, so that what it counted can still be changed."""
        number = int(time // self.width)
        return self.is_whole(time) and bool(self.numbers[number % len(self.panes)] == number)

    def forget_after(self, now: float) -> bool:
        """Empty the panes beyond `now`, but for the next; returns whether there were any.

        A clock that was ahead has made them. Until then they would refuse what is counted from now on.
        """
        ahead = self.numbers > now // self.width + 1
        if not ahead.any():
            return False
        self._newest = -1
        self.numbers[ahead] = -len(self.numbers)
        self.panes[ahead] = 0.0
        return True

    def total(self, now: float, *, older_than: float = 0.0) -> Floats:
        """Return the sum of the panes within the window that ends `now`, of those `older_than` so many seconds.

        It is for reading only.
        """
        newest = int(now // self.width)
        if older_than or newest != self._newest:
            live = self.numbers > newest - len(self.panes)
            live &= self.numbers <= (now - older_than) // self.width
            total: Floats = self.panes[live].sum(axis=0)
            if older_than:
                return total
            self._newest, self._total = newest, total
        return self._total
