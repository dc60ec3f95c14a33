"""Brings predictions and labels of one model together by id, in any order, each counted once.

A record is in one of three states: a prediction that waits for its label, a label that came before its prediction, or
a pair that is remembered so that a repeated event is recognised and a corrected label finds what it corrects. All
work is on batches, in NumPy columns: see `keys` for the look-up by id.
"""

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlops_exporter.arrays import Flags, Floats, Ints
from mlops_exporter.counting.keys import Keys, KeyTable, lengthened
from mlops_exporter.events.columns import NO_ORIGINS, Origins

Rows = NDArray[np.int32] | Ints
Entries = NDArray[np.void]
Predicate = Callable[[Entries], Flags]

FREE, PREDICTED, LABELLED, PAIRED = range(4)

CLOSED = np.inf
"""The label of a prediction for which none is expected, since it failed."""

_FIRST_ROWS = 1 << 20
"""Rows that are there from the start: what has never been touched takes no memory, and growing takes a while."""

_RESTORED_ROWS = 1 << 16
"""Rows whose keys are put into the table at a time."""

_FORGOTTEN_ROWS = 1 << 16
"""Rows that are looked at in one step."""

_ENTRY = np.dtype([("row", np.int32), ("stamp", np.uint32)])


class Pairs(NamedTuple):
    """Predictions with their labels. `old_labels` are NaN unless the label corrects an earlier one.

    `keys` are those of the ids, 0 for an event without id.
    """

    versions: Ints
    prediction_times: Floats
    label_times: Floats
    outputs: Floats
    labels: Floats
    old_labels: Floats
    keys: Keys

    def rows(self, chosen: Flags) -> "Pairs":
        """Return some of the pairs."""
        return Pairs(
            self.versions[chosen],
            self.prediction_times[chosen],
            self.label_times[chosen],
            self.outputs[chosen],
            self.labels[chosen],
            self.old_labels[chosen],
            self.keys[chosen],
        )


class GivenUp(NamedTuple):
    """What waited in vain: versions of predictions without label, and the number of labels without prediction."""

    versions: Ints
    labels: int

    def __add__(self, other: object) -> "GivenUp":
        if not isinstance(other, GivenUp):
            return NotImplemented
        return GivenUp(np.concatenate([self.versions, other.versions]), self.labels + other.labels)


class Predicted(NamedTuple):
    """What became of predictions: which are new, which of those found their label waiting, and these pairs."""

    fresh: Flags
    met: Ints
    pairs: Pairs
    given_up: GivenUp


class Labelled(NamedTuple):
    """What became of labels: pairs, new or corrected, and how many said nothing new."""

    pairs: Pairs
    duplicates: int
    given_up: GivenUp


class Known(NamedTuple):
    """Labels that are there, with their times: NaN where there is none. The `refilled` ones were counted elsewhere."""

    labels: Floats
    times: Floats
    refilled: Flags


@dataclass(frozen=True, slots=True)
class Transfer:
    """How records that were kept elsewhere are to be read.

    `outputs` says by version, of each output kept here, which column of the stored ones it is, -1 for none: it is then
    NaN. `predictions` has the new code of each class by its stored one, of the versions where they differ, and `labels`
    the same for all labels. Versions `begun` count in a ledger laid out otherwise, where no label can be corrected.
    """

    outputs: Mapping[int, Sequence[int]]
    predictions: Mapping[int, Floats] = field(default_factory=dict)
    labels: Floats | None = None
    begun: Collection[int] = ()

    @property
    def of_outcomes(self) -> "Transfer":
        """How records that keep no outputs, and numbers in place of labels, are to be read."""
        return Transfer({}, begun=self.begun)

    @property
    def changes_nothing(self) -> bool:
        """Whether all records stay as they are, so that they can be shared."""
        same = all(list(columns) == list(range(len(columns))) for columns in self.outputs.values())
        return same and not self.predictions and self.labels is None and not self.begun


_KEPT = ("keys", "states", "stamps", "versions", "prediction_times", "label_times", "labels", "outputs")
_KEPT_SINCE = ("origins", "refilled")
"""What older states lack, and is then zero."""


class _Records:
    """Columns of records; a row belongs to one id until it is freed. `stamps` count a row's tenants.

    `origins` say from where the record came, 0 where that does not matter. What is `refilled` was counted elsewhere.
    """

    def __init__(self, width: int) -> None:
        self.keys = np.zeros(0, np.uint64)
        self.states = np.zeros(0, np.uint8)
        self.stamps = np.zeros(0, np.uint32)
        self.versions = np.zeros(0, np.int16)
        self.prediction_times = np.zeros(0)
        self.label_times = np.zeros(0)
        self.labels = np.zeros(0)
        self.outputs = np.zeros((0, width))
        self.origins = np.zeros(0, np.int16)
        self.refilled = np.zeros(0, np.bool_)
        self.free = np.zeros(0, np.int32)  # a stack of the rows that have become free, `free_count` high
        self.free_count = 0
        self.used = 0
        """So many rows have ever had a tenant."""

    @property
    def room(self) -> int:
        """How many rows can be taken."""
        return len(self.keys) - self.used + self.free_count

    def grow(self, size: int) -> None:
        """Lengthen every column to `size` rows."""
        for name, column in vars(self).items():
            if isinstance(column, np.ndarray):
                setattr(self, name, lengthened(column[: self.used], size))

    def state(self) -> dict[str, Any]:
        """Return the columns up to the last row with a tenant."""
        tenants = np.flatnonzero(self.states[: self.used])
        end = int(tenants[-1]) + 1 if len(tenants) else 0
        return {name: getattr(self, name)[:end] for name in (*_KEPT, *_KEPT_SINCE)}

    def restore(self, state: dict[str, Any], transfer: Transfer) -> None:
        """Take columns over, as they are: what is restored is the largest thing there is, and no copy is made."""
        width = self.outputs.shape[1]
        for name in _KEPT:
            setattr(self, name, state[name])
        self.used = len(self.keys)
        for name in _KEPT_SINCE:
            stored = state.get(name)
            setattr(self, name, np.zeros(self.used, getattr(self, name).dtype) if stored is None else stored)
        self.free = np.zeros(self.used, np.int32)
        if not transfer.changes_nothing or self.outputs.shape[1] != width:
            self._translate(transfer, width)
        self.release(np.flatnonzero(self.states == FREE)[::-1])

    def rearranged(self, transfer: Transfer, width: int) -> "_Records":
        """Return the same records with outputs and labels of their own, of other meaning, and all else in common."""
        records = copy(self)
        size = len(self.keys)
        records.labels = self.labels[: self.used].copy()
        records._translate(transfer, width)
        records.outputs = lengthened(records.outputs, size)
        records.labels = lengthened(records.labels, size)
        return records

    def _translate(self, transfer: Transfer, width: int) -> None:
        """Read the outputs of each version, `width` of them, and all labels by what they mean now."""
        used = slice(0, self.used)
        stored, versions = self.outputs[used], self.versions[used]
        holds = (self.states[used] == PREDICTED) | (self.states[used] == PAIRED)
        self.outputs = np.full((self.used, width), np.nan)
        for place, columns in transfer.outputs.items():
            rows = np.flatnonzero(holds & (versions == place))
            for here, there in enumerate(columns):
                if there >= 0:
                    self.outputs[rows, here] = stored[rows, there]
            if place in transfer.predictions:
                self.outputs[rows, 0] = _translated(self.outputs[rows, 0], transfer.predictions[place])
        if transfer.labels is not None:
            rows = np.flatnonzero(np.isfinite(self.labels[used]) & (self.states[used] != FREE))
            self.labels[rows] = _translated(self.labels[rows], transfer.labels)
        for place in transfer.begun:
            self.close(place)

    def close(self, place: int) -> None:
        """See to it that no label of a version's pairs is corrected any more."""
        used = slice(0, self.used)
        self.labels[used][(self.states[used] == PAIRED) & (self.versions[used] == place)] = CLOSED

    def take(self, count: int) -> NDArray[np.int32]:
        """Return free rows, of which there must be `count`."""
        again = min(count, self.free_count)
        self.free_count -= again
        fresh = np.arange(self.used, self.used + count - again, dtype=np.int32)
        self.used += len(fresh)
        return np.concatenate([self.free[self.free_count : self.free_count + again], fresh])

    def release(self, rows: Rows) -> None:
        """Free rows."""
        self.free[self.free_count : self.free_count + len(rows)] = rows
        self.free_count += len(rows)


class Join:
    """The records of one model. `width` is the number of outputs kept of a prediction, `versions` how many there are.

    At most `limit` predictions and labels wait, none longer than `time_to_live` seconds of event time; `remembered`
    pairs are known again, the oldest are forgotten first.
    """

    def __init__(self, width: int, versions: int, time_to_live: float, limit: int, remembered: int) -> None:
        self._time_to_live = time_to_live
        self._limit = limit
        self._remembered = remembered
        self._table = KeyTable()
        self._records = _Records(width)
        self._waiting = _Queue()
        self._pairs = _Queue()
        self.waiting_predictions = np.zeros(versions, np.intp)
        """Predictions that wait for their label, by version."""
        self.waiting_labels = 0

    def state(self) -> dict[str, Any]:
        """Return what `restore` needs, as a tree of live arrays: to be written before the next event is taken."""
        return {
            "records": self._records.state(),
            "waiting": self._waiting.entries.view(np.int64),
            "pairs": self._pairs.entries.view(np.int64),
        }

    def take_over(self, former: "Join", transfer: Transfer) -> None:
        """Go on from another join, whose records are shared: only one of the two may take events from now on."""
        self._table, self._waiting, self._pairs = former._table, former._waiting, former._pairs
        width, there = self._records.outputs.shape[1], former._records.outputs.shape[1]
        self._records = former._records
        if width != there or not transfer.changes_nothing:
            self._records = former._records.rearranged(transfer, width)
        self.waiting_predictions = former.waiting_predictions.copy()
        self.waiting_labels = former.waiting_labels

    def close(self, place: int) -> int:
        """See to it that no label of a version's pairs is corrected any more, and give up what waits for one.

        Returns how many predictions that were.
        """
        records, used = self._records, slice(0, self._records.used)
        records.close(place)
        waiting = np.flatnonzero((records.states[used] == PREDICTED) & (records.versions[used] == place))
        self.waiting_predictions -= self._by_version(waiting)
        self._release(waiting)
        return len(waiting)

    def hold_versions(self, count: int) -> None:
        """Make room for so many versions at least."""
        missing = max(count - len(self.waiting_predictions), 0)
        self.waiting_predictions = np.pad(self.waiting_predictions, (0, missing))

    def restore(self, state: dict[str, Any], transfer: Transfer) -> None:
        """Take over the records of `state`, into an empty join, whose own its arrays become."""
        records = self._records
        records.restore(state["records"], transfer)
        for start in range(0, records.used, _RESTORED_ROWS):
            rows = start + np.flatnonzero(records.states[start : start + _RESTORED_ROWS])
            self._table.insert(records.keys[rows], rows.astype(np.int32))
        self._waiting.restore(state["waiting"])
        self._pairs.restore(state["pairs"])
        self.waiting_predictions = self._by_version(np.flatnonzero(records.states == PREDICTED))
        self.waiting_labels = int(np.count_nonzero(records.states == LABELLED))

    def predict(
        self,
        keys: Keys,
        times: Floats,
        versions: Ints,
        outputs: Floats,
        labels: Floats,
        origins: Origins = NO_ORIGINS,
        *,
        refilled: bool = False,
    ) -> Predicted:
        """Take predictions in.

        `labels` are NaN where the label is to come, CLOSED where none is expected. A prediction that comes with its
        label is remembered and not among the returned pairs, unless another label was waiting for it.
        What is `refilled` was counted elsewhere: of such, a pair is returned only if its label was not.
        """
        records = self._records
        rows = self._table.find(keys)
        first = np.zeros(len(keys), np.bool_)
        first[first_of_each(keys)] = True
        absent = first & (rows < 0)
        waited = first & (rows >= 0)
        if waited.any():
            waited[waited] = records.states[rows[waited]] == LABELLED

        at = np.flatnonzero(absent)
        new = self._allocate(keys[at], some(origins, at), refilled=refilled)
        paired = ~np.isnan(labels[at])
        self._write_prediction(new, times[at], versions[at], outputs.take(at, axis=0))
        records.labels[new] = np.where(paired, CLOSED, np.nan) if refilled else labels[at]
        records.label_times[new] = times[at]
        records.states[new] = np.where(paired, PAIRED, PREDICTED)
        self._pairs.push(new[paired], records.stamps)
        self._waiting.push(new[~paired], records.stamps)
        self.waiting_predictions += self._by_version(new[~paired])

        met = np.flatnonzero(waited)
        self._write_prediction(rows[met], times[met], versions[met], outputs.take(met, axis=0))
        self.waiting_labels -= len(met)
        pairs = self._pair(rows[met], refilled=refilled)
        return Predicted(absent | waited, met, pairs, self._shrink())

    def label(
        self, keys: Keys, times: Floats, labels: Floats, origins: Origins = NO_ORIGINS, *, refilled: bool = False
    ) -> Labelled:
        """Take labels in that came without their prediction.

        What is `refilled` was counted elsewhere: of such, a pair is returned only if its prediction was not, and no
        correction.
        """
        first = first_of_each(keys)
        came = some(origins, first)
        pairs, duplicates = self._label_once(keys[first], times[first], labels[first], came, refilled=refilled)
        if len(first) < len(keys):
            later = np.ones(len(keys), np.bool_)
            later[first] = False
            corrections, repeated = self._label_again(keys[later], labels[later], refilled=refilled)
            pairs, duplicates = _concatenate([pairs, corrections]), duplicates + repeated
        return Labelled(pairs, duplicates, self._shrink())

    def _label_once(
        self, keys: Keys, times: Floats, labels: Floats, origins: Origins, *, refilled: bool
    ) -> tuple[Pairs, int]:
        """Take labels in whose keys differ from each other."""
        records = self._records
        rows = self._table.find(keys)
        at = np.flatnonzero(rows < 0)
        new = self._allocate(keys[at], some(origins, at), refilled=refilled)
        records.states[new] = LABELLED
        records.labels[new] = labels[at]
        records.label_times[new] = times[at]
        self._waiting.push(new, records.stamps)
        self.waiting_labels += len(new)

        known = np.ones(len(keys), np.bool_)
        known[at] = False
        at = np.flatnonzero(known)
        old = rows[at]
        states, before = records.states[old], records.labels[old]
        waits = states == PREDICTED
        changed = ~waits & (before != labels[at]) & (before != CLOSED)
        records.labels[old[waits | changed]] = labels[at[waits | changed]]
        records.label_times[old[waits]] = times[at[waits]]
        self.waiting_predictions -= self._by_version(old[waits])
        corrected = changed & (states == PAIRED) & (not refilled)
        pairs = [self._pair(old[waits], refilled=refilled), self._read(old[corrected], before[corrected])]
        return _concatenate(pairs), int(np.count_nonzero(~waits & ~changed))

    def _label_again(self, keys: Keys, labels: Floats, *, refilled: bool) -> tuple[Pairs, int]:
        """Take further labels of keys in that have one already: each is held against the one before it.

        All at once, however often a key is there: somebody may send one id as often as a body holds.
        """
        records = self._records
        order = keys.argsort(kind="stable")
        rows, labels = self._table.find(keys[order]), labels[order]
        places = np.arange(len(rows))
        begins = np.ones(len(rows), np.bool_)
        begins[1:] = rows[1:] != rows[:-1]
        before = np.roll(labels, 1)
        before[begins] = records.labels[rows[begins]]
        start = np.maximum.accumulate(np.where(begins, places, 0))
        closed = np.maximum.accumulate(np.where(before == CLOSED, places, -1)) >= start
        changed = ~closed & (before != labels)
        records.labels[rows[changed]] = labels[changed]  # the last one of each row stays
        corrected = changed & (records.states[rows] == PAIRED) & (not refilled)
        pairs = self._read(rows[corrected], before[corrected])._replace(labels=labels[corrected])
        return pairs, int(np.count_nonzero(~changed))

    def knows(self, keys: Keys) -> Flags:
        """Return which keys have a record."""
        return np.asarray(self._table.find(keys) >= 0)

    def known(self, keys: Keys) -> Known:
        """Return the label of each key, which is of no prediction here."""
        rows = self._table.find(keys)
        there = rows >= 0
        found = Known(np.full(len(keys), np.nan), np.full(len(keys), np.nan), np.zeros(len(keys), np.bool_))
        found.labels[there] = self._records.labels[rows[there]]
        found.times[there] = self._records.label_times[rows[there]]
        found.refilled[there] = self._records.refilled[rows[there]]
        return found

    def meet(self, keys: Keys) -> None:
        """Note that labels which waited have found a prediction elsewhere; they are remembered like pairs."""
        rows = np.unique(self._table.find(keys))
        rows = rows[rows >= 0]
        rows = rows[self._records.states[rows] == LABELLED]
        self.waiting_labels -= len(rows)
        self._pair(rows, refilled=False)

    def forget(self, origins: Origins) -> Iterator[None]:
        """Forget step by step all that came from some origins, which somebody else sees to now.

        It is no loss: what waits is not given up.
        """
        records = self._records
        for start in range(0, records.used, _FORGOTTEN_ROWS):
            chunk = slice(start, start + _FORGOTTEN_ROWS)
            theirs = np.isin(records.origins[chunk], origins) & (records.states[chunk] != FREE)
            rows = start + np.flatnonzero(theirs)
            states = records.states[rows]
            self.waiting_predictions -= self._by_version(rows[states == PREDICTED])
            self.waiting_labels -= int(np.count_nonzero(states == LABELLED))
            self._release(rows)
            yield
        self._waiting.keep(self._still_waits)
        self._pairs.keep(self._is_remembered)

    def put_in_order(self) -> None:
        """Let what waits be given up by age, after older things were taken in: to within a 65,536th of all ages."""
        self._waiting.keep(self._still_waits)
        entries = self._waiting.entries
        born = self._born(entries["row"])
        first, last = born.min(initial=math.inf), born.max(initial=-math.inf)
        if first < last:
            coarse = ((born - first) * (65535 / (last - first))).astype(np.uint16)  # such are sorted many times as fast
            entries[:] = entries[np.argsort(coarse, kind="stable")]

    def expire(self, now: float) -> GivenUp:
        """Give up what has waited longer than the time to live."""
        return self._give_up(self._waiting.take_while(lambda entries: self._is_stale(entries, now)))

    def _is_stale(self, entries: Entries, now: float) -> Flags:
        stale: Flags = ~self._still_waits(entries) | (self._born(entries["row"]) + self._time_to_live < now)
        return stale

    def _born(self, rows: Rows) -> Floats:
        """Return the times of what waits."""
        records = self._records
        return np.where(records.states[rows] == LABELLED, records.label_times[rows], records.prediction_times[rows])

    def _is_remembered(self, entries: Entries) -> Flags:
        rows = entries["row"]
        remembered: Flags = (self._records.stamps[rows] == entries["stamp"]) & (self._records.states[rows] == PAIRED)
        return remembered

    def _still_waits(self, entries: Entries) -> Flags:
        states = self._records.states[entries["row"]]
        same = self._records.stamps[entries["row"]] == entries["stamp"]
        waits: Flags = same & ((states == PREDICTED) | (states == LABELLED))
        return waits

    def _shrink(self) -> GivenUp:
        """Forget the oldest pairs and give up the oldest waiting records beyond the limits."""
        forgotten = self._pairs.take(len(self._pairs) - self._remembered)
        self._release(forgotten["row"][self._is_remembered(forgotten)])
        if len(self._waiting) > 2 * self._waiting_now() + 65536:
            self._waiting.keep(self._still_waits)
        given_up = GivenUp(np.zeros(0, np.intp), 0)
        while (excess := self._waiting_now() - self._limit) > 0:
            given_up += self._give_up(self._waiting.take(excess))
        return given_up

    def _waiting_now(self) -> int:
        return int(self.waiting_predictions.sum()) + self.waiting_labels

    def _by_version(self, rows: Rows) -> Ints:
        return np.bincount(self._records.versions[rows], minlength=len(self.waiting_predictions))

    def _give_up(self, entries: Entries) -> GivenUp:
        rows = entries["row"][self._still_waits(entries)]
        predicted = self._records.states[rows] == PREDICTED
        versions = self._records.versions[rows[predicted]].astype(np.intp)
        labels = int(np.count_nonzero(~predicted))
        counted = int(np.count_nonzero(~predicted & ~self._records.refilled[rows]))
        self.waiting_predictions -= self._by_version(rows[predicted])
        self.waiting_labels -= labels
        self._release(rows)
        return GivenUp(versions, counted)

    def _pair(self, rows: Rows, *, refilled: bool) -> Pairs:
        """Mark records as paired, and return those that were not counted elsewhere, as both of their parts were.

        Of these no label is corrected any more: what it would take back was counted elsewhere.
        """
        records = self._records
        records.states[rows] = PAIRED
        self._pairs.push(rows, records.stamps)
        if refilled:
            counted = records.refilled[rows]
            records.labels[rows[counted]] = CLOSED
            rows = rows[~counted]
        return self._read(rows, np.full(len(rows), np.nan))

    def _read(self, rows: Rows, old_labels: Floats) -> Pairs:
        records = self._records
        return Pairs(
            records.versions[rows].astype(np.intp),
            records.prediction_times[rows],
            records.label_times[rows],
            records.outputs.take(rows, axis=0),
            records.labels[rows],
            old_labels,
            records.keys[rows],
        )

    def _write_prediction(self, rows: Rows, times: Floats, versions: Ints, outputs: Floats) -> None:
        self._records.prediction_times[rows] = times
        self._records.versions[rows] = versions
        self._records.outputs[rows] = outputs

    def _allocate(self, keys: Keys, origins: Origins, *, refilled: bool) -> NDArray[np.int32]:
        """Take free rows for new keys, each with a stamp that tells it from the row's earlier tenants."""
        records = self._records
        if records.room < len(keys):
            size = len(records.keys)
            most = max(self._limit + self._remembered, size) + len(keys)
            records.grow(min(max(4 * size, size + len(keys), _FIRST_ROWS), most))
        rows = records.take(len(keys))
        records.keys[rows] = keys
        records.origins[rows] = origins if len(origins) else 0
        records.refilled[rows] = refilled
        records.stamps[rows] += np.uint32(1)
        self._table.insert(keys, rows)
        return rows

    def _release(self, rows: Rows) -> None:
        if len(rows):
            self._table.remove(self._records.keys[rows])
            self._records.states[rows] = FREE
            self._records.release(rows)


class _Queue:
    """Rows in the order in which they came, with their stamps."""

    def __init__(self) -> None:
        self._entries = np.zeros(256, _ENTRY)
        self._head = self._tail = 0

    def __len__(self) -> int:
        return self._tail - self._head

    @property
    def entries(self) -> Entries:
        """All entries, oldest first."""
        return self._entries[self._head : self._tail]

    def restore(self, entries: NDArray[np.int64]) -> None:
        """Take entries over."""
        self._entries = entries.view(_ENTRY)
        self._head, self._tail = 0, len(self._entries)

    def push(self, rows: Rows, stamps: NDArray[np.uint32]) -> None:
        """Append rows."""
        if self._tail + len(rows) > len(self._entries):
            live = self.entries
            self._entries = lengthened(live, max(256, 4 * (len(live) + len(rows))))
            self._head, self._tail = 0, len(live)
        entries = self._entries[self._tail : self._tail + len(rows)]
        entries["row"] = rows
        entries["stamp"] = stamps[rows]
        self._tail += len(rows)

    def take(self, count: int) -> Entries:
        """Remove and return the oldest `count` entries, none when that is negative."""
        taken = self._entries[self._head : self._head + min(max(count, 0), len(self))].copy()
        self._head += len(taken)
        return taken

    def take_while(self, wanted: Predicate) -> Entries:
        """Remove and return the oldest entries up to the first that is not wanted, at most 65,536."""
        entries = self._entries[self._head : min(self._head + 65536, self._tail)]
        unwanted = np.flatnonzero(~wanted(entries))
        return self.take(int(unwanted[0]) if len(unwanted) else len(entries))

    def keep(self, wanted: Predicate) -> None:
        """Drop the entries that are not wanted."""
        self._entries = self.entries[wanted(self.entries)]
        self._head, self._tail = 0, len(self._entries)


def _translated(codes: Floats, table: Floats) -> Floats:
    """Return the new code of each class, NaN for what has none."""
    known = np.isfinite(codes)
    result = np.full(len(codes), np.nan)
    result[known] = table[codes[known].astype(np.intp)]
    return result


def first_of_each(keys: Keys) -> Ints:
    """Return the index of the first occurrence of each key."""
    return np.unique(keys, return_index=True)[1]


def some(origins: Origins, chosen: Flags | Ints) -> Origins:
    """Return some of the origins, none where none are told."""
    return origins[chosen] if len(origins) else origins


def _concatenate(parts: list[Pairs]) -> Pairs:
    return Pairs(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
