"""The reference by hour of the day or of the week: what is usual differs between noon and midnight."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from typing import Literal, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
import numpy as np

from mlops_exporter.arrays import Ints

Hours = Literal["hour", "weekday-hour"]
"""Hours of the day, 24 slots, or of the week from Monday on, 168 slots."""

HOURS: tuple[Hours, ...] = get_args(Hours)
SECONDS = 3600.0
_SLOTS: dict[Hours, int] = {"hour": 24, "weekday-hour": 168}
_REMEMBERED = 4096


class HourlyVectors(msgspec.Struct, forbid_unknown_fields=True):
    """The joint distribution of features by slot: rows, mean Fourier maps and mean reconstruction errors.

    Where there were too few rows, `rows` is 0, and the others are those of the whole reference.
    """

    rows: list[int]
    means: list[list[float]]
    errors: list[float]


class HourlyReference(msgspec.Struct, forbid_unknown_fields=True):
    """Counts of the reference by the slot of time in which its rows fell.

    `rows` are the rows in each slot, (slots,). `features`, `score` and `prediction` hold the counts of a variable's
    cells, (slots, cells), as its whole reference does; empty where there is no such variable.
    """

    by: Hours
    timezone: str
    rows: list[int]
    features: dict[str, list[list[int]]]
    score: list[list[int]] = []
    prediction: list[list[int]] = []
    vectors: HourlyVectors | msgspec.UnsetType = msgspec.UNSET

    @property
    def slots(self) -> int:
        """Number of slots."""
        return _SLOTS[self.by]

    @property
    def outcomes(self) -> dict[str, list[list[int]]]:
        """Counts of what the model said, by name, where there are such."""
        return {name: counts for name, counts in (("score", self.score), ("prediction", self.prediction)) if counts}

    def validate(self, cells: Mapping[str, int], outcomes: Mapping[str, int], maps: int) -> None:
        """Raise ValueError where the parts do not fit each other.

        Features and outcomes have so many cells, Fourier maps of vectors so many numbers, 0 where there are no vectors.
        """
        zone(self.timezone)
        if len(self.rows) != self.slots or min(self.rows) < 0:
            raise ValueError(f"hours: {self.slots} slots need as many numbers of rows, of 0 or more")
        if isinstance(self.vectors, HourlyVectors):
            lengths = {len(part) for part in (self.vectors.rows, self.vectors.means, self.vectors.errors)}
            if lengths != {self.slots} or {len(row) for row in self.vectors.means} != {maps} or not maps:
                raise ValueError(f"hours: vectors: {self.slots} slots need as many rows, errors and means of {maps}")
        for given, known in ((self.features, cells), (self.outcomes, outcomes)):
            if not set(given) <= set(known):
                raise ValueError("hours: its variables must be variables of the profile")
            for name, counts in given.items():
                shapes = {len(row) for row in counts}
                if len(counts) != self.slots or shapes != {known[name]} or min(map(min, counts)) < 0:
                    raise ValueError(f"hours: {name}: {self.slots} slots need {known[name]} counts of 0 or more each")


def zone(name: str) -> tzinfo:
    """Return a time zone by its name; raises ValueError."""
    if name == "UTC":  # which needs no database
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(
            f"{name!r} is no time zone that this machine knows: name one such as Europe/Berlin, or install tzdata"
        ) from None


def slots_of(hours: Ints, by: Hours, timezone: str) -> Ints:
    """Return the slot of each hour since 1970, (n,): by its middle, as some zones differ by half an hour."""
    known, which = np.unique(hours, return_inverse=True)
    found: Ints = np.array([_slot(hour, by, timezone) for hour in known.tolist()], np.intp)[which.reshape(-1)]
    return found


@lru_cache(_REMEMBERED)
def _slot(hour: int, by: Hours, timezone: str) -> int:
    local = datetime.fromtimestamp((hour + 0.5) * SECONDS, zone(timezone))
    return local.hour if by == "hour" else local.weekday() * 24 + local.hour


def least_days(by: Hours) -> int:
    """Return how many days rows must span so that each slot comes twice at least."""
    return 2 * _SLOTS[by] // 24


def described(hours: HourlyReference) -> Iterator[str]:
    """Yield what there is to say of it."""
    what = "hour of the day" if hours.by == "hour" else "hour of the week"
    yield f"reference by {what} in {hours.timezone}: {_range(hours.rows)} rows in each of {hours.slots} slots"


def _range(rows: Sequence[int]) -> str:
    return f"{min(rows)} to {max(rows)}"
