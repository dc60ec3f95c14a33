"""How everything is, in words: the one read model behind the landing page and `/api/v1/status`.

It judges by the same rules as the alerts: a benchmark is missed when the whole 95 % interval is beyond it, a feature
drifts when a statistic is above its threshold, and `signs` tells of the rest.
"""

import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from mlops_exporter.counting.model import Model
from mlops_exporter.counting.version import Version
from mlops_exporter.exposition.budget import SeriesState
from mlops_exporter.ingest.intake import SourceCounts
from mlops_exporter.judging.benchmarks import benchmark_bounds
from mlops_exporter.judging.drift import Comparison
from mlops_exporter.judging.performance import Sums, metrics_of
from mlops_exporter.judging.suspicions import Signs
from mlops_exporter.logs import Notice
from mlops_exporter.settings.durations import format_duration
from mlops_exporter.settings.loading import Loading
from mlops_exporter.sources.base import Health

BUSY_EVENTS = 30  # as for the alert MLNoPredictions
"""Predictions that a window would hold at the mean rate of the longest, from which on it is odd that it holds none."""

HISTORY_POINTS = 60
HISTORY_SECONDS = 10.0

Verdict = Literal["failing", "silent", "suspect", "unfair", "drifting", "unknown", "good"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
"""From what needs somebody most to what needs nobody."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Headline:
    """The first benchmarked metric (without benchmarks, the task's first) over the shortest window with enough labels.

    `value` with its interval is None while no window has enough. `history` has a point every ten seconds, oldest
    first, and `value` last; None where there was none.
    """

    metric: str
    window: str
    value: float | None
    lower: float | None
    upper: float | None
    minimum: float | None
    maximum: float | None
    history: list[float | None]


@dataclass(frozen=True, slots=True)
class ModelState:
    """One version of a model. `drifted` names features; times are Unix seconds, None before the first event.

    `label_coverage` is the labelled share of the predictions that are due for one, in the headline's window.
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


@dataclass(frozen=True, slots=True)
class SourceState:
    """One source of events. `rejected_by_reason` has the reasons that occurred."""

    source: str
    up: bool
    error: str | None
    lag_events: float | None
    accepted: int
    rejected: int
    rejected_by_reason: dict[str, int]
    late: int
    last_event: float | None


@dataclass(frozen=True, slots=True)
class Report:
    """The whole exporter at `time`. `not_ready` is the reason why events are not taken, None when they are.

    `configuration` tells how it was last loaded.
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


def source_state(name: str, counts: SourceCounts, health: Health | None = None) -> SourceState:
    """Return the state of a source; one that is pushed to has no health of its own and is up."""
    health = health or Health(up=True)
    occurred = {reason: number for reason, number in counts.rejected.items() if number}
    return SourceState(
        name,
        health.up,
        health.error,
        health.lag_events,
        counts.accepted,
        sum(occurred.values()),
        dict(sorted(occurred.items(), key=lambda item: -item[1])),
        counts.late,
        counts.last_event,
    )


class Observer:
    """Judges the versions of one model, and remembers how its headline metric went."""

    def __init__(self, model: Model, comparison: Comparison) -> None:
        self._model = model
        self._comparison = comparison
        self._windows = [format_duration(length) for length in model.settings.windows]
        self._bounds = benchmark_bounds(model)
        metrics = metrics_of(model.layout)
        self._headline = next((name for name in self._bounds if name in metrics), next(iter(metrics)))
        self._metrics = {name: metrics[name] for name in (self._headline, *self._bounds) if name in metrics}
        self._signs = Signs(model)
        self._history: dict[str, deque[Floats]] = {}

    def record(self, now: float) -> None:
        """Remember the headline metric of this moment."""
        for name, version in self._model.versions.items():
            history = self._history.setdefault(name, deque(maxlen=HISTORY_POINTS))
            history.append(self._performance(version.totals(now), [self._headline])[self._headline][:, 0])

    def states(self, now: float) -> list[ModelState]:
        """Return the state of every version."""
        return [self._state(code, version, now) for code, version in enumerate(self._model.versions.values())]

    def _state(self, code: int, version: Version, now: float) -> ModelState:
        model, totals = self._model, version.totals(now)
        layout = model.layout
        estimates = self._performance(totals, self._metrics)
        missed = [text for name in self._bounds if name in estimates and (text := self._miss(name, estimates[name]))]
        drifted, outcomes, drift_window = self._drifted(totals)
        labels = totals[:, layout.labels.start]
        enough = model.settings.min_samples.performance
        reasons: dict[Verdict, list[str]] = {verdict: [] for verdict in VERDICTS}
        reasons["failing"] = missed
        reasons["silent"] = list(self._silence(totals[:, layout.predictions.start]))
        reasons["suspect"] = list(self._signs.of_failure(version, totals))
        reasons["unfair"] = list(self._signs.of_unfairness(totals))
        if drifted or outcomes:
            reasons["drifting"] = [f"{', '.join([*_listed(drifted), *outcomes])} drifted in {drift_window}"]
        if labels.max() < enough:
            reasons["unknown"] = [
                f"{labels.max():.0f} of {enough} labels that performance needs in {self._windows[-1]}"
            ]
        headline = self._headline_of(version.name, estimates[self._headline])
        coverage = version.label_coverage(now, model.settings.label_delay)[self._windows.index(headline.window)]
        return ModelState(
            model=model.name,
            version=version.name,
            task=model.profile.task,
            profile_hash=model.digest,
            state=next((verdict for verdict in VERDICTS if reasons[verdict]), "good"),
            reasons=[reason for found in reasons.values() for reason in found],
            performance=headline,
            features=len(layout.feature_names),
            drifted=drifted,
            label_coverage=_or_none(coverage),
            predictions=int(version.lifetime[layout.predictions.start]),
            labels=int(version.lifetime[layout.labels.start]),
            pending=int(model.join.waiting_predictions[code]),
            unlabelled=version.unlabelled,
            last_prediction=version.last_prediction,
            last_label=version.last_label,
        )

    def _silence(self, predictions: Floats) -> Iterator[str]:
        """Say if there are no predictions: none at all, or none for long where the longest window has many."""
        lengths = np.array(self._model.settings.windows)
        if predictions[-1] == 0:
            yield f"no prediction in {self._windows[-1]}"
            return
        usual = predictions[-1] * lengths / lengths[-1]
        silent = np.flatnonzero((predictions == 0) & (usual >= BUSY_EVENTS))
        if len(silent):
            yield f"no prediction in {self._windows[silent[-1]]}, where {usual[silent[-1]]:,.0f} are usual"

    def _performance(self, totals: Floats, names: Sequence[str] | Mapping[str, object]) -> dict[str, Floats]:
        """Return value, lower and upper end of metrics by window, (W, 3); NaN below the least number of labels."""
        sums = Sums(self._model.layout, totals)
        enough = sums.labels >= self._model.settings.min_samples.performance
        with np.errstate(divide="ignore", invalid="ignore"):
            return {
                name: np.where(enough[:, None], np.stack(self._metrics[name](sums), axis=-1), np.nan) for name in names
            }

    def _miss(self, metric: str, estimates: Floats) -> str | None:
        """Say how the shortest window with a value misses the metric's benchmark, if it does."""
        minimum, maximum = self._bounds[metric]
        row = _first_known(estimates[:, 0])
        if row is None:
            return None
        value, lower, upper = estimates[row]
        interval = f"{metric} {value:.4g} ({lower:.4g} to {upper:.4g}) in {self._windows[row]}"
        if minimum is not None and upper < minimum:
            return f"{interval}, at least {minimum:.4g} is agreed"
        if maximum is not None and lower > maximum:
            return f"{interval}, at most {maximum:.4g} is agreed"
        return None

    def _headline_of(self, version: str, estimates: Floats) -> Headline:
        row = _first_known(estimates[:, 0])
        shown = 0 if row is None else row
        value, lower, upper = (_or_none(number) for number in estimates[shown].tolist())
        minimum, maximum = self._bounds.get(self._headline, (None, None))
        recorded = [_or_none(float(point[shown])) for point in self._history.get(version, ())]
        history = [*recorded, value][-HISTORY_POINTS:]
        return Headline(self._headline, self._windows[shown], value, lower, upper, minimum, maximum, history)

    def _drifted(self, totals: Floats) -> tuple[list[str], list[str], str]:
        """Return the features that drift, furthest above their thresholds first, the outcomes that do, and the window.

        It is the shortest window with enough values for any comparison.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            drift = self._comparison.compare(totals)
        if not drift.values:
            return [], [], self._windows[0]
        values, thresholds = (np.stack(list(part.values()), axis=-1) for part in (drift.values, drift.thresholds))
        excess = np.where(np.isnan(values), -np.inf, values - thresholds).max(axis=-1)
        row = _first_known(np.where(np.isinf(excess).all(axis=1), np.nan, 0.0)) or 0
        names = self._model.layout.feature_names
        order = np.argsort(-excess[row, : len(names)])
        features = [names[index] for index in order if excess[row, index] > 0]
        outcomes = [f"{name}s" for name, index in self._comparison.outcomes.items() if excess[row, index] > 0]
        return features, outcomes, self._windows[row]


def _first_known(values: Floats) -> int | None:
    known = np.flatnonzero(~np.isnan(values))
    return int(known[0]) if len(known) else None


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else float(value)  # a NumPy number is none that JSON takes


def _listed(features: list[str]) -> list[str]:
    return features if len(features) <= 4 else [*features[:3], f"{len(features) - 3} more features"]
