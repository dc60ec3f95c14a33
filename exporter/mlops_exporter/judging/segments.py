"""Slices of the traffic beside the rest of it: a model may be as good as agreed, and surely not in one country."""

from typing import NamedTuple

import numpy as np

from mlops_exporter.arrays import Flags, Floats
from mlops_exporter.counting.reference import Reference
from mlops_exporter.judging import judge
from mlops_exporter.judging.benchmarks import benchmark_bounds
from mlops_exporter.judging.dependence import Effects
from mlops_exporter.judging.judge import limit
from mlops_exporter.judging.performance import BETTER, RANGES, PerformanceMetric, estimates, metrics_of
from mlops_exporter.statistics.discovery import discoveries
from mlops_exporter.statistics.intervals import Estimate
from mlops_exporter.statistics.slices import p_of_kept, p_of_no_worse


class Slices(NamedTuple):
    """What windows say of every slice, (W, S), and of each metric there, (W, S, metrics)."""

    predictions: Floats
    labels: Floats
    performance: Estimate
    worse: Flags


class Segments:
    """Compares the slices of one reference, all segments' together: `slices` names them, by segment and value.

    Held against each other are the metrics with a benchmark; without any, the first of the task.
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
        named = zip(self._counts.names, self._counts.groups, strict=True)
        self.slices = [(segment, value) for segment, values in named for value in values]

    def compare(self, totals: Floats, effects: Effects) -> Slices:
        """Compare every slice with the rest of its segment; `totals` are the ledgers of the windows, (W, cells).

        Labels of a slice are taken to be worth as much, by the `effects` of the windows, as those of the whole.
        """
        layout = self._counts.layout
        parts, rests = [], []
        for index in range(len(self._counts.names)):
            ledgers = self._counts.sums(totals[:, self._cells], index)
            parts.append(ledgers)
            rests.append(ledgers.sum(axis=1, keepdims=True) - ledgers)
        part, rest = np.concatenate(parts, axis=1), np.concatenate(rests, axis=1)
        labels = part[..., layout.labels.start]
        enough = (labels >= self._least) & (rest[..., layout.labels.start] >= self._least)
        of_labels = np.broadcast_to(effects.labels[:, np.newaxis], labels.shape)
        with np.errstate(divide="ignore", invalid="ignore"):
            found = estimates(self.metrics, layout, part, of_labels)
            others = estimates(self.metrics, layout, rest, of_labels)
            p = [self._p(name, here, others[name]) for name, here in found.items()]
        tests = np.where(enough[..., np.newaxis], np.stack(p, axis=-1), np.nan)
        worse = discoveries(tests.reshape(len(totals), -1), self._rates).reshape(tests.shape)
        shown = (labels >= self._shown)[..., np.newaxis]
        performance = Estimate(
            *(np.where(shown, np.stack(each, axis=-1), np.nan) for each in zip(*found.values(), strict=True))
        )
        return Slices(part[..., layout.predictions.start], labels, performance, worse)

    def _p(self, name: str, here: Estimate, others: Estimate) -> Floats:
        """Return p-values, (W, S), that a slice is no worse than the rest, or keeps the benchmark for all that."""
        tolerance = self._tolerance * (1.0 if name in RANGES else np.abs(others.value))
        better = BETTER[name]
        p = p_of_no_worse(here, others, tolerance, better)
        bound = self._bounds.get(name, (None, None))[better == "lower"]
        return p if bound is None else np.maximum(p, p_of_kept(here, bound, better))
