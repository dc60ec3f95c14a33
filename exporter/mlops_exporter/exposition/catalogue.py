"""Every metric as data: the one list from which exposition, documentation and contract tests are made.

Nothing here computes a value. Collectors refer to a metric by the constants below, so that a misspelt name is a type
error rather than a series nobody looks for.
"""

from dataclasses import dataclass
from typing import Literal

from mlops_exporter.counting import buckets

MetricType = Literal["counter", "gauge", "histogram"]
Pillar = Literal["model", "data", "compute", "exporter"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric family: `name` as a query writes it, so counters carry their `_total`.

    `labels` are the label names in exposition order. `buckets` are a histogram's upper bounds without +Inf.
    """

    name: str
    type: MetricType
    pillar: Pillar
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def family(self) -> str:
        """Name in OpenMetrics `# TYPE` lines, where a counter's family lacks the `_total` of its samples."""
        return self.name.removesuffix("_total") if self.type == "counter" else self.name


_metrics: dict[str, Metric] = {}


def _metric(
    name: str,
    type_: MetricType,
    pillar: Pillar,
    labels: str,
    help_: str,
    bounds: tuple[float, ...] = (),
) -> Metric:
    if name in _metrics:
        raise ValueError(f"metric {name} is in the catalogue twice")
    metric = Metric(name, type_, pillar, help_, tuple(labels.split()), bounds)
    _metrics[name] = metric
    return metric


_MODEL = "model version"
_WINDOW = "model version window"
_WORKLOAD = "workload phase pod_namespace pod_name"  # the last two of a workload given by pods alone

# --- the model -------------------------------------------------------------------------------------------------------
MODEL_INFO = _metric(
    "ml_model_info",
    "gauge",
    "model",
    f"{_MODEL} task profile_hash profile_version",
    "Always 1; names the task and the reference profile (its digest and the model version it was made for).",
)
VERSION_PROFILE = _metric(
    "ml_model_version_profile",
    "gauge",
    "model",
    f"{_MODEL} profile",
    "Always 1; tells by which profile a version is judged: its own, the one that versions share (shared), or none.",
)
MODEL_OWNER = _metric(
    "ml_model_owner_info",
    "gauge",
    "model",
    "model owner team environment",
    "Always 1; names whose the model is, from the configuration: alerts carry it, and routes choose by it.",
)
WINDOW_SECONDS = _metric(
    "ml_model_window_seconds",
    "gauge",
    "model",
    _WINDOW,
    "Length of the window.",
)
POSITIVE_CLASS = _metric(
    "ml_model_positive_class",
    "gauge",
    "model",
    f"{_MODEL} class",
    "Always 1; names the class that precision, recall and f1 of a binary model are about.",
)
PROFILE_TIMESTAMP = _metric(
    "ml_model_profile_timestamp_seconds",
    "gauge",
    "model",
    _MODEL,
    "When the reference profile was built; absent where the profile does not say.",
)
PREDICTIONS = _metric(
    "ml_model_predictions_total",
    "counter",
    "model",
    _MODEL,
    "Predictions received, failed ones included.",
)
PREDICTION_FAILURES = _metric(
    "ml_model_prediction_failures_total",
    "counter",
    "model",
    _MODEL,
    "Predictions received with an error.",
)
PREDICTION_LATENCY = _metric(
    "ml_model_prediction_latency_seconds",
    "histogram",
    "model",
    _MODEL,
    "Time that the model server took for a prediction, as its events tell.",
    buckets.LATENCY,
)
LAST_PREDICTION = _metric(
    "ml_model_last_prediction_timestamp_seconds",
    "gauge",
    "model",
    _MODEL,
    "Time of the newest prediction, by its own ts.",
)
LAST_LABEL = _metric(
    "ml_model_last_label_timestamp_seconds",
    "gauge",
    "model",
    _MODEL,
    "Time of the newest label, by its own ts.",
)
LABELS = _metric(
    "ml_model_labels_total",
    "counter",
    "model",
    _MODEL,
    "Labels that found their prediction (or came with it).",
)
LABELS_UNMATCHED = _metric(
    "ml_model_labels_unmatched_total",
    "counter",
    "model",
    "model",
    "Labels whose prediction never came within label_ttl (or within limits.pending_predictions).",
)
LABELS_DUPLICATE = _metric(
    "ml_model_labels_duplicate_total",
    "counter",
    "model",
    "model",
    "Labels received again with the same value; counted once everywhere else.",
)
LABELS_CORRECTED = _metric(
    "ml_model_labels_corrected_total",
    "counter",
    "model",
    "model",
    "Labels received again with another value: windows move to the new value, counters keep the first.",
)
PREDICTIONS_DUPLICATE = _metric(
    "ml_model_predictions_duplicate_total",
    "counter",
    "model",
    "model",
    "Predictions received again with a known id; counted once everywhere else.",
)
PENDING_LABELS = _metric(
    "ml_model_pending_labels",
    "gauge",
    "model",
    "model",
    "Labels that came before their prediction and wait for it.",
)
LABEL_COVERAGE = _metric(
    "ml_model_label_coverage_ratio",
    "gauge",
    "model",
    f"{_MODEL} window",
    "Share of predictions that have their label, among those made in the window that ended label_delay ago (with a "
    "cadence: in the newest batches that are so old); absent when there are none.",
)
PREDICTIONS_UNLABELLED = _metric(
    "ml_model_predictions_unlabelled_total",
    "counter",
    "model",
    _MODEL,
    "Predictions given up waiting for a label: older than label_ttl, or beyond limits.pending_predictions.",
)
PENDING_PREDICTIONS = _metric(
    "ml_model_pending_predictions",
    "gauge",
    "model",
    _MODEL,
    "Predictions waiting for their label.",
)
LABEL_DELAY = _metric(
    "ml_model_label_delay_seconds",
    "histogram",
    "model",
    _MODEL,
    "Time from a prediction to its label, by their own ts.",
    buckets.LABEL_DELAY,
)
WINDOW_PREDICTIONS = _metric(
    "ml_model_window_predictions",
    "gauge",
    "model",
    _WINDOW,
    "Predictions in the window.",
)
WINDOW_LABELS = _metric(
    "ml_model_window_labels",
    "gauge",
    "model",
    _WINDOW,
    "Labels in the window: the sample size of the performance over it.",
)
WINDOW_FILLED = _metric(
    "ml_model_window_filled_ratio",
    "gauge",
    "model",
    _WINDOW,
    "Share of the window since the version's first event here; alerts on drift and performance wait until it is 1.",
)
EFFECTIVE_PREDICTIONS = _metric(
    "ml_model_window_effective_predictions",
    "gauge",
    "model",
    _WINDOW,
    "Independent predictions that those in the window are worth: fewer where neighbours in time resemble each other.",
)
EFFECTIVE_LABELS = _metric(
    "ml_model_window_effective_labels",
    "gauge",
    "model",
    _WINDOW,
    "Independent labels that those in the window are worth: what the intervals of performance are made of.",
)
PERFORMANCE = _metric(
    "ml_model_performance",
    "gauge",
    "model",
    f"{_WINDOW} metric",
    "Performance over the window's labels; absent below min_samples.performance labels or where it is undefined.",
)
PERFORMANCE_LOWER = _metric(
    "ml_model_performance_lower",
    "gauge",
    "model",
    f"{_WINDOW} metric",
    "Lower end of the 95 % confidence interval of ml_model_performance.",
)
PERFORMANCE_UPPER = _metric(
    "ml_model_performance_upper",
    "gauge",
    "model",
    f"{_WINDOW} metric",
    "Upper end of the 95 % confidence interval of ml_model_performance.",
)
CLASS_PERFORMANCE = _metric(
    "ml_model_class_performance",
    "gauge",
    "model",
    f"{_WINDOW} class metric",
    "Performance of one class against all others over the window's labels (multiclass, multilabel).",
)
CLASS_ESTIMATED = _metric(
    "ml_model_class_performance_estimated",
    "gauge",
    "model",
    f"{_WINDOW} class metric",
    "Performance of one class against all others over the window's predictions that can be expected without labels.",
)
CLASS_ESTIMATED_LOWER = _metric(
    "ml_model_class_performance_estimated_lower",
    "gauge",
    "model",
    f"{_WINDOW} class metric",
    "Lower end of the range in which 95 % of realised values fall, around ml_model_class_performance_estimated.",
)
CLASS_ESTIMATED_UPPER = _metric(
    "ml_model_class_performance_estimated_upper",
    "gauge",
    "model",
    f"{_WINDOW} class metric",
    "Upper end of the range in which 95 % of realised values fall, around ml_model_class_performance_estimated.",
)
CLASS_REFERENCE = _metric(
    "ml_model_class_performance_reference",
    "gauge",
    "model",
    f"{_MODEL} class metric",
    "Performance of one class in the reference (multiclass, multilabel).",
)
CLASS_WORSE = _metric(
    "ml_model_class_worse",
    "gauge",
    "model",
    f"{_WINDOW} class metric",
    "1 where the class is surely worse than in the reference by more than the metric's max_drop, with false "
    "discoveries controlled over all classes; else 0.",
)
PERFORMANCE_REFERENCE = _metric(
    "ml_model_performance_reference",
    "gauge",
    "model",
    f"{_MODEL} metric",
    "Performance on the reference data, from the profile.",
)
CADENCE = _metric(
    "ml_model_cadence_seconds",
    "gauge",
    "model",
    "model",
    "Longest time between two batches of the model's job by its cadence; 0 for a model that predicts all the time.",
)
BATCH_DEADLINE = _metric(
    "ml_model_batch_deadline_timestamp_seconds",
    "gauge",
    "model",
    "model",
    "When the next batch of the model's job is late: its cadence after the newest prediction, and the grace.",
)
BENCHMARK_MIN = _metric(
    "ml_model_benchmark_min",
    "gauge",
    "model",
    "model version metric",
    "Lowest performance agreed on: min, or the reference less max_drop.",
)
BENCHMARK_MAX = _metric(
    "ml_model_benchmark_max",
    "gauge",
    "model",
    "model version metric",
    "Highest performance (of an error) agreed on: max, or the reference plus max_increase.",
)
BENCHMARK_JUDGED = _metric(
    "ml_model_benchmark_judged",
    "gauge",
    "model",
    f"{_MODEL} metric",
    "1 where a window has a value and an interval to hold against the benchmark, else 0: nobody watches it then.",
)
ZERO_LABELS = _metric(
    "ml_model_zero_labels_total",
    "counter",
    "model",
    _MODEL,
    "Labels equal to 0, which mape leaves out: nothing can be divided by them.",
)
CONFUSION = _metric(
    "ml_model_confusion_total",
    "counter",
    "model",
    f"{_MODEL} predicted actual",
    "Labelled predictions by predicted and actual class.",
)
CLASS_CONFUSION = _metric(
    "ml_model_class_confusion_total",
    "counter",
    "model",
    f"{_MODEL} class predicted actual",
    "Labelled predictions by whether a class is in the predicted and in the actual set, 1 or 0 (multilabel).",
)
EXACT_SETS = _metric(
    "ml_model_exact_sets_total",
    "counter",
    "model",
    _MODEL,
    "Labelled predictions whose set of classes is exactly the actual one (multilabel).",
)
CALIBRATION_PREDICTIONS = _metric(
    "ml_model_calibration_predictions_total",
    "counter",
    "model",
    f"{_MODEL} bin",
    "Labelled predictions by bin of their score (multiclass: of the top score); bin is its upper edge.",
)
CALIBRATION_POSITIVES = _metric(
    "ml_model_calibration_positives_total",
    "counter",
    "model",
    f"{_MODEL} bin",
    "Labelled predictions whose label was positive (multiclass: whose top class was right), by bin of their score.",
)
CALIBRATION_SCORE_SUM = _metric(
    "ml_model_calibration_score_sum_total",
    "counter",
    "model",
    f"{_MODEL} bin",
    "Sum of the scores of labelled predictions by bin of their score.",
)
ABSOLUTE_ERROR_SUM = _metric(
    "ml_model_absolute_error_sum_total",
    "counter",
    "model",
    _MODEL,
    "Sum of |prediction - label| (regression).",
)
SQUARED_ERROR_SUM = _metric(
    "ml_model_squared_error_sum_total",
    "counter",
    "model",
    _MODEL,
    "Sum of (prediction - label)^2 (regression).",
)
OVERPREDICTION_SUM = _metric(
    "ml_model_overprediction_sum_total",
    "counter",
    "model",
    _MODEL,
    "Sum of prediction - label where the prediction was higher (regression).",
)
UNDERPREDICTION_SUM = _metric(
    "ml_model_underprediction_sum_total",
    "counter",
    "model",
    _MODEL,
    "Sum of label - prediction where the prediction was lower (regression).",
)

# --- the data --------------------------------------------------------------------------------------------------------
FEATURE_VALUES = _metric(
    "ml_feature_values_total",
    "counter",
    "data",
    f"{_MODEL} feature bin range",
    "Feature values by reference bin; the outermost numeric bins are open-ended.",
)
FEATURE_OUT_OF_RANGE = _metric(
    "ml_feature_out_of_range_total",
    "counter",
    "data",
    f"{_MODEL} feature",
    "Numeric feature values below the lowest or above the highest of the reference.",
)
FEATURE_REFERENCE = _metric(
    "ml_feature_reference_ratio",
    "gauge",
    "data",
    f"{_MODEL} feature bin range",
    "Share of the reference data in the bin.",
)
FEATURE_REFERENCE_VALUES = _metric(
    "ml_feature_reference_values",
    "gauge",
    "data",
    f"{_MODEL} feature",
    "Values of the feature in the reference data, missing and invalid ones included: with "
    "ml_feature_reference_ratio it gives the reference counts.",
)
FEATURE_DRIFT = _metric(
    "ml_feature_drift",
    "gauge",
    "data",
    f"{_WINDOW} feature statistic",
    "Distance of the window's values from the reference. psi, js and hellinger add 1/2 to every bin on both sides; "
    "wasserstein is in reference standard deviations. Missing and invalid values are left out.",
)
FEATURE_DRIFT_THRESHOLD = _metric(
    "ml_feature_drift_threshold",
    "gauge",
    "data",
    f"{_WINDOW} feature statistic",
    "What ml_feature_drift exceeds without drift at the false_alarm_rate, at the window's sample size, and at least "
    "min_effect.",
)
PREDICTION_DRIFT = _metric(
    "ml_prediction_drift",
    "gauge",
    "data",
    f"{_WINDOW} statistic",
    "Distance of the window's scores (without scores: predictions) from the reference.",
)
PREDICTION_DRIFT_THRESHOLD = _metric(
    "ml_prediction_drift_threshold",
    "gauge",
    "data",
    f"{_WINDOW} statistic",
    "What ml_prediction_drift exceeds without drift at the false_alarm_rate, and at least min_effect.",
)
LABEL_DRIFT = _metric(
    "ml_label_drift",
    "gauge",
    "data",
    f"{_WINDOW} statistic",
    "Distance of the window's labels from the reference.",
)
LABEL_DRIFT_THRESHOLD = _metric(
    "ml_label_drift_threshold",
    "gauge",
    "data",
    f"{_WINDOW} statistic",
    "What ml_label_drift exceeds without drift at the false_alarm_rate, and at least min_effect.",
)
MODEL_FEATURES = _metric(
    "ml_model_features",
    "gauge",
    "data",
    _MODEL,
    "Features in the profile.",
)
DRIFTED_FEATURES = _metric(
    "ml_model_drifted_features",
    "gauge",
    "data",
    _WINDOW,
    "Features with a statistic above its threshold; absent while no feature has min_samples.drift values.",
)
DRIFTED_FEATURES_CONTROLLED = _metric(
    "ml_model_drifted_features_controlled",
    "gauge",
    "data",
    _WINDOW,
    "Those of ml_model_drifted_features that stand out among all features: with no drift anywhere it exceeds 0 at the "
    "false_alarm_rate at most, however many features there are (Benjamini-Hochberg).",
)
DRIFTED_FEATURES_SIGNIFICANT = _metric(
    "ml_model_drifted_features_significant",
    "gauge",
    "data",
    _WINDOW,
    "Features whose distance from the reference is no chance, however small: Benjamini-Hochberg over all features at "
    "the false_alarm_rate, without min_effect.",
)
FEATURE_IMPORTANCE = _metric(
    "ml_feature_importance_ratio",
    "gauge",
    "data",
    f"{_MODEL} feature",
    "Share of the feature in the model's decisions, from the profile.",
)
WEIGHTED_DRIFT = _metric(
    "ml_model_weighted_drift",
    "gauge",
    "data",
    f"{_WINDOW} statistic",
    "Mean of ml_feature_drift over the features, weighted by their importance to the model.",
)
FEATURE_MISSING = _metric(
    "ml_feature_missing_ratio",
    "gauge",
    "data",
    f"{_WINDOW} feature",
    "Share of the window's values that are absent, null or NaN.",
)
FEATURE_INVALID = _metric(
    "ml_feature_invalid_ratio",
    "gauge",
    "data",
    f"{_WINDOW} feature",
    "Share of the window's values that are of the wrong type or infinite.",
)
FEATURE_OUT_OF_RANGE_RATIO = _metric(
    "ml_feature_out_of_range_ratio",
    "gauge",
    "data",
    f"{_WINDOW} feature",
    "Share of the window's valid values outside the reference's range (numeric).",
)
FEATURE_UNSEEN = _metric(
    "ml_feature_unseen_category_ratio",
    "gauge",
    "data",
    f"{_WINDOW} feature",
    "Share of the window's valid values whose category the profile does not list (categorical).",
)

# --- estimated performance -------------------------------------------------------------------------------------------
PERFORMANCE_ESTIMATED = _metric(
    "ml_model_performance_estimated",
    "gauge",
    "model",
    f"{_WINDOW} metric",
    "Performance to be expected of the window's predictions before their labels are in; blind to concept drift.",
)
PERFORMANCE_ESTIMATED_LOWER = _metric(
    "ml_model_performance_estimated_lower",
    "gauge",
    "model",
    f"{_WINDOW} metric",
    "Lower end of the range in which 95 % of realised values fall, if the labels still follow the reference's law.",
)
PERFORMANCE_ESTIMATED_UPPER = _metric(
    "ml_model_performance_estimated_upper",
    "gauge",
    "model",
    f"{_WINDOW} metric",
    "Upper end of the range in which 95 % of realised values fall, if the labels still follow the reference's law.",
)
PERFORMANCE_GAP = _metric(
    "ml_model_performance_gap",
    "gauge",
    "model",
    f"{_WINDOW} metric",
    "Realised minus estimated performance of the window's labelled predictions: away from 0, the relation of label "
    "and features has changed (concept drift).",
)
PERFORMANCE_GAP_LOWER = _metric(
    "ml_model_performance_gap_lower",
    "gauge",
    "model",
    f"{_WINDOW} metric",
    "Lower end of the 95 % interval of ml_model_performance_gap, less estimation.tolerance; above 0, it is no chance.",
)
PERFORMANCE_GAP_UPPER = _metric(
    "ml_model_performance_gap_upper",
    "gauge",
    "model",
    f"{_WINDOW} metric",
    "Upper end of the 95 % interval of ml_model_performance_gap, plus estimation.tolerance; below 0, it is no chance.",
)
EXPECTED_CONFUSION = _metric(
    "ml_model_expected_confusion_total",
    "counter",
    "model",
    f"{_MODEL} predicted actual",
    "Sum of the calibrated probabilities of each class by predicted class: the expected confusion matrix.",
)
EXPECTED_ABSOLUTE_ERROR_SUM = _metric(
    "ml_model_expected_absolute_error_sum_total",
    "counter",
    "model",
    _MODEL,
    "Sum of the absolute errors to be expected of all predictions (regression).",
)
EXPECTED_SQUARED_ERROR_SUM = _metric(
    "ml_model_expected_squared_error_sum_total",
    "counter",
    "model",
    _MODEL,
    "Sum of the squared errors to be expected of all predictions (regression).",
)

# --- probes: never mixed with live counts ----------------------------------------------------------------------------
_PROBE = "probe model"
PROBE_INFO = _metric(
    "ml_probe_info",
    "gauge",
    "model",
    f"{_PROBE} version protocol pinned",
    "Always 1; names the version that answered the last probe, and where the outputs come from that its answers are "
    "compared with: rows, first_answer or none.",
)
PROBE_ROWS = _metric(
    "ml_probe_rows",
    "gauge",
    "model",
    f"{_PROBE} version",
    "Rows of the last probe that the version answered; absent when the probe failed.",
)
PROBE_PERFORMANCE = _metric(
    "ml_probe_performance",
    "gauge",
    "model",
    f"{_PROBE} version metric",
    "Performance over the rows of the last probe. Rows that are sent again are no new evidence.",
)
PROBE_PERFORMANCE_LOWER = _metric(
    "ml_probe_performance_lower",
    "gauge",
    "model",
    f"{_PROBE} version metric",
    "Lower end of the 95 % interval of ml_probe_performance: that of a set of this size, however often it is sent.",
)
PROBE_PERFORMANCE_UPPER = _metric(
    "ml_probe_performance_upper",
    "gauge",
    "model",
    f"{_PROBE} version metric",
    "Upper end of the 95 % interval of ml_probe_performance: that of a set of this size, however often it is sent.",
)
PROBE_BENCHMARK_MIN = _metric(
    "ml_probe_benchmark_min",
    "gauge",
    "model",
    f"{_PROBE} version metric",
    "Lowest performance agreed on for the version that answered, by its own reference.",
)
PROBE_BENCHMARK_MAX = _metric(
    "ml_probe_benchmark_max",
    "gauge",
    "model",
    f"{_PROBE} version metric",
    "Highest performance (of an error) agreed on for the version that answered, by its own reference.",
)
PROBE_CHANGED = _metric(
    "ml_probe_outputs_changed_ratio",
    "gauge",
    "model",
    f"{_PROBE} version",
    "Share of the rows whose output differs from the pinned one by more than the tolerance; absent with none pinned.",
)
PROBE_REQUEST_DURATION = _metric(
    "ml_probe_request_duration_seconds",
    "histogram",
    "model",
    _PROBE,
    "Time from a probe's request of one batch to its whole answer.",
    buckets.LATENCY,
)
PROBE_REQUESTS = _metric(
    "ml_probe_requests_total",
    "counter",
    "model",
    _PROBE,
    "Requests of a probe, failed ones included.",
)
PROBE_FAILURES = _metric(
    "ml_probe_failures_total",
    "counter",
    "model",
    f"{_PROBE} reason",
    "Requests of a probe that failed, by reason; rows: the table could not be read.",
)
PROBE_PASSES = _metric(
    "ml_probe_passes_total",
    "counter",
    "model",
    _PROBE,
    "Times that all rows were answered.",
)
PROBE_FAILED_PASSES = _metric(
    "ml_probe_failed_passes",
    "gauge",
    "model",
    _PROBE,
    "Times in a row, up to now, that not all rows were answered; 0 after success.",
)
PROBE_INTERVAL = _metric(
    "ml_probe_interval_seconds",
    "gauge",
    "model",
    _PROBE,
    "How often the probe runs, as configured.",
)
PROBE_LAST_RUN = _metric(
    "ml_probe_last_run_timestamp_seconds",
    "gauge",
    "model",
    _PROBE,
    "When the probe last began; absent before the first time.",
)
PROBE_LAST_SUCCESS = _metric(
    "ml_probe_last_success_timestamp_seconds",
    "gauge",
    "model",
    _PROBE,
    "When all rows were last answered; absent before the first time.",
)

# --- retraining, shown by the receiver of `mlops-exporter retrain` ---------------------------------------------------
RETRAINING_TRIGGERED = _metric(
    "ml_retraining_triggered_total",
    "counter",
    "model",
    "model",
    "Retrainings that were started, each counted once however often it was tried.",
)
RETRAINING_DECISIONS = _metric(
    "ml_retraining_decisions_total",
    "counter",
    "model",
    "model decision",
    "Decisions on alerts of a model: started, dry_run, quorum, already_started, cool_down, running.",
)
RETRAINING_FAILURES = _metric(
    "ml_retraining_failures_total",
    "counter",
    "model",
    "model",
    "Tries to retrain that failed.",
)
RETRAINING_DEAD_LETTERS = _metric(
    "ml_retraining_dead_letters_total",
    "counter",
    "model",
    "model",
    "Retrainings given up after all their tries and written to the dead letters.",
)
RETRAINING_RUNNING = _metric(
    "ml_retraining_running",
    "gauge",
    "model",
    "model",
    "Whether a retraining runs or waits for its next try.",
)
RETRAINING_LAST_RESULT = _metric(
    "ml_retraining_last_result",
    "gauge",
    "model",
    "model",
    "1 if the last retraining was done (or its pipeline started), 0 if it was given up; absent before the first.",
)
RETRAINING_LAST_START = _metric(
    "ml_retraining_last_start_timestamp_seconds",
    "gauge",
    "model",
    "model",
    "When a retraining was last started; absent before the first.",
)
RETRAINING_LAST_END = _metric(
    "ml_retraining_last_end_timestamp_seconds",
    "gauge",
    "model",
    "model",
    "When a retraining last ended, well or not; absent before the first.",
)
RETRAINING_DRY_RUN = _metric(
    "ml_retraining_dry_run",
    "gauge",
    "model",
    "model",
    "1 if the model's retraining is only written down, not started.",
)
RETRAINING_NOTIFICATIONS = _metric(
    "ml_retraining_notifications_total",
    "counter",
    "model",
    "outcome",
    "Notifications of Alertmanager: accepted, unauthorized or unreadable.",
)

# --- change as it happens --------------------------------------------------------------------------------------------
CHANGE_EVIDENCE = _metric(
    "ml_model_change_evidence",
    "gauge",
    "model",
    f"{_MODEL} stream",
    "Natural logarithm of the anytime-valid evidence that the mean of the errors has risen, or that of the scores has "
    "moved, from the reference; may be looked at as often as one likes.",
)
CHANGE_EVIDENCE_THRESHOLD = _metric(
    "ml_model_change_evidence_threshold",
    "gauge",
    "model",
    f"{_MODEL} stream",
    "What ml_model_change_evidence ever reaches without a change with change.false_alarm_probability at most.",
)

# --- champion and challenger -----------------------------------------------------------------------------------------
_CHALLENGE = "model champion challenger window"
CHALLENGER_WINDOW_PAIRS = _metric(
    "ml_challenger_window_pairs",
    "gauge",
    "model",
    _CHALLENGE,
    "Labelled events in the window that both versions predicted.",
)
CHALLENGER_DIFFERENCE = _metric(
    "ml_challenger_difference",
    "gauge",
    "model",
    f"{_CHALLENGE} metric",
    "The challenger's metric less the champion's on the same events: above 0 the challenger has more accuracy, or a "
    "larger loss.",
)
CHALLENGER_DIFFERENCE_LOWER = _metric(
    "ml_challenger_difference_lower",
    "gauge",
    "model",
    f"{_CHALLENGE} metric",
    "Lower end of the 95 % confidence interval of ml_challenger_difference.",
)
CHALLENGER_DIFFERENCE_UPPER = _metric(
    "ml_challenger_difference_upper",
    "gauge",
    "model",
    f"{_CHALLENGE} metric",
    "Upper end of the 95 % confidence interval of ml_challenger_difference.",
)

# --- groups of people ------------------------------------------------------------------------------------------------
_GROUP = "model version attribute group"
_GROUP_WINDOW = "model version attribute window group"
GROUP_PREDICTIONS = _metric(
    "ml_group_predictions_total",
    "counter",
    "model",
    f"{_GROUP} predicted",
    "Predictions by group and predicted class (empty for regression). The group unknown has no value for the "
    "attribute, other one that the reference lacks.",
)
GROUP_CONFUSION = _metric(
    "ml_group_confusion_total",
    "counter",
    "model",
    f"{_GROUP} predicted actual",
    "Labelled predictions by group, predicted and actual class.",
)
GROUP_LABELS = _metric(
    "ml_group_labels_total",
    "counter",
    "model",
    _GROUP,
    "Labelled predictions by group.",
)
GROUP_ABSOLUTE_ERROR_SUM = _metric(
    "ml_group_absolute_error_sum_total",
    "counter",
    "model",
    _GROUP,
    "Sum of |prediction - label| by group (regression).",
)
GROUP_OVERPREDICTION_SUM = _metric(
    "ml_group_overprediction_sum_total",
    "counter",
    "model",
    _GROUP,
    "Sum of prediction - label by group where the prediction was higher (regression).",
)
GROUP_UNDERPREDICTION_SUM = _metric(
    "ml_group_underprediction_sum_total",
    "counter",
    "model",
    _GROUP,
    "Sum of label - prediction by group where the prediction was lower (regression).",
)
GROUP_WINDOW_PREDICTIONS = _metric(
    "ml_group_window_predictions",
    "gauge",
    "model",
    _GROUP_WINDOW,
    "Predictions of the group in the window.",
)
GROUP_WINDOW_LABELS = _metric(
    "ml_group_window_labels",
    "gauge",
    "model",
    _GROUP_WINDOW,
    "Labels of the group in the window: the sample size of its performance.",
)
GROUP_SELECTION = _metric(
    "ml_group_selection_ratio",
    "gauge",
    "model",
    _GROUP_WINDOW,
    "Share of the group's predictions that are favourable; absent below fairness.min_group_size predictions.",
)
GROUP_SELECTION_LOWER = _metric(
    "ml_group_selection_ratio_lower",
    "gauge",
    "model",
    _GROUP_WINDOW,
    "Lower end of the 95 % confidence interval of ml_group_selection_ratio.",
)
GROUP_SELECTION_UPPER = _metric(
    "ml_group_selection_ratio_upper",
    "gauge",
    "model",
    _GROUP_WINDOW,
    "Upper end of the 95 % confidence interval of ml_group_selection_ratio.",
)
GROUP_PERFORMANCE = _metric(
    "ml_group_performance",
    "gauge",
    "model",
    f"{_GROUP_WINDOW} metric",
    "Performance over the group's labels in the window; absent below fairness.min_group_size labels.",
)
GROUP_PERFORMANCE_LOWER = _metric(
    "ml_group_performance_lower",
    "gauge",
    "model",
    f"{_GROUP_WINDOW} metric",
    "Lower end of the 95 % confidence interval of ml_group_performance.",
)
GROUP_PERFORMANCE_UPPER = _metric(
    "ml_group_performance_upper",
    "gauge",
    "model",
    f"{_GROUP_WINDOW} metric",
    "Upper end of the 95 % confidence interval of ml_group_performance.",
)
FAIRNESS = _metric(
    "ml_fairness",
    "gauge",
    "model",
    "model version attribute window metric",
    "Difference (or ratio) between the two groups furthest apart, of those with fairness.min_group_size events to "
    "divide by.",
)
FAIRNESS_LOWER = _metric(
    "ml_fairness_lower",
    "gauge",
    "model",
    "model version attribute window metric",
    "Lower end of the 95 % confidence interval of ml_fairness, which allows for the number of groups.",
)
FAIRNESS_UPPER = _metric(
    "ml_fairness_upper",
    "gauge",
    "model",
    "model version attribute window metric",
    "Upper end of the 95 % confidence interval of ml_fairness, which allows for the number of groups.",
)
FAIRNESS_BENCHMARK_MIN = _metric(
    "ml_fairness_benchmark_min",
    "gauge",
    "model",
    "model metric",
    "Lowest value of ml_fairness agreed on, for every attribute.",
)
FAIRNESS_BENCHMARK_MAX = _metric(
    "ml_fairness_benchmark_max",
    "gauge",
    "model",
    "model metric",
    "Highest value of ml_fairness agreed on, for every attribute.",
)
FAIRNESS_BENCHMARK_JUDGED = _metric(
    "ml_fairness_benchmark_judged",
    "gauge",
    "model",
    "model version attribute metric",
    "1 where a window has a value and an interval to hold against the benchmark, else 0: nobody watches it then.",
)

# --- slices of the traffic ------------------------------------------------------------------------------------------
_SLICE = f"{_WINDOW} segment slice"

SEGMENT_WINDOW_PREDICTIONS = _metric(
    "ml_segment_window_predictions",
    "gauge",
    "model",
    _SLICE,
    "Predictions of the slice in the window.",
)
SEGMENT_WINDOW_LABELS = _metric(
    "ml_segment_window_labels",
    "gauge",
    "model",
    _SLICE,
    "Labels of the slice in the window: the sample size of its performance.",
)
SEGMENT_PERFORMANCE = _metric(
    "ml_segment_performance",
    "gauge",
    "model",
    f"{_SLICE} metric",
    "Performance over the slice's labels in the window, of metrics with a benchmark; absent below "
    "min_samples.performance labels.",
)
SEGMENT_PERFORMANCE_LOWER = _metric(
    "ml_segment_performance_lower",
    "gauge",
    "model",
    f"{_SLICE} metric",
    "Lower end of the 95 % confidence interval of ml_segment_performance.",
)
SEGMENT_PERFORMANCE_UPPER = _metric(
    "ml_segment_performance_upper",
    "gauge",
    "model",
    f"{_SLICE} metric",
    "Upper end of the 95 % confidence interval of ml_segment_performance.",
)
SEGMENT_WORSE = _metric(
    "ml_segment_worse",
    "gauge",
    "model",
    f"{_SLICE} metric",
    "1 where the slice is surely worse than the rest by more than segments.tolerance, and than a benchmark, with false "
    "discoveries controlled over all slices; else 0.",
)
SEGMENT_ESTIMATED = _metric(
    "ml_segment_performance_estimated",
    "gauge",
    "model",
    f"{_SLICE} metric",
    "Performance over the slice's predictions in the window that can be expected without labels, of metrics with a "
    "benchmark; absent below min_samples.performance predictions.",
)
SEGMENT_ESTIMATED_LOWER = _metric(
    "ml_segment_performance_estimated_lower",
    "gauge",
    "model",
    f"{_SLICE} metric",
    "Lower end of the range in which 95 % of realised values fall, around ml_segment_performance_estimated.",
)
SEGMENT_ESTIMATED_UPPER = _metric(
    "ml_segment_performance_estimated_upper",
    "gauge",
    "model",
    f"{_SLICE} metric",
    "Upper end of the range in which 95 % of realised values fall, around ml_segment_performance_estimated.",
)
SEGMENT_ESTIMATED_WORSE = _metric(
    "ml_segment_estimated_worse",
    "gauge",
    "model",
    f"{_SLICE} metric",
    "1 where ml_segment_worse would be, were the estimated performance realised; else 0.",
)
SEGMENT_DRIFT = _metric(
    "ml_segment_drift",
    "gauge",
    "model",
    _SLICE,
    "Total variation distance of the slice's scores, without any its predictions, from those of the reference's rows "
    "of that slice: the share that would have to change its bin.",
)
SEGMENT_DRIFT_THRESHOLD = _metric(
    "ml_segment_drift_threshold",
    "gauge",
    "model",
    _SLICE,
    "What ml_segment_drift exceeds by chance in drift.false_alarm_rate of windows, at least drift.min_effect.",
)
SEGMENT_DRIFTED = _metric(
    "ml_segment_drifted",
    "gauge",
    "model",
    _SLICE,
    "1 where ml_segment_drift is above its threshold, with false discoveries controlled over all slices; else 0. "
    "Absent where the profile has too few rows of the slice, or the window too few predictions.",
)

# --- numbers by which answers are rated ------------------------------------------------------------------------------
RANKING_SUM = _metric(
    "ml_ranking_metric_sum_total",
    "counter",
    "model",
    "model version metric",
    "Sum of a metric over the lists that are final (ranking): by ml_model_labels_total it is the mean.",
)
RANKING_SHOWN = _metric(
    "ml_ranking_shown_total",
    "counter",
    "model",
    "model version position",
    "Lists that are final and showed an item at the position, 01 being the first (ranking).",
)
RANKING_RELEVANT = _metric(
    "ml_ranking_relevant_total",
    "counter",
    "model",
    "model version position",
    "Lists that are final whose item at the position turned out to be relevant (ranking): by ml_ranking_shown_total "
    "it is the position's share.",
)
OUTCOME_VALUES = _metric(
    "ml_outcome_values_total",
    "counter",
    "model",
    "model version outcome",
    "Values of the outcome that were counted.",
)
OUTCOME_SUM = _metric(
    "ml_outcome_above_low_total",
    "counter",
    "model",
    "model version outcome",
    "Sum of the outcome's values, each less ml_outcome_low: by ml_outcome_values_total and plus ml_outcome_low it is "
    "the mean.",
)
OUTCOME_UNMATCHED = _metric(
    "ml_outcome_values_unmatched_total",
    "counter",
    "model",
    "model outcome",
    "Values of the outcome with the id of no waiting answer, which were given up at label_ttl.",
)
OUTCOME_DUPLICATE = _metric(
    "ml_outcome_values_duplicate_total",
    "counter",
    "model",
    "model outcome",
    "Values of the outcome that repeat the one that is known of their answer.",
)
OUTCOME_CORRECTED = _metric(
    "ml_outcome_values_corrected_total",
    "counter",
    "model",
    "model outcome",
    "Values of the outcome that replace another one in the windows; counters keep the first.",
)
OUTCOME_LOW = _metric(
    "ml_outcome_low",
    "gauge",
    "model",
    "model outcome",
    "Lowest value that the outcome may have (outcomes.low).",
)
OUTCOME_WINDOW_VALUES = _metric(
    "ml_outcome_window_values",
    "gauge",
    "model",
    f"{_WINDOW} outcome",
    "Values of the outcome in the window: the sample size of its mean.",
)
OUTCOME_MEAN = _metric(
    "ml_outcome_mean",
    "gauge",
    "model",
    f"{_WINDOW} outcome",
    "Mean of the outcome's values in the window; absent below min_samples.performance values.",
)
OUTCOME_MEAN_LOWER = _metric(
    "ml_outcome_mean_lower",
    "gauge",
    "model",
    f"{_WINDOW} outcome",
    "Lower end of the 95 % confidence interval of ml_outcome_mean.",
)
OUTCOME_MEAN_UPPER = _metric(
    "ml_outcome_mean_upper",
    "gauge",
    "model",
    f"{_WINDOW} outcome",
    "Upper end of the 95 % confidence interval of ml_outcome_mean.",
)
OUTCOME_DEVIATION = _metric(
    "ml_outcome_standard_deviation",
    "gauge",
    "model",
    f"{_WINDOW} outcome",
    "Standard deviation of the outcome's values in the window; absent below min_samples.performance values.",
)
OUTCOME_BENCHMARK_MIN = _metric(
    "ml_outcome_benchmark_min",
    "gauge",
    "model",
    "model outcome",
    "Lowest mean agreed on.",
)
OUTCOME_BENCHMARK_MAX = _metric(
    "ml_outcome_benchmark_max",
    "gauge",
    "model",
    "model outcome",
    "Highest mean agreed on.",
)
OUTCOME_BENCHMARK_MISSED = _metric(
    "ml_outcome_benchmark_missed",
    "gauge",
    "model",
    "model version outcome",
    "1 where the mean in a full window surely misses its benchmark, unless the freshest surely keeps it; else 0. "
    "Absent until a window holds values enough to judge by.",
)

OUTCOME_CHANGE_EVIDENCE = _metric(
    "ml_outcome_change_evidence",
    "gauge",
    "model",
    "model version outcome",
    "Natural logarithm of the anytime-valid evidence that the mean of the outcome has moved from the reference's, or, "
    "where the profile has none, that it is worse than its benchmark.",
)
OUTCOME_CHANGE_THRESHOLD = _metric(
    "ml_outcome_change_evidence_threshold",
    "gauge",
    "model",
    "model version outcome",
    "What ml_outcome_change_evidence ever reaches without a change with change.false_alarm_probability at most.",
)
OUTCOME_DRIFT = _metric(
    "ml_outcome_drift",
    "gauge",
    "model",
    f"{_WINDOW} outcome statistic",
    "Distance of the outcome's values in the window from the reference's, where the profile has some.",
)
OUTCOME_DRIFT_THRESHOLD = _metric(
    "ml_outcome_drift_threshold",
    "gauge",
    "model",
    f"{_WINDOW} outcome statistic",
    "What ml_outcome_drift exceeds by chance in drift.false_alarm_rate of windows, at least drift.min_effect.",
)

# --- forecasts and announced quantiles -------------------------------------------------------------------------------
HORIZON_LABELS = _metric(
    "ml_horizon_labels_total",
    "counter",
    "model",
    "model version horizon",
    "Forecasts of the horizon whose label came.",
)
HORIZON_ABSOLUTE_ERROR = _metric(
    "ml_horizon_absolute_error_sum_total",
    "counter",
    "model",
    "model version horizon",
    "Sum of |forecast - label| of the horizon; by ml_horizon_labels_total it is the mean absolute error.",
)
HORIZON_WINDOW_LABELS = _metric(
    "ml_horizon_window_labels",
    "gauge",
    "model",
    f"{_WINDOW} horizon",
    "Labels of the horizon's forecasts in the window.",
)
HORIZON_PERFORMANCE = _metric(
    "ml_horizon_performance",
    "gauge",
    "model",
    f"{_WINDOW} horizon metric",
    "Performance of the horizon's forecasts in the window; absent below min_samples.performance labels.",
)
HORIZON_PERFORMANCE_LOWER = _metric(
    "ml_horizon_performance_lower",
    "gauge",
    "model",
    f"{_WINDOW} horizon metric",
    "Lower end of the 95 % confidence interval of ml_horizon_performance.",
)
HORIZON_PERFORMANCE_UPPER = _metric(
    "ml_horizon_performance_upper",
    "gauge",
    "model",
    f"{_WINDOW} horizon metric",
    "Upper end of the 95 % confidence interval of ml_horizon_performance.",
)
FORECAST_NO_BETTER = _metric(
    "ml_forecast_no_better",
    "gauge",
    "model",
    _MODEL,
    "1 where in a full window the errors are surely not smaller than the naive forecast's by 2 %, unless the freshest "
    "says they are; else 0. Also beside a naive forecast without error. Absent until there are labels enough.",
)
QUANTILE_PERFORMANCE = _metric(
    "ml_quantile_performance",
    "gauge",
    "model",
    f"{_WINDOW} quantile metric",
    "In the window, pinball_loss of an announced quantile; share_below it, of labels, ties included, should be its "
    "level or more, and share_strictly_below its level or less.",
)
INTERVAL_COVERAGE = _metric(
    "ml_interval_coverage",
    "gauge",
    "model",
    f"{_WINDOW} level",
    "Share of the window's labels inside the announced interval, ends included: its level, or more where labels are on "
    "the ends, as counts are.",
)
INTERVAL_COVERAGE_LOWER = _metric(
    "ml_interval_coverage_lower",
    "gauge",
    "model",
    f"{_WINDOW} level",
    "Lower end of the 95 % confidence interval of ml_interval_coverage.",
)
INTERVAL_COVERAGE_UPPER = _metric(
    "ml_interval_coverage_upper",
    "gauge",
    "model",
    f"{_WINDOW} level",
    "Upper end of the 95 % confidence interval of ml_interval_coverage.",
)
INTERVAL_MISSED = _metric(
    "ml_interval_missed",
    "gauge",
    "model",
    _MODEL,
    "1 where in a full window the widest announced interval surely covers less than its level by over 5 points, or "
    "more with its ends left out, unless the freshest surely does not; else 0. Absent until there are labels enough.",
)

# --- the joint distribution ------------------------------------------------------------------------------------------
DATA_DRIFT = _metric(
    "ml_data_drift",
    "gauge",
    "data",
    f"{_WINDOW} statistic",
    "Distance of the joint distribution of the features from the reference: mmd with a Gaussian kernel; "
    "pca_reconstruction, the relative change of the mean squared reconstruction error. Missing values count as means.",
)
DATA_DRIFT_THRESHOLD = _metric(
    "ml_data_drift_threshold",
    "gauge",
    "data",
    f"{_WINDOW} statistic",
    "What ml_data_drift exceeds without drift at the false_alarm_rate, and at least multivariate.min_effect.",
)

EMBEDDING_DRIFT = _metric(
    "ml_feature_embedding_drift",
    "gauge",
    "data",
    f"{_WINDOW} feature statistic",
    "Distance of a vector-valued feature from the reference: mmd with a Gaussian kernel; cosine, 1 less the cosine "
    "between the mean vectors; norm, change of the mean length in reference standard deviations.",
)
EMBEDDING_DRIFT_THRESHOLD = _metric(
    "ml_feature_embedding_drift_threshold",
    "gauge",
    "data",
    f"{_WINDOW} feature statistic",
    "What ml_feature_embedding_drift exceeds without drift at the false_alarm_rate; mmd at least min_effect.",
)

# --- compute ---------------------------------------------------------------------------------------------------------
_TENTHS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_GPU = "gpu uuid mig"

COMPUTE_INFO = _metric(
    "ml_compute_info",
    "gauge",
    "compute",
    "scope",
    "Whose CPU and memory are watched, always 1: scope is host, or cgroup inside a container.",
)
COMPUTE_CPU_UTILIZATION_RATIO = _metric(
    "ml_compute_cpu_utilization_ratio",
    "gauge",
    "compute",
    "",
    "Share of the usable CPU cores that was busy during the last sampling interval.",
)
COMPUTE_CPU_UTILIZATION = _metric(
    "ml_compute_cpu_utilization",
    "histogram",
    "compute",
    "",
    "CPU utilization ratio sampled every interval, so that peaks between two scrapes are kept.",
    _TENTHS,
)
COMPUTE_CPU_SECONDS = _metric(
    "ml_compute_cpu_seconds_total",
    "counter",
    "compute",
    "",
    "CPU seconds used by the host since boot, or by the container since its start.",
)
COMPUTE_CPU_CORES = _metric(
    "ml_compute_cpu_cores",
    "gauge",
    "compute",
    "",
    "CPU cores that may be used: the smallest of online CPUs, cpuset and quota.",
)
COMPUTE_CPU_PERIODS = _metric(
    "ml_compute_cpu_periods_total",
    "counter",
    "compute",
    "",
    "Periods in which the cgroup's CPU quota was enforced.",
)
COMPUTE_CPU_THROTTLED_PERIODS = _metric(
    "ml_compute_cpu_throttled_periods_total",
    "counter",
    "compute",
    "",
    "Periods in which the cgroup had used up its CPU quota and was throttled.",
)
COMPUTE_CPU_THROTTLED_SECONDS = _metric(
    "ml_compute_cpu_throttled_seconds_total",
    "counter",
    "compute",
    "",
    "Seconds for which the cgroup was throttled by its CPU quota, summed over its cores.",
)
COMPUTE_LOAD_AVERAGE = _metric(
    "ml_compute_load_average",
    "gauge",
    "compute",
    "window",
    "Load average of the whole host as its kernel keeps it, also inside a container.",
)
COMPUTE_MEMORY_USED_BYTES = _metric(
    "ml_compute_memory_used_bytes",
    "gauge",
    "compute",
    "",
    "Memory in use: total less available on a host, usage less inactive file cache in a cgroup.",
)
COMPUTE_MEMORY_TOTAL_BYTES = _metric(
    "ml_compute_memory_total_bytes",
    "gauge",
    "compute",
    "",
    "Memory that may be used: the smaller of the host's memory and the cgroup's limit.",
)
COMPUTE_MEMORY_UTILIZATION = _metric(
    "ml_compute_memory_utilization",
    "histogram",
    "compute",
    "",
    "Used share of the usable memory sampled every interval, so that peaks between two scrapes are kept.",
    _TENTHS,
)
COMPUTE_OOM_KILLS = _metric(
    "ml_compute_oom_kills_total",
    "counter",
    "compute",
    "",
    "Processes that the kernel killed for want of memory: in the watched control group, or on the whole host.",
)
COMPUTE_PRESSURE_SECONDS = _metric(
    "ml_compute_pressure_seconds_total",
    "counter",
    "compute",
    "resource kind",
    "Seconds in which some or all (kind some or full) tasks waited for the resource, from pressure stall information.",
)
WORKLOAD_PROCESSES = _metric(
    "ml_workload_processes",
    "gauge",
    "compute",
    _WORKLOAD,
    "Running processes of the workload.",
)
WORKLOAD_PROCESSES_STARTED = _metric(
    "ml_workload_processes_started_total",
    "counter",
    "compute",
    _WORKLOAD,
    "Processes of the workload seen to start since the exporter watches it.",
)
WORKLOAD_START_TIME_SECONDS = _metric(
    "ml_workload_start_time_seconds",
    "gauge",
    "compute",
    _WORKLOAD,
    "Unix time at which the oldest running process of the workload started.",
)
WORKLOAD_CPU_SECONDS = _metric(
    "ml_workload_cpu_seconds_total",
    "counter",
    "compute",
    _WORKLOAD,
    "CPU seconds used by the workload's processes, ended ones included, since the exporter watches it.",
)
WORKLOAD_MEMORY_BYTES = _metric(
    "ml_workload_memory_bytes",
    "gauge",
    "compute",
    _WORKLOAD,
    "Resident memory summed over the workload's processes, so that shared pages count once per process.",
)
WORKLOAD_THREADS = _metric(
    "ml_workload_threads",
    "gauge",
    "compute",
    _WORKLOAD,
    "Threads of the workload's processes.",
)
WORKLOAD_OPEN_FILES = _metric(
    "ml_workload_open_files",
    "gauge",
    "compute",
    _WORKLOAD,
    "Open file descriptors of the workload's processes; absent where the exporter may not see them.",
)
WORKLOAD_READ_BYTES = _metric(
    "ml_workload_read_bytes_total",
    "counter",
    "compute",
    _WORKLOAD,
    "Bytes that the workload's processes made storage read; absent where the exporter may not read it.",
)
WORKLOAD_WRITTEN_BYTES = _metric(
    "ml_workload_written_bytes_total",
    "counter",
    "compute",
    _WORKLOAD,
    "Bytes that the workload's processes made storage write; absent where the exporter may not read it.",
)
WORKLOAD_GPU_MEMORY_BYTES = _metric(
    "ml_workload_gpu_memory_bytes",
    "gauge",
    "compute",
    _WORKLOAD,
    "GPU memory held by the workload's processes, summed over GPUs.",
)
WORKLOAD_GPU_UTILIZATION_RATIO = _metric(
    "ml_workload_gpu_utilization_ratio",
    "gauge",
    "compute",
    _WORKLOAD,
    "Share of the compute time of the GPUs that the workload's processes run on, used by them.",
)
GPU_DRIVER_UP = _metric(
    "ml_gpu_driver_up",
    "gauge",
    "compute",
    "vendor",
    "Whether the GPU driver answers: 1 yes, 0 no (ml_gpu_driver_error says why).",
)
GPU_DRIVER_ERROR = _metric(
    "ml_gpu_driver_error",
    "gauge",
    "compute",
    "vendor error",
    "Why the GPU driver does not answer, always 1: library_not_found means that no driver is installed.",
)
GPU_UP = _metric(
    "ml_gpu_up",
    "gauge",
    "compute",
    _GPU,
    "Whether the GPU answered at the last sample: 1 yes, 0 no.",
)
GPU_INFO = _metric(
    "ml_gpu_info",
    "gauge",
    "compute",
    f"{_GPU} vendor name driver_version pci_bus_id",
    "What the GPU or MIG instance is, always 1; label mig is empty for a whole GPU.",
)
GPU_FIELD_UNAVAILABLE = _metric(
    "ml_gpu_field_unavailable",
    "gauge",
    "compute",
    f"{_GPU} field reason",
    "A field that the GPU does not give, and the driver's reason, always 1; field all means that the GPU is lost.",
)
GPU_VALUES_DROPPED = _metric(
    "ml_gpu_values_dropped_total",
    "counter",
    "compute",
    f"{_GPU} field",
    "Values that the GPU's driver gave and that no GPU can have, such as a utilization of 4294967295.",
)
GPU_UTILIZATION_RATIO = _metric(
    "ml_gpu_utilization_ratio",
    "gauge",
    "compute",
    _GPU,
    "Share of time in which a kernel ran on the GPU during the driver's last sampling period.",
)
GPU_UTILIZATION = _metric(
    "ml_gpu_utilization",
    "histogram",
    "compute",
    _GPU,
    "GPU utilization ratio sampled every interval, so that peaks between two scrapes are kept.",
    _TENTHS,
)
GPU_SM_ACTIVITY = _metric(
    "ml_gpu_sm_activity",
    "histogram",
    "compute",
    _GPU,
    "Share of the multiprocessors that were busy, sampled every interval; where the GPU has GPM (Hopper and later).",
    _TENTHS,
)
GPU_SM_OCCUPANCY = _metric(
    "ml_gpu_sm_occupancy",
    "histogram",
    "compute",
    _GPU,
    "Share of the warps that the multiprocessors could hold that were active, sampled every interval; with GPM.",
    _TENTHS,
)
GPU_TENSOR_ACTIVITY = _metric(
    "ml_gpu_tensor_activity",
    "histogram",
    "compute",
    _GPU,
    "Share of time in which the multiprocessors did tensor operations, sampled every interval; with GPM.",
    _TENTHS,
)
GPU_MEMORY_BANDWIDTH = _metric(
    "ml_gpu_memory_bandwidth",
    "histogram",
    "compute",
    _GPU,
    "Share of the memory's bandwidth that was used, sampled every interval; with GPM.",
    _TENTHS,
)
GPU_MEMORY_UTILIZATION_RATIO = _metric(
    "ml_gpu_memory_utilization_ratio",
    "gauge",
    "compute",
    _GPU,
    "Share of time in which GPU memory was read or written during the driver's last sampling period.",
)
GPU_MEMORY_USED_BYTES = _metric(
    "ml_gpu_memory_used_bytes", "gauge", "compute", _GPU, "GPU memory allocated, without what the driver reserves."
)
GPU_MEMORY_TOTAL_BYTES = _metric("ml_gpu_memory_total_bytes", "gauge", "compute", _GPU, "GPU memory in all.")
GPU_POWER_WATTS = _metric("ml_gpu_power_watts", "gauge", "compute", _GPU, "Power drawn by the GPU.")
GPU_POWER_LIMIT_WATTS = _metric(
    "ml_gpu_power_limit_watts", "gauge", "compute", _GPU, "Power limit that the driver enforces on the GPU."
)
GPU_ENERGY_JOULES = _metric(
    "ml_gpu_energy_joules_total", "counter", "compute", _GPU, "Energy used by the GPU since its driver was loaded."
)
GPU_TEMPERATURE_CELSIUS = _metric("ml_gpu_temperature_celsius", "gauge", "compute", _GPU, "Temperature of the GPU.")
GPU_CLOCK_HERTZ = _metric(
    "ml_gpu_clock_hertz", "gauge", "compute", f"{_GPU} clock", "Current clock rate of the GPU's domain sm or memory."
)
GPU_THROTTLED = _metric(
    "ml_gpu_throttled",
    "gauge",
    "compute",
    f"{_GPU} reason",
    "Whether the GPU's clocks are held down for this reason: 1 yes, 0 no.",
)
GPU_ECC_ERRORS = _metric(
    "ml_gpu_ecc_errors_total",
    "counter",
    "compute",
    f"{_GPU} type",
    "Memory errors over the GPU's lifetime, corrected or uncorrected.",
)
GPU_XID_ERRORS = _metric(
    "ml_gpu_xid_errors_total",
    "counter",
    "compute",
    f"{_GPU} xid",
    "Critical XID events of the GPU since the exporter started, by the driver's XID number; 0 is none that exists.",
)
GPU_PCIE_BYTES = _metric(
    "ml_gpu_pcie_bytes_total", "counter", "compute", f"{_GPU} direction", "Bytes over PCIe, receive or transmit."
)
GPU_NVLINK_BYTES = _metric(
    "ml_gpu_nvlink_bytes_total",
    "counter",
    "compute",
    f"{_GPU} direction",
    "Bytes over all NVLinks, receive or transmit.",
)
GPU_PROCESS_MEMORY_BYTES = _metric(
    "ml_gpu_process_memory_bytes",
    "gauge",
    "compute",
    f"{_GPU} pid",
    "GPU memory held by a compute process; pid is the driver's, of the host's process namespace.",
)
COMPUTE_COST_PER_HOUR = _metric(
    "ml_compute_cost_per_hour",
    "gauge",
    "compute",
    "resource currency",
    "Configured price per hour of the resource: the host, or all its GPUs.",
)
COMPUTE_COST = _metric(
    "ml_compute_cost_total",
    "counter",
    "compute",
    "resource currency",
    "Cost of the resource since the exporter started.",
)
COMPUTE_IDLE_COST = _metric(
    "ml_compute_idle_cost_total",
    "counter",
    "compute",
    "resource currency",
    "Cost of the unused share of the resource since the exporter started: price times time times (1 - utilization).",
)
COMPUTE_ADVICE = _metric(
    "ml_compute_advice",
    "gauge",
    "compute",
    "resource advice",
    "Whether this is the right-sizing advice: 1 for one of scale_down, keep and scale_out, 0 for the others.",
)
COMPUTE_ADVICE_CAPACITY_RATIO = _metric(
    "ml_compute_advice_capacity_ratio",
    "gauge",
    "compute",
    "resource",
    "Advised capacity over the present one: 0.5 is half of it.",
)
COMPUTE_ADVICE_SAVING_PER_HOUR = _metric(
    "ml_compute_advice_saving_per_hour",
    "gauge",
    "compute",
    "resource currency",
    "Price per hour saved by following the advice; negative where it costs more.",
)
COMPUTE_ADVICE_UTILIZATION_P95_RATIO = _metric(
    "ml_compute_advice_utilization_p95_ratio",
    "gauge",
    "compute",
    "resource",
    "95th percentile of the utilization on which the advice rests, in steps of 0.01.",
)
COMPUTE_ADVICE_MEMORY_MAX_RATIO = _metric(
    "ml_compute_advice_memory_max_ratio",
    "gauge",
    "compute",
    "resource",
    "Largest used share of memory on which the advice rests.",
)
COMPUTE_ADVICE_OBSERVED_SECONDS = _metric(
    "ml_compute_advice_observed_seconds",
    "gauge",
    "compute",
    "resource",
    "Time observed within the advice window; below the configured minimum there is no advice.",
)

# --- the registry of models ------------------------------------------------------------------------------------------
REGISTRY_UP = _metric(
    "ml_registry_up",
    "gauge",
    "exporter",
    "model",
    "Whether the model registry answered when it was last asked for the model's versions.",
)
REGISTRY_LAST_SUCCESS = _metric(
    "ml_registry_last_success_timestamp_seconds",
    "gauge",
    "exporter",
    "model",
    "When the model registry last answered: as old are the profiles that are in use. Absent before the first time.",
)
REGISTRY_FAILURES = _metric(
    "ml_registry_failures_total",
    "counter",
    "exporter",
    "model",
    "Times that the model registry could not be asked for the model's versions.",
)
REGISTRY_VERSION_INFO = _metric(
    "ml_registry_version_info",
    "gauge",
    "exporter",
    "model version alias",
    "Always 1; names a followed version of the registered model and an alias that points to it (empty: none).",
)

# --- the exporter ----------------------------------------------------------------------------------------------------
EVENTS = _metric(
    "ml_exporter_events_total",
    "counter",
    "exporter",
    "source",
    "Events accepted.",
)
EVENTS_REJECTED = _metric(
    "ml_exporter_events_rejected_total",
    "counter",
    "exporter",
    "source reason",
    "Events refused, by reason.",
)
FEATURES_IGNORED = _metric(
    "ml_exporter_features_ignored_total",
    "counter",
    "exporter",
    "model",
    "Values of features that no version's profile has, such as misspelt ones: they are ignored, the events are taken.",
)
EVENTS_LATE = _metric(
    "ml_exporter_events_late_total",
    "counter",
    "exporter",
    "source",
    "Accepted events older than the model's longest window: counted in totals, in no window.",
)
SOURCE_UP = _metric(
    "ml_exporter_source_up",
    "gauge",
    "exporter",
    "source",
    "Whether the source can deliver events.",
)
SOURCE_LAG = _metric(
    "ml_exporter_source_lag_events",
    "gauge",
    "exporter",
    "source",
    "Events that wait where the source pulls them from (files: an estimate); absent when unknown or pushed.",
)
SOURCE_REWRITTEN = _metric(
    "ml_exporter_source_rewritten_files",
    "gauge",
    "exporter",
    "source",
    "Files that changed after they were read, and were not read again; absent for sources other than tables.",
)
SOURCE_REFILL = _metric(
    "ml_exporter_source_refill_events",
    "gauge",
    "exporter",
    "source",
    "Events left to be read again and not counted, since another exporter has; absent for sources other than Kafka.",
)
EVENTS_PASSED = _metric(
    "ml_exporter_events_passed_total",
    "counter",
    "exporter",
    "source",
    "Events that this exporter got and passed to the other members of its set, which keep their ids and count them; "
    "absent without `members`.",
)
SOURCE_LAST_EVENT = _metric(
    "ml_exporter_source_last_event_timestamp_seconds",
    "gauge",
    "exporter",
    "source",
    "Arrival time of the source's newest accepted event; absent before the first.",
)
LEDGERS = _metric(
    "ml_exporter_ledgers_total",
    "counter",
    "exporter",
    "source",
    "Partial ledgers added; ml_exporter_events_total has their events, ml_exporter_events_rejected_total the refused.",
)
LEDGERS_REJECTED = _metric(
    "ml_exporter_ledgers_rejected_total",
    "counter",
    "exporter",
    "source",
    "Partial ledgers refused, each with all of its events; ml_exporter_events_rejected_total has the reasons.",
)
CLOUD_EVENTS = _metric(
    "ml_exporter_cloud_events_total",
    "counter",
    "exporter",
    "source outcome",
    "Requests and responses of KServe's inference logger, by what became of them; joined counts both halves.",
)
CLOUD_EVENTS_WAITING = _metric(
    "ml_exporter_cloud_events_waiting",
    "gauge",
    "exporter",
    "source",
    "Requests and responses that wait for their other half.",
)
QUEUE_EVENTS = _metric(
    "ml_exporter_queue_events",
    "gauge",
    "exporter",
    "",
    "Events received and not yet counted.",
)
QUEUE_CAPACITY = _metric(
    "ml_exporter_queue_capacity_events",
    "gauge",
    "exporter",
    "",
    "Events that may wait; beyond it senders get 429.",
)
STATE_ERRORS = _metric(
    "ml_exporter_state_errors_total",
    "counter",
    "exporter",
    "fault",
    "Times that the state could not be read or written, by kind of fault.",
)
CHECKPOINT_LAST_SUCCESS = _metric(
    "ml_exporter_checkpoint_last_success_timestamp_seconds",
    "gauge",
    "exporter",
    "",
    "When all that is counted was last in a checkpoint; absent before the first and without state.path.",
)
STATE_DAMAGED = _metric(
    "ml_exporter_state_damaged_timestamp_seconds",
    "gauge",
    "exporter",
    "file",
    "When a start found a checkpoint damaged and went on exactly by the other one and the journal; absent otherwise.",
)
CHECKPOINT_DURATION = _metric(
    "ml_exporter_checkpoint_duration_seconds",
    "gauge",
    "exporter",
    "",
    "How long the last checkpoint took.",
)
CONFIG_RELOAD_SUCCESSFUL = _metric(
    "ml_exporter_config_last_reload_successful",
    "gauge",
    "exporter",
    "",
    "Whether the configuration was loaded without error the last time.",
)
MODEL_FILE_BROKEN = _metric(
    "ml_exporter_model_file_broken",
    "gauge",
    "exporter",
    "file",
    "Always 1; names a file of models_dir or of a directory of profiles that has faults, and is left out.",
)
CONFIG_RELOAD_TIMESTAMP = _metric(
    "ml_exporter_config_last_reload_success_timestamp_seconds",
    "gauge",
    "exporter",
    "",
    "When the configuration was last loaded without error.",
)
MODELS = _metric(
    "ml_exporter_models",
    "gauge",
    "exporter",
    "",
    "Models of the configuration in force.",
)
MODELS_READY = _metric(
    "ml_exporter_models_ready",
    "gauge",
    "exporter",
    "",
    "Models whose references are ready to judge by: at a start fewer than ml_exporter_models.",
)


def all_metrics() -> tuple[Metric, ...]:
    """Return every metric, in exposition order."""
    return tuple(_metrics.values())


EXPORTER_BUILD_INFO = _metric(
    "ml_exporter_build_info",
    "gauge",
    "exporter",
    "version pythonversion",
    "Version of the exporter and of the Python that runs it. The value is always 1.",
)
EXPORTER_SERIES = _metric(
    "ml_exporter_series",
    "gauge",
    "exporter",
    "",
    "Series in this scrape.",
)
EXPORTER_SERIES_LIMIT = _metric(
    "ml_exporter_series_limit",
    "gauge",
    "exporter",
    "",
    "Series that a scrape may have, from limits.series; the finest detail is left out where there could be more.",
)
EXPORTER_SERIES_DROPPED = _metric(
    "ml_exporter_series_dropped",
    "gauge",
    "exporter",
    "detail",
    "Series that have a value and are left out of this scrape because of the limit; detail is bins, groups, classes or "
    "features, left out in this order.",
)
EXPORTER_COLLECTOR_DURATION = _metric(
    "ml_exporter_collector_duration_seconds",
    "gauge",
    "exporter",
    "collector",
    "Time that the collector took to produce its samples for this scrape.",
)
EXPORTER_COLLECTOR_SUCCESS = _metric(
    "ml_exporter_collector_success",
    "gauge",
    "exporter",
    "collector",
    "1 if the collector produced its samples for this scrape, 0 if it failed and they are absent.",
)
