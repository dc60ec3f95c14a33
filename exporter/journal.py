"""Group commit and checkpoints: makes bodies durable together, in a thread, while the event loop goes on.

All bodies that arrive while one transaction is under way share the next. Bodies are counted only when durable, in
the order of the journal; so what is counted is at any moment what the journal holds up to some entry, and a
checkpoint is a copy taken at that moment.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple, TypeVar, get_args

from exporter.sources.base import IntakeResult, UnavailableError
from exporter.store import Entry, Fault, Store, StoreError, pack

CHECKPOINT_SECONDS = 60.0
CHECKPOINT_BYTES = 256 * 1024 * 1024
"""A checkpoint is due after so much time or so many bytes in the journal (and twice its own size)."""

T = TypeVar("T")

_log = logging.getLogger(__name__)


class Faults:
    """What went wrong with the state: how often, by kind, and what is wrong now."""

    def __init__(self) -> None:
        self.counts: dict[Fault, int] = dict.fromkeys(get_args(Fault), 0)
        self.current: StoreError | None = None

    def note(self, error: StoreError, consequence: str) -> None:
        """Count a fault, and log it when it is another than the last."""
        self.counts[error.fault] += 1
        if self.current is None or self.current.fault != error.fault:
            _log.error("%s: %s", consequence, error)
        self.current = error

    def clear(self) -> None:
        """Note that all is well again."""
        if self.current is not None:
            _log.info("the state can be written again")
        self.current = None


class _Waiting(NamedTuple):
    source: str
    body: bytes
    arrived: float
    position: bytes | None
    when_durable: Callable[[], IntakeResult]
    outcome: "asyncio.Future[IntakeResult]"


class Journal:
    """Makes bodies durable in a store. `capture` returns copies of all state, by name."""

    def __init__(self, store: Store, capture: Callable[[], dict[str, Any]], faults: Faults) -> None:
        faults.clear()
        self._faults = faults
        self._store = store
        self._capture = capture
        self._thread = ThreadPoolExecutor(1, "journal")
        self._waiting: list[_Waiting] = []
        self._wake = asyncio.Event()
        self._bytes = 0
        self._checkpoint_bytes = 0
        self.last_checkpoint: float | None = None
        self.checkpoint_seconds: float | None = None

    async def commit(
        self,
        source: str,
        body: bytes,
        arrived: float,
        position: bytes | None,
        when_durable: Callable[[], IntakeResult],
    ) -> IntakeResult:
        """Make a body durable, then call `when_durable`; raises UnavailableError when it cannot be."""
        outcome: asyncio.Future[IntakeResult] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(source, body, arrived, position, when_durable, outcome))
        self._wake.set()
        return await outcome

    async def run(self) -> None:
        """Commit and checkpoint until cancelled."""
        checkpointed = time.monotonic()
        while True:
            try:
                async with asyncio.timeout(CHECKPOINT_SECONDS / 4):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            await self._commit_waiting()
            aged = time.monotonic() - checkpointed > CHECKPOINT_SECONDS
            if self._bytes > max(CHECKPOINT_BYTES, 2 * self._checkpoint_bytes) or (aged and self._bytes):
                await self.checkpoint()
                checkpointed = time.monotonic()

    async def stop(self) -> None:
        """Commit what waits, write a last checkpoint, and close the store."""
        await self._commit_waiting()
        await self.checkpoint()
        await self._in_thread(self._store.close)
        self._thread.shutdown()

    async def checkpoint(self) -> None:
        """Write all state as it is now; bodies go on being committed between its pieces."""
        started = time.monotonic()
        sequence = self._store.sequence
        journalled, self._bytes = self._bytes, 0
        parts = self._capture()
        try:
            generation = self._store.begin_checkpoint()
            size = 0
            for name, tree in parts.items():
                for number, piece in enumerate(pack(tree)):
                    await self._in_thread(partial(self._store.write_piece, name, generation, number, piece))
                    size += len(piece)
                    await self._commit_waiting()
            await self._in_thread(partial(self._store.finish_checkpoint, list(parts), generation, sequence))
        except StoreError as error:
            self._bytes += journalled
            self._faults.note(error, "checkpoint failed, the journal goes on")
            return
        self._checkpoint_bytes = size
        self.last_checkpoint = time.time()
        self.checkpoint_seconds = time.monotonic() - started

    async def _commit_waiting(self) -> None:
        group, self._waiting = self._waiting, []
        if not group:
            return
        first = self._store.sequence + 1
        entries = [Entry(first + i, w.source, w.arrived, w.body, w.position) for i, w in enumerate(group)]
        try:
            await self._in_thread(lambda: self._store.append(entries))
        except StoreError as error:
            self._faults.note(error, "nothing can be made durable")
            for waiting in group:
                if not waiting.outcome.done():
                    waiting.outcome.set_exception(UnavailableError(f"not durable: {error}"))
            return
        self._faults.clear()
        self._store.sequence += len(group)
        for waiting in group:
            self._bytes += len(waiting.body)
            result = waiting.when_durable()
            if not waiting.outcome.done():  # a caller that went away
                waiting.outcome.set_result(result)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)
