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
        while len(keys):
            first = first_of_each(keys)
            came = some(origins, first)
            once = self._hear_once(keys[first], times[first], lists[first], came, refilled=refilled)
            heard = Heard(*map(sum, zip(heard, once, strict=True)))
            later = np.ones(len(keys), np.bool_)
            later[first] = False
            keys, times, lists, origins = keys[later], times[later], lists[later], some(origins, later)
        return heard

    def _hear_once(self, keys: Keys, times: Floats, lists: Floats, origins: Origins, *, refilled: bool) -> Heard:
        """Take in feedback whose keys differ from each other."""
        records, length = self._records, self.length
        rows = self._table.find(keys)
        new = rows < 0
        rows[new] = self._allocate(keys[new], some(origins, new), refilled=refilled)
        records.outputs[rows[new]] = 0.0
        records.states[rows[new]] = LABELLED
        records.label_times[rows[new]] = times[new]
        self._waiting.push(rows[new], records.stamps)
        self.waiting_labels += int(np.count_nonzero(new))
        in_time = (records.states[rows] == LABELLED) | (times <= records.prediction_times[rows] + self._time_to_live)
        rows, lists = rows[in_time], lists[in_time]
        before = records.outputs[rows]
        relevant, gains = ranking.merged(
            before[:, -2 * length : -length], before[:, -length:], lists[:, -2 * length : -length], lists[:, -length:]
        )
        after = before.copy()
        after[:, _HEARD] = 1.0
        after[:, -2 * length :] = np.concatenate([relevant, gains], axis=1)
        records.outputs[rows] = after
        same = (after == before).all(axis=1)
        return Heard(int(np.count_nonzero(same)), int(np.count_nonzero(~in_time)))

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
