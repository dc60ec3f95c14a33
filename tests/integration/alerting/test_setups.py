"""Alerts in stacks unlike the shipped one: other jobs, several environments, targets that come and go."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from prometheus.source.__main__ import RULES
from tests.integration.alerting.test_promtool import promtool


def series(name: str, values: str, **labels: str) -> dict[str, str]:
    selector = ",".join(f'{label}="{value}"' for label, value in labels.items())
    return {"series": f"{name}{{{selector}}}", "values": values}


def firing(
    directory: Path,
    alert: str,
    minute: int,
    expected: list[dict[str, str]],
    *given: dict[str, str],
    records: tuple[str, ...] = ("thresholds.yml",),
    every: str = "1m",
) -> None:
    """Assert which alerts of this name fire at a minute, by the labels that they do not share with all its alerts."""
    file, rule = next(
        (path, rule) for path in RULES.glob("*.yml") for rule in rules(path) if rule.get("alert") == alert
    )
    # ALERTS has the template itself of a label whose template gives nothing.
    fixed = {"__name__": "ALERTS", "alertname": alert, "alertstate": "firing", **rule["labels"]}
    samples = [
        {"labels": "{" + ",".join(f"{k}={json.dumps(v)}" for k, v in (fixed | labels).items()) + "}", "value": 1}
        for labels in expected
    ]
    query = f'ALERTS{{alertname="{alert}",alertstate="firing"}}'
    test = {
        "rule_files": [str(RULES / name) for name in (*records, file.name)],
        "evaluation_interval": every,
        "tests": [
            {
                "interval": "1m",
                "input_series": list(given),
                "promql_expr_test": [{"expr": query, "eval_time": f"{minute}m", "exp_samples": samples}],
            }
        ],
    }
    (directory / "test.yml").write_text(yaml.safe_dump(test))
    promtool("test", "rules", directory / "test.yml")


def rules(path: Path) -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]


EXPORTERS = ("thresholds.yml", "windows.yml", "exporters.yml")


@pytest.mark.parametrize("label", ["namespace", "env"])
def test_environments_that_share_a_job_are_judged_apart(tmp_path: Path, label: str) -> None:
    given = []
    for environment, wrong in (("production", 50), ("staging", 1)):
        here = {"job": "mlops-exporter", "instance": environment, label: environment, "model": "credit"}
        version = {**here, "version": "1"}
        given += [
            series("ml_model_benchmark_min", "0.97x90", **version, metric="accuracy"),
            series("ml_model_predictions_total", "0+100x90", **version),
            series("ml_model_prediction_failures_total", "0x90", **version),
            series("ml_model_labels_total", "0+100x90", **version),
            series("ml_model_performance", f"{1 - wrong / 100}x90", **version, window="1h", metric="accuracy"),
            series("ml_model_confusion_total", f"0+{100 - wrong}x90", **version, predicted="1", actual="1"),
            series("ml_model_confusion_total", f"0+{wrong}x90", **version, predicted="1", actual="0"),
        ]
    expected = {"job": "mlops-exporter", label: "production", "model": "credit", "version": "1"}
    firing(tmp_path, "MLErrorBudgetBurnFast", 80, [expected], *given, records=("thresholds.yml", "error_budget.yml"))


def test_a_model_that_one_environment_no_longer_has_is_not_missed_there(tmp_path: Path) -> None:
    staging = {"job": "mlops-exporter", "instance": "b", "env": "staging", "model": "credit"}
    firing(
        tmp_path,
        "MLNoPredictions",
        1500,
        [],
        series("ml_model_predictions_total", "0+10x1400", **staging, version="1"),
        series("ml_model_labels_unmatched_total", "0x1400", **staging),
        series("ml_model_labels_unmatched_total", "0x1600", **staging | {"instance": "a", "env": "production"}),
        every="4m",
    )


def test_trouble_that_comes_and_goes_is_told(tmp_path: Path) -> None:
    """A short window is good again every other minute, and does not refute what a longer one shows all the time."""
    model = {"job": "mlops-exporter", "instance": "a", "model": "credit", "version": "1"}
    given = [series("ml_model_benchmark_max", "2x60", **model, metric="mae")]
    for window, seconds, errors in (("1m", 60, "5x1 1x1"), ("5m", 300, "4x3")):
        here = {**model, "window": window}
        given.append(series("ml_model_window_seconds", f"{seconds}x60", **here))
        given.append(series("ml_model_window_labels", "2000x60", **here))
        given.append(series("ml_model_window_filled_ratio", "1x60", **here))
        values = " ".join([errors] * 15)
        names = (f"ml_model_performance{suffix}" for suffix in ("", "_lower", "_upper"))
        given += [series(name, values, **here, metric="mae") for name in names]
    expected = {**model, "metric": "mae"}
    records = ("thresholds.yml", "windows.yml")
    firing(tmp_path, "MLModelPerformanceBelowBenchmark", 40, [expected], *given, records=records)


OPERATOR = {"job": "monitoring/models", "instance": "10.0.0.7:10042", "namespace": "serving", "pod": "models-0"}


def test_an_exporter_under_another_job_is_missed_and_stays_so(tmp_path: Path) -> None:
    given = [
        series("up", "1x10 0x3000", **OPERATOR),
        series("ml_exporter_build_info", "1x10", **OPERATOR, version="1"),
        series("up", "0x3000", job="node", instance="10.0.0.7:9100"),
    ]
    firing(tmp_path, "MLExporterDown", 20, [OPERATOR], *given, records=EXPORTERS)
    firing(tmp_path, "MLExporterDown", 2 * 1440, [OPERATOR], *given, records=EXPORTERS, every="4m")


def test_an_exporter_under_another_job_is_no_absent_one(tmp_path: Path) -> None:
    given = [series("up", "1x60", **OPERATOR), series("ml_exporter_build_info", "1x60", **OPERATOR, version="1")]
    firing(tmp_path, "MLExporterAbsent", 50, [], *given, records=EXPORTERS)


def test_an_exporter_whose_pod_was_replaced_is_not_missed(tmp_path: Path) -> None:
    new = {**OPERATOR, "instance": "10.0.0.8:10042"}
    firing(
        tmp_path,
        "MLExporterDown",
        40,
        [],
        series("up", "1x10 0x5", **OPERATOR),
        series("ml_exporter_build_info", "1x10", **OPERATOR, version="1"),
        series("up", "_x15 1x60", **new),
        series("ml_exporter_build_info", "_x15 1x60", **new, version="2"),
        records=EXPORTERS,
    )


def test_an_exporter_that_is_scraped_only_now_and_then_is_down(tmp_path: Path) -> None:
    here = {"job": "mlops-exporter", "instance": "a"}
    for scrapes, expected in (("1 0 0", [here]), ("1 1 0", [])):
        given = series("up", " ".join([scrapes] * 20), **here)
        firing(tmp_path, "MLExporterDown", 40, expected, given, records=EXPORTERS)


def test_thresholds_that_are_there_twice_are_told(tmp_path: Path) -> None:
    doubled = series("ml:threshold:min_labels", "100x60", ruler="b")
    firing(tmp_path, "MLRulesIncomplete", 30, [{}], doubled, records=EXPORTERS)
    firing(tmp_path, "MLRulesIncomplete", 30, [], records=EXPORTERS)


def test_rules_that_fail_are_told(tmp_path: Path) -> None:
    def failures(group: str) -> dict[str, str]:
        labels = {"job": "prometheus", "instance": "p", "rule_group": f"/rules/x.yml;{group}"}
        return series("prometheus_rule_evaluation_failures_total", "0+1x60", **labels)

    firing(tmp_path, "MLRulesIncomplete", 30, [{}], failures("ml-model"), records=EXPORTERS)
    firing(tmp_path, "MLRulesIncomplete", 30, [], failures("somebody-else"), records=EXPORTERS)
