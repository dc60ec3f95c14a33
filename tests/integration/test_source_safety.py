import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_bandit_finds_nothing() -> None:
    command = [sys.executable, "-m", "bandit", "--recursive", "--quiet", "--configfile", "pyproject.toml", "exporter"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_dependencies_have_no_known_vulnerability(tmp_path: Path) -> None:
    """Asks the advisory database for the pinned versions; without network there is no answer, and the test skips."""
    pins = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("\n".join(pins))
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(requirements), "--no-deps", "--disable-pip"]
    try:
        done = subprocess.run(
            [*command, "--progress-spinner=off", "--format=json", "--timeout=5"],
            capture_output=True,
            text=True,
            check=False,
            timeout=40,
            env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)},
        )
    except subprocess.TimeoutExpired:
        pytest.skip("the advisory database did not answer within 40 s")
    if not done.stdout:
        pytest.skip(f"the advisory database cannot be reached: {done.stderr.strip().splitlines()[-1:]}")
    report = json.loads(done.stdout)["dependencies"]
    assert len(report) == len(pins)
    assert {entry["name"]: entry["vulns"] for entry in report if entry.get("vulns")} == {}
