"""What follows from one profile: how the events of its versions are typed, laid out in ledgers and counted."""

import hashlib
from collections.abc import Collection, Iterator
from functools import cached_property

import msgspec
import numpy as np

from mlops_exporter.arrays import Floats, Ints, Singles, columns_of
from mlops_exporter.counting import buckets
from mlops_exporter.counting.bounds import Bounds
from mlops_exporter.counting.change import ChangeMonitor
from mlops_exporter.counting.embeddings import EmbeddingCounts
from mlops_exporter.counting.estimation import Estimation, LossEstimation, estimation_of
from mlops_exporter.counting.groups import GroupCounts, columns
from mlops_exporter.counting.ledger import Layout, Outputs
from mlops_exporter.counting.multivariate import VectorCounts, VectorMap, Vectors
from mlops_exporter.counting.outcomes import OutcomeCounts
from mlops_exporter.counting.rhythm import Rhythm, reaches
from mlops_exporter.counting.slices import SliceCounts
from mlops_exporter.counting.version import Version
from mlops_exporter.events.attributes import Attributes
from mlops_exporter.events.columns import Columns, Encoded
from mlops_exporter.events.schema import Outcomes, Schema
from mlops_exporter.profile.profile import Profile
from mlops_exporter.profile.profiles import encoded
from mlops_exporter.profile.sets import among
from mlops_exporter.profile.values import floats
from mlops_exporter.settings.models import Limits, ModelSettings
from mlops_exporter.statistics import ratings


class Reference:
    """A profile of a model, as its versions are counted by it.

    `version` is the one that has the profile for itself, None for every version without a profile of its own;
    `outcomes` are what labels of the model may be, `features` what some version has. `retired` tells that the
    configuration has the profile no more.
    """

    def __init__(
        self,
        settings: ModelSettings,
        profile: Profile,
        limits: Limits,
        outcomes: Outcomes,
        features: Collection[str] = (),
        version: str | None = None,
        *,
        retired: bool = False,
    ) -> None:
        self.settings = settings
        self.profile = profile
        self.digest = profile.digest
        self.version = version
        self.outcomes = outcomes
        self.retired = retired
        attributes = _attributes(settings, profile, limits, must=profile.rows > 0 and not retired)
        self.estimation = estimation_of(profile) if settings.estimation.enabled else None
        self.group_counts, self.segment_counts = _group_counts(settings, attributes, profile, self.estimation)
        vectors = profile.vectors
        self.vectors = VectorCounts(vectors) if vectors and settings.multivariate.enabled else None
        self.embeddings = {
            name: EmbeddingCounts(name, embedding)
            for name, embedding in profile.embeddings.items()
            if settings.multivariate.enabled
        }
        self.joins_labels = profile.task not in ("ranking", "outcomes")
        """Whether one label decides a prediction, which waits for it in the join."""
        self.expects_labels = profile.task != "outcomes"
        self.outcome_counts = [OutcomeCounts(name, outcome) for name, outcome in settings.outcomes.items()]
        expects_losses = isinstance(self.estimation, LossEstimation)
        self.layout = Layout(
            profile,
            [section for section in (self.group_counts, self.estimation, self.segment_counts) if section is not None],
            [*([self.vectors] if self.vectors else []), *self.embeddings.values(), *self.outcome_counts],
            groups=columns(attributes) if attributes else (),
            losses=[f"expected {metric}" for metric in LossEstimation.metrics] if expects_losses else (),
        )
        self.schema = Schema(
            settings.name,
            profile,
            attributes,
            version=version,
            outcomes=outcomes,
            known=features,
            rated={name: (outcome.low, outcome.high) for name, outcome in settings.outcomes.items()},
        )
        self._vector_map = (
            VectorMap.of(vectors, self.layout.numeric, self.layout.categorical)
            if vectors and (self.vectors or expects_losses)
            else None
        )
        self._class_of = _codes_among(outcomes.classes, profile.classes)
        self.versions: dict[str, Version] = {}
        """The versions that are counted by this profile."""

    @cached_property
    def basis(self) -> str:
        """What every count rests on. With another one a version begins anew, so that no window mixes two.

        Another profile has other bins and classes, another threshold other predictions, another `performance_time`
        other panes for the same labels.
        """
        decides = self.profile.task in ("binary", "multilabel") and self.layout.score_columns
        threshold = f" threshold {self.settings.threshold!r}" if decides else ""
        return f"profile {self.digest}{threshold} time {self.settings.performance_time}"

    @cached_property
    def layout_digest(self) -> str:
        """What is the same of ledgers whose cells mean the same, beside the profile's digest."""
        meaning = [self.basis, self.layout.places(), buckets.LATENCY, buckets.LABEL_DELAY]
        return hashlib.sha256(msgspec.json.encode(meaning)).hexdigest()[:12]

    @cached_property
    def bounds(self) -> Bounds:
        """What one event can add to each cell of a ledger."""
        return self.layout.bounds(self.schema.largest_outcome)

    @cached_property
    def kept(self) -> bytes:
        """The profile, to be kept beside the counts."""
        return encoded(self.profile)

    def begin(self, name: str, place: int, seen: float = 0.0) -> Version:
        """Return a version that is counted by this profile, and has counted nothing."""
        changes = (
            ChangeMonitor(self.profile, self.settings.change, reaches(self.settings), self.settings.outcomes)
            if self.settings.change.enabled
            else None
        )
        settings = self.settings
        version = Version(name, self.layout, settings.windows, settings.label_delay, changes, Rhythm.of(settings))
        version.seen, version.place = seen, place
        self.versions[name] = version
        return version

    def encode(self, columns: Columns) -> tuple[Encoded, Vectors | None, Outputs]:
        """Return the features of events, their vectors, and what the model said, of whom, with what losses expected."""
        features = columns.features.encoded(self.schema)
        vectors = self._vector_map(features.numeric, features.codes) if self._vector_map else None
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
        return (
            features,
            vectors,
            Outputs(prediction, scores, groups, losses, columns.forecasts).decided(
                self.profile.task, self.settings.threshold
            ),
        )

    def own_labels(self, labels: Floats) -> Floats:
        """Return labels of the model by the profile's classes, NaN for one with a class that it does not know."""
        if self._class_of is None:
            return labels
        own = np.full(len(labels), np.nan)
        known = np.isfinite(labels)
        if self.profile.task == "multilabel":
            own[known] = among(labels[known], self._class_of)
        else:
            own[known] = self._class_of[labels[known].astype(np.intp)]
        return own

    def embedded(self, features: Encoded) -> Iterator[tuple[EmbeddingCounts, Singles]]:
        """Yield each embedding that is watched, and its vectors."""
        start = 0
        for name, reference in self.profile.embeddings.items():
            stop = start + reference.dimensions
            if name in self.embeddings:
                yield self.embeddings[name], features.vectors[start:stop]
            start = stop

    def count_features(self, ledger: Floats, features: Encoded, vectors: Vectors | None, events: Ints) -> None:
        """Add the features of some of the events that have any."""
        self.layout.count_features(ledger, columns_of(features.numeric, events), columns_of(features.codes, events))
        if self.vectors is not None and vectors is not None:
            self.vectors.count(ledger[self.layout.cells_of(self.vectors)], vectors.of(events))
        for counts, values in self.embedded(features):
            counts.count(ledger[self.layout.cells_of(counts)], columns_of(values, events))

    def count_outcomes(self, ledger: Floats, values: Floats) -> None:
        """Add the numbers by which answers are rated, (n, outcomes); NaN where absent."""
        for counts, column in zip(self.outcome_counts, values.T, strict=True):
            ledger[self.layout.cells_of(counts)] += ratings.moments(column, counts.low)
            self.layout.count_rated(ledger, counts.outcome, column)

    def outcome_sums(self, outcome: int, values: Floats) -> Floats:
        """Return a ledger of values of one outcome alone."""
        ledger, counts = self.layout.zeros(), self.outcome_counts[outcome]
        ledger[self.layout.cells_of(counts)] = ratings.moments(values, counts.low)
        self.layout.count_rated(ledger, counts.outcome, values)
        return ledger


def _attributes(settings: ModelSettings, profile: Profile, limits: Limits, *, must: bool) -> Attributes | None:
    """Return what tells groups apart; None where nothing does, or where a profile does not know them that need not.

    That is so of a version without profile, and of a former profile that was built before they were configured.
    """
    if settings.fairness is None and settings.segments is None:
        return None
    try:
        return Attributes(settings.cut, profile, limits.groups, settings.binned)
    except ValueError:
        if must:
            raise
        return None


def _group_counts(
    settings: ModelSettings, attributes: Attributes | None, profile: Profile, estimation: Estimation | None
) -> tuple[GroupCounts | None, SliceCounts | None]:
    """Return what counts the groups of fairness, and what counts slices."""
    if attributes is None:
        return None, None
    fairness, segments = settings.fairness, settings.segments
    return (
        GroupCounts(attributes, profile, list(fairness.edges)) if fairness else None,
        SliceCounts(attributes, profile, list(segments.edges), estimation) if segments else None,
    )


def _codes_among(several: list[str], classes: list[str]) -> Floats | None:
    """Return the code among `classes` of each of several, NaN for none; None where all are the same."""
    if several == classes:
        return None
    return np.array([classes.index(name) if name in classes else np.nan for name in several])
