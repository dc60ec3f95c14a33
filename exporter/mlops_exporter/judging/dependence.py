"""How many independent events a window is worth: what its panes show, for labels, outputs, variables and vectors.

A window is judged by its own panes, and by those of longer windows: they tell how much stretches of its length differ
among each other, of which it sees but one. Of a longer window only what lies before the shorter one counts, so that
a change is not excused by itself.
"""

from collections.abc import Callable, Sequence
from math import ceil
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from mlops_exporter.arrays import Floats, Ints
from mlops_exporter.counting.ledger import Layout
from mlops_exporter.counting.reference import Reference
from mlops_exporter.counting.version import Version
from mlops_exporter.counting.windows import Window
from mlops_exporter.profile.bins import INVALID, Variable
from mlops_exporter.statistics import dependence, regression
from mlops_exporter.statistics.dependence import PaneSums

Measure = Callable[[Floats], Sequence[PaneSums]]
"""Takes panes of ledgers, (P, cells), in the order of their time, and returns what is to be compared between them."""

LEAST_STRETCHES = 12
"""Stretches of a shorter window's length that a longer one must hold to tell how they differ."""

_LEAST_EFFECTIVE = 2.0
_GROWN = 1.2
"""By so much a pane that is still open must grow to be looked at again."""


class _Measured(NamedTuple):
    """Design effects of a window, (S,), its sizes, (S,), and what stretches of shorter windows differ by, (S,) each."""

    pane: int
    events: float
    effects: Floats
    n: Floats
    between: list[Floats]


class Dependence:
    """Measures the design effects of versions' windows, each anew when one of its panes has closed."""

    def __init__(self, measure: Measure) -> None:
        self._measure = measure
        self._kept: WeakKeyDictionary[Window, _Measured] = WeakKeyDictionary()

    def effects(self, version: Version, now: float) -> Floats:
        """Return the design effects of all windows, (W, S), each at least 1."""
        windows = sorted(version.windows, key=lambda window: window.length)
        found = {
            window: self._of(window, [shorter.length for shorter in windows[:index]], version, now)
            for index, window in enumerate(windows)
        }
        effects: list[Floats] = []
        for index, window in enumerate(windows):
            own = found[window]
            longer = [1 + own.n * found[other].between[index] for other in windows[index + 1 :]]
            most = np.maximum(own.n / _LEAST_EFFECTIVE, 1.0)
            effects.append(np.minimum(np.maximum.reduce([own.effects, *longer]), most))
        return np.stack([effects[windows.index(window)] for window in version.windows])

    def _of(self, window: Window, shorter: Sequence[float], version: Version, now: float) -> _Measured:
        newest, events = int(now // window.width), float(window.events)
        kept = self._kept.get(window)
        if kept is None or kept.pane != newest or events > kept.events * _GROWN or len(kept.between) != len(shorter):
            parts = self._measure(window.in_order(now))
            between = [self._between(window, parts, length) for length in shorter]
            kept = _Measured(
                newest,
                events,
                np.concatenate([dependence.design_effects(part) for part in parts]),
                np.concatenate([part.n.sum(0) for part in parts]),
                between,
            )
            self._kept[window] = kept
        return kept

    @staticmethod
    def _between(window: Window, parts: Sequence[PaneSums], length: float) -> Floats:
        """Return what stretches of that length differ by beyond chance, (S,), before the last of them."""
        stretch = ceil(length / window.width)
        if len(window.numbers) // stretch <= LEAST_STRETCHES:
            return np.zeros(sum(part.n.shape[-1] for part in parts))
        return np.concatenate([dependence.variance_between(part.before(stretch), stretch) for part in parts])


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
        self._labels = Dependence(lambda panes: _labels(layout, panes))
        self._outputs = Dependence(lambda panes: _outputs(layout, panes))

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


def _labels(layout: Layout, panes: Floats) -> list[PaneSums]:
    """Look at whether predictions are right and at the confusion; of numbers at the errors and their size."""
    if layout.profile.task == "regression":
        moments = regression.split(panes[:, layout.moments])
        sums = np.stack([moments.error, moments.absolute], -1)
        count = max(float(moments.n.sum()), 1.0)
        variances = np.maximum(moments.error2.sum() / count - np.square(sums.sum(0) / count), 0.0)
        kurtosis = np.divide(moments.error4.sum() / count, variances**2, out=np.full(2, 3.0), where=variances > 0)
        return [dependence.means(moments.n, sums, variances, kurtosis)]
    k = len(layout.profile.classes)
    cells = panes[:, layout.confusion]
    right = cells[:, :: k + 1].sum(-1)
    correct = np.stack([cells.sum(-1) - right, right], -1)
    whole = np.zeros(1, np.intp)
    return [dependence.counts(correct, whole), dependence.counts(cells, whole)]


def _outputs(layout: Layout, panes: Floats) -> list[PaneSums]:
    profile = layout.profile
    section, variable = (layout.score, profile.score) if profile.score else (layout.prediction, profile.prediction)
    if variable is None:
        n = panes[:, layout.predictions.start]
        return [dependence.means(n, n[:, np.newaxis], np.zeros(1))]
    counted = np.add.reduceat(panes, bins_of(section, variable), axis=-1)[:, :-1]
    return [dependence.counts(counted, np.zeros(1, np.intp))]
