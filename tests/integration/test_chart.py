"""The chart with the real tools: `make chart`."""

import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml

from charts.source import CHART
from tests.chart import CASES, GOLDEN, copied, digest, render, require_tool
from tests.requirements import lack
from tests.support.pages import blocks

_ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("case", CASES)
def test_lint(case: str) -> None:
    values = CHART / "ci" / f"{case}-values.yaml"
    command = [require_tool("helm"), "lint", "--strict", str(CHART), f"--values={values}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("case", CASES)
def test_template_is_the_golden(case: str) -> None:
    text = f"# chart {digest()}\n" + "".join(f"---\n{text}" for text in render(case) if not copied(text))
    path = GOLDEN / f"{case}.yaml"
    if os.environ.get("UPDATE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()


def test_rules_are_byte_for_byte_those_of_the_bundle() -> None:
    manifests = [text for text in render("models") if "kind: PrometheusRule" in text]
    specs = [text.partition("\nspec:\n")[2] for text in manifests]
    files = sorted((_ROOT / "prometheus" / "rules").glob("*.yml"))
    assert len(specs) == len(files)
    for path in files:
        indented = "".join(f"  {line}" for line in path.read_text().splitlines(keepends=True))
        assert any(
            spec.rstrip() == indented.rstrip() or _unindented(spec) == path.read_text().rstrip() for spec in specs
        ), path


def _unindented(spec: str) -> str:
    return "\n".join(line.removeprefix("  ") for line in spec.splitlines()).rstrip()


def test_dashboards_are_byte_for_byte_those_of_the_bundle() -> None:
    found: dict[str, str] = {}
    for text in render("models"):
        if "templates/dashboards.yaml" in text:
            found |= yaml.safe_load(text)["data"]
    files = {path.name: path.read_text() for path in (_ROOT / "grafana" / "dashboards").glob("*.json")}
    assert {name: text.rstrip() for name, text in found.items()} == {
        name: text.rstrip() for name, text in files.items()
    }


_FITS = """
import json, sys, kserve

def walk(kind, value):
    model = getattr(kserve, kind, None)
    if model is None:
        return
    kinds = {written: model.openapi_types[name] for name, written in model.attribute_map.items()}
    for key, inner in value.items():
        if key not in kinds:
            sys.exit(f"{kind} has no {key}")
        walk(kinds[key], inner)

walk("V1beta1InferenceService", json.load(sys.stdin))
"""


def test_kserve_knows_the_logger_that_the_page_sets() -> None:
    python = Path(require_tool("helm")).with_name("kserve") / "bin" / "kserve-python"
    if not python.exists():
        lack("KServe's models are not there: `make chart` installs them")
    page = (_ROOT / "docs" / "kubernetes.md").read_text()
    (written,) = (block for block in blocks(page, "yaml") if "predictor" in block)
    for text, said in ((written, ""), (written.replace("mode:", "modes:"), "V1beta1LoggerSpec has no modes")):
        done = subprocess.run(
            [str(python), "-c", _FITS],
            input=json.dumps(yaml.safe_load(text)),
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode == 0, said in done.stderr) == (not said, True), done.stderr


def test_kube_score_finds_nothing_that_is_not_argued() -> None:
    argued = [
        "container-image-pull-policy",  # a tag of a release never changes
        "container-security-context-user-group-id",  # 10042, beside the image's own user
    ]
    ignored = [part for test in argued for part in ("--ignore-test", test)]
    for case in CASES:
        text = "---\n".join(manifest for manifest in render(case) if not copied(manifest))
        command = [require_tool("kube-score"), "score", "--output-format=ci", *ignored, "-"]
        done = subprocess.run(command, input=text, capture_output=True, text=True)
        bad = [line for line in done.stdout.splitlines() if line.startswith(("[CRITICAL]", "[WARNING]"))]
        assert not bad, "\n".join(bad)
