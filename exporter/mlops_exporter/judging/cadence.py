"""When the next batch of a model is expected: its job has a rhythm, and one that never stops has none."""

from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise

from cronsim import CronSim

from mlops_exporter.settings.models import ModelSettings

_LOOKED_AT = 50  # times of a cron expression, among which its longest pause is


def longest_pause(settings: ModelSettings) -> float:
    """Return the seconds that may lie between two batches; 0 for a model without a rhythm."""
    if settings.period is not None:
        return settings.period
    return 0.0 if settings.cadence == "continuous" else _pause(settings.cadence)


@cache
def _pause(expression: str) -> float:
    times = CronSim(expression, datetime(2024, 1, 1, tzinfo=UTC))
    moments = [next(times) for _ in range(_LOOKED_AT)]
    return max((after - before).total_seconds() for before, after in pairwise(moments))


def deadline(settings: ModelSettings, last: float) -> float:
    """Return when the batch after the one at `last` is late: the time that it is due, and the grace. Unix seconds.

    A batch that comes up to the grace before a time of a cron expression is that time's batch.
    """
    grace = settings.cadence_grace
    if settings.period is not None:
        return last + settings.period + grace
    due = next(CronSim(settings.cadence, datetime.fromtimestamp(last, UTC) + timedelta(seconds=grace)))
    return due.timestamp() + grace
