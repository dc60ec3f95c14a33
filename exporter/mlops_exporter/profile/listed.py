"""Columns of Arrow that hold ranked lists, as the numbers of `lists` and as columns of what is made of items."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlops_exporter.arrays import Flags, Floats, Ints
from mlops_exporter.profile import lists
from mlops_exporter.profile.arrays import distinct, floats, is_category, is_number, is_text, plain, valid
from mlops_exporter.profile.lists import Lists


class Members(NamedTuple):
    """The members of the lists of a column one after the other, how many each has, and which cells hold one."""

    values: Any
    gains: Floats
    lengths: Ints
    given: Flags

    def numbers(self) -> Floats:
        """Return the number of each member's id, 0 for a missing one."""
        values, which = distinct(self.values)
        return np.append(lists.numbers_of(values), 0.0)[which]


def members(column: Any, separator: str | None = None) -> Members:
    """Return the members of lists, of maps to gains, of texts with a separator, or of single values.

    Raises TypeError where members are no ids.
    """
    column = plain(column)
    if separator is not None and is_text(column.type):
        blank = pc.equal(pc.utf8_trim_whitespace(column), separator)
        parts = pc.split_pattern(column, separator)
        column = pc.if_else(blank.fill_null(False), pa.array([[]], parts.type)[0], parts)
    given = valid(column)
    gains = None
    if pa.types.is_map(column.type):
        present = column.filter(pa.array(given))
        offsets = np.diff(np.asarray(present.offsets))
        lengths = np.zeros(len(column), np.intp)
        lengths[given] = offsets
        entries = slice(present.offsets[0].as_py(), present.offsets[-1].as_py()) if len(present) else slice(0, 0)
        values = present.keys[entries]
        gains = floats(present.items[entries])
    elif (
        pa.types.is_list(column.type) or pa.types.is_large_list(column.type) or pa.types.is_fixed_size_list(column.type)
    ):
        lengths = pc.list_value_length(column).fill_null(0).to_numpy(zero_copy_only=False).astype(np.intp)
        values = column.flatten()
    else:
        lengths = given.astype(np.intp)
        values = column.drop_null()
    if len(values) and not is_category(values.type):
        raise TypeError(f"a list of ids, and not of {values.type}")
    return Members(values, np.ones(len(values)) if gains is None else gains, lengths, given)


def known(relevant: Members) -> Members:
    """Return what is relevant but for items that are missing, or whose gain is; a list of none but such is missing."""
    there = valid(relevant.values) & ~np.isnan(relevant.gains)
    rows = np.repeat(np.arange(len(relevant.lengths)), relevant.lengths)
    lengths = np.bincount(rows[there], minlength=len(relevant.lengths))
    given = relevant.given & ((relevant.lengths == 0) | (lengths > 0))
    return Members(relevant.values.filter(pa.array(there)), relevant.gains[there], lengths, given)


def table(shown: Members, relevant: Members, length: int) -> Floats:
    """Return lists as a table."""
    items = lists.rectangle(shown.numbers(), shown.lengths, length)
    named = lists.relevant(relevant.numbers(), relevant.gains, relevant.lengths, items)
    return Lists(np.where(shown.given, shown.lengths, np.nan), items, *named).table()


def of_items(shown: Members, scores: Members | None, categories: Members | None, seed: Sequence[int]) -> dict[str, Any]:
    """Return the columns of what is made of items, null where there is none; lists are as long as those shown."""
    chosen = lists.drawn(shown.lengths, seed)
    found: dict[str, Any] = {}
    for name, several, places in (
        (lists.CATEGORY, categories, chosen),
        (lists.SCORE, scores, chosen),
        (lists.TOP_SCORE, scores, np.zeros_like(chosen)),
    ):
        if several is not None:
            known = (several.lengths > 0) & (several.lengths == shown.lengths)
            at = np.where(known, np.cumsum(several.lengths) - several.lengths + places, 0)
            picked = pa.array(at, mask=~known)
            if not len(several.values):
                found[name] = pa.nulls(len(known), several.values.type)
            else:
                found[name] = several.values.take(picked)
    return found


def as_numbers(column: Any, separator: str | None = None) -> Any:
    """Return the members of lists of numbers, also out of texts. Raises TypeError for what is none."""
    found = members(column, separator)
    if not (is_number(found.values.type) or pa.types.is_null(found.values.type)):
        try:
            return found._replace(values=pc.cast(pc.utf8_trim_whitespace(found.values), pa.float64()))
        except pa.ArrowException as error:
            raise TypeError(str(error).splitlines()[0]) from error
    return found
