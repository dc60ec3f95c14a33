"""Group commit and checkpoints: makes bodies durable together, in a thread, while the event loop goes on.

All bodies that arrive while one transaction is under way share the next. Bodies are counted only when durable, in
the order of the journal; so what is counted is at any moment what the journal holds up to some entry. A checkpoint
writes the counts of such a moment without copying them: they are left as they are until it is finished.
"""

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeVar, get_args

from mlops_exporter.events import clock
from mlops_exporter.ingest.body import Body
from mlops_exporter.ingest.store import Damaged, Fault, Store, StoreError
from mlops_exporter.ingest.trees import pack
from mlops_exporter.sources.base import UnavailableError

CHECKPOINT_SECONDS = 60.0
CHECKPOINT_BYTES = 256 * 1024 * 1024
"""A checkpoint is due after so much time or so many bytes in the journal (and its own size)."""

DEFERRED_BYTES = 64 * 1024 * 1024
"""Bodies made durable during one checkpoint; further ones wait for its end."""

ROOM_BYTES = 2 * DEFERRED_BYTES
"""Kept free beside the next checkpoint, for what is made durable while it is written, and for SQLite's log."""

SPARE_BYTES = 32 * 1024 * 1024
"""Kept free on the disk beside the next checkpoint, for SQLite's log."""

RETRY_SECONDS = 5.0
"""Until a checkpoint that failed is tried again for the journal's length: it costs as much as one that succeeds."""

SMALL_JOURNAL_BYTES = 8 * 1024 * 1024
"""Too little to be dropped early for the room that it takes."""

T = TypeVar("T")

_log = logging.getLogger(__name__)


class Faults:
    """What went wrong with the state: how often, by kind, what is wrong now, and which file a start did without."""

    def __init__(self) -> None:
        self.counts: dict[Fault, int] = dict.fromkeys(get_args(Fault), 0)
        self.current: StoreError | None = None
        self.damaged: dict[Damaged, float] = {}

    def note_damaged(self, damaged: Mapping[Damaged, str], replayed: int) -> None:
        """Note checkpoints that could not be read; the counts are what they would have been with them."""
        for which, why in damaged.items():
            self.damaged[which] = clock.now()
            _log.error(
                "%s: all is counted, by the other checkpoint and %d bodies since; look for faults of the disk",
                why,
                replayed,
            )

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
    """A body that is to become durable, then to be taken, after which `done` says so."""

    body: Body
    take: Callable[[], None]
    done: "asyncio.Future[None]"


class Counts(Protocol):
    """What is checkpointed."""

    def freeze(self) -> None:
        """Leave everything as it is until `thaw`."""

    def thaw(self) -> None:
        """Let everything change again."""

    def state(self) -> dict[str, Any]:
        """Return trees of live arrays, by name."""
        ...


class Change(Protocol):
    """What replaces what is counted, as a whole."""

    def state(self) -> dict[str, Any]:
        """Return trees of live arrays, by name, to go on from; the counts are frozen."""

    def apply(self) -> None:
        """Count by it from now on; the counts are frozen still."""


class Journal:
    """Makes bodies durable in a store, and checkpoints the counts."""

    def __init__(self, store: Store, counts: Counts, faults: Faults) -> None:
        store.begin()
        faults.clear()
        self._faults = faults
        self._store = store
        self._counts = counts
        self._deferred: list[Callable[[], None]] | None = None
        self._deferred_bytes = 0
        self._thread = ThreadPoolExecutor(1, "journal")
        self._waiting: list[_Waiting] = []
        self._wake = asyncio.Event()
        self._stopping = False
        self._changes: list[tuple[Change, asyncio.Future[None]]] = []
        self._bytes = 0
        self._room: tuple[int, int] | None = None
        self._retry_at = 0.0
        self._checkpoint_bytes = store.checkpoint_bytes()
        self.last_checkpoint: float | None = None
        """When all that is counted was last in a checkpoint."""
        self.checkpoint_seconds: float | None = None

    async def commit(self, body: Body, count: Callable[[], None]) -> None:
        """Make a body durable and see to it that it is counted; raises UnavailableError when it cannot be durable."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(body, count, done))
        self._wake.set()
        await done

    async def run(self) -> None:
        """Commit and checkpoint until `stop`, which must not be replaced by cancelling: a commit would lose its end.

        What a process left that was killed is checkpointed first. Else those that are killed time and again would start
        ever more slowly.
        """
        checkpointed = -math.inf if self._store.holds_bodies else time.monotonic()
        while not self._stopping:
            if self._store.was_removed:
                await self._renew()
                checkpointed = time.monotonic()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CHECKPOINT_SECONDS / 4):
                    await self._wake.wait()
            self._wake.clear()
            await self._commit_waiting()
            while self._changes:
                await self._change(*self._changes.pop(0))
                checkpointed = time.monotonic()
            aged = time.monotonic() - checkpointed > CHECKPOINT_SECONDS
            if self._long() or (aged and (self._store.holds_bodies or self._store.is_single)):
                await self.checkpoint()
                checkpointed = time.monotonic()
            elif aged:
                self.last_checkpoint = clock.now()  # it would say the same again
                checkpointed = time.monotonic()
        await self._commit_waiting()
        await self.checkpoint(alone=True)
        await self._in_thread(self._store.close)
        self._thread.shutdown()

    async def _renew(self) -> None:
        """Go on in a directory that was made again: with all that is counted, and a journal of what comes."""
        try:
            store = await self._in_thread(partial(Store, self._store.directory, anew=True))
            await self._in_thread(store.begin)
        except StoreError as error:
            self._faults.note(error, "the state cannot be made again")
            return
        _log.warning("%s was removed: the state is made again from what is counted", self._store.directory)
        former, self._store = self._store, store
        await self._in_thread(former.close)
        await self.checkpoint()

    def _long(self) -> bool:
        """Tell whether the journal is long enough, or the disk full enough, for a checkpoint to drop it."""
        if time.monotonic() < self._retry_at:
            return False
        if self._scarce:
            return self._bytes > SMALL_JOURNAL_BYTES
        return self._bytes > max(CHECKPOINT_BYTES, self._checkpoint_bytes)

    @property
    def _scarce(self) -> bool:
        """Whether the disk may soon be too full for the next checkpoint."""
        if self._room is None:
            return False
        disk, file = self._room
        return disk < self._checkpoint_bytes + SPARE_BYTES or disk + file < self._checkpoint_bytes + ROOM_BYTES

    async def read(self, name: str) -> Any:
        """Return a part as it was last checkpointed, None when there is none; raises StoreError."""
        return await self._in_thread(partial(self._store.read, name))

    async def change(self, change: Change) -> None:
        """Make `change`, once a checkpoint of what it goes on from is durable; raises StoreError, nothing changed.

        So whatever is in the journal is to be counted by what the checkpoint beside it belongs to.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._changes.append((change, done))
        self._wake.set()
        await done

    async def _change(self, change: Change, done: "asyncio.Future[None]") -> None:
        try:
            await self.checkpoint(change, alone=True)
        except Exception as error:  # whatever it is must not end the journal
            if not done.done():
                done.set_exception(error)
        else:
            if not done.done():
                done.set_result(None)

    def stop(self) -> None:
        """Let `run` commit what waits, write a last checkpoint, close the store, and end."""
        self._stopping = True
        self._wake.set()

    async def checkpoint(self, change: Change | None = None, *, alone: bool = False) -> None:
        """Write all state as it is now. Bodies go on being made durable meanwhile, and are counted afterwards.

        With a `change`, write its state and then apply it; raises StoreError when that cannot be. What is written
        `alone` stands twice instead of beside the one before: so that no body of before stays, or would be counted by
        what was changed.
        """
        started, written = time.monotonic(), False
        sequence = self._store.sequence
        journalled, self._bytes = self._bytes, 0
        self._counts.freeze()
        self._deferred, self._deferred_bytes = [], 0
        try:
            if self._scarce:
                await self._in_thread(self._store.forget_former)
            self._checkpoint_bytes = await self._write((change or self._counts).state(), sequence, alone)
            written = True
        except Exception as error:
            self._bytes += journalled
            self._retry_at = time.monotonic() + RETRY_SECONDS
            if isinstance(error, StoreError):
                self._faults.note(error, "checkpoint failed, the journal goes on")
            if change is not None or not isinstance(error, StoreError):
                raise
        else:
            if change is not None:
                change.apply()
            self.last_checkpoint = clock.now()
            self.checkpoint_seconds = time.monotonic() - started
        finally:
            self._counts.thaw()
            deferred, self._deferred, self._deferred_bytes = self._deferred, None, 0
            for count in deferred:
                count()
        if alone and written:
            await self._double()
        await self._drop()

    async def _double(self) -> None:
        """Write the checkpoint a second time, where there is room, while bodies go on being made durable."""
        try:
            disk, _ = await self._in_thread(self._store.room)
            if disk < self._checkpoint_bytes + SPARE_BYTES:
                return
            steps = self._store.double()
            while await self._in_thread(partial(next, steps, False)):
                await self._commit_waiting()
        except StoreError as error:
            self._faults.note(error, "the checkpoint stands there only once")

    async def _drop(self) -> None:
        """Drop what the checkpoint made dispensable, while bodies go on being made durable."""
        try:
            while await self._in_thread(self._store.drop):
                await self._commit_waiting()
        except StoreError as error:
            self._faults.note(error, "the journal cannot be shortened")

    async def _write(self, parts: dict[str, Any], sequence: int, alone: bool) -> int:
        """Write parts as the current checkpoint, and those kept that are not in use; returns their size in bytes."""
        store, size, counts = self._store, 0, dict.fromkeys(parts, 0)
        generation = await self._in_thread(store.begin_checkpoint)

        async def write(name: str, piece: memoryview | bytes) -> None:
            nonlocal size
            number = counts.setdefault(name, 0)
            await self._in_thread(partial(store.write_piece, name, generation, number, piece))
            counts[name] += 1
            size += len(piece)
            await self._commit_waiting()

        try:
            for name, tree in parts.items():
                for piece in pack(tree):
                    await write(name, piece)
            for name in store.others(parts):
                pieces = store.pieces(name)
                while (kept := await self._in_thread(partial(next, pieces, None))) is not None:
                    await write(name, kept)
            verbatim = [name for name, tree in parts.items() if isinstance(tree, bytes)]  # of what waits in them
            finish = partial(store.finish_checkpoint, counts, generation, sequence, verbatim, keep_former=not alone)
            await self._in_thread(finish)
        except BaseException:  # its pieces must not fill the disk; at the latest a start drops them
            await self._in_thread(partial(store.abandon_checkpoint, generation))
            raise
        return size

    async def _commit_waiting(self) -> None:
        if not self._waiting or self._deferred_bytes > DEFERRED_BYTES:
            return
        group, self._waiting = self._waiting, []
        try:
            await self._in_thread(partial(self._append, [waiting.body for waiting in group]))
        except StoreError as error:
            self._faults.note(error, "nothing can be made durable")
            for waiting in group:
                if not waiting.done.done():
                    waiting.done.set_exception(UnavailableError(f"not durable: {error}"))
            return
        self._faults.clear()
        for waiting in group:
            self._bytes += len(waiting.body.data)
            if self._deferred is None:
                waiting.take()
            else:
                self._deferred.append(waiting.take)
                self._deferred_bytes += len(waiting.body.data)
            if not waiting.done.done():  # its sender may have gone
                waiting.done.set_result(None)

    def _append(self, bodies: list[Body]) -> None:
        self._room = self._store.room()
        self._store.append(bodies)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)
