"""The time of a job, by which windows hold batches: it stands still where a pause is longer than the shortest.

A window of n batches is a quarter of a pause shorter than n pauses, and goes back from the newest batch as long as the
next is not late. So it holds n batches whenever they come up to an eighth of a pause early or late.
"""

import math
from datetime import UTC, datetime
from functools import cache

import numpy as np
from cronsim import CronSim

from mlops_exporter.arrays import Floats
from mlops_exporter.settings import cadence
from mlops_exporter.settings.models import ModelSettings

_TOLERANCE = 0.25
"""Share of a pause by which batches may come nearer to each other, or go apart."""

_FROM = datetime(2020, 1, 1, tzinfo=UTC)
"""Before it, and where batches come more than hourly, the clock is the job's time."""

_LEAST_PAUSE = 3600.0
_AHEAD = 400 * 86400.0


class Rhythm:
    """The rhythm of a model's job. `pause` is the shortest between two batches, in seconds."""

    def __init__(self, written: str, pause: float, grace: float) -> None:
        self.name = written
        self.pause = pause
        self._grace = min(grace, pause)
        regular = cadence.period(written) is not None or pause < _LEAST_PAUSE
        self._expression = None if regular else written

    @classmethod
    def of(cls, settings: ModelSettings) -> "Rhythm | None":
        """Return the rhythm of a model, None where it predicts all the time."""
        pause = cadence.shortest_pause(settings.cadence)
        return None if pause is None else cls(settings.cadence, pause, settings.cadence_grace)

    def batches(self, length: float) -> int:
        """Return how many batches a window of a configured length holds."""
        return max(1, round(length / self.pause))

    def length(self, length: float) -> float:
        """Return the seconds of the job's time that such a window has."""
        return (self.batches(length) - _TOLERANCE) * self.pause

    def reach(self, length: float) -> float:
        """Return the seconds by the clock that such a window goes back, at most."""
        several = self.batches(length) + 1
        pauses = (self.pause,) if self._expression is None else cadence.pauses(self._expression)
        rounds, rest = divmod(several, len(pauses))
        longest = max(sum(pauses[start : start + rest]) for start in range(len(pauses) - rest + 1))
        return rounds * sum(pauses) + longest + self._grace

    @property
    def lag(self) -> float:
        """Seconds of the job's time that the newest batch may be behind, at most."""
        return self.pause + self._grace

    def time(self, moment: float) -> float:
        """Return the job's time, which grows by `pause` from one batch to the next. Unix seconds in, seconds out."""
        return float(self.times(np.array([moment], np.float64))[0])

    def times(self, moments: Floats) -> Floats:
        """Return the job's times of several moments."""
        if self._expression is None:
            return moments
        latest = float(moments.max(initial=-math.inf))
        due = _due(self._expression, math.ceil(max(latest - _FROM.timestamp(), 1.0) / _AHEAD))
        before = np.maximum(np.searchsorted(due, moments, "right") - 1, 0)
        begin, end = due[before], due[before + 1]
        found = due[0] + (before + (moments - begin) / (end - begin)) * self.pause
        return np.where(moments < due[0], moments, found)

    def expected(self, now: float) -> float:
        """Return the job's time of the batch that must have come by `now`."""
        return self.time(now - self._grace) - self.pause


def reaches(settings: ModelSettings) -> list[float]:
    """Return how far back the windows of a model go by the clock, in seconds."""
    rhythm = Rhythm.of(settings)
    return [length if rhythm is None else rhythm.reach(length) for length in settings.windows]


@cache
def _due(expression: str, stretches: int) -> Floats:
    """Return the times of a cron expression, Unix seconds, through so many stretches and the time after."""
    end = _FROM.timestamp() + stretches * _AHEAD
    found = [-math.inf]
    for time in CronSim(expression, _FROM):
        found.append(time.timestamp())
        if found[-1] > end:
            return np.array(found[1:])
    raise AssertionError("a cron expression has no last time")
