"""Metrics of sets of classes: how often their intervals cover, where labels and errors go together within an event."""

from collections.abc import Callable

import numpy as np
import pytest

from mlops_exporter.arrays import Flags
from mlops_exporter.statistics import multilabel
from mlops_exporter.statistics.intervals import Estimate
from mlops_exporter.statistics.multilabel import Decisions

pytestmark = pytest.mark.simulation

WINDOWS = 1000
CLASSES = 6
SHARES = np.array([0.5, 0.4, 0.3, 0.25, 0.2, 0.15])

METRICS: dict[str, Callable[[Decisions], Estimate]] = {
    name: getattr(multilabel, name)
    for name in (
        *("subset_accuracy", "hamming_loss", "micro_precision", "micro_recall", "micro_f1"),
        *("macro_precision", "macro_recall", "macro_f1"),
    )
}


def drawn(rng: np.random.Generator, n: int) -> tuple[Flags, Flags]:
    """Return predicted and actual sets, (n, K): an event with one class tends to more, a hard one has more errors."""
    together = 0.15 * rng.normal(size=(n, 1))
    actual = rng.random((n, CLASSES)) < np.clip(SHARES + together, 0.01, 0.99)
    wrong = rng.random((n, CLASSES)) < np.where(rng.random((n, 1)) < 0.2, 0.35, 0.05)
    return actual ^ wrong, actual


def of(sums: list[np.ndarray[tuple[int], np.dtype[np.float64]]]) -> Decisions:
    return multilabel.split(np.array(sums), CLASSES)


@pytest.mark.parametrize(("n", "least"), [(50, 0.90), (200, 0.92), (1000, 0.93)])
def test_intervals_cover_the_long_run_value(n: int, least: float) -> None:
    truth = of([multilabel.sums(*drawn(np.random.default_rng(1), 400_000))])
    rng = np.random.default_rng(n)
    windows = of([multilabel.sums(*drawn(rng, n)) for _ in range(WINDOWS)])
    for name, metric in METRICS.items():
        value, (_, lower, upper) = metric(truth).value[0], metric(windows)
        covered = float(((lower <= value) & (value <= upper)).mean())
        print(f"{name}, {n} labels: {covered:.3f}")
        assert least < covered < 0.995, name
