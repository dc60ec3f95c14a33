"""Which value an event was refused for, and what would be right: for the log, where a sample of each reason is told."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from mlops_exporter.events.reasons import MAX_EVENT_BYTES, REASONS, Reason
from mlops_exporter.profile.values import canonical

LONGEST_SHOWN = 80
"""Characters of a value that are shown."""

NAMED = 10
"""Models or classes that are named as the right ones."""

_MEMBERS: Final[dict[Reason, tuple[str, ...]]] = {
    "unknown_model": ("model",),
    "forbidden_model": ("model",),
    "bad_id": ("id",),
    "bad_version": ("version",),
    "too_many_versions": ("version",),
    "bad_timestamp": ("ts",),
    "future_timestamp": ("ts",),
    "bad_features": ("features",),
    "bad_groups": ("groups",),
    "bad_score": ("score", "scores"),
    "bad_prediction": ("prediction",),
    "bad_label": ("label",),
    "unknown_class": ("prediction", "label"),
    "bad_latency": ("latency_seconds",),
    "bad_error": ("error",),
}
"""The members of an event of which one is at fault. Of others, no value is shown."""


def explained(reason: Reason, body: bytes, line: int, classes: Mapping[str, Sequence[str]]) -> str:
    """Return why the event in a line (from 1) of a body of JSON was refused, with the value at fault where it is found.

    `classes` has the classes of each configured model, none for a regression.
    """
    event = _event(body, line)
    known = classes.get(str(event.get("model")), ())
    members = {name: event[name] for name in _MEMBERS.get(reason, ()) if event.get(name) is not None}
    if reason == "unknown_class":
        members = {name: value for name, value in members.items() if _name(value) not in known}
    told = REASONS[reason]
    if members:
        told += "; " + ", ".join(f"`{name}` is {_shown(value)}" for name, value in members.items())
    right = classes if reason == "unknown_model" else known if reason == "unknown_class" else ()
    if right:
        more = ", …" if len(right) > NAMED else ""
        told += f"; known are {', '.join(map(_shown, [*right][:NAMED]))}{more}"
    return told


def _event(body: bytes, line: int) -> dict[str, Any]:
    """Return an event as an object, an empty one where it cannot be read in little time."""
    with suppress(ValueError, IndexError, RecursionError):
        if body.lstrip()[:1] == b"[":
            found = json.loads(body)[line - 1] if len(body) <= MAX_EVENT_BYTES else None
        else:
            found = json.loads(body.split(b"\n", line)[line - 1][:MAX_EVENT_BYTES])
        if isinstance(found, dict):
            return found
    return {}


def _name(value: object) -> str | None:
    try:
        return canonical(value)
    except TypeError:
        return None


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST_SHOWN else text[:LONGEST_SHOWN] + " …"
