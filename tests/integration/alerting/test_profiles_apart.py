"""Fleet rules add up only what was counted by the same bins, and tell how many profiles a range spans."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from prometheus.source.__main__ import RULES
from tests.integration.alerting.test_promtool import promtool
from tests.integration.alerting.test_setups import series

MINUTES = 100


def replica(instance: str, profile: str, model: str, first: float, second: float, at: str = "1") -> Iterator[Any]:
    """A replica that counts so many values a minute in its two bins; its profile is there `at` some minutes."""
    where = {"job": "fleet", "instance": instance, "cluster": "eu", "model": model, "version": "3"}
    info = {"task": "regression", "profile_hash": profile, "profile_version": "3"}
    yield series("ml_model_info", at if " " in at else f"{at}x{MINUTES}", **where, **info)
    if not first:
        return
    yield series("ml_feature_reference_values", f"1000x{MINUTES}", **where, feature="age")
    for bin_, rate in (("0", first), ("1", second)):
        of = {"feature": "age", "bin": bin_, "range": f"[{bin_}, {profile})"}
        yield series("ml_feature_values_total", f"0+{rate}x{MINUTES}", **where, **of)
        yield series("ml_feature_reference_ratio", f"0.5x{MINUTES}", **where, **of)


def test_profiles_stay_apart(tmp_path: Path) -> None:
    given = [
        *replica("a", "x", "split", 10, 10),
        *replica("b", "x", "split", 20, 20),
        *replica("c", "y", "split", 30, 10),
        # In the range a profile came in the place of another: the counts are of both, or of neither.
        *replica("a", "x", "rebuilt", 10, 10, "1x60 _x40"),
        *replica("a", "y", "rebuilt", 0, 0, "_x60 1x40"),
        *replica("b", "x", "rebuilt", 10, 10),
        # A replica that is gone has been counted by its profile up to then.
        *replica("a", "x", "gone", 10, 10, "1x95 stale"),
        *replica("b", "x", "gone", 10, 10),
    ]
    profiles = "count by (model, profile_hash) (ml:feature_reference:values)"
    expected: list[tuple[str, dict[str, float]]] = [
        ("max by (model) (ml:model_profiles:1h)", {'{model="split"}': 2, '{model="rebuilt"}': 2, '{model="gone"}': 1}),
        (
            'ml:feature_values:increase1h{model="split",bin="0"}',
            {
                _values("split", "x"): 1800,
                _values("split", "y"): 1800,
            },
        ),
        ('ml:feature_values:increase1h{model="rebuilt",bin="0"}', {_values("rebuilt", "x"): 600}),
        ('ml:feature_values:increase1h{model="gone",bin="0"}', {_values("gone", "x"): 1200}),
        (
            'round(ml:feature_drift:1h{model="split",statistic="tvd"}, 0.01)',
            {_drift("split", "x"): 0, _drift("split", "y"): 0.25},
        ),
        (
            profiles + ' and on (model) ml:model_profiles:1h{model="split"}',
            {f'{{model="split",profile_hash="{profile}"}}': 2 for profile in "xy"},
        ),
    ]
    test = {
        "rule_files": [str(RULES / name) for name in ("thresholds.yml", "fleet.yml")],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": given,
                "promql_expr_test": [
                    {
                        "expr": query,
                        "eval_time": f"{MINUTES}m",
                        "exp_samples": [{"labels": labels, "value": value} for labels, value in samples.items()],
                    }
                    for query, samples in expected
                ],
            }
        ],
    }
    (tmp_path / "test.yml").write_text(yaml.safe_dump(test))
    promtool("test", "rules", tmp_path / "test.yml")


def _values(model: str, profile: str) -> str:
    of = f'cluster="eu",feature="age",job="fleet",model="{model}",profile_hash="{profile}"'
    return f'ml:feature_values:increase1h{{bin="0",{of},range="[0, {profile})",version="3"}}'


def _drift(model: str, profile: str) -> str:
    of = f'cluster="eu",feature="age",job="fleet",model="{model}",profile_hash="{profile}"'
    return f'{{{of},statistic="tvd",version="3"}}'
