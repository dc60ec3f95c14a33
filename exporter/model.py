"""A watched model at run time: its versions' ledgers and windows, and the predictions that wait for labels."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from exporter.attributes import Attributes
from exporter.config import ModelSettings
from exporter.estimation import LossEstimation, estimation_of
from exporter.events import Columns, Schema
from exporter.fairness import GroupCounts
from exporter.ledger import Layout, Outputs
from exporter.multivariate import VectorCounts, VectorMap, Vectors
from exporter.pending import Pending, Prediction
from exporter.profile.profile import Profile
from exporter.windows import PANES, Window

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
Flags = NDArray[np.bool_]


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


class _Features(NamedTuple):
    """The feature arrays of the rows that have features; `place` is each row's column in them, -1 without."""

    rows: Ints
    place: Ints
    numeric: Floats
    codes: Ints
    vectors: Vectors | None


@dataclass(frozen=True, slots=True)
class _Labelled:
    """Predictions with their labels; all of one length. `delays` are in seconds, NaN where they came together."""

    versions: Sequence[str | None]
    times: Floats
    delays: Floats
    outputs: Outputs
    labels: Floats


class Model:
    """Counts the events of one configured model. Not thread-safe: the event loop alone touches it."""

    def __init__(self, settings: ModelSettings, profile: Profile, *, versions: int, pending: int) -> None:
        self.settings = settings
        self.profile = profile
        attributes = Attributes(settings.fairness.edges, profile) if settings.fairness else None
        self.group_counts = GroupCounts(attributes, profile) if attributes else None
        self.estimation = estimation_of(profile) if settings.estimation.enabled else None
        sections = [section for section in (self.group_counts, self.estimation) if section is not None]
        reference = profile.vectors
        self.vectors = (
            VectorCounts(len(reference.features), len(reference.fourier.mean))
            if reference and settings.multivariate.enabled
            else None
        )
        self.layout = Layout(profile, sections, vectors=self.vectors.cells if self.vectors else 0)
        self._vector_map = (
            VectorMap.of(reference, self.layout.numeric)
            if reference and (self.vectors or isinstance(self.estimation, LossEstimation))
            else None
        )
        self.schema = Schema(settings.name, profile, attributes)
        self.versions: dict[str, Version] = {}
        self.pending = Pending(settings.label_ttl, pending)
        self.labels_unmatched = 0
        self._version_limit = versions
        self._pane_width = min(settings.windows) / PANES

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
        features = self._features(columns)
        outputs = self._outputs(columns, features)
        times = np.array(columns.times)
        predicts = np.array([version is not None for version in columns.versions])
        self._count_predictions(columns, times, features, outputs, np.flatnonzero(predicts))
        for labelled in (
            self._labelled_feedback(columns, times, outputs, predicts),
            self._joined_feedback(columns, times, outputs, predicts),
        ):
            if len(labelled.labels):
                self._count_labels(labelled)

    def expire(self, now: float) -> bool:
        """Give up the predictions that waited too long; returns whether there were any."""
        expired = self.pending.expire(now)
        self._give_up(expired)
        return bool(expired)

    def _features(self, columns: Columns) -> _Features:
        """Return the features as arrays."""
        rows = np.array([row for row, features in enumerate(columns.features) if features is not None], np.intp)
        place = np.full(len(columns), -1)
        place[rows] = np.arange(len(rows))
        numeric, codes = self.schema.feature_arrays([columns.features[row] for row in rows.tolist()])
        return _Features(rows, place, numeric, codes, self._vector_map(numeric) if self._vector_map else None)

    def _outputs(self, columns: Columns, features: _Features) -> Outputs:
        """Return predictions, scores and groups as arrays."""
        prediction = np.array(columns.predictions, np.float64)
        scores = (
            self.schema.score_array(columns.scores) if self.layout.score_columns else np.empty((len(prediction), 0))
        )
        groups = self.schema.group_array(columns, features.numeric, features.codes, features.rows)
        losses = (
            self.estimation.expected(prediction, features.rows, features.vectors)
            if isinstance(self.estimation, LossEstimation)
            else np.empty((len(prediction), 0))
        )
        return Outputs(prediction, scores, groups, losses).decided(self.settings.threshold)

    def _count_predictions(
        self, columns: Columns, times: Floats, features: _Features, outputs: Outputs, rows: Ints
    ) -> None:
        failed = np.array([error is not None for error in columns.errors])
        latency = np.array(columns.latencies, np.float64)
        for version, time, group in self._groups(columns.versions, times, rows):
            delta = self.layout.zeros()
            place = features.place[group]
            place = place[place >= 0]
            self.layout.count_features(delta, features.numeric[:, place], features.codes[:, place])
            if self.vectors is not None and features.vectors is not None:
                self.vectors.count(delta[self.layout.vectors], features.vectors.rows(place))
            self.layout.count_predictions(delta, outputs.rows(group), latency[group], int(failed[group].sum()))
            version.add(delta, time)
            version.last_prediction = max(version.last_prediction or 0.0, float(times[group].max()))

    def _count_labels(self, labelled: _Labelled) -> None:
        rows = np.arange(len(labelled.labels))
        for version, time, group in self._groups(labelled.versions, labelled.times, rows):
            delta = self.layout.zeros()
            self.layout.count_labels(
                delta, labelled.outputs.rows(group), labelled.labels[group], labelled.delays[group]
            )
            version.add(delta, time)
            version.last_label = max(version.last_label or 0.0, float(labelled.times[group].max()))

    def _labelled_feedback(self, columns: Columns, times: Floats, outputs: Outputs, predicts: Flags) -> _Labelled:
        """Return the events that carry both prediction and label."""
        labels = np.array(columns.labels, np.float64)
        rows = np.flatnonzero(predicts & ~np.isnan(labels))
        return _Labelled(
            columns.versions if len(rows) == len(columns) else [columns.versions[row] for row in rows],
            times[rows],
            np.full(len(rows), np.nan),
            outputs.rows(rows),
            labels[rows],
        )

    def _joined_feedback(self, columns: Columns, times: Floats, outputs: Outputs, predicts: Flags) -> _Labelled:
        """Let predictions without label wait, and return the waiting ones whose label is among the events."""
        unlabelled = np.array([label is None for label in columns.labels])
        self._wait(columns, times, outputs, np.flatnonzero(predicts & unlabelled))
        found: list[tuple[Prediction, float, float]] = []
        for row in np.flatnonzero(~predicts).tolist():
            prediction = self.pending.take(columns.ids[row])
            if prediction is None:
                self.labels_unmatched += 1
            else:
                self.versions[prediction.version].pending -= 1
                found.append((prediction, columns.times[row], columns.labels[row] or 0.0))
        widths = (outputs.scores.shape[1], outputs.groups.shape[1], outputs.losses.shape[1])
        table = np.array([prediction.outputs for prediction, _, _ in found]).reshape(len(found), 1 + sum(widths))
        label_times = np.array([time for _, time, _ in found])
        return _Labelled(
            [prediction.version for prediction, _, _ in found],
            label_times,
            np.maximum(label_times - [prediction.time for prediction, _, _ in found], 0.0),
            Outputs.from_table(table, widths),
            np.array([label for _, _, label in found], np.float64),
        )

    def _wait(self, columns: Columns, times: Floats, outputs: Outputs, rows: Ints) -> None:
        for row, output in zip(rows.tolist(), map(tuple, outputs.rows(rows).table().tolist()), strict=True):
            identifier = columns.ids[row]
            if identifier is None or columns.errors[row] is not None:
                continue
            name = columns.versions[row] or ""
            self.versions[name].pending += 1
            self._give_up(self.pending.add(identifier, Prediction(columns.times[row], name, output)))

    def _groups(
        self, versions: Sequence[str | None], times: Floats, rows: Ints
    ) -> Iterator[tuple[Version, float, Ints]]:
        """Yield the rows of each version and pane, with a time in the middle of that pane."""
        panes = np.floor(times / self._pane_width)
        names = set(versions)
        for name in names - {None}:
            mine = rows if len(names) == 1 else rows[[versions[row] == name for row in rows]]
            for pane in np.unique(panes[mine]):
                yield self.versions[name or ""], (float(pane) + 0.5) * self._pane_width, mine[panes[mine] == pane]

    def _give_up(self, predictions: Sequence[Prediction]) -> None:
        for prediction in predictions:
            version = self.versions[prediction.version]
            version.pending -= 1
            version.unlabelled += 1
