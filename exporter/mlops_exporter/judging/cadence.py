"""When the next batch of a model is expected: its job has a rhythm, and one that never stops has none."""

from datetime import UTC, datetime, timedelta

from cronsim import CronSim

from mlops_exporter.settings.cadence import CONTINUOUS, pauses
from mlops_exporter.settings.models import ModelSettings


def longest_pause(settings: ModelSettings) -> float:
    """Return the seconds that may lie between two batches; 0 for a model without a rhythm."""
    if settings.period is not None:
        return settings.period
    return 0.0 if settings.cadence == CONTINUOUS else max(pauses(settings.cadence))


def deadline(settings: ModelSettings, last: float) -> float:
    """Return when the batch after the one at `last` is late: the time that it is due, and the grace. Unix seconds.

    A batch that comes up to the grace before a time of a cron expression is that time's batch.
    """
    grace = settings.cadence_grace
    if settings.period is not None:
        return last + settings.period + grace
    due = next(CronSim(settings.cadence, datetime.fromtimestamp(last, UTC) + timedelta(seconds=grace)))
    return due.timestamp() + grace
