"""Takes in batches of events: decodes at once, so that the sender hears what was refused, and counts in larger batches.

Counting one event through NumPy costs as much as counting fifty, so decoded events are gathered over requests until
there are many, a moment has passed, or somebody wants to see them.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from exporter.config import Limits
from exporter.events import REASONS, Columns, Decoded, Decoder, Reason
from exporter.model import Model
from exporter.sources.base import IntakeResult, QueueFullError

BATCH_EVENTS = 2048
BATCH_SECONDS = 0.1


@dataclass(slots=True)
class SourceCounts:
    """What one source has delivered. `last_event` is an arrival time, None before the first accepted event."""

    accepted: int = 0
    late: int = 0
    rejected: dict[Reason, int] = field(default_factory=lambda: dict.fromkeys(REASONS, 0))
    last_event: float | None = None


class Intake:
    """Decodes bodies and counts their events in the models. For the event loop alone."""

    def __init__(self, models: Iterable[Model], sources: Iterable[str], limits: Limits) -> None:
        self.models = {model.name: model for model in models}
        self.sources = {name: SourceCounts() for name in sources}
        self.capacity = limits.queue_events
        self._decoder = Decoder([model.schema for model in self.models.values()])
        self._queued = 0
        self._gathered: dict[str, Columns] = {}
        self._gathered_events = 0
        self._timer: asyncio.TimerHandle | None = None
        self._changes = 0
        self._positions: dict[str, bytes] = {}

    def position(self, source: str) -> bytes | None:
        """Return the position that came with the last body of a source."""
        return self._positions.get(source)

    @property
    def waiting(self) -> int:
        """Number of events received and not yet counted (of bodies not yet decoded, an estimate)."""
        return self._queued + self._gathered_events

    @property
    def generation(self) -> int:
        """A number that changes with every change of a count; what is gathered is counted first."""
        self.flush()
        return self._changes

    def ensure_room(self) -> None:
        """Raise QueueFullError when no further body can be taken now."""
        if self._queued >= self.capacity:
            raise QueueFullError(1.0)

    async def submit(
        self,
        source: str,
        body: bytes,
        arrived: float,
        position: bytes | None = None,
        *,
        models: frozenset[str] | None = None,
    ) -> IntakeResult:
        """Take the events of `body`, which arrived at `arrived` (Unix seconds).

        Events of models other than `models` are refused; None allows all.
        Raises QueueFullError, having taken nothing. A body larger than the whole queue is taken when it is alone.
        """
        if position is not None:
            self._positions[source] = position
        events = body.count(b'"model"')
        if self._queued and self._queued + events > self.capacity:
            raise QueueFullError(1.0)
        self._queued += events
        accepted, refused = 0, []
        try:
            decoded = Decoded()
            for _ in self._decoder.decode_steps(body, arrived, decoded):
                accepted += self._take(source, decoded, arrived, models)
                refused += decoded.refused
                decoded.columns, decoded.refused = {}, []
                await asyncio.sleep(0)
            accepted += self._take(source, decoded, arrived, models)
            refused += decoded.refused
        finally:
            self._queued -= events
        return IntakeResult(accepted, len(refused), refused)

    def flush(self) -> None:
        """Count what is gathered."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        gathered, self._gathered, self._gathered_events = self._gathered, {}, 0
        for name, columns in gathered.items():
            self.models[name].count(columns)

    def expire(self, now: float) -> None:
        """Give up predictions that have waited too long for their label."""
        for model in self.models.values():
            self._changes += model.expire(now)

    def _take(self, source: str, decoded: Decoded, arrived: float, models: frozenset[str] | None) -> int:
        """Account for decoded events and gather them; returns how many were accepted."""
        counts = self.sources[source]
        accepted = 0
        for name in () if models is None else decoded.columns.keys() - models:
            decoded.refused += ((line, "forbidden_model") for line in decoded.columns.pop(name).lines)
        for name, columns in decoded.columns.items():
            model = self.models[name]
            if overflow := model.admit({version for version in columns.versions if version is not None}):
                fits = [version not in overflow for version in columns.versions]
                decoded.refused += (
                    (line, "too_many_versions") for line, kept in zip(columns.lines, fits, strict=True) if not kept
                )
                columns = columns.keep(fits)
            horizon = arrived - model.horizon
            if columns.times and min(columns.times) < horizon:
                counts.late += sum(time < horizon for time in columns.times)
            accepted += len(columns)
            self._gather(name, columns)
        for _, reason in decoded.refused:
            counts.rejected[reason] += 1
        if accepted:
            counts.accepted += accepted
            counts.last_event = arrived
        self._changes += bool(accepted or decoded.refused)
        return accepted

    def _gather(self, name: str, columns: Columns) -> None:
        if name in self._gathered:
            self._gathered[name].extend(columns)
        else:
            self._gathered[name] = columns
        self._gathered_events += len(columns)
        if self._gathered_events >= BATCH_EVENTS:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(BATCH_SECONDS, self.flush)


class HttpSource:
    """The source behind `POST /v1/events`: the intake under the source's name."""

    def __init__(self, name: str, intake: Intake) -> None:
        self._name = name
        self._intake = intake
        self.ensure_room: Callable[[], None] = intake.ensure_room

    async def submit(self, body: bytes, arrived: float, *, models: frozenset[str] | None = None) -> IntakeResult:
        """Take the events of `body`; see Intake.submit."""
        return await self._intake.submit(self._name, body, arrived, models=models)
