"""What is summed of predictions whose label is unknown, so that performance can be estimated."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mlops_exporter.arrays import Floats, Ints
from mlops_exporter.counting import bounds
from mlops_exporter.counting.bounds import Bounds
from mlops_exporter.counting.ledger import Outputs, Terms
from mlops_exporter.counting.multivariate import Vectors
from mlops_exporter.profile.profile import Profile
from mlops_exporter.profile.sets import members_of
from mlops_exporter.statistics import estimation

CLASS_METRICS = ("accuracy", "precision", "recall", "f1", "roc_auc")
SET_METRICS = (
    "hamming_loss", "precision", "recall", "f1", "roc_auc", "micro_precision", "micro_recall", "micro_f1",
)  # fmt: skip
ERROR_METRICS = ("mae", "rmse")

_UNSEEN = 1e-9  # rows of the reference that a bin without any counts as, beside its neighbours
_CLIP = 3.0  # standard deviations of the prediction, beyond which its parabola is not followed


class Expected(NamedTuple):
    """Sums of predictions: Σ p and Σ p (1 − p), (..., K, K), and counts by bin of each score, (..., columns, bins)."""

    confusion: Floats
    spread: Floats
    histogram: Floats


class ClassEstimation:
    """The part of the ledger for confidence-based estimation (CBPE).

    Twice, for all predictions and for labelled ones: Σ p and Σ p (1 − p) by predicted and actual class, and how many
    fell into each bin of each score, or into so many neighbouring ones that are `merged`.
    """

    metrics = CLASS_METRICS
    name = "estimation"

    def __init__(self, profile: Profile, merged: int = 1) -> None:
        calibrator = profile.calibrator
        assert calibrator is not None
        self._of_bins, self._merged = np.array(calibrator.probabilities), merged
        counts = np.array(calibrator.counts, np.float64)
        starts = np.arange(0, counts.shape[1], merged)
        weights = counts + _UNSEEN
        self.reference = np.add.reduceat(counts, starts, axis=1)
        self.probabilities = np.add.reduceat(weights * self._of_bins, starts, axis=1) / np.add.reduceat(
            weights, starts, axis=1
        )
        self.runs = estimation.runs(self.reference)
        self._edges = np.array(profile.score_edges)
        self._k = len(profile.classes)
        self._columns, self._bins = self.probabilities.shape
        if self._columns == 1 and merged == 1:
            of_bins = self.calibrated(np.arange(self._bins)[:, np.newaxis])
            self._by_bin = np.stack([of_bins, of_bins * (1 - of_bins)])  # (2, bins, K)
        self.half = 2 * self._k**2 + self._columns * self._bins
        self.cells = 2 * self.half

    def bounds(self, largest: float) -> Bounds:
        """Return what one event can add to the cells."""
        return bounds.joined(2 * [self.half_bounds()])

    def half_bounds(self) -> Bounds:
        """Return what one event can add to the cells of one half."""
        return bounds.joined([bounds.sums(2 * self._k**2, 1.0), bounds.counts(self._columns * self._bins)])

    def count_predictions(self, cells: Floats, outputs: Outputs) -> None:
        """Add predictions."""
        cells[: self.half] += self.sums(outputs, _whole(outputs), 1)[0]

    def count_labels(self, cells: Floats, outputs: Outputs, labels: Floats, terms: Sequence[Terms]) -> None:
        """Add labelled predictions, whose labels are not looked at."""
        cells[self.half :] += self.sums(outputs, _whole(outputs), 1)[0]

    def sums(self, outputs: Outputs, groups: Ints, size: int) -> Floats:
        """Return the cells of one half, (size, half), of as many groups: each event is in those of `groups`, (A, n)."""
        known = np.flatnonzero(~(np.isnan(outputs.prediction) | np.isnan(outputs.scores[:, 0])))
        groups, k, width = groups[:, known], self._k, self._columns * self._bins
        of_predicted = groups * k + outputs.prediction[known].astype(np.intp)
        bins = np.searchsorted(self._edges, outputs.scores[known], side="right")
        if self._columns == 1 and self._merged == 1:  # then a histogram says all
            joint = np.bincount((of_predicted * self._bins + bins[:, 0]).ravel(), minlength=size * k * self._bins)
            joint = joint.reshape(size, k, self._bins)
            expected = joint[:, np.newaxis] @ self._by_bin
            return np.concatenate([expected.reshape(size, -1), joint.sum(axis=1)], axis=1)
        probability = self.calibrated(bins)
        place = (of_predicted[..., np.newaxis] * k + np.arange(k)).ravel()
        parts = [
            np.bincount(place, np.broadcast_to(part, (len(groups), *part.shape)).ravel(), size * k * k)
            for part in (probability, probability * (1 - probability))
        ]
        place = (
            groups[..., np.newaxis] * width + (np.arange(self._columns) * self._bins + bins // self._merged)
        ).ravel()
        parts.append(np.bincount(place, minlength=size * width))
        return np.concatenate([part.reshape(size, -1) for part in parts], axis=1)

    def calibrated(self, bins: Ints) -> Floats:
        """Return calibrated probabilities of all classes, (n, K), from the bins of the scores, (n, columns)."""
        probability = self._of_bins[np.arange(self._columns), bins]
        if self._columns == 1:
            return np.concatenate([1 - probability, probability], axis=1)
        total = probability.sum(1, keepdims=True)
        return np.where(total > 0, probability / np.where(total > 0, total, 1.0), 1 / self._k)

    def expected_confusion(self, cells: Floats) -> Floats:
        """Return the expected confusion matrix of all predictions, (..., K, K), from the section's cells."""
        return self.parts(cells[..., : self.half]).confusion

    def parts(self, half: Floats) -> Expected:
        """Take one half of the section's cells, (..., half), apart."""
        k, leading = self._k, half.shape[:-1]
        confusion, spread, histogram = np.split(half, [k * k, 2 * k * k], axis=-1)
        return Expected(
            confusion.reshape(*leading, k, k),
            spread.reshape(*leading, k, k),
            histogram.reshape(*leading, self._columns, self._bins),
        )


class SetEstimation:
    """The part of the ledger for confidence-based estimation of sets: each class is one of two of its own.

    Twice, for all predictions and for labelled ones: Σ p and Σ p (1 − p) of each class by whether it was predicted and
    is actual, and how many fell into each bin of its score.
    """

    metrics = SET_METRICS
    name = "estimation"

    def __init__(self, profile: Profile) -> None:
        calibrator = profile.calibrator
        assert calibrator is not None
        self.probabilities = np.array(calibrator.probabilities)
        self.reference = np.array(calibrator.counts, np.float64)
        self.runs = [estimation.runs(row[np.newaxis]) for row in self.reference]
        self._edges = np.array(profile.score_edges)
        self._k, self._bins = self.probabilities.shape
        self._by_bin = np.stack([1 - self.probabilities, self.probabilities], axis=-1)
        self.half = self._k * (8 + self._bins)
        self.cells = 2 * self.half

    def bounds(self, largest: float) -> Bounds:
        """Return what one event can add to the cells."""
        return bounds.joined(2 * [bounds.sums(8 * self._k, 1.0), bounds.counts(self._k * self._bins)])

    def count_predictions(self, cells: Floats, outputs: Outputs) -> None:
        """Add predictions."""
        cells[: self.half] += self._sums(outputs)

    def count_labels(self, cells: Floats, outputs: Outputs, labels: Floats, terms: Sequence[Terms]) -> None:
        """Add labelled predictions, whose labels are not looked at."""
        cells[self.half :] += self._sums(outputs)

    def _sums(self, outputs: Outputs) -> Floats:
        known = np.flatnonzero(~(np.isnan(outputs.prediction) | np.isnan(outputs.scores[:, 0])))
        predicted = members_of(outputs.prediction[known], self._k)
        bins = np.searchsorted(self._edges, outputs.scores[known], side="right")
        place = (np.arange(self._k) * 2 + predicted) * self._bins + bins
        joint = np.bincount(place.ravel(), minlength=self._k * 2 * self._bins).reshape(self._k, 2, self._bins)
        expected, spread = joint @ self._by_bin, joint @ (self._by_bin * (1 - self._by_bin))
        return np.concatenate([expected.ravel(), spread.ravel(), joint.sum(axis=1).ravel()])

    def parts(self, half: Floats) -> Expected:
        """Take one half of the cells, (..., half), apart: `confusion` and `spread` are (..., K, 2, 2)."""
        leading, each = half.shape[:-1], 4 * self._k
        confusion, spread, histogram = np.split(half, [each, 2 * each], axis=-1)
        return Expected(
            confusion.reshape(*leading, self._k, 2, 2),
            spread.reshape(*leading, self._k, 2, 2),
            histogram.reshape(*leading, self._k, self._bins),
        )


class LossEstimation:
    """The part of the ledger for direct loss estimation: n, Σ expected |error|, Σ expected error²; twice, as above."""

    metrics = ERROR_METRICS
    name = "estimation"
    half = 3
    cells = 6

    def __init__(self, profile: Profile) -> None:
        assert profile.losses is not None
        self.reference = profile.losses
        self._coefficients = np.array(profile.losses.coefficients)
        if profile.vectors is not None:
            features, maps = len(profile.vectors.features), 2 * profile.vectors.fourier.frequencies
            of_values, of_maps = np.split(self._coefficients[-(features + maps) :].T, [features], axis=1)
            self._of_vectors = (
                of_values.astype(np.float32),
                (of_maps * np.sqrt(maps / 2)).astype(np.float32),
            )

    def bounds(self, largest: float) -> Bounds:
        """Return what one event can add to the cells; how large a fitted error may become nothing tells."""
        return bounds.joined(2 * [self.half_bounds()])

    def half_bounds(self) -> Bounds:
        """Return what one event can add to the cells of one half."""
        return bounds.joined([bounds.counts(1), bounds.sums(2, math.inf)])

    def count_predictions(self, cells: Floats, outputs: Outputs) -> None:
        """Add predictions."""
        cells[: self.half] += self.sums(outputs, _whole(outputs), 1)[0]

    def count_labels(self, cells: Floats, outputs: Outputs, labels: Floats, terms: Sequence[Terms]) -> None:
        """Add labelled predictions, whose labels are not looked at."""
        cells[self.half :] += self.sums(outputs, _whole(outputs), 1)[0]

    def sums(self, outputs: Outputs, groups: Ints, size: int) -> Floats:
        """Return the cells of one half, (size, half), of as many groups: each event is in those of `groups`, (A, n)."""
        known = np.flatnonzero(~np.isnan(outputs.losses[:, 0]))
        place = groups[:, known]
        each = [np.ones(len(known)), *outputs.losses[known].T]
        return np.stack(
            [np.bincount(place.ravel(), np.broadcast_to(part, place.shape).ravel(), size) for part in each], axis=1
        )

    def expected(self, prediction: Floats, rows: Ints, vectors: Vectors | None) -> Floats:
        """Return the expected |error| and error² of predictions, (n, 2); NaN where there is nothing to go by.

        `vectors` are the features of `rows`; None for a model without features.
        """
        losses = np.full((len(prediction), 2), np.nan)
        if vectors is None:
            rows = np.arange(len(prediction))
        known = np.flatnonzero(~np.isnan(prediction[rows]))
        rows = rows[known]
        base = _base(prediction[rows], self.reference.prediction_mean, self.reference.prediction_scale)
        expected = base @ self._coefficients[: base.shape[1]]
        if vectors is not None:
            mine = vectors.of(known)
            for part, coefficients in zip(mine, self._of_vectors, strict=True):
                expected += (coefficients @ part).T
        losses[rows] = np.maximum(expected, 0.0)
        return losses

    def loss_sums(self, cells: Floats) -> Floats:
        """Return the expected Σ |error| and Σ error² of all predictions, (..., 2), from the section's cells."""
        return cells[..., 1:3]


def _base(prediction: Floats, mean: float, scale: float) -> Floats:
    centred = np.clip((prediction - mean) / scale, -_CLIP, _CLIP)
    return np.stack([np.ones_like(centred), centred, centred**2], axis=1)


def design(prediction: Floats, mean: float, scale: float, vectors: Vectors | None) -> Floats:
    """Return what expected losses are linear in, (n, columns): 1, the prediction, its square, the features, their map.

    The map's columns are scaled to the range [-1, 1].
    """
    base = _base(prediction, mean, scale)
    if vectors is None:
        return base
    return np.column_stack([base, vectors.values.T, vectors.maps.T * np.sqrt(len(vectors.maps) / 2)])


def _whole(outputs: Outputs) -> Ints:
    """Return the one group in which all events are, (1, n)."""
    return np.zeros((1, len(outputs.prediction)), np.intp)


Estimation = ClassEstimation | SetEstimation | LossEstimation


def estimation_of(profile: Profile) -> Estimation | None:
    """Return how performance can be estimated with that profile, if it can."""
    if profile.calibrator is not None:
        return SetEstimation(profile) if profile.task == "multilabel" else ClassEstimation(profile)
    return LossEstimation(profile) if profile.losses is not None else None
