"""What the judge says of a version of a model, in words: the reasons for each verdict, none of which is for good."""

import math
from collections.abc import Iterator, Mapping

import numpy as np

from mlops_exporter.arrays import Flags, Floats, Ints
from mlops_exporter.counting.multivariate import STATISTICS
from mlops_exporter.counting.reference import Reference
from mlops_exporter.counting.version import Version
from mlops_exporter.judging import judge
from mlops_exporter.judging.benchmarks import benchmark_bounds
from mlops_exporter.judging.classes import classes_of
from mlops_exporter.judging.dependence import Effects, effects_of
from mlops_exporter.judging.drift import Comparison, Drift
from mlops_exporter.judging.estimation import estimate as estimated_performance
from mlops_exporter.judging.fairness import GroupSums, favourable_code
from mlops_exporter.judging.fairness import metrics_of as fairness_metrics_of
from mlops_exporter.judging.forecasts import COVERAGE, SKILL, Held, forecasts_of
from mlops_exporter.judging.judge import VERDICTS, Verdict, limit
from mlops_exporter.judging.multivariate import vector_drift
from mlops_exporter.judging.outcomes import Rated, outcomes_of
from mlops_exporter.judging.performance import PerformanceSums, estimates, metrics_of
from mlops_exporter.judging.quality import Quality
from mlops_exporter.judging.seasonality import Seasonality, recognised
from mlops_exporter.judging.segments import STATISTIC, Slices, segments_of
from mlops_exporter.settings.durations import format_duration
from mlops_exporter.statistics.intervals import Estimate

CALIBRATION = "expected_calibration_error"
_HELD = {SKILL: "skill beside the naive forecast", COVERAGE: "coverage of the announced intervals"}

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
        self._metrics = metrics_of(reference.layout, reference.settings.costs)
        self._quality = Quality(reference.layout, reference.settings.min_samples.performance)
        self._joint = vector_drift(reference)
        self._segments = segments_of(reference)
        self._outcomes = outcomes_of(reference)
        self._forecasts = forecasts_of(reference)
        self._classes = classes_of(reference)
        self._least = max(reference.settings.min_samples.performance, limit("min_labels"))

    def reasons(self, version: Version, now: float, of_all_versions: Floats) -> Reasons:
        """Return the reasons for each verdict that a version's windows give `now`.

        `of_all_versions` are the predictions in the windows, (W,): a version that another one replaced may rest.
        """
        totals, effects = version.totals(now), effects_of(self._reference, version, now)
        predictions, filled = totals[:, self._layout.predictions.start], version.filled(now)
        freshest = judge.freshest(predictions, limit("min_predictions"))
        current = judge.freshest(judge.of_full(predictions, filled), limit("min_predictions"))
        found: Reasons = {verdict: [] for verdict in VERDICTS}
        with np.errstate(divide="ignore", invalid="ignore"):
            slices = self._segments.compare(totals, effects) if self._segments else None
            rated = self._outcomes.rate(version, now) if self._outcomes else {}
            held = self._forecasts.hold(version, now) if self._forecasts else {}
            found["failing"] = [
                *self._of_performance(totals, filled, effects),
                *self._of_outcomes(rated),
                *self._of_forecasts(held, SKILL),
            ]
            found["erring"] = list(self._of_failures(totals))
            found["silent"] = list(self._of_silence(of_all_versions))
            found["suspect"] = [
                *self._of_estimates(totals, filled, effects),
                *self._of_calibration(totals, filled, effects),
                *self._of_segments(slices, filled),
                *self._of_forecasts(held, COVERAGE),
                *self._of_classes(totals, filled, effects),
                *self._of_changes(version),
            ]
            found["unfair"] = list(self._of_fairness(totals, filled, effects))
            if freshest is not None:
                found["unusable"], found["impaired"] = self._of_quality(totals[[freshest]], freshest)
            if current is not None:
                found["drifting"] = list(self._of_drift(version, now, totals[[current]], current))
            found["drifting"] += self._of_drifted_slices(slices, filled)
        labels, values = totals[:, self._layout.labels.start], [each.values.max() for each in rated.values()]
        if max([labels.max(), *values]) < self._least:
            most, what = (labels.max(), "labels") if self._reference.expects_labels else (max(values), "values")
            found["unknown"] = [f"{most:.0f} of {self._least:.0f} {what} that a judgement needs"]
        return found

    def seasonality(self, version: Version, now: float) -> Seasonality | None:
        """Return what moves the features in windows of one length and may be the time of the day or the week."""
        effects = self._comparison.traffic(version, now).effects[:, : self._comparison.features]
        predictions = version.totals(now)[:, self._layout.predictions.start]
        return recognised(effects, predictions, self._settings.windows, self._layout.feature_names)

    def drifted(self, version: Version, now: float) -> list[str]:
        """Name the features that drift for sure in the freshest window to judge by, the worst first."""
        totals = version.totals(now)
        predictions = judge.of_full(totals[:, self._layout.predictions.start], version.filled(now))
        current = judge.freshest(predictions, limit("min_predictions"))
        if current is None or not self._layout.feature_names:
            return []
        with np.errstate(divide="ignore", invalid="ignore"):
            drift = self._comparison.compare(totals[[current]], self._comparison.traffic(version, now).rows([current]))
            return self._worst(drift, np.flatnonzero(self._comparison.surely_drifted(drift)[0]))

    def _worst(self, drift: Drift, features: Ints) -> list[str]:
        if not len(features):  # as where no statistic is configured
            return []
        ratio = np.fmax.reduce([drift.values[name][0] / drift.thresholds[name][0] for name in drift.values])
        return [self._layout.feature_names[index] for index in features[np.argsort(-ratio[features])]]

    def _moved_far(self, drift: Drift) -> Flags:
        count = self._comparison.features
        if "psi" not in drift.values:
            return np.zeros(count, np.bool_)
        return judge.far(drift.values["psi"][0, :count], drift.thresholds["psi"][0, :count])

    def _of_performance(self, totals: Floats, filled: Floats, effects: Effects) -> Iterator[str]:
        labels, least = totals[:, self._layout.labels.start], self._settings.min_samples.performance
        bounded = {name: self._metrics[name] for name in self._bounds if name in self._metrics}
        found = estimates(bounded, self._layout, totals, effects.labels)
        for name, (minimum, maximum) in self._bounds.items():
            if name in found:
                estimate = _where(labels >= least, found[name])
                sizes = judge.of_full(labels, filled)
                row = judge.missed(estimate, minimum, maximum, sizes, limit("min_labels"), self._caution)
                yield from self._beyond(name, estimate, minimum, maximum, row)

    def _of_outcomes(self, rated: Mapping[str, Rated]) -> Iterator[str]:
        for name, each in rated.items():
            assert self._outcomes is not None
            yield from self._beyond(name, each.mean, *self._outcomes.bounds[name], each.missed)

    def _of_forecasts(self, held: Mapping[str, Held], name: str) -> Iterator[str]:
        """Yield that a forecast is no better than the naive one, or that its intervals do not hold."""
        if name in held:
            each = held[name]
            yield from self._beyond(_HELD[name], each.estimate, each.minimum, each.maximum, each.missed)

    def _of_estimates(self, totals: Floats, filled: Floats, effects: Effects) -> Iterator[str]:
        estimation = self._reference.estimation
        if estimation is None or not self._bounds:
            return
        predictions, least = totals[:, self._layout.predictions.start], self._settings.min_samples.performance
        confusion = PerformanceSums(self._layout, totals).confusions
        found = estimated_performance(
            estimation, totals[:, self._layout.cells_of(estimation)], confusion, effects
        ).predictions
        for name, (minimum, maximum) in self._bounds.items():
            if name in found:
                estimate = _where(predictions >= least, found[name])
                sizes = judge.of_full(predictions, filled)
                row = judge.missed(estimate, minimum, maximum, sizes, limit("min_predictions"), self._caution)
                yield from self._beyond(f"estimated {name}", estimate, minimum, maximum, row)

    def _of_calibration(self, totals: Floats, filled: Floats, effects: Effects) -> Iterator[str]:
        reference = self._reference.profile.performance.get(CALIBRATION)
        agreed = self._bounds.get(CALIBRATION, (None, None))[1] is not None
        if CALIBRATION not in self._metrics or reference is None or agreed:
            return
        labels = totals[:, self._layout.labels.start]
        found = estimates({CALIBRATION: self._metrics[CALIBRATION]}, self._layout, totals, effects.labels)
        error = _where(labels >= self._settings.min_samples.performance, found[CALIBRATION])
        row = judge.miscalibrated(error, judge.of_full(labels, filled), reference)
        yield from self._beyond(CALIBRATION, error, None, reference + limit("calibration_error_excess"), row)

    def _of_segments(self, found: Slices | None, filled: Floats) -> Iterator[str]:
        """Say of each slice that is worse, or must be expected to be, in which full window, the shortest of them."""
        if self._segments is None or found is None:
            return
        for number, (segment, value) in enumerate(self._segments.slices):
            for said, names, worse, performance in (
                ("", self._segments.metrics, found.worse, found.performance),
                ("estimated ", self._segments.estimable, found.estimated_worse, found.estimated),
            ):
                for index, name in enumerate(names):
                    rows = np.flatnonzero(worse[:, number, index] & (filled >= 1))
                    if len(rows):
                        row = int(rows[0])
                        here, lower, upper = (float(part[row, number, index]) for part in performance)
                        yield (
                            f"{said}{name} {here:.4g} ({lower:.4g} to {upper:.4g}) of {segment}={value} in "
                            f"{self._windows[row]}, surely worse than the rest"
                        )

    def _of_drifted_slices(self, found: Slices | None, filled: Floats) -> Iterator[str]:
        """Say in which slices the model says something else than before, in the shortest full window that tells."""
        if self._segments is None or found is None:
            return
        drifted = (found.drifted == 1) & (filled >= 1)[:, np.newaxis]
        for number in np.flatnonzero(drifted.any(axis=0)):
            row = int(drifted[:, number].argmax())
            segment, value = self._segments.slices[number]
            yield (
                f"predictions of {segment}={value} drifted in {self._windows[row]}: {STATISTIC} "
                f"{found.drift[row, number]:.2g}, {found.drift_threshold[row, number]:.2g} is the threshold"
            )

    def _of_classes(self, totals: Floats, filled: Floats, effects: Effects) -> Iterator[str]:
        """Say of each class that is worse than in the reference in which full window it is, the shortest of them."""
        if self._classes is None:
            return
        worse = self._classes.worse(totals, effects)
        full = judge.of_full(totals[:, self._layout.labels.start], filled) > 0
        sums = PerformanceSums(self._layout, totals)
        for index, (name, metric) in enumerate(self._classes.metrics.items()):
            values = metric(sums).value
            for number, of_class in enumerate(self._classes.names):
                rows = np.flatnonzero(worse[:, number, index] & full)
                if len(rows):
                    row, usual = int(rows[0]), self._reference.profile.class_performance[of_class][name]
                    yield (
                        f"{name} {values[row, number]:.4g} of class {of_class} in {self._windows[row]}, surely worse "
                        f"than the reference's {usual:.4g}"
                    )

    def _of_changes(self, version: Version) -> Iterator[str]:
        alarm = math.log(1 / self._settings.change.false_alarm_probability)
        for stream, monitor in version.changes.streams.items() if version.changes else ():
            if (evidence := monitor.log_evidence) > alarm:
                yield f"evidence of a change in the stream of {stream}s: {evidence:.1f}, alarm at {alarm:.1f}"
        for name, outcome in version.changes.outcomes.items() if version.changes else ():
            if (evidence := outcome.monitor.log_evidence) > alarm:
                yield f"evidence of a change of {name}: {evidence:.1f}, alarm at {alarm:.1f}"

    def _of_fairness(self, totals: Floats, filled: Floats, effects: Effects) -> Iterator[str]:
        reference, counts, settings = self._reference, self._reference.group_counts, self._settings.fairness
        if counts is None or settings is None:
            return
        cells = totals[:, self._layout.cells_of(counts)]
        favourable = favourable_code(settings.favourable, reference.profile)
        metrics = fairness_metrics_of(reference.profile, favourable)
        enough = judge.of_full(totals[:, self._layout.predictions.start], filled) >= limit("min_predictions")
        for index, attribute in enumerate(counts.names):
            sums = GroupSums(counts.layout, counts.sums(cells, index), favourable, settings.min_group_size, effects)
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

    def _of_drift(self, version: Version, now: float, totals: Floats, row: int) -> Iterator[str]:
        window, count = self._windows[row], self._comparison.features
        drift = self._comparison.compare(totals, self._comparison.traffic(version, now).rows([row]))
        if count:
            sure, moved = self._comparison.surely_drifted(drift)[0], self._moved_far(drift)
            if judge.many_drift(float(sure.sum()), count) or moved.any():
                found = self._worst(drift, np.flatnonzero(sure | moved))
                yield f"{_listed(found)} drifted in {window}"
        distributions = dict(self._comparison.rated)
        if (said := self._comparison.outcomes.get("prediction")) is not None:
            distributions = {"predictions": said, **distributions}
        for what, index in distributions.items():
            values, thresholds = (
                {name: float(part[0, index]) for name, part in parts.items()}
                for parts in (drift.values, drift.thresholds)
            )
            yield from _times(f"{what} drifted", judge.of_threshold(values, thresholds, 1.0), window)
        if self._joint is not None and (vectors := self._reference.vectors) is not None:
            cells = self._layout.cells_of(vectors)
            traffic = self._joint.traffic(version, now, vectors, cells).rows([row])
            values, thresholds = (
                dict(zip(STATISTICS, part[0].tolist(), strict=True))
                for part in self._joint.compare(vectors.sums(totals[:, cells]), traffic)
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
