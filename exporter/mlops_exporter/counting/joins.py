"""The joins of a model: one for all versions, and a challenger's own, which predicts under the champion's ids.

Of forecasts there are actual values, too: each is the label of several predictions, some of which may come after it. So
it has a record of its own, by its series and time.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from mlops_exporter.arrays import Flags, Ints
from mlops_exporter.counting.join import GivenUp, Join, Transfer
from mlops_exporter.counting.version import Version
from mlops_exporter.events.columns import Origins

MAIN, CHALLENGER, ACTUALS = "main", "challenger", "actuals"

_AS_THEY_ARE = Transfer({})
"""Actual values are numbers, and of no version."""


class Joins:
    """Which join an event belongs to. `make` makes one of so many outputs, or by default of those of predictions.

    `challenger` is the version that has its own, None for none; `ahead` tells that predictions are forecasts.
    """

    def __init__(self, make: Callable[..., Join], challenger: str | None, *, ahead: bool = False) -> None:
        self.main = make()
        self.actuals = make(0) if ahead else None
        self._challenger = challenger
        self._joins = {MAIN: self.main, **({CHALLENGER: make()} if challenger is not None else {})}

    def of(self, versions: Ints, challenger: int) -> list[tuple[Join, Flags]]:
        """Return each join with the predictions that are its own, by the places of their versions."""
        if self._challenger is None:
            return [(self.main, np.ones(len(versions), np.bool_))]
        theirs = versions == challenger
        return [(self.main, ~theirs), (self._joins[CHALLENGER], theirs)]

    def waiting(self, version: Version) -> int:
        """Return how many predictions of a version wait for their label."""
        join = self._joins[CHALLENGER] if version.name == self._challenger else self.main
        return int(join.waiting_predictions[version.place])

    @property
    def waiting_labels(self) -> int:
        """How many labels wait for a prediction; none is expected to come for a challenger's."""
        return self.main.waiting_labels + (self.actuals.waiting_labels if self.actuals else 0)

    @property
    def of_predictions(self) -> list[Join]:
        """The joins that hold predictions."""
        return list(self._joins.values())

    def tells(self, join: Join) -> bool:
        """Whether a label that finds no prediction there says anything: none is expected for a challenger's."""
        return join is self.main or join is self.actuals

    @property
    def _all(self) -> dict[str, Join]:
        return self._joins | ({ACTUALS: self.actuals} if self.actuals is not None else {})

    def expire(self, now: float) -> Iterator[tuple[Join, GivenUp]]:
        """Yield what each join has given up, having waited too long."""
        for join in self._all.values():
            yield join, join.expire(now)

    def forget(self, origins: Origins) -> Iterator[None]:
        """Forget step by step all that came from some origins."""
        for join in self._all.values():
            yield from join.forget(origins)

    def put_in_order(self) -> None:
        """Let what waits be given up in the order in which it was born: old things were taken in."""
        for join in self._all.values():
            join.put_in_order()

    def close(self, place: int) -> int:
        """See to it that no label of a version's pairs is corrected any more, and give up what waits for one.

        Returns how many predictions that were.
        """
        return sum(join.close(place) for join in self._joins.values())

    def hold_versions(self, count: int) -> None:
        """Make room for so many versions at least."""
        for join in self._joins.values():
            join.hold_versions(count)

    def state(self) -> dict[str, Any]:
        """Return what `restore` needs, as a tree of arrays and numbers."""
        return {"challenger_version": self._challenger or "", **{name: j.state() for name, j in self._all.items()}}

    def restore(self, state: dict[str, Any], transfer: Transfer) -> None:
        """Take over a state; what waits of another challenger than this stays behind."""
        self.main.restore(state[MAIN], transfer)
        if self._challenger is not None and state["challenger_version"] == self._challenger:
            self._joins[CHALLENGER].restore(state[CHALLENGER], transfer)
        if self.actuals is not None and ACTUALS in state:
            self.actuals.restore(state[ACTUALS], _AS_THEY_ARE)

    def take_over(self, former: "Joins", transfer: Transfer) -> None:
        """Go on from joins that take no events any more."""
        self.main.take_over(former.main, transfer)
        if self._challenger is not None and former._challenger == self._challenger:
            self._joins[CHALLENGER].take_over(former._joins[CHALLENGER], transfer)
        if self.actuals is not None and former.actuals is not None:
            self.actuals.take_over(former.actuals, _AS_THEY_ARE)
