"""How many independent events a window is worth: for labels, outputs, variables and vectors.

A window is one of many stretches of its length, and sees no other. The panes of longer windows tell how much such
stretches differ among each other, and those of a version's histories where no window tells. What the window
itself holds does not count there, so that a change is not excused by itself. Until there are stretches enough, the
window's own panes tell.
"""

from collections.abc import Callable, Sequence
from math import ceil
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from mlops_exporter.arrays import Floats, Ints
from mlops_exporter.counting.ledger import Layout
from mlops_exporter.counting.reference import Reference
from mlops_exporter.counting.version import LEAST_STRETCHES, Version
from mlops_exporter.counting.windows import Window
from mlops_exporter.profile.bins import INVALID, Variable
from mlops_exporter.statistics import dependence, multilabel, ratings, regression
from mlops_exporter.statistics.dependence import PaneSums

_LEAST_EFFECTIVE = 2.0
_GROWN = 1.2
"""By so much a pane that is still open must grow to be looked at again."""


class Measure(NamedTuple):
    """What is compared between panes: cells of the ledger, and what is made of their panes, (P, cells), by time.

    `evened` takes out of it what the hours of a window's panes are known to differ by.
    """

    cells: slice
    of: Callable[[Floats], Sequence[PaneSums]]
    evened: Callable[[Sequence[PaneSums], Window, float], Sequence[PaneSums]] = lambda panes, _window, _now: panes


Told = Callable[[PaneSums, int], Floats]
"""What panes tell of stretches of so many of them, (2, S)."""


class _Remembered(NamedTuple):
    """What panes told when the newest was `pane` and so many events were in them."""

    pane: int
    events: float
    told: Floats


class Dependence:
    """Measures the design effects of versions' windows, each anew when a pane has closed that tells of it."""

    def __init__(self, measure: Measure) -> None:
        self._measure = measure
        self._kept: WeakKeyDictionary[Window, dict[tuple[Told, int], _Remembered]] = WeakKeyDictionary()

    def effects(self, version: Version, now: float) -> Floats:
        """Return the design effects of all windows, (W, S), each at least 1."""
        return np.stack([self._of(window, version, now) for window in version.windows])

    def _of(self, window: Window, version: Version, now: float) -> Floats:
        longer = [
            self._ask(_between, ring, now, ceil(window.length / ring.width))
            for ring in version.rings
            if ring.length >= LEAST_STRETCHES * window.length
        ]
        between, stretches = np.array(longer).swapaxes(0, 1)
        enough = stretches >= LEAST_STRETCHES
        known = enough.any(0)
        own, n = self._ask(_size if known.all() else _own, window, now)
        effects = np.where(known, 1 + n * np.where(enough, between, 0.0).max(0), own)
        return np.asarray(np.minimum(effects, np.maximum(n / _LEAST_EFFECTIVE, 1.0)), np.float64)

    def _ask(self, what: Told, window: Window, now: float, stretch: int = 1) -> Floats:
        newest, events = window.number(now), window.events
        kept = self._kept.setdefault(window, {}).get((what, stretch))
        if kept is None or kept.pane != newest or events > kept.events * _GROWN:
            parts = self._measure.of(window.in_order(now, self._measure.cells))
            parts = self._measure.evened(parts, window, now)
            kept = _Remembered(newest, events, np.concatenate([what(part, stretch) for part in parts], axis=-1))
            self._kept[window][what, stretch] = kept
        return kept.told


def _between(panes: PaneSums, stretch: int) -> Floats:
    """Return what stretches differ by before the newest, which the window is in, and how many there are."""
    return np.stack(dependence.variance_between(panes.before(stretch + 1), stretch))


def _own(panes: PaneSums, _stretch: int) -> Floats:
    """Return the design effects of all panes together, and how many events there are."""
    return np.stack([dependence.design_effects(panes), panes.n.sum(0)])


def _size(panes: PaneSums, _stretch: int) -> Floats:
    """Return no design effects, and how many events there are."""
    n = panes.n.sum(0)
    return np.stack([np.ones(len(n)), n])


class Effects(NamedTuple):
    """Design effects of windows, (W,) each: of their labels, and of what the model said."""

    labels: Floats
    outputs: Floats

    @classmethod
    def none(cls, windows: int) -> "Effects":
        """Return those of independent events."""
        return cls(np.ones(windows), np.ones(windows))


class OutcomeDependence:
    """What the labels and the outputs of one reference's versions are worth."""

    def __init__(self, reference: Reference) -> None:
        layout = reference.layout
        self._labels = Dependence(_labels(layout))
        self._outputs = Dependence(_outputs(layout))

    def effects(self, version: Version, now: float) -> Effects:
        """Return the design effects of all windows: the largest of what is looked at."""
        return Effects(*(part.effects(version, now).max(-1) for part in (self._labels, self._outputs)))


_KNOWN: WeakKeyDictionary[Reference, OutcomeDependence] = WeakKeyDictionary()


def effects_of(reference: Reference, version: Version, now: float) -> Effects:
    """Return the design effects of a version's windows; all who ask share one measurement."""
    known = _KNOWN.get(reference)
    if known is None:
        known = _KNOWN[reference] = OutcomeDependence(reference)
    return known.effects(version, now)


def worth(totals: Floats, effects: Floats) -> Floats:
    """Return sums of ledgers, (W, cells), of so many events as they are worth: ratios stay, intervals widen."""
    return np.asarray(totals / effects[:, np.newaxis], np.float64)


def bins_of(section: slice, variable: Variable) -> Ints:
    """Return where the exported bins of a variable's valid values begin in the ledger, and last where they end."""
    return np.array([*(section.start + begin for begin in variable.exported_starts), section.stop + INVALID], np.intp)


def _labels(layout: Layout) -> Measure:
    """Look at whether predictions are right and at the confusion; of numbers at the errors and their size.

    Of sets of classes look at how many are exact, and at how many hits and errors each has.
    """
    if layout.profile.of_numbers:
        return Measure(layout.moments, _errors)
    if layout.profile.task == "multilabel":
        return Measure(layout.decisions, lambda panes: _decisions(panes, len(layout.profile.classes)))
    if layout.ranked:
        return Measure(layout.measures, rated)
    if not layout.profile.classes:
        return Measure(layout.labels, _none)
    return Measure(layout.confusion, lambda panes: _confusion(panes, len(layout.profile.classes)))


def rated(panes: Floats) -> list[PaneSums]:
    """Look at the means of bounded numbers, from their sums in panes, (P, numbers * CELLS)."""
    found = []
    for n, total, squares in np.moveaxis(panes.reshape(len(panes), -1, ratings.CELLS), 0, -1):
        count = max(float(n.sum()), 1.0)
        variance = max(float(squares.sum()) / count - (float(total.sum()) / count) ** 2, 0.0)
        found.append(dependence.means(n, total[:, np.newaxis], np.array([variance])))
    return found


def _none(panes: Floats) -> list[PaneSums]:
    """Look at nothing but how many events there are, (P, 1): they count as independent."""
    return [dependence.means(panes[:, 0], panes, np.zeros(1))]


def _errors(panes: Floats) -> list[PaneSums]:
    moments = regression.split(panes)
    sums = np.stack([moments.error, moments.absolute], -1)
    count = max(float(moments.n.sum()), 1.0)
    variances = np.maximum(moments.error2.sum() / count - np.square(sums.sum(0) / count), 0.0)
    kurtosis = np.divide(moments.error4.sum() / count, variances**2, out=np.full(2, 3.0), where=variances > 0)
    return [dependence.means(moments.n, sums, variances, kurtosis)]


def _confusion(panes: Floats, classes: int) -> list[PaneSums]:
    right = panes[:, :: classes + 1].sum(-1)
    correct = np.stack([panes.sum(-1) - right, right], -1)
    whole = np.zeros(1, np.intp)
    return [dependence.counts(correct, whole), dependence.counts(panes, whole)]


def _decisions(panes: Floats, classes: int) -> list[PaneSums]:
    kept = multilabel.split(panes, classes)
    exact = np.stack([kept.n - kept.exact, kept.exact], -1)
    each = np.repeat(np.eye(3), classes, axis=1)  # hits, predicted and actual classes of an event
    weights = np.array([[1.0, 0.0, 0.0], [-2.0, 1.0, 1.0]]) @ each
    sums = np.diagonal(kept.products, axis1=-2, axis2=-1) @ weights.T
    count = max(float(kept.n.sum()), 1.0)
    squares = np.einsum("wi,ij,wj->w", weights, kept.products.sum(0), weights)
    variances = squares / count - np.square(sums.sum(0) / count)
    return [dependence.counts(exact, np.zeros(1, np.intp)), dependence.means(kept.n, sums, variances)]


def _outputs(layout: Layout) -> Measure:
    """Look at the distribution of the scores, without these at that of the predictions."""
    profile = layout.profile
    section, variable = (layout.score, profile.score) if profile.score else (layout.prediction, profile.prediction)
    if variable is None:
        return Measure(layout.predictions, _none)
    bins = bins_of(slice(0, section.stop - section.start), variable)
    whole = np.zeros(1, np.intp)
    return Measure(section, lambda panes: [dependence.counts(np.add.reduceat(panes, bins, axis=-1)[:, :-1], whole)])
