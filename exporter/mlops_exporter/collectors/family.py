"""Label sets, rendered once, that the collectors have in common."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import product
from typing import Generic, TypeVar

import numpy as np

from mlops_exporter.arrays import Floats
from mlops_exporter.counting.model import Model
from mlops_exporter.counting.reference import Reference
from mlops_exporter.counting.version import Version
from mlops_exporter.exposition.catalogue import Metric
from mlops_exporter.exposition.samples import Rows, Samples


class Family:
    """Label sets of metrics, rendered at first use and kept. All begin with `leading`, then with one of `versions`."""

    def __init__(self, *leading: str, versions: Sequence[str] | None = None) -> None:
        self._leading = [leading] if versions is None else [(*leading, version) for version in versions]
        self._rows: dict[str, Rows] = {}

    def __call__(
        self, metric: Metric, values: Iterable[float] | Floats | np.float64, *labels: Iterable[str]
    ) -> Samples:
        """Return samples for every combination of `labels`, the last of which varies fastest."""
        rows = self._rows.get(metric.name)
        if rows is None:
            rows = Rows(metric, [(*leading, *row) for leading, row in product(self._leading, [*product(*labels)])])
            self._rows[metric.name] = rows
        array = values if isinstance(values, np.ndarray | np.float64) else np.array(list(values), np.float64)
        return Samples(rows, np.ravel(array))

    def zipped(self, metric: Metric, values: Floats, rows: Callable[[], Iterable[Sequence[str]]]) -> Samples:
        """Return samples for the label sets that `rows` gives at first use."""
        kept = self._rows.get(metric.name)
        if kept is None:
            kept = Rows(metric, [(*leading, *row) for leading, row in product(self._leading, [*rows()])])
            self._rows[metric.name] = kept
        return Samples(kept, np.ravel(values))


V = TypeVar("V")


class Views(Generic[V]):
    """What is made of each reference of some models when it first appears; it goes with its reference.

    Where `make` returns None, it is asked again later.
    """

    def __init__(self, models: Sequence[Model], make: Callable[[Model, Reference], V | None]) -> None:
        self._models = models
        self._make = make
        self._views: dict[Reference, V] = {}

    def __iter__(self) -> Iterator[V]:
        views = {
            reference: self._views[reference] if reference in self._views else self._make(model, reference)
            for model in self._models
            for reference in model.references
        }
        self._views = {reference: view for reference, view in views.items() if view is not None}
        return iter(self._views.values())


class Versions:
    """The versions of a reference, whose metrics are worked out together: one more costs little beside the first."""

    def __init__(self, model: Model, reference: Reference) -> None:
        self._model = model
        self._reference = reference
        self._names: list[str] = []
        self.family = Family(model.name)

    def __iter__(self) -> Iterator[Version]:
        return iter(self._reference.versions.values())

    def update(self) -> int:
        """Let `family` be that of all versions there are; returns how many these are."""
        if (names := list(self._reference.versions)) != self._names:
            self._names = names
            self.family = Family(self._model.name, versions=names)
        return len(names)

    def lifetimes(self) -> Floats:
        """Return the ledgers of all time, (V, cells)."""
        return np.stack([version.lifetime for version in self])

    def totals(self, now: float) -> Floats:
        """Return the sums of all windows of all versions, (V * W, cells)."""
        return np.concatenate([version.totals(now) for version in self])


def or_absent(value: float | None) -> float:
    """Return a value, NaN for None: its series is then absent."""
    return np.nan if value is None else value
