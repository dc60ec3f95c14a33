"""Alerts on models: performance, calibration, concept drift, error budget, fairness, serving, labels, profiles.

Performance is judged by certainty: a metric is below its benchmark when the interval of any window lies beyond it,
unless the interval of the freshest window lies on the right side again, and not just for a moment. A 95 % interval errs
once in twenty looks, and a month has thousands; so it is widened as far as makes a false alarm rare in a month of
windows of that length.
"""

from textwrap import dedent

from mlops_exporter.judging.judge import CALIBRATION_NOISE, LEAST_SKILL
from prometheus.source.alert import (
    MODEL,
    MODEL_HERE,
    ON_METRIC,
    ON_MODEL,
    ON_WINDOW,
    PERCENT,
    TIMES,
    WHERE,
    Alert,
    by_window,
    constant,
    each,
    indented,
    value,
    widened,
)
from prometheus.source.thresholds import threshold

_JOB_MODEL = ("job", "model")
_METRIC = (*MODEL_HERE, "metric")
_ATTRIBUTE = (*MODEL_HERE, "attribute", "metric")
_CLASS = (*MODEL_HERE, "class", "metric")
_SLICE = (*MODEL_HERE, "segment", "slice", "metric")
_OUTCOME = (*MODEL_HERE, "outcome")
_OUTCOME_AGREED = "{job=%[1]q,instance=%[2]q,model=%[3]q,outcome=%[5]q}"
_AGREED = "{job=%[1]q,instance=%[2]q,model=%[3]q,metric=%[6]q}"
_ON_BENCHMARK = "on (job, instance, model, version, metric) group_left ()"


def _below_benchmark(performance: str, size: str, minimum: str, freshest: str, steadily: str) -> str:
    """How far the interval lies beyond the benchmark, unless the freshest window kept it all the time `steadily`."""

    def beyond(distance: str, kept: str) -> str:
        return "\n".join(
            (
                "  max without (window) (",
                "    (",
                indented(indented(indented(distance))),
                "    ) > 0",
                f"    and {ON_WINDOW} ({size} >= {threshold(minimum)})",
                f"    and {ON_WINDOW} ml:model_window:full",
                "  )",
                f"  unless {ON_METRIC} (",
                f"    {kept}",
                f"    and {ON_WINDOW} {freshest}",
                "  )",
            )
        )

    too_low = beyond(
        f"ml_model_benchmark_min\n- {_ON_BENCHMARK.replace('left', 'right')}\n{widened(performance, 'upper')}",
        f"min_over_time({performance}_lower[{steadily}]) > {_ON_BENCHMARK} ml_model_benchmark_min",
    )
    too_high = beyond(
        f"{widened(performance, 'lower')}\n- {_ON_BENCHMARK}\nml_model_benchmark_max",
        f"max_over_time({performance}_upper[{steadily}]) < {_ON_BENCHMARK} ml_model_benchmark_max",
    )
    return f"(\n{too_low}\n)\nor\n(\n{too_high}\n)"


def _against_benchmark(performance: str) -> str:
    benchmark = "{job=%[1]q,instance=%[2]q,model=%[3]q,version=%[4]q,metric=%[5]q}"
    return (
        by_window(f"{performance}{{SELECT}}", _METRIC, 'printf "%.4g"')
        + "; agreed is"
        + value(f"max(ml_model_benchmark_min{benchmark})", _METRIC, 'printf " at least %.4g"', none="")
        + value(f"max(ml_model_benchmark_max{benchmark})", _METRIC, 'printf " at most %.4g"', none="")
        + '. Even with chance allowed for, it is off by {{ $value | printf "%.3g" }}.'
    )


def _burning(*pairs: tuple[str, str, str]) -> str:
    """Burn rate over a long window, when a short one shows that it still burns; alike for other pairs of windows.

    Counters know when something was counted, not when it happened. So a window of the events' own time must show a
    share of bad predictions above the budget, too: a backfill of past labels spends nothing of this month's budget.
    """
    worst = 'min without (instance, pod, window, metric) (ml_model_performance{metric="accuracy"})'
    ratio = "/ ignoring (version) group_left () ml:model_error_budget:ratio"
    return "\nor\n".join(
        dedent(f"""\
            (
              ml:model_bad_predictions:ratio{long} {ratio} > {threshold(rate)}
              and ml:model_bad_predictions:ratio{short} {ratio} > {threshold(rate)}
              and ml:model_labels:increase{long} >= {threshold("min_labels")}
              and 1 - (1 - ml:model_failed_predictions:ratio{long}) * {worst}
                > ignoring (version) group_left () ml:model_error_budget:ratio
            )""")
        for long, short, rate in pairs
    )


def _burnt(*windows: str) -> str:
    return (
        "Model {{ $labels.model }} version {{ $labels.version }} spends its error budget "
        f"{{{{ $value | {TIMES} }}}} as fast as a month allows. Failed or wrong were "
        + " and ".join(
            value(f"ml:model_bad_predictions:ratio{window}{{SELECT}}", MODEL, PERCENT)
            + f" of its predictions in the last {window}"
            for window in windows
        )
        + "; its accuracy benchmark allows "
        + value("max(ml:model_error_budget:ratio{job=%[1]q,model=%[2]q})", MODEL, PERCENT)
        + "."
    )


def _silent(name: str, metric: str, window: str) -> str:
    """No events in the last `window`, where there are some at this time of the week.

    That is where last week had some, an hour before and after as well, since clocks change, and on Fridays for four
    hours more, since people leave early; and one of the last days had some, or the alert fired. Where last week is not
    known, yesterday tells, but for weekends: the first one must not look like an outage. An outage goes on while the
    alert fired a week ago, or yesterday.
    """
    events = f"sum without (instance, pod, version) (increase({metric}[{window}]))"
    watched = "count without (instance, pod) (ml_model_labels_unmatched_total)"
    firing = f'ALERTS{{alertname="{name}",alertstate="firing"}}'

    def busy(offset: str) -> str:
        return f"{events.replace(']', f'] offset {offset}')} >= {threshold('busy_events')}"

    def fired(offset: str) -> str:
        since = events.replace(window, offset)
        return f"{watched} and on (job, model) ({firing} offset {offset}) unless {since} > 0"

    return dedent(f"""\
        (
            (
                (
                  {busy("1w")}
                  and {busy("167h")}
                  and {busy("169h")}
                  unless (
                    {busy("164h").replace(">=", "<")}
                    and on () day_of_week() == 5
                  )
                )
              or
                ({fired("1w")})
            )
            and (
                {busy("1d")}
              or
                {busy("2d")}
              or
                {busy("3d")}
              or
                {watched} and on (job, model) last_over_time({firing}[4d])
            )
          or
            (
                {busy("1d")}
              or
                ({fired("1d")})
            )
            unless {events.replace("]", "] offset 1w")} >= 0
            unless on () (day_of_week() % 6 == 0 or day_of_week() == 5 and hour() >= 12)
        )
        unless {events} > 0
        unless on (job, model) ml_model_cadence_seconds > 0
        and {watched}""")


def _usual(metric: str, window: str) -> str:
    """Template text with the number of events a week ago, or yesterday when that is not known."""
    increase = f"sum(increase({metric}{{SELECT}}[{window}] offset"
    return value(f"{increase} 1w)) or {increase} 1d))", _JOB_MODEL, 'printf "%.0f"')


def _fairness() -> str:
    on = "on (job, instance, model, metric)"

    def outside(distance: str) -> str:
        return "\n".join(
            (
                "max without (window) (",
                "  (",
                indented(indented(distance)),
                "  ) > 0",
                f"  and {ON_WINDOW} (ml_model_window_predictions >= {threshold('min_predictions')})",
                f"  and {ON_WINDOW} ml:model_window:full",
                ")",
            )
        )

    low, high = (f"max by (job, instance, model, metric) (ml_fairness_benchmark_{end})" for end in ("min", "max"))
    too_low = outside(f"{low}\n- {on} group_right ()\n{widened('ml_fairness', 'upper')}")
    too_high = outside(f"{widened('ml_fairness', 'lower')}\n- {on} group_left ()\n{high}")
    return f"{too_low}\nor\n{too_high}"


def _unjudged() -> str:
    """Labels of a day of the versions with a benchmark, of performance or fairness, that no window could judge.

    A version that has not been there for a day may be judged yet.
    """
    never = "\n  or\n".join(
        f"    max without ({labels}) ((max_over_time({metric}[1d]) == bool 0) and {metric} offset 1d) > 0"
        for metric, labels in (("ml_model_benchmark_judged", ""), ("ml_fairness_benchmark_judged", "attribute"))
    )
    enough = f"(increase(ml_model_labels_total[1d]) >= {threshold('min_labels')})"
    return f"{enough}\n* {ON_MODEL} group_right () (\n{never}\n)"


ALERTS = [
    Alert(
        "MLModelPerformanceBelowBenchmark",
        "performance",
        "critical",
        _METRIC,
        _below_benchmark(
            "ml_model_performance", "ml_model_window_labels", "min_labels", "ml:model_window:labelled", "10m"
        ),
        "A model performs worse than agreed.",
        f"{{{{ $labels.metric }}}} of {WHERE} is {_against_benchmark('ml_model_performance')}",
        "See whether a drift or data-quality alert of this model explains it; if a release does, roll back.",
        "10m",
        "1h",
        "retrain",
        verdict="failing",
    ),
    Alert(
        "MLModelEstimatedPerformanceBelowBenchmark",
        "performance",
        "warning",
        _METRIC,
        _below_benchmark(
            "ml_model_performance_estimated",
            "ml_model_window_predictions",
            "min_predictions",
            "ml:model_window:current",
            "15m",
        ),
        "A model is estimated to perform worse than agreed; its labels are still out.",
        f"Estimated {{{{ $labels.metric }}}} of {WHERE} is {_against_benchmark('ml_model_performance_estimated')}",
        "See which features moved, and get labels for a sample of the latest predictions.",
        "15m",
        "30m",
        verdict="suspect",
        action="consider_retraining",
    ),
    Alert(
        "MLBenchmarkNotJudged",
        "performance",
        "warning",
        _METRIC,
        _unjudged(),
        "Nobody can tell whether a model keeps a benchmark, though its labels come.",
        f"The benchmark of {{{{ $labels.metric }}}} of {WHERE} could not be judged for a day, though "
        '{{ $value | printf "%.0f" }} labels came: in no window does the metric have a value and an interval for '
        f"{constant('min_labels')} labels or more.",
        "Compare the labels in each window with what the metric needs: both classes, predictions or scores, labels "
        "other than 0, groups large enough.",
        "1h",
        "1h",
    ),
    Alert(
        "MLModelCalibrationOff",
        "performance",
        "warning",
        MODEL_HERE,
        dedent(f"""\
            max without (window, metric) (
                ml_model_performance_lower{{metric="expected_calibration_error"}}
              - {ON_WINDOW} group_left ()
                ({CALIBRATION_NOISE:g} / sqrt(ml_model_window_labels >= {threshold("min_labels")}))
              - {ON_METRIC} group_left ()
                ml_model_performance_reference
              and {ON_WINDOW} ml:model_window:full
            ) > {threshold("calibration_error_excess")}
            unless {ON_MODEL}
            ml_model_benchmark_max{{metric="expected_calibration_error"}}"""),
        "A model's probabilities no longer mean what they say.",
        f'The expected calibration error of {WHERE} is at least {{{{ $value | printf "%.3f" }}}} above the '
        + "reference's "
        + value(
            'ml_model_performance_reference{SELECT,metric="expected_calibration_error"}', MODEL_HERE, 'printf "%.3f"'
        )
        + f", where {constant('calibration_error_excess')} more is tolerated.",
        "Look at the reliability curve; where ROC AUC holds, recalibrating on fresh labels is enough.",
        "15m",
        "1h",
        verdict="suspect",
    ),
    Alert(
        "MLModelConceptDrift",
        "performance",
        "warning",
        (*MODEL_HERE, "stream"),
        "ml_model_change_evidence > ml_model_change_evidence_threshold",
        "There is strong evidence that a model's errors or scores are no longer the reference's.",
        f"The {{{{ $labels.stream }}}}s of {WHERE} are not those of the reference any more: the log-evidence is "
        '{{ $value | printf "%.1f" }}, where the threshold is '
        + value("ml_model_change_evidence_threshold{SELECT}", (*MODEL_HERE, "stream"), 'printf "%.1f"')
        + ". Chance alone ever takes 1 of "
        + value("exp(ml_model_change_evidence_threshold{SELECT})", (*MODEL_HERE, "stream"), 'printf "%.0f"')
        + " unchanged models that far.",
        "Find in the performance panel when errors began to change, and what changed upstream or in the world then.",
        "5m",
        "1h",
        "retrain",
        verdict="suspect",
    ),
    Alert(
        "MLSegmentWorse",
        "performance",
        "warning",
        _SLICE,
        f"max without (window) (\n  ml_segment_worse\n  and {ON_WINDOW} ml:model_window:full\n) == 1",
        "A model is surely worse in one slice of its traffic than in the rest.",
        f"{{{{ $labels.metric }}}} of {WHERE} where {{{{ $labels.segment }}}} is {{{{ $labels.slice }}}} is "
        + by_window("ml_segment_performance{SELECT}", _SLICE, 'printf "%.4g"')
        + "; of all its traffic it is "
        + by_window(
            "ml_model_performance{job=%[1]q,instance=%[2]q,model=%[3]q,version=%[4]q,metric=%[7]q}",
            _SLICE,
            'printf "%.4g"',
        )
        + ". Its share of the predictions is "
        + by_window(
            "ml_segment_window_predictions{job=%[1]q,instance=%[2]q,model=%[3]q,version=%[4]q,segment=%[5]q,slice=%[6]q}"
            " / on (window) group_left () sum by (window) (ml_segment_window_predictions{job=%[1]q,instance=%[2]q,"
            "model=%[3]q,version=%[4]q,segment=%[5]q})",
            _SLICE,
            PERCENT,
        )
        + ".",
        "See whether the slice's inputs are missing or drifted; a share of it in the training data may be too small.",
        "30m",
        "1h",
        verdict="suspect",
    ),
    Alert(
        "MLSegmentEstimatedWorse",
        "performance",
        "warning",
        _SLICE,
        f"max without (window) (\n  ml_segment_estimated_worse\n  and {ON_WINDOW} ml:model_window:full\n) == 1",
        "A model must be expected to be worse in one slice; its labels are still out.",
        f"Estimated {{{{ $labels.metric }}}} of {WHERE} where {{{{ $labels.segment }}}} is {{{{ $labels.slice }}}} is "
        + by_window("ml_segment_performance_estimated{SELECT}", _SLICE, 'printf "%.4g"')
        + "; of all its traffic it is "
        + by_window(
            "ml_model_performance_estimated{job=%[1]q,instance=%[2]q,model=%[3]q,version=%[4]q,metric=%[7]q}",
            _SLICE,
            'printf "%.4g"',
        )
        + ".",
        "Get labels for a sample of the slice, and see whether its inputs are missing or drifted.",
        "30m",
        "1h",
        verdict="suspect",
    ),
    Alert(
        "MLOutcomeMissesBenchmark",
        "performance",
        "critical",
        _OUTCOME,
        "ml_outcome_benchmark_missed == 1",
        "Answers are rated worse than agreed.",
        f"The mean {{{{ $labels.outcome }}}} of {WHERE} is "
        + by_window("ml_outcome_mean{SELECT}", _OUTCOME, 'printf "%.4g"')
        + "; agreed is"
        + value(f"max(ml_outcome_benchmark_min{_OUTCOME_AGREED})", _OUTCOME, 'printf " at least %.4g"', none="")
        + value(f"max(ml_outcome_benchmark_max{_OUTCOME_AGREED})", _OUTCOME, 'printf " at most %.4g"', none="")
        + ". Chance is allowed for.",
        "See what changed last: the model, its prompt, its inputs, or whoever rates; if a release did, roll back.",
        "10m",
        "1h",
        verdict="failing",
    ),
    Alert(
        "MLOutcomeChanged",
        "performance",
        "warning",
        _OUTCOME,
        "ml_outcome_change_evidence > ml_outcome_change_evidence_threshold",
        "There is strong evidence that answers are no longer rated as before.",
        f"The mean {{{{ $labels.outcome }}}} of {WHERE} is not that of the reference any more, or, without one, worse "
        'than its benchmark: the log-evidence is {{ $value | printf "%.1f" }}, where the threshold is '
        + value("ml_outcome_change_evidence_threshold{SELECT}", _OUTCOME, 'printf "%.1f"')
        + "; now it is "
        + by_window("ml_outcome_mean{SELECT}", _OUTCOME, 'printf "%.4g"')
        + ".",
        "Find in the panel of ratings when they began to change, and what was released or rated otherwise then.",
        "5m",
        "1h",
        verdict="suspect",
    ),
    Alert(
        "MLForecastNoBetterThanNaive",
        "performance",
        "critical",
        MODEL_HERE,
        "ml_forecast_no_better == 1",
        "A model's forecasts are no better than naive ones.",
        f"The errors of {WHERE} are smaller than those of the naive forecast by "
        + by_window(
            'ml_model_performance{SELECT,metric="skill"}',
            MODEL_HERE,
            PERCENT,
            none="no share that is known, as of a naive forecast without error",
        )
        + f"; {LEAST_SKILL:.0%} is the least that makes a forecast worth having. Chance is allowed for. In the "
        "reference it is"
        + value('ml_model_performance_reference{SELECT,metric="skill"}', MODEL_HERE, 'printf " %.3f"', none=" unknown")
        + ".",
        "Use the naive forecast until the cause is found: see which horizons lost, and whether inputs stand still.",
        "10m",
        "1h",
        verdict="failing",
    ),
    Alert(
        "MLIntervalsMisleading",
        "performance",
        "warning",
        MODEL_HERE,
        "ml_interval_missed == 1",
        "Announced intervals cover another share of the labels than they say.",
        f"Of the labels of {WHERE} the announced intervals cover, by their level, "
        + each(
            "sort_desc(avg by (level) (ml_interval_coverage{SELECT}))",
            MODEL_HERE,
            "level",
            PERCENT,
            before="",
        )
        + ". Chance is allowed for.",
        "Recalibrate the quantiles on recent errors; where errors grew as well, look for what drifted first.",
        "30m",
        "1h",
        verdict="suspect",
    ),
    Alert(
        "MLClassWorse",
        "performance",
        "warning",
        _CLASS,
        f"max without (window) (\n  ml_model_class_worse\n  and {ON_WINDOW} ml:model_window:full\n) == 1",
        "A model is surely worse at one of its classes than in the reference.",
        f"{{{{ $labels.metric }}}} of class {{{{ $labels.class }}}} of {WHERE} is "
        + by_window("ml_model_class_performance{SELECT}", _CLASS, 'printf "%.4g"')
        + "; in the reference it is "
        + value("ml_model_class_performance_reference{SELECT}", _CLASS, 'printf "%.4g"')
        + each(
            "bottomk(3, max by (class) (ml_model_class_performance{job=%[1]q,instance=%[2]q,model=%[3]q,version=%[4]q,"
            "metric=%[6]q}))",
            _CLASS,
            "class",
            'printf "%.4g"',
            before=". The worst classes are ",
        )
        + ".",
        "Look at what the class is taken for, or missed with, and at what changed in events that have it.",
        "30m",
        "1h",
        verdict="suspect",
    ),
    Alert(
        "MLErrorBudgetBurnFast",
        "performance",
        "critical",
        MODEL,
        _burning(("1h", "5m", "burn_rate_1h"), ("6h", "30m", "burn_rate_6h")),
        "Bad predictions use up a model's monthly error budget within days.",
        _burnt("1h", "6h"),
        "Look at failures and at the confusion matrix of the last hour; if a release coincides, roll back.",
        "2m",
        "15m",
        verdict="failing",
    ),
    Alert(
        "MLErrorBudgetBurnSlow",
        "performance",
        "warning",
        MODEL,
        _burning(("1d", "2h", "burn_rate_1d"), ("3d", "6h", "burn_rate_3d")),
        "Bad predictions use up a model's monthly error budget before the month ends.",
        _burnt("1d", "3d"),
        "Plan a retraining: at this pace the month will miss the agreed accuracy.",
        "1h",
        "1h",
    ),
    Alert(
        "MLFairnessOutsideBenchmark",
        "fairness",
        "warning",
        _ATTRIBUTE,
        _fairness(),
        "A model treats groups more differently than agreed.",
        f"{{{{ $labels.metric }}}} by {{{{ $labels.attribute }}}} of {WHERE} is "
        + by_window("ml_fairness{SELECT}", _ATTRIBUTE, 'printf "%.3g"')
        + "; agreed is"
        + value(f"max(ml_fairness_benchmark_min{_AGREED})", _ATTRIBUTE, 'printf " at least %.3g"', none="")
        + value(f"max(ml_fairness_benchmark_max{_AGREED})", _ATTRIBUTE, 'printf " at most %.3g"', none="")
        + '. Even with chance allowed for, it is off by {{ $value | printf "%.3g" }}'
        + each(
            "sort(bottomk(3, max by (group) (ml_group_selection_ratio"
            "{job=%[1]q,instance=%[2]q,model=%[3]q,version=%[4]q,attribute=%[5]q})))",
            _ATTRIBUTE,
            "group",
            PERCENT,
            before=". Lowest selection ratios: ",
        )
        + ".",
        "Compare the groups' inputs and sizes; tell the model's owner before anybody changes a threshold.",
        "30m",
        "1h",
        verdict="unfair",
    ),
    Alert(
        "MLPredictionFailures",
        "serving",
        "critical",
        MODEL_HERE,
        dedent(f"""\
            increase(ml_model_prediction_failures_total[15m])
              / (increase(ml_model_predictions_total[15m]) >= {threshold("busy_events")})
            > {threshold("failures_ratio")}"""),
        "A model's predictions fail.",
        f"{{{{ $value | {PERCENT} }}}} of the predictions of {WHERE} failed in the last 15m, where "
        f"{constant('failures_ratio', PERCENT)} are tolerated.",
        "Read the model server's error log; if a release coincides, roll back.",
        "5m",
        "15m",
        verdict="erring",
    ),
    Alert(
        "MLPredictionLatencyHigh",
        "serving",
        "warning",
        MODEL,
        # An hour has enough predictions of most models; the last quarter of it says whether they still are slow.
        dedent(f"""\
            histogram_quantile(
              {threshold("latency_quantile")},
              sum without (instance, pod) (rate(ml_model_prediction_latency_seconds_bucket[15m]))
            ) > {threshold("latency_seconds")}
            and
            histogram_quantile(
              {threshold("latency_quantile")},
              sum without (instance, pod) (rate(ml_model_prediction_latency_seconds_bucket[1h]))
            ) > {threshold("latency_seconds")}
            and
            sum without (instance, pod) (increase(ml_model_prediction_latency_seconds_count[1h]))
              >= {threshold("min_predictions")}"""),
        "A model answers more slowly than its objective.",
        f"{constant('latency_quantile', PERCENT)} of the predictions of model {{{{ $labels.model }}}} version "
        "{{ $labels.version }} take up to {{ $value | humanizeDuration }}, where the objective is "
        f"{constant('latency_seconds', 'humanizeDuration')}.",
        "See whether CPU or GPU is saturated; then whether the request rate or the size of inputs has grown.",
        "15m",
        "15m",
    ),
    Alert(
        "MLNoPredictions",
        "freshness",
        "critical",
        _JOB_MODEL,
        _silent("MLNoPredictions", "ml_model_predictions_total", "30m"),
        "A model that is busy at this time of day gets no predictions.",
        "Model {{ $labels.model }} made no prediction in the last 30m, where it usually makes "
        f"{_usual('ml_model_predictions_total', '30m')} at this time of day; "
        f"from {constant('busy_events')} on, silence counts as odd.",
        "See whether the model server gets requests; if it does, its event log or the source has broken.",
        "5m",
        verdict="silent",
    ),
    Alert(
        "MLBatchLate",
        "freshness",
        "critical",
        _JOB_MODEL,
        "time() - max without (instance, pod) (ml_model_batch_deadline_timestamp_seconds) > 0",
        "A model's job is late.",
        "The next batch of model {{ $labels.model }} has been late for {{ $value | humanizeDuration }}. "
        "The newest prediction is of "
        + value("max(ml_model_last_prediction_timestamp_seconds{SELECT})", _JOB_MODEL, "humanizeTimestamp")
        + ".",
        "See whether the job ran; if it did, whether its table has arrived and its source is up.",
        "5m",
        verdict="silent",
    ),
    Alert(
        "MLNoLabels",
        "freshness",
        "warning",
        _JOB_MODEL,
        _silent("MLNoLabels", "ml_model_labels_total", "1d"),
        "A model's labels have stopped coming.",
        "Model {{ $labels.model }} got no label in the last day, where it usually gets "
        f"{_usual('ml_model_labels_total', '1d')}; from {constant('busy_events')} on, silence counts as odd.",
        "See whether the job that delivers labels ran, and whether its events were rejected.",
        "30m",
    ),
    Alert(
        "MLLabelCoverageLow",
        "freshness",
        "warning",
        MODEL_HERE,
        dedent(f"""\
            min without (window) (
              ml_model_label_coverage_ratio
                / (avg_over_time(ml_model_label_coverage_ratio[1w:1h] offset 1d) > 0)
              and {ON_WINDOW} (ml_model_window_predictions >= {threshold("min_predictions")})
            ) < {threshold("label_coverage_drop")}"""),
        "Fewer predictions get their label than usual.",
        f"Label coverage of {WHERE} is {{{{ $value | {PERCENT} }}}} of last week's mean, where less than "
        f"{constant('label_coverage_drop', PERCENT)} is odd. Labelled by now: "
        + by_window("ml_model_label_coverage_ratio{SELECT}", MODEL_HERE, PERCENT)
        + ".",
        "Performance now rests on fewer, perhaps easier cases: see which labels are late before believing it.",
        "1h",
        "1h",
    ),
    Alert(
        "MLLabelsUnmatched",
        "freshness",
        "warning",
        ("job", "model"),
        dedent(f"""\
            sum without (instance, pod) (increase(ml_model_labels_unmatched_total[6h]))
            / (
                sum without (instance, pod) (increase(ml_model_labels_unmatched_total[6h]))
              + sum without (instance, pod, version) (increase(ml_model_labels_total[6h]))
              >= {threshold("min_labels")}
            ) > {threshold("labels_unmatched_ratio")}"""),
        "Many of a model's labels find no prediction.",
        f"{{{{ $value | {PERCENT} }}}} of the labels of model {{{{ $labels.model }}}} in the last 6h have an id that "
        f"no waiting prediction has; {constant('labels_unmatched_ratio', PERCENT)} are tolerated.",
        "Compare an id from the labels with one from the predictions; then label_ttl with the labels' delay.",
        "30m",
        "1h",
    ),
    Alert(
        "MLOutcomesUnmatched",
        "freshness",
        "warning",
        ("job", "model", "outcome"),
        dedent(f"""\
            sum without (instance, pod) (increase(ml_outcome_values_unmatched_total[6h]))
            / (
                sum without (instance, pod) (increase(ml_outcome_values_unmatched_total[6h]))
              + sum without (instance, pod, version) (increase(ml_outcome_values_total[6h]))
              >= {threshold("min_labels")}
            ) > {threshold("labels_unmatched_ratio")}"""),
        "Many values of an outcome find no answer.",
        f"{{{{ $value | {PERCENT} }}}} of the values of {{{{ $labels.outcome }}}} of model {{{{ $labels.model }}}} in "
        f"the last 6h have an id that no answer has; {constant('labels_unmatched_ratio', PERCENT)} are tolerated.",
        "Compare an id from the outcomes with one from the answers; then label_ttl with the outcomes' delay.",
        "30m",
        "1h",
    ),
    Alert(
        "MLProfileVersionMismatch",
        "profile",
        "warning",
        (*MODEL_HERE, "profile_version"),
        dedent(f"""\
            (
              max without (task, profile_hash) (ml_model_info{{version!="default",profile_version!~"|default"}})
              unless on (job, model, profile_version)
              label_replace(
                increase(ml_model_predictions_total[1h]) > 0,
                "profile_version", "$1", "version", "(?s)(.*)"
              )
            )
            and {ON_MODEL} ml_model_version_profile{{profile="shared"}}
            and {ON_MODEL} increase(ml_model_predictions_total[1h]) > 0"""),
        "A model version is judged by another version's reference profile.",
        f"{WHERE[0].upper()}{WHERE[1:]} is serving, but its reference profile was built for version "
        "{{ $labels.profile_version }}.",
        "Build a profile from the training data of the version that serves, and set it in the configuration.",
        "30m",
    ),
    Alert(
        "MLProfileMissing",
        "profile",
        "warning",
        MODEL_HERE,
        dedent(f"""\
            max without (profile) (ml_model_version_profile{{profile="none"}}) > 0
            and {ON_MODEL} increase(ml_model_predictions_total[1h]) > 0"""),
        "A model version has no reference profile.",
        f"{WHERE[0].upper()}{WHERE[1:]} is serving, and none of the profiles is for it: its predictions and labels are "
        "counted, and compared with no reference.",
        "Build a profile from its training data with --model-version, and put it beside the other versions' profiles.",
        "1h",
        "1h",
    ),
    Alert(
        "MLProfileOld",
        "profile",
        "info",
        MODEL_HERE,
        dedent(f"""\
            time() - ml_model_profile_timestamp_seconds > {threshold("profile_age_seconds")}
            and {ON_MODEL} increase(ml_model_predictions_total[1h]) > 0"""),
        "A model's reference profile is old.",
        f"The reference profile of {WHERE} is {{{{ $value | humanizeDuration }}}} old, where "
        f"{constant('profile_age_seconds', 'humanizeDuration')} are thought to be enough.",
        "Ask its owner whether the model should be retrained; if it was, its new profile is missing here.",
        "1h",
    ),
]
