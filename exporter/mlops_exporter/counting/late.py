"""Outcomes that come after their prediction, as the rating of the next day: found by id, each counted once.

An outcome is to an answer what a label is to a prediction, so it has a join of its own. Nobody promises that it comes:
what waits here is counted as waiting nowhere, keeps no version alive, and is forgotten without a word.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from mlops_exporter.arrays import Floats, Ints
from mlops_exporter.counting.join import Join, Pairs, Transfer, some
from mlops_exporter.counting.keys import Keys
from mlops_exporter.counting.outcomes import OutcomeCounts
from mlops_exporter.events.columns import NO_ORIGINS, Origins

TOLD = ("unmatched", "duplicate", "corrected")
"""What is told of values that were not simply counted."""


class Tally:
    """Where late values of one outcome find their answers, and counters of what became of them."""

    def __init__(self, join: Join) -> None:
        self.join = join
        self.counts = dict.fromkeys(TOLD, 0)


class Rated(NamedTuple):
    """Values found: of outcome number `outcome`, `pairs` with the values as their labels."""

    outcome: int
    pairs: Pairs


class LateOutcomes:
    """A join for each outcome; `make` makes one, which keeps nothing of a prediction but its version and time."""

    def __init__(self, outcomes: Mapping[str, OutcomeCounts], make: Callable[[], Join]) -> None:
        self._names = [counts.name for counts in outcomes.values()]  # which change with the bounds
        self.tallies = {outcome: Tally(make()) for outcome in outcomes}

    def predict(
        self,
        keys: Keys,
        times: Floats,
        versions: Ints,
        values: Floats,
        origins: Origins = NO_ORIGINS,
        *,
        refilled: bool = False,
    ) -> tuple[Floats, list[Rated]]:
        """Take answers in, with `values`, (n, outcomes), NaN for what may come later.

        Returns the values that are to be counted with the answers, and those of outcomes that came before them. What is
        `refilled` was counted elsewhere, as in `Join`.
        """
        own = values.copy()
        found: list[Rated] = []
        for number, tally in enumerate(self.tallies.values()):
            given = values[:, number]
            nothing = np.empty((len(keys), 0))
            result = tally.join.predict(keys, times, versions, nothing, given, origins, refilled=refilled)
            own[~result.fresh, number] = np.nan
            own[result.met, number] = np.nan
            tally.counts["unmatched"] += result.given_up.labels
            found.append(Rated(number, result.pairs))
            again = ~result.fresh
            again[result.met] = True
            came = some(origins, again)
            found += self._rate(number, tally, keys[again], times[again], given[again], came, refilled=refilled)
        return own, found

    def rate(
        self, keys: Keys, times: Floats, values: Floats, origins: Origins = NO_ORIGINS, *, refilled: bool = False
    ) -> Iterator[Rated]:
        """Take outcomes in of answers that came before, or are yet to come: `values` are (n, outcomes)."""
        for number, tally in enumerate(self.tallies.values()):
            yield from self._rate(number, tally, keys, times, values[:, number], origins, refilled=refilled)

    def _rate(
        self,
        number: int,
        tally: Tally,
        keys: Keys,
        times: Floats,
        values: Floats,
        origins: Origins,
        *,
        refilled: bool,
    ) -> Iterator[Rated]:
        known = ~np.isnan(values)
        if not known.any():
            return
        came = some(origins, known)
        result = tally.join.label(keys[known], times[known], values[known], came, refilled=refilled)
        tally.counts["duplicate"] += 0 if refilled else result.duplicates
        tally.counts["unmatched"] += result.given_up.labels
        tally.counts["corrected"] += int(np.count_nonzero(~np.isnan(result.pairs.old_labels)))
        yield Rated(number, result.pairs)

    def forget(self, origins: Origins) -> Iterator[None]:
        """Forget step by step all that came from some origins."""
        for tally in self.tallies.values():
            yield from tally.join.forget(origins)

    def put_in_order(self) -> None:
        """Let what waits be given up in the order in which it was born: old things were taken in."""
        for tally in self.tallies.values():
            tally.join.put_in_order()

    def expire(self, now: float) -> bool:
        """Forget what waited too long; returns whether there was any."""
        forgotten = False
        for tally in self.tallies.values():
            given_up = tally.join.expire(now)
            tally.counts["unmatched"] += given_up.labels
            forgotten |= bool(len(given_up.versions) or given_up.labels)
        return forgotten

    def close(self, place: int) -> None:
        """See to it that nothing is found any more for a version that is gone."""
        for tally in self.tallies.values():
            tally.join.close(place)

    def hold_versions(self, count: int) -> None:
        """Make room for so many versions at least."""
        for tally in self.tallies.values():
            tally.join.hold_versions(count)

    def state(self) -> dict[str, Any]:
        """Return what `restore` needs, as a tree of arrays and numbers."""
        return {
            name: {"join": tally.join.state(), "counts": tally.counts}
            for name, tally in zip(self._names, self.tallies.values(), strict=True)
        }

    def restore(self, state: dict[str, Any], transfer: Transfer) -> None:
        """Take over a state; what waits of an outcome with other bounds stays behind."""
        for name, tally in zip(self._names, self.tallies.values(), strict=True):
            if (stored := state.get(name)) is not None:
                tally.join.restore(stored["join"], transfer)
                tally.counts = dict(stored["counts"])

    def take_over(self, former: "LateOutcomes", transfer: Transfer) -> None:
        """Go on from outcomes that take no events any more."""
        known = dict(zip(former._names, former.tallies.values(), strict=True))
        for name, tally in zip(self._names, self.tallies.values(), strict=True):
            if (there := known.get(name)) is not None:
                tally.join.take_over(there.join, transfer)
                tally.counts = dict(there.counts)
