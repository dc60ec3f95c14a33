"""The counts of one version of a model: its whole life in one ledger, and its windows."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from mlops_exporter.arrays import Floats
from mlops_exporter.counting.change import ChangeMonitor
from mlops_exporter.counting.ledger import Layout
from mlops_exporter.counting.rhythm import Rhythm
from mlops_exporter.counting.windows import PANES, Cells, Window
from mlops_exporter.events import clock
from mlops_exporter.events.reasons import CLOCK_SKEW_SECONDS

COVERAGE_PANES = 4096

LEAST_STRETCHES = 8
"""Stretches of a window's length that must have been to tell how they differ."""

_COARSEST = 1.6
"""Lengths of a window that a pane may have to tell of it, since longer stretches differ by less than it may: those of
24h tell of 15m."""


class Version:
    """The counts of one model version: all of its life in one ledger, and its windows."""

    def __init__(
        self,
        name: str,
        layout: Layout,
        lengths: Sequence[float],
        label_delay: float,
        changes: ChangeMonitor | None = None,
        rhythm: Rhythm | None = None,
    ) -> None:
        self.name = name
        self.place = 0
        """By which the join knows it."""
        self.changes = changes
        self.lifetime = layout.zeros()
        self.windows = [Window.of(length, layout.size, rhythm) for length in lengths]
        self.histories = _histories(self.windows, layout.size, rhythm)
        """Sixty stretches each: how much stretches as long as a window differ, where no window tells."""
        self._rhythm = rhythm
        self.coverage = [_coverage(length, label_delay, rhythm) for length in lengths]
        """Predictions, and those of them that got their label, by the time of the prediction."""
        self.last_prediction: float | None = None
        self.last_label: float | None = None
        self.begun: float | None = None
        """When the first event arrived that was counted here."""
        self.seen = 0.0
        """When its last event arrived."""
        self.newest = -math.inf
        """The time of the newest event that was admitted since the start: it may not be counted yet."""
        self.unlabelled = 0

    @property
    def rings(self) -> list[Window]:
        """Windows of ledgers."""
        return [*self.windows, *self.histories]

    def forget_after(self, now: float) -> bool:
        """Forget the windows and times that a clock which was ahead has made; returns whether there were any."""
        found = sum(window.forget_after(now) for window in [*self.rings, *self.coverage]) > 0
        latest = now + CLOCK_SKEW_SECONDS
        if self.changes is not None:
            self.changes.forget_after(latest)
        if (self.last_prediction or 0.0) > latest:
            self.last_prediction, found = None, True
        if (self.begun or 0.0) > latest:
            self.begun = now
        if (self.last_label or 0.0) > latest:
            self.last_label, found = None, True
        return found

    def state(self) -> dict[str, Any]:
        """Return what `restore` needs, as a tree of arrays and numbers."""
        return {
            "lifetime": self.lifetime,
            "windows": {window.name: window.state() for window in self.rings},
            "coverage": {window.name: window.state() for window in self.coverage},
            "last_prediction": self.last_prediction,
            "last_label": self.last_label,
            "begun": self.begun,
            "seen": self.seen,
            "unlabelled": self.unlabelled,
            "changes": self.changes.state() if self.changes else {},
        }

    def restore(self, state: dict[str, Any], cells: Cells) -> None:
        """Take over the counts of `state`, as far as they are still kept: (here, there) pairs of ledger sections."""
        for here, there in cells:
            self.lifetime[here] = state["lifetime"][there]
        for name, windows, kept in (("windows", self.rings, cells), ("coverage", self.coverage, None)):
            for window in windows:
                stored = state[name].get(window.name)
                if stored is not None:
                    window.restore(stored, kept)
                else:
                    latest = max(state["last_prediction"] or 0.0, state["last_label"] or 0.0)
                    window.begin_after(min(latest, clock.now()))  # a clock may have been ahead
        self.last_prediction = state["last_prediction"]
        self.last_label = state["last_label"]
        self.begun = state.get("begun", 0.0 if self.last_prediction or self.last_label else None)
        self.seen = state.get("seen", 0.0)
        self.unlabelled = state["unlabelled"]
        if self.changes is not None:
            self.changes.restore(state.get("changes", {}))

    def add(self, delta: Floats, time: float, arrived: float = -math.inf) -> None:
        """Add the counts of events of one pane, the last of which `arrived` then."""
        self.lifetime += delta
        if self.begun is None:
            self.begun = max(time, arrived)
        for window in self.rings:
            window.add(delta, time)

    def move(self, old: Floats, new: Floats, time: float) -> None:
        """Replace counts of one pane by others, in the windows that still hold them; counters never go back."""
        for window in self.rings:
            if window.holds(time):
                window.add(new - old, time)

    def cover(self, times: Floats, *, labelled: bool) -> None:
        """Count predictions made at `times` that expect a label, or those of them that have got it."""
        if not len(times):
            return
        oldest, newest = float(times.min()), float(times.max())
        for window in self.coverage:
            if window.number(oldest) == window.number(newest):  # most batches
                numbers, counts = np.array([window.number(newest)]), np.array([len(times)])
            else:
                numbers, counts = np.unique(window.numbers_of(times), return_counts=True)
            delta = np.zeros((len(numbers), 2))
            delta[:, int(labelled)] = counts
            window.add_panes(numbers, delta, held=labelled)  # only labels of predictions counted here

    def cover_pane(self, time: float, expecting: float, labelled: float) -> None:
        """Count so many predictions of one pane that expect a label, and those of them that have got it."""
        for window in self.coverage:
            number = np.array([window.number(time)])
            window.add_panes(number, np.array([[expecting, 0.0]]), held=False)
            window.add_panes(number, np.array([[0.0, labelled]]), held=True)

    def label_coverage(self, now: float, delay: float) -> list[float]:
        """Return the labelled share of each window's predictions that are older than `delay`; NaN without any.

        A job's windows are those of that time: the newest batches that are as old.
        """
        if self._rhythm is None:
            sums = [window.total(now, older_than=delay) for window in self.coverage]
        else:
            sums = [window.total(now - delay) for window in self.coverage]
        return [labelled / expecting if expecting else np.nan for expecting, labelled in sums]

    def filled(self, now: float) -> Floats:
        """Return of each window the share of its length of which everything was counted here, (W,)."""
        if self.begun is None:
            return np.zeros(len(self.windows))
        return np.array([window.filled(self.begun, now) for window in self.windows])

    def totals(self, now: float) -> Floats:
        """Return the sums of all windows, (W, cells)."""
        return np.stack([window.total(now) for window in self.windows])


def _histories(windows: Sequence[Window], cells: int, rhythm: Rhythm | None) -> list[Window]:
    """Return rings for the windows of which no other tells: always for the longest, and for those near to it."""
    made: list[Window] = []
    for window in sorted(windows, key=lambda each: -each.length):
        if not any(
            ring.length >= LEAST_STRETCHES * window.length and ring.width <= _COARSEST * window.length
            for ring in [*windows, *made]
        ):
            made.append(Window(PANES * window.length, cells, rhythm=rhythm))
    return made


def _coverage(length: float, delay: float, rhythm: Rhythm | None) -> Window:
    """Return the window of predictions that expect a label, and of those that got it."""
    if rhythm is None:
        return Window(length + delay, 2, min(COVERAGE_PANES, round(PANES * (1 + delay / length))))
    length = rhythm.length(length)
    panes = min(PANES, max(1, int(COVERAGE_PANES * length / (length + delay + rhythm.lag))))
    return Window(length, 2, panes, rhythm, delay)
