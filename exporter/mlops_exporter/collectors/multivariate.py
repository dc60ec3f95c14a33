"""Drift of the joint distribution of a model's features to samples."""

from collections.abc import Iterator, Sequence

import numpy as np

from mlops_exporter.collectors.family import Family
from mlops_exporter.counting import embeddings
from mlops_exporter.counting.model import VECTORS, Model
from mlops_exporter.counting.multivariate import STATISTICS, Floats
from mlops_exporter.exposition import catalogue
from mlops_exporter.exposition.samples import Samples
from mlops_exporter.judging.embeddings import EmbeddingDrift
from mlops_exporter.judging.multivariate import vector_drift
from mlops_exporter.settings.durations import format_duration


class MultivariateCollector:
    """Multivariate drift of every model whose profile knows the joint distribution."""

    name = "multivariate"

    def __init__(self, models: Sequence[Model]) -> None:
        self._drifts = [(model, drift) for model in models if (drift := vector_drift(model)) is not None]
        self._embeddings = [
            (model, name, _embedding_drift(model, name)) for model in models for name in model.embeddings
        ]
        self._families: dict[tuple[str, str, str], Family] = {}

    def collect(self, now: float) -> Iterator[Samples]:
        """Return the samples at `now`."""
        for model, drift in self._drifts:
            assert model.vectors is not None
            for family, windows, totals in self._versions(model, now):
                with np.errstate(divide="ignore", invalid="ignore"):
                    values, thresholds = drift.compare(model.vectors.sums(totals[:, model.layout.sections[VECTORS]]))
                yield family(catalogue.DATA_DRIFT, values, windows, STATISTICS)
                yield family(catalogue.DATA_DRIFT_THRESHOLD, thresholds, windows, STATISTICS)
        for model, name, embedding in self._embeddings:
            for family, windows, totals in self._versions(model, now, name):
                with np.errstate(divide="ignore", invalid="ignore"):
                    values, thresholds = embedding.compare(totals[:, model.layout.sections[f"embedding {name}"]])
                yield family(catalogue.EMBEDDING_DRIFT, values, windows, [name], embeddings.STATISTICS)
                yield family(catalogue.EMBEDDING_DRIFT_THRESHOLD, thresholds, windows, [name], embeddings.STATISTICS)

    def _versions(self, model: Model, now: float, feature: str = "") -> Iterator[tuple[Family, list[str], Floats]]:
        """Yield the label sets of each version, the windows' names and their sums."""
        windows = [format_duration(length) for length in model.settings.windows]
        for name, version in model.versions.items():
            key = (model.name, name, feature)
            if key not in self._families:
                self._families[key] = Family(model.name, name)
            yield self._families[key], windows, version.totals(now)


def _embedding_drift(model: Model, name: str) -> EmbeddingDrift:
    settings = model.settings
    return EmbeddingDrift(
        model.profile.embeddings[name],
        settings.drift.false_alarm_rate,
        settings.multivariate.min_effect.get("mmd", 0.0),
        settings.min_samples.drift,
    )
