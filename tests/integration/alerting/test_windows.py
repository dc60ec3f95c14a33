"""Which window alerts judge by, as Prometheus evaluates the shipped rules."""

import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.requirements import require_program

RULES = Path(__file__).parents[3] / "prometheus" / "rules"
MODEL = 'job="j",instance="i",model="m",version="1"'


def _tested(tmp_path: Path, short: str, expected: dict[str, int]) -> str:
    """What promtool has against the window of minutes, given sizes of a window of a quarter of an hour."""
    series = [
        {"series": f'ml_model_window_predictions{{{MODEL},window="15m"}}', "values": short},
        {"series": f'ml_model_window_predictions{{{MODEL},window="1h"}}', "values": "3200x60"},
        *({"series": f'ml_model_window_seconds{{{MODEL},window="{name}"}}', "values": f"{seconds}x60"}
          for name, seconds in (("15m", 900), ("1h", 3600))),
    ]  # fmt: skip
    checks: list[dict[str, Any]] = [
        {"expr": "ml:model_window:current", "eval_time": time, "exp_samples": [
            {"labels": f'ml:model_window:current{{{MODEL},window="{"15m" if value == 900 else "1h"}"}}', "value": value}
        ]}
        for time, value in expected.items()
    ]  # fmt: skip
    test = {
        "rule_files": [str(RULES / "thresholds.yml"), str(RULES / "windows.yml")],
        "evaluation_interval": "1m",
        "tests": [{"interval": "1m", "input_series": series, "promql_expr_test": checks}],
    }
    (tmp_path / "test.yml").write_text(yaml.safe_dump(test))
    command = [require_program("promtool"), "test", "rules", str(tmp_path / "test.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_the_window_stays_while_its_size_hovers_about_what_is_enough(tmp_path: Path) -> None:
    hovering = "820 " + "790 830 760 810 700 " * 4
    assert not _tested(tmp_path, hovering, {f"{minute}m": 900 for minute in range(2, 20)})


def test_the_window_gives_way_when_it_clearly_has_too_few_and_returns_when_it_has_enough(tmp_path: Path) -> None:
    sizes = "820 820 820 590 700 790 790 800 800 700"
    expected = {"2m": 900, "3m": 3600, "4m": 3600, "6m": 3600, "7m": 900, "9m": 900}
    assert not _tested(tmp_path, sizes, expected)


def test_a_window_that_never_had_enough_is_not_taken(tmp_path: Path) -> None:
    assert not _tested(tmp_path, "700x20", {"2m": 3600, "19m": 3600})
    assert _tested(tmp_path, "700x20", {"19m": 900})
