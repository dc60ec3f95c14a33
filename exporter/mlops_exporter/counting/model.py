"""A watched model at run time: its versions' ledgers and windows, and the join of predictions with their labels."""

import logging
from collections.abc import Iterator, Sequence, Set
from functools import cached_property
from time import time as clock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlops_exporter.counting.challenge import Challenge
from mlops_exporter.counting.change import ChangeMonitor
from mlops_exporter.counting.embeddings import EmbeddingCounts
from mlops_exporter.counting.estimation import LossEstimation, estimation_of
from mlops_exporter.counting.groups import GroupCounts
from mlops_exporter.counting.join import CLOSED, GivenUp, Join, Pairs
from mlops_exporter.counting.keys import hash_ids
from mlops_exporter.counting.ledger import Layout, Outputs
from mlops_exporter.counting.multivariate import VectorCounts, VectorMap, Vectors
from mlops_exporter.counting.version import Version
from mlops_exporter.counting.windows import PANES
from mlops_exporter.events.attributes import Attributes
from mlops_exporter.events.columns import Columns, Encoded
from mlops_exporter.events.schema import DEFAULT_VERSION, Schema
from mlops_exporter.profile.profile import Profile
from mlops_exporter.profile.values import floats
from mlops_exporter.settings.models import Limits, ModelSettings

VECTORS = "vectors"
"""Name of the ledger's section for sums of feature vectors."""

CHALLENGE_EVENTS = 100_000
"""Labelled events of one version that wait for the other version's."""

_COUNTS = ("labels_unmatched", "labels_duplicate", "labels_corrected", "predictions_duplicate")

_log = logging.getLogger(__name__)

_NO_LABELS = np.empty(0)

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
Flags = NDArray[np.bool_]


class Model:
    """Counts the events of one configured model. Not thread-safe: the event loop alone touches it."""

    def __init__(self, settings: ModelSettings, profile: Profile, limits: Limits) -> None:
        self.settings = settings
        self.profile = profile
        self.digest = profile.digest
        attributes = Attributes(settings.fairness.edges, profile, limits.groups) if settings.fairness else None
        self.group_counts = GroupCounts(attributes, profile) if attributes else None
        self.estimation = estimation_of(profile) if settings.estimation.enabled else None
        reference = profile.vectors
        self.vectors = VectorCounts(reference) if reference and settings.multivariate.enabled else None
        self.embeddings = {
            name: EmbeddingCounts(embedding)
            for name, embedding in profile.embeddings.items()
            if settings.multivariate.enabled
        }
        expects_losses = isinstance(self.estimation, LossEstimation)
        self.layout = Layout(
            profile,
            [section for section in (self.group_counts, self.estimation) if section is not None],
            reserved={
                **({VECTORS: self.vectors.cells} if self.vectors else {}),
                **{f"embedding {name}": counts.cells for name, counts in self.embeddings.items()},
            },
            groups=self.group_counts.columns if self.group_counts else (),
            losses=[f"expected {metric}" for metric in LossEstimation.metrics] if expects_losses else (),
        )
        self.schema = Schema(settings.name, profile, attributes)
        self._vector_map = (
            VectorMap.of(reference, self.layout.numeric) if reference and (self.vectors or expects_losses) else None
        )
        self.versions: dict[str, Version] = {}
        self.join = Join(
            self.layout.output_width,
            limits.versions,
            settings.label_ttl,
            limits.pending_predictions,
            limits.remembered_labels,
        )
        challenge = settings.challenge
        self.challenge = (
            Challenge(
                profile,
                challenge.champion,
                challenge.challenger,
                settings.windows,
                min(limits.remembered_labels, CHALLENGE_EVENTS),
                Join(
                    self.layout.output_width,
                    limits.versions,
                    settings.label_ttl,
                    limits.pending_predictions,
                    limits.remembered_labels,
                ),
            )
            if challenge
            else None
        )
        self.labels_unmatched = 0
        self.labels_duplicate = 0
        self.labels_corrected = 0
        self.predictions_duplicate = 0
        self._version_limit = limits.versions
        self._expected: str | None = None
        """The version that is there before its first event."""
        self.seed = 0
        """Seed of the hash of ids: kept with the state, and unknown to whoever chooses ids."""
        self._pane_width = min(settings.windows) / PANES

    @property
    def name(self) -> str:
        """The model's name in events and labels."""
        return self.settings.name

    @property
    def horizon(self) -> float:
        """Age in seconds beyond which an event is in no window."""
        return max(self.settings.windows)

    def expect(self) -> None:
        """Let the version that the profile was made for be there, at zero, before its first event.

        Otherwise Prometheus would not see what the first events add. Another version that comes first takes its place.
        """
        if not self.versions:
            self._expected = self.profile.provenance.model_version or DEFAULT_VERSION
            self.versions[self._expected] = self._version(self._expected)

    def admit(self, names: Set[str | None], now: float | None = None) -> Set[str | None]:
        """Create the versions that are new `now`, and return those for which there is no place left."""
        now = clock() if now is None else now
        if self._expected is not None and names != {None}:
            if self._expected not in names:
                del self.versions[self._expected]
            self._expected = None
        for name, version in self.versions.items():
            if name in names:
                version.seen = now
        refused: set[str | None] = set()
        for name in sorted(name for name in names - self.versions.keys() if name is not None):
            if len(self.versions) < self._version_limit:
                self.versions[name] = self._version(name, now)
            elif not self._take_place(name, now):
                refused.add(name)
        return refused

    def _take_place(self, name: str, now: float) -> bool:
        """Let a version take the place of the one unseen for longest of those that nothing shows of; False if none."""
        kept = {self.settings.challenge.champion, self.settings.challenge.challenger} if self.settings.challenge else ()
        gone = [
            version
            for version in self.versions.values()
            if version.seen < now - self.horizon
            and version.name not in kept
            and not self.waiting_predictions(version.name)
            and not version.totals(now)[:, [self.layout.predictions.start, self.layout.labels.start]].any()
        ]
        if not gone:
            return False
        oldest = min(gone, key=lambda version: version.seen).name
        _log.info(
            "model %s: version %s takes the place of %s, of which no window holds anything", self.name, name, oldest
        )
        self.versions = {  # in their order, by which the join knows them
            name if each == oldest else each: self._version(name, now) if each == oldest else version
            for each, version in self.versions.items()
        }
        return True

    def _version(self, name: str, seen: float = 0.0) -> Version:
        changes = ChangeMonitor(self.profile, self.settings.change) if self.settings.change.enabled else None
        version = Version(name, self.layout, self.settings.windows, self.settings.label_delay, changes)
        version.seen = seen
        return version

    @cached_property
    def basis(self) -> str:
        """What every count rests on. With another one a model begins anew, so that no window mixes two.

        Another profile has other bins and classes, another threshold other predictions, another `performance_time`
        other panes for the same labels.
        """
        decides = self.profile.task == "binary" and self.layout.score_columns
        threshold = f" threshold {self.settings.threshold!r}" if decides else ""
        return f"profile {self.digest}{threshold} time {self.settings.performance_time}"

    @property
    def state_name(self) -> str:
        """Name of the stored state."""
        return f"model {self.name} {self.basis}"

    def state(self) -> dict[str, Any]:
        """Return what `restore` needs, as a tree of arrays and numbers."""
        return {
            "places": self.layout.places(),
            "outputs": self.layout.output_names,
            "versions": {name: version.state() for name, version in self.versions.items() if name != self._expected},
            "join": self.join.state(),
            "challenge": self.challenge.state() if self.challenge else {},
            **{name: getattr(self, name) for name in _COUNTS},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over `state`, before the first event."""
        outputs, elsewhere = self._stored_outputs(state), state["places"] != self.layout.places()
        self._restore_versions(state)
        self.join.restore(state["join"], outputs, elsewhere=elsewhere)
        if self.challenge is not None:
            self.challenge.restore(state["challenge"], outputs, elsewhere=elsewhere)
        self._hold_versions()

    def take_over(self, former: "Model") -> None:
        """Go on, before the first event, from a model of the same basis, which takes no events any more.

        What is kept is what `restore` would keep of its state.
        """
        state = former.state()
        outputs, elsewhere = self._stored_outputs(state), state["places"] != self.layout.places()
        self.seed = former.seed
        self._restore_versions(state)
        self.join.take_over(former.join, outputs, elsewhere=elsewhere)
        if self.challenge is not None and former.challenge is not None:
            self.challenge.take_over(former.challenge, outputs, elsewhere=elsewhere)
        self._hold_versions()

    @property
    def waiting(self) -> int:
        """Number of predictions that wait for their label."""
        return sum(self.waiting_predictions(version) for version in self.versions)

    def _restore_versions(self, state: dict[str, Any]) -> None:
        cells = self.layout.shared(state["places"])
        for name, stored in state["versions"].items():  # in their order, by which the join knows them
            self.versions[name] = self._version(name)
            self.versions[name].restore(stored, cells)
        for name in _COUNTS:
            setattr(self, name, state[name])

    def _hold_versions(self) -> None:
        """See to it that what was restored has room, even when the limit was higher then."""
        for join in (self.join, *([self.challenge.join] if self.challenge else [])):
            join.hold_versions(max(len(self.versions), self._version_limit))

    def _stored_outputs(self, state: dict[str, Any]) -> list[int]:
        """Return which column of stored outputs is each of those kept here, -1 for one that was not kept."""
        there: list[str] = state["outputs"]
        return [there.index(name) if name in there else -1 for name in self.layout.output_names]

    def count(self, columns: Columns) -> None:
        """Count events whose versions are admitted, each prediction and each label once."""
        features = columns.features.encoded(self.schema)
        vectors = self._vector_map(features.numeric) if self._vector_map else None
        outputs = self._outputs(columns, features, vectors)
        table = outputs.table()
        times = floats(columns.times)
        labels = floats(columns.labels)
        versions = self._version_codes(columns.versions)
        failed = _given(columns.errors)
        predicts = versions >= 0
        fresh = predicts.copy()
        labelled = predicts & ~np.isnan(labels)

        keys = hash_ids(columns.ids, self.seed)
        known = keys != 0
        joins = self._joins(versions)
        relabelled: list[Ints] = []
        for join, mine in joins:
            rows = np.flatnonzero(predicts & known & mine)
            if not len(rows):
                relabelled.append(rows)
                continue
            expected = np.where(failed[rows] & np.isnan(labels[rows]), CLOSED, labels[rows])
            result = join.predict(keys[rows], times[rows], versions[rows], table.take(rows, axis=0), expected)
            fresh[rows] = result.fresh
            again = rows[~result.fresh]
            self.predictions_duplicate += len(again)
            self._give_up(result.given_up, join)
            self._count_pairs(result.pairs)
            relabelled.append(np.concatenate([again, rows[result.met]]))
            labelled[relabelled[-1]] = False

        self._count_predictions(columns, features, vectors, times, outputs, versions, failed, np.flatnonzero(fresh))
        direct = np.flatnonzero(labelled & fresh)
        if len(direct):
            self._count_pairs(
                Pairs(
                    versions[direct],
                    times[direct],
                    times[direct],
                    table[direct],
                    labels[direct],
                    np.full(len(direct), np.nan),
                    keys[direct],
                ),
                delayed=False,
            )
        for (join, _), again in zip(joins, relabelled, strict=True):
            alone = np.concatenate([np.flatnonzero(~predicts), again[~np.isnan(labels[again])]])
            if len(alone):
                joined = join.label(keys[alone], times[alone], labels[alone])
                self.labels_duplicate += joined.duplicates if join is self.join else 0
                self._give_up(joined.given_up, join)
                self._count_pairs(joined.pairs)

    def _joins(self, versions: Ints) -> list[tuple[Join, Flags]]:
        """Return the joins with the events whose predictions are theirs: a challenger has one of its own."""
        if self.challenge is None:
            return [(self.join, np.ones(len(versions), np.bool_))]
        challengers = versions == self._code(self.challenge.challenger)
        return [(self.join, ~challengers), (self.challenge.join, challengers)]

    def _code(self, name: str) -> int:
        """Return a version's place among the versions; an absent one's differs from all."""
        return list(self.versions).index(name) if name in self.versions else -2

    def expire(self, now: float) -> bool:
        """Give up what waited too long, and what a clock has counted that was ahead; returns whether there was any."""
        changed = False
        for version in self.versions.values():
            changed |= version.forget_after(now)
        if self.challenge:
            changed |= self.challenge.forget_after(now)
        for join in (self.join, *([self.challenge.join] if self.challenge else [])):
            given_up = join.expire(now)
            self._give_up(given_up, join)
            changed |= bool(len(given_up.versions) or given_up.labels)
        return changed

    def _outputs(self, columns: Columns, features: Encoded, vectors: Vectors | None) -> Outputs:
        """Return what the model said, of whom, and which losses are to be expected."""
        prediction = floats(columns.predictions)
        scores = (
            self.schema.score_array(columns.scores) if self.layout.score_columns else np.empty((len(prediction), 0))
        )
        groups = self.schema.group_array(columns, features)
        losses = (
            self.estimation.expected(prediction, np.flatnonzero(columns.features.flags), vectors)
            if isinstance(self.estimation, LossEstimation)
            else np.empty((len(prediction), 0))
        )
        return Outputs(prediction, scores, groups, losses).decided(self.settings.threshold)

    def _embeddings(self, features: Encoded) -> Iterator[tuple[str, NDArray[np.float32]]]:
        """Yield the vectors of each embedding that is watched."""
        start = 0
        for name, reference in self.profile.embeddings.items():
            stop = start + reference.dimensions
            if name in self.embeddings:
                yield name, features.vectors[start:stop]
            start = stop

    def _version_codes(self, versions: Sequence[str | None]) -> Ints:
        """Return each event's place in the versions, -1 for a label alone."""
        names = set(versions)
        codes: dict[str | None, int] = {None: -1, **{name: code for code, name in enumerate(self.versions)}}
        if len(names) == 1:
            return np.full(len(versions), codes[names.pop()], np.intp)
        return np.fromiter(map(codes.__getitem__, versions), np.intp, len(versions))

    def _count_predictions(
        self,
        columns: Columns,
        features: Encoded,
        vectors: Vectors | None,
        times: Floats,
        outputs: Outputs,
        versions: Ints,
        failed: Flags,
        rows: Ints,
    ) -> None:
        if not len(rows):
            return
        featured = columns.features.flags
        place = np.cumsum(featured) - 1
        latency = floats(columns.latencies)
        for version, time, group in self._groups(versions, times, rows):
            delta = self.layout.zeros()
            of_group = place[group[featured[group]]]
            if len(of_group) == features.numeric.shape[1]:
                self.layout.count_features(delta, features.numeric.copy(), features.codes)
            else:
                self.layout.count_features(
                    delta, features.numeric.take(of_group, axis=1), features.codes.take(of_group, axis=1)
                )
            if self.vectors is not None and vectors is not None:
                self.vectors.count(delta[self.layout.sections[VECTORS]], vectors.of(of_group))
            for embedding, values in self._embeddings(features):
                counts = self.embeddings[embedding]
                counts.count(delta[self.layout.sections[f"embedding {embedding}"]], values[:, of_group])
            failures = int(np.count_nonzero(failed[group]))
            mine = outputs.rows(group)
            self.layout.count_predictions(delta, mine, latency[group], failures)
            version.add(delta, time)
            if version.changes is not None:
                version.changes.observe("score", mine, _NO_LABELS)
            version.cover(len(group) - failures, 0, time)
            version.last_prediction = max(version.last_prediction or 0.0, float(times[group].max()))

    def _count_pairs(self, pairs: Pairs, *, delayed: bool = True) -> None:
        """Count predictions with their labels, in the pane of the label or of the prediction, as configured."""
        times = pairs.label_times if self.settings.performance_time == "label" else pairs.prediction_times
        delays = np.maximum(pairs.label_times - pairs.prediction_times, 0.0) if delayed else np.full(len(times), np.nan)
        corrects = ~np.isnan(pairs.old_labels)
        outputs = self.layout.outputs(pairs.outputs)
        if self.challenge is not None:
            self._count_challenge(pairs, times, outputs)
        for version, time, group in self._groups(pairs.versions, times, np.flatnonzero(~corrects)):
            delta = self.layout.zeros()
            mine = outputs.rows(group)
            self.layout.count_labels(delta, mine, pairs.labels[group], delays[group])
            version.add(delta, time)
            if version.changes is not None:
                version.changes.observe("error", mine, pairs.labels[group])
            version.last_label = max(version.last_label or 0.0, float(pairs.label_times[group].max()))
        for version, time, group in self._groups(pairs.versions, pairs.prediction_times, np.flatnonzero(~corrects)):
            version.cover(0, len(group), time)
        for version, time, group in self._groups(pairs.versions, times, np.flatnonzero(corrects)):
            self.labels_corrected += len(group)
            old, new = self.layout.zeros(), self.layout.zeros()
            absent = np.full(len(group), np.nan)
            self.layout.count_labels(old, outputs.rows(group), pairs.old_labels[group], absent)
            self.layout.count_labels(new, outputs.rows(group), pairs.labels[group], absent)
            version.move(old, new, time)

    def _count_challenge(self, pairs: Pairs, times: Floats, outputs: Outputs) -> None:
        """Compare champion and challenger where both are known; corrected labels change nothing here."""
        assert self.challenge is not None
        sides = np.select(
            [pairs.versions == self._code(name) for name in (self.challenge.champion, self.challenge.challenger)],
            [0, 1],
            -1,
        )
        rows = np.flatnonzero((sides >= 0) & (pairs.keys != 0) & np.isnan(pairs.old_labels))
        if len(rows):
            self.challenge.add(pairs.keys[rows], sides[rows], times[rows], outputs.rows(rows), pairs.labels[rows])

    def waiting_predictions(self, version: str) -> int:
        """Return how many predictions of a version wait for their label."""
        join = self.challenge.join if self.challenge and version == self.challenge.challenger else self.join
        return int(join.waiting_predictions[self._code(version)])

    def _groups(self, versions: Ints, times: Floats, rows: Ints) -> Iterator[tuple[Version, float, Ints]]:
        """Yield the rows of each version and pane, with a time in the middle of that pane."""
        if not len(rows):
            return
        panes = np.floor(times[rows] / self._pane_width).astype(np.int64)
        first, everyone = panes.min(), list(self.versions.values())
        places = (panes - first) * len(everyone) + versions[rows]
        if places.max() < 1 << 16:
            places = places.astype(np.uint16)  # which sorts several times as fast
        order = places.argsort(kind="stable")
        starts = np.flatnonzero(np.diff(places[order])) + 1
        for place, group in zip(places[order[[0, *starts]]].tolist(), np.split(rows[order], starts), strict=True):
            pane, code = divmod(place, len(everyone))
            yield everyone[code], (int(first) + pane + 0.5) * self._pane_width, group

    def _give_up(self, given_up: GivenUp, join: Join) -> None:
        """Count what waited in vain; that a label found no challenger says nothing."""
        self.labels_unmatched += given_up.labels if join is self.join else 0
        everyone = list(self.versions.values())
        for code, count in enumerate(np.bincount(given_up.versions, minlength=len(everyone)).tolist()):
            everyone[code].unlabelled += count


def _given(values: Sequence[object]) -> Flags:
    """Return which values are not None."""
    if values and values[0] is None and values.count(None) == len(values):
        return np.zeros(len(values), np.bool_)
    return np.array([value is not None for value in values])
