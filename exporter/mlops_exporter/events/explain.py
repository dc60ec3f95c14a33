"""Which value an event was refused for, and what would be right: for the log, and for the sender."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
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


_UTF16: Final[dict[str, Any]] = {}
"""Stands for any event of a body in UTF-16."""


def in_utf16(body: bytes) -> bool:
    """Tell whether a body begins as a text in UTF-16 or UTF-32 does, and none in UTF-8."""
    if not body.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" not in body[:8]:
        return False
    line_end = b"\n\0" if body.startswith(b"\xff") else b"\0\n"
    return body.count(b"\n") == body.count(line_end)  # of all lines, so that no good one is lost


def explained(
    refusals: Sequence[tuple[int, Reason]], body: bytes, classes: Mapping[str, Sequence[str]]
) -> Iterator[str]:
    """Yield why events of a body of JSON were refused, with the value at fault where it is found in little time.

    `refusals` are their lines (from 1) and reasons; `classes` has the classes of each configured model, none for a
    regression.
    """
    events = _events(body, max((line for line, _ in refusals), default=0))
    for line, reason in refusals:
        yield _explained(reason, events(line), classes)


def _explained(reason: Reason, event: Mapping[str, Any], classes: Mapping[str, Sequence[str]]) -> str:
    known = classes.get(str(event.get("model")), ())
    members = {name: event[name] for name in _MEMBERS.get(reason, ()) if event.get(name) is not None}
    if reason == "unknown_class":
        members = {name: value for name, value in members.items() if _name(value) not in known}
    told = REASONS[reason]
    if reason == "malformed_json" and event is _UTF16:
        return f"{told}; the body is in UTF-16: send UTF-8"
    if members:
        told += "; " + ", ".join(f"`{name}` is {_shown(value)}" for name, value in members.items())
    right = classes if reason == "unknown_model" else known if reason == "unknown_class" else ()
    if right:
        more = ", …" if len(right) > NAMED else ""
        told += f"; known are {', '.join(map(_shown, [*right][:NAMED]))}{more}"
    return told


def _events(body: bytes, last: int) -> Callable[[int], dict[str, Any]]:
    """Return what gives an event, up to the `last`, as an object: an empty one where it cannot be read."""
    if in_utf16(body):
        return lambda line: _UTF16
    elements: Any = None
    if body.lstrip()[:1] == b"[" and len(body) <= MAX_EVENT_BYTES:
        elements = _parsed(body)
    lines = [] if isinstance(elements, list) else body.split(b"\n", last)[:last]

    def event(line: int) -> dict[str, Any]:
        if isinstance(elements, list):
            found = elements[line - 1] if line <= len(elements) else None
        else:
            found = _parsed(lines[line - 1]) if line <= len(lines) else None
            if found is None and line == 1:  # one object over several lines
                found = _parsed(body)
        return found if isinstance(found, dict) else {}

    return event


def _parsed(text: bytes) -> Any:
    if len(text) <= MAX_EVENT_BYTES:
        with suppress(ValueError, RecursionError):
            return json.loads(text.removeprefix(b"\xef\xbb\xbf").decode(errors="surrogateescape"))
    return None


def _name(value: object) -> str | None:
    try:
        return canonical(value)
    except TypeError:
        return None


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False).encode(errors="backslashreplace").decode()  # of half a surrogate pair
    return text if len(text) <= LONGEST_SHOWN else text[:LONGEST_SHOWN] + " …"
