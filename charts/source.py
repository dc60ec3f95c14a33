"""Write what of the chart is made from elsewhere: `python -m charts.source`.

Rules and dashboards are links into prometheus/ and grafana/, which Helm follows. Inhibition rules have another form in
the operator's AlertmanagerConfig than in Alertmanager's own file, and are made from that.
"""

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


if __name__ == "__main__":
    (CHART / "files" / "inhibition.yaml").write_text(inhibition())
