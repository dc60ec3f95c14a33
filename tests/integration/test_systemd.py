"""The systemd unit: understood by systemd, closed to what it does not need, and its commands are the exporter's."""

import shlex
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest

from tests.requirements import require_program

UNIT = Path(__file__).parents[2] / "systemd" / "mlops-exporter.service"
PROGRAM = "/opt/mlops-exporter/bin/mlops-exporter"
EXPOSURE = 20
"""What `systemd-analyze security` may say at most, in tenths of its scale from 0 to 10."""


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The unit, with a program that is there in place of the exporter."""
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace(PROGRAM, "/bin/true"))
    gpu = tmp_path / f"{UNIT.name}.d" / "gpu.conf"
    gpu.parent.mkdir()
    gpu.write_text((UNIT.parent / "gpu.conf").read_text())
    return unit


def settings(path: Path) -> dict[str, list[str]]:
    """The values of each setting of a unit."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for line in path.read_text().splitlines():
        name, separator, value = line.partition("=")
        if separator and not line.startswith("#"):
            found[name].append(value)
    return found


def test_systemd_understands_the_unit_with_and_without_gpus(installed: Path) -> None:
    analyze = require_program("systemd-analyze")
    for _ in range(2):
        done = subprocess.run(
            [analyze, "verify", "--man=no", str(installed)], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        (installed.parent / f"{UNIT.name}.d" / "gpu.conf").unlink(missing_ok=True)


def test_the_service_is_closed_to_what_it_does_not_need(installed: Path) -> None:
    analyze = require_program("systemd-analyze")
    command = [analyze, "security", "--offline=true", f"--threshold={EXPOSURE}", "--no-pager", str(installed)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout.splitlines()[-1]


def test_its_commands_are_those_of_the_exporter() -> None:
    unit = settings(UNIT)
    (start,), (before,) = unit["ExecStart"], unit["ExecStartPre"]
    assert shlex.split(start)[:2] == [PROGRAM, "run"]
    assert shlex.split(before)[:2] == [PROGRAM, "check"]
    (path,) = shlex.split(before)[2:]
    assert shlex.split(start)[2:] == [f"--config.file={path}"]
    assert unit["ExecReload"] == ["/bin/kill -HUP $MAINPID"]
