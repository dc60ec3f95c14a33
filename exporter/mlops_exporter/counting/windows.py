"""A rolling window: a ring of panes, each the ledger of a short stretch of time.

The window at `now` holds the panes that began within its length, so it covers between 59/60 and all of the length.
Totals are summed anew whenever a pane has come or gone, and nothing is ever subtracted from them: no rounding error
builds up, and a window whose traffic stopped empties as time goes by.

The windows of a job go by its time (`rhythm`) and back from its newest batch.
"""

from math import ceil
from typing import Any

import numpy as np

from mlops_exporter.arrays import Floats, Ints
from mlops_exporter.counting.rhythm import Rhythm

PANES = 60

_FIRST_CELLS = 3  # of a ledger predictions, failures and labels

_STRAY_SHARE = 0.01
"""So small a share of a window's events may be older than the others by chance: a wrong clock, an odd old event."""

Cells = list[tuple[slice, slice]]


def first_shown(length: float, now: float) -> float:
    """Return where the oldest pane starts of a window of that length that ends `now`."""
    width = length / PANES
    return (now // width + 1 - PANES) * width


class Window:
    """The sums of the last `length` seconds of event time, in `panes` panes; of a job's time where it has a rhythm.

    Of a job it can be asked as it was up to `delay` seconds ago.
    """

    def __init__(
        self, length: float, cells: int, panes: int = PANES, rhythm: Rhythm | None = None, delay: float = 0.0
    ) -> None:
        self.length = length
        self.width = length / panes
        self._count = panes
        self._rhythm = rhythm
        self._delay = delay
        slots = panes if rhythm is None else panes + ceil((rhythm.lag + delay) / self.width) + 1
        self.numbers = np.full(slots, -slots, np.int64)
        self.first = -slots
        """Number of the first pane that has counted everything of its time."""
        self.panes = np.zeros((slots, cells))
        self._newest = -1
        """The pane in which the window ended whose sum is `_total`; -1 for none."""
        self._oldest = -1
        """The first pane of that sum."""
        self._total = np.zeros(cells)

    @classmethod
    def of(cls, length: float, cells: int, rhythm: Rhythm | None) -> "Window":
        """Return the window of a configured length."""
        return cls(length if rhythm is None else rhythm.length(length), cells, rhythm=rhythm)

    @property
    def name(self) -> str:
        """By which a stored one is known: its length, whole, and the rhythm of a job."""
        delay = f" {self._delay:.17g} ago" if self._delay else ""
        return f"{self.length:.17g}" + (f" {self._rhythm.name}" if self._rhythm else "") + delay

    def time(self, moment: float) -> float:
        """Return the time by which the window goes, the job's or the clock's. Unix seconds in, seconds out."""
        return moment if self._rhythm is None else self._rhythm.time(moment)

    def number(self, moment: float) -> int:
        """Return the number of the pane of a moment, Unix seconds."""
        return int(self.time(moment) // self.width)

    def numbers_of(self, moments: Floats) -> Ints:
        """Return the numbers of the panes of several moments."""
        times = moments if self._rhythm is None else self._rhythm.times(moments)
        return (times // self.width).astype(np.intp)

    def _first_shown(self, now: float) -> int:
        """Return the number of the first pane of the window that ends `now`, or with the newest batch."""
        end = self.number(now)
        if self._rhythm is not None:
            predicted = self.numbers[(self.panes[:, 0] > 0) & (self.numbers <= end)]
            end = max([int(self._rhythm.expected(now) // self.width), *predicted.tolist()])
        return end - self._count + 1

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
        self.first = self.number(time) + 1

    def add(self, delta: Floats, time: float) -> bool:
        """Add counts to the pane of `time` (Unix seconds); False when the ring has moved past that pane."""
        number = self.number(time)
        slot = number % len(self.panes)
        if self.numbers[slot] > number:
            return False
        if self.numbers[slot] < number:
            self.numbers[slot] = number
            self.panes[slot] = 0.0
        self.panes[slot] += delta
        if number > self._newest or self._rhythm is not None:
            self._newest = -1
        elif number >= self._oldest:
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
        return self.number(time) >= self.first

    def holds(self, time: float) -> bool:
        """Whether the pane of `time` is in the ring, so that what it counted can still be changed."""
        number = self.number(time)
        return self.is_whole(time) and bool(self.numbers[number % len(self.panes)] == number)

    def forget_after(self, now: float) -> bool:
        """Empty the panes beyond `now`, but for the next; returns whether there were any.

        A clock that was ahead has made them. Until then they would refuse what is counted from now on.
        """
        ahead = self.numbers > self.number(now) + 1
        if not ahead.any():
            return False
        self._newest = -1
        self.numbers[ahead] = -len(self.numbers)
        self.panes[ahead] = 0.0
        return True

    def filled(self, begun: float, now: float) -> float:
        """Return the share of the length of which everything was counted here, where the first event was `begun`.

        Events of former times, that came all at once, fill it as well. A batch fills its own pause.
        """
        since = max(min(self.time(begun), self.begins(now)), self.first * self.width)
        if self._rhythm is None:
            counted = now - since
        else:
            newest = (self._first_shown(now) + self._count) * self.width
            counted = newest - since + self._rhythm.pause if newest > since else 0.0
        return min(max(counted / self.length, 0.0), 1.0)

    @property
    def events(self) -> float:
        """What the first cells of all panes add up to: it grows with every event of a ledger."""
        return float(self.panes[:, :_FIRST_CELLS].sum())

    def begins(self, now: float) -> float:
        """Return when the events of the window that ends `now` begin, but for strays; infinity without any."""
        events = np.cumsum(self.in_order(now, slice(_FIRST_CELLS)).sum(axis=1))
        if not events[-1]:
            return np.inf
        oldest = int(np.searchsorted(events, _STRAY_SHARE * events[-1], side="right"))
        pane = self.number(now) + 1 - len(self.panes) + oldest
        return pane * self.width if pane > self._first_shown(now) else self.time(now) - self.length

    def in_order(self, now: float, cells: slice) -> Floats:
        """Return these cells of the panes of the window that ends `now`, the oldest first; empty ones are 0."""
        wanted = self.number(now) + np.arange(1 - len(self.panes), 1)
        slots = wanted % len(self.panes)
        shown = (self.numbers[slots] == wanted) & (wanted >= self._first_shown(now))
        return np.asarray(self.panes[slots, cells] * shown[:, np.newaxis], np.float64)

    @property
    def by_clock(self) -> bool:
        """Whether it goes by the clock, not by the time of a job."""
        return self._rhythm is None

    def edges(self, now: float) -> Floats:
        """Return where the panes of `in_order` begin, and last where the newest ends, (panes + 1,)."""
        return np.asarray((self.number(now) + np.arange(1 - len(self.panes), 2)) * self.width, np.float64)

    def total(self, now: float, *, older_than: float = 0.0) -> Floats:
        """Return the sum of the panes within the window that ends `now`, of those `older_than` so many seconds.

        It is for reading only.
        """
        newest = self.number(now)
        oldest = self._first_shown(now)
        if older_than or newest != self._newest or oldest != self._oldest:
            live = self.numbers >= oldest
            live &= self.numbers <= self.number(now - older_than)
            total: Floats = self.panes[live].sum(axis=0)
            if older_than:
                return total
            self._newest, self._oldest, self._total = newest, oldest, total
        return self._total
