"""The interface between sources and the intake.

A source runs until it is cancelled, delivers bodies (NDJSON, or whatever the intake decodes), and learns that a body
is durable when `deliver` returns: only then may it acknowledge. The position it passes along is stored with the
events in one transaction, so after a crash it goes on exactly where the last durable body ended.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

from mlops_exporter.events.columns import Evidence, Ignored
from mlops_exporter.events.reasons import Reason

BATCH_EVENTS = 1000
"""Events that a source gathers to one body."""

BATCH_BYTES = 4 * 1024 * 1024
"""Bytes that a source asks for at a time, where it can only ask for a number of entries."""

BATCH_SECONDS = 0.1
"""How long a source waits for more events before it delivers what it has."""

STOP_SECONDS = 5.0
"""How long a cancelled source may take to finish the body at hand."""

RETRY_SECONDS = (0.5, 30.0)
"""Shortest and longest pause before a broken connection is tried again; it doubles from one to the other."""

Result = TypeVar("Result")
Piece = TypeVar("Piece")

_log = logging.getLogger(__name__)


class QueueFullError(Exception):
    """The intake has no room; `retry_after` is the number of seconds after which to try again."""

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"the queue is full: send again after {retry_after:g} s")
        self.retry_after = retry_after


class UnavailableError(QueueFullError):
    """The intake cannot make anything durable now; the message says why."""

    def __init__(self, reason: str, retry_after: float = 5.0) -> None:
        Exception.__init__(self, reason)
        self.retry_after = retry_after


Repeated = Literal["same", "changed"]


class IntakeResult(NamedTuple):
    """What became of a body. `errors` describes refused events as (line, reason), `refused` counts them by reason.

    `details` says of the first of those which value was at fault, and what would be right; `evidence` is what was found
    in them, by line, where the body cannot be read again.
    `ignored` tells by model of features that it does not know.
    `repeated` tells that a body with this key had been taken before, with the same bytes or others; nothing was counted
    now, and the numbers are what became of it then.
    """

    accepted: int
    rejected: int = 0
    errors: Sequence[tuple[int, Reason]] = ()
    refused: Mapping[Reason, int] = MappingProxyType({})
    repeated: Repeated | None = None
    ignored: Mapping[str, Ignored] = MappingProxyType({})
    details: Sequence[str] = ()
    evidence: Mapping[int, Evidence] = MappingProxyType({})


@dataclass(slots=True)
class Translated:
    """What a body in another format says, as events.

    `lines` are NDJSON events, `origins` the number (from 1) in the body of what each came of, `refused` the numbers
    and reasons of what was refused, `told` what was found there.
    """

    lines: list[bytes] = field(default_factory=list)
    origins: list[int] = field(default_factory=list)
    refused: list[tuple[int, Reason]] = field(default_factory=list)
    told: dict[int, str] = field(default_factory=dict)


Origins = tuple[tuple[str, int], ...]
"""Where lines came from, one after the other: a name, such as a partition's, and the number of its lines."""

ARROW_TYPE = "application/vnd.apache.arrow.stream"
MSGPACK_TYPE = "application/vnd.msgpack"


class Passed(NamedTuple):
    """What one member of a set of exporters says of a body that it passes to another.

    `members` is a digest of who they are, `to` the address of the other, `models` are those that the body's sender may
    write, None for all. `whole` is a digest of the body of which this is a part.
    """

    members: str
    to: str
    models: frozenset[str] | None = None
    whole: int = 0


class Content(NamedTuple):
    """What a request says of its body: media type (lower case) and attributes of a CloudEvent (its `ce-…` headers).

    By its `key` a body that is sent again is known; it is empty where there is none. `passed` is there where another
    member of a set sends it.
    """

    type: str = "application/x-ndjson"
    attributes: Mapping[str, str] = MappingProxyType({})
    key: str = ""
    passed: Passed | None = None


class Pace:
    """How many entries to ask for at a time: few at first, as many as hold BATCH_BYTES, half after a time-out.

    It is never more than `most`: they may become larger from one to the next.
    """

    def __init__(self, most: int = BATCH_EVENTS) -> None:
        self.entries = 8
        self._most = most

    def learn(self, entries: int, size: int) -> None:
        """Go by an answer of so many entries, of `size` bytes together."""
        if entries:
            fitting = BATCH_BYTES * entries // max(size, 1)
            self.entries = max(1, min(self._most, 4 * self.entries, fitting))

    def slow_down(self) -> None:
        """Ask for less: the last answer did not come in time."""
        self.entries = max(1, self.entries // 2)


def by_bytes(pieces: Sequence[Piece], size: Callable[[Piece], int]) -> Iterator[Sequence[Piece]]:
    """Yield pieces in parts that become one body each: of BATCH_BYTES at most, or a single one."""
    begin = total = 0
    for number, piece in enumerate(pieces):
        if number > begin and total + size(piece) > BATCH_BYTES:
            yield pieces[begin:number]
            begin, total = number, 0
        total += size(piece)
    if pieces:
        yield pieces[begin:]


class Sink(Protocol):
    """What a source delivers to."""

    async def submit(
        self, source: str, body: bytes, arrived: float, position: bytes | None = None, *, origins: Origins = ()
    ) -> IntakeResult:
        """Take the events of a body, which arrived at `arrived` (Unix seconds); returns once they are durable.

        Raises QueueFullError, having taken nothing.
        """
        ...

    async def forget(self, source: str, kept: Collection[str], position: bytes) -> None:
        """Forget what waits for its label of all origins of a source but those `kept`: others see to it from now on.

        The source goes on at `position`.
        """
        ...

    async def refill(self, source: str, body: bytes, arrived: float, origins: Origins) -> None:
        """Let what others have counted wait for its label here, or for its prediction; it is durable with `hold`."""
        ...

    async def hold(self, source: str, position: bytes) -> None:
        """Make durable what was refilled, and that the source goes on at `position`; raises UnavailableError."""
        ...

    @property
    def refills(self) -> float | None:
        """How long anything waits for its label, in seconds; None where what waits is not kept over a restart."""
        ...

    async def add_up(self, shares: Mapping[str, bytes]) -> Mapping[str, str]:
        """Take what other exporters have counted, by who they are; returns why those that cannot be taken cannot."""
        ...

    def position(self, source: str) -> bytes | None:
        """Return the position that was stored with the last durable body of a source, None when there is none."""
        ...


class Health(NamedTuple):
    """Whether a source can deliver, how many events are known to wait beyond it, and what is wrong if it is not up.

    `rewritten` counts files that changed after they were read and were not read again, where the source tells, and
    `refill` messages that are read again, since they were counted elsewhere.
    """

    up: bool
    lag_events: float | None = None
    error: str | None = None
    rewritten: int | None = None
    refill: int | None = None


class Source(Protocol):
    """A pulling source. `health` may be asked at any time."""

    name: str
    health: Health

    async def run(self, sink: Sink) -> None:
        """Deliver events until cancelled; a broken connection is tried again, and shows in `health` meanwhile."""
        ...


async def deliver(
    sink: Sink, source: str, body: bytes, arrived: float, position: bytes | None = None, origins: Origins = ()
) -> IntakeResult:
    """Submit a body, waiting while the intake is full: what was pulled must not be lost."""
    while True:
        try:
            return await finish(sink.submit(source, body, arrived, position, origins=origins))
        except QueueFullError as full:
            await asyncio.sleep(full.retry_after)


async def hold(sink: Sink, source: str, position: bytes) -> None:
    """Make durable what was refilled, waiting while that cannot be."""
    while True:
        try:
            return await sink.hold(source, position)
        except UnavailableError as fault:
            await asyncio.sleep(fault.retry_after)


async def finish(work: Coroutine[Any, Any, Result]) -> Result:
    """Await `work` to its end even when cancelled meanwhile, for STOP_SECONDS at most; the cancellation comes after."""
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        _, unfinished = await asyncio.wait({task}, timeout=STOP_SECONDS)
        if unfinished:
            task.cancel()
            await asyncio.wait({task})
        raise


def stay_cancelled() -> None:
    """Raise CancelledError when this task was cancelled and a library has kept that to itself."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def persist(
    source: Source, attempt: Callable[[], Awaitable[None]], faults: tuple[type[Exception], ...], traceback: bool = False
) -> None:
    """Run `attempt` until it returns, and again after each of `faults`, pausing longer and longer until it is up.

    A fault shows in the source's health, and is logged when it is another one than before.
    """
    shortest, longest = RETRY_SECONDS
    pause = shortest
    while True:
        try:
            return await attempt()
        except faults as fault:
            if source.health.up:
                pause = shortest
            error = f"{type(fault).__name__}: {fault}"
            if error != source.health.error:
                _log.warning("source %s is down and will be tried again: %s", source.name, error, exc_info=traceback)
            source.health = Health(False, None, error)
        stay_cancelled()
        await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # nosec B311: not all exporters at once
        pause = min(2 * pause, longest)
