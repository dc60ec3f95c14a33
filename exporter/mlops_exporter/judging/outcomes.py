"""What the numbers say by which answers are rated: their means, and which of these surely miss what is agreed."""

from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from mlops_exporter.arrays import Floats
from mlops_exporter.counting.reference import Reference
from mlops_exporter.counting.version import Version
from mlops_exporter.judging import judge
from mlops_exporter.judging.dependence import Dependence, Measure, rated
from mlops_exporter.judging.judge import limit
from mlops_exporter.statistics import ratings
from mlops_exporter.statistics.intervals import Estimate


class Rated(NamedTuple):
    """What windows say of one outcome, (W,) each; `mean` and `deviation` are NaN where too few values came.

    `missed` is the window that surely misses the benchmark, None for none; `judged` whether there is one to judge by.
    """

    values: Floats
    mean: Estimate
    deviation: Floats
    missed: int | None
    judged: bool


class Outcomes:
    """Judges the outcomes of one reference's versions; `names` and `bounds` are in the order of the settings."""

    def __init__(self, reference: Reference) -> None:
        settings = reference.settings
        self.names = list(settings.outcomes)
        self.bounds = {name: outcome.bounds for name, outcome in settings.outcomes.items()}
        self._counts = reference.outcome_counts
        self._cells = [reference.layout.cells_of(counts) for counts in self._counts]
        self._dependence = Dependence(Measure(slice(self._cells[0].start, self._cells[-1].stop), rated))
        self._shown = settings.min_samples.performance
        self._least = max(self._shown, limit("min_labels"))
        self._caution = judge.caution(np.array(settings.windows))

    def rate(self, version: Version, now: float) -> dict[str, Rated]:
        """Return what a version's windows say of every outcome."""
        totals, filled = version.totals(now), version.filled(now)
        effects = self._dependence.effects(version, now)
        return {
            name: self._rated(name, totals[:, cells], filled, effects[:, number])
            for number, (name, cells) in enumerate(zip(self.names, self._cells, strict=True))
        }

    def _rated(self, name: str, sums: Floats, filled: Floats, effects: Floats) -> Rated:
        counts = self._counts[self.names.index(name)]
        values = sums[:, 0]
        enough = values >= self._shown
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = ratings.mean(sums / effects[:, np.newaxis], counts.low, counts.high)
            deviation = np.where(enough, ratings.standard_deviation(sums), np.nan)
        mean = Estimate(*(np.where(enough, part, np.nan) for part in mean))
        minimum, maximum = self.bounds[name]
        sizes = judge.of_full(values, filled)
        missed = judge.missed(mean, minimum, maximum, sizes, limit("min_labels"), self._caution)
        return Rated(values, mean, deviation, missed, judge.judged(mean, values, self._least))


_KNOWN: WeakKeyDictionary[Reference, Outcomes] = WeakKeyDictionary()


def outcomes_of(reference: Reference) -> Outcomes | None:
    """Return who judges a reference's outcomes, None where it has none; all who ask share one measurement."""
    if not reference.outcome_counts:
        return None
    known = _KNOWN.get(reference)
    if known is None:
        known = _KNOWN[reference] = Outcomes(reference)
    return known
