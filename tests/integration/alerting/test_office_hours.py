"""Models that work on weekdays: their weekends, early Fridays and holidays are no outage, and an outage is one."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from prometheus.source.render import rule_files
from tests.requirements import require_program

STEP = 9  # minutes; no range begins at a sample
DAY = 1440
ALERT = "MLNoPredictions"
FIRST = 4  # of 1970: a Monday
WEEKS = 4


def _weekdays(minute: int) -> float:
    """Ten events a minute from 8 to 18 on weekdays."""
    day, hour = divmod(minute, DAY)
    return 10.0 if (day + 3) % 7 < 5 and 8 * 60 <= hour < 18 * 60 else 0.0


def _early(minute: int) -> float:
    """Fridays of every other week end at half past two."""
    day, hour = divmod(minute, DAY)
    return 0.0 if (day + 3) % 7 == 4 and (day // 7) % 2 and hour > 14.5 * 60 else _weekdays(minute)


def _holiday(minute: int) -> float:
    """The Wednesday of the third week is one."""
    return 0.0 if minute // DAY == FIRST + 16 else _weekdays(minute)


def _outage(minute: int) -> float:
    """From the second weekend on, nothing comes any more."""
    return 0.0 if minute // DAY >= FIRST + 12 else _weekdays(minute)


def _clocks(minute: int) -> float:
    """From the third week on, work begins and ends an hour later."""
    return _weekdays(minute - 60 if minute // DAY >= FIRST + 14 else minute)


def _always(minute: int) -> float:
    """A model without a pause, until the third week."""
    return 0.0 if minute // DAY >= FIRST + 15 else 10.0


def _once(minute: int) -> float:
    """A load test on a day of the second week, and never again."""
    return 10.0 if minute // DAY == FIRST + 9 else 0.0


LIVES: dict[str, Callable[[int], float]] = {
    "weekdays": _weekdays, "early": _early, "holiday": _holiday, "outage": _outage, "clocks": _clocks,
    "always": _always, "once": _once,
}  # fmt: skip


def _values(life: Callable[[int], float]) -> str:
    level, parts = 0.0, [f"_x{FIRST * DAY // STEP - 1}"]
    for minute in range(FIRST * DAY, (FIRST + 7 * WEEKS) * DAY, STEP):
        parts.append(f"{level:g}")
        level += life(minute) * STEP
    return " ".join(parts)


def _at(day: int, hour: float) -> int:
    return int((FIRST + day) * DAY + hour * 60)


@pytest.mark.soak  # four weeks, and the rules' own cases in prometheus/tests hold the same day by day
def test_weekends_and_holidays_are_no_outage(tmp_path: Path) -> None:
    names = ("thresholds.yml", "model_alerts.yml")
    for name in names:
        groups = yaml.safe_load(rule_files()[name])["groups"]
        for group in groups:
            group["rules"] = [rule for rule in group["rules"] if rule.get("alert", ALERT) == ALERT]
        (tmp_path / name).write_text(yaml.safe_dump({"groups": [group for group in groups if group["rules"]]}))
    here = 'job="mlops-exporter",instance="a:1"'
    series = [
        {"series": f'ml_model_predictions_total{{{here},model="{name}",version="1"}}', "values": _values(life)}
        for name, life in LIVES.items()
    ] + [
        {"series": f'ml_model_labels_unmatched_total{{{here},model="{name}"}}',
         "values": f"_x{FIRST * DAY // STEP} 0x{7 * WEEKS * DAY // STEP}"}
        for name in LIVES
    ]  # fmt: skip
    fired = f'count by (model) (count_over_time(ALERTS{{alertname="{ALERT}",alertstate="firing"}}[%s]) > 0)'

    def expected(*models: str) -> list[dict[str, Any]]:
        return [{"labels": f'{{model="{name}"}}', "value": 1} for name in models]

    checks = [
        (fired % "14d", _at(14, 8), expected()),  # two weekends, an early Friday
        (fired % "10m", _at(14, 10.2), expected("outage")),  # on the Monday after
        (fired % "10m", _at(14, 12.0), expected("outage")),
        (fired % "10m", _at(15, 2.0), expected("always")),
        (fired % "10m", _at(16, 12.0), expected("always", "holiday", "outage")),
        (fired % "10m", _at(16, 23.0), expected("always")),  # when a silence for the holiday may end
        (fired % "10m", _at(24, 12.0), expected("always", "outage")),  # a week later
        (fired % "14d", _at(28, 0), expected("always", "holiday", "outage")),
    ]
    test = {
        "rule_files": list(names),
        "evaluation_interval": f"{STEP}m",
        "tests": [{
            "interval": f"{STEP}m",
            "input_series": series,
            "promql_expr_test": [
                {"expr": expr, "eval_time": f"{minute}m", "exp_samples": samples} for expr, minute, samples in checks
            ],
        }],
    }  # fmt: skip
    (tmp_path / "test.json").write_text(json.dumps(test))
    command = [require_program("promtool"), "test", "rules", "test.json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
