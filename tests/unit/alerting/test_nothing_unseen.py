"""Every metric is looked at: by a rule or an alert, in a runbook, in a panel or a variable of a dashboard."""

import re
from pathlib import Path

from mlops_exporter.exposition.catalogue import all_metrics

ROOT = Path(__file__).parents[3]
PLACES = {"prometheus/rules": "*.yml", "grafana/dashboards": "*.json", "docs/runbooks": "*.md"}

UNSEEN = frozenset(
    [
        "ml_challenger_difference",
        "ml_challenger_difference_lower",
        "ml_challenger_difference_upper",
        "ml_challenger_window_pairs",
        "ml_compute_cpu_seconds_total",
        "ml_compute_cpu_throttled_seconds_total",
        "ml_compute_info",
        "ml_exporter_cloud_events_total",
        "ml_exporter_cloud_events_waiting",
        "ml_feature_embedding_drift",
        "ml_feature_embedding_drift_threshold",
        "ml_feature_importance_ratio",
        "ml_gpu_energy_joules_total",
        "ml_gpu_memory_utilization_ratio",
        "ml_gpu_process_memory_bytes",
        "ml_group_absolute_error_sum_total",
        "ml_group_confusion_total",
        "ml_group_labels_total",
        "ml_group_overprediction_sum_total",
        "ml_group_underprediction_sum_total",
        "ml_model_class_performance",
        "ml_model_expected_absolute_error_sum_total",
        "ml_model_expected_confusion_total",
        "ml_model_expected_squared_error_sum_total",
        "ml_model_pending_labels",
        "ml_probe_passes_total",
        "ml_probe_request_duration_seconds",
        "ml_probe_requests_total",
        "ml_probe_rows",
        "ml_registry_failures_total",
        "ml_registry_version_info",
        "ml_retraining_dead_letters_total",
        "ml_retraining_decisions_total",
        "ml_retraining_dry_run",
        "ml_retraining_last_start_timestamp_seconds",
        "ml_retraining_notifications_total",
        "ml_retraining_running",
        "ml_retraining_triggered_total",
        "ml_workload_open_files",
        "ml_workload_processes_started_total",
        "ml_workload_start_time_seconds",
        "ml_workload_threads",
    ]
)
"""Metrics that stand nowhere yet. The list may shrink; a new metric is shown to somebody from its first day."""


def test_every_new_metric_is_looked_at() -> None:
    text = "".join(path.read_text() for folder, files in PLACES.items() for path in (ROOT / folder).glob(files))
    named = set(re.findall(r"\bml_\w+", text))
    named |= {re.sub(r"_(bucket|sum|count)$", "", name) for name in named}
    assert {metric.name for metric in all_metrics()} - named <= UNSEEN
