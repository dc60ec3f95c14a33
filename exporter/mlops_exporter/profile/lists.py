"""Ranked lists as rows of numbers: which items were shown, and which of them turned out to be relevant.

An item is a number of 52 bits made of its id, which a double holds exactly; two of a list's items share one with a
probability of less than 1 in 10^13. A list keeps as many items as its reference says, the first ones.
"""

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import NamedTuple

import msgspec
import numpy as np
import xxhash

from mlops_exporter.arrays import Floats, Ints
from mlops_exporter.profile.values import canonical

LONGEST = 100
"""Items of a list that can be kept."""

LARGEST_GAIN = 1e6

CATEGORY, SCORE, TOP_SCORE = "item_category", "item_score", "top_score"
"""Features that are made of the lists: the category and the score of one item, drawn at random; the first one's score.

One item of each list, so that events are as independent of each other as lists are.
"""

OF_ITEMS = (CATEGORY, SCORE, TOP_SCORE)


class RankingReference(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """How many items of a list are kept, and the positions up to which metrics look."""

    length: int
    cutoffs: list[int]

    def validate(self) -> None:
        """Raise ValueError where no list is like that."""
        if not 1 <= self.length <= LONGEST:
            raise ValueError(f"ranking: a length is from 1 to {LONGEST}, not {self.length}")
        if not self.cutoffs or self.cutoffs != sorted({k for k in self.cutoffs if 1 <= k <= self.length}):
            raise ValueError(f"ranking: cutoffs ascend from 1 to the length of {self.length}")


class Lists(NamedTuple):
    """Lists of n events: how long they are, (n,), NaN where none was shown; the items shown, (n, L), 0 for none.

    `relevant` items have `gains`, (n, L) each.
    """

    lengths: Floats
    shown: Floats
    relevant: Floats
    gains: Floats

    @classmethod
    def of(cls, table: Floats) -> "Lists":
        """Read a table of lists, (n, 1 + 3 L)."""
        return cls(table[:, 0], *np.split(table[:, 1:], 3, axis=1))

    def resized(self, length: int) -> "Lists":
        """Return the same lists, keeping `length` items of each."""
        here = self.shown.shape[1]
        if here == length:
            return self
        kept, missing = min(here, length), max(length - here, 0)
        parts = (np.pad(part[:, :kept], ((0, 0), (0, missing))) for part in self[1:])
        return Lists(self.lengths, *parts)

    def table(self) -> Floats:
        """Return one row per event, as `of` takes them back."""
        return np.column_stack(self)


def width(length: int) -> int:
    """Return the columns of a table of lists that are so long."""
    return 1 + 3 * length


def numbers_of(items: Sequence[object]) -> Floats:
    """Return the number of each id, 0 for a missing one. Raises TypeError for what is no id."""
    names = [each if type(each) is str and ".0" not in each else canonical(each) for each in items]
    hashes = (0 if name is None else (xxhash.xxh3_64_intdigest(name.encode()) >> 12) + 1 for name in names)
    return np.fromiter(hashes, np.float64, len(names))


def rectangle(values: Floats, lengths: Ints, length: int) -> Floats:
    """Return values of lists that follow each other, `lengths` of them, as (n, length): the first ones, else 0."""
    found = np.zeros((len(lengths), length))
    rows = np.repeat(np.arange(len(lengths)), lengths)
    places = np.arange(len(values)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    kept = places < length
    found[rows[kept], places[kept]] = values[kept]
    return found


def relevant(numbers: Floats, gains: Floats, lengths: Ints, shown: Floats) -> tuple[Floats, Floats]:
    """Return what is relevant of lists and its gains, (n, L) each, out of items that follow each other.

    An item that is named twice is there once, with the higher gain. Of more than L items those are kept that were
    `shown`, (n, L), then those with the highest gains.
    """
    length = shown.shape[1]
    rows = np.repeat(np.arange(len(lengths)), lengths)
    order = np.lexsort((gains, numbers, rows))
    rows, numbers, gains = rows[order], numbers[order], gains[order]
    last = np.ones(len(rows), np.bool_)
    last[:-1] = (rows[1:] != rows[:-1]) | (numbers[1:] != numbers[:-1])
    rows, numbers, gains = rows[last], numbers[last], gains[last]
    lengths = np.bincount(rows, minlength=len(lengths))
    missed = np.zeros(len(rows), np.bool_)
    if (lengths > length).any():
        several = lengths[rows] > length
        pairs = rows[several] + 1j * numbers[several]  # a row and an item in one number, exactly
        missed[several] = ~np.isin(pairs, np.arange(len(shown))[:, np.newaxis] + 1j * shown)
    order = np.lexsort((numbers, -gains, missed, rows))
    return rectangle(numbers[order], lengths, length), rectangle(gains[order], lengths, length)


def flat(several: Iterable[Sequence[object] | None]) -> tuple[list[object], Ints]:
    """Return the members of lists one after the other, and how many each has; None has none."""
    lists = [each or () for each in several]
    return list(chain.from_iterable(lists)), np.fromiter(map(len, lists), np.intp, len(lists))


def drawn(lengths: Ints, seed: Sequence[int]) -> Ints:
    """Return a place in each list, the same for the same seed; of a list without items 0."""
    chosen = np.random.default_rng(seed).random(len(lengths)) * lengths
    return np.asarray(chosen.astype(np.intp))


def resized(table: Floats, length: int) -> Floats:
    """Return a table of lists that keep `length` items each."""
    return Lists.of(table).resized(length).table()
