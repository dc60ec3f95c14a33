"""Drift from the same hours of last week, from the counters of two replicas, one of which restarts."""

from pathlib import Path
from typing import Any

import numpy as np
import yaml

from mlops_exporter.arrays import Floats
from prometheus.source.__main__ import RULES
from prometheus.source.render import GROUPS
from tests.integration.alerting.test_promtool import promtool
from tests.integration.alerting.test_setups import series

STEP = 10  # minutes
DAY = 24 * 60 // STEP
END = 8 * DAY + 6 * 60 // STEP  # six in the morning of the ninth day
FILES = ("thresholds.yml", "fleet.yml", "last_week.yml")

BY_NIGHT, BY_DAY = np.array([270.0, 60.0, 30.0]), np.array([30.0, 60.0, 270.0])


def traffic(moved_from: int = END + 1) -> Floats:
    """Values in each bin of each step, by a rhythm of the day, and from some step on as by day."""
    steps = np.arange(END + 1)[:, np.newaxis]
    return np.where((steps % DAY < DAY // 2) & (steps < moved_from), BY_NIGHT, BY_DAY)


def counters(model: str, values: Floats, begin: int = 0, restart: int | None = None) -> list[Any]:
    """Two replicas, each of which counts half of the values from a step on; one restarts at another step."""
    found = []
    for instance, halved in (("a", values / 2), ("b", values / 2)):
        where = {"job": "fleet", "instance": instance, "model": model, "version": "1"}
        info = {"task": "binary", "profile_hash": "x", "profile_version": "1"}
        absent = f"_x{begin} " if begin else ""
        found.append(series("ml_model_info", f"{absent}1x{END - begin}", **where, **info))
        found.append(series("ml_feature_reference_values", f"{absent}1000x{END - begin}", **where, feature="age"))
        counted = halved[begin:].cumsum(0)
        if restart is not None and instance == "b":
            counted[restart - begin :] -= counted[restart - begin]
        for number, column in enumerate(counted.T):
            of = {"feature": "age", "bin": str(number), "range": f"[{number}, {number + 1})"}
            found.append(
                series("ml_feature_values_total", absent + " ".join(f"{it:g}" for it in column), **where, **of)
            )
            found.append(series("ml_feature_reference_ratio", f"{absent}{1 / 3}x{END - begin}", **where, **of))
    return found


def distance(values: Floats, window: int) -> float:
    """PSI of the last steps against those a week before."""
    now, then = (part.sum(0) + 0.5 for part in (values[-window:], values[-window - 7 * DAY : -7 * DAY]))
    p, q = now / now.sum(), then / then.sum()
    return float(((p - q) * np.log(p / q)).sum())


SHIFTED = traffic(moved_from=END - 90 // STEP)
MODELS = {
    "rhythm": counters("rhythm", traffic(), restart=END - 40 // STEP),
    "shifted": counters("shifted", SHIFTED, restart=END - 10 * DAY // 3),
    "young": counters("young", traffic(), begin=END - 7 * DAY - DAY // 2),  # of last week's day, only half
    "few": counters("few", traffic() / 100),
}


def expected(values: dict[tuple[str, str], float]) -> list[dict[str, Any]]:
    return [
        {"labels": f'{{model="{model}",window="{window}"}}', "value": value}
        for (model, window), value in values.items()
    ]


def test_a_week_later(tmp_path: Path) -> None:
    """What repeats itself is as last week, however far from the reference; what has moved is told, where it can be."""
    hour = 60 // STEP
    assert distance(SHIFTED, hour) > 1
    psi = {
        ("rhythm", "1h"): 0.0,
        ("rhythm", "1d"): 0.0,
        ("shifted", "1h"): round(100 * distance(SHIFTED, hour)),
        ("shifted", "1d"): round(100 * distance(SHIFTED, DAY)),
        ("young", "1h"): 0.0,
    }
    asked = {
        "max by (model, window) (round(100 * ml:feature_last_week:psi))": expected(psi),
        "max by (model, window) (ml:feature_last_week:psi_threshold)": expected(
            dict.fromkeys([*psi, ("young", "1d")], 0.1)
        ),
        'count(ml:feature_drift:1h{model="rhythm",statistic="psi"} > 0.25)': [{"labels": "{}", "value": 1}],
    }
    test = {
        "rule_files": [str(RULES / name) for name in FILES],
        "evaluation_interval": "1h",  # on which all offsets lie
        "group_eval_order": [group for name in FILES for group in GROUPS[name]],
        "tests": [{
            "interval": f"{STEP}m",
            "input_series": [one for several in MODELS.values() for one in several],
            "promql_expr_test": [
                {"expr": expr, "eval_time": f"{END * STEP}m", "exp_samples": samples}
                for expr, samples in asked.items()
            ],
        }],
    }  # fmt: skip
    (tmp_path / "test.yml").write_text(yaml.safe_dump(test))
    promtool("test", "rules", tmp_path / "test.yml")
