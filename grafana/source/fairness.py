"""Dashboard "Fairness": how a model treats groups of people, side by side."""

from grafana_foundation_sdk.models import dashboard as model

from grafana.source import panels as p
from grafana.source.promql import EXPORTER, series
from mlops_exporter.exposition import catalogue as c

_NOT_SET_UP = (
    "No groups: fairness.attributes is not configured for this model, or no group has fairness.min_group_size events."
)
_METRIC = 'metric="$group_metric"'
_UNKNOWN = 'group="unknown"'
_FAIR = 'metric="$metric"'

_AGREED = "on (job, instance, model, metric) group_left ()"
_VERDICTS = p.Words(
    {
        3: ("Outside the benchmark", p.BAD),
        2: ("Cannot be told", p.WATCH),
        1: ("Within the benchmark", p.GOOD),
        0: ("No benchmark", p.QUIET),
    }
)
_LOW, _HIGH = series(c.FAIRNESS_LOWER), series(c.FAIRNESS_UPPER)
_MIN, _MAX = series(c.FAIRNESS_BENCHMARK_MIN), series(c.FAIRNESS_BENCHMARK_MAX)
_VERDICT = (
    "max by (metric) ("
    f"(({_HIGH} < {_AGREED} {_MIN}) or ({_LOW} > {_AGREED} {_MAX})) * 0 + 3"
    f" or (({_LOW} >= {_AGREED} {_MIN}) or ({_HIGH} <= {_AGREED} {_MAX})) * 0 + 1"
    f" or (({_HIGH} >= {_AGREED} {_MIN}) or ({_LOW} <= {_AGREED} {_MAX})) * 0 + 2"
    f" or {series(c.FAIRNESS)} * 0)"
)


def _by_metric(metric: c.Metric) -> str:
    return f"avg by (metric) ({series(metric)})"


def _by_group(metric: c.Metric, *matchers: str) -> str:
    return f"avg by (group) ({series(metric, *matchers)})"


def _sum_by_group(metric: c.Metric) -> str:
    return f"sum by (group) ({series(metric)})"


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
            "allows for the number of groups. A difference is fair at 0, a ratio at 1.",
            [
                _VERDICT,
                _by_metric(c.FAIRNESS),
                _by_metric(c.FAIRNESS_LOWER),
                _by_metric(c.FAIRNESS_UPPER),
                f"avg by (metric) ({_MIN} and on (metric) {series(c.FAIRNESS)})",
                f"avg by (metric) ({_MAX} and on (metric) {series(c.FAIRNESS)})",
            ],
            [
                p.Column("metric", "Metric", least=120),
                p.Column("B", "Now", unit="none", decimals=3, width=70),
                p.Column("C", "Low (95 %)", unit="none", decimals=3, width=90),
                p.Column("D", "High (95 %)", unit="none", decimals=3, width=92),
                p.Column("E", "At least", unit="none", decimals=3, width=78),
                p.Column("F", "At most", unit="none", decimals=3, width=78),
                p.Column("A", "Verdict", words=_VERDICTS, width=165),
            ],
            empty=_NOT_SET_UP,
            size=(14, 9),
            sort="Verdict",
        ),
        p.over_time(
            "How fair is it over time?",
            "The chosen fairness metric with its 95 % interval and its benchmark (dashed).",
            "none",
            [
                p.Query(f"avg({series(c.FAIRNESS_UPPER, _FAIR)})", p.UPPER),
                p.Query(f"avg({series(c.FAIRNESS_LOWER, _FAIR)})", p.LOWER),
                p.Query(f"avg({series(c.FAIRNESS, _FAIR)})", "$metric"),
                p.Query(f"max({series(c.FAIRNESS_BENCHMARK_MIN, _FAIR)})", "Benchmark: at least"),
                p.Query(f"min({series(c.FAIRNESS_BENCHMARK_MAX, _FAIR)})", "Benchmark: at most"),
            ],
            empty=_NOT_SET_UP,
            size=(10, 9),
            overrides={
                **p.band(),
                "$metric": p.line(p.NEUTRAL, width=3),
                "Benchmark: at least": p.line(p.BAD, dashed=True),
                "Benchmark: at most": p.line(p.BAD, dashed=True),
            },
        ),
    ]


def _groups() -> list[p.Panel]:
    return [
        p.table_of(
            "How is each group treated?",
            "A row for each group: its predictions and labels in the window, the share that got the favourable "
            "outcome, and the chosen performance, each with its 95 % interval. Overlap is no difference.",
            [
                _sum_by_group(c.GROUP_WINDOW_PREDICTIONS) + " > 0",
                _sum_by_group(c.GROUP_WINDOW_LABELS),
                _by_group(c.GROUP_SELECTION),
                _by_group(c.GROUP_SELECTION_LOWER),
                _by_group(c.GROUP_SELECTION_UPPER),
                _by_group(c.GROUP_PERFORMANCE, _METRIC),
                _by_group(c.GROUP_PERFORMANCE_LOWER, _METRIC),
                _by_group(c.GROUP_PERFORMANCE_UPPER, _METRIC),
            ],
            [
                p.Column("group", "Group", least=120),
                p.Column("A", "Predictions", unit="short", width=100),
                p.Column("B", "Labels", unit="short", width=90),
                p.Column("C", "Favourable", unit="percentunit", decimals=1, width=105),
                p.Column("D", "Low", unit="percentunit", decimals=1, width=85),
                p.Column("E", "High", unit="percentunit", decimals=1, width=85),
                p.Column("F", "$group_metric", unit="none", decimals=3, width=140),
                p.Column("G", "Low ", unit="none", decimals=3, width=85),
                p.Column("H", "High ", unit="none", decimals=3, width=85),
            ],
            empty=_NOT_SET_UP,
            size=(24, 8),
            sort="Predictions",
        ),
        p.bars(
            "Who gets the favourable outcome?",
            "Share of each group's predictions that are favourable, between the ends of its 95 % interval.",
            "percentunit",
            {
                "Low (95 %)": _by_group(c.GROUP_SELECTION_LOWER),
                "Favourable": _by_group(c.GROUP_SELECTION),
                "High (95 %)": _by_group(c.GROUP_SELECTION_UPPER),
            },
            by="group",
            empty=_NOT_SET_UP + " A regression has no favourable outcome.",
            size=(12, 9),
            colors=(p.QUIET, p.NEUTRAL, p.SKY),
        ),
        p.bars(
            "For whom does it work ($group_metric)?",
            "The chosen performance of each group, between the ends of its 95 % interval.",
            "none",
            {
                "Low (95 %)": _by_group(c.GROUP_PERFORMANCE_LOWER, _METRIC),
                "$group_metric": _by_group(c.GROUP_PERFORMANCE, _METRIC),
                "High (95 %)": _by_group(c.GROUP_PERFORMANCE_UPPER, _METRIC),
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
            [p.Query(_by_group(c.GROUP_SELECTION), "{{group}}")],
            empty=_NOT_SET_UP + " A regression has no favourable outcome.",
            size=(8, 8),
        ),
        p.over_time(
            "Does $group_metric move apart?",
            "The chosen performance of each group.",
            "none",
            [p.Query(_by_group(c.GROUP_PERFORMANCE, _METRIC), "{{group}}")],
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


def build() -> model.Dashboard:
    """Return the dashboard."""
    of_model = f'{EXPORTER},model="$model",version="$version"'
    sizes = f"{c.GROUP_WINDOW_PREDICTIONS.name}{{{of_model}}}"
    return p.dashboard(
        "mlops-fairness",
        "How a model treats groups of people: sizes, outcomes and performance side by side, with intervals.",
        [
            *p.model_variables(),
            p.window_variable(),
            p.variable("attribute", f"label_values({sizes}, attribute)"),
            p.variable("metric", f"label_values({series(c.FAIRNESS)}, metric)", label="Fairness metric"),
            p.variable(
                "group_metric", f"label_values({series(c.GROUP_PERFORMANCE)}, metric)", label="Performance of groups"
            ),
        ],
        {"": _head(), "Between groups": _metrics(), "Group by group": _groups()},
        matchers=',model="$model"',
    )
