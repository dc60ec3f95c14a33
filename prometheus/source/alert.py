"""What an alert is made of, and the templates its description shares with others.

A description says what, where, how much, against what and since when, names the worst three by a query of its own, and
ends with the first thing to do.
"""

from dataclasses import dataclass
from textwrap import dedent
from typing import Literal

from mlops_exporter.judging.judge import Verdict

Severity = Literal["critical", "warning", "info"]
Category = Literal[
    "performance",
    "fairness",
    "drift",
    "data_quality",
    "serving",
    "freshness",
    "profile",
    "probe",
    "retraining",
    "host",
    "gpu",
    "cost",
    "availability",
    "source",
    "exporter",
    "fleet",
    "watchdog",
]


@dataclass(frozen=True, slots=True)
class Alert:
    """One alerting rule.

    `labels` are those that the expression leaves of the exporter's series, job and instance; `what` and `first` (the
    first thing to do) are templates, and become the description with the time since when between them. `verdict` is
    what the judge calls a model of which it tells.
    """

    name: str
    category: Category
    severity: Severity
    labels: tuple[str, ...]
    expr: str
    summary: str
    what: str
    first: str
    wait: str
    keep: str | None = None
    action: str | None = None
    verdict: Verdict | None = None


HOST = ("job", "instance")
MODEL = ("job", "model", "version")
MODEL_HERE = ("job", "instance", "model", "version")

ON_MODEL = "on (job, instance, model, version)"
ON_METRIC = "on (job, instance, model, version, metric)"
ON_FEATURE = "on (job, instance, model, version, feature)"
ON_WINDOW = "on (job, instance, model, version, window)"
CURRENT = f"and {ON_WINDOW} ml:model_window:current"
FRESHEST = f"and {ON_WINDOW} ml:model_window:freshest"
AGO = 'humanizeDuration | printf "%s ago"'

WHERE = "model {{ $labels.model }} version {{ $labels.version }} ({{ $labels.instance }})"
PERCENT = "humanizePercentage"
TIMES = 'printf "%.1f times"'


def widened(estimate: str, end: str) -> str:
    """End (`lower` or `upper`) of the interval that holds for a month of windows."""
    return dedent(f"""\
        (
          {estimate}
          + ({estimate}_{end} - {estimate})
            * {ON_WINDOW} group_left () ml:model_window:caution
        )""")


def _query(query: str, labels: tuple[str, ...]) -> str:
    """Template pipeline with the results of a query, in which SELECT stands for matchers of the alert's own labels."""
    if not labels:
        return f"query `{' '.join(query.split())}`"
    matchers = ",".join(f"{label}=%[{number}]q" for number, label in enumerate(labels, 1))
    values = " ".join(f"$labels.{label}" for label in labels)
    return f"printf `{' '.join(query.split()).replace('SELECT', matchers)}` {values} | query"


def _list(query: str, labels: tuple[str, ...], item: str, before: str = "", none: str = "") -> str:
    """Template text that lists a query's results after `before`; `none` when it has none."""
    return (
        f"{{{{ range $i, $s := {_query(query, labels)} }}}}{{{{ if $i }}}}, {{{{ else }}}}{before}{{{{ end }}}}"
        f"{item}{{{{ else }}}}{none}{{{{ end }}}}"
    )


def each(query: str, labels: tuple[str, ...], name: str, show: str, *, before: str = "", none: str = "") -> str:
    """Template text with the label `name` of a query's results, and their values through `show`: a (1), b (2)."""
    return _list(query, labels, f'{{{{ $s | label "{name}" }}}} ({{{{ $s | value | {show} }}}})', before, none)


def by_window(query: str, labels: tuple[str, ...], show: str, none: str = "unknown by now") -> str:
    """Template text with a query's result in each window: 1 over 15m, 2 over 1h; `none` where it has none."""
    item = f'{{{{ $s | value | {show} }}}} over {{{{ $s | label "window" }}}}'
    return _list(f"sort({query})", labels, item, none=none)


def names(query: str, labels: tuple[str, ...], name: str, none: str) -> str:
    """Template text with the label `name` of a query's results: a, b."""
    return _list(query, labels, f'{{{{ $s | label "{name}" }}}}', none=none)


def whether(query: str, labels: tuple[str, ...], yes: str, no: str) -> str:
    """Template text that depends on whether a query has a result; it has one at most."""
    return _list(query, labels, yes, none=no)


def value(query: str, labels: tuple[str, ...], show: str, none: str = "unknown") -> str:
    """Template text with the value of a query that has one result; `none` when it has none."""
    return f"{{{{ range {_query(query, labels)} }}}}{{{{ . | value | {show} }}}}{{{{ else }}}}{none}{{{{ end }}}}"


def constant(name: str, show: str = 'printf "%.4g"') -> str:
    """Template text with a threshold."""
    return f"{{{{ range query `ml:threshold:{name}` }}}}{{{{ . | value | {show} }}}}{{{{ end }}}}"


def since(name: str, labels: tuple[str, ...]) -> str:
    """Template text with the time at which the condition began to hold, which is before the alert fires."""
    series = f'max(ALERTS_FOR_STATE{{alertname="{name}",SELECT}})'
    if not labels:
        series = series.replace(",SELECT", "")
    return f" Since {value(series, labels, 'humanizeTimestamp')}."


def indented(text: str) -> str:
    """Text two columns further right."""
    return "\n".join(f"  {line}" for line in text.splitlines())
