"""Lists that were shown, until it is known what of them was relevant: kept by id, each final at one age.

Feedback on a list comes in parts, one click after the other, and most lists get none, which says something too. So no
part decides anything: a list is final `label_ttl` after it was shown, and is counted then, once, with all that was
named by that time. What was counted never has to be taken back, which counters could not do.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from mlops_exporter.arrays import Floats, Ints
from mlops_exporter.counting.join import LABELLED, PREDICTED, GivenUp, Join, Pairs, Transfer, first_of_each, some
from mlops_exporter.counting.keys import Keys
from mlops_exporter.events.columns import NO_ORIGINS, Origins
from mlops_exporter.profile.lists import resized, width
from mlops_exporter.statistics import ranking

_COLUMNS = 7
"""So many columns take as much memory as a waiting prediction does: of longer lists, fewer may wait."""

_HEARD_AT_ONCE = 4096
"""Parts of feedback that are taken in together: a few megabytes."""

_HEARD = 0  # the column that tells whether anything was named, even nothing; the lists follow


class Heard(NamedTuple):
    """What became of feedback: how much said nothing new, and how much was too late or was of no list."""

    duplicates: int
    unmatched: int


class Shown(Join):
    """The waiting lists of one model, of up to `length` items; feedback that comes before its list waits as long."""

    def __init__(self, length: int, versions: int, time_to_live: float, limit: int) -> None:
        share = max(width(length) // _COLUMNS, 1)
        super().__init__(1 + width(length), versions, time_to_live, max(limit // share, 1), 0)
        self.length = length

    def show(
        self,
        keys: Keys,
        times: Floats,
        versions: Ints,
        lists: Floats,
        origins: Origins = NO_ORIGINS,
        *,
        refilled: bool = False,
    ) -> None:
        """Take in lists, each once; one that is there already stays as it is. `refilled` ones were told elsewhere."""
        first = first_of_each(keys)
        keys, times, versions, lists = keys[first], times[first], versions[first], lists[first]
        records = self._records
        rows = self._table.find(keys)
        new = rows < 0
        rows[new] = self._allocate(keys[new], some(origins, first[new]), refilled=refilled)
        known = 1 + width(self.length) - 2 * self.length  # up to here a row tells what was shown
        heard = records.outputs[rows]
        heard[new] = 0.0
        heard[:, 1:known] = lists[:, : known - 1]
        waited = ~new & (records.states[rows] == LABELLED)
        self.waiting_labels -= int(np.count_nonzero(waited))
        fresh = new | waited
        self._write_prediction(rows[fresh], times[fresh], versions[fresh], heard[fresh])
        records.states[rows[fresh]] = PREDICTED
        self._waiting.push(rows[new], records.stamps)
        self.waiting_predictions += self._by_version(rows[fresh])

    def hear(
        self, keys: Keys, times: Floats, lists: Floats, origins: Origins = NO_ORIGINS, *, refilled: bool = False
    ) -> Heard:
        """Take in what was relevant of lists, as far as these are not final."""
        heard = Heard(0, 0)
        for start in range(0, len(keys), _HEARD_AT_ONCE):
            part = slice(start, start + _HEARD_AT_ONCE)
            came = origins[part] if len(origins) else origins
            some_heard = self._hear_some(keys[part], times[part], lists[part], came, refilled=refilled)
            heard = Heard(*map(sum, zip(heard, some_heard, strict=True)))
        return heard

    def _hear_some(self, keys: Keys, times: Floats, lists: Floats, origins: Origins, *, refilled: bool) -> Heard:
        """Take in feedback, all parts of a list at once, however many there are."""
        records, width = self._records, 2 * self.length
        unknown = np.flatnonzero(self._table.find(keys) < 0)
        at = unknown[first_of_each(keys[unknown])]
        new = self._allocate(keys[at], some(origins, at), refilled=refilled)
        records.outputs[new] = 0.0
        records.states[new] = LABELLED
        records.label_times[new] = times[at]
        self._waiting.push(new, records.stamps)
        self.waiting_labels += len(new)
        rows = self._table.find(keys)
        in_time = (records.states[rows] == LABELLED) | (times <= records.prediction_times[rows] + self._time_to_live)
        late = int(np.count_nonzero(~in_time))
        rows, lists = rows[in_time], lists[in_time]
        own = np.unique(rows)
        if not len(own):
            return Heard(0, late)
        # Of each list what is known already, then the parts in the order in which they came.
        owners = np.concatenate([own, rows])
        order = owners.argsort(kind="stable")
        owners = owners[order]
        known = np.concatenate([records.outputs[own, -width:], lists[:, -width:]])[order]
        begins = order < len(own)
        first = np.flatnonzero(begins)
        shown = records.outputs[own, 2:-width][np.cumsum(begins) - 1]
        relevant, gains = np.split(known, 2, axis=1)
        told = np.concatenate(ranking.gathered(owners, relevant, gains, shown), axis=1)
        same = np.zeros(len(owners), np.bool_)
        same[1:] = (told[1:] == told[:-1]).all(axis=1)
        same[first] = False
        same[first + 1] &= records.outputs[own, _HEARD] != 0
        records.outputs[own, _HEARD] = 1.0
        records.outputs[own, -width:] = told[np.append(first[1:], len(owners)) - 1]
        return Heard(int(np.count_nonzero(same)), late)

    def finish(self, now: float) -> Iterator[tuple[Pairs, int]]:
        """Yield lists that are final, many thousands at a time, and how much feedback found no list in time.

        The label of a list that was answered is 1, of any other 0.
        """
        records = self._records
        while len(entries := self._waiting.take_while(lambda several: self._is_stale(several, now))):
            rows = entries["row"][self._still_waits(entries)]
            final = rows[records.states[rows] == PREDICTED]
            alone = rows[records.states[rows] == LABELLED]
            outputs, times = records.outputs[final], records.prediction_times[final]
            pairs = Pairs(
                records.versions[final].astype(np.intp),
                times,
                times + self._time_to_live,
                outputs[:, 1:],
                outputs[:, _HEARD],
                np.full(len(final), np.nan),
                records.keys[final],
            )
            unmatched = int(np.count_nonzero(~records.refilled[alone]))
            self.waiting_predictions -= self._by_version(final)
            self.waiting_labels -= len(alone)
            self._release(rows)
            yield pairs, unmatched

    def shrink(self) -> GivenUp:
        """Give up the oldest beyond the limit."""
        return self._shrink()

    def restore(self, state: dict[str, Any], transfer: Transfer) -> None:
        """Take over the lists of `state`, whatever their length was."""
        records = dict(state["records"])
        if len(records["keys"]):
            stored = records["outputs"]
            records["outputs"] = np.column_stack([stored[:, :1], resized(stored[:, 1:], self.length)])
        else:
            records["outputs"] = np.zeros((0, 1 + width(self.length)))
        super().restore({**state, "records": records}, Transfer({}))

    def take_over(self, former: Join, transfer: Transfer) -> None:
        """Go on from another one, whose lists may have another length."""
        assert isinstance(former, Shown)
        if former.length == self.length:
            super().take_over(former, Transfer({}))
        else:
            self.restore(former.state(), transfer)
