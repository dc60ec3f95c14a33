"""How often the gap between realised and estimated performance is told, without a change and with one."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit

from mlops_exporter.counting.ledger import Outputs
from mlops_exporter.judging.estimation import estimate, gap_of
from mlops_exporter.judging.performance import PerformanceSums, metrics_of
from tests.support.one_model import make_model

METRICS = ("accuracy", "precision", "recall", "f1", "roc_auc")

Rows = tuple[NDArray[np.float64], NDArray[np.intp]]


def drawn(rng: np.random.Generator, n: int, centre: float, distortion: float, concept: float = 0.0) -> Rows:
    """Scores, distorted where `distortion` is not 1, and labels, whose log-odds a `concept` drift moves."""
    x = rng.normal(centre, 1.5, n)
    return expit(distortion * x), (rng.random(n) < expit(x + concept)).astype(np.intp)


def told(path: Path, reference: Rows, windows: list[Rows], tolerance: float) -> dict[str, float]:
    """Share of the windows in which the interval of each metric's gap excludes 0."""
    score, label = reference
    table = {"x": score.tolist(), "score": score.tolist(), "label": label.tolist()}
    request = {"task": "binary", "label": "label", "scores": {"1": "score"}, "features": ("x",)}
    model = make_model(path, table, request, estimation={"tolerance": tolerance})
    of_model, layout = model.reference, model.reference.layout
    assert of_model.estimation is not None
    totals = np.zeros((len(windows), layout.size))
    for row, (score, label) in zip(totals, windows, strict=True):
        outputs = Outputs.plain((score >= 0.5).astype(float), score[:, np.newaxis])
        layout.count_labels(row, outputs, label.astype(float), np.full(len(label), np.nan))
    sums = PerformanceSums(layout, totals)
    with np.errstate(divide="ignore", invalid="ignore"):
        estimates = estimate(of_model.estimation, totals[:, layout.cells_of(of_model.estimation)], sums.confusion)
        gaps = {m: gap_of(of_model, metrics_of(layout)[m](sums).value, estimates.labelled[m]) for m in METRICS}
    return {metric: float(((each.lower > 0) | (each.upper < 0)).mean()) for metric, each in gaps.items()}


@pytest.mark.simulation
@pytest.mark.parametrize(("rows", "n"), [(2_000, 500), (2_000, 5_000), (20_000, 5_000)])
@pytest.mark.parametrize(("centre", "distortion"), [(0.0, 1.0), (0.0, 2.0), (-4.0, 1.0)])
def test_without_a_change_the_gap_is_told_at_the_claimed_rate(
    tmp_path: Path, rows: int, n: int, centre: float, distortion: float
) -> None:
    rng = np.random.default_rng(rows + n)
    found: list[dict[str, float]] = []
    for _ in range(10):  # references: each has its own error
        windows = [drawn(rng, n, centre, distortion) for _ in range(12)]
        found.append(told(tmp_path, drawn(rng, rows, centre, distortion), windows, tolerance=0.0))
    # Windows of one reference share its error, so that their number says less than it seems.
    rates = {metric: float(np.mean([each[metric] for each in found])) for metric in METRICS}
    assert max(rates.values()) <= 0.12, rates
    assert np.mean(list(rates.values())) <= 0.06, rates


@pytest.mark.simulation
def test_the_default_lets_a_small_change_pass_and_tells_a_large_one(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    reference = drawn(rng, 20_000, 0.0, 1.0)

    def of(concept: float) -> dict[str, float]:
        return told(tmp_path, reference, [drawn(rng, 5_000, 0.0, 1.0, concept) for _ in range(40)], tolerance=0.01)

    assert max(of(0.05).values()) <= 0.05  # precision moves by 0.007
    large = of(0.4)  # by 0.06; recall by as much the other way, accuracy by less than 0.01
    assert min(large["precision"], large["recall"]) >= 0.8
    assert large["accuracy"] <= 0.1
