"""Slices of the traffic to samples: sizes, performance and drift, and which are surely worse than the rest."""

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
from mlops_exporter.judging.segments import Segments, segments_of
from mlops_exporter.settings.durations import format_duration


class SegmentCollector:
    """Performance and drift in the slices of every model that is cut into some."""

    name = "segments"
    about = "performance and drift in slices of the traffic"
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
    segments = segments_of(reference)
    return None if segments is None else _SegmentView(model, reference, segments)


class _SegmentView:
    def __init__(self, model: Model, reference: Reference, segments: Segments) -> None:
        self._reference = reference
        self._versions = Versions(model, reference)
        self._segments = segments
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
        estimable = [(*each, metric) for each in slices for metric in segments.estimable]
        for metric, of_slices in (
            (catalogue.SEGMENT_WINDOW_PREDICTIONS, [each.predictions for each in found]),
            (catalogue.SEGMENT_WINDOW_LABELS, [each.labels for each in found]),
        ):
            yield family.zipped(metric, np.stack(of_slices), lambda: slices)
        for metric, parts in zip(_PERFORMANCE, zip(*(each.performance for each in found), strict=True), strict=True):
            yield family.zipped(metric, np.stack(parts), lambda: measured)
        worse = np.stack([each.worse for each in found]).astype(np.float64)
        yield family.zipped(catalogue.SEGMENT_WORSE, worse, lambda: measured)
        if estimable:
            estimates = zip(*(each.estimated for each in found), strict=True)
            for metric, parts in zip(_ESTIMATED, estimates, strict=True):
                yield family.zipped(metric, np.stack(parts), lambda: estimable)
            worse = np.stack([each.estimated_worse for each in found]).astype(np.float64)
            yield family.zipped(catalogue.SEGMENT_ESTIMATED_WORSE, worse, lambda: estimable)
        if segments.of_drift:
            for metric, of_slices in (
                (catalogue.SEGMENT_DRIFT, [each.drift for each in found]),
                (catalogue.SEGMENT_DRIFT_THRESHOLD, [each.drift_threshold for each in found]),
                (catalogue.SEGMENT_DRIFTED, [each.drifted for each in found]),
            ):
                yield family.zipped(metric, np.stack(of_slices), lambda: slices)


_ESTIMATED: tuple[Metric, ...] = (
    catalogue.SEGMENT_ESTIMATED,
    catalogue.SEGMENT_ESTIMATED_LOWER,
    catalogue.SEGMENT_ESTIMATED_UPPER,
)
_PERFORMANCE: tuple[Metric, ...] = (
    catalogue.SEGMENT_PERFORMANCE,
    catalogue.SEGMENT_PERFORMANCE_LOWER,
    catalogue.SEGMENT_PERFORMANCE_UPPER,
)
