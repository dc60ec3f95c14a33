"""The shipped rules for tests that cannot wait: all that shortens is how long a condition must hold."""

import re
from typing import Any

import yaml

from prometheus.source.render import rule_files

HELD = re.compile(r"(time\(\) - ALERTS_FOR_STATE\{[^}]*\} >= )([\d.]+)")
"""In an expression: how long another alert has been held."""

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def hastened(factor: float) -> dict[str, str]:
    """Rule files with `for` and `keep_firing_for` divided by `factor`, and no evaluation interval of their own.

    Expressions are as shipped, but for how long they ask other alerts to have been held; thresholds and windows are.
    """
    texts = {}
    for name, text in rule_files().items():
        content: dict[str, Any] = yaml.safe_load(text)
        for group in content["groups"]:
            group.pop("interval", None)
            for rule in group["rules"]:
                rule["expr"] = HELD.sub(lambda held: f"{held[1]}{float(held[2]) / factor:.3f}", rule["expr"])
                for key in ("for", "keep_firing_for"):
                    if key in rule:
                        seconds = int(rule[key][:-1]) * _SECONDS[rule[key][-1]]
                        rule[key] = f"{max(round(seconds / factor * 1000), 0)}ms"
        texts[name] = yaml.safe_dump(content)
    return texts
