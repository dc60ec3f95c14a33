"""The dashboards as JSON files."""

import json
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from grafana.source import compute, data, exporter, fairness, model, models

DIRECTORY = Path(__file__).parents[1] / "dashboards"
_SOURCES = (models, model, data, fairness, compute, exporter)


def dashboards() -> dict[str, str]:
    """Return the content of each dashboard file by its name, which is the dashboard's uid."""
    return {f"{made.uid}.json": _written(made) for made in (source.build() for source in _SOURCES)}


def _written(dashboard: Dashboard) -> str:
    content = json.loads(json.dumps(dashboard, cls=JSONEncoder))
    for variable in content["templating"]["list"]:
        for name in ("auto", "auto_min", "auto_count"):  # the builders give them to all, Grafana's schema to intervals
            variable.pop(name, None)
    return json.dumps(content, indent=2) + "\n"
