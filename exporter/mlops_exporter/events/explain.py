"""Which value an event was refused for, and what would be right: for the log, and for the sender."""

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from types import MappingProxyType
from typing import Any, Final

import msgspec

from mlops_exporter.events.columns import Evidence
from mlops_exporter.events.formats import ARROW_STREAM, BYTE_ORDER_MARK, in_utf16
from mlops_exporter.events.reasons import MAX_EVENT_BYTES, OF_RANKINGS, REASONS, Reason
from mlops_exporter.profile.values import canonical

LONGEST_EXPLAINED = 64 * 1024
"""Bytes of an event that is read again to find the value at fault."""

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
    "bad_prediction": ("prediction", "categories"),
    "bad_label": ("label",),
    "unknown_class": ("prediction", "label"),
    "bad_latency": ("latency_seconds",),
    "bad_outcome": ("outcomes",),
    "bad_horizon": ("horizon",),
    "bad_quantile": ("quantiles",),
    "bad_naive": ("naive",),
    "bad_target": ("series", "target_ts"),
    "bad_error": ("error",),
}
"""The members of an event of which one is at fault. Of others, no value is shown."""


_UTF16: Final[dict[str, Any]] = {}
"""Stands for any event of a body in UTF-16."""


def explained(
    refusals: Sequence[tuple[int, Reason]],
    body: bytes,
    classes: Mapping[str, Sequence[str]],
    evidence: Mapping[int, Evidence] = MappingProxyType({}),
    rankings: Collection[str] = (),
) -> Iterator[str]:
    """Yield why events of a body were refused, with the value at fault where it is found in little time.

    `refusals` are their lines (from 1) and reasons; `classes` has the classes of each configured model, none for a
    regression, and `rankings` are the models of ranked lists. What is no JSON is not read again: `evidence` has what
    was found in it.
    """
    events = _events(body, max((line for line, _ in refusals), default=0))
    for line, reason in refusals:
        found = evidence.get(line)
        if isinstance(found, str):
            yield with_words(reason, found)
        else:
            yield _explained(reason, events(line) if found is None else found, classes, rankings)


def with_words(reason: Reason, found: str) -> str:
    """Return why an event was refused, and what was found."""
    return f"{REASONS[reason]}; {found}" if found else REASONS[reason]


def shown(members: Mapping[str, object]) -> str:
    """Return values by the names of their members, cut where they are long."""
    return ", ".join(f"`{name}` is {_shown(value)}" for name, value in members.items())


def named(names: Iterable[str]) -> str:
    """Return the first of some names."""
    several = [*names]
    return ", ".join(map(_shown, several[:NAMED])) + (", …" if len(several) > NAMED else "")


def _explained(
    reason: Reason, event: Mapping[str, Any], classes: Mapping[str, Sequence[str]], rankings: Collection[str]
) -> str:
    model = str(event.get("model"))
    known = classes.get(model, ())
    members = {name: event[name] for name in _MEMBERS.get(reason, ()) if event.get(name) is not None}
    if reason == "unknown_class":
        members = {name: value for name, value in members.items() if _name(value) not in known}
    told = OF_RANKINGS.get(reason, REASONS[reason]) if model in rankings else REASONS[reason]
    if reason == "malformed_json" and event is _UTF16:
        return f"{told}; the body is in UTF-16: send UTF-8"
    if members:
        told += f"; {shown(members)}"
    right = classes if reason == "unknown_model" else known if reason == "unknown_class" else ()
    if right:
        told += f"; known are {named(right)}"
    return told


def _events(body: bytes, last: int) -> Callable[[int], dict[str, Any]]:
    """Return what gives an event, up to the `last`, as an object: an empty one where it cannot be read."""
    if body.startswith(ARROW_STREAM):
        return lambda line: {}
    if in_utf16(body):
        return lambda line: _UTF16
    lines: Sequence[bytes | msgspec.Raw] = ()
    if len(body) <= MAX_EVENT_BYTES and body.lstrip()[:1] == b"[":
        with suppress(msgspec.MsgspecError, ValueError, RecursionError):
            lines = msgspec.json.decode(body, type=list[msgspec.Raw])
    if not lines:
        lines = body.split(b"\n", last)[:last]

    def event(line: int) -> dict[str, Any]:
        found = _parsed(bytes(lines[line - 1])) if line <= len(lines) else None
        if found is None and line == 1:  # one object over several lines
            found = _parsed(body)
        return found if isinstance(found, dict) else {}

    return event


def _parsed(text: bytes) -> Any:
    if len(text) <= LONGEST_EXPLAINED:
        with suppress(ValueError, RecursionError):
            return json.loads(text.removeprefix(BYTE_ORDER_MARK).decode(errors="surrogateescape"))
    return None


def _name(value: object) -> str | None:
    try:
        return canonical(value)
    except TypeError:
        return None


def _shown(value: object) -> str:
    if isinstance(value, str):
        value = value[: LONGEST_SHOWN + 1]
    elif isinstance(value, Mapping):
        value = dict(islice(value.items(), LONGEST_SHOWN))
    elif isinstance(value, list):
        value = value[:LONGEST_SHOWN]
    text = json.dumps(value, ensure_ascii=False, default=str)
    text = text.encode(errors="backslashreplace").decode()  # of half a surrogate pair
    return text if len(text) <= LONGEST_SHOWN else text[:LONGEST_SHOWN] + " …"
