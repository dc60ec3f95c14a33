"""A hash table from 64-bit keys to row numbers that works on whole batches, in 12 bytes a slot.

Every key may lie in either of two buckets of eight slots (Azar, Broder, Karlin and Upfal 1999, SIAM J. Comput.
29(1): the less full of two choices keeps buckets even). So a look-up reads two cache lines and never probes on, a
removal leaves no mark behind, and both vectorise. A Python dict would take 130 to 220 bytes an entry.

The table grows by a few buckets at a time, each split off from one of the buckets of half the number (linear hashing:
Litwin 1980, VLDB 6), so that no batch has to wait for all of it to be made anew.
"""

import math
from collections.abc import Sequence
from itertools import repeat
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from mlops_exporter.arrays import Flags, Ints
from mlops_exporter.profile.values import canonical

Keys = NDArray[np.uint64]
RowNumbers = NDArray[np.int32]
Indexes = Ints
Marks = NDArray[np.uint64]

SLOTS = 8
_FULLEST = 0.7  # beyond this load the table grows; two full buckets for one key are then very rare
_FIRST_BUCKETS = 1 << 18  # memory that is never touched costs nothing, and lengthening the arrays takes a while
_RESERVE = 4  # by which they are lengthened
_hash = xxhash.xxh3_64_intdigest
_SHIFT = np.uint64(32)


def hash_ids(ids: Sequence[str | int | float | None], seed: int) -> Keys:
    """Return a key for each id, 0 for None; ids that are written differently and mean the same share theirs.

    Two of ten million ids share a key with a probability of about 3 in a million.
    """
    texts: Any = ids
    try:
        if ".0" in "\n".join(texts):
            texts = list(map(canonical, texts))
        keys = np.fromiter(map(_hash, map(str.encode, texts), repeat(seed)), np.uint64, len(ids))
    except TypeError:  # not all are texts
        names = (each if type(each) is int else canonical(each) for each in ids)
        hashed = (0 if name is None else _hash(str(name).encode(), seed) or 1 for name in names)
        return np.fromiter(hashed, np.uint64, len(ids))
    keys[keys == 0] = 1
    return keys


def combined(keys: Keys, others: Keys) -> Keys:
    """Return a key for each pair of keys, never 0: the finaliser of SplitMix64 (Steele et al. 2014, OOPSLA)."""
    with np.errstate(over="ignore"):
        mixed = keys ^ (others * np.uint64(0x9E3779B97F4A7C15))
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    found: Keys = np.maximum(mixed ^ (mixed >> np.uint64(31)), np.uint64(1))
    return found


class KeyTable:
    """Row numbers by key. Keys are never 0."""

    def __init__(self) -> None:
        self._live = 0
        self._buckets = 64
        """How many are in use."""
        self._keys = np.zeros((_FIRST_BUCKETS, SLOTS), np.uint64)
        self._rows = np.zeros((_FIRST_BUCKETS, SLOTS), np.int32)

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
        self._grow(math.ceil(self._live / (_FULLEST * SLOTS)))
        self._place(keys, rows)

    def remove(self, keys: Keys) -> None:
        """Take out keys that are in the table and differ from each other."""
        self._keys.reshape(-1)[self._slots(keys)] = 0
        self._live -= len(keys)

    def _slots(self, keys: Keys) -> Indexes:
        """Return the flat slot of each key, -1 where it is not in the table."""
        slots = np.full(len(keys), -1)
        for buckets in self._choices(keys):
            hits = _marks(self._keys.take(buckets, axis=0) == keys[:, None])
            found = np.flatnonzero(hits)
            slots[found] = buckets[found] * SLOTS + _lowest(hits[found])
        return slots

    def _choices(self, keys: Keys) -> tuple[Indexes, Indexes]:
        """Return the two buckets in which each key may lie."""
        return self._bucket(keys), self._bucket(keys >> _SHIFT)

    def _bucket(self, hashes: Keys) -> Indexes:
        """Return the bucket of each hash: by one bit more, if the bucket that this means is split off already."""
        half = 1 << (self._buckets - 1).bit_length() - 1
        buckets = (hashes & np.uint64(2 * half - 1)).astype(np.intp)
        buckets -= half * (buckets >= self._buckets)
        return buckets

    def _place(self, keys: Keys, rows: RowNumbers) -> None:
        """Put keys into free slots; those that meet in one slot try again."""
        while len(keys):
            first, second = self._choices(keys)
            free_first, free_second = (_marks(self._keys.take(each, axis=0) == 0) for each in (first, second))
            use_second = np.bitwise_count(free_second) > np.bitwise_count(free_first)
            free = np.where(use_second, free_second, free_first)
            if not free.all():
                self._grow(self._buckets + self._buckets // 8)
                continue
            slots = np.where(use_second, second, first) * SLOTS + _lowest(free)
            flat = self._keys.reshape(-1)
            flat[slots] = keys
            placed = flat[slots] == keys
            self._rows.reshape(-1)[slots[placed]] = rows[placed]
            keys, rows = keys[~placed], rows[~placed]

    def _grow(self, buckets: int) -> None:
        """Split off buckets until there are so many: each key stays in its slot, of its bucket or of the new one."""
        if buckets > len(self._keys):
            self._keys, self._rows = (lengthened(array, _RESERVE * buckets) for array in (self._keys, self._rows))
        while self._buckets < buckets:
            half = 1 << self._buckets.bit_length() - 1
            stop = min(buckets, 2 * half)
            here, there = slice(self._buckets - half, stop - half), slice(self._buckets, stop)
            keys = self._keys[here]
            bucket = np.arange(here.start, here.stop, dtype=np.uint64)[:, None]
            chosen = np.where(keys & np.uint64(half - 1) == bucket, keys, keys >> _SHIFT)
            moves = chosen & np.uint64(half) != 0
            np.multiply(keys, moves, out=self._keys[there])
            np.multiply(keys, ~moves, out=keys)
            self._rows[there] = self._rows[here]
            self._buckets = stop


def lengthened(array: NDArray[Any], length: int) -> NDArray[Any]:
    """Return an array of `length` rows that begins like `array`; the memory of the others is not touched."""
    longer = np.zeros((length, *array.shape[1:]), array.dtype)
    longer[: len(array)] = array
    return longer


def _marks(flags: Flags) -> Marks:
    """Return eight flags a row, (n, 8), as one number each: whole-array arithmetic is much faster than along rows."""
    marks: Marks = flags.view("<u8")[:, 0]
    return marks


def _lowest(marks: Marks) -> NDArray[np.uint8]:
    """Return the place of the first flag of each row, all of which have one."""
    below = (marks & -marks) - np.uint64(1)
    places: NDArray[np.uint8] = np.bitwise_count(below) >> np.uint8(3)
    return places
