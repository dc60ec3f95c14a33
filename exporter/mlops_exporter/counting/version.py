"""The counts of one version of a model: its whole life in one ledger, and its windows."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from mlops_exporter.arrays import Floats
from mlops_exporter.counting.change import ChangeMonitor
from mlops_exporter.counting.ledger import Layout
from mlops_exporter.counting.windows import PANES, Cells, Window
from mlops_exporter.events import clock
from mlops_exporter.events.reasons import CLOCK_SKEW_SECONDS

COVERAGE_PANES = 4096


class Version:
    """The counts of one model version: all of its life in one ledger, and its windows."""

    def __init__(
        self,
        name: str,
        layout: Layout,
        lengths: Sequence[float],
        label_delay: float,
        changes: ChangeMonitor | None = None,
    ) -> None:
        self.name = name
        self.place = 0
        """By which the join knows it."""
        self.changes = changes
        self.lifetime = layout.zeros()
        self.windows = [Window(length, layout.size) for length in lengths]
        self.coverage = [
            Window(
                length + label_delay,
                2,
                min(COVERAGE_PANES, round(PANES * (1 + label_delay / length))),
            )
            for length in lengths
        ]
        """Predictions, and those of them that got their label, by the time of the prediction."""
        self.last_prediction: float | None = None
        self.last_label: float | None = None
        self.seen = 0.0
        """When its last event arrived."""
        self.unlabelled = 0

    def forget_after(self, now: float) -> bool:
        """Forget the windows and times that a clock which was ahead has made; returns whether there were any."""
        found = sum(window.forget_after(now) for window in self.windows + self.coverage) > 0
        latest = now + CLOCK_SKEW_SECONDS
        if self.changes is not None:
            self.changes.forget_after(latest)
        if (self.last_prediction or 0.0) > latest:
            self.last_prediction, found = None, True
        if (self.last_label or 0.0) > latest:
            self.last_label, found = None, True
        return found

    def state(self) -> dict[str, Any]:
        """Return what `restore` needs, as a tree of arrays and numbers."""
        return {
            "lifetime": self.lifetime,
            "windows": {f"{window.length:.17g}": window.state() for window in self.windows},
            "coverage": {f"{window.length:.17g}": window.state() for window in self.coverage},
            "last_prediction": self.last_prediction,
            "last_label": self.last_label,
            "seen": self.seen,
            "unlabelled": self.unlabelled,
            "changes": self.changes.state() if self.changes else {},
        }

    def restore(self, state: dict[str, Any], cells: Cells) -> None:
        """Take over the counts of `state`, as far as they are still kept: (here, there) pairs of ledger sections."""
        for here, there in cells:
            self.lifetime[here] = state["lifetime"][there]
        for name, windows, kept in (("windows", self.windows, cells), ("coverage", self.coverage, None)):
            for window in windows:
                stored = state[name].get(f"{window.length:.17g}")
                if stored is not None:
                    window.restore(stored, kept)
                else:
                    latest = max(state["last_prediction"] or 0.0, state["last_label"] or 0.0)
                    window.begin_after(min(latest, clock.now()))  # a clock may have been ahead
        self.last_prediction = state["last_prediction"]
        self.last_label = state["last_label"]
        self.seen = state.get("seen", 0.0)
        self.unlabelled = state["unlabelled"]
        if self.changes is not None:
            self.changes.restore(state.get("changes", {}))

    def add(self, delta: Floats, time: float) -> None:
        """Add the counts of events of one pane."""
        self.lifetime += delta
        for window in self.windows:
            window.add(delta, time)

    def move(self, old: Floats, new: Floats, time: float) -> None:
        """Replace counts of one pane by others, in the windows that still hold them; counters never go back."""
        for window in self.windows:
            if window.holds(time):
                window.add(new - old, time)

    def cover(self, times: Floats, *, labelled: bool) -> None:
        """Count predictions made at `times` that expect a label, or those of them that have got it."""
        if not len(times):
            return
        oldest, newest = float(times.min()), float(times.max())
        for window in self.coverage:
            if oldest // window.width == newest // window.width:  # most batches
                numbers, counts = np.array([newest // window.width]), np.array([len(times)])
            else:
                numbers, counts = np.unique(times // window.width, return_counts=True)
            delta = np.zeros((len(numbers), 2))
            delta[:, int(labelled)] = counts
            window.add_panes(numbers.astype(np.intp), delta, held=labelled)  # only labels of predictions counted here

    def label_coverage(self, now: float, delay: float) -> list[float]:
        """Return the labelled share of each window's predictions that are older than `delay`; NaN without any."""
        sums = [window.total(now, older_than=delay) for window in self.coverage]
        return [labelled / expecting if expecting else np.nan for expecting, labelled in sums]

    def totals(self, now: float) -> Floats:
        """Return the sums of all windows, (W, cells)."""
        return np.stack([window.total(now) for window in self.windows])
