"""Handing what a sampling thread has measured to the threads that scrape it."""

import time
from typing import Generic, TypeVar

T = TypeVar("T")


class StaleSnapshotError(RuntimeError):
    """The sampling thread has published nothing for too long."""


class Published(Generic[T]):
    """The latest immutable snapshot of one concern: one writer, any number of readers, no lock.

    A snapshot that could not be taken, or is older than `max_age` seconds, is an error and never an old value.
    """

    def __init__(self, max_age: float) -> None:
        self._max_age = max_age
        self._state: tuple[int, float, T | Exception | None] = (0, 0.0, None)

    def put(self, snapshot: T | Exception) -> None:
        """Publish a snapshot, or the error that prevented it, as the next generation."""
        self._state = (self._state[0] + 1, time.monotonic(), snapshot)

    @property
    def generation(self) -> int:
        """Number of snapshots published so far."""
        return self._state[0]

    def get(self) -> T | None:
        """Return the latest snapshot, None before the first. Raises the error that stands in its place."""
        _, taken, snapshot = self._state
        if isinstance(snapshot, Exception):
            raise snapshot
        if snapshot is not None and (age := time.monotonic() - taken) > self._max_age:
            raise StaleSnapshotError(f"no sample for {age:.0f} s, where {self._max_age:.0f} s is the most expected")
        return snapshot
