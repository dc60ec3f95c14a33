"""What events of forecasts say beside one number: how far ahead, of what, with which quantiles, beside what.

A label may name a series and a time in place of an id: it is then that of all forecasts of this series and time.
"""

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta
from msgspec.structs import astuple

from mlops_exporter.arrays import Flags, Floats
from mlops_exporter.events.reasons import MAX_ID_LENGTH, Reason, Refused
from mlops_exporter.profile.forecasts import level_name
from mlops_exporter.profile.profile import Profile
from mlops_exporter.profile.values import Codes, as_number, canonical, floats

QUANTILES, HORIZON, NAIVE, SERIES, TARGET = "quantiles", "horizon", "naive", "series", "target_ts"

_TEXT = Annotated[str, Meta(min_length=1, max_length=MAX_ID_LENGTH)]
_INTEGER = Annotated[int, Meta(ge=-(10**18), le=10**18)]
_TIME = Annotated[datetime, Meta(tz=True)] | Annotated[float, Meta(ge=0, lt=1e11)]
LATEST = 1e11
"""Unix seconds that no target reaches."""


class Target(str):
    """In place of an id: a series and a time, of which there may be a forecast for every horizon."""

    __slots__ = ()

    @classmethod
    def of(cls, series: str, seconds: float) -> "Target":
        """Return the target of a series and a time in Unix seconds, by which it is known to the millisecond."""
        return cls(f"{series}\x1f{round(seconds * 1000)}")


class ForecastSchema:
    """How these members of a model's events are typed; `largest` bounds every number. Without any, `width` is 0."""

    def __init__(self, profile: Profile, largest: float) -> None:
        reference = profile.forecast
        self._missing_texts = frozenset(profile.missing)
        self._largest = largest
        self.ahead = profile.task == "forecast"
        """Whether predictions have a horizon."""
        self.levels = {level_name(level): level for level in (reference.quantiles if reference else ())}
        self.width = 2 + len(self.levels) if reference else 0
        names = reference.horizons if reference else []
        self.horizons = Codes(names, other=len(names), invalid=len(names), missing=-1, missing_texts=profile.missing)
        number: Any = Annotated[float, Meta(ge=-largest, le=largest)]
        attributes = {f"q{place}": name for place, name in enumerate(self.levels)}
        self._quantiles = msgspec.defstruct(
            "Quantiles",
            [(name, number) for name in attributes],
            rename=attributes,
            gc=False,
            forbid_unknown_fields=True,
        )
        horizon: Any = bool | str | None if self.horizons.holds_booleans else str | int | float | None
        self.members: list[tuple[str, Any, None]] = [
            *([(QUANTILES, self._quantiles | None, None)] if self.levels else []),
            *([(HORIZON, horizon, None), (NAIVE, number | None, None)] if self.ahead else []),
            *([(SERIES, _TEXT | _INTEGER | None, None), (TARGET, _TIME | None, None)] if self.ahead else []),
        ]

    @property
    def columns(self) -> set[str]:
        """Names of columns of a table of events that are none of a feature."""
        return {*(name for name, *_ in self.members), *(f"{QUANTILES}.{name}" for name in self.levels)}

    def array(self, given: Mapping[str, Sequence[Any]], events: int, reasons: dict[int, Reason]) -> Floats:
        """Return code of the horizon, naive forecast and quantiles of decoded events, (n, width); NaN where absent.

        `reasons` gains the rows whose horizon is unknown.
        """
        found = np.full((events, self.width), np.nan)
        if not self.width:
            return found
        found[:, 0] = 0.0
        if self.ahead:
            codes = np.array(list(map(self.horizons.__getitem__, given[HORIZON])), np.float64)
            reasons.update((row, "bad_horizon") for row in np.flatnonzero(codes == self.horizons.other).tolist())
            found[:, 0] = np.where(codes == self.horizons[None], np.nan, codes)
            found[:, 1] = floats(given[NAIVE])
        if self.levels:
            absent = (math.nan,) * len(self.levels)
            found[:, 2:] = [absent if each is None else astuple(each) for each in given[QUANTILES]]
        return found

    def name(self, ids: list[Any], given: Mapping[str, Sequence[Any]], reasons: dict[int, Reason]) -> None:
        """Give events without an id their target, where they name one; `reasons` gains those that name half of one."""
        if not self.ahead or None not in ids:
            return
        for row, (series, time) in enumerate(zip(given[SERIES], given[TARGET], strict=True)):
            if ids[row] is None and not (series is time is None):
                if series is None or time is None:
                    reasons.setdefault(row, "bad_target")
                else:
                    seconds = time.timestamp() if isinstance(time, datetime) else time
                    ids[row] = Target.of(str(canonical(series)), seconds)

    def lacking(self, predictions: Floats, rated: Flags, ids: Sequence[object], forecasts: Floats) -> Flags:
        """Return which rows need a horizon and have none.

        A prediction does, and so does what is `rated` apart from its prediction and names it by a target.
        """
        if not self.ahead:
            return np.zeros(len(ids), np.bool_)
        wanting = np.isnan(forecasts[:, 0])
        if rated.any():
            rated = rated & np.fromiter((type(each) is Target for each in ids), np.bool_, len(ids))
        return wanting & (~np.isnan(predictions) | rated)

    def read(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """Return the members of an object that the typed decoder refused; raises Refused."""
        found: dict[str, Any] = {}
        if self.levels:
            found[QUANTILES] = self._read_quantiles(event.get(QUANTILES))
        if self.ahead:
            found[HORIZON] = _single(event.get(HORIZON), "bad_horizon")
            found[NAIVE] = self._number(event.get(NAIVE), "bad_naive")
            found[SERIES], found[TARGET] = read_target(event.get(SERIES), event.get(TARGET))
        return found

    def _read_quantiles(self, quantiles: object) -> Any:
        if quantiles is None:
            return None
        if not isinstance(quantiles, dict):
            raise Refused("bad_quantile")
        by_level = {level: place for place, level in enumerate(self.levels.values())}
        values: dict[str, float | None] = {f"q{place}": None for place in by_level.values()}
        for name, value in quantiles.items():
            place = by_level.get(_level(name))
            if place is None:
                raise Refused("bad_quantile")
            values[f"q{place}"] = self._number(value, "bad_quantile")
        missing = list(values.values()).count(None)
        if 0 < missing < len(values):
            raise Refused("bad_quantile")
        return None if missing else self._quantiles(**values)

    def _number(self, value: object, reason: Reason) -> float | None:
        found = as_number(value, self._missing_texts)
        if abs(found) > self._largest:
            raise Refused(reason)
        return None if math.isnan(found) else found


def read_target(series: object, time: object) -> tuple[str | None, datetime | float | None]:
    """Return a series as text and its time, None for null; raises Refused."""
    name = None if isinstance(series, bool) else _single(series, "bad_target")
    if isinstance(series, bool) or (name is not None and not 0 < len(name) <= MAX_ID_LENGTH):
        raise Refused("bad_target")
    try:
        if name is not None:
            name.encode()
        found: datetime | float | None = msgspec.convert(time, _TIME | None)
    except (msgspec.ValidationError, OverflowError, UnicodeEncodeError):
        raise Refused("bad_target") from None
    if isinstance(found, float) and math.isnan(found):
        raise Refused("bad_target")
    return name, found


def _single(value: object, reason: Reason) -> str | None:
    try:
        return canonical(value)
    except TypeError:
        raise Refused(reason) from None


def _level(name: str) -> float:
    try:
        return float(name)
    except ValueError:
        return math.nan
