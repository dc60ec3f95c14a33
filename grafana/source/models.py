"""Dashboard "Models": is anything wrong, where, since when, what to do; every model and version, the worst first."""

from grafana_foundation_sdk.models import dashboard as model

from grafana.source import panels as p
from grafana.source.environment import LABELS
from grafana.source.promql import ALERTS, EXPORTER, by, largest, on, rate, series
from mlops_exporter.exposition import catalogue as c
from mlops_exporter.judging.judge import WORDS
from prometheus.source.addresses import read as addresses
from prometheus.source.records import rank

_FREE = "model version window attribute"
_BY = by("model", "version")
_PLACES = [p.Column(label, label.capitalize(), width=82) for label in LABELS]


def _all(metric: c.Metric, *matchers: str) -> str:
    return series(metric, *matchers, free=_FREE)


_AGREED = f"{on('model', 'version', 'metric')} group_left ()"
_EVERY = f"group {_BY} ({_all(c.MODEL_INFO)})"

# By how much, as a share of the benchmark, the better end of the interval is beyond it: negative is surely worse.
_MARGIN = (
    f"({_all(c.PERFORMANCE_UPPER)} - {_AGREED} {_all(c.BENCHMARK_MIN)})"
    f" / {_AGREED} abs({_all(c.BENCHMARK_MIN)})"
    f" or (-1 * {_all(c.PERFORMANCE_LOWER)} + {_AGREED} {_all(c.BENCHMARK_MAX)})"
    f" / {_AGREED} abs({_all(c.BENCHMARK_MAX)})"
)
_WORST = f"bottomk {_BY} (1, {_MARGIN})"
_DRIFTED = f"max {_BY} ({_all(c.DRIFTED_FEATURES_CONTROLLED)} or {_all(c.DRIFTED_FEATURES)})"

_UNFAIR = (
    f"(({_all(c.FAIRNESS_LOWER)} - {on('model', 'metric')} group_left () {_all(c.FAIRNESS_BENCHMARK_MAX)})"
    f" or ({_all(c.FAIRNESS_BENCHMARK_MIN)} - {on('model', 'metric')} group_right () {_all(c.FAIRNESS_UPPER)})) > 0"
)

_TONES = {"bad": p.BAD, "warn": p.WATCH, "quiet": p.QUIET, "good": p.GOOD}
STATES = p.Words({rank(verdict): (words, _TONES[tone]) for verdict, (words, tone) in WORDS.items()})
_STATE = f"max {_BY} ({p.STATE}{{{EXPORTER}}})"
_FROM = {tone: min(rank(verdict) for verdict, (_, its) in WORDS.items() if its == tone) for tone in ("bad", "warn")}

_SEVERITIES = p.Words({2: ("Critical", p.BAD), 1: ("Warning", p.WATCH)})
_FIRING = f'ALERTS{{alertstate="firing",severity=~"%s",{ALERTS}}}'
_SAME = ("severity", "alertname", "category", "instance", "model", "version")
_ALERT_BY = by(*_SAME)


def _of_worst(metric: c.Metric) -> str:
    same = on("model", "version", "window", "metric")
    return f"max {by('model', 'version', 'window', 'metric')} ({_all(metric)} and {same} ({_WORST}))"


def _benchmark() -> str:
    agreed = f"{_all(c.BENCHMARK_MIN)} or {_all(c.BENCHMARK_MAX)}"
    return f"max {by('model', 'version', 'window', 'metric')} (0 * ({_WORST}) + {_AGREED} ({agreed}))"


def _unfair() -> str:
    """How far the worst fairness metric is surely beyond its benchmark, with its attribute and name as labels."""
    renamed = f'label_replace(topk {_BY} (1, {_UNFAIR}), "fairness_metric", "$1", "metric", "(.+)")'
    return f"max {by('model', 'version', 'attribute', 'fairness_metric')} ({renamed})"


_MODEL_LINK = "var-model=${__data.fields.Model}&var-version=${__data.fields.Version}&" + p.OF_ROW


def _head() -> list[p.Panel]:
    return [
        p.number(
            "How many critical alerts?",
            "Critical alerts that fire now. The table below says which, where and since when.",
            "none",
            f"count({_FIRING % 'critical'}) or vector(0)",
            empty="No rules",
            size=(5, 4),
            alarming=p.BAD,
        ),
        p.number(
            "How many warnings?",
            "Warnings that fire now. The table below says which, where and since when.",
            "none",
            f"count({_FIRING % 'warning'}) or vector(0)",
            empty="No rules",
            size=(4, 4),
            alarming=p.WATCH,
        ),
        p.number(
            "How many are in trouble?",
            "Models and versions with a state that is bad, in red in the table below.",
            "none",
            f"count({_STATE} >= {_FROM['bad']}) or vector(0)",
            empty="No rules",
            size=(5, 4),
            alarming=p.BAD,
        ),
        p.number(
            "How many are watched?",
            "Models and versions that the exporters know.",
            "none",
            f"count({_EVERY})",
            empty="None",
            size=(4, 4),
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


def _alerts() -> p.Panel:
    firing = f"{_FIRING % 'critical'} * 0 + 2 or {_FIRING % 'warning'} * 0 + 1"
    began = f"ALERTS_FOR_STATE{{severity=~'critical|warning',{ALERTS}}}".replace("'", '"')
    same = f"on ({', '.join((*LABELS, 'job', *_SAME))})"
    return p.table_of(
        "What fires, where, and since when?",
        "Every alert that fires, critical ones first. Its link opens the runbook, which says what to do; the model's "
        "link opens the model. Alerts of one kind on one version of a model and one instance are one row, with their "
        "number.",
        [
            f"max {_ALERT_BY} ({firing})",
            f"time() - min {_ALERT_BY} ({began} and {same} ({firing}))",
            f"count {_ALERT_BY} ({firing})",
        ],
        [
            p.Column("A", "Severity", words=_SEVERITIES, width=90),
            p.Column(
                "alertname", "Alert", least=290, link=f"{addresses().runbooks}/${{__data.fields.Alert}}.md", away=True
            ),
            p.Column("B", "For", unit="s", decimals=0, width=90),
            *(p.Column(label, label.capitalize(), width=96) for label in LABELS),
            p.Column("instance", "Instance", width=140),
            p.Column("model", "Model", least=130, link="/d/mlops-model?" + _MODEL_LINK),
            p.Column("version", "Version", width=90),
            p.Column("C", "Alerts", unit="none", width=70),
        ],
        empty="Nothing fires. (Or the rules are not loaded: see prometheus/rules.)",
        size=(24, 9),
        sort="Severity",
    )


def _models() -> p.Panel:
    return p.table_of(
        "Which model needs attention first?",
        "One row for each model and version in each environment, the worst on top. *State*: what the alerts on it "
        "tell, pending or firing, in the words of the exporter's own page; **Performance unknown**, too few labels. "
        "Performance: the metric and window that come closest to, or go furthest beyond, a benchmark, on the replica "
        "where they do; low and high are the ends of its 95 % interval. Drifted: features that drifted for sure. "
        "Unfair: how far a fairness metric is surely beyond its benchmark.",
        [
            _STATE,
            _of_worst(c.PERFORMANCE),
            _of_worst(c.PERFORMANCE_LOWER),
            _of_worst(c.PERFORMANCE_UPPER),
            _benchmark(),
            _DRIFTED,
            _unfair(),
            f"time() - max {_BY} ({_all(c.LAST_PREDICTION)})",
        ],
        [
            p.Column("A", "State", words=STATES, width=160),
            p.Column("model", "Model", least=84, link="/d/mlops-model?" + _MODEL_LINK),
            p.Column("version", "Version", width=76),
            *_PLACES,
            p.Column("metric", "Metric", width=84),
            p.Column("window", "Window", width=66),
            p.Column("B", "Now", unit="none", decimals=3, width=62),
            p.Column("C", "Low", unit="none", decimals=3, width=62),
            p.Column("D", "High", unit="none", decimals=3, width=62),
            p.Column("E", "Agreed", unit="none", decimals=3, width=62),
            p.Column("F", "Drifted", unit="none", width=66, link="/d/mlops-data?" + _MODEL_LINK),
            p.Column("H", "Last event", unit="s", width=82, decimals=0),
            p.Column(
                "G", "Unfair", unit="none", decimals=3, width=60,
                link="/d/mlops-fairness?var-attribute=${__data.fields.Attribute}"
                "&var-fairness_metric=${__data.fields.Fairness}&" + _MODEL_LINK,
            ),
            p.Column("attribute", "Attribute", width=72),
            p.Column("fairness_metric", "Fairness", least=60),
        ],
        empty="No model yet: the exporter exports none, or Prometheus does not scrape it. See the dashboard Exporter.",
        size=(24, 9),
        sort="State",
    )  # fmt: skip


def _course() -> list[p.Panel]:
    named = "{{model}} {{version}} " + " ".join(f"{{{{{label}}}}}" for label in LABELS[:1])
    traffic = f"sum {_BY} ({rate(c.PREDICTIONS, free=_FREE)})"
    alerts = f'count by (model) (ALERTS{{alertstate="firing",severity!="none",model!="",{ALERTS}}})'
    return [
        p.states(
            "Since when is each model in its state?",
            "The state of the table above over time, in the same words: the twenty models that were worst in the time "
            "range.",
            [p.Query(largest(20, _STATE, "model"), named)],
            STATES.mappings,
            empty="No model yet, or the rules are not loaded.",
            size=(24, 8),
        ),
        p.over_time(
            "Does every model get traffic?",
            "Predictions per second by model and version: the twenty models with most of them.",
            "reqps",
            [p.Query(largest(20, traffic, "model"), named)],
            empty="No predictions counted yet.",
            size=(12, 8),
            low=0,
        ),
        p.over_time(
            "Which alerts fire, by model?",
            "Firing alerts of the twenty models with most of them; alerts of the exporter or the host have no model. "
            "Rules: prometheus/rules.",
            "none",
            [
                p.Query(largest(20, alerts, "model"), "{{model}}"),
                p.Query(f'count(ALERTS{{alertstate="firing",severity!="none",model="",{ALERTS}}})', "no model"),
            ],
            empty="No alert fires, or the alerting rules are not loaded.",
            size=(12, 8),
            low=0,
        ),
    ]  # fmt: skip


def build() -> model.Dashboard:
    """Return the dashboard."""
    return p.dashboard(
        "mlops-models",
        "Is anything wrong, where, since when, and what to do: alerts, and every model and version, the worst first.",
        [],
        {"": [*_head(), _alerts(), _models()], "Course": _course()},
    )
