"""How old what is known of the registry is, and which versions are followed."""

from collections.abc import Iterator, Sequence
from typing import Self

import numpy as np

from mlops_exporter.collectors.family import Family, or_absent
from mlops_exporter.collectors.parts import Followed, Parts
from mlops_exporter.exposition import catalogue
from mlops_exporter.exposition.samples import Rows, Samples


class RegistryCollector:
    """The registry as each model that it feeds sees it."""

    name = "registry"
    about = "how old what is known of the model registry is, and which versions are followed"
    by_default = True
    of_counts = False

    def __init__(self, followed: Sequence[Followed]) -> None:
        self._followed = followed

    @classmethod
    def of(cls, parts: Parts) -> Self | None:
        """Return the collector of these parts."""
        return None if parts.running is None else cls(parts.running.followed)

    def collect(self, now: float) -> Iterator[Samples]:
        """Return the samples at `now`."""
        for each in self._followed:
            family = Family(each.model)
            yield family(catalogue.REGISTRY_UP, [or_absent(None if each.up is None else float(each.up))])
            yield family(catalogue.REGISTRY_LAST_SUCCESS, [or_absent(each.last_success)])
            yield family(catalogue.REGISTRY_FAILURES, [each.failures])
            rows = [
                (each.model, version, alias)
                for version in each.versions
                for alias in sorted(name for name, aim in each.aliases.items() if aim == version) or [""]
            ]
            yield Samples(Rows(catalogue.REGISTRY_VERSION_INFO, rows), np.ones(len(rows)))
