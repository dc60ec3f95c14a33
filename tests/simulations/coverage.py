"""How often a 95 % interval covers the value that a metric has in an endless window.

Each model is a joint law of score, prediction and label for which that value is known exactly or from a large sample.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from mlops_exporter.profile.profile import middles
from mlops_exporter.profiling.build import score_edges, tied_bins
from mlops_exporter.statistics import classification, fairness, regression
from mlops_exporter.statistics.intervals import Estimate

F64 = NDArray[np.float64]
Flags = NDArray[np.bool_]
Metric = Callable[[F64], Estimate]

BINARY = np.array([[0.60, 0.08], [0.07, 0.25]])  # [predicted, actual]: accuracy 0.85, base rate 0.33
MULTICLASS = np.array(
    [[0.42, 0.04, 0.02, 0.01], [0.03, 0.20, 0.03, 0.01], [0.03, 0.02, 0.12, 0.01], [0.01, 0.01, 0.01, 0.03]]
)
BASE_RATE = 0.3
SEPARATION = 1.465  # of two normal scores with a ROC AUC of 0.85
TRUTH_SIZE = 4_000_000

CONFUSION_BINARY: dict[str, Metric] = {
    "accuracy": classification.accuracy,
    "precision": classification.precision,
    "recall": classification.recall,
    "specificity": classification.specificity,
    "f1": classification.f1,
    "balanced_accuracy": classification.balanced_accuracy,
    "mcc": classification.mcc,
}
CONFUSION_MULTICLASS: dict[str, Metric] = {
    "accuracy (4 classes)": classification.accuracy,
    "balanced_accuracy (4 classes)": classification.balanced_accuracy,
    "macro_precision": classification.macro_precision,
    "macro_specificity": classification.macro_specificity,
    "macro_f1": classification.macro_f1,
    "mcc (4 classes)": classification.mcc,
}
REGRESSION: dict[str, Metric] = {
    "mae": regression.mae,
    "rmse": regression.rmse,
    "bias": regression.bias,
    "mape": regression.mape,
    "r2": regression.r2,
}


def covered(estimate: Estimate, truth: float) -> float:
    """Share of the intervals that hold `truth`; one that could not be computed does not."""
    return float(((estimate.lower <= truth) & (truth <= estimate.upper)).mean())


def confusion(rng: np.random.Generator, n: int, windows: int) -> dict[str, float]:
    """Coverage of the metrics from confusion counts."""
    result: dict[str, float] = {}
    for shares, metrics in ((BINARY, CONFUSION_BINARY), (MULTICLASS, CONFUSION_MULTICLASS)):
        counts = rng.multinomial(n, shares.ravel(), size=windows).reshape(windows, *shares.shape).astype(np.float64)
        truth = shares * 1e15
        result |= {name: covered(metric(counts), float(metric(truth).value)) for name, metric in metrics.items()}
    return result


def scores(rng: np.random.Generator, n: int, windows: int) -> dict[str, float]:
    """Coverage of the metrics from scores: a calibrated score, whose log-odds are normal within each class."""

    def draw(size: tuple[int, ...]) -> tuple[NDArray[np.bool_], F64]:
        actual = rng.random(size) < BASE_RATE
        log_odds = SEPARATION * (rng.standard_normal(size) + SEPARATION * (actual - 0.5)) + logit(BASE_RATE)
        return actual, expit(log_odds)

    edges = np.quantile(draw((200_000,))[1], np.linspace(0, 1, 513)[1:-1])

    def summarise(actual: NDArray[np.bool_], score: F64) -> dict[str, Estimate]:
        rows = len(score)
        cell = (np.arange(rows)[:, np.newaxis] * 512 + np.searchsorted(edges, score)) * 2 + actual
        histogram = np.bincount(cell.ravel(), minlength=rows * 1024).reshape(rows, 512, 2).astype(np.float64)
        size = np.full(rows, float(score.shape[1]))
        of_log, of_brier = classification.expected_losses(histogram[:, np.newaxis], middles(edges.tolist()))
        loss = -np.log(np.where(actual, score, 1 - score))
        square = (score - actual) ** 2
        return {
            "roc_auc": classification.roc_auc(histogram),
            "average_precision": classification.average_precision(histogram),
            "log_loss": classification.log_loss(size, loss.sum(1), (loss**2).sum(1), of_log),
            "brier_score": classification.brier_score(size, square.sum(1), (square**2).sum(1), of_brier),
        }

    truth = {name: float(estimate.value[0]) for name, estimate in summarise(*draw((1, TRUTH_SIZE))).items()}
    return {name: covered(e, truth[name]) for name, e in summarise(*draw((windows, n))).items()}


def _law_of_rare(law: str, rng: np.random.Generator, shape: tuple[int, ...], rate: float) -> tuple[Flags, F64]:
    """Labels of which a share `rate` is positive, and scores."""
    actual = rng.random(shape) < rate
    noise = rng.standard_normal(shape)
    match law:
        case "calibrated":
            return actual, expit(2 * (noise + 2 * (actual - 0.5)) + logit(rate))
        case "well separated":
            return actual, expit(4 * (noise + 4 * (actual - 0.5)) + logit(rate))
        case "balanced":  # trained on as many positives as negatives
            return actual, expit(2 * (noise + 2 * (actual - 0.5)))
        case "rounded":
            return actual, np.round(rng.beta(1 + actual, np.where(actual, 3, 20)), 3)
        case "bounded":
            return actual, np.where(actual, 1 - 0.3 * rng.random(shape) ** 2, rng.random(shape))
    return actual, expit(rng.standard_t(3, shape) + 3 * actual - 5)  # heavy tails


RARE = ("calibrated", "well separated", "balanced", "rounded", "bounded", "heavy tails")


class Rare:
    """A law of scores with a rare positive class, and the bins of a profile built from 50 000 of its rows."""

    def __init__(self, law: str, rate: float, rng: np.random.Generator) -> None:
        self._law, self._rate, self._rng = law, rate, rng
        reference = np.sort(self.draw((50_000,))[1])
        self.edges = score_edges([reference])
        self.tied = np.zeros(len(self.edges) + 1, np.bool_)
        self.tied[tied_bins(reference, self.edges)] = True

    def draw(self, shape: tuple[int, ...]) -> tuple[Flags, F64]:
        """Return labels and scores."""
        return _law_of_rare(self._law, self._rng, shape, self._rate)

    def histogram(self, actual: Flags, score: F64) -> F64:
        """Count windows, (..., n), into bins, (..., bins, 2)."""
        shape, bins = actual.shape[:-1], len(self.edges) + 1
        window = np.arange(np.prod(shape, dtype=np.intp))[:, np.newaxis]
        flat = actual.reshape(len(window), -1)
        cell = (window * bins + np.searchsorted(self.edges, score.reshape(flat.shape), side="right")) * 2 + flat
        counts = np.bincount(cell.ravel(), minlength=len(window) * bins * 2)
        return counts.reshape(*shape, bins, 2).astype(np.float64)

    def estimates(self, actual: Flags, score: F64) -> dict[str, Estimate]:
        """Return the metrics of windows, (W, n), that have a positive; predictions are those above a threshold."""
        some = actual.any(axis=1)
        actual, score = actual[some], score[some]
        histogram = self.histogram(actual, score)
        of_log, of_brier = classification.expected_losses(histogram[:, np.newaxis], middles(self.edges))
        size = np.full(len(score), float(score.shape[1]))
        likelihood = np.clip(np.where(actual, score, 1 - score), 2.2e-16, 1)
        loss, square = -np.log(likelihood), (score - actual) ** 2
        return {
            "average_precision": classification.average_precision(histogram, self.tied),
            "log_loss": classification.log_loss(size, loss.sum(1), (loss**2).sum(1), of_log),
            "brier_score": classification.brier_score(size, square.sum(1), (square**2).sum(1), of_brier),
            "roc_auc": classification.roc_auc(histogram),
        }


def calibration(rng: np.random.Generator, n: int, windows: int, excess: float) -> float:
    """Coverage of the expected calibration error when the chance of a positive is the score plus `excess`."""
    score = rng.uniform(0.05, 0.85, (windows, n))
    actual = rng.random((windows, n)) < score + excess
    cell = (np.arange(windows)[:, np.newaxis] * 10 + (score * 10).astype(int)).ravel()
    count, positives, total = (
        np.asarray(np.bincount(cell, weights.ravel(), windows * 10), dtype=np.float64).reshape(windows, 10)
        for weights in (np.ones_like(score), actual, score)
    )
    brier = ((score - actual) ** 2).mean(1)
    estimate = classification.expected_calibration_error(count, positives, total, brier)
    return covered(estimate, abs(excess))


SCORES: dict[str, tuple[float, float]] = {
    "uniform": (1.0, 1.0),
    "extreme": (0.4, 0.4),
    "rare and sure": (0.1, 0.9),
    "rare": (0.5, 10.0),
    "in the middle": (20.0, 20.0),
}
"""Parameters of beta distributions."""


def calibration_above_truth(rng: np.random.Generator, n: int, windows: int, scores: str) -> float:
    """Share of windows of a calibrated model in which the calibration error's lower limit lies above its truth, 0."""
    score = rng.beta(*SCORES[scores], (windows, n))
    actual = rng.random((windows, n)) < score
    within = np.eye(10)[np.minimum((score * 10).astype(int), 9)]
    count = within.sum(1)
    positives, total = ((within * weights[..., np.newaxis]).sum(1) for weights in (actual, score))
    brier = ((score - actual) ** 2).mean(1)
    estimate = classification.expected_calibration_error(count, positives, total, brier)
    return float((estimate.lower > 0).mean())


def fairness_of_equal_groups(
    rng: np.random.Generator, positives: tuple[int, ...], rate: float, windows: int
) -> dict[str, float]:
    """Share of windows in which groups with one true and one false positive rate are told apart by the interval."""
    actual = np.array(positives)
    rest = np.maximum(4 * actual, 30)
    hits, false = rng.binomial(actual, rate, (windows, len(actual))), rng.binomial(rest, 0.1, (windows, len(actual)))
    cells = [np.stack([rest - false, actual - hits], -1), np.stack([false, hits], -1)]
    confusion = np.stack(cells, -2).astype(np.float64)
    return {
        "equal_opportunity": float((fairness.equal_opportunity_difference(confusion, 30).lower > 0).mean()),
        "equalized_odds": float((fairness.equalized_odds_difference(confusion, 30).lower > 0).mean()),
    }


def errors(rng: np.random.Generator, n: int, windows: int, tails: str) -> dict[str, float]:
    """Coverage of the regression metrics for normal errors, or for errors of Student's t with 5 degrees of freedom."""

    def draw(size: tuple[int, ...]) -> tuple[F64, F64]:
        label = 20 + 2 * rng.standard_normal(size)
        noise = rng.standard_normal(size) if tails == "normal" else rng.standard_t(5, size)
        return label + 0.2 + noise, label

    prediction, label = draw((windows, n))
    sums = np.stack([regression.moments(p, y, 20.0) for p, y in zip(prediction, label, strict=True)])
    endless = regression.moments(*draw((TRUTH_SIZE,)), 20.0)
    return {name: covered(metric(sums), float(metric(endless).value)) for name, metric in REGRESSION.items()}
