"""Every metric is looked at: by a rule or an alert, in a runbook, in a panel or a variable of a dashboard."""

import re
from pathlib import Path

from mlops_exporter.exposition.catalogue import all_metrics

ROOT = Path(__file__).parents[3]
PLACES = {"prometheus/rules": "*.yml", "grafana/dashboards": "*.json", "docs/runbooks": "*.md"}


def test_every_new_metric_is_looked_at() -> None:
    text = "".join(path.read_text() for folder, files in PLACES.items() for path in (ROOT / folder).glob(files))
    named = set(re.findall(r"\bml_\w+", text))
    named |= {re.sub(r"_(bucket|sum|count)$", "", name) for name in named}
    assert not {metric.name for metric in all_metrics()} - named
