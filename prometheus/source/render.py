"""Rules as YAML: the text of each file under prometheus/rules."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from textwrap import indent
from typing import Any

import yaml

from grafana.source.environment import LABELS
from prometheus.source import addresses, compute_alerts, data_alerts, exporter_alerts, lifecycle_alerts, model_alerts
from prometheus.source.alert import Alert, since
from prometheus.source.fleet_alerts import many
from prometheus.source.records import Group, error_budget, exporters, fleet, last_week, states, thresholds, windows

DASHBOARDS = {
    "performance": "mlops-model",
    "fairness": "mlops-fairness",
    "drift": "mlops-data",
    "data_quality": "mlops-data",
    "serving": "mlops-model",
    "freshness": "mlops-model",
    "profile": "mlops-model",
    "probe": "mlops-model",
    "retraining": "mlops-model",
    "host": "mlops-compute",
    "gpu": "mlops-compute",
    "cost": "mlops-compute",
    "availability": "mlops-exporter",
    "source": "mlops-exporter",
    "exporter": "mlops-exporter",
    "fleet": "mlops-models",
    "watchdog": "mlops-exporter",
}
"""Dashboard of each category, by uid; its variables are named like the labels, but those in `RENAMED`."""

RENAMED = {"fairness": {"metric": "fairness_metric"}}
"""Variables of a category's dashboard that are named otherwise than the alert's label."""

_ENVIRONMENT = "".join(
    f"{{{{ with $labels.{label} }}}}&var-{label}={{{{ . | urlquery }}}}{{{{ end }}}}" for label in LABELS
)
SPAN = "from=now-6h&to=now"
"""What time a link to a dashboard shows; Alertmanager's messages put the alert's own beginning in its place."""

VARIABLES = ("job", "instance", "model", "version", "attribute", "metric", "gpu", "source")

RUNBOOKS = Path(__file__).parents[2] / "docs" / "runbooks"

ALERT_GROUPS = {
    "model_alerts.yml": ("ml-model", model_alerts.ALERTS),
    "data_alerts.yml": ("ml-data", data_alerts.ALERTS),
    "compute_alerts.yml": ("ml-compute", compute_alerts.ALERTS),
    "lifecycle_alerts.yml": ("ml-lifecycle", lifecycle_alerts.ALERTS),
    "exporter_alerts.yml": ("ml-exporter", exporter_alerts.ALERTS),
}
ALERT_GROUPS["fleet_alerts.yml"] = (
    "ml-many-models",
    many(alert for _, alerts in ALERT_GROUPS.values() for alert in alerts),
)
ALERTS = [alert for _, alerts in ALERT_GROUPS.values() for alert in alerts]

_HEADER = "# Made by `python -m prometheus.source`: change prometheus/source, not this file.\n"
_THRESHOLDS_HEADER = """\
# Every threshold that no metric carries. Made by `python -m prometheus.source`, but meant to be changed:
# the alerts read these series, so a number changed here holds everywhere.
"""


RECORDS = {
    "thresholds.yml": (_THRESHOLDS_HEADER, thresholds()),
    "exporters.yml": (_HEADER, exporters()),
    "windows.yml": (_HEADER, windows()),
    "error_budget.yml": (_HEADER, error_budget()),
    "fleet.yml": (_HEADER, fleet()),
    "last_week.yml": (_HEADER, last_week()),
    "states.yml": (_HEADER, states(ALERTS)),
}
GROUPS = {name: [group.name for group in groups] for name, (_, groups) in RECORDS.items()} | {
    name: [group] for name, (group, _) in ALERT_GROUPS.items()
}
"""Names of the groups in each rule file."""


OWNED = ("owner", "team", "environment")
"""Labels that an alert on a model takes from the configuration of that model, where they are written there."""
_OWNED = (
    "{{{{ with printf `ml_model_owner_info{{job=%[1]q,model=%[2]q}}` $labels.job $labels.model | query }}}}"
    '{{{{ . | first | label "{0}" }}}}{{{{ else }}}}{{{{ $labels.{0} }}}}{{{{ end }}}}'  # a target may have it, too
)


def rule_files() -> dict[str, str]:
    """Return the text of each rule file by its name."""
    texts = {name: header + _records(groups) for name, (header, groups) in RECORDS.items()}
    for name, (group, alerts) in ALERT_GROUPS.items():
        rules = "\n".join(_item(alert_rule(alert)) for alert in alerts)
        texts[name] = f"{_HEADER}groups:\n  - name: {group}\n    rules:\n{indent(rules, ' ' * 6)}"
    return texts


def alert_rule(alert: Alert) -> dict[str, Any]:
    """Return an alert as Prometheus reads it."""
    rule: dict[str, Any] = {"alert": alert.name, "expr": alert.expr, "for": alert.wait}
    if alert.keep is not None:
        rule["keep_firing_for"] = alert.keep
    rule["labels"] = {"severity": alert.severity, "category": alert.category}
    if "model" in alert.labels:
        rule["labels"] |= {name: _OWNED.format(name) for name in OWNED}
    if alert.action is not None:
        rule["labels"]["action"] = alert.action
    what = alert.what if alert.category == "watchdog" else alert.what + since(alert.name, alert.labels)
    rule["annotations"] = {
        "summary": alert.summary,
        "description": f"{what} First: {alert.first[0].lower()}{alert.first[1:]}",
        "runbook_url": runbook_url(alert),
        "dashboard_url": dashboard_url(alert, lambda label: f"{{{{ $labels.{label} | urlquery }}}}") + _ENVIRONMENT,
        "query": first_query(alert, lambda label: f'{{{{ printf "%q" $labels.{label} }}}}'),
    }
    return rule


def dashboard_url(alert: Alert, shown: Callable[[str], str]) -> str:
    """Return the address of an alert's dashboard; `shown` gives the value of a label in the address."""
    renamed = RENAMED.get(alert.category, {})
    chosen = [f"&var-{renamed.get(label, label)}={shown(label)}" for label in alert.labels if label in VARIABLES]
    return f"{addresses.read().grafana}/d/{DASHBOARDS[alert.category]}?{SPAN}" + "".join(chosen)


def first_query(alert: Alert, shown: Callable[[str], str]) -> str:
    """Return the first query of an alert's runbook, about its own labels; `shown` gives a label's value in quotes."""
    text = (RUNBOOKS / f"{alert.name}.md").read_text()
    query = " ".join(re.findall(r"```promql\n(.*?)```", text, re.DOTALL)[0].split())
    return re.sub(r'"\$(\w+)"', lambda label: shown(label[1]), query)


def runbook_url(alert: Alert) -> str:
    """Return the address of an alert's runbook."""
    return f"{addresses.read().runbooks}/{alert.name}.md"


def _records(groups: Iterable[Group]) -> str:
    lines = ["groups:"]
    for group in groups:
        lines += [f"  - name: {group.name}", *([f"    interval: {group.interval}"] if group.interval else [])]
        lines += ["    rules:"]
        for record in group.rules:
            rule: dict[str, Any] = {"record": record.record, "expr": record.expr}
            if record.labels:
                rule["labels"] = dict(record.labels)
            comment = f"# {record.comment}\n" if record.comment else ""
            lines.append(indent(comment + _item(rule), " " * 6).rstrip("\n"))
    return "\n".join(lines) + "\n"


def _item(value: dict[str, Any]) -> str:
    return to_yaml([value])


def to_yaml(value: object) -> str:
    """Return YAML in the order given, text of several lines as it is."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000)


class _Dumper(yaml.CSafeDumper):
    """Writes text of several lines as it is."""


def _text(dumper: yaml.CSafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)
