"""Slices of the traffic beside the rest of it: a model may be as good as agreed, and surely not in one country.

Before the labels are in, a slice is held against the rest by what can be expected of it, and what the model says there
against what it said of the reference's rows of that slice.
"""

from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from mlops_exporter.arrays import Flags, Floats
from mlops_exporter.counting.reference import Reference
from mlops_exporter.counting.slices import SliceCounts
from mlops_exporter.judging import judge
from mlops_exporter.judging.benchmarks import benchmark_bounds
from mlops_exporter.judging.dependence import Effects
from mlops_exporter.judging.estimation import expected
from mlops_exporter.judging.judge import limit
from mlops_exporter.judging.performance import BETTER, RANGES, PerformanceMetric, estimates, metrics_of
from mlops_exporter.statistics import discovery, drift, thresholds
from mlops_exporter.statistics.discovery import discoveries
from mlops_exporter.statistics.drift import Statistic
from mlops_exporter.statistics.intervals import Estimate
from mlops_exporter.statistics.slices import p_of_kept, p_of_no_worse

STATISTIC: Statistic = "tvd"
"""The statistic of a slice's drift: it holds for classes and bins, and where the reference has few rows of a slice."""

_LEAST_DRIFT = 0.1


class Slices(NamedTuple):
    """What windows say of every slice, (W, S), and of each metric there, (W, S, metrics).

    `estimated` and `estimated_worse` are of the metrics that can be estimated. Drift is NaN, and `drifted` too, where
    nothing can be compared.
    """

    predictions: Floats
    labels: Floats
    performance: Estimate
    worse: Flags
    estimated: Estimate
    estimated_worse: Flags
    drift: Floats
    drift_threshold: Floats
    drifted: Floats


class Segments:
    """Compares the slices of one reference, all segments' together: `slices` names them, by segment and value.

    Held against each other are the metrics with a benchmark; without any, the first of the task. Those of them that
    can be estimated without labels are `estimable`.
    """

    def __init__(self, reference: Reference) -> None:
        settings = reference.settings
        assert reference.segment_counts is not None
        assert settings.segments is not None
        self._counts = reference.segment_counts
        self._cells = reference.layout.cells_of(self._counts)
        self._tolerance = settings.segments.tolerance
        self._least = max(settings.min_samples.performance, limit("min_labels"))
        self._shown = settings.min_samples.performance
        self._rates = judge.chance(np.array(settings.windows))[:, np.newaxis]
        self._bounds = benchmark_bounds(reference)
        possible = metrics_of(self._counts.layout, settings.costs)
        agreed = {name: possible[name] for name in self._bounds if name in possible and name in BETTER}
        self.metrics: dict[str, PerformanceMetric] = agreed or dict(list(possible.items())[:1])
        self._estimation = self._counts.said.estimation
        self.estimable = [name for name in self.metrics if self._estimation and name in self._estimation.metrics]
        named = zip(self._counts.names, self._counts.groups, strict=True)
        self.slices = [(segment, value) for segment, values in named for value in values]
        self.of_drift = bool(reference.profile.slices)
        """Whether the profile knows what was said of slices."""
        self._drift = _Drift(reference, self._counts) if self.of_drift else None

    def compare(self, totals: Floats, effects: Effects) -> Slices:
        """Compare every slice with the rest of its segment; `totals` are the ledgers of the windows, (W, cells).

        Labels and predictions of a slice are taken to be worth as much, by the `effects` of the windows, as those of
        the whole.
        """
        layout = self._counts.layout
        parts, rests = [], []
        for index in range(len(self._counts.names)):
            ledgers = self._counts.sums(totals[:, self._cells], index)
            parts.append(ledgers)
            rests.append(ledgers.sum(axis=1, keepdims=True) - ledgers)
        part, rest = np.concatenate(parts, axis=1), np.concatenate(rests, axis=1)
        labels, predictions = part[..., layout.labels.start], part[..., layout.predictions.start]
        of_labels = np.broadcast_to(effects.labels[:, np.newaxis], labels.shape)
        with np.errstate(divide="ignore", invalid="ignore"):
            found = estimates(self.metrics, layout, part, of_labels)
            others = estimates(self.metrics, layout, rest, of_labels)
            worse = self._worse(found, others, labels, rest[..., layout.labels.start])
            of_part, of_rest = self._expected(part, effects), self._expected(rest, effects)
            estimated_worse = self._worse(of_part, of_rest, predictions, rest[..., layout.predictions.start])
            drifts = _no_drift(predictions) if self._drift is None else self._drift.of(part, effects)
        return Slices(
            predictions,
            labels,
            _shown(found, labels >= self._shown),
            worse,
            _shown(of_part, predictions >= self._shown),
            estimated_worse,
            *drifts,
        )

    def _expected(self, ledgers: Floats, effects: Effects) -> dict[str, Estimate]:
        """Return what can be expected without labels, (W, S) each, of ledgers of slices."""
        if self._estimation is None or not self.estimable:
            return {}
        half = self._counts.expected(ledgers) / effects.outputs[:, np.newaxis, np.newaxis]
        found = expected(self._estimation, half)
        return {name: found[name] for name in self.estimable}

    def _worse(self, here: dict[str, Estimate], others: dict[str, Estimate], n: Floats, of_others: Floats) -> Flags:
        """Return which slices are surely worse than the others in which metric, (W, S, metrics)."""
        if not here:
            return np.zeros((*n.shape, 0), np.bool_)
        p = np.stack([self._p(name, estimate, others[name]) for name, estimate in here.items()], axis=-1)
        enough = (n >= self._least) & (of_others >= self._least)
        tests = np.where(enough[..., np.newaxis], p, np.nan)
        return discoveries(tests.reshape(len(n), -1), self._rates).reshape(tests.shape)

    def _p(self, name: str, here: Estimate, others: Estimate) -> Floats:
        """Return p-values, (W, S), that a slice is no worse than the rest, or keeps the benchmark for all that."""
        tolerance = self._tolerance * (1.0 if name in RANGES else np.abs(others.value))
        better = BETTER[name]
        p = p_of_no_worse(here, others, tolerance, better)
        bound = self._bounds.get(name, (None, None))[better == "lower"]
        return p if bound is None else np.maximum(p, p_of_kept(here, bound, better))


class _Drift:
    """Compares what the model says in every slice with what it said of the reference's rows of that slice."""

    def __init__(self, reference: Reference, counts: SliceCounts) -> None:
        settings, known, bins = reference.settings, reference.profile.slices or {}, counts.said.bins
        self._counts = counts
        none = [0] * bins
        rows = [
            known.get(segment, {}).get(name, none)
            for segment, names in zip(counts.names, counts.groups, strict=True)
            for name in names
        ]
        self._reference = np.array(rows, np.float64).ravel()
        self._starts = np.arange(len(rows)) * bins
        self._bins = np.full(len(rows), bins)
        self._n = drift.totals(self._reference, self._starts)
        self._alpha = settings.drift.false_alarm_rate
        of_statistic = thresholds.coefficients([STATISTIC], self._reference, self._starts, None, self._alpha)
        self._coefficients = of_statistic[STATISTIC]
        self._least = max(settings.min_samples.drift, limit("min_labels"))
        self._effect = settings.drift.min_effect.get(STATISTIC, _LEAST_DRIFT)
        self._rates = judge.chance(np.array(settings.windows))[:, np.newaxis]

    def of(self, ledgers: Floats, effects: Effects) -> tuple[Floats, Floats, Floats]:
        """Return drift, threshold, and 1 where that is surely above, (W, S) each, from the ledgers of the slices."""
        current = self._counts.distributions(ledgers).reshape(len(ledgers), -1)
        n = drift.totals(current, self._starts)
        enough = (n >= self._least) & (self._n >= self._least)
        value = drift.tvd(current, self._reference, self._starts)
        worth = n / effects.outputs[:, np.newaxis]
        critical = thresholds.critical_value(STATISTIC, self._coefficients, worth, self._n)
        limits = np.maximum(critical, self._effect)
        p = np.where(enough, discovery.p_values(STATISTIC, value / critical, self._bins, self._alpha), np.nan)
        drifted = discoveries(p, self._rates) & (value > limits)
        return (
            np.where(enough, value, np.nan),
            np.where(enough, limits, np.nan),
            np.where(enough, drifted.astype(np.float64), np.nan),
        )


def _no_drift(predictions: Floats) -> tuple[Floats, Floats, Floats]:
    none = np.full(predictions.shape, np.nan)
    return none, none, none


def _shown(found: dict[str, Estimate], enough: Flags) -> Estimate:
    """Return estimates of several metrics as one, (W, S, metrics), NaN where there is not `enough`, (W, S)."""
    none = np.empty((*enough.shape, 0))
    parts = zip(*found.values(), strict=True) if found else [[], [], []]
    return Estimate(
        *(np.where(enough[..., np.newaxis], np.stack(part, axis=-1), np.nan) if len(part) else none for part in parts)
    )


_KNOWN: WeakKeyDictionary[Reference, Segments] = WeakKeyDictionary()


def segments_of(reference: Reference) -> Segments | None:
    """Return what compares a reference's slices, None where it has none; all who ask share it."""
    if reference.segment_counts is None:
        return None
    known = _KNOWN.get(reference)
    if known is None:
        known = _KNOWN[reference] = Segments(reference)
    return known
