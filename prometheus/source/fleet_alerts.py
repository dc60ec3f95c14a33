"""Alerts on many models at once: one message for one common cause, in place of one a model.

What a model is told of is counted a minute before it is told, so that Alertmanager's inhibition comes in time.
"""

from collections.abc import Iterable, Sequence
from itertools import groupby

from mlops_exporter.settings.durations import parse_duration
from prometheus.source.alert import PERCENT, Alert, Severity, constant, each, indented
from prometheus.source.thresholds import threshold

TOGETHER = ("performance", "fairness", "drift", "data_quality", "serving", "freshness")
"""Categories of trouble that many models may have from one cause."""

NAMES: dict[Severity, str] = {"critical": "MLManyModelsFailing", "warning": "MLManyModelsTroubled"}

_LABELS = ("job", "of")
_FEED = "MLModelFeedDown"  # which silences, and is told to nobody
_AHEAD = 120.0
_OWN = ("severity", "category", "action", "owner", "team", "environment")
_MODELS = "count without (model) (group without (instance, pod, version, task, profile_hash, profile_version) ("


def many(alerts: Iterable[Alert]) -> list[Alert]:
    """Return the alerts that take the place of those on many models."""
    of_models = [it for it in alerts if "model" in it.labels and it.category in TOGETHER and it.name != _FEED]
    return [_together(severity, [it for it in of_models if it.severity == severity]) for severity in NAMES]


def _together(severity: Severity, alerts: Sequence[Alert]) -> Alert:
    names = "|".join(it.name for it in alerts)
    shown = each(
        f'sort_desc(topk(3, count by (alertname) (count by (alertname, model) (ALERTS{{job=%[1]q,alertname=~"{names}",'
        "category=%[2]q}))))",
        _LABELS,
        "alertname",
        'printf "%.0f"',
        before="; models by alert: ",
    )
    return Alert(
        NAMES[severity],
        "fleet",
        severity,
        _LABELS,
        "\nor\n".join(_count(list(each_)) for _, each_ in groupby(_sorted(alerts), lambda it: it.category)),
        "Many models have the same trouble at once: look for one cause.",
        '{{ $value | printf "%.0f" }} models of {{ $labels.job }} have trouble of the kind {{ $labels.of }} at once'
        f"{shown}. From {constant('models_together')} models on, and {constant('models_together_ratio', PERCENT)} "
        "of all, one message takes the place of each model's.",
        "Look for what they share: a source, a feature store, a gateway, a release.",
        "1m",
    )


def _sorted(alerts: Iterable[Alert]) -> list[Alert]:
    return sorted(alerts, key=lambda it: (it.category, parse_duration(it.wait)))


def _count(alerts: list[Alert]) -> str:
    """Return how many models have an alert of one category, or will have it within two minutes."""
    soon = "\nor\n".join(
        _waited(seconds, list(several)) for seconds, several in groupby(alerts, lambda it: parse_duration(it.wait))
    )
    counted = f"count without (model) (\n{indented(soon)}\n) >= {threshold('models_together')}"
    share = f"{counted}\n  >= {_MODELS}ml_model_info)) * {threshold('models_together_ratio')}"
    return f'label_replace(\n{indented(share)},\n  "of", "{alerts[0].category}", "job", ".*"\n)'


def _waited(seconds: float, alerts: list[Alert]) -> str:
    """Return the models of which one of several alerts, which wait equally long, is about to be told."""
    theirs = sorted({label for it in alerts for label in it.labels} - {"job", "model"})
    others = ", ".join(("alertname", *theirs, *_OWN))
    since = f'ALERTS_FOR_STATE{{alertname=~"{"|".join(it.name for it in alerts)}"}}'
    return f"count without ({others}) (time() - {since} >= {max(seconds - _AHEAD, 0):.0f})"
