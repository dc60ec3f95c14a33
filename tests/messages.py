"""The messages of twelve faults as a page of docs: python -m tests.messages writes docs/messages.md.

The alerts are those that promtool renders in prometheus/tests, the words those of Alertmanager's own templates.
"""

import json
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import yaml

from tests.requirements import require_program

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "messages.md"
BEGAN = "2026-11-02T10:00:00Z"

FAULTS = {
    "MLModelPerformanceBelowBenchmark": "A model performs worse than agreed",
    "MLErrorBudgetBurnFast": "A release predicts wrongly",
    "MLFeatureDrift": "Several features move",
    "MLFeatureUnusable": "A feature no longer arrives",
    "MLFeatureUnseenCategories": "New categories appear",
    "MLFairnessOutsideBenchmark": "Groups are treated unlike",
    "MLPredictionFailures": "Predictions fail",
    "MLNoPredictions": "A model gets no traffic",
    "MLNoLabels": "Labels stop",
    "MLExporterDown": "An exporter dies",
    "MLSourceDown": "A source of events dies",
    "MLGpuEccErrors": "A GPU returns wrong data",
}

_HEAD = """\
# Messages

**On this page**: {contents}

What twelve faults read like on a phone: the title, and the text as mail has it. They are the alerts that the rules'
tests fire, rendered by the shipped templates. A test holds this page to them.
"""


def page() -> str:
    """Return the text of the page."""
    parts = [_section(fault, _fired(name)) for name, fault in FAULTS.items()]
    contents = " · ".join(f"[{fault}](#{fault.lower().replace(' ', '-')})" for fault in FAULTS.values())
    return "\n".join([_HEAD.format(contents=contents), *parts])


def _fired(name: str) -> dict[str, Any]:
    """Return the first alert of that name that the tests of the rules expect, as Alertmanager hands it to templates."""
    for path in sorted((ROOT / "prometheus" / "tests").glob("*.yml")):
        for test in yaml.load(path.read_text(), Loader=yaml.CSafeLoader)["tests"]:
            for asked in test.get("alert_rule_test", []):
                if asked["alertname"] == name and asked.get("exp_alerts"):
                    first = _told(asked["exp_alerts"][0])
                    return {
                        "status": "firing",
                        "fingerprint": name,
                        "generatorURL": "http://prometheus.example.org/graph?g0.expr=up&g0.tab=1",
                        "labels": {"alertname": name, **first["exp_labels"]},
                        "annotations": first["exp_annotations"],
                        "startsAt": BEGAN,
                    }
    raise LookupError(f"no test of the rules fires {name}")


def _told(expected: dict[str, Any]) -> dict[str, Any]:
    """Return an expected alert at a time of today, of a model with a name: promtool's clock begins in 1970."""
    text = re.sub(r"1970-01-01 [\d:]+", "2026-11-02 10:00:00", json.dumps(expected))
    found: dict[str, Any] = json.loads(re.sub(r"\bfires\b", "credit", text))
    return found


def _section(fault: str, alert: dict[str, Any]) -> str:
    title, text = (_rendered(template, alert) for template in ("mlops.title", "mlops.plain"))
    return f"## {fault}\n\n**{title}**\n\n```text\n{text}\n```\n"


def _rendered(template: str, alert: dict[str, Any]) -> str:
    data = {
        "receiver": "x", "status": "firing", "alerts": [alert], "groupLabels": {}, "commonAnnotations": {},
        "commonLabels": alert["labels"], "externalURL": "http://alertmanager.example.org",
    }  # fmt: skip
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(data, file)
        file.flush()
        done = subprocess.run(
            [
                *(require_program("amtool"), "template", "render"),
                f"--template.glob={ROOT / 'alertmanager' / 'templates' / '*.tmpl'}",
                *(f"--template.data={file.name}", "--template.text", f'{{{{ template "{template}" . }}}}'),
            ],
            capture_output=True, text=True,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return "\n".join(line.rstrip() for line in done.stdout.strip().splitlines())


if __name__ == "__main__":
    PAGE.write_text(page())
