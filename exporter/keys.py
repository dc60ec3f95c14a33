"""A hash table from 64-bit keys to row numbers that works on whole batches, in 12 bytes a slot.

Every key may lie in either of two buckets of eight slots (Azar, Broder, Karlin and Upfal 1999, SIAM J. Comput.
29(1): the less full of two choices keeps buckets even). So a look-up reads two cache lines and never probes on, a
removal leaves no mark behind, and both vectorise. A Python dict would take 130 to 220 bytes an entry.
"""

from collections.abc import Sequence
from itertools import repeat
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

Keys = NDArray[np.uint64]
RowNumbers = NDArray[np.int32]
Indexes = NDArray[np.intp]
Marks = NDArray[np.uint64]

SLOTS = 8
_FULLEST = 0.7  # beyond this load the table grows; two full buckets for one key are then very rare
_hash = xxhash.xxh3_64_intdigest
_SHIFT = np.uint64(32)


def hash_ids(ids: Sequence[str | int | None], seed: int) -> Keys:
    """Return a key for each id, 0 for None; a number's is that of its text.

    Two of ten million ids share a key with a probability of about 3 in a million.
    """
    texts: Any = ids
    try:
        keys = np.fromiter(map(_hash, map(str.encode, texts), repeat(seed)), np.uint64, len(ids))
    except TypeError:  # not all are texts
        hashed = (0 if each is None else _hash(str(each).encode(), seed) or 1 for each in ids)
        return np.fromiter(hashed, np.uint64, len(ids))
    keys[keys == 0] = 1
    return keys


class KeyTable:
    """Row numbers by key. Keys are never 0."""

    def __init__(self) -> None:
        self._live = 0
        buckets = 64
        self._mask = np.uint64(buckets - 1)
        self._keys = np.zeros((buckets, SLOTS), np.uint64)
        self._rows = np.zeros((buckets, SLOTS), np.int32)

    def __len__(self) -> int:
        return self._live

    def find(self, keys: Keys) -> RowNumbers:
        """Return the row of each key, -1 where it is not in the table."""
        slots = self._slots(keys)
        rows = self._rows.reshape(-1)[slots]
        rows[slots < 0] = -1
        return rows

    def insert(self, keys: Keys, rows: RowNumbers) -> None:
        """Add keys that are not in the table and differ from each other."""
        self._live += len(keys)
        while self._live > _FULLEST * self._keys.size:
            self._double()
        self._place(keys, rows)

    def remove(self, keys: Keys) -> None:
        """Take out keys that are in the table and differ from each other."""
        self._keys.reshape(-1)[self._slots(keys)] = 0
        self._live -= len(keys)

    def _slots(self, keys: Keys) -> Indexes:
        """Return the flat slot of each key, -1 where it is not in the table."""
        slots = np.full(len(keys), -1)
        for buckets in self._buckets(keys):
            hits = _marks(self._keys.take(buckets, axis=0) == keys[:, None])
            found = np.flatnonzero(hits)
            slots[found] = buckets[found] * SLOTS + _lowest(hits[found])
        return slots

    def _buckets(self, keys: Keys) -> tuple[Indexes, Indexes]:
        """Return the two buckets in which each key may lie."""
        return (keys & self._mask).astype(np.intp), (keys >> _SHIFT & self._mask).astype(np.intp)

    def _place(self, keys: Keys, rows: RowNumbers) -> None:
        """Put keys into free slots; those that meet in one slot try again."""
        while len(keys):
            first, second = self._buckets(keys)
            free_first, free_second = (_marks(self._keys.take(each, axis=0) == 0) for each in (first, second))
            use_second = np.bitwise_count(free_second) > np.bitwise_count(free_first)
            free = np.where(use_second, free_second, free_first)
            if not free.all():
                self._double()
                continue
            slots = np.where(use_second, second, first) * SLOTS + _lowest(free)
            flat = self._keys.reshape(-1)
            flat[slots] = keys
            placed = flat[slots] == keys
            self._rows.reshape(-1)[slots[placed]] = rows[placed]
            keys, rows = keys[~placed], rows[~placed]

    def _double(self) -> None:
        """Double the buckets: each key stays in its slot, of its old bucket or of the one that splits off from it."""
        old = len(self._keys)
        split = np.uint64(old)
        bucket = np.arange(old, dtype=np.uint64)[:, None]
        chosen = np.where(self._keys & self._mask == bucket, self._keys, self._keys >> _SHIFT)
        moves = chosen & split != 0
        keys, rows = self._keys, self._rows
        self._keys, self._rows = np.empty((2 * old, SLOTS), np.uint64), np.empty((2 * old, SLOTS), np.int32)
        np.multiply(keys, ~moves, out=self._keys[:old])
        np.multiply(keys, moves, out=self._keys[old:])
        self._rows[:old] = self._rows[old:] = rows
        self._mask = np.uint64(2 * old - 1)


def _marks(flags: NDArray[np.bool_]) -> Marks:
    """Return eight flags a row, (n, 8), as one number each: whole-array arithmetic is much faster than along rows."""
    marks: Marks = flags.view("<u8")[:, 0]
    return marks


def _lowest(marks: Marks) -> NDArray[np.uint8]:
    """Return the place of the first flag of each row, all of which have one."""
    below = (marks & -marks) - np.uint64(1)
    places: NDArray[np.uint8] = np.bitwise_count(below) >> np.uint8(3)
    return places
