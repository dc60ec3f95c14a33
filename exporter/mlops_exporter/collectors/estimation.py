"""Estimated performance to samples, and its gap to the realised one."""

from collections.abc import Iterator, Sequence
from typing import Self

import numpy as np

from mlops_exporter.collectors.family import Family
from mlops_exporter.collectors.parts import Parts
from mlops_exporter.counting.estimation import ClassEstimation, Estimation, LossEstimation, SetEstimation
from mlops_exporter.counting.model import Model
from mlops_exporter.counting.reference import Reference
from mlops_exporter.counting.version import Version
from mlops_exporter.exposition import catalogue
from mlops_exporter.exposition.samples import Samples
from mlops_exporter.judging.dependence import effects_of, worth
from mlops_exporter.judging.estimation import estimate, expected_by_class, gap_of
from mlops_exporter.judging.performance import PerformanceSums, metrics_of
from mlops_exporter.settings.durations import format_duration
from mlops_exporter.statistics.intervals import Estimate


class EstimationCollector:
    """Performance without labels, of every model whose profile allows it."""

    name = "estimation"
    about = "performance estimated without labels"
    by_default = True
    of_counts = True

    def __init__(self, models: Sequence[Model]) -> None:
        self._models = models
        self._families: dict[tuple[str, str], Family] = {}

    @classmethod
    def of(cls, parts: Parts) -> Self:
        """Return the collector of these parts."""
        return cls(parts.models)

    def collect(self, now: float) -> Iterator[Samples]:
        """Return the samples at `now`."""
        for reference in [reference for model in self._models for reference in model.references]:
            if (estimation := reference.estimation) is None:
                continue
            for name, version in reference.versions.items():
                model = reference.settings.name
                family = self._families.setdefault((model, name), Family(model, name))
                yield from _counters(family, reference, estimation, version)
                yield from _rolling(family, reference, estimation, version, now)


def _counters(family: Family, reference: Reference, estimation: Estimation, version: Version) -> Iterator[Samples]:
    cells = version.lifetime[reference.layout.cells_of(estimation)]
    if isinstance(estimation, ClassEstimation):
        classes = reference.profile.classes
        yield family(catalogue.EXPECTED_CONFUSION, estimation.expected_confusion(cells), classes, classes)
    elif isinstance(estimation, LossEstimation):
        absolute, squared = estimation.loss_sums(cells)
        yield family(catalogue.EXPECTED_ABSOLUTE_ERROR_SUM, [absolute])
        yield family(catalogue.EXPECTED_SQUARED_ERROR_SUM, [squared])


def _rolling(
    family: Family, reference: Reference, estimation: Estimation, version: Version, now: float
) -> Iterator[Samples]:
    windows = [format_duration(length) for length in reference.settings.windows]
    layout, least = reference.layout, reference.settings.min_samples.performance
    totals = version.totals(now)
    realised = PerformanceSums(layout, totals)
    metrics = metrics_of(layout)
    with np.errstate(divide="ignore", invalid="ignore"):
        effects = effects_of(reference, version, now)
        estimates = estimate(estimation, totals[:, layout.cells_of(estimation)], realised.confusions, effects)
        gaps = [gap_of(reference, metrics[name](realised).value, found) for name, found in estimates.labelled.items()]
    for names, found, n in (
        (_ESTIMATED, list(estimates.predictions.values()), totals[:, layout.predictions.start]),
        (_GAP, gaps, realised.labels),
    ):
        enough = (n >= least)[:, np.newaxis]
        for metric, values in zip(names, _columns(found), strict=True):
            yield family(metric, np.where(enough, values, np.nan), windows, estimation.metrics)
    classes = reference.profile.classes
    # Of two classes one is told by the whole, unless both may be true.
    if isinstance(estimation, SetEstimation) or (isinstance(estimation, ClassEstimation) and len(classes) > 2):
        half = worth(totals[:, layout.cells_of(estimation)][:, : estimation.half], effects.outputs)
        with np.errstate(divide="ignore", invalid="ignore"):
            by_class = expected_by_class(estimation, half)
        enough = (totals[:, layout.predictions.start] >= least)[:, np.newaxis, np.newaxis]
        for metric, values in zip(_OF_CLASSES, _columns(list(by_class.values())), strict=True):
            yield family(metric, np.where(enough, values, np.nan), windows, classes, by_class)


def _columns(estimates: Sequence[Estimate]) -> Iterator[np.ndarray[tuple[int, ...], np.dtype[np.float64]]]:
    """Yield values, lower and upper limits of several metrics, (W, metrics) each."""
    for parts in zip(*estimates, strict=True):
        yield np.stack(parts, axis=-1)


_ESTIMATED = (
    catalogue.PERFORMANCE_ESTIMATED,
    catalogue.PERFORMANCE_ESTIMATED_LOWER,
    catalogue.PERFORMANCE_ESTIMATED_UPPER,
)
_OF_CLASSES = (catalogue.CLASS_ESTIMATED, catalogue.CLASS_ESTIMATED_LOWER, catalogue.CLASS_ESTIMATED_UPPER)
_GAP = (catalogue.PERFORMANCE_GAP, catalogue.PERFORMANCE_GAP_LOWER, catalogue.PERFORMANCE_GAP_UPPER)
