"""Durations as Prometheus writes them: `500ms`, `15m`, `1h30m`, `7d`."""

import re
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

_UNITS_MS = {
    "y": 365 * 24 * 3_600_000,
    "w": 7 * 24 * 3_600_000,
    "d": 24 * 3_600_000,
    "h": 3_600_000,
    "m": 60_000,
    "s": 1_000,
    "ms": 1,
}
_PATTERN = re.compile("".join(rf"(?:(\d+){unit})?" for unit in _UNITS_MS), re.ASCII)


def parse_duration(text: str) -> float:
    """Return the seconds in `text`, a Prometheus duration: whole numbers with units y w d h m s ms, largest first.

    As in Prometheus a year has 365 days, and `0` alone needs no unit. Raises ValueError on anything else.
    """
    if text == "0":
        return 0.0
    match = _PATTERN.fullmatch(text)
    if not text or match is None:
        raise ValueError(
            f"{text!r} is not a duration: write whole numbers with a unit each (y, w, d, h, m, s, ms), "
            'largest first, as in "500ms", "15m" or "1h30m"'
        )
    counts = (int(count or 0) for count in match.groups())
    return sum(count * ms for count, ms in zip(counts, _UNITS_MS.values(), strict=True)) / 1000


def format_duration(seconds: float) -> str:
    """Return the duration as Prometheus prints it, to the millisecond: 900 is `15m`, 5400 is `1h30m`.

    Years and weeks are used only where they divide the duration, so that 8 days are `8d`, not `1w1d`.
    Raises ValueError on negative and non-finite numbers.
    """
    if not 0 <= seconds < float("inf"):
        raise ValueError(f"{seconds} seconds cannot be written as a duration: it must be finite and not negative")
    rest = round(seconds * 1000)
    parts = []
    for unit, ms in _UNITS_MS.items():
        if unit in "yw" and rest % ms:
            continue
        count, rest = divmod(rest, ms)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def _seconds(value: object) -> float:
    if not isinstance(value, str):
        raise ValueError(f'{value!r} is not a duration: give it a unit and quotes where needed, as in "15m"')
    return parse_duration(value)


Duration = Annotated[
    float,
    BeforeValidator(_seconds),
    PlainSerializer(format_duration, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": f"^(?=.){_PATTERN.pattern}$|^0$"}, mode="validation"),
]
"""Seconds in the program, a Prometheus duration such as `15m` in the configuration."""
