"""What is usual at the hours that a window covers: the mixture of the reference's hours, by when its events fell."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mlops_exporter.arrays import Floats, Ints
from mlops_exporter.counting.version import Version
from mlops_exporter.counting.windows import Window
from mlops_exporter.profile.hours import SECONDS, HourlyReference, slots_of
from mlops_exporter.statistics import drift
from mlops_exporter.statistics.dependence import PaneSums
from mlops_exporter.statistics.drift import Starts

LEAST_VALUES = 50
"""Values of a slot below which it says nothing of its own, and the whole reference stands for it."""


class Traffic(NamedTuple):
    """How the events of windows came: design effects of all variables, (W, variables), and in which hours, (W, slots).

    `hours` is None where the reference knows no hours, or the windows go by the time of a job.
    """

    effects: Floats
    hours: Floats | None

    def rows(self, rows: Sequence[int]) -> "Traffic":
        """Return that of some windows."""
        return Traffic(self.effects[rows], None if self.hours is None else self.hours[rows])

    @classmethod
    def joined(cls, parts: Sequence["Traffic"]) -> "Traffic":
        """Join windows of several versions of one reference."""
        hours = [part.hours for part in parts if part.hours is not None]
        return cls(np.concatenate([part.effects for part in parts]), np.concatenate(hours) if hours else None)


class Mixture(NamedTuple):
    """What a window's hours make usual: shares, (W, C), and of how many independent values they are known, (W, S)."""

    shares: Floats
    n: Floats


class HourlyShares(NamedTuple):
    """Shares of each slot, (slots, C), and how many values they rest on, (slots, S); `starts` as in `drift`."""

    shares: Floats
    n: Floats
    starts: Starts

    @classmethod
    def of(cls, counts: Floats, whole: Floats, starts: Starts) -> "HourlyShares":
        """Take counts of slots, (slots, C), and those of the whole reference, (C,), for slots with too few."""
        n = drift.totals(counts, starts)
        few = n < LEAST_VALUES
        bins = drift.sizes(starts, len(whole))
        counts = np.where(np.repeat(few, bins, axis=-1), whole, counts)
        n = np.where(few, drift.totals(whole, starts), n)
        return cls(counts / np.maximum(np.repeat(n, bins, axis=-1), 1.0), n, starts)

    def mixed(self, weights: Floats) -> Mixture:
        """Mix slots by the share of a window's events that fell into each, (W, slots)."""
        variance = np.square(weights) @ (1 / np.maximum(self.n, 1e-9))  # of a mean, in variances of a single value
        return Mixture(weights @ self.shares, np.divide(1.0, variance, out=np.zeros_like(variance), where=variance > 0))

    def evened(self, panes: PaneSums, weights: Floats) -> PaneSums:
        """Take out of panes what their hours, (P, slots), make them differ by, so that only the rest differs."""
        usual = weights @ self.shares
        n = panes.spread(panes.n)
        mean = (n * usual).sum(0) / np.maximum(n.sum(0), 1.0)
        return panes._replace(sums=panes.sums - n * (usual - mean))


class Clock:
    """Tells the slots of a reference by the hour that a window's panes lie in."""

    def __init__(self, reference: HourlyReference) -> None:
        self._reference = reference
        self._rows = np.maximum(np.array(reference.rows, np.float64), 1e-9)

    def of_panes(self, window: Window, now: float) -> Floats:
        """Return by which slots each pane is made up, (P, slots), the oldest first; each adds up to 1.

        Where a pane holds several hours, its events are taken to fall into these as the reference's do.
        """
        edges = window.edges(now)
        hours: Ints = np.arange(edges[0] // SECONDS, edges[-1] // SECONDS + 1).astype(np.intp)
        cuts = np.union1d(edges, hours[1:] * SECONDS)
        middles = (cuts[1:] + cuts[:-1]) / 2
        slots = slots_of((middles // SECONDS).astype(np.intp), self._reference.by, self._reference.timezone)
        panes = np.searchsorted(edges, middles) - 1
        found = np.zeros((len(edges) - 1, self._reference.slots))
        np.add.at(found, (panes, slots), np.diff(cuts) * self._rows[slots])
        return np.asarray(found / found.sum(-1, keepdims=True), np.float64)

    def of_windows(self, version: Version, now: float, cells: slice) -> Floats | None:
        """Return the share of each window's events that fell into each slot, (W, slots); 0 without any.

        `cells` is the one that counts events. None for windows that go by the time of a job.
        """
        if not all(window.by_clock for window in version.windows):
            return None
        found = []
        for window in version.windows:
            n = window.in_order(now, cells)[:, 0]
            found.append(n @ self.of_panes(window, now) / max(float(n.sum()), 1.0))
        return np.stack(found)
