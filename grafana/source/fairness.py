"""Dashboard "Fairness": how a model treats groups of people, side by side."""

from grafana_foundation_sdk.models import dashboard as model

from grafana.source import panels as p
from grafana.source.promql import EXPORTER, on, series
from mlops_exporter.exposition import catalogue as c

_NOT_SET_UP = (
    "No groups: fairness.attributes is not configured for this model, or no group has fairness.min_group_size events."
)
_METRIC = 'metric="$group_metric"'
_UNKNOWN = 'group="unknown"'
_FAIR = 'metric="$fairness_metric"'

_AGREED = f"{on('model', 'metric')} group_left ()"
_VERDICTS = p.Words(
    {
        3: ("Outside the benchmark", p.BAD),
        2: ("Cannot be told", p.WATCH),
        1: ("Within the benchmark", p.GOOD),
        0: ("No benchmark", p.QUIET),
    }
)


def _verdict(keep: str, free: str = "") -> str:
    """Return the worst verdict for each set of the labels `keep`."""
    low, high = series(c.FAIRNESS_LOWER, free=free), series(c.FAIRNESS_UPPER, free=free)
    return (
        f"max by ({keep}) ("
        f"(({high} < {_AGREED} {_MIN}) or ({low} > {_AGREED} {_MAX})) * 0 + 3"
        f" or (({low} >= {_AGREED} {_MIN}) or ({high} <= {_AGREED} {_MAX})) * 0 + 1"
        f" or (({high} >= {_AGREED} {_MIN}) or ({low} <= {_AGREED} {_MAX})) * 0 + 2"
        f" or {series(c.FAIRNESS, free=free)} * 0)"
    )


_MIN, _MAX = series(c.FAIRNESS_BENCHMARK_MIN), series(c.FAIRNESS_BENCHMARK_MAX)
_VERDICT = _verdict("instance, metric")


def _by_metric(metric: c.Metric) -> str:
    return f"max by (instance, metric) ({series(metric)})"


def _by_group(metric: c.Metric, *matchers: str) -> str:
    return f"max by (instance, group) ({series(metric, *matchers)})"


def _sum_by_group(metric: c.Metric) -> str:
    return f"sum by (group) ({series(metric)})"


def _of_replica(metric: c.Metric) -> str:
    return f"sum by (instance, group) ({series(metric)})"


def _head() -> list[p.Panel]:
    present = f"({_sum_by_group(c.GROUP_WINDOW_PREDICTIONS)} > 0)"
    return [
        p.number(
            "Does it keep its fairness benchmarks?",
            "The worst verdict over all fairness metrics of this attribute and window. **Outside**: even the better "
            "end of the 95 % interval is beyond the benchmark. **Cannot be told**: the interval contains it.",
            "none",
            f"max({_VERDICT})",
            empty=_NOT_SET_UP,
            size=(9, 4),
            words=_VERDICTS,
        ),
        p.number(
            "How many groups are there?",
            "Groups with predictions in the window; unknown and other count as one each.",
            "none",
            f"count({present})",
            empty="None",
            size=(5, 4),
        ),
        p.number(
            "How large is the smallest?",
            "Predictions of the smallest group in the window. Groups below fairness.min_group_size are not compared.",
            "short",
            f"min({present})",
            empty="No group",
            size=(5, 4),
        ),
        p.number(
            "Of whom is it unknown?",
            "Share of the window's predictions without a value for this attribute.",
            "percentunit",
            f"sum({series(c.GROUP_WINDOW_PREDICTIONS, _UNKNOWN)}) / (sum({series(c.GROUP_WINDOW_PREDICTIONS)}) > 0)",
            empty="No predictions",
            size=(5, 4),
            decimals=1,
        ),
    ]


def _metrics() -> list[p.Panel]:
    return [
        p.table_of(
            "Which fairness metrics keep their benchmark?",
            "Difference, or ratio, between the two groups that are furthest apart, with its 95 % interval, which "
            "allows for the number of groups, on each replica. A difference is fair at 0, a ratio at 1.",
            [
                _VERDICT,
                _by_metric(c.FAIRNESS),
                _by_metric(c.FAIRNESS_LOWER),
                _by_metric(c.FAIRNESS_UPPER),
                f"max by (instance, metric) ({_MIN} and on (instance, metric) {series(c.FAIRNESS)})",
                f"max by (instance, metric) ({_MAX} and on (instance, metric) {series(c.FAIRNESS)})",
            ],
            [
                p.Column(
                    "metric",
                    "Metric",
                    least=220,  # demographic_parity_difference and …_ratio differ at their ends
                    link="/d/mlops-fairness?var-fairness_metric=${__data.fields.Metric}&${model:queryparam}"
                    "&${version:queryparam}&${window:queryparam}&${attribute:queryparam}&" + p.SHARED_VARIABLES,
                ),
                p.Column("instance", "Instance", width=105),
                p.Column("B", "Now", unit="none", decimals=3, width=60),
                p.Column("C", "Low", unit="none", decimals=3, width=60),
                p.Column("D", "High", unit="none", decimals=3, width=60),
                p.Column("E", "At least", unit="none", decimals=3, width=66),
                p.Column("F", "At most", unit="none", decimals=3, width=66),
                p.Column("A", "Verdict", words=_VERDICTS, width=168),
            ],
            empty=_NOT_SET_UP,
            size=(16, 9),
            sort="Verdict",
        ),
        p.over_time(
            "How fair is it over time?",
            "The chosen fairness metric on each replica, and its benchmark (dashed). The band holds the 95 % intervals "
            "of all replicas.",
            "none",
            [
                p.Query(f"max({series(c.FAIRNESS_UPPER, _FAIR)})", p.UPPER),
                p.Query(f"min({series(c.FAIRNESS_LOWER, _FAIR)})", p.LOWER),
                p.Query(f"max by (instance) ({series(c.FAIRNESS, _FAIR)})", "$fairness_metric {{instance}}"),
                p.Query(f"max({series(c.FAIRNESS_BENCHMARK_MIN, _FAIR)})", "Benchmark: at least"),
                p.Query(f"min({series(c.FAIRNESS_BENCHMARK_MAX, _FAIR)})", "Benchmark: at most"),
            ],
            empty=_NOT_SET_UP,
            size=(8, 9),
            overrides={
                **p.band(),
                "/^$fairness_metric /": {"custom.lineWidth": 3},
                "Benchmark: at least": p.line(p.BAD, dashed=True),
                "Benchmark: at most": p.line(p.BAD, dashed=True),
            },
        ),
    ]


def _one_replica(metric: c.Metric, *matchers: str) -> str:
    """Return a metric by group on the replica that has most predictions: bars have no room for all."""
    sizes = f"sum by (instance) ({series(c.GROUP_WINDOW_PREDICTIONS)})"
    return f"max by (group) ({series(metric, *matchers)} and on (instance) topk(1, {sizes}))"


def _groups() -> list[p.Panel]:
    sizes = _of_replica(c.GROUP_WINDOW_PREDICTIONS)
    return [
        p.table_of(
            "How is each group treated?",
            "A row for each group: its predictions and labels in the window, the share that got the favourable "
            "outcome, and the chosen performance, each with its 95 % interval, on each replica. Overlap is no "
            "difference.",
            [
                f"{sizes} > 0",
                f"{_of_replica(c.GROUP_WINDOW_LABELS)} and on (instance, group) ({sizes} > 0)",
                _by_group(c.GROUP_SELECTION),
                _by_group(c.GROUP_SELECTION_LOWER),
                _by_group(c.GROUP_SELECTION_UPPER),
                _by_group(c.GROUP_PERFORMANCE, _METRIC),
                _by_group(c.GROUP_PERFORMANCE_LOWER, _METRIC),
                _by_group(c.GROUP_PERFORMANCE_UPPER, _METRIC),
            ],
            [
                p.Column("group", "Group", least=120),
                p.Column("instance", "Instance", width=130),
                p.Column("A", "Predictions", unit="short", width=100),
                p.Column("B", "Labels", unit="short", width=90),
                p.Column("C", "Favourable", unit="percentunit", decimals=1, width=105),
                p.Column("D", "Low", unit="percentunit", decimals=1, width=85),
                p.Column("E", "High", unit="percentunit", decimals=1, width=85),
                p.Column("F", "Performance", unit="none", decimals=3, width=110),
                p.Column("G", "Low ", unit="none", decimals=3, width=85),
                p.Column("H", "High ", unit="none", decimals=3, width=85),
            ],
            empty=_NOT_SET_UP,
            size=(24, 8),
            sort="Predictions",
        ),
        p.bars(
            "Who gets the favourable outcome?",
            "Share of each group's predictions that are favourable, between the ends of its 95 % interval, on the "
            "replica with most predictions.",
            "percentunit",
            {
                "Low (95 %)": _one_replica(c.GROUP_SELECTION_LOWER),
                "Favourable": _one_replica(c.GROUP_SELECTION),
                "High (95 %)": _one_replica(c.GROUP_SELECTION_UPPER),
            },
            by="group",
            empty=_NOT_SET_UP + " A regression has no favourable outcome.",
            size=(12, 9),
            colors=(p.QUIET, p.NEUTRAL, p.SKY),
        ),
        p.bars(
            "For whom does it work ($group_metric)?",
            "The chosen performance of each group, between the ends of its 95 % interval, on the replica with most "
            "predictions.",
            "none",
            {
                "Low (95 %)": _one_replica(c.GROUP_PERFORMANCE_LOWER, _METRIC),
                "Performance": _one_replica(c.GROUP_PERFORMANCE, _METRIC),
                "High (95 %)": _one_replica(c.GROUP_PERFORMANCE_UPPER, _METRIC),
            },
            by="group",
            empty=_NOT_SET_UP,
            size=(12, 9),
            colors=(p.QUIET, p.NEUTRAL, p.SKY),
        ),
        p.over_time(
            "Does the favourable share move apart?",
            "Share of each group's predictions that are favourable.",
            "percentunit",
            [p.Query(_by_group(c.GROUP_SELECTION), "{{group}} {{instance}}")],
            empty=_NOT_SET_UP + " A regression has no favourable outcome.",
            size=(8, 8),
        ),
        p.over_time(
            "Does $group_metric move apart?",
            "The chosen performance of each group.",
            "none",
            [p.Query(_by_group(c.GROUP_PERFORMANCE, _METRIC), "{{group}} {{instance}}")],
            empty=_NOT_SET_UP,
            size=(8, 8),
        ),
        p.over_time(
            "Who is in the traffic?",
            "Predictions of each group in the window.",
            "short",
            [p.Query(_sum_by_group(c.GROUP_WINDOW_PREDICTIONS), "{{group}}")],
            empty=_NOT_SET_UP,
            size=(8, 8),
            low=0,
        ),
    ]


def _of_range(metric: c.Metric, keep: str = "group") -> str:
    return f"sum by ({keep}) (increase({series(metric)}[$__range]))"


def _over_replicas() -> list[p.Panel]:
    """Return what counters tell: of all replicas together, over any range."""
    confusion, classified = _of_range(c.GROUP_CONFUSION, "group, predicted, actual"), _of_range(c.GROUP_CONFUSION)
    labels = f"({_of_range(c.GROUP_LABELS)} > 0)"
    return [
        p.table_of(
            "What was each group's outcome?",
            "Labelled predictions over the time range, of all replicas together, by group, predicted and actual class, "
            "and their share of the group's.",
            [f"{confusion} > 0", f"({confusion} > 0) / on (group) group_left () ({classified} > 0)"],
            [
                p.Column("group", "Group", least=120),
                p.Column("predicted", "Predicted", width=110),
                p.Column("actual", "Actual", width=110),
                p.Column("A", "Labels", unit="none", decimals=0, width=90),
                p.Column("B", "Share", unit="percentunit", decimals=1, width=90),
            ],
            empty=_NOT_SET_UP + " A regression has no classes.",
            size=(12, 9),
            sort="Share",
        ),
        p.table_of(
            "How large are each group's errors?",
            "Mean absolute error over the time range, of all replicas together, by group, and how much of it is too "
            "high and too low (regression).",
            [
                _of_range(c.GROUP_LABELS),
                f"{_of_range(c.GROUP_ABSOLUTE_ERROR_SUM)} / {labels}",
                f"{_of_range(c.GROUP_OVERPREDICTION_SUM)} / {labels}",
                f"{_of_range(c.GROUP_UNDERPREDICTION_SUM)} / {labels}",
            ],
            [
                p.Column("group", "Group", least=120),
                p.Column("A", "Labels", unit="none", decimals=0, width=90),
                p.Column("B", "Mean error", unit="none", decimals=3, width=100),
                p.Column("C", "Too high", unit="none", decimals=3, width=90),
                p.Column("D", "Too low", unit="none", decimals=3, width=90),
            ],
            empty=_NOT_SET_UP + " A classification has no errors in units.",
            size=(12, 9),
            sort="Mean error",
        ),
    ]


def build() -> model.Dashboard:
    """Return the dashboard."""
    of_model = f'{EXPORTER},model="$model",version="$version"'
    sizes = f"{c.GROUP_WINDOW_PREDICTIONS.name}{{{of_model}}}"
    return p.dashboard(
        "mlops-fairness",
        "How a model treats groups of people: sizes, outcomes and performance side by side, with intervals.",
        [
            *p.model_variables(c.GROUP_WINDOW_PREDICTIONS),
            p.window_variable(),
            p.worst_first("attribute", f"{_verdict('attribute', 'attribute')} or max by (attribute) ({sizes} * 0 - 1)"),
            p.worst_first("fairness_metric", _verdict("metric"), "Fairness metric", "metric"),
            p.variable(
                "group_metric", f"label_values({series(c.GROUP_PERFORMANCE)}, metric)", label="Performance of groups"
            ),
        ],
        {
            "": _head(),
            "Between groups": _metrics(),
            "Group by group": _groups(),
            "All replicas together": _over_replicas(),
        },
        matchers=',model="$model"',
        one_environment=True,
    )
