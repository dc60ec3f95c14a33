"""Events as columns: one list or array per field, for many events of one model at once."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import nsmallest
from itertools import chain, compress
from operator import attrgetter
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from mlops_exporter.arrays import Flags, Floats, Ints, Singles
from mlops_exporter.events.reasons import Reason
from mlops_exporter.profile.values import floats

NAMED_REFUSALS = 100
"""Refused events of a body that are told one by one; all are counted."""

EXPLAINED_REFUSALS = 10
"""Refused events of a body of which more is told than the reason."""

NAMED_IGNORED = 10
"""Features that no version of a model knows which are told by name; all of their values are counted."""

_LONGEST_NAME = 100

Origins = NDArray[np.int16]

NO_ORIGINS: Origins = np.empty(0, np.int16)
"""Of events that come from nowhere in particular."""


class Encoded(NamedTuple):
    """Feature values of n events: numbers (F, n), NaN missing and infinity invalid, and category codes (C, n).

    `vectors` are the embeddings one below the other, (all their dimensions, n); NaN missing or invalid.
    """

    numeric: Floats
    codes: Ints
    vectors: Singles

    def of(self, events: list[bool]) -> "Encoded":
        """Return the values of the events whose flag is set."""
        return Encoded(self.numeric[:, events], self.codes[:, events], self.vectors[:, events])


class Encoder(Protocol):
    """Turns decoded features to arrays, as the schema of a model does."""

    def encode(self, features: Sequence[Any]) -> Encoded:
        """Return the values of decoded features as arrays."""
        ...


class Features:
    """The feature values of events, of those that have any in order.

    Large chunks are encoded at once, while they are in the cache; the odd single event waits as the decoder left it
    until many can be encoded together.
    """

    __slots__ = ("_parts", "present")

    def __init__(self, present: list[bool] | Flags, *parts: "Encoded | list[Any]") -> None:
        self.present = present
        self._parts = parts

    @classmethod
    def joined(cls, several: Sequence["Features"]) -> "Features":
        """Return the values of all events in order."""
        parts = chain.from_iterable(each._parts for each in several)
        return cls(np.concatenate([each.flags for each in several]), *parts)

    def take_in(self, other: "Features") -> bool:
        """Append the values of other events if those of both wait to be encoded; False when they do not."""
        (waiting, *more), (others, *others_more) = self._parts, other._parts
        if more or others_more or not (isinstance(waiting, list) and isinstance(others, list)):
            return False
        assert isinstance(self.present, list), "few events"
        self.present += other.present
        waiting += others
        return True

    @property
    def flags(self) -> Flags:
        """Which events have features."""
        return np.asarray(self.present, np.bool_)

    def keep(self, kept: list[bool], encoder: Encoder) -> "Features":
        """Return the values of the events whose flag is set."""
        columns = list(compress(kept, self.present))
        return Features(list(compress(self.present, kept)), self.encoded(encoder).of(columns))

    def encoded(self, encoder: Encoder) -> Encoded:
        """Return the values as arrays."""
        parts = [encoder.encode(part) if isinstance(part, list) else part for part in self._parts]
        if len(parts) == 1:
            return parts[0]
        return Encoded(*(np.concatenate(arrays, axis=1) for arrays in zip(*parts, strict=True)))


@dataclass(slots=True)
class Columns:
    """Valid events of one schema, one list (or array of numbers, NaN for absent) per field, all of one length.

    `lines` are line numbers in the body, `ids` as they came, `times` Unix seconds, `groups` the codes of what events
    say, (n, attributes), `outcomes` what answers are rated by, (n, outcomes), `forecasts` the code of the horizon, the
    naive forecast and the announced quantiles, (n, 2 + Q) or (n, 0), both NaN for absent, `scores` a probability
    (binary) or a decoded struct of them; `predictions` and `labels` are class codes, or numbers (of sets, of a
    regression, of items in a list). `lists` is a table of these, None where nothing is ranked. None is absent;
    `versions` is None for a label alone, which belongs to the version of its prediction.
    `schema` is the version that the schema is for, None for that of all others. `origins` are codes of where the
    events came from, none where that does not matter.
    """

    features: Features
    lines: Sequence[int]
    ids: list[str | int | float | None]
    times: "list[float] | Floats"
    versions: list[str | None]
    groups: Ints
    outcomes: Floats
    forecasts: Floats
    scores: "list[Any] | Floats"
    predictions: "list[float | None] | Floats"
    labels: "list[float | None] | Floats"
    latencies: "list[float | None] | Floats"
    errors: list[str | None]
    schema: str | None = None
    origins: Origins = field(default_factory=lambda: NO_ORIGINS)
    lists: Floats | None = None

    def __len__(self) -> int:
        return len(self.times)

    def take_in(self, other: "Columns") -> bool:
        """Append the events of `other` if both are few; False when they are not."""
        if self.schema != other.schema or len(self.origins) or len(other.origins):
            return False
        if not isinstance(self.times, list) or not isinstance(other.times, list):
            return False
        if not self.features.take_in(other.features):
            return False
        self.groups = np.concatenate([self.groups, other.groups])
        self.outcomes = np.concatenate([self.outcomes, other.outcomes])
        self.forecasts = np.concatenate([self.forecasts, other.forecasts])
        self.lists = _stacked([self.lists, other.lists])
        for ours, theirs in zip(_lists_of(self), _lists_of(other), strict=True):
            ours += theirs
        return True

    @classmethod
    def joined(cls, parts: Sequence["Columns"]) -> "Columns":
        """Return the events of all parts, which are of one schema, in order."""
        if len(parts) == 1:
            return parts[0]
        features = Features.joined([part.features for part in parts])
        columns = zip(*map(_lists_of, parts), strict=True)
        lists = dict(zip(_LISTS, map(_chained, columns), strict=True))
        groups = np.concatenate([part.groups for part in parts])
        outcomes = np.concatenate([part.outcomes for part in parts])
        forecasts = np.concatenate([part.forecasts for part in parts])
        ranked = _stacked([part.lists for part in parts])
        return cls(
            features=features,
            groups=groups,
            outcomes=outcomes,
            forecasts=forecasts,
            schema=parts[0].schema,
            origins=_origins_of(parts),
            lists=ranked,
            **lists,
        )

    @property
    def version_names(self) -> set[str | None]:
        """The versions that there are; where all are one, as in most batches, they are only compared."""
        versions = self.versions
        return {versions[0]} if versions and versions.count(versions[0]) == len(versions) else set(versions)

    def older_than(self, time: float) -> int:
        """Return how many events are older."""
        if isinstance(self.times, list):
            return sum(each < time for each in self.times) if min(self.times, default=time) < time else 0
        return int(np.count_nonzero(self.times < time))

    def keep(self, kept: list[bool], encoder: Encoder) -> "Columns":
        """Return the events whose flag is set."""
        lists = {name: list(compress(values, kept)) for name, values in zip(_LISTS, _lists_of(self), strict=True)}
        features = self.features.keep(kept, encoder)
        return Columns(
            features=features,
            groups=self.groups[kept],
            outcomes=self.outcomes[kept],
            forecasts=self.forecasts[kept],
            schema=self.schema,
            origins=self.origins[kept] if len(self.origins) else self.origins,
            lists=None if self.lists is None else self.lists[kept],
            **lists,
        )


_ARRAYS = {"groups", "outcomes", "forecasts"}
_APART = {"features", "schema", "origins", "lists", *_ARRAYS}
_LISTS = [name for name in Columns.__slots__ if name not in _APART]
_lists_of = attrgetter(*_LISTS)


def _stacked(tables: Sequence[Floats | None]) -> Floats | None:
    """Return tables one below the other, None where there are none."""
    known = [table for table in tables if table is not None]
    return np.concatenate(known) if known else None


def _chained(several: Sequence[Any]) -> Any:
    """Return lists one after the other, or arrays of numbers and lists of them as one array."""
    if any(isinstance(each, np.ndarray) for each in several):
        return np.concatenate([floats(each) for each in several])
    return list(chain.from_iterable(several))


def _origins_of(parts: Sequence[Columns]) -> Origins:
    """Return the origins of all events, none if no part tells any; 0 for those of a part that does not."""
    if not any(len(part.origins) for part in parts):
        return NO_ORIGINS
    origins = [part.origins if len(part.origins) else np.zeros(len(part), np.int16) for part in parts]
    return np.concatenate(origins)


def by_schema(parts: Sequence[Columns]) -> Iterator[Columns]:
    """Yield the events of a model's parts, those of each schema joined."""
    for schema in dict.fromkeys(part.schema for part in parts):
        yield Columns.joined([part for part in parts if part.schema == schema])


def newest_by_version(parts: Iterable[Columns]) -> dict[str | None, float]:
    """Return the time of the newest event of each version."""
    newest: dict[str | None, float] = {}
    for columns in parts:
        times = columns.times if isinstance(columns.times, list) else columns.times.tolist()
        versions: Sequence[str | None] = columns.versions
        if len(names := columns.version_names) == 1:  # most batches
            versions, times = [*names], [max(times)]
        for version, time in zip(versions, times, strict=True):
            if newest.get(version, -math.inf) < time:
                newest[version] = time
    return newest


Evidence = Mapping[str, Any] | str
"""Members of a refused event, or words about it."""


class Refusals(list[tuple[int, Reason]]):
    """Refused events as (line, reason): the first hundred, and all of them counted."""

    def __init__(self, refusals: Iterable[tuple[int, Reason]] = ()) -> None:
        super().__init__()
        self.counts: Counter[Reason] = Counter()
        self.extend(refusals)

    @property
    def total(self) -> int:
        """How many there are."""
        return self.counts.total()

    def append(self, refusal: tuple[int, Reason]) -> None:
        """Take in a refusal."""
        if len(self) < NAMED_REFUSALS:
            super().append(refusal)
        self.counts[refusal[1]] += 1

    def extend(self, refusals: Iterable[tuple[int, Reason]]) -> None:
        """Take in refusals."""
        if isinstance(refusals, Refusals):
            super().extend(refusals[: max(NAMED_REFUSALS - len(self), 0)])
            self.counts += refusals.counts
        else:
            for refusal in refusals:
                self.append(refusal)

    def __iadd__(self, refusals: Iterable[tuple[int, Reason]]) -> Self:  # type: ignore[override, misc]
        self.extend(refusals)
        return self


@dataclass(slots=True)
class Ignored:
    """What came of features that a model does not know: how many values, and the first names, cut if they are long."""

    values: int = 0
    names: list[str] = field(default_factory=list)

    def add(self, name: str, values: int) -> None:
        """Take in values of a feature."""
        self.values += values
        if len(self.names) < NAMED_IGNORED:
            name = name[:_LONGEST_NAME].encode(errors="backslashreplace").decode()  # of half a surrogate pair
            if name not in self.names:
                self.names.append(name)

    def take_in(self, other: "Ignored") -> None:
        """Take in what came elsewhere."""
        for name in other.names:
            self.add(name, 0)
        self.values += other.values


@dataclass(slots=True)
class Decoded:
    """The outcome of one body: valid events per model, in parts as they were decoded; (line, reason) of the others.

    Lines count from 1. `ignored` is by model, and empty where every feature is known. `evidence` is what was found in
    the first refused rows of a body that cannot be read a second time by lines.
    """

    parts: dict[str, list[Columns]] = field(default_factory=dict)
    refused: Refusals = field(default_factory=Refusals)
    ignored: dict[str, Ignored] = field(default_factory=dict)
    evidence: dict[int, Evidence] = field(default_factory=dict)

    @property
    def columns(self) -> dict[str, Columns]:
        """The valid events of each model that has one schema."""
        return {model: Columns.joined(parts) for model, parts in self.parts.items()}

    @property
    def accepted(self) -> int:
        """Number of valid events."""
        return sum(map(len, chain.from_iterable(self.parts.values())))

    def add(self, model: str, columns: Columns) -> None:
        """Take in valid events."""
        self.parts.setdefault(model, []).append(columns)

    def ignore(self, model: str, names: Mapping[str, int]) -> None:
        """Take in how many values came of each of some features that the model does not know."""
        told = {name: values for name, values in names.items() if values}
        if told:
            ignored = self.ignored.setdefault(model, Ignored())
            for name in nsmallest(NAMED_IGNORED, told):
                ignored.add(name, 0)
            ignored.values += sum(told.values())
