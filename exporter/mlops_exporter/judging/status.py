"""How everything is, in words: the one read model behind the landing page and `/api/v1/status`.

The judge says what is wrong, by the same rules as the alerts.
"""

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from mlops_exporter.arrays import Floats
from mlops_exporter.counting.model import Model
from mlops_exporter.counting.reference import Reference
from mlops_exporter.counting.rhythm import Rhythm
from mlops_exporter.counting.version import Version
from mlops_exporter.exposition.budget import SeriesState
from mlops_exporter.ingest.intake import SourceCounts
from mlops_exporter.judging.benchmarks import benchmark_bounds
from mlops_exporter.judging.dependence import effects_of
from mlops_exporter.judging.drift import Comparison
from mlops_exporter.judging.judge import VERDICTS, Verdict
from mlops_exporter.judging.machine import MachineState
from mlops_exporter.judging.outcomes import outcomes_of
from mlops_exporter.judging.performance import estimates, metrics_of
from mlops_exporter.judging.seasonality import Seasonality
from mlops_exporter.judging.verdicts import Bench
from mlops_exporter.logs import Notice, redacted
from mlops_exporter.profile.hours import HourlyReference, Hours
from mlops_exporter.settings.durations import format_duration
from mlops_exporter.settings.loading import Loading
from mlops_exporter.sources.base import Health

HISTORY_POINTS = 60
HISTORY_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Headline:
    """The first benchmarked metric (without benchmarks, the task's first) over the shortest window with enough labels.

    Of a model of outcomes it is the mean of the first benchmarked outcome (without benchmarks, of the first).

    `value` with its interval is None while no window has enough. `history` has a point every ten seconds, oldest
    first, and `value` last; None where there was none. `batches` is how many the window holds of a model with a
    cadence, None where it goes by the clock.
    """

    metric: str
    window: str
    value: float | None
    lower: float | None
    upper: float | None
    minimum: float | None
    maximum: float | None
    history: list[float | None]
    batches: int | None = None


@dataclass(frozen=True, slots=True)
class ModelState:
    """One version of a model. `drifted` names features; times are Unix seconds, None before the first event.

    `label_coverage` is the labelled share of the predictions that are due for one, in the headline's window.
    `seasonality` tells that windows of one length differ among each other, None where they hardly do. `hours` tells
    which ones the reference knows, None for none.
    """

    model: str
    version: str
    task: str
    profile_hash: str
    state: Verdict
    reasons: list[str]
    performance: Headline
    features: int
    drifted: list[str]
    label_coverage: float | None
    predictions: int
    labels: int
    pending: int
    unlabelled: int
    last_prediction: float | None
    last_label: float | None
    seasonality: Seasonality | None = None
    hours: Hours | None = None


@dataclass(frozen=True, slots=True)
class SourceState:
    """One source of events. `rejected_by_reason` has the reasons that occurred.

    `ignored` has the names of features that models do not know, by model: the first since the start.
    `rewritten_files` changed after they were read, and were not read again; None where the source reads no tables.
    `refill_events` are left to be read again, not counted; None where the source never does.
    """

    source: str
    up: bool
    error: str | None
    lag_events: float | None
    accepted: int
    rejected: int
    rejected_by_reason: dict[str, int]
    late: int
    last_event: float | None
    ignored: dict[str, list[str]] = field(default_factory=dict)
    rewritten_files: int | None = None
    refill_events: int | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """The whole exporter at `time`. `not_ready` is the reason why events are not taken, None when they are.

    `configuration` tells how it was last loaded, `watches_models` whether it names any; else the
    machine alone is watched. `machine` is None where that is not known.
    """

    version: str
    started: float
    time: float
    not_ready: str | None = None
    models: list[ModelState] = field(default_factory=list)
    sources: list[SourceState] = field(default_factory=list)
    errors: list[Notice] = field(default_factory=list)
    series: SeriesState = field(default_factory=SeriesState)
    configuration: Loading | None = None
    watches_models: bool = True
    machine: MachineState | None = None


def source_state(name: str, counts: SourceCounts, health: Health | None = None) -> SourceState:
    """Return the state of a source; one that is pushed to has no health of its own and is up."""
    health = health or Health(up=True)
    occurred = {reason: number for reason, number in counts.rejected.items() if number}
    return SourceState(
        name,
        health.up,
        None if health.error is None else redacted(health.error),
        health.lag_events,
        counts.accepted,
        sum(occurred.values()),
        dict(sorted(occurred.items(), key=lambda item: -item[1])),
        counts.late,
        counts.last_event,
        counts.ignored,
        health.rewritten,
        health.refill,
    )


class Observer:
    """Judges the versions of one reference, and remembers how its headline metric went."""

    def __init__(self, model: Model, reference: Reference, comparison: Comparison) -> None:
        self._model = model
        self.reference = reference
        self._windows = [format_duration(length) for length in model.settings.windows]
        self._bounds = benchmark_bounds(reference)
        metrics = metrics_of(reference.layout, model.settings.costs)
        self._outcomes = outcomes_of(reference)
        if not metrics:
            assert self._outcomes is not None, "what has no labels has outcomes"
            self._bounds = self._outcomes.bounds
        agreed = [name for name, bounds in self._bounds.items() if bounds != (None, None)]
        self._headline = next((name for name in agreed if name in metrics or not metrics), [*metrics, *self._bounds][0])
        self._metrics = {name: metrics[name] for name in (self._headline, *self._bounds) if name in metrics}
        self._bench = Bench(reference, comparison)
        self._history: dict[str, deque[Floats]] = {}

    def record(self, now: float) -> None:
        """Remember the headline metric of this moment."""
        for name, version in self.reference.versions.items():
            history = self._history.setdefault(name, deque(maxlen=HISTORY_POINTS))
            history.append(self._performance(version, now, [self._headline])[self._headline][:, 0])

    def states(self, now: float) -> list[ModelState]:
        """Return the state of every version."""
        predictions = self._model.window_predictions(now)
        return [self._state(version, now, predictions) for version in self.reference.versions.values()]

    def _state(self, version: Version, now: float, of_all_versions: Floats) -> ModelState:
        model = self._model
        layout = self.reference.layout
        performance = self._performance(version, now, self._metrics)
        reasons = self._bench.reasons(version, now, of_all_versions)
        headline = self._headline_of(version.name, performance[self._headline])
        coverage = version.label_coverage(now, model.settings.label_delay)[self._windows.index(headline.window)]
        return ModelState(
            model=model.name,
            version=version.name,
            task=model.settings.task,
            profile_hash=self.reference.digest,
            state=next((verdict for verdict in VERDICTS if reasons[verdict]), "good"),
            reasons=[reason for found in reasons.values() for reason in found],
            performance=headline,
            features=len(layout.feature_names),
            drifted=self._bench.drifted(version, now),
            label_coverage=_or_none(coverage),
            predictions=int(version.lifetime[layout.predictions.start]),
            labels=int(version.lifetime[layout.labels.start]),
            pending=model.waiting_predictions(version.name),
            unlabelled=version.unlabelled,
            last_prediction=version.last_prediction,
            last_label=version.last_label,
            seasonality=self._bench.seasonality(version, now),
            hours=hours.by if isinstance(hours := self.reference.profile.hours, HourlyReference) else None,
        )

    def _performance(
        self, version: Version, now: float, names: Sequence[str] | Mapping[str, object]
    ) -> dict[str, Floats]:
        """Return value, lower and upper end of metrics by window, (W, 3); NaN below the least number of labels."""
        if not self._metrics and self._outcomes is not None:
            rated = self._outcomes.rate(version, now)
            return {name: np.stack(rated[name].mean, axis=-1) for name in (*names, self._headline)}
        totals, layout = version.totals(now), self.reference.layout
        effects = effects_of(self.reference, version, now).labels
        enough = totals[:, layout.labels.start] >= self._model.settings.min_samples.performance
        with np.errstate(divide="ignore", invalid="ignore"):
            found = estimates({name: self._metrics[name] for name in names}, layout, totals, effects)
        return {name: np.where(enough[:, None], np.stack(found[name], axis=-1), np.nan) for name in names}

    def _headline_of(self, version: str, estimates: Floats) -> Headline:
        row = _first_known(estimates[:, 0])
        shown = 0 if row is None else row
        value, lower, upper = (_or_none(number) for number in estimates[shown].tolist())
        minimum, maximum = self._bounds.get(self._headline, (None, None))
        recorded = [_or_none(float(point[shown])) for point in self._history.get(version, ())]
        history = [*recorded, value][-HISTORY_POINTS:]
        settings = self._model.settings
        rhythm = Rhythm.of(settings)
        batches = rhythm.batches(settings.windows[shown]) if rhythm else None
        return Headline(self._headline, self._windows[shown], value, lower, upper, minimum, maximum, history, batches)


def _first_known(values: Floats) -> int | None:
    known = np.flatnonzero(~np.isnan(values))
    return int(known[0]) if len(known) else None


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else float(value)  # a NumPy number is none that JSON takes
