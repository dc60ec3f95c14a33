"""The committed dashboards, as tests read them."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DIRECTORY = Path(__file__).parents[1] / "grafana" / "dashboards"

Json = dict[str, Any]

DASHBOARDS: dict[str, Json] = {path.stem: json.loads(path.read_text()) for path in sorted(DIRECTORY.glob("*.json"))}


@dataclass(frozen=True)
class Target:
    """One query of a panel."""

    uid: str
    title: str
    panel: Json
    letter: str
    expr: str
    instant: bool

    def __str__(self) -> str:
        return f"{self.uid}: {self.title} [{self.letter}]"


def panels(dashboard: Json) -> Iterator[Json]:
    """All panels of a dashboard but rows, those inside rows included."""
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            yield from panel.get("panels", [])
        else:
            yield panel


def targets(uid: str) -> list[Target]:
    """All queries of a dashboard's panels."""
    return [
        Target(uid, panel["title"], panel, target["refId"], target["expr"], target.get("instant", False))
        for panel in panels(DASHBOARDS[uid])
        for target in panel.get("targets", [])
    ]


def annotations(uid: str) -> list[Json]:
    """The annotation queries of a dashboard."""
    found: list[Json] = DASHBOARDS[uid]["annotations"]["list"]
    return found


def variables(uid: str) -> dict[str, Json]:
    """The variables of a dashboard by name."""
    return {variable["name"]: variable for variable in DASHBOARDS[uid]["templating"]["list"]}


def substitute(text: str, values: dict[str, str]) -> str:
    """Put values in place of $name and ${name}; what is not in `values` stays."""
    return re.sub(r"\$(?:\{(\w+)\}|(\w+))", lambda found: values.get(found[1] or found[2], found[0]), text)
