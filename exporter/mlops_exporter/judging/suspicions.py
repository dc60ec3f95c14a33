"""Signs that something is wrong with a model beside its realised performance and single features, in words.

They follow the alerts of prometheus/rules, so that the landing page and the notification agree.
"""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from mlops_exporter.counting.model import Model
from mlops_exporter.counting.version import Version
from mlops_exporter.judging.benchmarks import benchmark_bounds
from mlops_exporter.judging.fairness import GroupSums, favourable_code, metrics_of
from mlops_exporter.judging.performance import Sums
from mlops_exporter.judging.performance import metrics_of as performance_metrics_of
from mlops_exporter.settings.durations import format_duration
from mlops_exporter.statistics.intervals import Estimate

LABELS, PREDICTIONS = 100, 800
"""How many a window must hold to be judged."""

CALIBRATION_EXCESS = 0.03
"""Calibration error beyond the reference's that is tolerated."""

CALIBRATION_NOISE = 1.3
"""What chance alone makes of the calibration error of n labels is at most about so much by √n."""

CALIBRATION = "expected_calibration_error"

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


class Signs:
    """Judges the versions of one model."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._windows = [format_duration(length) for length in model.settings.windows]
        self._bounds = benchmark_bounds(model)

    def of_unfairness(self, totals: Floats) -> Iterator[str]:
        """Yield which measures of fairness lie outside their benchmarks; `totals` are the ledgers of the windows."""
        model, counts, settings = self._model, self._model.group_counts, self._model.settings.fairness
        if counts is None or settings is None:
            return
        cells = totals[:, model.layout.cells_of(counts)]
        favourable = favourable_code(settings.favourable, model.profile)
        metrics = metrics_of(model.profile, favourable)
        enough = totals[:, model.layout.predictions.start] >= PREDICTIONS
        for index, attribute in enumerate(counts.attributes.names):
            sums = GroupSums(counts.layout, counts.sums(cells, index), favourable, settings.min_group_size)
            for name, benchmark in settings.benchmarks.items():
                if name in metrics:
                    with np.errstate(divide="ignore", invalid="ignore"):
                        estimate = metrics[name](sums)
                    yield from self._beyond(f"{name} by {attribute}", estimate, benchmark.min, benchmark.max, enough)

    def of_failure(self, version: Version, totals: Floats) -> Iterator[str]:
        """Yield what suggests that performance has fallen, whatever its benchmark says: estimates, scores, streams."""
        yield from self._of_estimates(totals)
        yield from self._of_calibration(totals)
        limit = math.log(1 / self._model.settings.change.false_alarm_probability)
        for stream, monitor in version.changes.streams.items() if version.changes else ():
            if (evidence := monitor.log_evidence) > limit:
                yield f"evidence of a change in the stream of {stream}s: {evidence:.1f}, alarm at {limit:.1f}"

    def _of_estimates(self, totals: Floats) -> Iterator[str]:
        model, estimation = self._model, self._model.estimation
        if estimation is None or not self._bounds:
            return
        enough = totals[:, model.layout.predictions.start] >= PREDICTIONS
        with np.errstate(divide="ignore", invalid="ignore"):
            confusion = Sums(model.layout, totals).confusion
            estimates = estimation.estimate(totals[:, model.layout.cells_of(estimation)], confusion).predictions
        for name, (minimum, maximum) in self._bounds.items():
            if name in estimates:
                value, lower, upper = estimates[name]
                kept = np.ones(len(value), np.bool_)
                kept &= True if minimum is None else lower > minimum
                kept &= True if maximum is None else upper < maximum
                if not (kept & enough).any():
                    yield from self._beyond(f"estimated {name}", estimates[name], minimum, maximum, enough)

    def _of_calibration(self, totals: Floats) -> Iterator[str]:
        model = self._model
        metric = performance_metrics_of(model.layout).get(CALIBRATION)
        reference = model.profile.performance.get(CALIBRATION)
        if metric is None or reference is None or self._bounds.get(CALIBRATION, (None, None))[1] is not None:
            return
        sums = Sums(model.layout, totals)
        enough = sums.labels >= LABELS
        with np.errstate(divide="ignore", invalid="ignore"):
            value, lower, upper = metric(sums)
            noise = CALIBRATION_NOISE / np.sqrt(sums.labels)
        highest = reference + CALIBRATION_EXCESS
        yield from self._beyond(CALIBRATION, Estimate(value, lower - noise, upper), None, highest, enough)

    def _beyond(
        self, what: str, estimate: Estimate, minimum: float | None, maximum: float | None, enough: Flags
    ) -> Iterator[str]:
        """Say which is the shortest window whose whole interval is beyond a bound; the estimate's parts are (W,)."""
        for bound, words, beyond in (
            (minimum, "at least", estimate.upper < (-math.inf if minimum is None else minimum)),
            (maximum, "at most", estimate.lower > (math.inf if maximum is None else maximum)),
        ):
            rows = np.flatnonzero(beyond & enough)
            if len(rows):
                value, lower, upper = (float(part[rows[0]]) for part in estimate)
                interval = f"{what} {value:.4g} ({lower:.4g} to {upper:.4g}) in {self._windows[rows[0]]}"
                yield f"{interval}, {words} {bound:.4g} is agreed"
