"""How the configuration was loaded, and how many of its models are ready."""

from collections.abc import Callable, Iterator
from typing import Self

from mlops_exporter.collectors.family import Family
from mlops_exporter.collectors.parts import Parts
from mlops_exporter.exposition import catalogue
from mlops_exporter.exposition.samples import Samples
from mlops_exporter.settings.loading import Loading


class ConfigurationCollector:
    """How the configuration was loaded, and how far a start has come."""

    name = "configuration"
    about = "how the configuration was loaded, and how many of its models are ready"
    by_default = True
    of_counts = False

    def __init__(self, loading: Callable[[], Loading]) -> None:
        self._loading = loading
        self._family = Family()

    @classmethod
    def of(cls, parts: Parts) -> Self | None:
        """Return the collector of these parts."""
        return None if parts.running is None else cls(parts.running.loading)

    def collect(self, now: float) -> Iterator[Samples]:
        """Return the samples at `now`."""
        family, loading = self._family, self._loading()
        yield family(catalogue.CONFIG_RELOAD_SUCCESSFUL, [float(loading.error is None)])
        yield family(catalogue.CONFIG_RELOAD_TIMESTAMP, [loading.loaded])
        yield family(catalogue.MODELS, [loading.models])
        yield family(catalogue.MODELS_READY, [loading.ready])
        if loading.broken:
            yield family(catalogue.MODEL_FILE_BROKEN, [1.0] * len(loading.broken), list(loading.broken))
