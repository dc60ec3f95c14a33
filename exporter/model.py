"""A watched model at run time: its versions' ledgers and windows, and the predictions that wait for labels."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exporter.config import ModelSettings
from exporter.events import Columns, Schema
from exporter.ledger import Layout, Outputs
from exporter.pending import Pending, Prediction
from exporter.profile.profile import Profile
from exporter.windows import Window

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]


class Version:
    """The counts of one model version: all of its life in one ledger, and its windows."""

    def __init__(self, name: str, layout: Layout, lengths: Sequence[float]) -> None:
        self.name = name
        self.lifetime = layout.zeros()
        self.windows = [Window(length, layout.size) for length in lengths]
        self.last_prediction: float | None = None
        self.last_label: float | None = None
        self.pending = 0
        self.unlabelled = 0

    def add(self, delta: Floats, time: float) -> None:
        """Add the counts of events of one pane."""
        self.lifetime += delta
        for window in self.windows:
            window.add(delta, time)

    def totals(self, now: float) -> Floats:
        """Return the sums of all windows, (W, cells)."""
        return np.stack([window.total(now) for window in self.windows])


@dataclass(slots=True)
class _Labelled:
    """Predictions with their labels; all of one length."""

    versions: list[str]
    times: list[float]
    delays: list[float]
    outputs: list[tuple[float, ...]]
    labels: list[float]


class Model:
    """Counts the events of one configured model. Not thread-safe: the event loop alone touches it."""

    def __init__(self, settings: ModelSettings, profile: Profile, *, versions: int, pending: int) -> None:
        self.settings = settings
        self.profile = profile
        self.layout = Layout(profile)
        self.schema = Schema(settings.name, profile)
        self.versions: dict[str, Version] = {}
        self.pending = Pending(settings.label_ttl, pending)
        self.labels_unmatched = 0
        self._version_limit = versions
        self._pane = min(settings.windows) and Window(min(settings.windows), 0).width

    @property
    def name(self) -> str:
        """The model's name in events and labels."""
        return self.settings.name

    @property
    def horizon(self) -> float:
        """Age in seconds beyond which an event is in no window."""
        return max(self.settings.windows)

    def admit(self, names: set[str]) -> set[str]:
        """Create the versions that are new, and return those for which there is no place left."""
        refused = set()
        for name in sorted(names - self.versions.keys()):
            if len(self.versions) < self._version_limit:
                self.versions[name] = Version(name, self.layout, self.settings.windows)
            else:
                refused.add(name)
        return refused

    def count(self, columns: Columns) -> None:
        """Count events whose versions are admitted."""
        outputs = self._outputs(columns)
        predicts = [
            features is not None or error is not None or prediction is not None or score is not None
            for features, error, prediction, score in zip(
                columns.features, columns.errors, columns.predictions, columns.scores, strict=True
            )
        ]
        self._count_predictions(columns, outputs, predicts)
        labelled = self._join(columns, outputs, predicts)
        if labelled.labels:
            self._count_labels(labelled)

    def expire(self, now: float) -> bool:
        """Give up the predictions that waited too long; returns whether there were any."""
        expired = self.pending.expire(now)
        self._give_up(expired)
        return bool(expired)

    def _outputs(self, columns: Columns) -> Outputs:
        """Return predictions and scores as arrays, deciding by score where an event has no prediction."""
        prediction = np.array(columns.predictions, np.float64)
        if not self.layout.score_columns:
            return Outputs(prediction, np.empty((len(prediction), 0)))
        scores = self.schema.score_array(columns.scores)
        undecided = np.isnan(prediction) & ~np.isnan(scores[:, 0])
        if undecided.any():
            prediction[undecided] = (
                scores[undecided, 0] >= self.settings.threshold
                if scores.shape[1] == 1
                else scores[undecided].argmax(axis=1)
            )
        return Outputs(prediction, scores)

    def _count_predictions(self, columns: Columns, outputs: Outputs, predicts: list[bool]) -> None:
        rows = np.flatnonzero(predicts)
        if not len(rows):
            return
        featured = np.array([features is not None for features in columns.features])
        numeric, codes = self.schema.feature_arrays([features for features in columns.features if features is not None])
        place = np.cumsum(featured) - 1
        times = np.array(columns.times)
        failed = np.array([error is not None for error in columns.errors])
        latency = np.array(columns.latencies, np.float64)
        for version, time, group in self._groups(columns.versions, times, rows):
            delta = self.layout.zeros()
            with_features = place[group[featured[group]]]
            self.layout.count_features(delta, numeric[:, with_features], codes[:, with_features])
            self.layout.count_predictions(
                delta,
                Outputs(outputs.prediction[group], outputs.scores[group]),
                latency[group],
                int(failed[group].sum()),
            )
            version.add(delta, time)
            version.last_prediction = max(version.last_prediction or 0.0, float(times[group].max()))

    def _join(self, columns: Columns, outputs: Outputs, predicts: list[bool]) -> _Labelled:
        """Bring labels and predictions together; what waits for its label goes to the pending predictions."""
        rows = list(zip(outputs.prediction.tolist(), *outputs.scores.T.tolist(), strict=True))
        labelled = _Labelled([], [], [], [], [])
        waiting: dict[str, Prediction] = {}
        feedback: list[tuple[str, float, float]] = []
        for identifier, time, version, predicted, label, output, error in zip(
            columns.ids, columns.times, columns.versions, predicts, columns.labels, rows, columns.errors, strict=True
        ):
            if predicted and label is not None:
                labelled.versions.append(version)
                labelled.times.append(time)
                labelled.delays.append(np.nan)
                labelled.outputs.append(output)
                labelled.labels.append(label)
            elif predicted:
                if identifier is not None and error is None:
                    waiting[identifier] = Prediction(time, version, output)
            elif identifier is not None and label is not None:
                feedback.append((identifier, time, label))
        for prediction in waiting.values():
            self.versions[prediction.version].pending += 1
        self._give_up(self.pending.add(waiting.keys(), waiting.values()))
        for (_, time, label), found in zip(feedback, self.pending.take([f[0] for f in feedback]), strict=True):
            if found is None:
                self.labels_unmatched += 1
                continue
            self.versions[found.version].pending -= 1
            labelled.versions.append(found.version)
            labelled.times.append(time)
            labelled.delays.append(max(time - found.time, 0.0))
            labelled.outputs.append(found.outputs)
            labelled.labels.append(label)
        return labelled

    def _count_labels(self, labelled: _Labelled) -> None:
        table = np.array(labelled.outputs)
        outputs = Outputs(table[:, 0], table[:, 1:])
        times, delays, labels = np.array(labelled.times), np.array(labelled.delays), np.array(labelled.labels)
        for version, time, group in self._groups(labelled.versions, times, np.arange(len(labels))):
            delta = self.layout.zeros()
            self.layout.count_labels(
                delta, Outputs(outputs.prediction[group], outputs.scores[group]), labels[group], delays[group]
            )
            version.add(delta, time)
            version.last_label = max(version.last_label or 0.0, float(times[group].max()))

    def _groups(self, versions: Sequence[str], times: Floats, rows: Ints) -> Iterator[tuple[Version, float, Ints]]:
        """Yield the rows of each version and pane, with the time at which the pane begins."""
        panes = (times[rows] // self._pane).astype(np.int64)
        names = sorted(set(versions))
        for name in names:
            mine = rows if len(names) == 1 else rows[[versions[row] == name for row in rows]]
            ours = panes if len(names) == 1 else (times[mine] // self._pane).astype(np.int64)
            for pane in np.unique(ours):
                yield self.versions[name], float(pane) * self._pane, mine[ours == pane]

    def _give_up(self, predictions: Sequence[Prediction]) -> None:
        for prediction in predictions:
            version = self.versions[prediction.version]
            version.pending -= 1
            version.unlabelled += 1
