"""Drift of the joint distribution of a model's features to samples."""

from collections.abc import Iterator, Sequence

import numpy as np

from exporter import catalogue
from exporter.collectors import Family
from exporter.durations import format_duration
from exporter.model import Model
from exporter.multivariate import STATISTICS, VectorDrift
from exporter.samples import Samples


class MultivariateCollector:
    """Multivariate drift of every model whose profile knows the joint distribution."""

    name = "multivariate"

    def __init__(self, models: Sequence[Model]) -> None:
        self._drifts = [(model, _drift_of(model)) for model in models if model.vectors is not None]
        self._families: dict[tuple[str, str], Family] = {}

    def collect(self, now: float) -> Iterator[Samples]:
        """Return the samples at `now`."""
        for model, drift in self._drifts:
            windows = [format_duration(length) for length in model.settings.windows]
            assert model.vectors is not None
            for name, version in model.versions.items():
                family = self._families.setdefault((model.name, name), Family(model.name, name))
                with np.errstate(divide="ignore", invalid="ignore"):
                    sums = model.vectors.sums(version.totals(now)[:, model.layout.vectors])
                    values, thresholds = drift.compare(sums)
                yield family(catalogue.DATA_DRIFT, values, windows, STATISTICS)
                yield family(catalogue.DATA_DRIFT_THRESHOLD, thresholds, windows, STATISTICS)


def _drift_of(model: Model) -> VectorDrift:
    settings, reference = model.settings, model.profile.vectors
    assert reference is not None
    effects = {str(name): effect for name, effect in settings.multivariate.min_effect.items()}
    return VectorDrift(reference, settings.drift.false_alarm_rate, effects, settings.min_samples.drift)
