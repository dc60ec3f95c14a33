"""Slices of the traffic to samples: their sizes and performance, and which are surely worse than the rest."""

from collections.abc import Iterator, Sequence
from typing import Self

import numpy as np

from mlops_exporter.collectors.family import Versions, Views
from mlops_exporter.collectors.parts import Parts
from mlops_exporter.counting.model import Model
from mlops_exporter.counting.reference import Reference
from mlops_exporter.exposition import catalogue
from mlops_exporter.exposition.catalogue import Metric
from mlops_exporter.exposition.samples import Samples
from mlops_exporter.judging.dependence import effects_of
from mlops_exporter.judging.segments import Segments
from mlops_exporter.settings.durations import format_duration


class SegmentCollector:
    """Performance in the slices of every model that is cut into some."""

    name = "segments"
    about = "performance in slices of the traffic"
    by_default = True
    of_counts = True

    def __init__(self, models: Sequence[Model]) -> None:
        self._views = Views([model for model in models if model.settings.segments is not None], _view)

    @classmethod
    def of(cls, parts: Parts) -> Self:
        """Return the collector of these parts."""
        return cls(parts.models)

    def collect(self, now: float) -> Iterator[Samples]:
        """Return the samples at `now`."""
        for view in self._views:
            yield from view.collect(now)


def _view(model: Model, reference: Reference) -> "_SegmentView | None":
    return None if reference.segment_counts is None else _SegmentView(model, reference)


class _SegmentView:
    def __init__(self, model: Model, reference: Reference) -> None:
        self._reference = reference
        self._versions = Versions(model, reference)
        self._segments = Segments(reference)
        self._windows = [format_duration(length) for length in model.settings.windows]

    def collect(self, now: float) -> Iterator[Samples]:
        if not self._versions.update():
            return
        family, segments = self._versions.family, self._segments
        found = [
            segments.compare(version.totals(now), effects_of(self._reference, version, now))
            for version in self._versions
        ]
        slices = [(window, *each) for window in self._windows for each in segments.slices]
        measured = [(*each, metric) for each in slices for metric in segments.metrics]
        for metric, of_slices in (
            (catalogue.SEGMENT_WINDOW_PREDICTIONS, [each.predictions for each in found]),
            (catalogue.SEGMENT_WINDOW_LABELS, [each.labels for each in found]),
        ):
            yield family.zipped(metric, np.stack(of_slices), lambda: slices)
        for metric, parts in zip(_PERFORMANCE, zip(*(each.performance for each in found), strict=True), strict=True):
            yield family.zipped(metric, np.stack(parts), lambda: measured)
        worse = np.stack([each.worse for each in found]).astype(np.float64)
        yield family.zipped(catalogue.SEGMENT_WORSE, worse, lambda: measured)


_PERFORMANCE: tuple[Metric, ...] = (
    catalogue.SEGMENT_PERFORMANCE,
    catalogue.SEGMENT_PERFORMANCE_LOWER,
    catalogue.SEGMENT_PERFORMANCE_UPPER,
)
