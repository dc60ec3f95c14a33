"""GitHub's workflows by zizmor, and by actionlint: `make chart`."""

import subprocess
import sysconfig
from pathlib import Path

from tests.chart import require_tool

_WORKFLOWS = sorted((Path(__file__).parents[2] / ".github" / "workflows").glob("*.yml"))


def _lint(*paths: Path) -> subprocess.CompletedProcess[str]:
    command = [require_tool("actionlint"), "-no-color", *map(str, paths)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_workflows_are_right() -> None:
    assert len(_WORKFLOWS) >= 2
    done = _lint(*_WORKFLOWS)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_misspelt_key_is_found(tmp_path: Path) -> None:
    path = tmp_path / "wrong.yml"
    path.write_text(_WORKFLOWS[0].read_text().replace("runs-on:", "run-on:"))
    assert "run-on" in _lint(path).stdout


def _audit(*paths: Path) -> subprocess.CompletedProcess[str]:
    command = [f"{sysconfig.get_path('scripts')}/zizmor", "--offline", "--persona=pedantic", *map(str, paths)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_workflows_are_safe() -> None:
    done = _audit(_WORKFLOWS[0].parents[1])
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_unsafe_step_is_found(tmp_path: Path) -> None:
    path = tmp_path / ".github" / "workflows" / "wrong.yml"
    path.parent.mkdir(parents=True)
    path.write_text(
        _WORKFLOWS[-1].read_text().replace("run: make test", "run: echo ${{ github.event.pull_request.title }}")
    )
    assert "template-injection" in _audit(path).stdout
