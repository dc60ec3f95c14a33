"""Rows of ranked lists: blocks of a table, with columns of what is made of each row's items."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from mlops_exporter.arrays import Floats
from mlops_exporter.profile import listed
from mlops_exporter.profiling.errors import BuildError
from mlops_exporter.profiling.survey import SEED

LENGTH = "list_length"
"""Column of how many items a row shows."""


class RankedRows:
    """Rows whose column `shown` holds lists; `relevant`, `scores` and `categories` are columns, None for none."""

    def __init__(
        self, shown: str, relevant: str | None, scores: str | None, categories: str | None, separator: str | None
    ) -> None:
        self._shown = shown
        self._relevant = relevant
        self._scores = scores
        self._categories = categories
        self._separator = separator

    def extended(self, blocks: Iterable[Any], start: int) -> Iterator[Any]:
        """Yield blocks with the columns of items, the first row of which has the number `start`."""
        for block in blocks:
            yield self.with_items(block, start)
            start += block.num_rows

    def with_items(self, block: Any, start: int) -> Any:
        """Return a block with the columns of items: the same ones are drawn whenever its first row has that number."""
        if self._shown not in block.column_names:
            return block  # whose columns are told to be missing
        shown = self._members(block, self._shown, "--prediction")
        scores = self._members(block, self._scores, "--score", numbers=True)
        categories = self._members(block, self._categories, "--categories")
        for flag, several in (("--score", scores), ("--categories", categories)):
            if several is not None and (wrong := several.given & (several.lengths != shown.lengths)).any():
                raise BuildError(f"{flag}: row {start + int(wrong.argmax()) + 1} has not as many as items")
        made = listed.of_items(shown, scores, categories, (SEED, start))
        made[LENGTH] = pa.array(np.where(shown.given, shown.lengths, np.nan), from_pandas=True)
        for name, column in made.items():
            if name in block.column_names:
                block = block.drop_columns([name])
            block = block.append_column(name, pa.chunked_array([column]))
        return block

    def lists(self, block: Any, length: int) -> Floats:
        """Return the lists of a block as a table, with NaN for the length where nothing is known to be relevant."""
        shown = self._members(block, self._shown, "--prediction")
        relevant = self._members(block, self._relevant, "--label")
        if relevant is None:
            return np.full((block.num_rows, 1 + 3 * length), np.nan)
        relevant = listed.known(relevant)
        if not ((relevant.gains >= 0) & np.isfinite(relevant.gains)).all():
            raise BuildError("--label: a gain is a number of 0 or more")
        found = listed.table(shown, relevant, length)
        found[~relevant.given, 0] = np.nan
        return found

    def _members(self, block: Any, name: str | None, flag: str, *, numbers: bool = False) -> Any:
        if name is None or name not in block.column_names:
            return None
        column = block[name].combine_chunks()
        column = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
        try:
            if numbers:
                return listed.as_numbers(column, self._separator)
            return listed.members(column, self._separator)
        except TypeError as error:
            raise BuildError(f"{flag}: {name}: {error}") from error
