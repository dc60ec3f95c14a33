"""The dashboards as JSON files."""

import json
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from grafana.source import data, exporter, model, models

DIRECTORY = Path(__file__).parents[1] / "dashboards"
_SOURCES = (models, model, data, exporter)


def dashboards() -> dict[str, str]:
    """Return the content of each dashboard file by its name, which is the dashboard's uid."""
    made = [source.build() for source in _SOURCES]
    return {f"{each.uid}.json": json.dumps(each, cls=JSONEncoder, indent=2) + "\n" for each in made}
