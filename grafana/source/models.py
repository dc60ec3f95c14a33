"""Dashboard "Models": every model and version in one table, the one that needs attention first."""

from grafana_foundation_sdk.models import dashboard as model

from grafana.source import panels as p
from grafana.source.promql import EXPORTER, rate, series
from mlops_exporter.exposition import catalogue as c
from mlops_exporter.judging.judge import WORDS
from prometheus.source.records import rank

_FREE = "model version window"
_BY = "by (model, version)"


def _all(metric: c.Metric, *matchers: str) -> str:
    return series(metric, *matchers, free=_FREE)


_AGREED = "on (job, instance, model, version, metric) group_left ()"
_INFO = _all(c.MODEL_INFO)
_EVERY = f"group {_BY} ({_INFO})"

# By how much, as a share of the benchmark, the better end of the interval is beyond it: negative is surely worse.
_MARGIN = (
    f"({_all(c.PERFORMANCE_UPPER)} - {_AGREED} {_all(c.BENCHMARK_MIN)})"
    f" / {_AGREED} abs({_all(c.BENCHMARK_MIN)})"
    f" or ({_AGREED.join(['-1 * ' + _all(c.PERFORMANCE_LOWER) + ' + ', ''])}{_all(c.BENCHMARK_MAX)})"
    f" / {_AGREED} abs({_all(c.BENCHMARK_MAX)})"
)
_WORST = f"bottomk {_BY} (1, {_MARGIN})"
_SURELY_WORSE = f"count {_BY} (({_MARGIN}) < 0)"
_DRIFTED = f"max {_BY} ({_all(c.DRIFTED_FEATURES)})"
_TONES = {"bad": p.BAD, "warn": p.WATCH, "quiet": p.QUIET, "good": p.GOOD}
STATES = p.Words({rank(verdict): (words, _TONES[tone]) for verdict, (words, tone) in WORDS.items()})
_STATE = f"max {_BY} (ml:model:state{{{EXPORTER}}})"


def _of_worst(metric: c.Metric) -> str:
    same = "(job, instance, model, version, window, metric)"
    return f"max by (model, version, window, metric) ({_all(metric)} and on {same} ({_WORST}))"


def _benchmark() -> str:
    agreed = f"{_all(c.BENCHMARK_MIN)} or {_all(c.BENCHMARK_MAX)}"
    worst = f"({_WORST})"
    return (
        "max by (model, version, window, metric) "
        f"(0 * {worst} + on (job, instance, model, version, metric) group_left () ({agreed}))"
    )


_MODEL_LINK = "model=${__data.fields.Model}&var-version=${__data.fields.Version}&" + p.SHARED_VARIABLES


def build() -> model.Dashboard:
    """Return the dashboard."""
    models = p.table_of(
        "Which model needs attention first?",
        "One row for each model and version, the worst on top. *State*: what the alerts on it tell, pending or firing, "
        "in the words of the exporter's own page; **Performance unknown**, too few labels to judge. "
        "Performance: the metric and window that "
        "come closest to, or go furthest beyond, a benchmark; low and high are the ends of its 95 % interval. The "
        "links open the model with the same time range.",
        [
            _STATE,
            _of_worst(c.PERFORMANCE),
            _of_worst(c.PERFORMANCE_LOWER),
            _of_worst(c.PERFORMANCE_UPPER),
            _benchmark(),
            f"{_DRIFTED}",
            f"min {_BY} ({_all(c.LABEL_COVERAGE)})",
            f"time() - max {_BY} ({_all(c.LAST_PREDICTION)})",
            f'count by (model) (ALERTS{{alertstate="firing",job=~"$job",model!=""}})'
            f" * on (model) group_right () {_EVERY} or {_EVERY} * 0",
        ],
        [
            p.Column("A", "State", words=STATES, width=145),
            p.Column("model", "Model", least=90, link="/d/mlops-model?var-" + _MODEL_LINK),
            p.Column("version", "Version", width=75),
            p.Column("metric", "Metric", width=145),
            p.Column("window", "Window", width=75),
            p.Column("B", "Performance", unit="none", decimals=3, width=100),
            p.Column("C", "Low", unit="none", decimals=3, width=85),
            p.Column("D", "High", unit="none", decimals=3, width=90),
            p.Column("E", "Benchmark", unit="none", decimals=3, width=92),
            p.Column("F", "Drifted", unit="none", width=75, link="/d/mlops-data?var-" + _MODEL_LINK),
            p.Column("G", "Labelled", unit="percentunit", width=85, decimals=0),
            p.Column("H", "Last event", unit="s", width=92, decimals=0),
            p.Column("I", "Alerts", unit="none", width=70),
        ],
        empty="No model yet: the exporter exports none, or Prometheus does not scrape it. See the dashboard Exporter.",
        size=(24, 8),
        sort="State",
    )
    counts = [
        p.number(
            "How many models are watched?",
            "Models and versions that the exporters know.",
            "none",
            f"count({_EVERY})",
            empty="None",
            size=(6, 4),
        ),
        p.number(
            "How many are worse than agreed?",
            "Models and versions of which even the better end of a 95 % interval is beyond its benchmark.",
            "none",
            f"count({_SURELY_WORSE}) or vector(0)",
            empty="No benchmarks",
            size=(6, 4),
            mappings=p.ranges((0, 0, "None", p.GOOD), (1, None, "", p.BAD)),
        ),
        p.number(
            "How many get drifted data?",
            "Models and versions with at least one feature above its drift threshold.",
            "none",
            f"count({_DRIFTED} > 0) or vector(0)",
            empty="No profile",
            size=(6, 4),
            mappings=p.ranges((0, 0, "None", p.GOOD), (1, None, "", p.WATCH)),
        ),
        p.number(
            "How many predictions come in?",
            "Predictions per second, all models, failed ones included.",
            "reqps",
            f"sum({rate(c.PREDICTIONS, free=_FREE)})",
            empty="No predictions counted yet",
            size=(6, 4),
            trend=True,
            decimals=1,
        ),
    ]
    course = [
        p.states(
            "Since when is each model in its state?",
            "The state of the table above over time, in the same words.",
            [p.Query(_STATE, "{{model}} {{version}}")],
            STATES.mappings,
            empty="No model yet.",
            size=(24, 7),
        ),
        p.over_time(
            "Does every model get traffic?",
            "Predictions per second by model and version.",
            "reqps",
            [p.Query(f"sum {_BY} ({rate(c.PREDICTIONS, free=_FREE)})", "{{model}} {{version}}")],
            empty="No predictions counted yet.",
            size=(12, 8),
            low=0,
        ),
        p.over_time(
            "Which alerts fire, by model?",
            "Firing alerts by model; alerts of the exporter or the host have no model. Rules: prometheus/rules.",
            "none",
            [p.Query('count by (model) (ALERTS{alertstate="firing",severity!="none",job=~"$job"})', "{{model}}")],
            empty="No alert fires, or the alerting rules are not loaded.",
            size=(12, 8),
            low=0,
        ),
    ]
    return p.dashboard(
        "mlops-models",
        "Every model and version: which one needs attention first?",
        [],
        {"": [*counts, models], "Course": course},
    )
