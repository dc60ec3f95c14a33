"""What the judge says of a version of a model, in words: the reasons for each verdict, none of which is for good."""

import math
from collections.abc import Iterator

import numpy as np

from mlops_exporter.arrays import Flags, Floats, Ints
from mlops_exporter.counting.multivariate import STATISTICS
from mlops_exporter.counting.reference import Reference
from mlops_exporter.counting.version import Version
from mlops_exporter.judging import judge
from mlops_exporter.judging.benchmarks import benchmark_bounds
from mlops_exporter.judging.drift import Comparison, Drift
from mlops_exporter.judging.estimation import estimate as estimated_performance
from mlops_exporter.judging.fairness import GroupSums, favourable_code
from mlops_exporter.judging.fairness import metrics_of as fairness_metrics_of
from mlops_exporter.judging.judge import VERDICTS, Verdict, limit
from mlops_exporter.judging.multivariate import vector_drift
from mlops_exporter.judging.performance import PerformanceSums, metrics_of
from mlops_exporter.judging.quality import Quality
from mlops_exporter.settings.durations import format_duration
from mlops_exporter.statistics.intervals import Estimate

CALIBRATION = "expected_calibration_error"

Reasons = dict[Verdict, list[str]]


class Bench:
    """Judges the versions of one reference."""

    def __init__(self, reference: Reference, comparison: Comparison) -> None:
        self._reference, self._comparison = reference, comparison
        self._settings, self._layout = reference.settings, reference.layout
        self._windows = [format_duration(length) for length in reference.settings.windows]
        self._seconds = np.array(reference.settings.windows)
        self._caution = judge.caution(self._seconds)
        self._bounds = benchmark_bounds(reference)
        self._metrics = metrics_of(reference.layout)
        self._quality = Quality(reference.layout, reference.settings.min_samples.performance)
        self._joint = vector_drift(reference)
        self._least = max(reference.settings.min_samples.performance, limit("min_labels"))

    def reasons(self, version: Version, totals: Floats, of_all_versions: Floats) -> Reasons:
        """Return the reasons for each verdict; `totals` are the ledgers of its windows, (W, cells).

        `of_all_versions` are the predictions in the windows, (W,): a version that another one replaced may rest.
        """
        predictions = totals[:, self._layout.predictions.start]
        current = judge.freshest(predictions, limit("min_predictions"))
        found: Reasons = {verdict: [] for verdict in VERDICTS}
        with np.errstate(divide="ignore", invalid="ignore"):
            found["failing"] = list(self._of_performance(totals))
            found["erring"] = list(self._of_failures(totals))
            found["silent"] = list(self._of_silence(of_all_versions))
            found["suspect"] = [
                *self._of_estimates(totals),
                *self._of_calibration(totals),
                *self._of_changes(version),
            ]
            found["unfair"] = list(self._of_fairness(totals))
            if current is not None:
                found["unusable"], found["impaired"] = self._of_quality(totals[[current]], current)
                found["drifting"] = list(self._of_drift(totals[[current]], current))
        labels = totals[:, self._layout.labels.start]
        if labels.max() < self._least:
            found["unknown"] = [f"{labels.max():.0f} of {self._least:.0f} labels that a judgement needs"]
        return found

    def drifted(self, totals: Floats) -> list[str]:
        """Name the features that drift for sure in the freshest window to judge by, the worst first."""
        current = judge.freshest(totals[:, self._layout.predictions.start], limit("min_predictions"))
        if current is None or not self._layout.feature_names:
            return []
        with np.errstate(divide="ignore", invalid="ignore"):
            drift = self._comparison.compare(totals[[current]])
            return self._worst(drift, np.flatnonzero(self._comparison.surely_drifted(drift)[0]))

    def _worst(self, drift: Drift, features: Ints) -> list[str]:
        ratio = np.fmax.reduce([drift.values[name][0] / drift.thresholds[name][0] for name in drift.values])
        return [self._layout.feature_names[index] for index in features[np.argsort(-ratio[features])]]

    def _moved_far(self, drift: Drift) -> Flags:
        count = self._comparison.features
        if "psi" not in drift.values:
            return np.zeros(count, np.bool_)
        return judge.far(drift.values["psi"][0, :count], drift.thresholds["psi"][0, :count])

    def _of_performance(self, totals: Floats) -> Iterator[str]:
        sums, least = PerformanceSums(self._layout, totals), self._settings.min_samples.performance
        for name, (minimum, maximum) in self._bounds.items():
            if name in self._metrics:
                estimate = _where(sums.labels >= least, self._metrics[name](sums))
                row = judge.missed(estimate, minimum, maximum, sums.labels, limit("min_labels"), self._caution)
                yield from self._beyond(name, estimate, minimum, maximum, row)

    def _of_estimates(self, totals: Floats) -> Iterator[str]:
        estimation = self._reference.estimation
        if estimation is None or not self._bounds:
            return
        predictions, least = totals[:, self._layout.predictions.start], self._settings.min_samples.performance
        confusion = PerformanceSums(self._layout, totals).confusion
        estimates = estimated_performance(
            estimation, totals[:, self._layout.cells_of(estimation)], confusion
        ).predictions
        for name, (minimum, maximum) in self._bounds.items():
            if name in estimates:
                estimate = _where(predictions >= least, estimates[name])
                row = judge.missed(estimate, minimum, maximum, predictions, limit("min_predictions"), self._caution)
                yield from self._beyond(f"estimated {name}", estimate, minimum, maximum, row)

    def _of_calibration(self, totals: Floats) -> Iterator[str]:
        reference = self._reference.profile.performance.get(CALIBRATION)
        agreed = self._bounds.get(CALIBRATION, (None, None))[1] is not None
        if CALIBRATION not in self._metrics or reference is None or agreed:
            return
        sums = PerformanceSums(self._layout, totals)
        error = _where(sums.labels >= self._settings.min_samples.performance, self._metrics[CALIBRATION](sums))
        row = judge.miscalibrated(error, sums.labels, reference)
        yield from self._beyond(CALIBRATION, error, None, reference + limit("calibration_error_excess"), row)

    def _of_changes(self, version: Version) -> Iterator[str]:
        alarm = math.log(1 / self._settings.change.false_alarm_probability)
        for stream, monitor in version.changes.streams.items() if version.changes else ():
            if (evidence := monitor.log_evidence) > alarm:
                yield f"evidence of a change in the stream of {stream}s: {evidence:.1f}, alarm at {alarm:.1f}"

    def _of_fairness(self, totals: Floats) -> Iterator[str]:
        reference, counts, settings = self._reference, self._reference.group_counts, self._settings.fairness
        if counts is None or settings is None:
            return
        cells = totals[:, self._layout.cells_of(counts)]
        favourable = favourable_code(settings.favourable, reference.profile)
        metrics = fairness_metrics_of(reference.profile, favourable)
        enough = totals[:, self._layout.predictions.start] >= limit("min_predictions")
        for index, attribute in enumerate(counts.attributes.names):
            sums = GroupSums(counts.layout, counts.sums(cells, index), favourable, settings.min_group_size)
            for name, benchmark in settings.benchmarks.items():
                if name in metrics:
                    estimate = metrics[name](sums)
                    beyond = judge.outside(estimate, benchmark.min, benchmark.max, self._caution) & enough
                    row = int(beyond.argmax()) if beyond.any() else None
                    yield from self._beyond(f"{name} by {attribute}", estimate, benchmark.min, benchmark.max, row)

    def _of_failures(self, totals: Floats) -> Iterator[str]:
        failures, predictions = (totals[:, part.start] for part in (self._layout.failures, self._layout.predictions))
        if found := judge.failing_share(failures, predictions):
            row, share = found
            yield f"{share:.1%} of the predictions in {self._windows[row]} failed"

    def _of_silence(self, predictions: Floats) -> Iterator[str]:
        if found := judge.silent(predictions, self._seconds):
            row, usual = found
            yield f"no prediction in {self._windows[row]}" + (f", where {usual:,.0f} are usual" if usual else "")

    def _of_quality(self, totals: Floats, row: int) -> tuple[list[str], list[str]]:
        """Return what makes features unusable, and what impairs them."""
        names, numeric = self._layout.feature_names, len(self._layout.numeric)
        n = totals[:, self._layout.predictions]
        shares, reference = self._quality.shares(totals), self._quality.reference
        excess = [judge.excess(share, n, usual)[0] for share, usual in zip(shares, reference, strict=True)]
        unusable = _named(names, excess[0] + excess[1], limit("unusable_excess"))
        impaired = [
            f"{_listed(found)}: more {what} than in the reference in {self._windows[row]}"
            for what, of, beyond, bound in (
                ("missing values", names, excess[0], "missing_excess"),
                ("invalid values", names, excess[1], "invalid_excess"),
                ("values out of range", names[:numeric], excess[2], "out_of_range"),
                ("unknown categories", names[numeric:], excess[3], "unseen_excess"),
            )
            if (found := _named(of, beyond, limit(bound)))
        ]
        said = f"{_listed(unusable)}: most values missing or invalid in {self._windows[row]}"
        return [said] if unusable else [], impaired

    def _of_drift(self, totals: Floats, row: int) -> Iterator[str]:
        drift, window, count = self._comparison.compare(totals), self._windows[row], self._comparison.features
        if count:
            sure, moved = self._comparison.surely_drifted(drift)[0], self._moved_far(drift)
            if judge.many_drift(float(sure.sum()), count) or moved.any():
                found = self._worst(drift, np.flatnonzero(sure | moved))
                yield f"{_listed(found)} drifted in {window}"
        if (index := self._comparison.outcomes.get("prediction")) is not None:
            values, thresholds = (
                {name: float(part[0, index]) for name, part in parts.items()}
                for parts in (drift.values, drift.thresholds)
            )
            yield from _times("predictions drifted", judge.of_threshold(values, thresholds, 1.0), window)
        if self._joint is not None and (vectors := self._reference.vectors) is not None:
            sums = vectors.sums(totals[:, self._layout.cells_of(vectors)])
            values, thresholds = (
                dict(zip(STATISTICS, part[0].tolist(), strict=True)) for part in self._joint.compare(sums)
            )
            ratios = judge.of_threshold(values, thresholds, float(self._caution[row]))
            yield from _times("features, taken together, drifted", ratios, window)

    def _beyond(
        self, what: str, estimate: Estimate, minimum: float | None, maximum: float | None, row: int | None
    ) -> Iterator[str]:
        """Say of a window that it is beyond a bound; the estimate's parts are (W,)."""
        if row is None:
            return
        value, lower, upper = (float(part[row]) for part in estimate)
        interval = f"{what} {value:.4g} ({lower:.4g} to {upper:.4g}) in {self._windows[row]}"
        if minimum is not None and value < minimum:
            yield f"{interval}, at least {minimum:.4g} is agreed"
        else:
            yield f"{interval}, at most {maximum:.4g} is agreed"


def _where(enough: Flags, estimate: Estimate) -> Estimate:
    return Estimate(*(np.where(enough, part, np.nan) for part in estimate))


def _named(names: list[str], excess: Floats, bound: float) -> list[str]:
    """Name the features beyond a bound, the worst first."""
    order = np.argsort(-np.nan_to_num(excess, nan=-np.inf))
    return [names[index] for index in order if excess[index] > bound]


def _times(what: str, ratios: dict[str, float], window: str) -> Iterator[str]:
    if ratios:
        name = max(ratios, key=lambda statistic: ratios[statistic])
        yield f"{what} in {window}: {name} is {ratios[name]:.1f} times its threshold"


def _listed(features: list[str]) -> str:
    return ", ".join(features if len(features) <= 4 else [*features[:3], f"{len(features) - 3} more features"])
