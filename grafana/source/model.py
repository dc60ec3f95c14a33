"""Dashboard "Model": one model version against its benchmark, and where it is wrong."""

from grafana_foundation_sdk.models import dashboard as model

from grafana.source import panels as p
from grafana.source.promql import quantile, rate, series
from mlops_exporter.exposition import catalogue as c

_METRIC = 'metric="$metric"'
_REFERENCE = f"{series(c.PERFORMANCE_REFERENCE)}"
_BENCHMARKS = f"({series(c.BENCHMARK_MIN)} or {series(c.BENCHMARK_MAX)})"

_FEW_LABELS = "Too few labels in this window: performance is absent below min_samples.performance labels."
_NO_LABELS = "No labels yet."
_NO_PREDICTIONS = "No predictions yet."
_NO_SCORES = "Nothing to calibrate: the model is a regression, or its events carry no scores."
_NO_CLASSES = "A regression has no classes."
_NO_ERRORS = "A classification has no errors in units: see its confusion matrix."
_NO_ESTIMATE = "No estimate: the profile holds no calibration, or the window holds too few predictions."

# Metrics with a benchmark first, so that the default is one that was agreed on.
_METRICS = (
    "query_result(sort_desc(max by (metric) "
    f"({_BENCHMARKS} * 0 + 1 or {series(c.PERFORMANCE_REFERENCE)} * 0 or {series(c.PERFORMANCE)} * 0)))"
)

_AGREED = "on (job, instance, model, version, metric) group_left ()"
_LOWER, _UPPER = series(c.PERFORMANCE_LOWER), series(c.PERFORMANCE_UPPER)
_MIN, _MAX = series(c.BENCHMARK_MIN), series(c.BENCHMARK_MAX)
_VERDICTS = p.Words(
    {
        3: ("Worse than agreed", p.BAD),
        2: ("Cannot be told", p.WATCH),
        1: ("As agreed", p.GOOD),
        0: ("No benchmark", p.QUIET),
    }
)
_VERDICT = (
    "max by (metric) ("
    f"(({_UPPER} < {_AGREED} {_MIN}) or ({_LOWER} > {_AGREED} {_MAX})) * 0 + 3"
    f" or (({_LOWER} >= {_AGREED} {_MIN}) or ({_UPPER} <= {_AGREED} {_MAX})) * 0 + 1"
    f" or (({_UPPER} >= {_AGREED} {_MIN}) or ({_LOWER} <= {_AGREED} {_MAX})) * 0 + 2"
    f" or {series(c.PERFORMANCE)} * 0)"
)


def _one(metric: c.Metric, *matchers: str) -> str:
    return f"avg({series(metric, *matchers)})"


def _head() -> list[p.Panel]:
    return [
        p.number(
            "What is it?",
            "The task of the model and the model version that its reference profile was made for.",
            "none",
            f"max by (task, profile_version) ({series(c.MODEL_INFO)})",
            legend="{{task}}, profile of version {{profile_version}}",
            empty="This model is not exported: choose another model or version.",
            size=(6, 4),
            name_only=True,
        ),
        p.number(
            "Does it keep its benchmarks?",
            "The worst verdict over all metrics in this window. **Worse than agreed**: even the better end of the 95 % "
            "interval is beyond the benchmark. **Cannot be told**: the interval contains the benchmark.",
            "none",
            f"max({_VERDICT})",
            empty=_FEW_LABELS,
            size=(6, 4),
            words=_VERDICTS,
        ),
        p.number(
            "From how many labels?",
            "Labels in the window: the sample size of the performance.",
            "short",
            f"sum({series(c.WINDOW_LABELS)})",
            empty=_NO_LABELS,
            size=(4, 4),
        ),
        p.number(
            "How many labelled?",
            "Share of predictions old enough to have a label that have one (label_delay in the configuration).",
            "percentunit",
            _one(c.LABEL_COVERAGE),
            empty="No prediction is old enough to expect its label.",
            size=(4, 4),
            decimals=1,
        ),
        p.number(
            "Last prediction?",
            "Time since the newest prediction, by its own ts.",
            "s",
            f"time() - max({series(c.LAST_PREDICTION)})",
            empty=_NO_PREDICTIONS,
            size=(4, 4),
            decimals=0,
        ),
    ]


def _performance() -> list[p.Panel]:
    return [
        p.over_time(
            "Is $metric as good as agreed?",
            "Performance over the window with its 95 % interval, the benchmark agreed on (dashed), the value on the "
            "reference data, and the estimate that needs no labels. Only where the whole interval is beyond the "
            "benchmark is the model surely worse.",
            "none",
            [
                p.Query(_one(c.PERFORMANCE_UPPER, _METRIC), p.UPPER),
                p.Query(_one(c.PERFORMANCE_LOWER, _METRIC), p.LOWER),
                p.Query(_one(c.PERFORMANCE, _METRIC), "$metric"),
                p.Query(f"max({series(c.BENCHMARK_MIN, _METRIC)})", "Benchmark: at least"),
                p.Query(f"min({series(c.BENCHMARK_MAX, _METRIC)})", "Benchmark: at most"),
                p.Query(_one(c.PERFORMANCE_REFERENCE, _METRIC), "Reference"),
                p.Query(_one(c.PERFORMANCE_ESTIMATED, _METRIC), "Estimated without labels"),
            ],
            empty=_FEW_LABELS,
            size=(14, 10),
            overrides={
                **p.band(),
                "$metric": p.line(p.NEUTRAL, width=3),
                "Benchmark: at least": p.line(p.BAD, dashed=True),
                "Benchmark: at most": p.line(p.BAD, dashed=True),
                "Reference": p.line(p.QUIET),
                "Estimated without labels": p.line(p.PINK),
            },
        ),
        p.table_of(
            "Which metrics keep their benchmark?",
            "All metrics of this window. Follow a metric's link to draw it at the left.",
            [
                _VERDICT,
                f"avg by (metric) ({series(c.PERFORMANCE)})",
                f"avg by (metric) ({_BENCHMARKS})",
                f"avg by (metric) ({_REFERENCE})",
            ],
            [
                p.Column(
                    "metric",
                    "Metric",
                    least=110,
                    link="/d/mlops-model?var-metric=${__data.fields.Metric}"
                    "&${model:queryparam}&${version:queryparam}&${window:queryparam}&" + p.SHARED_VARIABLES,
                ),
                p.Column("B", "Now", unit="none", decimals=3, width=65),
                p.Column("C", "Agreed", unit="none", decimals=3, width=72),
                p.Column("D", "Reference", unit="none", decimals=3, width=84),
                p.Column("A", "Verdict", words=_VERDICTS, width=155),
            ],
            empty=_FEW_LABELS,
            size=(10, 10),
            sort="Verdict",
        ),
        p.over_time(
            "Has the relation to the label changed?",
            "Realised minus estimated performance of the same predictions. The estimate knows the drift of the inputs, "
            "so a gap whose interval leaves 0 means that the label itself behaves otherwise (concept drift).",
            "none",
            [
                p.Query(_one(c.PERFORMANCE_GAP_UPPER, _METRIC), p.UPPER),
                p.Query(_one(c.PERFORMANCE_GAP_LOWER, _METRIC), p.LOWER),
                p.Query(_one(c.PERFORMANCE_GAP, _METRIC), "Realised minus estimated"),
            ],
            empty=_NO_ESTIMATE,
            size=(12, 8),
            overrides={**p.band(), "Realised minus estimated": p.line(p.NEUTRAL)},
            centered=True,
        ),
        p.over_time(
            "How strong is the evidence of a change?",
            "Natural logarithm of the anytime-valid evidence that errors have risen or scores have moved; above its "
            "threshold (dashed) chance is ruled out, however often one looks.",
            "none",
            [
                p.Query(f"max by (stream) ({series(c.CHANGE_EVIDENCE)})", "{{stream}}"),
                p.Query(f"max by (stream) ({series(c.CHANGE_EVIDENCE_THRESHOLD)})", "Threshold for {{stream}}"),
            ],
            empty="No evidence yet: change detection is off, or no labels or scores have come.",
            size=(12, 8),
            overrides={"/^Threshold/": p.line(p.BAD, dashed=True)},
        ),
    ]


def _increase(metric: c.Metric, by: str) -> str:
    return f"sum by ({by}) (increase({series(metric)}[$__range]))"


def _classes() -> list[p.Panel]:
    counts = _increase(c.CONFUSION, "predicted, actual")
    predicted = f'sum by (class) (label_replace({counts}, "class", "$1", "predicted", "(.*)"))'
    actual = f'sum by (class) (label_replace({counts}, "class", "$1", "actual", "(.*)"))'
    calibrated = _increase(c.CALIBRATION_PREDICTIONS, "bin")
    return [
        p.matrix(
            "What does it take for what?",
            "Confusion matrix over the time range: a row for each actual class, a column for each predicted class, "
            "each cell the share of the row. The diagonal is right.",
            f"{counts} / on (actual) group_left () (sum by (actual) ({counts}) > 0)",
            row="actual",
            column="predicted",
            row_title="Actual",
            empty=_NO_CLASSES + " For a classification: no labels in the time range.",
            size=(8, 8),
        ),
        p.bars(
            "Does it predict each class as often as it occurs?",
            "Labelled predictions of the time range by class: how often it was predicted, how often it was right to.",
            "short",
            {"Actual": actual, "Predicted": predicted},
            by="class",
            empty=_NO_CLASSES + " For a classification: no labels in the time range.",
            size=(8, 8),
        ),
        p.bars(
            "Do scores mean what they say?",
            "Calibration over the time range: for each bin of the score (its upper edge), the mean score and the share "
            "that was positive (multiclass: right). Where the bars differ, the probabilities are off.",
            "percentunit",
            {
                "Mean score": f"{_increase(c.CALIBRATION_SCORE_SUM, 'bin')} / ({calibrated} > 0)",
                "Share positive": f"{_increase(c.CALIBRATION_POSITIVES, 'bin')} / ({calibrated} > 0)",
            },
            by="bin",
            empty=_NO_SCORES,
            size=(8, 8),
        ),
    ]


def _errors() -> list[p.Panel]:
    labels = f"sum({rate(c.LABELS)})"
    return [
        p.over_time(
            "Which way do its errors go?",
            "Mean error of a regression, split: how much too high and how much too low the average prediction was. "
            "Unequal halves are a bias.",
            "none",
            [
                p.Query(f"sum({rate(c.OVERPREDICTION_SUM)}) / {labels}", "Too high"),
                p.Query(f"-sum({rate(c.UNDERPREDICTION_SUM)}) / {labels}", "Too low"),
            ],
            empty=_NO_ERRORS,
            size=(12, 8),
            overrides={"Too high": p.line(p.WATCH), "Too low": p.line(p.NEUTRAL)},
            centered=True,
        ),
        p.over_time(
            "Are its errors many small or few large ones?",
            "Root mean square against mean absolute error: the further apart, the more the largest errors weigh. "
            "1.25 times is what normally distributed errors give.",
            "none",
            [
                p.Query(f"sqrt(sum({rate(c.SQUARED_ERROR_SUM)}) / {labels})", "Root mean square error"),
                p.Query(f"sum({rate(c.ABSOLUTE_ERROR_SUM)}) / {labels}", "Mean absolute error"),
            ],
            empty=_NO_ERRORS,
            size=(12, 8),
            low=0,
        ),
    ]


def _labels_and_service() -> list[p.Panel]:
    predictions = f"sum({rate(c.PREDICTIONS)})"
    return [
        p.over_time(
            "How late do labels come?",
            "Time from a prediction to its label: half of the labels, and 95 % of them, come faster than this.",
            "s",
            [p.Query(quantile(q, c.LABEL_DELAY), f"{q:.0%} of labels") for q in (0.5, 0.95)],
            empty=_NO_LABELS,
            size=(8, 8),
            low=0,
        ),
        p.over_time(
            "How many predictions are labelled?",
            "Share of the predictions made in the window, of those old enough, that have their label.",
            "percentunit",
            [p.Query(f"avg by (window) ({series(c.LABEL_COVERAGE, free='window')})", "{{window}}")],
            empty="No prediction is old enough to expect its label.",
            size=(8, 8),
            low=0,
            high=1,
        ),
        p.over_time(
            "Which labels and predictions are lost?",
            "Per second: labels without a prediction, predictions given up waiting, and what was received twice.",
            "cps",
            [
                p.Query(f"sum({rate(c.LABELS_UNMATCHED)})", "Labels without a prediction"),
                p.Query(f"sum({rate(c.PREDICTIONS_UNLABELLED)})", "Predictions given up"),
                p.Query(f"sum({rate(c.LABELS_DUPLICATE)})", "Labels received twice"),
                p.Query(f"sum({rate(c.LABELS_CORRECTED)})", "Labels corrected"),
                p.Query(f"sum({rate(c.PREDICTIONS_DUPLICATE)})", "Predictions received twice"),
            ],
            empty="Nothing counted yet.",
            size=(8, 8),
            low=0,
        ),
        p.over_time(
            "How many predictions come in?",
            "Predictions per second, and those of them that failed.",
            "reqps",
            [p.Query(predictions, "Predictions"), p.Query(f"sum({rate(c.PREDICTION_FAILURES)})", "Failed")],
            empty=_NO_PREDICTIONS,
            size=(8, 8),
            overrides={"Predictions": p.line(p.NEUTRAL), "Failed": p.line(p.BAD)},
            low=0,
        ),
        p.over_time(
            "How many predictions fail?",
            "Share of predictions that came with an error.",
            "percentunit",
            [
                p.Query(f"sum({rate(c.PREDICTION_FAILURES)}) / ({predictions} > 0)", "Failed"),
                p.objective("failures_ratio", "Alert threshold"),
            ],
            empty=_NO_PREDICTIONS,
            size=(8, 8),
            overrides={"Failed": p.line(p.NEUTRAL), "Alert threshold": p.line(p.BAD, dashed=True)},
            low=0,
        ),
        p.over_time(
            "How long does a prediction take?",
            "Latency as the model server's events tell it: half, 95 % and 99 % of predictions are faster than "
            "this. Dashed: the objective that alerts hold it to.",
            "s",
            [
                *(p.Query(quantile(q, c.PREDICTION_LATENCY), f"{q:.0%} of predictions") for q in (0.5, 0.95, 0.99)),
                p.objective("latency_seconds", "Objective"),
            ],
            empty="The events carry no latency_seconds.",
            size=(8, 8),
            overrides={"Objective": p.line(p.BAD, dashed=True)},
            low=0,
        ),
    ]


def build() -> model.Dashboard:
    """Return the dashboard."""
    return p.dashboard(
        "mlops-model",
        "One model version: performance against benchmark, reference and estimate; errors, labels, latency.",
        [
            *p.model_variables(),
            p.window_variable(),
            p.variable("metric", _METRICS, regex='/metric="([^"]+)"/', sort=model.VariableSort.DISABLED),
        ],
        {
            "": _head(),
            "Is it as good as agreed?": _performance(),
            "Where is it wrong? (classification)": _classes(),
            "Where is it wrong? (regression)": _errors(),
            "Labels, failures, latency": _labels_and_service(),
        },
        matchers=',model="$model"',
    )
