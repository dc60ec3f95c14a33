"""What promtool says of the rules and of every alert's test."""

import subprocess
from pathlib import Path

import pytest

from prometheus.source.__main__ import RULES, TESTS
from tests.requirements import require_program


def promtool(*arguments: str | Path) -> None:
    run = subprocess.run([require_program("promtool"), *arguments], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


def test_configuration_loads_with_its_rules() -> None:
    promtool("check", "config", RULES.parent / "prometheus.yml")


def test_rules_pass_every_lint() -> None:
    promtool("check", "rules", "--lint=all", "--lint-fatal", *RULES.glob("*.yml"))


@pytest.mark.parametrize("name", sorted(path.name for path in TESTS.glob("*.yml")))
def test_alerts(name: str) -> None:
    promtool("test", "rules", TESTS / name)
