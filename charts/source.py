"""Write what of the chart is made from elsewhere: `python -m charts.source`.

Rules and dashboards are links into prometheus/ and grafana/, which Helm follows. Inhibition rules have another form in
the operator's AlertmanagerConfig than in Alertmanager's own file, and are made from that. values.schema.json, by which
Helm refuses a misspelt key, follows from the defaults in values.yaml.
"""

import json
import re
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parent / "mlops-exporter"
_ALERTMANAGER = Path(__file__).parent.parent / "alertmanager" / "alertmanager.yml"
_MATCHER = re.compile(r'(\w+)(=~|!~|!=|=)"(.*)"')
_HEADER = "# Made by `python -m charts.source` from alertmanager/alertmanager.yml: change that, not this file.\n"


def inhibition() -> str:
    """Return Alertmanager's inhibition rules as the operator's AlertmanagerConfig has them."""
    rules = yaml.safe_load(_ALERTMANAGER.read_text())["inhibit_rules"]
    converted = [
        {
            "sourceMatch": [_matcher(text) for text in rule["source_matchers"]],
            "targetMatch": [_matcher(text) for text in rule["target_matchers"]],
            "equal": rule["equal"],
        }
        for rule in rules
    ]
    return _HEADER + yaml.safe_dump({"inhibitRules": converted}, sort_keys=False)


def _matcher(text: str) -> dict[str, Any]:
    found = _MATCHER.fullmatch(text)
    if found is None:
        raise ValueError(f'{text!r} is no matcher: write it as in alertname="MLWatchdog"')
    name, kind, value = found.groups()
    return {"name": name, "matchType": kind, "value": value}


_CHOICES = {
    "mode": ["models", "compute"],
    "image.pullPolicy": ["Always", "IfNotPresent", "Never"],
    "service.type": ["ClusterIP", "NodePort", "LoadBalancer"],
    "serviceMonitor.scheme": ["http", "https"],
}
_OPEN = {"resources", "dashboards.labels"}  # whose default has keys, and which may have others


def schema() -> str:
    """Return the JSON schema of the values: a key has its default's type; a mapping that is empty there is open."""
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    described = {"$schema": "http://json-schema.org/draft-07/schema#", **_described(values, "")}
    described["properties"]["global"] = {"type": "object"}  # Helm's own, from a chart above
    return json.dumps(described, indent=2) + "\n"


def _described(value: Any, place: str) -> dict[str, Any]:
    if place in _CHOICES:
        return {"enum": _CHOICES[place]}
    if isinstance(value, dict):
        if not value or place in _OPEN:
            return {"type": "object"}
        inner = {key: _described(each, f"{place}.{key}".lstrip(".")) for key, each in value.items()}
        return {"type": "object", "additionalProperties": False, "properties": inner}
    kinds = {bool: "boolean", int: "integer", str: "string", list: "array"}
    return {"type": kinds[type(value)]}


if __name__ == "__main__":
    (CHART / "values.schema.json").write_text(schema())
    (CHART / "files" / "inhibition.yaml").write_text(inhibition())
