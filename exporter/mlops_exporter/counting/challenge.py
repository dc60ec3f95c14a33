"""Champion and challenger: two versions of a model that answer the same requests, compared on the same labels.

Both predict under the same id. What each made of an event is kept until the other's is there too; then only sums of
the pair remain.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlops_exporter.arrays import Floats, Ints
from mlops_exporter.counting.keys import Keys, KeyTable
from mlops_exporter.counting.ledger import Outputs
from mlops_exporter.counting.rhythm import Rhythm
from mlops_exporter.counting.windows import PANES, Window
from mlops_exporter.profile.profile import Profile
from mlops_exporter.statistics import comparison

_WIDER_BINS = 32
"""Bins of a score where both versions' are counted together, for how the two rank alike."""

_CLASSES = ["accuracy"]
_SCORES = [*_CLASSES, "brier_score", "log_loss"]
_NUMBERS = ["mae", "rmse"]


class Challenge:
    """Paired comparison of two versions, each with the profile by which it is counted.

    Metrics are those that both profiles allow; scores are ranked in the bins of the champion's.
    """

    def __init__(
        self,
        champion: str,
        challenger: str,
        profiles: Sequence[Profile],
        windows: Sequence[float],
        limit: int,
        rhythm: Rhythm | None = None,
    ) -> None:
        self.champion, self.challenger = champion, challenger
        profile, *_ = profiles
        scored = all(each.has_scores for each in profiles)
        self.means = _NUMBERS if not profile.classes else _SCORES if scored else _CLASSES
        self.ranking = Ranking(profile.score_edges) if profile.task == "binary" and scored else None
        self._ranks_start = 1 + comparison.CELLS * len(self.means)
        cells = self._ranks_start + (self.ranking.cells if self.ranking else 0)
        self._windows = [Window.of(length, cells, rhythm) for length in windows]
        self._pane_width = min(windows) / PANES
        self._limit = limit
        self._clear()

    def _clear(self) -> None:
        self._table = KeyTable()
        self._keys = np.zeros(self._limit, np.uint64)  # a ring: the oldest event gives way
        self._values = np.full((self._limit, 2, len(self.metrics)), np.nan)
        self._next = 0

    @property
    def metrics(self) -> list[str]:
        """Names of the metrics compared."""
        return [*self.means, *(["roc_auc"] if self.ranking else [])]

    def add(self, keys: Keys, sides: Ints, times: Floats, profile: Profile, outputs: Outputs, labels: Floats) -> None:
        """Take labelled predictions of one profile in; `sides` are 0 for the champion's, 1 for the challenger's."""
        values = _values(profile, outputs, labels)[:, : len(self.means)]
        if self.ranking:
            values = np.column_stack([values, self.ranking.places(outputs.scores[:, 0], labels)])
        usable = ~np.isnan(values).any(axis=1)
        for side in (0, 1):
            mine = np.flatnonzero(usable & (sides == side))
            mine = mine[np.unique(keys[mine], return_index=True)[1]]
            rows = self._table.find(keys[mine])
            met = rows >= 0
            waiting = self._values[rows[met], 1 - side]
            complete = ~np.isnan(waiting).any(axis=1)
            at = np.flatnonzero(met)[complete]
            pair = [waiting[complete], values[mine[at]]]
            self._count(times[mine[at]], *(pair if side else pair[::-1]))
            self._forget(rows[at])
            fresh = mine[~met]
            self._wait(keys[fresh], side, values[fresh])

    def _wait(self, keys: Keys, side: int, values: Floats) -> None:
        for start in range(0, len(keys), self._limit):
            part = keys[start : start + self._limit]
            rows = (self._next + np.arange(len(part))) % self._limit
            self._next = int((self._next + len(part)) % self._limit)
            self._forget(rows[self._keys[rows] != 0])
            self._keys[rows] = part
            self._values[rows] = np.nan
            self._values[rows, side] = values[start : start + self._limit]
            self._table.insert(part, rows.astype(np.int32))

    def _forget(self, rows: NDArray[np.int32] | Ints) -> None:
        if len(rows):
            self._table.remove(self._keys[rows])
            self._keys[rows] = 0

    def _count(self, times: Floats, champion: Floats, challenger: Floats) -> None:
        panes = np.floor(times / self._pane_width)
        for pane in np.unique(panes):
            mine = panes == pane
            compared = len(self.means)
            sums = comparison.sums(champion[mine, :compared].T, challenger[mine, :compared].T)
            ranks = self.ranking.sums(champion[mine, -1], challenger[mine, -1]) if self.ranking else np.empty(0)
            for window in self._windows:
                window.add(np.concatenate([[mine.sum()], sums.ravel(), ranks]), (float(pane) + 0.5) * self._pane_width)

    def totals(self, now: float) -> tuple[Floats, Floats, Floats]:
        """Return by window the pairs, (W,), sums of each metric, (W, means, CELLS), and what is ranked, (W, cells)."""
        totals = np.stack([window.total(now) for window in self._windows])
        n, sums, ranks = totals[:, 0], totals[:, 1 : self._ranks_start], totals[:, self._ranks_start :]
        return n, sums.reshape(len(n), -1, comparison.CELLS), ranks

    def forget_after(self, now: float) -> bool:
        """Empty the panes that a clock which was ahead has made; returns whether there were any."""
        return sum(window.forget_after(now) for window in self._windows) > 0

    def state(self) -> dict[str, Any]:
        """Return what `restore` needs, as a tree of arrays and numbers."""
        return {
            "versions": f"{self.champion} {self.challenger}",
            "metrics": self.metrics,
            "windows": {window.name: window.state() for window in self._windows},
            "keys": self._keys[self._keys != 0],
            "values": self._values[self._keys != 0],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over a state of the same two versions."""
        if state.get("versions") != f"{self.champion} {self.challenger}":
            return
        if state.get("metrics") != self.metrics:  # as of a release or of profiles that compared others
            return
        for window in self._windows:
            for name in (window.name, f"{window.length:g}"):  # the latter is what releases before 0.2 wrote
                if name in state["windows"]:
                    window.restore(state["windows"][name])
        self._clear()
        keys, values = state["keys"][-self._limit :], state["values"][-self._limit :]
        rows = np.arange(len(keys))
        self._keys[rows], self._values[rows] = keys, values
        self._table.insert(keys, rows.astype(np.int32))
        self._next = len(keys) % self._limit


class Ranking:
    """What the paired difference in ROC AUC needs: histograms of either version's scores, and a wider one of both.

    `edges` are those of the scores' finest bins.
    """

    def __init__(self, edges: Sequence[float]) -> None:
        self._edges = np.array(edges)
        self._wider = min(_WIDER_BINS, len(edges) + 1)
        self._width = -(-(len(edges) + 1) // self._wider)
        self._bins = self._wider * self._width
        self.cells = 2 * (2 * self._bins + self._wider**2)

    def places(self, scores: Floats, labels: Floats) -> Floats:
        """Return where events lie in a version's histogram, (n,): its bin and its class in one; NaN without a score."""
        places = 2.0 * np.searchsorted(self._edges, scores, side="right") + labels
        return np.where(np.isnan(scores), np.nan, places)

    def sums(self, champion: Floats, challenger: Floats) -> Floats:
        """Count pairs by their places, (cells,)."""
        places = [side.astype(np.intp) for side in (champion, challenger)]
        one, other = (place // (2 * self._width) for place in places)
        both = (one * self._wider + other) * 2 + places[0] % 2
        sizes = 2 * self._bins, 2 * self._bins, 2 * self._wider**2
        return np.concatenate(
            [np.bincount(place, minlength=size) for place, size in zip([*places, both], sizes, strict=True)],
            dtype=np.float64,
        )

    def histograms(self, sums: Floats) -> tuple[Floats, Floats, Floats]:
        """Take sums, (W, cells), apart: each version's, (W, bins, classes), and both together."""
        one, other, both = np.split(sums, [2 * self._bins, 4 * self._bins], axis=-1)
        shape = (len(sums), self._bins, 2)
        return one.reshape(shape), other.reshape(shape), both.reshape(len(sums), self._wider, self._wider, 2)


def _values(profile: Profile, outputs: Outputs, labels: Floats) -> Floats:
    """Return what is compared of each event, (n, metrics); NaN where the model said nothing."""
    if not profile.classes:
        error = outputs.prediction - labels
        return np.stack([np.abs(error), np.square(error)], axis=1)
    right = np.where(np.isnan(outputs.prediction), np.nan, outputs.prediction == labels)
    if not profile.has_scores:
        return right[:, np.newaxis]
    actual = labels.astype(np.intp)
    scores = outputs.scores
    if scores.shape[1] == 1:
        likelihood = np.where(actual == 1, scores[:, 0], 1 - scores[:, 0])
        squared = np.square(1 - likelihood)
    else:
        likelihood = scores[np.arange(len(actual)), actual]
        squared = np.square(scores - (actual[:, np.newaxis] == np.arange(scores.shape[1]))).sum(axis=1)
    floor = np.finfo(np.float64).eps
    return np.stack([right, squared, -np.log(np.clip(likelihood, floor, 1 - floor))], axis=1)
