"""An ordinary quarter by the clock: when models are busy, and what happens to them that nobody should be told of."""

import math
from typing import NamedTuple

from tests.simulations.scrapes import DAY, HOUR, START

WEEK = 7 * DAY
RELEASED = 2 * DAY + 10 * HOUR
"""When within each week a new version comes; for a day it gets a tenth of the traffic, then all."""
HOLIDAY = 40
LATE_HOUR = (9 * DAY + 14 * HOUR, 9 * DAY + 15 * HOUR)
LATE_DAY = (16 * DAY, 17 * DAY)
RESTARTS = tuple(day * DAY + 11 * HOUR for day in (3, 11, 24, 38, 52, 66, 80))
"""When an exporter is started anew, without its state."""
UNSCRAPED = tuple((day * DAY + 13 * HOUR, day * DAY + 13 * HOUR + 600) for day in (5, 33, 61))
"""When Prometheus itself is started anew: nothing is scraped."""
STEPPED = (19 * DAY + 9 * HOUR, 19 * DAY + 9 * HOUR + 1800)
"""When the exporter's and its models' clocks are an hour ahead."""
BACKFILLED = 12 * DAY + 15 * HOUR
"""When a batch of HISTORY events of ten days ago comes."""
HISTORY = 100_000


class Traffic(NamedTuple):
    """What share of the events of a busy hour come, and the newest version with its share of them."""

    share: float
    version: int
    newest: float


def busy(of_day: float) -> float:
    """Return the share of the busiest hour's traffic by the time of day (0 to 1)."""
    return 0.15 + 0.85 * math.pow(max(0.0, math.sin(math.pi * (of_day * 24 - 6) / 16)), 0.7)


def traffic(now: float, *, sleeps: bool) -> Traffic:
    """Return what comes at a time (Unix seconds); a model that `sleeps` gets nothing from two to four at night."""
    passed = now - START
    day, of_day = divmod(passed, DAY)
    share = busy(of_day / DAY) * (1 + 0.5 * passed / (13 * WEEK))  # and it grows by half
    if day % 7 in (5, 6):
        share *= 0.4
    if day == HOLIDAY:
        share *= 0.3
    if sleeps and 2 * HOUR <= of_day < 4 * HOUR:
        share = 0.0
    week, of_week = divmod(passed, WEEK)
    released = of_week >= RELEASED
    canary = released and of_week < RELEASED + DAY
    return Traffic(share, int(week) + (2 if released else 1), 0.1 if canary else 1.0)


def within(now: float, *spans: tuple[float, float]) -> bool:
    """Whether a time (Unix seconds) lies in one of the spans, which count from START."""
    return any(begin <= now - START < end for begin, end in spans)
