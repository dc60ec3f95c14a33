"""Models that live an ordinary life: day and night, weeks, sessions, releases, and labels that come late."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mlops_exporter.counting.model import Model
from mlops_exporter.events.columns import Columns, Encoded, Features
from mlops_exporter.profile.profile import Task
from mlops_exporter.profiling.build import BuildRequest
from mlops_exporter.profiling.hours import Timing
from tests.simulations import calendar
from tests.simulations.calendar import traffic, within
from tests.simulations.scrapes import DAY, START
from tests.simulations.streams import CLASSES, FAILED, LABELLED, Events, Stream

RHYTHM = 3
"""Features whose mean goes up and down by a standard deviation each day."""
_SESSION = 3
_PHASES = np.arange(288) / 288
_BUSY = np.array([calendar.busy(phase) for phase in _PHASES])


class Ordinary(Stream):
    """A stream whose events come by the calendar, at most one a second as it begins.

    Its reference holds whole days, which it may know `by_hour`.
    Events come in sessions of one visitor, three on average, with the same features.
    """

    def __init__(
        self,
        name: str,
        task: Task,
        seed: int,
        directory: Path,
        *,
        sleeps: bool = False,
        rhythm: int = RHYTHM,
        by_hour: bool = False,
    ) -> None:
        self._now: float | None = None
        self._rhythm = rhythm
        self._sleeps = sleeps
        self._by_hour = by_hour
        self._owed: list[tuple[float, Columns]] = []
        self.fault: Callable[[dict[str, Any]], None] | None = None
        self.fault_at = np.inf
        super().__init__(name, task, seed, directory)
        self.profile.provenance.model_version = ""  # it is shared by all versions

    def _events(self, n: int, shift: float, wrong: float) -> Events:
        self._phases = self._rng.choice(_PHASES, n, p=_BUSY / _BUSY.sum()) if self._now is None else np.empty(0)
        events = super()._events(n, shift, wrong)
        if self._now is None:
            events.numeric[: self._rhythm] += np.sin(2 * np.pi * self._phases)
            return events
        events.numeric[: self._rhythm] += np.sin(2 * np.pi * (self._now % DAY) / DAY)
        visitors = np.sort(self._rng.integers(0, max(1, n // _SESSION), n))
        return dataclasses.replace(
            events, numeric=events.numeric[:, visitors], categories=events.categories[:, visitors]
        )

    def _request(self, columns: range) -> BuildRequest:
        request = super()._request(columns)
        if not self._by_hour:
            return request
        days = 28
        when = START - (self._rng.integers(1, days + 1, len(self._phases)) - self._phases) * DAY
        header, *rows = self._table.read_text().splitlines()
        with self._table.open("w") as file:
            for row, time in zip((header, *rows), ("at", *when.tolist()), strict=True):
                file.write(f"{row},{time}\n")
        return dataclasses.replace(request, timing=Timing("at", "hour", "UTC"))

    def live(self, model: Model, start: float, seconds: int, *, ahead: float = 0.0) -> None:
        """Let the model count what happens in a stretch of time; its clock is `ahead`."""
        self._deliver(model, start + ahead)
        share, version, newest = traffic(start, sleeps=self._sleeps)
        n = int(self._rng.poisson(share * seconds))
        if n:
            chosen = self._rng.random(n) < newest
            self._count(model, start, start + ahead + seconds / 2, [str(version if c else version - 1) for c in chosen])

    def remember(self, model: Model, number: int, age: float, now: float) -> None:
        """Count a batch of events of long ago."""
        self._count(model, now, now - age, ["1"] * number)

    def _count(self, model: Model, now: float, ts: float, versions: list[str]) -> None:
        n, rng = len(versions), self._rng
        self._now = now
        events = self._events(n, 0.0, 0.0)
        failed = rng.random(n) < FAILED
        labels = np.where(failed | (rng.random(n) >= LABELLED), np.nan, events.labels)
        late = within(now, calendar.LATE_HOUR, calendar.LATE_DAY)
        ids: list[Any] = [f"{self.name}-{now:.0f}-{number}" for number in range(n)] if late else [None] * n
        if late:
            self._owe(now, ids, labels)
            labels = np.full(n, np.nan)
        made: dict[str, Any] = {
            "numeric": events.numeric,
            "codes": np.take_along_axis(self._codes, events.categories, axis=1),
            "scores": np.where(failed[:, np.newaxis], np.nan, events.scores),
            "predictions": np.where(failed, np.nan, events.predictions),
            "labels": labels,
            "latencies": rng.lognormal(np.log(0.03), 0.4, n),
            "failed": failed,
        }
        if self.fault is not None and now >= self.fault_at:
            self.fault(made)
        model.admit(set(versions), ts)
        model.count(
            Columns(
                features=Features([True] * n, Encoded(made["numeric"], made["codes"], np.empty((0, n), np.float32))),
                lines=range(n),
                ids=ids,
                times=np.full(n, ts),
                versions=list(versions),
                groups=np.empty((n, 0), np.intp),
                outcomes=np.empty((n, 0)),
                forecasts=np.empty((n, 0)),
                scores=self._as_decoded(made["scores"]),
                predictions=made["predictions"],
                labels=made["labels"],
                latencies=made["latencies"],
                errors=["timeout" if each else None for each in made["failed"].tolist()],
            )
        )

    def _owe(self, now: float, ids: list[Any], labels: Any) -> None:
        """Keep labels until the late hour, or the late day, is over."""
        end = next(end for begin, end in (calendar.LATE_HOUR, calendar.LATE_DAY) if within(now, (begin, end)))
        known = np.flatnonzero(~np.isnan(labels))
        n = len(known)
        nothing = np.full(n, np.nan)
        empty = Encoded(np.empty((20, 0)), np.empty((5, 0), np.intp), np.empty((0, 0), np.float32))
        columns = Columns(
            features=Features([False] * n, empty), lines=range(n), ids=[ids[each] for each in known],
            times=np.zeros(n), versions=[None] * n, groups=np.empty((n, 0), np.intp), outcomes=np.empty((n, 0)),
            forecasts=np.empty((n, 0)),
            scores=self._as_decoded(np.full((n, CLASSES[self.task]), np.nan)) if CLASSES[self.task] else nothing,
            predictions=nothing, labels=labels[known], latencies=nothing, errors=[None] * n,
        )  # fmt: skip
        self._owed.append((START + end, columns))

    def _deliver(self, model: Model, now: float) -> None:
        """Count the labels that are due."""
        for due, columns in self._owed:
            if due <= now:
                columns.times = np.full(len(columns), now)
                model.count(columns)
        self._owed = [each for each in self._owed if each[0] > now]
