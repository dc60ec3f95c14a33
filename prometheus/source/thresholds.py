"""Every threshold that no metric carries, in one place: alerts read them as `ml:threshold:NAME`.

Benchmarks, drift thresholds and evidence thresholds are not here: the exporter exports them beside their values. Those
that judge a model come from the one judge.
"""

from mlops_exporter.judging.judge import LIMITS, Threshold

_DAY = 86400.0

THRESHOLDS: dict[str, Threshold] = {
    **LIMITS,  # of which the landing page judges too
    # the model
    "burn_rate_1h": Threshold(14.4, "Error budget burn over 1h and 5m that pages: 2 % of a 30-day budget in an hour."),
    "burn_rate_6h": Threshold(6, "Error budget burn over 6h and 30m that pages: 5 % of a 30-day budget."),
    "burn_rate_1d": Threshold(3, "Error budget burn over 1d and 2h that warns: 10 % of a 30-day budget."),
    "burn_rate_3d": Threshold(1, "Error budget burn over 3d and 6h that warns: the budget will be used up."),
    # many models at once
    "models_together": Threshold(10, "Models with the same kind of trouble from which one message tells of all."),
    "models_together_ratio": Threshold(0.1, "Share of all models that they must be, too."),
    # the data
    "window_kept_ratio": Threshold(
        0.75, "Share of enough predictions or labels down to which a window stays the one to judge by."
    ),
    "last_week_psi": Threshold(0.1, "Least distance (PSI) of a feature from the same hours of last week that matters."),
    "min_group_predictions": Threshold(100, "Predictions of a group below which it is left out of fairness."),
    # predictions and labels on their way
    "latency_quantile": Threshold(0.99, "Quantile of prediction latency that the objective is about."),
    "latency_seconds": Threshold(0.5, "Latency objective for that quantile."),
    "label_coverage_drop": Threshold(0.5, "Label coverage against the mean of the week before."),
    "labels_unmatched_ratio": Threshold(0.2, "Share of labels that find no prediction."),
    "profile_age_seconds": Threshold(180 * _DAY, "Age from which a reference profile is old."),
    # compute
    "cpu_saturated_ratio": Threshold(0.9, "Mean CPU utilization that counts as saturated."),
    "gpu_saturated_ratio": Threshold(0.95, "Mean GPU utilization that counts as saturated."),
    "idle_cost_ratio": Threshold(0.8, "Share of a resource's cost that buys idleness."),
    "idle_cost_per_hour": Threshold(0.5, "Idle cost per hour, in the configured currency, worth telling."),
    "memory_ratio": Threshold(0.9, "Used share of memory that warns."),
    "memory_critical_ratio": Threshold(0.97, "Used share of memory that pages: the kernel kills next."),
    "gpu_memory_ratio": Threshold(0.98, "Used share of GPU memory that warns."),
    "throttled_ratio": Threshold(0.2, "Share of time that a GPU is slowed down by heat."),
    "ecc_corrected_per_day": Threshold(100, "Corrected GPU memory errors in a day that warn."),
    # probes
    "probe_failed_passes": Threshold(2, "Failed runs of a probe in a row that alarm."),
    "probe_missed_runs": Threshold(3, "Intervals without a run after which a probe counts as silent."),
    "probe_changed_ratio": Threshold(0.01, "Share of pinned outputs that may differ."),
    # the exporter
    "missed_evaluations": Threshold(
        3, "Evaluations of a group of rules missed in 15m from which alerts cannot be trusted."
    ),
    "restarts": Threshold(3, "Restarts of an exporter in 30m that warn."),
    "source_lag_seconds": Threshold(300, "Time that a source's backlog takes at the present pace."),
    "source_lag_events": Threshold(1000, "Backlog below which no source counts as lagging."),
    "rejected_ratio": Threshold(0.05, "Share of events that are refused."),
    "rejected_events": Threshold(100, "Refused events in 15m below which nobody is told."),
    "queue_ratio": Threshold(0.8, "Used share of the event queue."),
    "checkpoint_age_seconds": Threshold(900, "Age from which a checkpoint counts as failed."),
}


def threshold(name: str) -> str:
    """Return the PromQL scalar of a threshold; raises KeyError for an unknown one."""
    if name not in THRESHOLDS:
        raise KeyError(name)
    return f"scalar(ml:threshold:{name})"
