"""The numbers by which answers are rated to samples: their sums and means, and whether these keep their benchmark."""

from collections.abc import Iterator, Sequence
from typing import Self

import numpy as np

from mlops_exporter.collectors.family import Family, Versions, Views
from mlops_exporter.collectors.parts import Parts
from mlops_exporter.counting.model import Model
from mlops_exporter.counting.reference import Reference
from mlops_exporter.exposition import catalogue
from mlops_exporter.exposition.samples import Samples
from mlops_exporter.judging.outcomes import Outcomes, outcomes_of
from mlops_exporter.settings.durations import format_duration


class OutcomeCollector:
    """Ratings, money, tokens: every number that answers are rated by, for every model that has some."""

    name = "outcomes"
    about = "numbers by which answers are rated, against their benchmarks"
    by_default = True
    of_counts = True

    def __init__(self, models: Sequence[Model]) -> None:
        rated = [model for model in models if model.settings.outcomes]
        self._families = [(model, Family(model.name)) for model in rated]
        self._views = Views(rated, _view)

    @classmethod
    def of(cls, parts: Parts) -> Self:
        """Return the collector of these parts."""
        return cls(parts.models)

    def collect(self, now: float) -> Iterator[Samples]:
        """Return the samples at `now`."""
        for model, family in self._families:
            outcomes = model.settings.outcomes
            yield family(catalogue.OUTCOME_LOW, [outcome.low for outcome in outcomes.values()], outcomes)
            tallies = model.late.tallies
            for metric, told in (
                (catalogue.OUTCOME_UNMATCHED, "unmatched"),
                (catalogue.OUTCOME_DUPLICATE, "duplicate"),
                (catalogue.OUTCOME_CORRECTED, "corrected"),
            ):
                yield family(metric, [tally.counts[told] for tally in tallies.values()], tallies)
            for metric, side in ((catalogue.OUTCOME_BENCHMARK_MIN, 0), (catalogue.OUTCOME_BENCHMARK_MAX, 1)):
                agreed = {name: bound for name, each in outcomes.items() if (bound := each.bounds[side]) is not None}
                yield family(metric, agreed.values(), agreed)
        for view in self._views:
            yield from view.collect(now)


def _view(model: Model, reference: Reference) -> "_OutcomeView | None":
    outcomes = outcomes_of(reference)
    return None if outcomes is None else _OutcomeView(model, reference, outcomes)


class _OutcomeView:
    def __init__(self, model: Model, reference: Reference, outcomes: Outcomes) -> None:
        self._outcomes = outcomes
        self._cells = [reference.layout.cells_of(counts) for counts in reference.outcome_counts]
        self._agreed = [name for name, bounds in outcomes.bounds.items() if bounds != (None, None)]
        self._versions = Versions(model, reference)
        self._windows = [format_duration(length) for length in model.settings.windows]

    def collect(self, now: float) -> Iterator[Samples]:
        if not self._versions.update():
            return
        family, names, windows = self._versions.family, self._outcomes.names, self._windows
        sums = np.stack([self._versions.lifetimes()[:, cells] for cells in self._cells], axis=1)
        yield family(catalogue.OUTCOME_VALUES, sums[..., 0], names)
        yield family(catalogue.OUTCOME_SUM, sums[..., 1], names)
        found = [self._outcomes.rate(version, now) for version in self._versions]
        for metric, parts in (
            (catalogue.OUTCOME_WINDOW_VALUES, [[rated.values for rated in each.values()] for each in found]),
            (catalogue.OUTCOME_MEAN, [[rated.mean.value for rated in each.values()] for each in found]),
            (catalogue.OUTCOME_MEAN_LOWER, [[rated.mean.lower for rated in each.values()] for each in found]),
            (catalogue.OUTCOME_MEAN_UPPER, [[rated.mean.upper for rated in each.values()] for each in found]),
            (catalogue.OUTCOME_DEVIATION, [[rated.deviation for rated in each.values()] for each in found]),
        ):
            yield family.zipped(
                metric, np.array(parts), lambda: [(window, name) for name in names for window in windows]
            )
        missed = [[_missed(each[name].missed, judged=each[name].judged) for name in self._agreed] for each in found]
        if self._agreed:
            yield family(catalogue.OUTCOME_BENCHMARK_MISSED, np.array(missed), self._agreed)


def _missed(window: int | None, *, judged: bool) -> float:
    """Return 1 for a benchmark that is missed, 0 for one that is not, NaN where no window can tell."""
    return float(window is not None) if judged else np.nan
