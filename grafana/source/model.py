"""Dashboard "Model": one model version against its benchmark, and where it is wrong."""

from grafana_foundation_sdk.models import dashboard as model

from grafana.source import panels as p
from grafana.source.promql import TARGET, on, quantile, rate, series
from mlops_exporter.exposition import catalogue as c

_METRIC = 'metric="$metric"'
_OUTCOME = 'outcome="$metric"'
_REFERENCE = f"{series(c.PERFORMANCE_REFERENCE)}"
_BENCHMARKS = f"({series(c.BENCHMARK_MIN)} or {series(c.BENCHMARK_MAX)})"

_FEW_LABELS = "Too few labels in this window: performance is absent below min_samples.performance labels."
_NO_LABELS = "No labels yet."
_NO_PREDICTIONS = "No predictions yet."
_NO_SCORES = "Nothing to calibrate: the model is a regression, or its events carry no scores."
_NO_CLASSES = "A regression has no classes."
_NO_ERRORS = "A classification has no errors in units: see its confusion matrix."
_NO_ESTIMATE = "No estimate: the profile holds no calibration, or the window holds too few predictions."

_VERDICTS = p.Words(
    {
        3: ("Worse than agreed", p.BAD),
        2: ("Cannot be told", p.WATCH),
        1: ("As agreed", p.GOOD),
        0: ("No benchmark", p.QUIET),
    }
)


def _verdicts(by: str, value: c.Metric, interval: tuple[c.Metric, c.Metric], bounds: tuple[c.Metric, c.Metric]) -> str:
    """Return how values are held against their benchmarks, by the lower and the upper end of their intervals."""
    agreed = f"{on(*bounds[0].labels)} group_left ()"
    (lower, upper), (low, high) = map(series, interval), map(series, bounds)
    return (
        f"max by ({by}) ("
        f"(({upper} < {agreed} {low}) or ({lower} > {agreed} {high})) * 0 + 3"
        f" or (({lower} >= {agreed} {low}) or ({upper} <= {agreed} {high})) * 0 + 1"
        f" or (({upper} >= {agreed} {low}) or ({lower} <= {agreed} {high})) * 0 + 2"
        f" or {series(value)} * 0)"
    )


def _as_metric(outcomes: str) -> str:
    """Return what is said of outcomes under the name of metrics: both are held against a benchmark."""
    return f'label_replace({outcomes}, "metric", "$1", "outcome", "(.+)")'


def _or_outcome(metric: c.Metric, outcome: c.Metric) -> str:
    """Return a series of the metric that is chosen, which may be an outcome."""
    return f"{series(metric, _METRIC)} or {series(outcome, _OUTCOME)}"


def _of_all(metric: str, *outcomes: c.Metric) -> str:
    """Return a value of all metrics, and of outcomes under the name of metrics."""
    rated = " or ".join(_as_metric(series(each)) for each in outcomes)
    return f"max by (instance, metric) ({metric} or {rated})"


_RATED = _as_metric(
    _verdicts(
        "instance, outcome",
        c.OUTCOME_MEAN,
        (c.OUTCOME_MEAN_LOWER, c.OUTCOME_MEAN_UPPER),
        (c.OUTCOME_BENCHMARK_MIN, c.OUTCOME_BENCHMARK_MAX),
    )
)
_MEASURED = _verdicts(
    "instance, metric",
    c.PERFORMANCE,
    (c.PERFORMANCE_LOWER, c.PERFORMANCE_UPPER),
    (c.BENCHMARK_MIN, c.BENCHMARK_MAX),
)
_VERDICT = f"max by (instance, metric) ({_MEASURED} or {_RATED})"

# Metrics with the worst verdict first; those without a benchmark come last.
_METRICS = f"max by (metric) ({_VERDICT}) or max by (metric) ({_REFERENCE} * 0 - 1)"


def _each(metric: c.Metric, *matchers: str) -> str:
    """Return one line for each replica: their samples differ, so that nothing between them means anything."""
    return f"max by (instance) ({series(metric, *matchers)})"


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
            "Share of predictions old enough to have a label that have one (label_delay in the configuration), on the "
            "replica where it is lowest.",
            "percentunit",
            f"min({series(c.LABEL_COVERAGE)})",
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
            "reference data, and the estimate that needs no labels, for each replica. Only where the whole interval is "
            "beyond the benchmark is the model surely worse. The band holds the intervals of all replicas. "
            "Of an outcome it is the mean.",
            "none",
            [
                p.Query(f"max({_or_outcome(c.PERFORMANCE_UPPER, c.OUTCOME_MEAN_UPPER)})", p.UPPER),
                p.Query(f"min({_or_outcome(c.PERFORMANCE_LOWER, c.OUTCOME_MEAN_LOWER)})", p.LOWER),
                p.Query(f"max by (instance) ({_or_outcome(c.PERFORMANCE, c.OUTCOME_MEAN)})", "$metric {{instance}}"),
                p.Query(f"max({_or_outcome(c.BENCHMARK_MIN, c.OUTCOME_BENCHMARK_MIN)})", "Benchmark: at least"),
                p.Query(f"min({_or_outcome(c.BENCHMARK_MAX, c.OUTCOME_BENCHMARK_MAX)})", "Benchmark: at most"),
                p.Query(f"max({series(c.PERFORMANCE_REFERENCE, _METRIC)})", "Reference"),
                p.Query(_each(c.PERFORMANCE_ESTIMATED, _METRIC), "estimated {{instance}}"),
            ],
            empty=_FEW_LABELS,
            size=(13, 10),
            overrides={
                **p.band(),
                "/^$metric /": {"custom.lineWidth": 3},
                "Benchmark: at least": p.line(p.BAD, dashed=True),
                "Benchmark: at most": p.line(p.BAD, dashed=True),
                "Reference": p.line(p.QUIET),
                "/^estimated /": {"custom.lineWidth": 1},
            },
        ),
        p.table_of(
            "Which metrics keep their benchmark?",
            "All metrics and outcomes of this window, on each replica. Follow a metric's link to draw it at the left.",
            [
                _VERDICT,
                _of_all(series(c.PERFORMANCE), c.OUTCOME_MEAN),
                _of_all(_BENCHMARKS, c.OUTCOME_BENCHMARK_MIN, c.OUTCOME_BENCHMARK_MAX),
                f"max by (instance, metric) ({_REFERENCE})",
            ],
            [
                p.Column(
                    "metric",
                    "Metric",
                    least=80,
                    link="/d/mlops-model?var-metric=${__data.fields.Metric}"
                    "&${model:queryparam}&${version:queryparam}&${window:queryparam}&" + p.SHARED_VARIABLES,
                ),
                p.Column("instance", "Instance", width=105),
                p.Column("B", "Now", unit="none", decimals=3, width=62),
                p.Column("C", "Agreed", unit="none", decimals=3, width=62),
                p.Column("D", "Trained", unit="none", decimals=3, width=62),
                p.Column("A", "Verdict", words=_VERDICTS, width=150),
            ],
            empty=_FEW_LABELS,
            size=(11, 10),
            sort="Verdict",
        ),
        p.over_time(
            "Has the relation to the label changed?",
            "Realised minus estimated performance of the same predictions. The estimate knows the drift of the inputs, "
            "so a gap whose interval leaves 0 means that the label itself behaves otherwise (concept drift).",
            "none",
            [
                p.Query(f"max({series(c.PERFORMANCE_GAP_UPPER, _METRIC)})", p.UPPER),
                p.Query(f"min({series(c.PERFORMANCE_GAP_LOWER, _METRIC)})", p.LOWER),
                p.Query(_each(c.PERFORMANCE_GAP, _METRIC), "realised minus estimated {{instance}}"),
            ],
            empty=_NO_ESTIMATE,
            size=(12, 8),
            overrides=p.band(),
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


def _versions() -> list[p.Panel]:
    free = "version"
    everywhere = "max by (instance, version)"
    metric = [
        f"{everywhere} ({series(each, _METRIC, free=free)})"
        for each in (c.PERFORMANCE, c.PERFORMANCE_LOWER, c.PERFORMANCE_UPPER)
    ]
    challenge = "instance, champion, challenger, metric"
    return [
        p.table_of(
            "How do versions compare?",
            "Every version of the model in this window, on each replica: $metric with its 95 % interval, its sample, "
            "and its share of the predictions. The link chooses the version.",
            [
                *metric,
                f"{everywhere} ({series(c.WINDOW_LABELS, free=free)})",
                f"{everywhere} ({series(c.WINDOW_PREDICTIONS, free=free)} > 0)"
                f" / on (instance) group_left () sum by (instance) ({series(c.WINDOW_PREDICTIONS, free=free)} > 0)",
            ],
            [
                p.Column(
                    "version",
                    "Version",
                    least=90,
                    link="/d/mlops-model?var-version=${__data.fields.Version}"
                    "&${model:queryparam}&${metric:queryparam}&${window:queryparam}&" + p.SHARED_VARIABLES,
                ),
                p.Column("instance", "Instance", width=110),
                p.Column("A", "Now", unit="none", decimals=3, width=90),
                p.Column("B", "Low", unit="none", decimals=3, width=65),
                p.Column("C", "High", unit="none", decimals=3, width=65),
                p.Column("D", "Labels", unit="short", width=70),
                p.Column("E", "Traffic", unit="percentunit", decimals=0, width=70),
            ],
            empty=_NO_PREDICTIONS,
            size=(12, 8),
            sort="Version",
        ),
        p.over_time(
            "Is one version better than another?",
            "$metric of every version over time, on each replica.",
            "none",
            [p.Query(metric[0], "{{version}} {{instance}}")],
            empty=_FEW_LABELS,
            size=(12, 8),
        ),
        p.table_of(
            "Does the challenger beat the champion?",
            "Metrics of the challenger less those of the champion on the same events, with their 95 % intervals, for "
            "each replica: they saw different events. Above 0 the challenger has more accuracy, or a larger loss. An "
            "interval that holds 0 decides nothing.",
            [
                f"max by ({challenge}) ({series(each)})"
                for each in (
                    c.CHALLENGER_DIFFERENCE,
                    c.CHALLENGER_DIFFERENCE_LOWER,
                    c.CHALLENGER_DIFFERENCE_UPPER,
                )
            ]
            + [f"max by (instance, champion, challenger) ({series(c.CHALLENGER_WINDOW_PAIRS)})"],
            [
                p.Column("metric", "Metric", least=100),
                p.Column("instance", "Instance", width=110),
                p.Column("champion", "Champion", width=90),
                p.Column("challenger", "Challenger", width=95),
                p.Column("A", "Difference", unit="none", decimals=4, width=90),
                p.Column("B", "Low", unit="none", decimals=4, width=75),
                p.Column("C", "High", unit="none", decimals=4, width=75),
                p.Column("D", "Pairs", unit="short", width=60),
            ],
            empty="No challenger: the model's settings name none, or both have too few events in common.",
            size=(14, 7),
            sort="Metric",
            descending=False,
        ),
        p.over_time(
            "Is the challenger pulling ahead?",
            "Difference of $metric on the same events, challenger less champion, for each replica. The band holds the "
            "95 % intervals of all replicas.",
            "none",
            [
                p.Query(f"max({series(c.CHALLENGER_DIFFERENCE_UPPER, _METRIC)})", p.UPPER),
                p.Query(f"min({series(c.CHALLENGER_DIFFERENCE_LOWER, _METRIC)})", p.LOWER),
                p.Query(_each(c.CHALLENGER_DIFFERENCE, _METRIC), "challenger less champion {{instance}}"),
            ],
            empty="No challenger: the model's settings name none, or both have too few events in common.",
            size=(10, 7),
            overrides=p.band(),
            centered=True,
        ),
    ]


_NO_PROBE = "No probe: the configuration has none for this model, or it has not run yet."
_NO_RETRAINING = "Nothing of this model was retrained, or Prometheus does not scrape `mlops-exporter retrain`."


def _life() -> list[p.Panel]:
    free = "version"
    probed = "max by (probe, version)"
    return [
        p.table_of(
            "How do probes end?",
            "A row for each probe and the version that answered it: the rows that were answered, the share of outputs "
            "that differ from the pinned ones, runs that failed in a row, and the time since all was answered.",
            [
                f"{probed} ({series(c.PROBE_ROWS, free=free)})",
                f"{probed} ({series(c.PROBE_CHANGED, free=free)})",
                f"max by (probe) ({series(c.PROBE_FAILED_PASSES)})",
                f"time() - max by (probe) ({series(c.PROBE_LAST_SUCCESS)})",
            ],
            [
                p.Column("probe", "Probe", least=90),
                p.Column("version", "Version", width=90),
                p.Column("A", "Rows", unit="short", width=65),
                p.Column("B", "Changed", unit="percentunit", decimals=1, width=80),
                p.Column("C", "Failed in a row", unit="none", decimals=0, width=110),
                p.Column("D", "Last success", unit="s", decimals=0, width=105),
            ],
            empty=_NO_PROBE,
            size=(12, 7),
            sort="Changed",
        ),
        p.over_time(
            "Is $metric of probes as agreed?",
            "$metric over the rows of each probe, of every version that answered, and what is agreed (dashed). Rows "
            "that are sent again are no new evidence.",
            "none",
            [
                p.Query(f"{probed} ({series(c.PROBE_PERFORMANCE, _METRIC, free=free)})", "{{probe}} {{version}}"),
                p.Query(f"max({series(c.PROBE_BENCHMARK_MIN, _METRIC)})", "Benchmark: at least"),
                p.Query(f"min({series(c.PROBE_BENCHMARK_MAX, _METRIC)})", "Benchmark: at most"),
            ],
            empty=_NO_PROBE,
            size=(12, 7),
            overrides={
                "Benchmark: at least": p.line(p.BAD, dashed=True),
                "Benchmark: at most": p.line(p.BAD, dashed=True),
            },
        ),
        p.table_of(
            "When was it retrained?",
            "Retraining of this model: how the last one ended, how long ago it began, how many were started, how many "
            "tries failed, how many were given up, whether one runs, and whether it is only written down (dry_run).",
            [
                f"max by (model) ({series(c.RETRAINING_LAST_RESULT)})",
                f"time() - max by (model) ({series(c.RETRAINING_LAST_START)})",
                f"sum by (model) (increase({series(c.RETRAINING_TRIGGERED)}[$__range]))",
                f"sum by (model) (increase({series(c.RETRAINING_FAILURES)}[$__range]))",
                f"sum by (model) (increase({series(c.RETRAINING_DEAD_LETTERS)}[$__range]))",
                f"max by (model) ({series(c.RETRAINING_RUNNING)})",
                f"max by (model) ({series(c.RETRAINING_DRY_RUN)})",
            ],
            [
                p.Column("model", "Model", least=90),
                p.Column("A", "Ended", words=p.Words({1: ("Well", p.GOOD), 0: ("Badly", p.BAD)}), width=70),
                p.Column("B", "Began ago", unit="s", decimals=0, width=90),
                p.Column("C", "Started", unit="none", decimals=0, width=70),
                p.Column("D", "Failed", unit="none", decimals=0, width=60),
                p.Column("E", "Given up", unit="none", decimals=0, width=75),
                p.Column("F", "Now", words=p.Words({1: ("Runs", p.WATCH), 0: ("Idle", p.QUIET)}), width=60),
                p.Column("G", "For show", words=p.Words({1: ("Yes", p.WATCH), 0: ("No", p.QUIET)}), width=75),
            ],
            empty=_NO_RETRAINING,
            size=(12, 7),
            sort="Model",
        ),
        p.over_time(
            "Why is it retrained, or why not?",
            "Decisions on alerts that ask for a retraining, over the last hour: too few reasons (quorum), too soon "
            "(cool_down), running already, or started.",
            "none",
            [p.Query(f"sum by (decision) (increase({series(c.RETRAINING_DECISIONS)}[1h]))", "{{decision}}")],
            empty=_NO_RETRAINING,
            size=(12, 7),
            low=0,
        ),
    ]


def _further_life() -> list[p.Panel]:
    info = f"max by ({TARGET}, version, alias) ({series(c.REGISTRY_VERSION_INFO, free='version')})"
    up = f"max by ({TARGET}) ({series(c.REGISTRY_UP)})"
    age = f"(time() - max by ({TARGET}) ({series(c.REGISTRY_LAST_SUCCESS)}))"
    failures = f"sum by ({TARGET}) (increase({series(c.REGISTRY_FAILURES)}[$__range]))"
    return [
        p.over_time(
            "Do probes get through?",
            "Requests of each probe and passes over all its rows, over the last hour.",
            "short",
            [
                p.Query(f"sum by (probe) (increase({series(c.PROBE_REQUESTS)}[1h]))", "{{probe}} requests"),
                p.Query(f"sum by (probe) (increase({series(c.PROBE_PASSES)}[1h]))", "{{probe}} passes"),
            ],
            empty=_NO_PROBE,
            size=(6, 8),
            low=0,
        ),
        p.over_time(
            "How long does an endpoint take?",
            "Time from a probe's request of a batch to its answer, over the last hour: half and 95 % are faster.",
            "s",
            [
                p.Query(
                    f"histogram_quantile({q}, sum by (le) "
                    f"(increase({series(c.PROBE_REQUEST_DURATION, suffix='_bucket')}[1h])))",
                    f"{q:.0%} of requests",
                )
                for q in (0.5, 0.95)
            ],
            empty=_NO_PROBE,
            size=(6, 8),
            low=0,
        ),
        p.table_of(
            "Which versions does the registry name?",
            "Versions of this model that the registry knows, with their aliases, as each exporter was told: whether "
            "the registry answered it last, how long ago it did (so old are the profiles in use), and how often over "
            "the time range it did not.",
            [
                f"max by (instance, version, alias) ({info})",
                *(f"{info} * 0 + on ({TARGET}) group_left () {of}" for of in (up, age, failures)),
            ],
            [
                p.Column("version", "Version", least=75),
                p.Column("alias", "Alias", width=90),
                p.Column("instance", "Instance", width=105),
                p.Column("B", "Registry", words=p.Words({1: ("Answers", p.GOOD), 0: ("Silent", p.BAD)}), width=80),
                p.Column("C", "Age", unit="s", decimals=0, width=70),
                p.Column("D", "Not answered", unit="none", decimals=0, width=105),
            ],
            empty="The profiles of this model come from no registry.",
            size=(12, 8),
            sort="Version",
        ),
    ]


_NO_BATCHES = "The model predicts all the time: its settings have no cadence."


def _batches() -> list[p.Panel]:
    cadence, deadline = (f"max by (model) ({series(metric)})" for metric in (c.CADENCE, c.BATCH_DEADLINE))
    batched = f"and on (model) ({cadence} > 0)"
    newest = f"max by (model) ({series(c.LAST_PREDICTION, free='version')})"
    return [
        p.table_of(
            "Do its batches come in time?",
            "A model whose job predicts in batches: the longest time between two of them by its cadence, how long ago "
            "the newest prediction was made, and how long until the next batch is late (below 0: it is), whatever "
            "version made them. All windows of such a model hold batches: of a nightly job 1d is the last one, 7d are "
            "the last seven.",
            [
                f"{cadence} > 0",
                f"time() - {newest} {batched}",
                f"{deadline} - time() {batched}",
                f"({deadline} - time() < bool 0) {batched}",
            ],
            [
                p.Column("model", "Model", least=90),
                p.Column("D", "State", words=p.Words({0: ("In time", p.GOOD), 1: ("Late", p.BAD)}), width=85),
                p.Column("A", "At most every", unit="s", decimals=1, width=115),
                p.Column("B", "Newest", unit="s", decimals=1, width=95),
                p.Column("C", "Late in", unit="s", decimals=1, width=95),
            ],
            empty=_NO_BATCHES,
            size=(12, 7),
            sort="Model",
        ),
        p.over_time(
            "How large are its batches?",
            "Predictions that came within the last hour, by version: what a batch brings is a step, up and down again.",
            "short",
            [
                p.Query(
                    f"sum by (version) (increase({series(c.PREDICTIONS, free='version')}[1h]))"
                    f" and on () ({cadence} > 0)",
                    "{{version}}",
                )
            ],
            empty=_NO_BATCHES,
            size=(12, 7),
            low=0,
        ),
    ]


_WORSE = p.Words({1: ("Surely worse", p.BAD), 0: ("Not surely worse", p.QUIET)})
_NO_CLASS_METRIC = "Two classes or none, or $metric is not one of a single class, or too few labels."


def _increase(metric: c.Metric, by: str, *matchers: str) -> str:
    return f"sum by ({by}) (increase({series(metric, *matchers)}[$__range]))"


def _classes() -> list[p.Panel]:
    counts = _increase(c.CONFUSION, "predicted, actual")
    predicted, actual = (
        f'sum by (class) (label_replace({counts}, "class", "$1", "{side}", "(.*)"))'
        f" or {_increase(c.CLASS_CONFUSION, 'class', is_in)}"
        for side, is_in in (("predicted", 'predicted="1"'), ("actual", 'actual="1"'))
    )
    calibrated = _increase(c.CALIBRATION_PREDICTIONS, "bin")
    expected = _increase(c.EXPECTED_CONFUSION, "predicted, actual")
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
        p.over_time(
            "How good is it at each class?",
            "$metric of each class against all others over the window (multiclass, multilabel), on each replica.",
            "none",
            [p.Query(f"max by (instance, class) ({series(c.CLASS_PERFORMANCE, _METRIC)})", "{{class}} {{instance}}")],
            empty=_NO_CLASS_METRIC,
            size=(12, 8),
        ),
        p.table_of(
            "Which classes are worse than in the reference?",
            "$metric of each class in this window, on each replica, beside the reference's. Surely worse is what lost "
            "more than max_drop, with chance allowed for over all classes.",
            [
                f"max by (instance, class) ({series(c.CLASS_WORSE, _METRIC)})",
                f"max by (instance, class) ({series(c.CLASS_PERFORMANCE, _METRIC)})",
                f"max by (instance, class) ({series(c.CLASS_REFERENCE, _METRIC)})",
            ],
            [
                p.Column("A", "Judged", words=_WORSE, width=120),
                p.Column("class", "Class", least=110),
                p.Column("instance", "Instance", width=95),
                p.Column("B", "Now", unit="none", decimals=3, width=75),
                p.Column("C", "Reference", unit="none", decimals=3, width=85),
            ],
            empty=_NO_CLASS_METRIC,
            size=(12, 8),
            sort="Judged",
        ),
        p.over_time(
            "How good will each class be, before labels come?",
            "$metric of each class that can be expected by the calibrated scores over the window, on each replica, and "
            "between which ends (thin).",
            "none",
            [
                p.Query(f"max by (instance, class) ({series(each, _METRIC)})", f"{{{{class}}}} {{{{instance}}}}{end}")
                for each, end in (
                    (c.CLASS_ESTIMATED, ""),
                    (c.CLASS_ESTIMATED_LOWER, " at least"),
                    (c.CLASS_ESTIMATED_UPPER, " at most"),
                )
            ],
            overrides={"/ at (least|most)$/": {"custom.lineWidth": 0.5}},
            empty="Two classes or none, or $metric is not precision, recall or f1, or the profile has no scores.",
            size=(24, 8),
        ),
        p.bars(
            "What is it expected to take for what?",
            "Before labels are in: how often each class is predicted, and how often it is to be expected by the "
            "calibrated probabilities, over the time range.",
            "short",
            {
                "Expected": f'sum by (class) (label_replace({expected}, "class", "$1", "actual", "(.*)"))',
                "Predicted": f'sum by (class) (label_replace({expected}, "class", "$1", "predicted", "(.*)"))',
            },
            by="class",
            empty=_NO_ESTIMATE,
            size=(24, 8),
        ),
    ]


_SLICE_DRIFTED = p.Words({1: ("Drifted", p.BAD), 0: ("As before", p.GOOD)})
_NO_SLICES = "No slices: the model's settings name no segments, or $metric has no benchmark."


def _slices() -> list[p.Panel]:
    by = "instance, segment, slice"
    of_metric = [c.SEGMENT_WORSE, c.SEGMENT_PERFORMANCE, c.SEGMENT_PERFORMANCE_LOWER, c.SEGMENT_PERFORMANCE_UPPER]
    of_estimate = [
        c.SEGMENT_ESTIMATED_WORSE,
        c.SEGMENT_ESTIMATED,
        c.SEGMENT_ESTIMATED_LOWER,
        c.SEGMENT_ESTIMATED_UPPER,
    ]
    predictions = series(c.SEGMENT_WINDOW_PREDICTIONS)
    slices, labels = series(c.SEGMENT_PERFORMANCE, _METRIC), series(c.SEGMENT_WINDOW_LABELS)
    return [
        p.table_of(
            "In which slices is it worse?",
            "$metric of every slice in this window, on each replica, beside the rest of the traffic. Surely worse is "
            "what exceeds the tolerance, and misses the benchmark, with chance allowed for over all slices.",
            [
                *(f"max by ({by}) ({series(each, _METRIC)})" for each in of_metric),
                f"max by ({by}) ({labels})",
                f"max by ({by}) ({predictions} > 0)"
                f" / on (instance, segment) group_left () sum by (instance, segment) ({predictions} > 0)",
            ],
            [
                p.Column("A", "Judged", words=_WORSE, width=120),
                p.Column("segment", "Segment", least=110),
                p.Column("slice", "Slice", least=110),
                p.Column("instance", "Instance", width=95),
                p.Column("B", "Now", unit="none", decimals=3, width=75),
                p.Column("C", "Low", unit="none", decimals=3, width=65),
                p.Column("D", "High", unit="none", decimals=3, width=65),
                p.Column("E", "Labels", unit="short", width=70),
                p.Column("F", "Traffic", unit="percentunit", decimals=1, width=75),
            ],
            empty=_NO_SLICES,
            size=(16, 9),
            sort="Judged",
        ),
        p.over_time(
            "How do the slices go?",
            "$metric of the ten slices with the most labels in this window, on each replica.",
            "none",
            [
                p.Query(
                    f"{slices} and on (instance, segment, slice) topk by (instance) (10, {labels})",
                    "{{segment}}={{slice}} {{instance}}",
                )
            ],
            empty=_NO_SLICES,
            size=(8, 9),
        ),
        p.table_of(
            "Where will it be worse, before labels come?",
            "$metric that can be expected of every slice in this window, on each replica, and how far its scores or "
            "predictions are from those of the reference's rows of that slice. Both with chance allowed for over all "
            "slices.",
            [
                f"max by ({by}) ({series(of_estimate[0], _METRIC)} and on ({by}) {predictions} > 0)",
                *(f"max by ({by}) ({series(each, _METRIC)})" for each in of_estimate[1:]),
                *(f"max by ({by}) ({series(each)})" for each in (c.SEGMENT_DRIFTED, c.SEGMENT_DRIFT)),
                f"max by ({by}) ({series(c.SEGMENT_DRIFT_THRESHOLD)})",
                f"max by ({by}) ({predictions} > 0)",
            ],
            [
                p.Column("A", "Expected", words=_WORSE, width=120),
                p.Column("E", "What it says", words=_SLICE_DRIFTED, width=120),
                p.Column("segment", "Segment", least=110),
                p.Column("slice", "Slice", least=110),
                p.Column("instance", "Instance", width=95),
                p.Column("B", "Estimated", unit="none", decimals=3, width=85),
                p.Column("C", "Low", unit="none", decimals=3, width=65),
                p.Column("D", "High", unit="none", decimals=3, width=65),
                p.Column("F", "Drift", unit="none", decimals=3, width=70),
                p.Column("G", "Threshold", unit="none", decimals=3, width=85),
                p.Column("H", "Predictions", unit="short", width=90),
            ],
            empty=_NO_SLICES,
            size=(24, 9),
            sort="Expected",
        ),
    ]


_MISSED = p.Words({1: ("Misses its benchmark", p.BAD), 0: ("Keeps its benchmark", p.GOOD)})
_NO_LISTS = "No ranked lists in the time range that are final."
_NO_OUTCOMES = "No outcomes: the model's settings name none, or too few values came in this window."


def _outcomes() -> list[p.Panel]:
    by = "instance, outcome"
    of_window = [c.OUTCOME_MEAN, c.OUTCOME_MEAN_LOWER, c.OUTCOME_MEAN_UPPER, c.OUTCOME_DEVIATION]
    agreed = f"{series(c.OUTCOME_BENCHMARK_MIN)} or {series(c.OUTCOME_BENCHMARK_MAX)}"
    return [
        p.table_of(
            "How are its answers rated?",
            "Mean of every outcome in this window, on each replica, with its 95 % interval. It misses its benchmark "
            "where the whole interval lies beyond, with chance allowed for.",
            [
                f"max by ({by}) ({series(c.OUTCOME_WINDOW_VALUES)})",
                *(f"max by ({by}) ({series(each)})" for each in of_window),
                f"max by ({by}) ({agreed})",
                f"max by ({by}) ({series(c.OUTCOME_BENCHMARK_MISSED)})",
            ],
            [
                p.Column("outcome", "Outcome", least=110),
                p.Column("G", "Judged", words=_MISSED, width=150),
                p.Column("instance", "Instance", width=95),
                p.Column("B", "Mean", unit="none", decimals=3, width=75),
                p.Column("C", "Low", unit="none", decimals=3, width=75),
                p.Column("D", "High", unit="none", decimals=3, width=75),
                p.Column("E", "Spread", unit="none", decimals=3, width=75),
                p.Column("F", "Agreed", unit="none", decimals=3, width=75),
                p.Column("A", "Values", unit="short", width=75),
            ],
            empty=_NO_OUTCOMES,
            size=(16, 8),
            sort="Outcome",
            descending=False,
        ),
        p.over_time(
            "How do its ratings go?",
            "Mean of every outcome in this window, on each replica: choose one in the legend to see it alone.",
            "none",
            [p.Query(f"max by ({by}) ({series(c.OUTCOME_MEAN)})", "{{outcome}} {{instance}}")],
            empty=_NO_OUTCOMES,
            size=(8, 8),
        ),
        p.over_time(
            "How strong is the evidence that ratings changed?",
            "Natural logarithm of the anytime-valid evidence that a mean is not the reference's, or, without one, "
            "worse than agreed; above its threshold (dashed) chance is ruled out, however often one looks.",
            "none",
            [
                p.Query(f"max by (outcome) ({series(c.OUTCOME_CHANGE_EVIDENCE)})", "{{outcome}}"),
                p.Query(f"max by (outcome) ({series(c.OUTCOME_CHANGE_THRESHOLD)})", "Threshold for {{outcome}}"),
            ],
            empty="No evidence: the profile holds no such outcome and none has a benchmark, or no value has come.",
            size=(12, 8),
            overrides={"/^Threshold/": p.line(p.BAD, dashed=True)},
        ),
        p.over_time(
            "Do ratings drift?",
            "How many times its own threshold the worst statistic of each outcome is in this window: from 1 on chance "
            "is unlikely to have made it.",
            "none",
            [
                p.Query(
                    f"max by (outcome) ({series(c.OUTCOME_DRIFT)} / {series(c.OUTCOME_DRIFT_THRESHOLD)})",
                    "{{outcome}}",
                )
            ],
            empty="Too few values in the window, or the profile holds no distribution of them.",
            size=(12, 8),
            low=0,
        ),
        p.over_time(
            "Do ratings find their answers?",
            "Per second: values that were counted, that found no answer, and that were received twice or anew.",
            "cps",
            [
                p.Query(f"sum by (outcome) ({rate(c.OUTCOME_VALUES)})", "{{outcome}} counted"),
                p.Query(f"sum by (outcome) ({rate(c.OUTCOME_UNMATCHED)})", "{{outcome}} without an answer"),
                p.Query(f"sum by (outcome) ({rate(c.OUTCOME_DUPLICATE)})", "{{outcome}} received twice"),
                p.Query(f"sum by (outcome) ({rate(c.OUTCOME_CORRECTED)})", "{{outcome}} corrected"),
            ],
            empty=_NO_OUTCOMES,
            size=(24, 7),
            low=0,
        ),
    ]


def _lists() -> list[p.Panel]:
    shown, relevant = (_increase(each, "position") for each in (c.RANKING_SHOWN, c.RANKING_RELEVANT))
    return [
        p.bars(
            "Which positions are found relevant?",
            "Of the lists of the time range that are final: the share of the items at each position that turned out to "
            "be relevant. It falls by what people look at, too, not by quality alone.",
            "percentunit",
            {"Found relevant": f"{relevant} / ({shown} > 0)"},
            by="position",
            empty=_NO_LISTS,
            size=(12, 8),
        ),
        p.over_time(
            "How good are its lists, by the counters?",
            "Mean of each metric over the lists that became final, of all replicas together.",
            "none",
            [
                p.Query(
                    f"sum by (metric) ({rate(c.RANKING_SUM)}) / on () group_left () sum({rate(c.LABELS)})",
                    "{{metric}}",
                )
            ],
            empty=_NO_LISTS,
            size=(12, 8),
            low=0,
        ),
    ]


def _errors() -> list[p.Panel]:
    labels = f"sum({rate(c.LABELS)})"
    predictions = f"(sum({rate(c.PREDICTIONS)}) > 0)"
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
            "1.25 times is what normally distributed errors give. What is expected needs no labels: it is of all "
            "predictions.",
            "none",
            [
                p.Query(f"sqrt(sum({rate(c.SQUARED_ERROR_SUM)}) / {labels})", "Root mean square error"),
                p.Query(f"sum({rate(c.ABSOLUTE_ERROR_SUM)}) / {labels}", "Mean absolute error"),
                p.Query(
                    f"sqrt(sum({rate(c.EXPECTED_SQUARED_ERROR_SUM)}) / {predictions})", "Expected root mean square"
                ),
                p.Query(f"sum({rate(c.EXPECTED_ABSOLUTE_ERROR_SUM)}) / {predictions}", "Expected mean absolute"),
            ],
            empty=_NO_ERRORS,
            size=(12, 8),
            low=0,
        ),
    ]


_NO_HORIZONS = "No horizons: the model does not forecast, or too few labels came in this window."
_NO_QUANTILES = "No quantiles: the profile was built without, or too few labels came in this window."


def _forecasts() -> list[p.Panel]:
    by = "instance, horizon"

    def of(metric: str) -> str:
        found = series(c.HORIZON_PERFORMANCE, f'metric="{metric}"')
        return f"max by ({by}) ({found})"

    level = "instance, level"
    errors, labels = (rate(each) for each in (c.HORIZON_ABSOLUTE_ERROR, c.HORIZON_LABELS))
    below, strictly = (
        series(c.QUANTILE_PERFORMANCE, f'metric="{share}"') for share in ("share_below", "share_strictly_below")
    )
    return [
        p.table_of(
            "How good is each horizon?",
            "$metric of each horizon in this window, on each replica, with its 95 % interval. Skill is the share by "
            "which errors are smaller than the naive forecast's; coverage is that of the widest announced interval.",
            [
                f"max by ({by}) ({series(c.HORIZON_WINDOW_LABELS)})",
                *(
                    f"max by ({by}) ({series(each, _METRIC)})"
                    for each in (
                        c.HORIZON_PERFORMANCE,
                        c.HORIZON_PERFORMANCE_LOWER,
                        c.HORIZON_PERFORMANCE_UPPER,
                    )
                ),
                of("skill"),
                of("coverage"),
            ],
            [
                p.Column("horizon", "Horizon", least=110),
                p.Column("instance", "Instance", width=95),
                p.Column("B", "Value", unit="none", decimals=3, width=75),
                p.Column("C", "Low", unit="none", decimals=3, width=75),
                p.Column("D", "High", unit="none", decimals=3, width=75),
                p.Column("E", "Skill", unit="none", decimals=3, width=75),
                p.Column("F", "Coverage", unit="percentunit", decimals=1, width=85),
                p.Column("A", "Labels", unit="short", width=75),
            ],
            empty=_NO_HORIZONS,
            size=(14, 8),
            sort="Horizon",
            descending=False,
        ),
        p.over_time(
            "How do errors grow with the horizon?",
            "Mean absolute error of each horizon, over all replicas, as labels come.",
            "none",
            [p.Query(f"sum by (horizon) ({errors}) / (sum by (horizon) ({labels}) > 0)", "{{horizon}}")],
            empty=_NO_HORIZONS,
            size=(10, 8),
            low=0,
        ),
        p.table_of(
            "Do announced intervals hold?",
            "Share of labels inside each announced interval in this window, on each replica, with its 95 % interval. "
            "It should be the level, or more where labels are on the ends, as counts are.",
            [
                f"max by ({level}) ({series(each)})"
                for each in (c.INTERVAL_COVERAGE, c.INTERVAL_COVERAGE_LOWER, c.INTERVAL_COVERAGE_UPPER)
            ],
            [
                p.Column("level", "Level", least=110),
                p.Column("instance", "Instance", width=95),
                p.Column("A", "Covered", unit="percentunit", decimals=1, width=85),
                p.Column("B", "Low", unit="percentunit", decimals=1, width=75),
                p.Column("C", "High", unit="percentunit", decimals=1, width=75),
            ],
            empty=_NO_QUANTILES,
            size=(10, 8),
            sort="Level",
        ),
        p.over_time(
            "How many labels lie below each quantile?",
            "Share of labels below each announced quantile in this window, and of those at or below it. The quantile's "
            "level should lie between the two; without ties they are one.",
            "percentunit",
            [
                p.Query(f"max by (instance, quantile) ({below})", "≤ {{quantile}} {{instance}}"),
                p.Query(f"max by (instance, quantile) ({strictly})", "< {{quantile}} {{instance}}"),
            ],
            empty=_NO_QUANTILES,
            size=(14, 8),
            low=0,
            high=1,
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
            "Share of the predictions made in the window, of those old enough, that have their label, on the replica "
            "where it is lowest; of a model with a cadence, of its newest batches that are old enough.",
            "percentunit",
            [p.Query(f"min by (window) ({series(c.LABEL_COVERAGE, free='window')})", "{{window}}")],
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
        p.over_time(
            "How many independent events is the window worth?",
            "Neighbours in time that resemble each other say less than independent events do: intervals and thresholds "
            "are made of this many. Far below the sample, a longer window suits better.",
            "short",
            [
                p.Query(f"sum({series(c.EFFECTIVE_PREDICTIONS)})", "Predictions"),
                p.Query(f"sum({series(c.EFFECTIVE_LABELS)})", "Labels"),
            ],
            empty=_NO_PREDICTIONS,
            size=(24, 6),
            low=0,
        ),
        p.over_time(
            "What waits for its other half?",
            "Predictions that wait for their label, and labels that came before their prediction and wait for it.",
            "short",
            [
                p.Query(f"sum({series(c.PENDING_PREDICTIONS)})", "Predictions"),
                p.Query(f"sum({series(c.PENDING_LABELS)})", "Labels"),
            ],
            empty="Nothing waits.",
            size=(24, 6),
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
            p.worst_first("metric", _METRICS),
        ],
        {
            "": _head(),
            "Is it as good as agreed?": _performance(),
            "How are its answers rated?": _outcomes(),
            "Versions side by side": _versions(),
            "Where is it wrong? (classification)": _classes(),
            "Where is it wrong? (regression)": _errors(),
            "How far ahead is it right? (forecast)": _forecasts(),
            "Where is it wrong? (ranking)": _lists(),
            "Where is it wrong? (slices)": _slices(),
            "Labels, failures, latency": _labels_and_service(),
            "Probes, retraining, registry and batches": [*_life(), *_further_life(), *_batches()],
        },
        matchers=',model="$model"',
        one_environment=True,
        # What few models have: open, they were a quarter of the page, and empty for most.
        folded={
            "How are its answers rated?",
            "How far ahead is it right? (forecast)",
            "Where is it wrong? (ranking)",
            "Where is it wrong? (slices)",
        },
    )
