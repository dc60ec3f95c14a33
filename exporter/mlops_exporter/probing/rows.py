"""The labelled rows of a probe, from a table: features as an endpoint takes them, labels, and pinned outputs."""

import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np

from mlops_exporter.arrays import Floats
from mlops_exporter.counting.ledger import Outputs
from mlops_exporter.profile.bins import NumericVariable
from mlops_exporter.profile.profile import Profile
from mlops_exporter.profile.values import as_number, canonical, probabilities, text_as_number
from mlops_exporter.settings.probes import PinnedSettings, ProbeSettings

_WHOLE = re.compile(r"\s*[+-]?[0-9]+\s*")

Block = Mapping[str, Sequence[Any]]

LARGEST_SET = 100_000
"""Rows of a golden set: a probe asks often, and needs few."""


class RowsError(Exception):
    """A table that does not serve a probe; the message says what would be right."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows to be sent. `features` are columns of JSON values, `labels` class codes or numbers, NaN where unknown.

    `pinned` is what a right model says of them, None where the table does not tell.
    """

    features: dict[str, list[Any]]
    labels: Floats
    pinned: Outputs | None

    def __len__(self) -> int:
        return len(self.labels)

    def same_as(self, other: "Rows") -> bool:
        """Tell whether all values are those of `other`."""
        return (
            self.features == other.features
            and np.array_equal(self.labels, other.labels, equal_nan=True)
            and _all_same(self.pinned, other.pinned)
        )

    def batches(self, size: int) -> Iterator[slice]:
        """Yield where each batch of at most `size` rows lies."""
        for start in range(0, len(self), size):
            yield slice(start, min(start + size, len(self)))

    def batch(self, where: slice) -> dict[str, list[Any]]:
        """Return the features of a batch."""
        return {name: values[where] for name, values in self.features.items()}


def gather(blocks: Iterable[Block], typed: bool, settings: ProbeSettings, profile: Profile, random: Random) -> Rows:
    """Make the rows of a probe from the blocks of a table: all, or a random `sample` of them.

    `typed` tells whether cells have types, as in Parquet; those of CSV are texts. Raises RowsError.
    """
    pinned = settings.pinned
    columns = list(dict.fromkeys([*profile.features, settings.label, *(_pinned_columns(pinned) if pinned else ())]))
    cells = _cells(blocks, columns, settings, random)
    if not cells[settings.label]:
        raise RowsError(f"{settings.place}: no rows")
    features = {name: _feature(cells[name], typed, profile, name) for name in profile.features}
    labels = outcomes(cells[settings.label], profile, settings.label, typed=typed)
    if np.isnan(labels).all():
        raise RowsError(f"{settings.place}: column {settings.label} has no label")
    return Rows(features, labels, _pinned(cells, typed, pinned, profile) if pinned else None)


def _cells(
    blocks: Iterable[Block], columns: list[str], settings: ProbeSettings, random: Random
) -> dict[str, list[Any]]:
    """Return the cells of the columns; of a sample, rows chosen with equal chances while the table passes by."""
    kept: dict[str, list[Any]] = {name: [] for name in columns}
    seen = 0
    for block in blocks:
        if missing := [name for name in columns if name not in block]:
            raise RowsError(
                f"{settings.place}: no column {', '.join(missing)}; there are {', '.join(block)}; a probe needs the "
                "features of the profile, the label and the pinned outputs"
            )
        for row in range(len(block[settings.label])):
            place = seen
            seen += 1
            if settings.sample is not None and place >= settings.sample:
                place = random.randrange(seen)  # nosec B311: reservoir sampling (Vitter 1985, algorithm R)
                if place >= settings.sample:
                    continue
                for name, cells in kept.items():
                    cells[place] = block[name][row]
                continue
            for name, cells in kept.items():
                cells.append(block[name][row])
        if settings.sample is None and seen > LARGEST_SET:
            raise RowsError(f"{settings.place}: more than {LARGEST_SET} rows; take a `sample`, or pin fewer")
    return kept


def _all_same(one: Outputs | None, other: Outputs | None) -> bool:
    if one is None or other is None:
        return one is other
    return all(np.array_equal(a, b, equal_nan=True) for a, b in zip(one, other, strict=True))


def _pinned_columns(pinned: PinnedSettings) -> list[str]:
    return [name for name in (pinned.prediction, pinned.score, *pinned.scores.values()) if name]


def _feature(cells: list[Any], typed: bool, profile: Profile, name: str) -> list[Any]:
    """Return a feature's values as JSON has them: null where they are missing, numbers where they are numbers."""
    if not typed and isinstance(profile.features[name], NumericVariable):
        return [_number(cell, profile.missing) for cell in cells]
    if not typed:
        return [None if cell in profile.missing else cell for cell in cells]
    return [None if isinstance(cell, float) and math.isnan(cell) else cell for cell in cells]


def _number(cell: str, missing: Collection[str]) -> float | int | None:
    """Return a cell of CSV as a whole number where it is one, since servers tell integers from others."""
    found = text_as_number(cell, missing)
    if math.isinf(found):
        raise RowsError(f"{cell!r} is no number")
    if math.isnan(found):
        return None
    return int(cell) if _WHOLE.fullmatch(cell) else found


def _read(cells: Sequence[Any], profile: Profile) -> list[str | None]:
    try:
        return [None if cell in profile.missing else canonical(cell) for cell in cells]
    except TypeError as error:
        raise RowsError(str(error)) from None


def outcomes(values: Sequence[Any], profile: Profile, what: str, *, typed: bool = True) -> Floats:
    """Return class codes, or the numbers of a regression; NaN where there is none. Raises RowsError."""
    if profile.of_numbers:
        return _numbers(values, what, profile, typed)
    codes: dict[str | None, float] = {name: float(code) for code, name in enumerate(profile.classes)}
    codes[None] = math.nan
    names = _read(values, profile)
    if unknown := [name for name in dict.fromkeys(names) if name not in codes]:
        raise RowsError(f"{what}: {unknown[0]!r} is no class; the classes are {', '.join(profile.classes)}")
    return np.array([codes[name] for name in names])


def chances(columns: Sequence[Sequence[Any]], what: str, profile: Profile, *, typed: bool = True) -> Floats:
    """Return probabilities, (rows, columns): one of the positive class, or one for each class. Raises RowsError."""
    read = np.column_stack([_numbers(column, what, profile, typed) for column in columns])
    found, wrong = probabilities(read)
    if wrong.any():
        raise RowsError(f"{what}: {read[wrong][0].tolist()} are no probabilities")
    return found


def _pinned(cells: Mapping[str, list[Any]], typed: bool, pinned: PinnedSettings, profile: Profile) -> Outputs:
    size = len(next(iter(cells.values())))
    prediction = np.full(size, np.nan)
    if pinned.prediction:
        prediction = outcomes(cells[pinned.prediction], profile, pinned.prediction, typed=typed)
    columns = score_columns(profile)
    scores = np.full((size, columns), np.nan)
    names = [pinned.scores.get(name) for name in profile.classes] if pinned.scores else [pinned.score]
    if profile.task == "binary" and pinned.scores:
        names = [pinned.scores.get(profile.positive)]
    if columns and any(names):
        if len(names) != columns or not all(names):
            raise RowsError(f"pinned scores: name a column for each of {', '.join(profile.classes)}")
        scores = chances([cells[name] for name in names if name], "pinned scores", profile, typed=typed)
    return Outputs.plain(prediction, scores)


def score_columns(profile: Profile) -> int:
    """Return how many probabilities an event of the model has: none, the positive class's, or one for each class."""
    return 0 if profile.of_numbers else 1 if profile.task == "binary" else len(profile.classes)


def _numbers(cells: Sequence[Any], name: str, profile: Profile, typed: bool) -> Floats:
    read = [(as_number if typed else text_as_number)(cell, profile.missing) for cell in cells]
    if math.inf in read:
        raise RowsError(f"{name}: {cells[read.index(math.inf)]!r} is no number")
    return np.array(read)
