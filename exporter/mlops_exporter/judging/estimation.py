"""Performance estimated before the labels are in, from what the ledger sums up of predictions."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from mlops_exporter.arrays import Flags, Floats
from mlops_exporter.counting.estimation import ClassEstimation, Estimation, Expected, LossEstimation, SetEstimation
from mlops_exporter.counting.reference import Reference
from mlops_exporter.judging.dependence import Effects, worth
from mlops_exporter.profile.fitted import LossModel
from mlops_exporter.statistics import classification, estimation
from mlops_exporter.statistics.intervals import Estimate


class Estimates(NamedTuple):
    """Estimates by metric, of all predictions and of the labelled ones alone."""

    predictions: dict[str, Estimate]
    labelled: dict[str, Estimate]


def estimate(counts: Estimation, cells: Floats, confusion: Floats, effects: Effects | None = None) -> Estimates:
    """Estimate every metric from the section's cells, (W, cells).

    `confusion` is the realised one, (W, K, K), of sets that of each class, (W, K, 2, 2): macro averages of labelled
    predictions leave out the classes that the realised averages leave out, since a rare class without a label would
    make a gap by its absence alone.
    With `effects` of the windows ranges are those of as many predictions as they are worth.
    """
    predictions, labelled = np.split(cells, [counts.half], axis=-1)
    if effects is not None:
        predictions, labelled = worth(predictions, effects.outputs), worth(labelled, effects.labels)
    if isinstance(counts, LossEstimation):
        return Estimates(expected(counts, predictions), expected(counts, labelled))
    actual, predicted = confusion.sum(-2) > 0, confusion.sum(-1) > 0
    if isinstance(counts, SetEstimation):
        actual, predicted = actual[..., 1], predicted[..., 1]
    averaged = {"recall": actual, "f1": actual | predicted}
    return Estimates(expected(counts, predictions), expected(counts, labelled, averaged))


def expected(counts: Estimation, half: Floats, averaged: Mapping[str, Flags] | None = None) -> dict[str, Estimate]:
    """Estimate every metric from one half of the section's cells, (..., half).

    `averaged` are the classes, (..., K), of a metric's macro average; without them all that have a value.
    """
    if isinstance(counts, LossEstimation):
        return _of_losses(counts.reference, half)
    if isinstance(counts, SetEstimation):
        return _of_sets(counts, half, averaged or {})
    return _of_classes(counts, half, averaged or {})


def expected_by_class(counts: ClassEstimation | SetEstimation, half: Floats) -> dict[str, Estimate]:
    """Estimate precision, recall and f1 of each class by itself, (..., K), from one half of the section's cells."""
    if isinstance(counts, SetEstimation):
        return _by_member(*_of_members(counts, half)[:2])
    expected, variance, _ = _expected(counts, half)
    return {name: metric(expected.confusion, variance) for name, metric in _SINGLE.items()}


def gap_of(reference: Reference, realised: Floats, estimated: Estimate) -> Estimate:
    """Return realised less estimated performance of the same predictions, beside what the settings let pass."""
    tolerance, value = reference.settings.estimation.tolerance, estimated.value
    if isinstance(reference.estimation, LossEstimation):
        return estimation.gap(realised, estimated, tolerance * value)
    return estimation.gap(realised, estimated, np.minimum(tolerance, np.minimum(value, 1 - value) / 10))


def _of_classes(counts: ClassEstimation, half: Floats, averaged: Mapping[str, Flags]) -> dict[str, Estimate]:
    """Return confidence-based estimates (CBPE); `averaged` are the classes, (W, K), of a metric's macro average."""
    expected, variance, inflation = _expected(counts, half)
    positives = expected.histogram * counts.probabilities
    by_class = {
        **{name: metric(expected.confusion, variance) for name, metric in _SINGLE.items()},
        # So many predictions fewer would be known as roughly.
        "roc_auc": classification.roc_auc(
            np.stack([expected.histogram - positives, positives], axis=-1)
            / inflation[..., np.newaxis, np.newaxis, np.newaxis]
        ),
    }
    binary = expected.confusion.shape[-1] == 2
    reduced = {
        name: Estimate(*(part[..., -1] for part in found))
        if binary
        else estimation.macro(found, averaged.get(name, np.True_))
        for name, found in by_class.items()
    }
    return {"accuracy": estimation.accuracy(expected.confusion, variance), **reduced}


def _expected(counts: ClassEstimation, half: Floats) -> tuple[Expected, Floats, Floats]:
    """Return what is expected, the variance of its confusion, and by how much the calibration raises that."""
    expected = counts.parts(half)
    inflation = estimation.inflation(expected.histogram, counts.probabilities, counts.reference, counts.runs)
    return expected, expected.spread * inflation[..., np.newaxis, np.newaxis], inflation


def _of_sets(counts: SetEstimation, half: Floats, averaged: Mapping[str, Flags]) -> dict[str, Estimate]:
    """Return confidence-based estimates of sets; what classes are off by is taken for the same chance."""
    confusion, variance, histogram, inflation = _of_members(counts, half)
    positives = histogram * counts.probabilities
    area = classification.roc_auc(
        np.stack([histogram - positives, positives], axis=-1) / inflation[..., np.newaxis, np.newaxis]
    )
    by_class = {**_by_member(confusion, variance), "roc_auc": area}
    right = estimation.macro(estimation.accuracy(confusion, variance))
    together, of_together = confusion.sum(-3), np.square(np.sqrt(variance).sum(-3))
    return {
        "hamming_loss": Estimate(1 - right.value, 1 - right.upper, 1 - right.lower),
        **{name: estimation.macro(found, averaged.get(name, np.True_)) for name, found in by_class.items()},
        **{
            f"micro_{name}": Estimate(*(part[..., 1] for part in metric(together, of_together)))
            for name, metric in _SINGLE.items()
        },
    }


def _of_members(counts: SetEstimation, half: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Return the expected confusion of each class, (..., K, 2, 2), its variance, the histogram, and the inflation."""
    expected = counts.parts(half)
    inflation = np.stack(
        [
            estimation.inflation(
                expected.histogram[..., [k], :], counts.probabilities[[k]], counts.reference[[k]], runs
            )
            for k, runs in enumerate(counts.runs)
        ],
        axis=-1,
    )
    variance = expected.spread * inflation[..., np.newaxis, np.newaxis]
    return expected.confusion, variance, expected.histogram, inflation


def _by_member(confusion: Floats, variance: Floats) -> dict[str, Estimate]:
    """Return the estimates of each class, (..., K), the class being the second of two."""
    return {name: Estimate(*(part[..., 1] for part in metric(confusion, variance))) for name, metric in _SINGLE.items()}


_SINGLE = {"precision": estimation.precision, "recall": estimation.recall, "f1": estimation.f1}
"""Metrics of one class by itself."""


def _of_losses(reference: LossModel, half: Floats) -> dict[str, Estimate]:
    """Return direct estimates of the losses (DLE)."""
    n, absolute, squared = np.moveaxis(half, -1, 0)
    return {
        "mae": estimation.mean_loss(n, absolute, squared, reference.rows),
        "rmse": estimation.root_mean_loss(n, squared, reference.kurtosis, reference.rows),
    }
