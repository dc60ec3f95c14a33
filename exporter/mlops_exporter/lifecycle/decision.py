"""Whether a retraining is started: once for a version, not before the cool-down, and only for reasons enough."""

from collections.abc import Sequence
from typing import Literal, get_args

import msgspec

from mlops_exporter.lifecycle.evidence import Alert
from mlops_exporter.settings.retraining import ModelRetraining

Decision = Literal["started", "dry_run", "quorum", "already_started", "cool_down", "running"]
DECISIONS: tuple[Decision, ...] = get_args(Decision)


class Past(msgspec.Struct):
    """What a model's retrainings were: versions for which one was started, and when the last one began."""

    versions: list[str] = []
    started: float | None = None
    ended: float | None = None
    good: bool | None = None


def decide(
    settings: ModelRetraining, version: str, alerts: Sequence[Alert], past: Past, running: bool, dry: bool, now: float
) -> Decision:
    """Return the decision on a version with these alerts. Each refusal has its name; the first that holds counts."""
    reasons = {alert.reason for alert in alerts}
    if not any(quorum <= reasons for quorum in settings.quorums):
        return "quorum"
    if version in past.versions:
        return "already_started"
    if running:
        return "running"
    if past.started is not None and abs(now - past.started) < settings.cool_down:  # a clock may have been wrong
        return "cool_down"
    return "dry_run" if dry or settings.dry_run else "started"
