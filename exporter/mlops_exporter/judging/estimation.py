"""Performance estimated before the labels are in, from what the ledger sums up of predictions."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from mlops_exporter.arrays import Flags, Floats
from mlops_exporter.counting.estimation import ClassEstimation, LossEstimation
from mlops_exporter.counting.reference import Reference
from mlops_exporter.judging.dependence import Effects, worth
from mlops_exporter.profile.fitted import LossModel
from mlops_exporter.statistics import classification, estimation
from mlops_exporter.statistics.intervals import Estimate


class Estimates(NamedTuple):
    """Estimates by metric, of all predictions and of the labelled ones alone."""

    predictions: dict[str, Estimate]
    labelled: dict[str, Estimate]


def estimate(
    counts: ClassEstimation | LossEstimation, cells: Floats, confusion: Floats, effects: Effects | None = None
) -> Estimates:
    """Estimate every metric from the section's cells, (W, cells).

    `confusion` is the realised one, (W, K, K): macro averages of labelled predictions leave out the classes that the
    realised averages leave out, since a rare class without a label would make a gap by its absence alone.
    With `effects` of the windows ranges are those of as many predictions as they are worth.
    """
    predictions, labelled = np.split(cells, [counts.half], axis=-1)
    if effects is not None:
        predictions, labelled = worth(predictions, effects.outputs), worth(labelled, effects.labels)
    if isinstance(counts, LossEstimation):
        return Estimates(expected(counts, predictions), expected(counts, labelled))
    occurred = confusion.sum(-2) > 0
    in_f1 = occurred | (confusion.sum(-1) > 0)
    return Estimates(
        _of_classes(counts, predictions, {}), _of_classes(counts, labelled, {"recall": occurred, "f1": in_f1})
    )


def expected(counts: ClassEstimation | LossEstimation, half: Floats) -> dict[str, Estimate]:
    """Estimate every metric from one half of the section's cells, (..., half)."""
    if isinstance(counts, LossEstimation):
        return _of_losses(counts.reference, half)
    return _of_classes(counts, half, {})


def gap_of(reference: Reference, realised: Floats, estimated: Estimate) -> Estimate:
    """Return realised less estimated performance of the same predictions, beside what the settings let pass."""
    tolerance, value = reference.settings.estimation.tolerance, estimated.value
    if isinstance(reference.estimation, LossEstimation):
        return estimation.gap(realised, estimated, tolerance * value)
    return estimation.gap(realised, estimated, np.minimum(tolerance, np.minimum(value, 1 - value) / 10))


def _of_classes(counts: ClassEstimation, half: Floats, averaged: Mapping[str, Flags]) -> dict[str, Estimate]:
    """Return confidence-based estimates (CBPE); `averaged` are the classes, (W, K), of a metric's macro average."""
    expected = counts.parts(half)
    inflation = estimation.inflation(expected.histogram, counts.probabilities, counts.reference, counts.runs)
    variance = expected.spread * inflation[..., np.newaxis, np.newaxis]
    positives = expected.histogram * counts.probabilities
    by_class = {
        "precision": estimation.precision(expected.confusion, variance),
        "recall": estimation.recall(expected.confusion, variance),
        "f1": estimation.f1(expected.confusion, variance),
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


def _of_losses(reference: LossModel, half: Floats) -> dict[str, Estimate]:
    """Return direct estimates of the losses (DLE)."""
    n, absolute, squared = np.moveaxis(half, -1, 0)
    return {
        "mae": estimation.mean_loss(n, absolute, squared, reference.rows),
        "rmse": estimation.root_mean_loss(n, squared, reference.kurtosis, reference.rows),
    }
