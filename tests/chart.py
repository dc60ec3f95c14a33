"""The Helm chart as the tests see it: what it is made of, and how it is rendered."""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from charts.source import CHART

GOLDEN = Path(__file__).parent / "golden" / "chart"
CASES = sorted(path.name.removesuffix("-values.yaml") for path in (CHART / "ci").glob("*-values.yaml"))
KUBERNETES = "1.34.0"


def digest() -> str:
    """Return a digest of what a rendering follows from, but for rules and dashboards, which are copied as they are."""
    parts = [path for path in sorted(CHART.rglob("*")) if path.is_file() and path.parent.parent != CHART / "files"]
    return hashlib.sha256(b"".join(path.read_bytes() for path in parts)).hexdigest()


def require_tool(name: str) -> str:
    """Return the path of a program that `make chart` builds with Go."""
    path = shutil.which(name)
    if path is None:
        if os.environ.get("CHART_TOOLS"):
            pytest.fail(f"{name} was not built")
        pytest.skip(f"{name} is not there: `make chart` builds it, which needs Go")
    return path


def render(case: str, *more: str) -> list[str]:
    """Return the manifests that Helm makes with the values of a case."""
    values = CHART / "ci" / f"{case}-values.yaml"
    command = [require_tool("helm"), "template", "demo", str(CHART), "--namespace=mlops", f"--values={values}"]
    done = subprocess.run([*command, f"--kube-version={KUBERNETES}", *more], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [text for text in done.stdout.split("---\n") if text.strip()]


def copied(manifest: str) -> bool:
    """Whether it holds rules or a dashboard, which stand elsewhere already."""
    return "kind: PrometheusRule" in manifest or "templates/dashboards.yaml" in manifest


def golden(case: str) -> list[dict[str, Any]]:
    """Return the manifests of a case as they were last rendered."""
    found = yaml.safe_load_all((GOLDEN / f"{case}.yaml").read_text())
    return [manifest for manifest in found if manifest is not None]
