"""What promtool tests of every alert: that it fires, and not just under its threshold, on few samples or without data.

Each case has parallel scenarios, told apart by a label (mostly the model): `fires` is bad for a while and then good,
the others must stay silent. So one run shows firing with its text, silence, and resolving.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote_plus

from prometheus.source.alert import Alert
from prometheus.source.render import ALERT_GROUPS, ALERTS, GROUPS, dashboard_url, first_query, runbook_url

Labels = Mapping[str, str]
Series = tuple[str, dict[str, str], str]
"""Metric, labels, values in promtool's notation."""

HERE = {"job": "mlops-exporter", "instance": "a:10042"}


@dataclass(frozen=True)
class Case:
    """One alert's test, in minutes: pending at `pending`, firing at `fires`, over at `over`."""

    alert: str
    labels: Labels
    series: list[Series]
    pending: int
    fires: int
    over: int | None
    extra: list[Labels] = field(default_factory=list)


_ALERTS = {alert.name: alert for alert in ALERTS}


def minutes(duration: str) -> int:
    """Return minutes of a Prometheus duration of one unit."""
    return int(duration[:-1]) * {"m": 1, "h": 60, "d": 1440}[duration[-1]]


class Timeline:
    """When a simple case is bad, and for how long it then takes to be over."""

    def __init__(self, alert: str, lead: int = 2, tail: int = 5) -> None:
        wait, keep = minutes(_ALERTS[alert].wait), minutes(_ALERTS[alert].keep or "0m")
        self.pending = wait - 1 if wait else 0
        self.fires = wait + lead
        self.over = self.fires + 1 + keep + tail

    def after(self, delay: int) -> "Timeline":
        """Let it be told so many minutes later: it must have been bad for as long."""
        self.pending, self.fires, self.over = (each + delay for each in (self.pending, self.fires, self.over))
        return self

    def values(self, bad: float, good: float | None = None) -> str:
        """Bad until the alert fired, then good (the same when None), for a gauge."""
        if good is None:
            return f"{bad}+0x{self.over}"
        return f"{bad}+0x{self.fires} {good}+0x{self.over - self.fires}"

    def counts(self, bad: float, good: float | None = None) -> str:
        """Like `values`, for a counter with so many events a minute."""
        if good is None:
            return f"0+{bad}x{self.over}"
        return f"0+{bad}x{self.fires} {bad * self.fires}+{good}x{self.over - self.fires}"

    def case(self, alert: str, labels: Labels, series: Iterable[Series], **more: Any) -> Case:
        """Return the case with this timeline."""
        return Case(alert, labels, list(series), self.pending, self.fires, self.over, **more)


def model(name: str, **more: str) -> dict[str, str]:
    """Labels of a scenario's model."""
    return {**HERE, "model": name, "version": "1", **more}


def sizes(name: str, predictions: float = 5000, labels: float = 5000, window: str = "1h") -> list[Series]:
    """Length and sample sizes of a window."""
    values = {"seconds": minutes(window) * 60, "predictions": predictions, "labels": labels, "filled_ratio": 1}
    return [(f"ml_model_window_{key}", model(name, window=window), f"{value}+0x10000") for key, value in values.items()]


def _performance(alert: str, performance: str, few: tuple[float, float]) -> Case:
    t = Timeline(alert, tail=20)  # the freshest window must be good for a while
    series: list[Series] = []
    for name, (lower, upper) in {
        "fires": (0.84, 0.88),
        "under": (0.84, 0.8836),
        "few": (0.84, 0.88),
        "missing": (0.0, 0.0),
    }.items():
        series += sizes(name, *(few if name == "few" else (5000, 5000)))
        series.append(("ml_model_benchmark_min", model(name, metric="accuracy"), t.values(0.9)))
        if name == "missing":
            continue
        for suffix, bad, good in (("", 0.86, 0.95), ("_lower", lower, 0.94), ("_upper", upper, 0.96)):
            labels = model(name, window="1h", metric="accuracy")
            series.append((f"{performance}{suffix}", labels, t.values(bad, good)))
    # A day's window stays bad after the hour's is good again: the freshest labels decide.
    series += sizes("fires", window="1d")
    for suffix, bad in (("", 0.87), ("_lower", 0.86), ("_upper", 0.88)):
        series.append((f"{performance}{suffix}", model("fires", window="1d", metric="accuracy"), t.values(bad)))
    # An error has a highest value.
    series += sizes("error")
    series.append(("ml_model_benchmark_max", model("error", metric="mae"), t.values(3)))
    for suffix, bad, good in (("", 3.4, 2), ("_lower", 3.2, 1.9), ("_upper", 3.6, 2.1)):
        series.append((f"{performance}{suffix}", model("error", window="1h", metric="mae"), t.values(bad, good)))
    return t.case(alert, model("fires", metric="accuracy"), series, extra=[model("error", metric="mae")])


def _calibration() -> Case:
    t = Timeline("MLModelCalibrationOff")
    series: list[Series] = []
    for name, lower in {"fires": 0.09, "under": 0.059, "few": 0.5, "agreed": 0.5, "missing": 0.0}.items():
        series += sizes(name, labels=99 if name == "few" else 10_000)
        series.append(
            ("ml_model_performance_reference", model(name, metric="expected_calibration_error"), t.values(0.02))
        )
        if name != "missing":
            labels = model(name, window="1h", metric="expected_calibration_error")
            series.append(("ml_model_performance_lower", labels, t.values(lower, 0.0)))
    series.append(
        (
            "ml_model_benchmark_max",
            model("agreed", metric="expected_calibration_error"),
            t.values(0.6),
        )
    )
    return t.case("MLModelCalibrationOff", model("fires"), series)


def _unjudged() -> Case:
    t = Timeline("MLBenchmarkNotJudged").after(24 * 60)
    series: list[Series] = []
    late = 120
    released = model("released", metric="mape")
    series.append(("ml_model_labels_total", model("released"), f"_x{late} 0+60x{t.over - late}"))
    series.append(("ml_model_benchmark_judged", released, f"_x{late} 0x{t.over - late}"))
    for name, (labels, judged) in {"fires": (60, 0), "judged": (60, 1), "few": (0.01, 0)}.items():
        series.append(("ml_model_labels_total", model(name), t.counts(labels)))
        series.append(("ml_model_benchmark_judged", model(name, metric="mape"), t.values(judged, 1)))
    series.append(("ml_model_benchmark_judged", model("missing", metric="mape"), t.values(0)))
    return t.case("MLBenchmarkNotJudged", model("fires", metric="mape"), series)


def _compared(alert: str, metric: str, limit: str, by: dict[str, str], bad: float, under: float) -> Case:
    """Compare a value with a threshold of 1 beside it, without the exporter's windows."""
    t = Timeline(alert)
    series: list[Series] = []
    for name, value in {"fires": bad, "under": under}.items():
        series.append((metric, model(name, **by), t.values(value, 0)))
        series.append((limit, model(name, **by), t.values(1)))
    series.append((limit, model("missing", **by), t.values(1)))
    return t.case(alert, model("fires", **by), series)


def _drift(alert: str, metric: str, by: dict[str, str]) -> Case:
    t = Timeline(alert)
    series: list[Series] = []
    for name, (value, predictions) in {
        "fires": (0.25, 5000),
        "under": (0.0999, 5000),
        "few": (0.9, 799),
        "missing": (None, 5000),
    }.items():
        series += sizes(name, predictions=predictions)
        series.append((f"{metric}_threshold", model(name, window="1h", **by), t.values(0.1)))
        if value is not None:
            series.append((metric, model(name, window="1h", **by), t.values(value, 0.05)))
    return t.case(alert, model("fires"), series)


def _multivariate() -> Case:
    case = _drift("MLMultivariateDrift", "ml_data_drift", {"statistic": "mmd"})
    case.series.extend(sizes("noise"))
    for metric, value in {"ml_data_drift": 0.16, "ml_data_drift_threshold": 0.1}.items():
        labels = model("noise", window="1h", statistic="pca_reconstruction")
        case.series.append((metric, labels, f"{value}+0x1000"))
    return case


def _feature_drift() -> Case:
    t = Timeline("MLFeatureDrift")
    series: list[Series] = []
    for name, (drifted, predictions) in {
        "fires": (3, 5000),
        "under": (2, 5000),
        "few": (25, 799),
        "missing": (None, 5000),
    }.items():
        series += sizes(name, predictions=predictions)
        series.append(("ml_model_features", model(name), t.values(25)))
        if drifted is not None:
            series.append(("ml_model_drifted_features_controlled", model(name, window="1h"), t.values(drifted, 0)))
    # Where the false-discovery rate is not controlled, the plain count serves.
    series += sizes("plain")
    series.append(("ml_model_features", model("plain"), t.values(5)))
    series.append(("ml_model_drifted_features", model("plain", window="1h"), t.values(1, 0)))
    for feature, value in {"age": 0.31, "income": 0.2, "amount": 0.45, "country": 0.12}.items():
        labels = model("fires", window="1h", feature=feature, statistic="psi")
        series.append(("ml_feature_drift", labels, t.values(value, 0.01)))
        series.append(("ml_feature_drift_threshold", labels, t.values(0.1)))
    series += _against_last_week("fires", {"age": 0.32, "income": 0.02}, t.over)
    return t.case("MLFeatureDrift", model("fires"), series, extra=[model("plain")])


def _against_last_week(name: str, distances: Mapping[str, float], until: int) -> list[Series]:
    """Features' distances from the same hours of last week, beside a threshold of 0.1."""
    series: list[Series] = []
    for feature, value in distances.items():
        labels = {"job": HERE["job"], "model": name, "version": "1", "feature": feature, "window": "1h"}
        series.append(("ml:feature_last_week:psi", labels, f"{value}+0x{until}"))
        series.append(("ml:feature_last_week:psi_threshold", labels, f"0.1+0x{until}"))
    return series


def _slight_drift() -> Case:
    t = Timeline("MLFeatureDriftSlight")
    series: list[Series] = []
    for name, (differing, predictions) in {
        "fires": (2, 5000),
        "under": (0, 5000),
        "few": (2, 799),
        "missing": (None, 5000),
    }.items():
        series += sizes(name, predictions=predictions)
        if differing is not None:
            labels = model(name, window="1h")
            series.append(("ml_model_drifted_features_significant", labels, t.values(differing, 0)))
    for feature, value in {"age": 0.03, "income": 0.02}.items():
        labels = model("fires", window="1h", feature=feature, statistic="psi")
        series.append(("ml_feature_drift", labels, t.values(value, 0.01)))
        series.append(("ml_feature_drift_threshold", labels, t.values(0.1)))
    return t.case("MLFeatureDriftSlight", model("fires"), series)


def _severe_drift() -> Case:
    t = Timeline("MLFeatureDriftSevere")
    series: list[Series] = []
    for name, (value, predictions) in {"fires": (0.25, 5000), "under": (0.2499, 5000), "few": (3, 799)}.items():
        series += sizes(name, predictions=predictions)
        labels = model(name, window="1h", feature="age", statistic="psi")
        series.append(("ml_feature_drift", labels, t.values(value, 0.05)))
        series.append(("ml_feature_drift_threshold", labels, t.values(0.1)))
    series += sizes("noisy")  # little traffic: a large distance that chance explains
    labels = model("noisy", window="1h", feature="age", statistic="psi")
    series.append(("ml_feature_drift", labels, t.values(0.3)))
    series.append(("ml_feature_drift_threshold", labels, t.values(0.35)))
    series += sizes("missing")
    owned = {"owner": "anna", "team": "risk"}
    series.append(("ml_model_owner_info", {**HERE, "model": "fires", **owned, "environment": ""}, t.values(1)))
    series += _against_last_week("fires", {"age": 0.02}, t.over)
    return t.case("MLFeatureDriftSevere", {**model("fires"), **owned}, series)


def _harmless_drift() -> Case:
    """One feature drifts far: it does no harm where performance is known and is not worse than the reference's."""
    t = Timeline("MLDriftWithoutHarm")
    series: list[Series] = []
    for name, (accuracy, evidence) in {
        "fires": (0.9, 1),
        "harmed": (0.8, 1),
        "suspect": (0.9, 9),
        "unknown": (None, None),
    }.items():
        series += sizes(name)
        labels = model(name, window="1h", feature="age", statistic="psi")
        series.append(("ml_feature_drift", labels, t.values(0.4, 0.05)))
        series.append(("ml_feature_drift_threshold", labels, t.values(0.1)))
        if accuracy is None or evidence is None:
            continue
        series.append(("ml_model_performance_reference", model(name, metric="accuracy"), t.values(0.9)))
        for suffix, width in (("", 0.0), ("_lower", -0.01), ("_upper", 0.01)):
            labels = model(name, window="1h", metric="accuracy")
            series.append((f"ml_model_performance{suffix}", labels, t.values(round(accuracy + width, 4))))
        series.append(("ml_model_change_evidence", model(name, stream="error"), t.values(evidence)))
        series.append(("ml_model_change_evidence_threshold", model(name, stream="error"), t.values(5)))
    series += sizes("missing")
    return t.case("MLDriftWithoutHarm", model("fires"), series)


def _quality(alert: str, metrics: dict[str, str | None], bad: float, under: float, reference: float = 0.1) -> Case:
    """Shares in an hour of 10 000 predictions, beside bins of the reference with a share of `reference`."""
    t = Timeline(alert)
    series: list[Series] = []
    for name, (value, predictions) in {
        "fires": (bad, 10_000),
        "under": (under, 10_000),
        "few": (bad, 799),
        "missing": (None, 10_000),
    }.items():
        series += sizes(name, predictions=predictions)
        for metric, bin_ in metrics.items():
            for feature, share in {"age": 1.0, "income": 0.8}.items():
                if bin_ is not None:
                    labels = model(name, feature=feature, bin=bin_)
                    series.append(("ml_feature_reference_ratio", labels, t.values(reference)))
                if value is not None:
                    labels = model(name, window="1h", feature=feature)
                    series.append((metric, labels, t.values(round(value * share, 6), 0)))
    return t.case(alert, model("fires"), series)


def _fairness() -> Case:
    t = Timeline("MLFairnessOutsideBenchmark")
    by = {"attribute": "sex", "metric": "demographic_parity_ratio"}
    series: list[Series] = []
    for name, (upper, predictions) in {"fires": (0.7, 5000), "under": (0.7296, 5000), "few": (0.3, 799)}.items():
        series += sizes(name, predictions=predictions)
        for suffix, bad, good in (("", upper - 0.1, 0.9), ("_lower", upper - 0.2, 0.85), ("_upper", upper, 0.95)):
            series.append((f"ml_fairness{suffix}", model(name, window="1h", **by), t.values(bad, good)))
    for name in ("fires", "under", "few", "missing"):
        labels = {**HERE, "model": name, "metric": by["metric"]}
        series.append(("ml_fairness_benchmark_min", labels, t.values(0.8)))
    for group, ratio in {"female": 0.2, "male": 0.33, "other": 0.3, "unknown": 0.4}.items():
        labels = model("fires", window="1h", attribute="sex", group=group)
        series.append(("ml_group_selection_ratio", labels, t.values(ratio)))
    wide = {"attribute": "age", "metric": "demographic_parity_difference"}
    series += sizes("wide")
    for suffix, bad in (("", 0.2), ("_lower", 0.15), ("_upper", 0.25)):
        series.append((f"ml_fairness{suffix}", model("wide", window="1h", **wide), t.values(bad, 0)))
    labels = {**HERE, "model": "wide", "metric": wide["metric"]}
    series.append(("ml_fairness_benchmark_max", labels, t.values(0.1)))
    return t.case("MLFairnessOutsideBenchmark", model("fires", **by), series, extra=[model("wide", **wide)])


def _segment() -> Case:
    t = Timeline("MLSegmentWorse")
    series: list[Series] = []
    for name, slices in {"fires": {"FR": 1, "DE": 0}, "under": {"FR": 0, "DE": 0}}.items():
        for slice_, bad in slices.items():
            of = {"segment": "country", "slice": slice_, "metric": "accuracy"}
            for window, worse in {"1h": 0, "24h": bad}.items():
                series.append(("ml_segment_worse", model(name, window=window, **of), t.values(worse, 0)))
            performance = model(name, window="24h", **of)
            series.append(("ml_segment_performance", performance, t.values(0.81 if bad else 0.92, 0.92)))
            predictions = model(name, window="24h", segment="country", slice=slice_)
            series.append(("ml_segment_window_predictions", predictions, t.values(200 if slice_ == "FR" else 9800)))
        series.append(("ml_model_performance", model(name, window="24h", metric="accuracy"), t.values(0.92)))
        series += [*sizes(name), *sizes(name, window="24h")]
    return t.case("MLSegmentWorse", model("fires", segment="country", slice="FR", metric="accuracy"), series)


def _segment_estimated() -> Case:
    t = Timeline("MLSegmentEstimatedWorse")
    series: list[Series] = []
    for name, worse in {"fires": 1, "under": 0}.items():
        of = {"segment": "country", "slice": "FR", "metric": "accuracy"}
        for window, told in {"1h": 0, "24h": worse}.items():
            series.append(("ml_segment_estimated_worse", model(name, window=window, **of), t.values(told, 0)))
        estimated = model(name, window="24h", **of)
        series.append(("ml_segment_performance_estimated", estimated, t.values(0.81 if worse else 0.92, 0.92)))
        of_all = model(name, window="24h", metric="accuracy")
        series.append(("ml_model_performance_estimated", of_all, t.values(0.92)))
        series += [*sizes(name), *sizes(name, window="24h")]
    labels = model("fires", segment="country", slice="FR", metric="accuracy")
    return t.case("MLSegmentEstimatedWorse", labels, series)


def _segment_drift() -> Case:
    t = Timeline("MLSegmentDrift")
    series: list[Series] = []
    for name, drifted in {"fires": 1, "under": 0}.items():
        of = {"segment": "country", "slice": "FR"}
        for window, told in {"1h": 0, "24h": drifted}.items():
            series.append(("ml_segment_drifted", model(name, window=window, **of), t.values(told, 0)))
        for metric, value in {"": 0.24 if drifted else 0.05, "_threshold": 0.1}.items():
            series.append((f"ml_segment_drift{metric}", model(name, window="24h", **of), t.values(value, 0.05)))
        series += [*sizes(name), *sizes(name, window="24h")]
    return t.case("MLSegmentDrift", model("fires", segment="country", slice="FR"), series)


def _outcome_changed() -> Case:
    t = Timeline("MLOutcomeChanged")
    series: list[Series] = []
    for name, evidence in {"fires": 5.2, "under": 4.6}.items():
        of = model(name, outcome="rating")
        series.append(("ml_outcome_change_evidence", of, t.values(evidence, 0)))
        series.append(("ml_outcome_change_evidence_threshold", of, t.values(4.605)))
        series.append(("ml_outcome_mean", model(name, window="24h", outcome="rating"), t.values(3.9)))
    return t.case("MLOutcomeChanged", model("fires", outcome="rating"), series)


def _outcome_drift() -> Case:
    by = {"outcome": "rating", "statistic": "psi"}
    case = _drift("MLOutcomeDrift", "ml_outcome_drift", by)
    return replace(case, labels=model("fires", outcome="rating"))


def _no_better() -> Case:
    t = Timeline("MLForecastNoBetterThanNaive")
    series: list[Series] = []
    for name, bad in {"fires": 1, "under": 0}.items():
        series.append(("ml_forecast_no_better", model(name), t.values(bad, 0)))
        skill = model(name, window="24h", metric="skill")
        series.append(("ml_model_performance", skill, t.values(-0.04 if bad else 0.3, 0.3)))
        series.append(("ml_model_performance_reference", model(name, metric="skill"), t.values(0.31)))
    series.append(("ml_forecast_no_better", model("still"), t.values(1, 0)))  # its naive forecast makes no error
    return t.case("MLForecastNoBetterThanNaive", model("fires"), series, extra=[model("still")])


def _intervals() -> Case:
    t = Timeline("MLIntervalsMisleading")
    series: list[Series] = []
    for name, bad in {"fires": 1, "under": 0}.items():
        series.append(("ml_interval_missed", model(name), t.values(bad, 0)))
        for level, share in {"0.8": 0.61, "0.5": 0.38}.items():
            of = model(name, window="24h", level=level)
            series.append(("ml_interval_coverage", of, t.values(share if bad else float(level), float(level))))
    return t.case("MLIntervalsMisleading", model("fires"), series)


def _outcome() -> Case:
    t = Timeline("MLOutcomeMissesBenchmark")
    series: list[Series] = []
    for name, missed in {"fires": 1, "under": 0}.items():
        series.append(("ml_outcome_benchmark_missed", model(name, outcome="rating"), t.values(missed, 0)))
        of = model(name, window="24h", outcome="rating")
        series.append(("ml_outcome_mean", of, t.values(3.9 if missed else 4.4, 4.4)))
        agreed = {key: value for key, value in model(name, outcome="rating").items() if key != "version"}
        series.append(("ml_outcome_benchmark_min", agreed, t.values(4.2)))
    return t.case("MLOutcomeMissesBenchmark", model("fires", outcome="rating"), series)


def _class() -> Case:
    t = Timeline("MLClassWorse")
    series: list[Series] = []
    for name, classes in {"fires": {"sports": 1, "politics": 0}, "under": {"sports": 0, "politics": 0}}.items():
        for class_, bad in classes.items():
            of = {"class": class_, "metric": "f1"}
            for window, worse in {"1h": 0, "24h": bad}.items():
                series.append(("ml_model_class_worse", model(name, window=window, **of), t.values(worse, 0)))
            performance = model(name, window="24h", **of)
            series.append(("ml_model_class_performance", performance, t.values(0.61 if bad else 0.82, 0.82)))
            series.append(("ml_model_class_performance_reference", model(name, **of), t.values(0.84)))
        series += [*sizes(name), *sizes(name, window="24h")]
    return t.case("MLClassWorse", model("fires", metric="f1", **{"class": "sports"}), series)


def _failures() -> Case:
    t = Timeline("MLPredictionFailures", lead=20, tail=20)
    series: list[Series] = []
    for name, (predictions, failures) in {"fires": (60, 6), "under": (60, 2.9), "few": (1.5, 1.5)}.items():
        series.append(("ml_model_predictions_total", model(name), t.counts(predictions)))
        series.append(("ml_model_prediction_failures_total", model(name), t.counts(failures, 0)))
    series.append(("ml_model_predictions_total", model("missing"), t.counts(60)))
    return t.case("MLPredictionFailures", model("fires"), series)


def _latency() -> Case:
    t = Timeline("MLPredictionLatencyHigh", lead=20, tail=20)
    series: list[Series] = []
    for name, (total, slow) in {"fires": (60, 0.03), "under": (60, 0.009), "few": (10, 1.0)}.items():
        for bound, bad, good in (("0.5", total * (1 - slow), total), ("1.0", total, total), ("+Inf", total, total)):
            labels = model(name, le=bound)
            series.append(("ml_model_prediction_latency_seconds_bucket", labels, t.counts(bad, good)))
        series.append(("ml_model_prediction_latency_seconds_count", model(name), t.counts(total)))
    series.append(("ml_model_predictions_total", model("missing"), t.counts(60)))
    labels = {key: value for key, value in model("fires").items() if key != "instance"}
    return t.case("MLPredictionLatencyHigh", labels, series)


def _simple(
    alert: str, metric: str, by: dict[str, str], bad: float, under: float | None, good: float = 0, **more: Any
) -> Case:
    """Test a gauge of one series per instance, against a threshold."""
    t = Timeline(alert, lead=more.get("lead", 2), tail=more.get("tail", 5))
    series: list[Series] = [(metric, {**HERE, **by}, t.values(bad, good))]
    if under is not None:
        series.append((metric, {**HERE, **by, "instance": "under:10042"}, t.values(under)))
    for other, value in more.get("beside", {}).items():
        for instance in (HERE["instance"], "under:10042", "missing:10042"):
            labels = {**HERE, **by, **more.get("beside_by", {}), "instance": instance}
            series.append((other, labels, t.values(value)))
    summed = {"reason", "detail"}
    return t.case(alert, {**HERE, **{name: value for name, value in by.items() if name not in summed}}, series)


def _cost() -> Case:
    t = Timeline("MLComputeIdle", lead=120, tail=400)
    by = {"resource": "host", "currency": "USD"}
    week = {"instance:ml_compute_cpu_cores:needed_1w": 5, "ml_compute_cpu_cores": 16}
    series: list[Series] = [(name, HERE, t.values(cores)) for name, cores in week.items()]
    series.append(("ml_compute_cost_per_hour", {**HERE, **by}, t.values(2.4)))
    for name, (cost, idle) in {"a:10042": (0.04, 0.036), "under:1": (0.04, 0.0316), "cheap:1": (0.008, 0.008)}.items():
        labels = {**HERE, "instance": name, **by}
        series.append(("ml_compute_cost_total", labels, t.counts(cost)))
        series.append(("ml_compute_idle_cost_total", labels, t.counts(idle, 0)))
    series.append(("ml_compute_cost_total", {**HERE, "instance": "missing:1", **by}, t.counts(0.04)))
    return t.case("MLComputeIdle", {**HERE, **by}, series)


def _oom_kills() -> Case:
    """One kill after an hour without, beside an instance that had one long ago."""
    t = Timeline("MLOutOfMemoryKill", lead=20, tail=20)
    series: list[Series] = [
        ("ml_compute_oom_kills_total", HERE, t.counts(1, 0)),
        ("ml_compute_oom_kills_total", {**HERE, "instance": "old:10042"}, t.values(7)),
    ]
    for name, value in {"used": 60 * _GB, "total": 100 * _GB}.items():
        series.append((f"ml_compute_memory_{name}_bytes", HERE, t.values(value)))
    return t.case("MLOutOfMemoryKill", HERE, series)


def _errors(alert: str, kind: str, lead: int, tail: int, bad: float, under: float) -> Case:
    t = Timeline(alert, lead=lead, tail=tail)
    gpu = {"gpu": "0", "uuid": "GPU-1", "mig": ""}
    series: list[Series] = [("ml_gpu_ecc_errors_total", {**HERE, **gpu, "type": kind}, t.counts(bad, 0))]
    other = "corrected" if kind == "uncorrected" else "uncorrected"
    for name, type_, count in (("under:1", kind, under), ("other:1", other, 0.0)):
        series.append(("ml_gpu_ecc_errors_total", {**HERE, **gpu, "instance": name, "type": type_}, t.counts(count)))
    return t.case(alert, {**HERE, **gpu}, series)


def _budget(alert: str, lead: int, tail: int, bad: float, under: float, few: float) -> Case:
    """Bad shares of 60 labelled predictions a minute against a budget of 2 %; `few` are labels a minute.

    What the counters of "backfill" got is long past: its windows show what happens now, those of "history" nothing.
    """
    t = Timeline(alert, lead=lead, tail=tail)
    series: list[Series] = []
    models = {
        "fires": (bad, 60),
        "under": (under, 60),
        "few": (bad, few),
        "missing": (0, 0),
        "backfill": (bad, 60),
        "history": (bad, 60),
    }
    for name, (wrong, pace) in models.items():
        series.append(("ml_model_benchmark_min", model(name, metric="accuracy"), t.values(0.98)))
        series.append(("ml_model_predictions_total", model(name), t.counts(max(pace, 1))))
        series.append(("ml_model_prediction_failures_total", model(name), t.counts(0)))
        if name not in ("history", "missing"):
            accuracy = 0.99 if name == "backfill" else 1 - wrong
            labels = model(name, window="1h", metric="accuracy")
            series.append(("ml_model_performance", labels, t.values(accuracy, 0.99)))
        if pace:
            for predicted, share in (("1", wrong), ("0", 1 - wrong)):
                good = 0.0 if predicted == "1" else pace
                labels = model(name, predicted=predicted, actual="0")
                series.append(("ml_model_confusion_total", labels, t.counts(pace * share, good)))
    labels = {key: value for key, value in model("fires").items() if key != "instance"}
    return t.case(alert, labels, series)


DAY = 1440


STEP = 4  # minutes between evaluations of cases that take hours: Prometheus 3 looks back for less than 5
LONG_STEP = 60  # of those that take days: a day and a week are whole steps, so that ALERTS of then are found
SAMPLES = 3  # minutes between their samples. No range begins at a sample: Prometheus 2 takes it in, 3 does not


def _legs(start: float, *legs: tuple[int, float]) -> str:
    """Values of a counter or gauge from `start` over legs of (minutes, change a minute)."""
    parts, level = [], start
    for length, change in legs:
        parts.append(f"{level:g}{change * SAMPLES:+g}x{length // SAMPLES - 1}")
        level += change * length
    return " ".join(parts)


def _whole_steps(length: int) -> int:
    return -(-length // LONG_STEP) * LONG_STEP


@dataclass(frozen=True)
class _Silence:
    """When models are busy and when silent, in minutes; some get their events from a new version instead, or are gone.

    A model younger than a week is compared with yesterday, an older one with last week too.
    """

    alert: str
    metric: str
    window: int
    begin: int
    stop: int
    back: int
    over: int

    @property
    def wait(self) -> int:
        return minutes(_ALERTS[self.alert].wait)

    def busy(self, pace: float = 10, *, until: int | None = None, back: int | None = None) -> str:
        """Values of a counter."""
        until, back = until or self.over, back or self.over
        return self._from_begin((until - self.begin, pace), (back - until, 0), (self.over - back, pace))

    def series(self) -> list[Series]:
        """Return the models; all but `fires` stay unnoticed."""
        new = {**model("new-version"), "version": "2"}
        series = [
            (self.metric, model("fires"), self.busy(until=self.stop, back=self.back)),
            (self.metric, model("busy"), self.busy()),
            (self.metric, model("few"), self.busy(0.01, until=self.stop)),
            (self.metric, model("new-version"), self.busy(until=self.stop)),
            (self.metric, new, f"_x{self.stop // SAMPLES} {_legs(0, (self.over - self.stop, 10))}"),
            (self.metric, model("removed"), self.busy(until=self.stop)),
            (self.metric, model("nightly"), self.busy(until=self.stop)),
            ("ml_model_cadence_seconds", {**HERE, "model": "nightly"}, f"86400+0x{self.over // SAMPLES}"),
        ]
        if self.stop - self.begin > 7 * DAY:  # silent on this day of every week
            rest = DAY - 120
            week, last = self.stop - self.begin, self.over - self.stop
            legs = ((rest, 10), (DAY, 0), (week - rest - DAY, 10), (rest, 0), (last - rest, 10))
            series.append((self.metric, model("weekly"), self._from_begin(*legs)))
        there = {labels["model"] for _, labels, _ in series} - {"removed"} | {"missing"}
        unmatched = f"0+0x{self.over // SAMPLES}"
        return series + [
            ("ml_model_labels_unmatched_total", {**HERE, "model": name}, unmatched) for name in sorted(there)
        ]

    def _from_begin(self, *legs: tuple[int, float]) -> str:
        values = _legs(0, *(leg for leg in legs if leg[0]))
        return f"_x{self.begin // SAMPLES} {values}" if self.begin else values

    def case(self) -> Case:
        """Return what is told, soon after it is."""
        labels = {"job": HERE["job"], "model": "fires"}
        fires = self.stop + self.window + self.wait + 24
        return Case(self.alert, labels, self.series(), self.stop, fires, self.over)

    def long(self) -> dict[str, Any]:
        """Return promtool's test of who is told of, with seldom evaluations and without the words."""
        silent = self.stop + _whole_steps(self.window)
        expr = f'count by (model) (ALERTS{{alertname="{self.alert}",alertstate="firing"}})'
        fires = [{"labels": '{model="fires"}', "value": 1}]
        checks = [
            (self.stop, []),
            (silent + _whole_steps(self.wait), fires),
            (silent + DAY + 120, fires),  # by now yesterday was silent as well
            (self.over, []),
        ]
        return {
            "name": f"{self.alert}, {'from week to week' if self.stop - self.begin > 7 * DAY else 'from day to day'}",
            "interval": f"{SAMPLES}m",
            "input_series": _input(self.series()),
            "promql_expr_test": [
                {"eval_time": f"{minute}m", "expr": expr, "exp_samples": samples} for minute, samples in checks
            ],
        }


_SILENT = (("MLNoPredictions", "ml_model_predictions_total", 30), ("MLNoLabels", "ml_model_labels_total", DAY))


def _silent() -> Iterable[Case]:
    for (alert, metric, window), begin in zip(_SILENT, (0, 2 * DAY), strict=True):  # on a Thursday, a Saturday
        stop = begin + DAY
        yield _Silence(alert, metric, window, begin, stop, stop + window + 120, stop + window + 240).case()


def _long_silences() -> list[dict[str, Any]]:
    """Return the tests of silences that last longer than a day, of models older and younger than a week."""
    found = []
    for alert, metric, window in _SILENT:
        for begin, stop in ((0, 8 * DAY), (3 * DAY, 4 * DAY)):  # the first day is a Thursday; nobody misses a weekend
            back = stop + _whole_steps(window) + DAY + 180
            found.append(_Silence(alert, metric, window, begin, stop, back, back + 120).long())
    return found


def _batch_late() -> Case:
    """Test a job that does not come and then does, beside one that is in time on another replica."""
    t = Timeline("MLBatchLate")
    deadline = "ml_model_batch_deadline_timestamp_seconds"
    series: list[Series] = [
        (deadline, {**HERE, "model": "fires"}, t.values(60, DAY * 60)),
        (deadline, {**HERE, "model": "fires", "instance": "idle-replica:1"}, t.values(0, 0)),
        (deadline, {**HERE, "model": "in-time"}, t.values(DAY * 60)),
        (deadline, {**HERE, "model": "in-time", "instance": "idle-replica:1"}, t.values(60)),
        ("ml_model_last_prediction_timestamp_seconds", model("fires"), t.values(-3600)),
    ]
    return t.case("MLBatchLate", {"job": HERE["job"], "model": "fires"}, series)


def _coverage() -> Case:
    start = DAY + 120  # what was usual is older than a day
    fires, over = start + 100, start + 300
    series: list[Series] = []
    for name, (usual, bad, predictions) in {
        "fires": (0.8, 0.35, 5000),
        "under": (0.8, 0.41, 5000),
        "few": (0.8, 0.0, 799),
        "always": (0.05, 0.05, 5000),
    }.items():
        series += sizes(name, predictions=predictions)
        values = f"{_legs(usual, (start, 0))} {_legs(bad, (fires - start, 0))} {_legs(usual, (over - fires, 0))}"
        series.append(("ml_model_label_coverage_ratio", model(name, window="1h"), values))
    return Case("MLLabelCoverageLow", model("fires"), series, start + 32, fires, over)


def _unmatched() -> Case:
    t = Timeline("MLLabelsUnmatched", lead=60, tail=360)
    series: list[Series] = []
    for name, (unmatched, matched) in {"fires": (3, 10), "under": (2.4, 10), "few": (0.2, 0)}.items():
        series.append(("ml_model_labels_unmatched_total", {**HERE, "model": name}, t.counts(unmatched, 0)))
        series.append(("ml_model_labels_total", model(name), t.counts(matched)))
    series.append(("ml_model_labels_unmatched_total", {**HERE, "model": "missing"}, t.counts(0)))
    return t.case("MLLabelsUnmatched", {"job": HERE["job"], "model": "fires"}, series)


def _outcomes_unmatched() -> Case:
    t = Timeline("MLOutcomesUnmatched", lead=60, tail=360)
    series: list[Series] = []
    for name, (unmatched, matched) in {"fires": (3, 10), "under": (2.4, 10), "few": (0.2, 0)}.items():
        of = {**HERE, "model": name, "outcome": "rating"}
        series.append(("ml_outcome_values_unmatched_total", of, t.counts(unmatched, 0)))
        series.append(("ml_outcome_values_total", model(name, outcome="rating"), t.counts(matched)))
    told = {"job": HERE["job"], "model": "fires", "outcome": "rating"}
    return t.case("MLOutcomesUnmatched", told, series)


def _profiles() -> Iterable[Case]:
    t = Timeline("MLProfileVersionMismatch")
    series: list[Series] = []
    for name, (version, made_for, kind) in {
        "fires": ("4", "3", "shared"),
        "same": ("3", "3", "shared"),
        "unversioned": ("default", "3", "shared"),
        "unknown": ("4", "", "shared"),
        "untold": ("4", "default", "shared"),
        "canary": ("4", "of-july", "own"),
        "idle": ("4", "3", "shared"),
    }.items():
        labels = {**model(name), "version": version}
        info = {**labels, "profile_version": made_for, "task": "binary", "profile_hash": "abc"}
        series.append(
            ("ml_model_info", info, f"1+0x{t.fires} _x{t.over - t.fires}" if name == "fires" else t.values(1))
        )
        series.append(("ml_model_version_profile", {**labels, "profile": kind}, t.values(1)))
        series.append(("ml_model_predictions_total", labels, t.counts(0 if name == "idle" else 10)))
    for version in ("3", "4"):  # a deployment, during which both serve by the profile of the one
        labels = {**model("deployed"), "version": version}
        info = {**labels, "profile_version": "3", "task": "binary", "profile_hash": "abc"}
        series.append(("ml_model_info", info, t.values(1)))
        series.append(("ml_model_version_profile", {**labels, "profile": "shared"}, t.values(1)))
        series.append(("ml_model_predictions_total", labels, t.counts(10)))
    yield t.case("MLProfileVersionMismatch", {**model("fires"), "version": "4", "profile_version": "3"}, series)

    t = Timeline("MLProfileMissing")
    series = []
    for name, kind in {"fires": "none", "own": "own", "shared": "shared", "idle": "none"}.items():
        told = f"1+0x{t.fires} _x{t.over - t.fires}" if name == "fires" else t.values(1)
        series.append(("ml_model_version_profile", {**model(name), "profile": kind}, told))
        series.append(("ml_model_predictions_total", model(name), t.counts(0 if name == "idle" else 10)))
    labels = {**model("canary"), "profile": "none"}  # its profile comes within the grace
    series.append(("ml_model_version_profile", labels, "1+0x30 _x200"))
    series.append(("ml_model_version_profile", {**labels, "profile": "own"}, "_x31 1+0x200"))
    series.append(("ml_model_predictions_total", model("canary"), t.counts(10)))
    series.append(("ml_model_predictions_total", model("missing"), t.counts(10)))
    yield t.case("MLProfileMissing", model("fires"), series)

    t = Timeline("MLProfileOld")
    half_year, series = 180 * DAY * 60, []
    for name, created in {"fires": -half_year, "under": -half_year + t.over * 60 + 60, "idle": -2 * half_year}.items():
        good = 0 if name == "fires" else None
        series.append(("ml_model_profile_timestamp_seconds", model(name), t.values(created, good)))
        series.append(("ml_model_predictions_total", model(name), t.counts(0 if name == "idle" else 10)))
    series.append(("ml_model_predictions_total", model("missing"), t.counts(10)))
    yield t.case("MLProfileOld", model("fires"), series)


def _rejected() -> Case:
    t = Timeline("MLEventsRejected", lead=20, tail=20)
    series: list[Series] = []
    for source, (accepted, refused) in {"fires": (900, 60), "under": (900, 40), "few": (0, 6)}.items():
        by = {**HERE, "source": source}
        series.append(("ml_exporter_events_total", by, t.counts(accepted)))
        for reason, share in {"bad_timestamp": 0.7, "unknown_model": 0.2, "missing_id": 0.1, "bad_label": 0}.items():
            series.append(("ml_exporter_events_rejected_total", {**by, "reason": reason}, t.counts(refused * share, 0)))
    series.append(("ml_exporter_events_total", {**HERE, "source": "missing"}, t.counts(900)))
    return t.case("MLEventsRejected", {**HERE, "source": "fires"}, series)


def _source_down() -> Case:
    """Down without a break, or again and again, as where one of two members does not take its events."""
    t = Timeline("MLSourceDown", lead=20, tail=10)
    series: list[Series] = []
    for source, (up, last) in {
        "stream": (t.values(0, 1), -60),
        "often": (f"{'0 0 1 ' * (t.fires // 3 + 1)}1+0x{t.over}", -120),
        "seldom": (f"{'1 1 0 ' * (t.fires // 3 + 1)}1+0x{t.over}", -60),
        "back": (f"0+0x4 1+0x{t.over}", -60),
    }.items():
        by = {**HERE, "source": source}
        series.append(("ml_exporter_source_up", by, up))
        series.append(("ml_exporter_source_last_event_timestamp_seconds", by, t.values(last)))
    here: Labels = {**HERE, "source": "stream"}
    return t.case("MLSourceDown", here, series, extra=[{**HERE, "source": "often"}])


def _ledgers_refused() -> Case:
    """Few among many events, as one ledger holds as many."""
    t = Timeline("MLLedgersRefused", tail=62)
    here: Labels = {**HERE, "source": "fires"}
    series: list[Series] = []
    for source, refused in {"fires": 2, "never": 0}.items():
        by = {**HERE, "source": source}
        series.append(("ml_exporter_ledgers_rejected_total", by, t.counts(refused, 0)))
        series.append(("ml_exporter_ledgers_total", by, t.counts(6)))
        series.append(("ml_exporter_events_total", by, t.counts(900_000)))
        for reason in ("other_layout", "bad_score"):
            counted = t.counts(refused if reason == "other_layout" else 0, 0)
            series.append(("ml_exporter_events_rejected_total", {**by, "reason": reason}, counted))
    return t.case("MLLedgersRefused", here, series)


def _restarting() -> Case:
    t = Timeline("MLExporterRestarting", lead=20, tail=35)
    series: list[Series] = []
    for name, starts in {"a": 6, "under": 2}.items():
        here = {**HERE, "instance": f"{name}:10042"}
        series.append(("up", here, t.values(1)))
        series.append(("process_start_time_seconds", here, f"0+60x{starts} {60 * starts}+0x{t.over}"))
    series.append(("process_start_time_seconds", {"job": "node", "instance": "n:9100"}, f"0+60x{t.over}"))
    return t.case("MLExporterRestarting", HERE, series)


def _feed_down() -> Case:
    t = Timeline("MLModelFeedDown", lead=8, tail=8)  # the source's own alert comes after 5m, and stays as long
    series: list[Series] = []
    for name, up in {"fires": t.values(0, 1), "under": t.values(1)}.items():
        here = {**HERE, "instance": f"{name}:10042"}
        series.append(("ml_model_info", {**model(name, task="binary"), **here}, t.values(1)))
        series.append(("ml_exporter_source_up", {**here, "source": "log"}, up))
    return t.case("MLModelFeedDown", {"job": HERE["job"], "model": "fires"}, series)


def _many(alert: str, told: str, kind: str, pending: int) -> Case:
    """Twelve models together; too few, and twelve that are few among many, are told of one by one."""
    series: list[Series] = []
    for job, count, models in (("fires", 12, 20), ("few", 9, 20), ("share", 12, 130)):
        for number in range(models):
            labels = {**HERE, "job": job, "model": f"m{number:03d}", "version": "1"}
            series.append(("ml_model_info", {**labels, "task": "binary"}, "1x40"))
            if number < count:
                labels |= {"alertname": told, "category": kind}
                series.append(("ALERTS_FOR_STATE", labels, "0x20 stale"))
                series.append(("ALERTS", {**labels, "alertstate": "pending"}, "1x20 stale"))
    return Case(alert, {"job": "fires", "of": kind}, series, pending, pending + 1, 30)


def _lagging() -> Case:
    t = Timeline("MLSourceLagging", lead=20, tail=5)
    series: list[Series] = []
    for source, (lag, pace) in {
        "fires": (6000, 600),
        "under": (2950, 600),
        "few": (999, 0),
        "busy": (10_000, 6000),
    }.items():
        values = f"0+0x16 {lag}+0x{t.over}" if source == "under" else t.values(lag, 0)  # the pace needs 15m to show
        series.append(("ml_exporter_source_lag_events", {**HERE, "source": source}, values))
        series.append(("ml_exporter_events_total", {**HERE, "source": source}, t.counts(pace)))
    series.append(("ml_exporter_events_total", {**HERE, "source": "missing"}, t.counts(600)))
    return t.case("MLSourceLagging", {**HERE, "source": "fires"}, series)


def _checkpoint() -> Case:
    t = Timeline("MLCheckpointFailing", lead=20, tail=25)
    metric, errors = "ml_exporter_checkpoint_last_success_timestamp_seconds", "ml_exporter_state_errors_total"
    rises = f"{(t.fires + 1) * 60}+60x{t.over - t.fires}"
    series: list[Series] = [
        (metric, HERE, f"0+0x{t.fires} {rises}"),
        (errors, {**HERE, "fault": "full"}, f"0+0x{t.over}"),
        (metric, {**HERE, "instance": "under:1"}, f"-840+60x{t.over}"),
        (metric, {**HERE, "instance": "error:1"}, f"0+60x{t.over}"),
        (errors, {**HERE, "instance": "error:1", "fault": "full"}, t.counts(1, 0)),
        ("ml_exporter_build_info", {**HERE, "instance": "memory-only:1"}, t.values(1)),
    ]
    return t.case("MLCheckpointFailing", HERE, series, extra=[{**HERE, "instance": "error:1"}])


def _gone(alert: str, metric: str, series: list[Series], labels: Labels) -> Case:
    """Test an alert on absence."""
    t = Timeline(alert)
    values = f"_x{t.fires + 1} 1+0x{t.over - t.fires}"
    return t.case(alert, labels, [(metric, HERE if metric == "up" else {}, values), *series])


_PROBE = {"probe": "golden", "model": "credit"}


def _probes() -> list[Case]:
    """Return the cases of probes."""
    t = Timeline("MLProbeSilent")
    last, every = "ml_probe_last_run_timestamp_seconds", "ml_probe_interval_seconds"
    silent: list[Series] = [
        (last, {**HERE, **_PROBE}, f"-960+0x{t.fires} {60 * t.fires}+60x{t.over - t.fires}"),
        (last, {**HERE, **_PROBE, "instance": "under:1"}, f"-840+60x{t.over}"),
        *(
            (every, {**HERE, **_PROBE, "instance": name}, t.values(300))
            for name in (HERE["instance"], "under:1", "new:1")
        ),
    ]
    b = Timeline("MLProbePerformanceBelowBenchmark")
    beyond: list[Series] = []
    for name, metric, bound, bad, good in (
        ("a:10042", "accuracy", "min", (0.80, 0.76, 0.84), (0.95, 0.93, 0.97)),
        ("error:1", "mae", "max", (4.0, 3.6, 4.4), (2.0, 1.9, 2.1)),
        ("under:1", "accuracy", "min", (0.80, 0.74, 0.851), (0.80, 0.74, 0.851)),
        ("missing:1", "accuracy", "min", (), ()),
    ):
        labels = {**HERE, **_PROBE, "instance": name, "version": "1", "metric": metric}
        beyond.append((f"ml_probe_benchmark_{bound}", labels, b.values(0.9 if bound == "min" else 3.0)))
        for suffix, part, whole in zip(("", "_lower", "_upper"), bad, good, strict=False):
            beyond.append((f"ml_probe_performance{suffix}", labels, b.values(part, whole)))
    labels = {**HERE, **_PROBE, "version": "1", "metric": "accuracy"}
    return [
        _simple(
            "MLProbeFailing",
            "ml_probe_failed_passes",
            _PROBE,
            2,
            1,
            beside={"ml_probe_last_success_timestamp_seconds": -600},
        ),
        t.case("MLProbeSilent", {**HERE, **_PROBE}, silent),
        _simple("MLProbeOutputsChanged", "ml_probe_outputs_changed_ratio", {**_PROBE, "version": "1"}, 0.2, 0.01),
        b.case(
            "MLProbePerformanceBelowBenchmark",
            labels,
            beyond,
            extra=[{**labels, "instance": "error:1", "metric": "mae"}],
        ),
    ]


_GPU = {"gpu": "0", "uuid": "GPU-1", "mig": ""}
_GB = 1 << 30


def cases() -> list[Case]:
    """Return the case of every alert."""
    few = (799, 99)
    memory = {"ml_compute_memory_total_bytes": 100 * _GB}
    return [
        _performance("MLModelPerformanceBelowBenchmark", "ml_model_performance", few),
        _performance("MLModelEstimatedPerformanceBelowBenchmark", "ml_model_performance_estimated", few),
        _calibration(),
        _unjudged(),
        _compared(
            "MLModelConceptDrift",
            "ml_model_change_evidence",
            "ml_model_change_evidence_threshold",
            {"stream": "error"},
            1.01,
            1.0,
        ),
        _budget("MLErrorBudgetBurnFast", 60, 60, 0.3, 0.11, 1),
        _budget("MLErrorBudgetBurnSlow", 300, 400, 0.08, 0.0199, 0.02),
        _fairness(),
        _segment(),
        _segment_estimated(),
        _segment_drift(),
        _outcome(),
        _outcome_changed(),
        _outcome_drift(),
        _no_better(),
        _intervals(),
        _class(),
        _failures(),
        _latency(),
        _batch_late(),
        *_silent(),
        _coverage(),
        _unmatched(),
        _outcomes_unmatched(),
        *_profiles(),
        _feature_drift(),
        _slight_drift(),
        _severe_drift(),
        _harmless_drift(),
        _drift("MLPredictionDrift", "ml_prediction_drift", {"statistic": "psi"}),
        _multivariate(),
        _quality(
            "MLFeatureUnusable",
            {"ml_feature_missing_ratio": "missing", "ml_feature_invalid_ratio": "invalid"},
            0.45,
            0.36,
        ),
        _quality("MLFeatureMissing", {"ml_feature_missing_ratio": "missing"}, 0.21, 0.155),
        _quality("MLFeatureInvalid", {"ml_feature_invalid_ratio": "invalid"}, 0.2, 0.012, 0.001),
        _quality("MLFeatureOutOfRange", {"ml_feature_out_of_range_ratio": None}, 0.05, 0.012),
        _quality("MLFeatureUnseenCategories", {"ml_feature_unseen_category_ratio": "other"}, 0.15, 0.115),
        _simple(
            "MLCpuSaturated",
            "ml_compute_cpu_utilization_ratio",
            {},
            0.95,
            0.899,
            tail=20,
            beside={"ml_compute_cpu_cores": 8},
        ),
        _cost(),
        _simple("MLMemoryNearLimit", "ml_compute_memory_used_bytes", {}, 91 * _GB, 90 * _GB, beside=memory),
        _simple("MLMemoryExhausted", "ml_compute_memory_used_bytes", {}, 98 * _GB, 97 * _GB, beside=memory),
        _oom_kills(),
        _simple("MLGpuSaturated", "ml_gpu_utilization_ratio", _GPU, 0.97, 0.949, tail=65),
        _simple(
            "MLGpuMemoryNearLimit",
            "ml_gpu_memory_used_bytes",
            _GPU,
            79 * _GB,
            78 * _GB,
            beside={"ml_gpu_memory_total_bytes": 80 * _GB},
        ),
        _simple(
            "MLGpuThermalThrottling",
            "ml_gpu_throttled",
            {**_GPU, "reason": "hw_thermal_slowdown"},
            1,
            None,
            tail=20,
            beside={"ml_gpu_temperature_celsius": 91},
        ),
        _errors("MLGpuEccErrors", "uncorrected", 5, 65, 1, 0),
        _errors("MLGpuEccErrorsCorrected", "corrected", 600, DAY, 1, 0.05),
        _simple("MLGpuLost", "ml_gpu_up", _GPU, 0, 1, good=1),
        _simple(
            "MLGpuDriverDown",
            "ml_gpu_driver_up",
            {"vendor": "nvidia"},
            0,
            1,
            good=1,
            beside={"ml_gpu_driver_error": 1},
            beside_by={"error": "driver_not_loaded"},
        ),
        *_probes(),
        _simple(
            "MLRetrainingFailed",
            "ml_retraining_last_result",
            {"model": "credit"},
            0,
            1,
            good=1,
            beside={"ml_retraining_last_end_timestamp_seconds": -60},
        ),
        _simple(
            "MLRegistryUnreachable",
            "ml_registry_up",
            {"model": "credit"},
            0,
            1,
            good=1,
            beside={"ml_registry_last_success_timestamp_seconds": -60},
        ),
        _simple("MLExporterDown", "up", {}, 0, 1, good=1),
        _gone("MLExporterAbsent", "up", [("up", {"job": "node", "instance": "n:9100"}, "1+0x100")], {}),
        _source_down(),
        _restarting(),
        _simple("MLTableRewritten", "ml_exporter_source_rewritten_files", {"source": "stream"}, 2, 0, good=0),
        _feed_down(),
        _lagging(),
        _rejected(),
        _ledgers_refused(),
        _simple(
            "MLQueueFilling",
            "ml_exporter_queue_events",
            {},
            81_000,
            80_000,
            tail=10,
            beside={"ml_exporter_queue_capacity_events": 100_000},
        ),
        _checkpoint(),
        _simple(
            "MLSeriesLimitHit",
            "ml_exporter_series_dropped",
            {"detail": "bins"},
            1,
            0,
            beside={"ml_exporter_series_limit": 20_000},
        ),
        _simple(
            "MLConfigReloadFailed",
            "ml_exporter_config_last_reload_successful",
            {},
            0,
            1,
            good=1,
            beside={"ml_exporter_config_last_reload_success_timestamp_seconds": -3600},
        ),
        _simple(
            "MLStateDamaged",
            "ml_exporter_state_damaged_timestamp_seconds",
            {"file": "checkpoint"},
            0,
            -90_000,
            good=-90_000,
        ),
        _simple("MLModelFileBroken", "ml_exporter_model_file_broken", {"file": "credit.yml"}, 1, None),
        _simple("MLCollectorFailing", "ml_exporter_collector_success", {"collector": "data"}, 0, 1, good=1),
        _gone(
            "MLRulesIncomplete",
            "ml:threshold:min_labels",
            [("ml:threshold:checkpoint_age_seconds", {}, "900+0x100")],
            {},
        ),
        _many("MLManyModelsFailing", "MLFeatureUnusable", "data_quality", 3),
        _many("MLManyModelsTroubled", "MLFeatureMissing", "data_quality", 8),
        Case("MLWatchdog", {}, [("up", HERE, "1+0x5")], 0, 1, None),
    ]


_DAYS = {"MLNoPredictions", "MLNoLabels", "MLLabelCoverageLow"}
_RECORDS = {
    "model_alerts.yml": ["thresholds.yml", "windows.yml"],
    "data_alerts.yml": ["thresholds.yml", "windows.yml"],
    "compute_alerts.yml": ["thresholds.yml"],
    "lifecycle_alerts.yml": ["thresholds.yml"],
    "exporter_alerts.yml": ["thresholds.yml", "exporters.yml"],
    "fleet_alerts.yml": ["thresholds.yml"],
}


def promtool_files(described: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Return promtool's test files by name; `described` gives the description of each expected alert by its `key`."""
    files: dict[str, dict[str, Any]] = {}
    for case in cases():
        rules = next(name for name, (_, alerts) in ALERT_GROUPS.items() if _ALERTS[case.alert] in alerts)
        name, step, needed = rules, 1, _RECORDS[rules]
        if case.alert == "MLRulesIncomplete":
            name, needed = "rules_incomplete.yml", []
        elif case.alert.startswith("MLErrorBudget"):
            name, step, needed = "error_budget.yml", STEP, ["thresholds.yml", "error_budget.yml"]
        elif case.alert in _DAYS:
            name, step = "silence.yml", STEP
        file = files.setdefault(
            name,
            {
                "rule_files": [f"../rules/{rule_file}" for rule_file in (*needed, rules)],
                "evaluation_interval": f"{step}m",
                "group_eval_order": [group for rule_file in (*needed, rules) for group in GROUPS[rule_file]],
                "tests": [],
            },
        )
        file["tests"].append(_test(case, SAMPLES if case.alert in _DAYS else 1, described))
    files["long_silence.yml"] = files["silence.yml"] | {
        "evaluation_interval": f"{LONG_STEP}m",
        "tests": _long_silences(),
    }
    return files


def _test(case: Case, interval: int, described: Mapping[str, str]) -> dict[str, Any]:
    alert = _ALERTS[case.alert]
    firing = [_expected(alert, labels, described) for labels in (case.labels, *case.extra)]
    checks = [(case.fires, firing)]
    if alert.wait != "0m":
        checks.insert(0, (case.pending, []))
    if case.over is not None:
        checks.append((case.over, []))
    test: dict[str, Any] = {
        "name": case.alert,
        "interval": f"{interval}m",
        "input_series": _input(case.series),
        "alert_rule_test": [
            {"eval_time": f"{minute}m", "alertname": case.alert, "exp_alerts": expected} for minute, expected in checks
        ],
    }
    return test


def _input(series: Iterable[Series]) -> list[dict[str, str]]:
    return [{"series": _selector(name, labels), "values": values} for name, labels, values in series]


def _selector(name: str, labels: Labels) -> str:
    return f"{name}{{{','.join(f'{label}={chr(34)}{value}{chr(34)}' for label, value in labels.items())}}}"


def key(name: str, labels: Labels) -> str:
    """Return what tells one expected alert from another."""
    own = {"alertname", "severity", "category", "action"}
    return " ".join([name, *(f"{k}={v}" for k, v in sorted(labels.items()) if k not in own and v)])


def _expected(alert: Alert, labels: Labels, described: Mapping[str, str]) -> dict[str, Any]:
    own: dict[str, str] = {"severity": alert.severity, "category": alert.category}
    if alert.action is not None:
        own["action"] = alert.action
    return {
        "exp_labels": {**{name: value for name, value in labels.items() if value}, **own},
        "exp_annotations": {
            "summary": alert.summary,
            "description": described.get(key(alert.name, labels), ""),
            "runbook_url": runbook_url(alert),
            "dashboard_url": dashboard_url(alert, lambda label: quote_plus(labels[label])),
            "query": first_query(alert, lambda label: json.dumps(labels[label], ensure_ascii=False)),
        },
    }
