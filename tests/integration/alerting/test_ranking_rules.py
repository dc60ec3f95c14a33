"""Metrics of lists over replicas, as Prometheus evaluates the shipped rules."""

import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.requirements import require_program

RULES = Path(__file__).parents[3] / "prometheus" / "rules"


def _tested(tmp_path: Path, labels: tuple[int, int], samples: list[dict[str, Any]]) -> str:
    """What promtool has against the means of two replicas that count so many lists a minute, of 0.4 and 0.7 each."""
    series = []
    for instance, each, number in zip("ab", (0.4, 0.7), labels, strict=True):
        model = f'job="j",instance="{instance}",model="shop",version="1"'
        series += [
            {"series": f"ml_model_labels_total{{{model}}}", "values": f"0+{number}x90"},
            {"series": f'ml_ranking_metric_sum_total{{{model},metric="mrr"}}', "values": f"0+{number * each}x90"},
            {"series": f'ml_ranking_metric_sum_total{{{model},metric="ndcg@5"}}', "values": f"0+{number * 0.9}x90"},
        ]
    check = {"expr": "round(ml:model_performance:1h, 1e-6)", "eval_time": "80m", "exp_samples": samples}
    test = {
        "rule_files": [str(RULES / name) for name in ("thresholds.yml", "error_budget.yml", "fleet.yml")],
        "evaluation_interval": "1m",
        "tests": [{"interval": "1m", "input_series": series, "promql_expr_test": [check]}],
    }
    (tmp_path / "test.yml").write_text(yaml.safe_dump(test))
    command = [require_program("promtool"), "test", "rules", str(tmp_path / "test.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def _mean(metric: str, value: float) -> dict[str, Any]:
    return {"labels": f'{{job="j",model="shop",version="1",metric="{metric}"}}', "value": value}


def test_each_list_of_every_replica_weighs_the_same(tmp_path: Path) -> None:
    assert not _tested(tmp_path, (30, 10), [_mean("mrr", 0.475), _mean("ndcg@5", 0.9)])


def test_of_few_lists_nothing_is_said(tmp_path: Path) -> None:
    assert not _tested(tmp_path, (1, 0), [])
    assert _tested(tmp_path, (30, 10), [])
