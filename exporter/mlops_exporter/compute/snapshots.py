"""Handing what a sampling thread has measured to the threads that scrape it."""

import time
from typing import Generic, TypeVar

T = TypeVar("T")


class NoSnapshotError(RuntimeError):
    """The last sample failed."""


class StaleSnapshotError(NoSnapshotError):
    """The sampling thread has published nothing for too long: it hangs in the kernel or in a driver."""


class Published(Generic[T]):
    """The latest immutable snapshot of one concern: one writer, any number of readers, no lock.

    A snapshot that could not be taken, or is older than `max_age` seconds, is an error and never an old value.
    """

    def __init__(self, max_age: float) -> None:
        self._max_age = max_age
        self._state: tuple[int, float, T | Exception | None] = (0, time.monotonic(), None)

    def put(self, snapshot: T | Exception) -> None:
        """Publish a snapshot, or the error that prevented it, as the next generation."""
        self._state = (self._state[0] + 1, time.monotonic(), snapshot)

    @property
    def generation(self) -> int:
        """A number that grows with every snapshot, and once more when the latest becomes too old."""
        count, taken, _ = self._state
        return 2 * count + (time.monotonic() - taken > self._max_age)

    def get(self) -> T | None:
        """Return the latest snapshot, None before the first. Raises NoSnapshotError where there should be one."""
        _, taken, snapshot = self._state
        if isinstance(snapshot, Exception):
            raise NoSnapshotError(f"the last sample failed: {snapshot}") from snapshot
        if (age := time.monotonic() - taken) > self._max_age:
            raise StaleSnapshotError(f"no sample for {age:.0f} s, where {self._max_age:.0f} s is the most expected")
        return snapshot
