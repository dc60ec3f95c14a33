"""The reference by hour, counted while the table is read the second time."""

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from mlops_exporter.arrays import Flags, Floats, Ints
from mlops_exporter.counting.ledger import Layout, Outputs
from mlops_exporter.profile.hours import SECONDS, HourlyReference, Hours, least_days, slots_of
from mlops_exporter.profiling.errors import BuildError
from mlops_exporter.tables import times
from mlops_exporter.tables.errors import TableError

_LATEST = 1e11
"""Unix seconds beyond which numbers are milliseconds or no times at all."""

_DAY = 86400.0


class Timing(NamedTuple):
    """By which column rows have a time, in which zone, and which hours are told apart."""

    column: str
    by: Hours
    timezone: str


class HourlyCounts:
    """Counts rows by slot of time, block by block. `halved` are features of which only some rows are counted."""

    def __init__(self, timing: Timing, layout: Layout, halved: list[str]) -> None:
        self._timing, self._layout = timing, layout
        self._halved = [layout.features[name] for name in halved]
        self._ledgers: dict[int, Floats] = {}
        self._first, self._last = np.inf, -np.inf

    def slots(self, column: Any) -> Ints:
        """Return the slot of each row of a block by its column of times, -1 where it has none. Raises BuildError."""
        timing = self._timing
        try:
            found = times.seconds(column, timing.timezone)
        except (TableError, pa.ArrowException) as error:
            raise BuildError(f"--time: {timing.column}: {error}") from None
        slots = np.full(len(found), -1)
        known = np.flatnonzero(~np.isnan(found))
        if not len(known):
            return slots
        first, last = float(found[known].min()), float(found[known].max())
        if first < 0 or last > _LATEST:
            odd = first if first < 0 else last
            raise BuildError(f"--time: {timing.column}: {odd:.15g} is no time in Unix seconds since 1970")
        self._first, self._last = min(self._first, first), max(self._last, last)
        slots[known] = slots_of((found[known] // SECONDS).astype(np.intp), timing.by, timing.timezone)
        return slots

    def add(self, slots: Ints, numeric: Floats, codes: Ints, outputs: Outputs, choosing: Flags) -> None:
        """Take in a block: slots, features (F, n) and (C, n), outputs, and which rows choose."""
        order = slots.argsort(kind="stable")[np.count_nonzero(slots < 0) :]
        if not len(order):
            return
        starts = np.flatnonzero(np.diff(slots[order])) + 1
        for rows in np.split(order, starts):
            self._add(int(slots[rows[0]]), rows, numeric, codes, outputs, choosing)

    def _add(self, slot: int, rows: Ints, numeric: Floats, codes: Ints, outputs: Outputs, choosing: Flags) -> None:
        layout = self._layout
        ledger = self._ledgers.setdefault(slot, layout.zeros())
        layout.count_predictions(ledger, outputs.rows(rows), np.full(len(rows), np.nan), failed=0)
        layout.count_features(ledger, numeric[:, rows], codes[:, rows])
        if self._halved and (chosen := rows[choosing[rows]]).size:
            uncounted = layout.zeros()
            layout.count_features(uncounted, numeric[:, chosen], codes[:, chosen])
            for section in self._halved:
                ledger[section] -= uncounted[section]

    def add_hours(self, other: "HourlyCounts") -> None:
        """Take in what was counted of other blocks."""
        self._first, self._last = min(self._first, other._first), max(self._last, other._last)
        for slot, ledger in other._ledgers.items():
            self._ledgers[slot] = self._ledgers[slot] + ledger if slot in self._ledgers else ledger

    def finish(self) -> HourlyReference:
        """Return the reference by hour. Raises BuildError where the rows do not span enough days."""
        timing, layout = self._timing, self._layout
        if not self._ledgers:
            raise BuildError(f"--time: {timing.column}: no row has a time")
        days = (self._last - self._first) / _DAY
        if days < least_days(timing.by) - 1 / 24:
            raise BuildError(
                f"--time: rows of {days:.1f} days are too few to know every {timing.by.replace('-', ' and ')}: they "
                f"must span {least_days(timing.by)} days, better several times as many"
            )
        profile = layout.profile
        empty = HourlyReference(timing.by, timing.timezone, [], {})
        ledgers = np.stack([self._ledgers.get(slot, layout.zeros()) for slot in range(empty.slots)]).astype(np.intp)
        return HourlyReference(
            timing.by,
            timing.timezone,
            ledgers[:, layout.predictions.start].tolist(),
            {name: ledgers[:, section].tolist() for name, section in layout.features.items()},
            ledgers[:, layout.score].tolist() if profile.score else [],
            ledgers[:, layout.prediction].tolist() if profile.prediction else [],
        )
