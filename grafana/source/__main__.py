"""Writes grafana/dashboards/*.json: python -m grafana.source."""

from grafana.source.render import DIRECTORY, dashboards

for name, content in dashboards().items():
    (DIRECTORY / name).write_text(content)
