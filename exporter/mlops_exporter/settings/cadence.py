"""How a rhythm is written: `continuous`, a duration, or a cron expression in UTC."""

from datetime import UTC, datetime
from functools import cache
from itertools import pairwise

from cronsim import CronSim, CronSimError

from mlops_exporter.settings.durations import parse_duration

CONTINUOUS = "continuous"
_FROM = datetime(2024, 1, 1, tzinfo=UTC)
_LOOKED_AT = 50
"""Times of a cron expression, among which its longest and its shortest pause are."""


def checked(cadence: str) -> str:
    """Return a rhythm as it is; raises ValueError for what is none."""
    if cadence == CONTINUOUS or period(cadence) is not None:
        return cadence
    try:
        CronSim(cadence, _FROM)
    except CronSimError as error:
        raise ValueError(
            f"{cadence!r} is no rhythm: write continuous, a duration such as 1d, or a cron expression of five "
            f"fields such as 0 2 * * 1-5 ({error})"
        ) from None
    return cadence


def period(cadence: str) -> float | None:
    """Return the seconds from one batch to the next; None where there is no rhythm, or that of a calendar."""
    try:
        return parse_duration(cadence) or None
    except ValueError:
        return None


@cache
def pauses(expression: str) -> tuple[float, ...]:
    """Return the seconds between times of a cron expression."""
    times = CronSim(expression, _FROM)
    moments = [next(times) for _ in range(_LOOKED_AT)]
    return tuple((after - before).total_seconds() for before, after in pairwise(moments))


def shortest_pause(cadence: str) -> float | None:
    """Return the least seconds between two batches; None for a model that predicts all the time."""
    if cadence == CONTINUOUS:
        return None
    return period(cadence) or min(pauses(cadence))
