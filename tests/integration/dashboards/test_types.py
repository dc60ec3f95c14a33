"""The dashboards against Grafana's own TypeScript types."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.dashboards import DASHBOARDS, Json, panels
from tests.requirements import require_program

TYPES = Path(__file__).parents[3] / "grafana" / "types"
RAW = TYPES / "node_modules" / "@grafana" / "schema" / "dist" / "types" / "raw"
COMPILE = ("--noEmit", "--skipLibCheck", "--strict", "--module", "esnext", "--moduleResolution", "bundler",
           "--target", "es2022")  # fmt: skip

# JSON holds the values of enumerations, not their names.
LITERALS = (
    "type Written<T> = T extends string ? `${T}` : T extends (infer E)[] ? Written<E>[] : "
    "T extends object ? { [K in keyof T]: Written<T[K]> } : T;"
)


NODE = "install Node.js 18 or newer with npm"


@pytest.fixture(scope="session")
def compiler() -> Path:
    """The TypeScript compiler, installed with Grafana's types from the lock file."""
    npm = require_program("npm", NODE)
    installed = TYPES / "node_modules" / "typescript" / "bin" / "tsc"
    if not installed.exists():
        subprocess.run([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=TYPES, check=True, timeout=120)
    return installed


def options_type(kind: str) -> Path:
    return RAW / "composable" / kind.replace("-", "") / "panelcfg" / "x" / "types.gen"


def without_prometheus_annotations(dashboard: Json) -> Json:
    """The dashboard without what Grafana's types leave to the data source: how it is asked for annotations."""
    theirs = {"expr", "step", "titleFormat", "textFormat", "tagKeys"}
    kept = [{key: each[key] for key in each.keys() - theirs} for each in dashboard["annotations"]["list"]]
    return {**dashboard, "annotations": {"list": kept}}


def typed(name: str) -> str:
    """TypeScript that gives a dashboard and each panel's options the types that Grafana gives them."""
    lines = [
        LITERALS,
        f'import type {{ Dashboard }} from "{RAW}/dashboard/x/types.gen";',
        f"const dashboard: Written<Dashboard> = {json.dumps(without_prometheus_annotations(DASHBOARDS[name]))};",
    ]
    for number, panel in enumerate(panels(DASHBOARDS[name])):
        path = options_type(panel["type"])
        if path.with_suffix(".gen.d.ts").exists() and "Options" in path.with_suffix(".gen.d.ts").read_text():
            lines.append(f'import type {{ Options as Options{number} }} from "{path}";')
            lines.append(f"const options{number}: Written<Partial<Options{number}>> = {json.dumps(panel['options'])};")
    return "\n".join(lines) + "\nexport {};\n"


def compile_all(compiler: Path, directory: Path, sources: dict[str, str]) -> str:
    files: list[Path] = []
    for name, content in sources.items():
        files.append(directory / f"{name}.ts")
        files[-1].write_text(content)
    command = [require_program("node", NODE), str(compiler), *COMPILE, *map(str, files)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False).stdout


def test_dashboards_and_options_have_grafanas_types(compiler: Path, tmp_path: Path) -> None:
    assert compile_all(compiler, tmp_path, {name: typed(name) for name in DASHBOARDS}) == ""


def test_the_types_catch_a_misspelt_field(compiler: Path, tmp_path: Path) -> None:
    broken = typed("mlops-fairness").replace('"gridPos"', '"gridPosition"', 1)
    assert "gridPosition" in compile_all(compiler, tmp_path, {"broken": broken})
