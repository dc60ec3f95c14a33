"""Alerts as reasons for retraining: Alertmanager's webhook (version 4), read and kept by model and version."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

import msgspec

from mlops_exporter.profile.parsing import JsonError, parsed
from mlops_exporter.settings.models import MODEL_NAME
from mlops_exporter.settings.retraining import REASON

REASONS: Mapping[str, str] = {
    "MLModelPerformanceBelowBenchmark": "performance",
    "MLModelEstimatedPerformanceBelowBenchmark": "estimated_performance",
    "MLModelConceptDrift": "concept_drift",
    "MLProbePerformanceBelowBenchmark": "probe_performance",
}
"""Reason by the alert's name; an alert of the category `drift` is `drift`, and a label `reason` says it itself."""

_NAME = re.compile(MODEL_NAME)
_VERSION = re.compile(r"(?!-)[\x20-\x7e]{0,128}")  # no option of a command
_REASON = re.compile(REASON)

MOST_ALERTS = 10_000
"""How many alerts are remembered: those that were heard of last."""

Key = tuple[str, str]
"""Model and version."""


class UnreadableError(Exception):
    """A body that is no notification of Alertmanager."""


class Alert(msgspec.Struct, frozen=True):
    """One alert that fires, and when it was last heard of (Unix seconds)."""

    name: str
    reason: str
    since: str
    description: str
    labels: dict[str, str]
    seen: float


class _Sent(msgspec.Struct):
    status: Literal["firing", "resolved"]
    labels: dict[str, str]
    fingerprint: str = ""
    startsAt: str = ""  # noqa: N815 - Alertmanager's name
    annotations: dict[str, str] = {}


class _Notification(msgspec.Struct):
    version: str
    alerts: list[_Sent]


class Notified(NamedTuple):
    """What a notification says of one alert; `alert` is None when it is resolved."""

    key: Key
    fingerprint: str
    alert: Alert | None


def read(body: bytes, now: float) -> list[Notified]:
    """Return what a notification says of models; alerts that are no reason are left out. Raises UnreadableError."""
    try:
        notification: _Notification = parsed(body, _Notification)
    except JsonError as error:
        raise UnreadableError(f"not a notification of Alertmanager: {error}") from None
    if notification.version != "4":
        raise UnreadableError(f"version {notification.version!r} of Alertmanager's webhook, not 4")
    return list(_reasons(notification.alerts, now))


def _reasons(alerts: Iterable[_Sent], now: float) -> Iterator[Notified]:
    for sent in alerts:
        labels = sent.labels
        name, model, version = labels.get("alertname", ""), labels.get("model", ""), labels.get("version", "")
        drift = "drift" if labels.get("category") == "drift" else None
        own = labels.get("reason", "")
        reason = own if _REASON.fullmatch(own) else REASONS.get(name) or drift
        if reason is None or not _NAME.fullmatch(model) or not _VERSION.fullmatch(version):
            continue
        alert = Alert(name, reason, sent.startsAt, sent.annotations.get("description", ""), labels, now)
        fingerprint = sent.fingerprint or repr(sorted(labels.items()))
        yield Notified((model, version), fingerprint, alert if sent.status == "firing" else None)


class Evidence:
    """The alerts that stand, by model and version."""

    def __init__(self, alerts: Mapping[Key, Mapping[str, Alert]] | None = None) -> None:
        self.alerts: dict[Key, dict[str, Alert]] = {key: dict(known) for key, known in (alerts or {}).items()}

    def note(self, notified: Notified) -> None:
        """Take in what a notification says."""
        known = self.alerts.setdefault(notified.key, {})
        if notified.alert is None:
            known.pop(notified.fingerprint, None)
        else:
            known[notified.fingerprint] = notified.alert
        if not known:
            del self.alerts[notified.key]

    def forget(self, before: float) -> None:
        """Drop what was not heard of since, for instance because Alertmanager was silenced, and what is too much."""
        seen = sorted((alert.seen for known in self.alerts.values() for alert in known.values()), reverse=True)
        if len(seen) > MOST_ALERTS:
            before = max(before, seen[MOST_ALERTS - 1])
        for key in list(self.alerts):
            self.alerts[key] = {name: alert for name, alert in self.alerts[key].items() if alert.seen >= before}
            if not self.alerts[key]:
                del self.alerts[key]

    def of(self, key: Key) -> list[Alert]:
        """Return the alerts on a version, in the order of their names."""
        return sorted(self.alerts.get(key, {}).values(), key=lambda alert: (alert.reason, alert.name, alert.since))


def as_json(alerts: Iterable[Alert]) -> list[dict[str, Any]]:
    """Return alerts as the call has them."""
    return [
        {
            "reason": alert.reason,
            "alert": alert.name,
            "since": alert.since,
            "description": alert.description,
            "labels": alert.labels,
        }
        for alert in alerts
    ]
