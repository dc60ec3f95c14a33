"""The shipped rules over history: what Prometheus would have recorded and fired, asked of a real one.

Rules read other rules, so they are asked in levels: all that read only what is already there, as range queries, their
results written as blocks before the next level is asked. `for` and `keep_firing_for` are applied as Prometheus does.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.support.prometheus import Prometheus

RULES = Path(__file__).parents[2] / "prometheus" / "rules"
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_FIRING = ("ALERTS", "ALERTS_FOR_STATE")

Labels = dict[str, str]


@dataclass
class Rule:
    """A rule as the shipped files have it; `reads` are the series of other rules that its expression names."""

    name: str
    expr: str
    labels: Labels
    wait: int | None = None  # None for recording rules
    keep: int = 0
    reads: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Fired:
    """One alert from the moment its condition holds (`since`) until it is over, firing from `at`."""

    labels: tuple[tuple[str, str], ...]
    since: int
    at: int
    until: int


def shipped() -> list[Rule]:
    """Return every shipped rule."""
    found = []
    for path in sorted(RULES.glob("*.yml")):
        for group in yaml.safe_load(path.read_text())["groups"]:
            for rule in group["rules"]:
                alert = "alert" in rule
                found.append(
                    Rule(
                        rule["alert"] if alert else rule["record"],
                        rule["expr"],
                        rule.get("labels", {}),
                        seconds(rule.get("for", "0s")) if alert else None,
                        seconds(rule.get("keep_firing_for", "0s")),
                    )
                )
    records = {rule.name for rule in found if rule.wait is None}
    for rule in found:
        rule.reads = {name for name in re.findall(r"\b\w+:[\w:]+", rule.expr) if name in records} - {rule.name}
        if "ALERTS{" in rule.expr:
            rule.reads |= {name for name in re.findall(r"\bML\w+", rule.expr) if name != rule.name}
    return found


def levels(rules: Iterable[Rule]) -> Iterator[list[Rule]]:
    """Yield rules so that each reads only what came before."""
    left = list(rules)
    while left:
        missing = {rule.name for rule in left}
        ready = [rule for rule in left if not rule.reads & missing]
        assert ready, f"rules read each other in a circle: {sorted(missing)}"
        yield ready
        left = [rule for rule in left if rule.reads & missing]


def seconds(duration: str) -> int:
    """Return a duration of one unit in seconds."""
    return int(duration[:-1]) * _UNITS[duration[-1]]


Answer = list[dict[str, Any]]


def answer(server: Prometheus, rule: Rule, begin: int, end: int, step: int) -> Answer:
    """Return a rule's expression between two times."""
    found: Answer = server.api("query_range", query=rule.expr, start=str(begin), end=str(end), step=str(step))["result"]
    return found


def evaluated(rule: Rule, answer: Answer, end: int, step: int) -> Iterator[str]:
    """Yield what a rule would have written until `end`, as OpenMetrics."""
    if rule.wait is None:
        for series in answer:
            shown = _series(rule.name, _without_name(series) | rule.labels)
            for at, value in series["values"]:
                yield f"{shown} {value} {at}\n"
        return
    for fired in firings(rule, answer, end, step):
        labels = dict(fired.labels)
        pending, firing = (_series("ALERTS", labels | {"alertstate": state}) for state in ("pending", "firing"))
        for at in range(fired.since, fired.until + step, step):
            yield f"{firing if at >= fired.at else pending} 1 {at}\n"
            yield f"{_series('ALERTS_FOR_STATE', labels)} {fired.since} {at}\n"


def firings(rule: Rule, answer: Answer, end: int, step: int) -> list[Fired]:
    """Return the alerts of a rule from the answer to its expression; pending ones have `at` after `until`."""
    wait, found = rule.wait or 0, []
    for series in answer:
        labels = tuple(sorted((_without_name(series) | rule.labels | {"alertname": rule.name}).items()))
        times = [int(at) for at, _ in series["values"]]
        since = last = times[0]
        for at in [*times[1:], None]:
            kept = last + (rule.keep if last - since >= wait else 0)
            if at is None or at > max(kept, last) + step:
                found.append(Fired(labels, since, since + wait, min(end, kept)))
                since = at if at is not None else since
            last = at if at is not None else last
    return found


def _without_name(series: dict[str, Any]) -> Labels:
    return {name: value for name, value in series["metric"].items() if name != "__name__"}


def _series(name: str, labels: Labels) -> str:
    shown = ",".join(f'{label}="{_escaped(value)}"' for label, value in sorted(labels.items()))
    return f"{name}{{{shown}}}" if shown else name


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
