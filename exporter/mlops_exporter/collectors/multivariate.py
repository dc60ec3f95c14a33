"""Drift of the joint distribution of a model's features to samples."""

from collections.abc import Iterator, Sequence
from typing import Self

import numpy as np

from mlops_exporter.collectors.family import Family, Views
from mlops_exporter.collectors.parts import Parts
from mlops_exporter.counting import embeddings
from mlops_exporter.counting.model import Model
from mlops_exporter.counting.multivariate import STATISTICS
from mlops_exporter.counting.reference import Reference
from mlops_exporter.exposition import catalogue
from mlops_exporter.exposition.samples import Samples
from mlops_exporter.judging.embeddings import EmbeddingDrift
from mlops_exporter.judging.multivariate import vector_drift
from mlops_exporter.settings.durations import format_duration


class MultivariateCollector:
    """Multivariate drift of every model whose profile knows the joint distribution."""

    name = "multivariate"
    about = "drift of the joint distribution, and of embeddings"
    by_default = True
    of_counts = True

    def __init__(self, models: Sequence[Model]) -> None:
        self._views = Views(models, _ReferenceView)

    @classmethod
    def of(cls, parts: Parts) -> Self:
        """Return the collector of these parts."""
        return cls(parts.models)

    def collect(self, now: float) -> Iterator[Samples]:
        """Return the samples at `now`."""
        for view in self._views:
            yield from view.collect(now)


class _ReferenceView:
    def __init__(self, model: Model, reference: Reference) -> None:
        self._reference = reference
        self._windows = [format_duration(length) for length in model.settings.windows]
        self._drift = vector_drift(reference)
        self._embeddings = {name: _embedding_drift(reference, name) for name in reference.embeddings}
        self._families: dict[tuple[str, str], Family] = {}

    def collect(self, now: float) -> Iterator[Samples]:
        vectors, cells_of = self._reference.vectors, self._reference.layout.cells_of
        for version in self._reference.versions.values():
            totals = version.totals(now)
            if vectors is not None and self._drift is not None:
                family = self._family(version.name)
                with np.errstate(divide="ignore", invalid="ignore"):
                    cells = cells_of(vectors)
                    traffic = self._drift.traffic(version, now, vectors, cells)
                    values, thresholds = self._drift.compare(vectors.sums(totals[:, cells]), traffic)
                yield family(catalogue.DATA_DRIFT, values, self._windows, STATISTICS)
                yield family(catalogue.DATA_DRIFT_THRESHOLD, thresholds, self._windows, STATISTICS)
            for name, embedding in self._embeddings.items():
                family = self._family(version.name, name)
                with np.errstate(divide="ignore", invalid="ignore"):
                    values, thresholds = embedding.compare(totals[:, cells_of(self._reference.embeddings[name])])
                labels = self._windows, [name], embeddings.STATISTICS
                yield family(catalogue.EMBEDDING_DRIFT, values, *labels)
                yield family(catalogue.EMBEDDING_DRIFT_THRESHOLD, thresholds, *labels)

    def _family(self, version: str, feature: str = "") -> Family:
        """Return the label sets of a version, which are rendered once."""
        return self._families.setdefault((version, feature), Family(self._reference.settings.name, version))


def _embedding_drift(reference: Reference, name: str) -> EmbeddingDrift:
    settings = reference.settings
    return EmbeddingDrift(
        reference.profile.embeddings[name],
        settings.drift.false_alarm_rate,
        settings.multivariate.min_effect.get("mmd", 0.0),
        settings.min_samples.drift,
    )
