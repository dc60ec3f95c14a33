"""Metrics of sets of classes: how often their intervals cover, where labels and errors go together within an event."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mlops_exporter.arrays import Flags, Floats
from mlops_exporter.counting.ledger import Outputs
from mlops_exporter.judging.estimation import estimate, gap_of
from mlops_exporter.judging.performance import PerformanceSums, metrics_of
from mlops_exporter.profile.sets import as_numbers
from mlops_exporter.statistics import multilabel
from mlops_exporter.statistics.intervals import Estimate
from mlops_exporter.statistics.multilabel import Decisions
from tests.support.one_model import make_model

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


def scored(rng: np.random.Generator, n: int, together: bool) -> tuple[Floats, Flags]:
    """Return scores, (n, K), and sets that follow them; what each class has of chance may be the same, `together`."""
    scores = np.clip(rng.beta(1.2, 2.5, (n, CLASSES)) + 0.2 * rng.random((n, 1)) - 0.1, 0.01, 0.99)
    return scores, rng.random((n, 1 if together else CLASSES)) < scores


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("n", [300, 3000])
def test_realised_values_fall_into_the_range_of_the_estimate(tmp_path: Path, n: int, together: bool) -> None:
    rng, names = np.random.default_rng(n), [f"c{k}" for k in range(CLASSES)]
    inside: dict[str, list[float]] = {}
    told: dict[str, list[float]] = {}
    for _ in range(3):  # references: each has its own error
        scores, actual = scored(rng, 10_000, together)
        sets = ["|".join(np.array(names)[row]) or "|" for row in actual]
        table = {"x": rng.random(10_000).tolist(), "y": sets}
        table |= {f"p{name}": scores[:, k].tolist() for k, name in enumerate(names)}
        request = {"task": "multilabel", "label": "y", "separator": "|", "features": ("x",)}
        model = make_model(tmp_path, table, request | {"scores": {name: f"p{name}" for name in names}})
        reference, layout = model.reference, model.reference.layout
        assert reference.estimation is not None
        totals = np.zeros((60, layout.size))
        for row in totals:
            scores, actual = scored(rng, n, together)
            outputs = Outputs.plain(as_numbers(scores >= 0.5), scores)
            layout.count_labels(row, outputs, as_numbers(actual), np.full(n, np.nan))
        sums = PerformanceSums(layout, totals)
        found = estimate(reference.estimation, totals[:, layout.cells_of(reference.estimation)], sums.confusions)
        for name, each in found.labelled.items():
            realised = metrics_of(layout)[name](sums).value
            inside.setdefault(name, []).append(float(((each.lower <= realised) & (realised <= each.upper)).mean()))
            gap = gap_of(reference, realised, each)
            told.setdefault(name, []).append(float(((gap.lower > 0) | (gap.upper < 0)).mean()))
    print({name: (round(np.mean(inside[name]), 3), round(np.mean(told[name]), 3)) for name in inside})
    assert min(np.mean(shares) for shares in inside.values()) > 0.9
    assert max(np.mean(shares) for shares in told.values()) < 0.1
