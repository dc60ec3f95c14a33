"""What looking all month at an interval does to alerts on a benchmark: `python -m tests.simulations.looks`.

A model's accuracy in rolling windows of 15m, 1h and 1d, evaluated every minute with the rule of
MLModelPerformanceBelowBenchmark: with the plain 95 % interval, and with the one that `ml:model_window:caution` widens.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from mlops_exporter.statistics.intervals import Z, wilson
from prometheus.source.thresholds import THRESHOLDS

WINDOWS = (15, 60, 1440)
MONTH = 30 * 1440
WAIT, KEEP = 10, 60

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


def cautions() -> list[float]:
    """How many times the 95 % interval of each window is widened."""
    chance = THRESHOLDS["benchmark_chance"].value
    return [max(1.0, -float(ndtri(min(0.025, window / MONTH * chance))) / Z) for window in WINDOWS]


def holds(accuracy: Floats, per_minute: float, benchmark: float, widths: Sequence[float], seed: int) -> Flags:
    """Whether the rule's expression holds, for each minute after the first day; `accuracy` is that of each minute."""
    rng = np.random.default_rng(seed)
    labels = rng.poisson(per_minute, len(accuracy))
    hits = rng.binomial(labels, accuracy)
    n, right = (np.concatenate([[0], np.cumsum(part)]) for part in (labels, hits))
    ends = np.arange(WINDOWS[-1], len(accuracy))
    beyond = np.zeros(len(ends), np.bool_)
    freshest = np.full(len(ends), np.nan)
    for window, width in zip(WINDOWS, widths, strict=True):
        of = (n[ends] - n[ends - window]).astype(float)
        estimate = wilson((right[ends] - right[ends - window]).astype(float), of)
        enough = of >= THRESHOLDS["min_labels"].value
        beyond |= enough & (estimate.value + width * (estimate.upper - estimate.value) < benchmark)
        freshest = np.where(np.isnan(freshest) & enough, estimate.lower, freshest)
    return np.asarray(beyond & ~(freshest > benchmark))


def firings(condition: Flags) -> list[int]:
    """Minutes at which the alert begins to fire."""
    minutes = np.arange(len(condition))
    held = minutes - np.maximum.accumulate(np.where(condition, -1, minutes))
    begun, until = [], -1
    for minute in np.flatnonzero(held > WAIT).tolist():
        if minute > until + 1:
            begun.append(minute)
        until = max(until, minute + KEEP)
    return begun


def false_alarms(margin: float, per_minute: float, widths: Sequence[float], months: int) -> float:
    """Alerts a month of a model with accuracy 0.9 that is better than its benchmark by `margin`."""
    accuracy = np.full(WINDOWS[-1] + MONTH, 0.9)
    return float(
        np.mean([len(firings(holds(accuracy, per_minute, 0.9 - margin, widths, seed))) for seed in range(months)])
    )


def delay(drop: float, per_minute: float, widths: Sequence[float], times: int) -> float:
    """Median minutes until an accuracy of 0.82 that falls by `drop` brings an alert; its benchmark is 0.79."""
    accuracy = np.concatenate([np.full(WINDOWS[-1], 0.82), np.full(3 * 1440, 0.82 - drop)])
    found = [firings(holds(accuracy, per_minute, 0.79, widths, seed)) for seed in range(times)]
    return float(np.median([begun[0] if begun else np.inf for begun in found]))


def main() -> None:
    """Print both tables."""
    kinds = {"95 % interval": [1.0] * len(WINDOWS), "widened": cautions()}
    for per_minute in (8, 60, 600):
        for kind, widths in kinds.items():
            alarms = [f"{false_alarms(margin, per_minute, widths, 5):.1f}" for margin in (0, 0.005, 0.01, 0.02)]
            delays = [f"{delay(drop, per_minute, widths, 60):.0f}" for drop in (0.05, 0.08, 0.13)]
            print(f"| {per_minute} | {kind} | {' | '.join(alarms)} | {' | '.join(delays)} |", flush=True)


if __name__ == "__main__":
    main()
