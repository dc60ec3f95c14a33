"""What one event can add to each cell of a ledger: by it sums from elsewhere are told from what no events add up to."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mlops_exporter.arrays import Flags, Floats


class Bounds(NamedTuple):
    """The least and the most that one event adds to each of some cells, (cells,), and which of them are counts."""

    least: Floats
    most: Floats
    whole: Flags


def counts(cells: int) -> Bounds:
    """Return the bounds of cells to each of which an event adds 1 or nothing."""
    return Bounds(np.zeros(cells), np.ones(cells), np.ones(cells, np.bool_))


def sums(cells: int, most: float) -> Bounds:
    """Return the bounds of cells to each of which an event adds a number from 0 to `most`."""
    return Bounds(np.zeros(cells), np.full(cells, most), np.zeros(cells, np.bool_))


def signed(cells: int, most: float) -> Bounds:
    """Return the bounds of cells to each of which an event adds a number from -`most` to `most`."""
    return Bounds(np.full(cells, -most), np.full(cells, most), np.zeros(cells, np.bool_))


def joined(parts: Sequence[Bounds]) -> Bounds:
    """Return the bounds of cells that follow each other."""
    return Bounds(*(np.concatenate(column) for column in zip(*parts, strict=True)))
