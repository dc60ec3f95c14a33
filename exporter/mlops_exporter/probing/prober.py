"""One probe: sends its rows at its pace, one request at a time, and keeps what the last pass found."""

import asyncio
import logging
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Literal, get_args

import numpy as np

from mlops_exporter.counting import buckets
from mlops_exporter.counting.ledger import Outputs
from mlops_exporter.probing.calls import CallError, call, in_thread
from mlops_exporter.probing.protocols import ProtocolError, Reply, reply, request
from mlops_exporter.probing.rows import Block, Rows, RowsError, gather
from mlops_exporter.probing.verdict import Performance, changed, performance, said
from mlops_exporter.profile.profile import Profile
from mlops_exporter.settings.models import ModelSettings
from mlops_exporter.settings.probes import ProbeSettings
from mlops_exporter.settings.tables import QuerySettings

FAILURES = ("connection", "timeout", "http_status", "answer", "credentials", "rows")
Failure = Literal["connection", "timeout", "http_status", "answer", "credentials", "rows"]
"""Why a request, or a pass before its first one, failed."""

UNKNOWN_VERSION = "unknown"
HEADER = "X-Mlops-Exporter-Probe"
"""Header of every request of a probe, so that servers and logs can tell it from users."""

LONGEST_START_SECONDS = 30.0
JITTER = 0.1
_REMEMBERED_VERSIONS = 16

Read = Callable[[str | QuerySettings], tuple[Iterable[Block], bool]]
"""Reads the rows: their blocks, and whether cells have types."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What one pass found of a version that answered `rows` of its rows. `changed` is None with nothing to compare."""

    version: str
    rows: int
    performance: dict[str, Performance]
    changed: float | None


@dataclass(slots=True)
class Latency:
    """Seconds of requests in the buckets of `buckets.LATENCY`."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(buckets.LATENCY) + 1))
    sum: float = 0.0

    def observe(self, seconds: float) -> None:
        """Count one request."""
        self.counts[bisect_left(buckets.LATENCY, seconds)] += 1
        self.sum += seconds


class _FailedError(Exception):
    """A request or the rows failed; the message says why."""

    def __init__(self, failure: Failure, message: str) -> None:
        super().__init__(message)
        self.failure = failure


class Prober:
    """Runs one probe of a model. What it shows of itself is of its last pass, and absent when that failed.

    A pass stops after `stop_after` failed requests in a row, and after the first one when the last pass failed, too.
    """

    def __init__(
        self,
        settings: ProbeSettings,
        model: ModelSettings,
        profile: Profile,
        read: Read,
        *,
        now: Callable[[], float] = time.time,
        random: Random | None = None,
    ) -> None:
        self.settings = settings
        self.model = model
        self.profile = profile
        self.results: tuple[ProbeResult, ...] = ()
        self.failures: dict[Failure, int] = dict.fromkeys(get_args(Failure), 0)
        self.requests = 0
        self.passes = 0
        self.failed_in_a_row = 0
        self.last_run: float | None = None
        self.last_success: float | None = None
        self.error: str | None = None
        self.latency = Latency()
        self._read = read
        self._now = now
        self._random = random or Random()  # nosec B311: chooses rows and pauses
        self._rows: tuple[Stamp | None, Rows] | None = None
        self._first: dict[str, tuple[Rows, Outputs]] = {}
        """What each version said when it was first asked, of which rows."""

    async def run(self) -> None:
        """Probe until cancelled: every now and then, never exactly on time, so that probes spread."""
        every = self.settings.every
        await asyncio.sleep(self._random.uniform(0, min(every, LONGEST_START_SECONDS)))
        while True:
            began = time.monotonic()
            await self.probe()
            pause = every * self._random.uniform(1 - JITTER, 1 + JITTER)
            await asyncio.sleep(max(0.0, began + pause - time.monotonic()))

    async def probe(self) -> None:
        """Make one pass."""
        self.last_run = self._now()
        try:
            rows = await in_thread(self._load)
            answered = await self._pass(rows)
        except _FailedError as error:
            self.results = ()
            self.failed_in_a_row += 1
            if str(error) != self.error:
                _log.warning("probe %s fails: %s", self.settings.name, error)
            self.error = str(error)
            return
        if self.error is not None:
            _log.info("probe %s works again", self.settings.name)
        self.results = await in_thread(lambda: tuple(self._judged(rows, answered)))
        self.error = None
        self.failed_in_a_row = 0
        self.passes += 1
        self.last_success = self._now()

    def _load(self) -> Rows:
        """Return the rows; a golden set is read again when its file changes, a sample each time."""
        place = self.settings.place
        try:
            stamp = _stamp(self.settings.rows)
            known = self._rows if self.settings.sample is None else None
            if known is not None and stamp is not None and known[0] == stamp:
                return known[1]
            blocks, typed = self._read(self.settings.rows)
            rows = gather(blocks, typed, self.settings, self.profile, self._random)
        except Exception as error:  # whatever is wrong with a table
            self.failures["rows"] += 1
            raise _FailedError("rows", f"{error}" if isinstance(error, RowsError) else f"{place}: {error}") from error
        if known is not None and rows.same_as(known[1]):
            rows = known[1]
        else:
            self._first.clear()
        self._rows = stamp, rows
        return rows

    async def _pass(self, rows: Rows) -> list[tuple[str, slice, Outputs]]:
        """Ask of all rows, and return which version said what of which. Raises _FailedError."""
        settings = self.settings
        pause = 1.0 / settings.requests_per_second
        patience = 1 if self.failed_in_a_row else settings.stop_after
        answered: list[tuple[str, slice, Outputs]] = []
        failure: _FailedError | None = None
        misses = 0
        for number, where in enumerate(rows.batches(settings.batch)):
            if number:
                await asyncio.sleep(pause)
            try:
                answered.append(await in_thread(lambda where=where: self._ask(rows, where)))  # type: ignore[misc]
                misses = 0
            except _FailedError as error:
                self.failures[error.failure] += 1
                failure = error
                misses += 1
                if misses >= patience:
                    break
        if failure is not None:
            raise failure
        return answered

    def _ask(self, rows: Rows, where: slice) -> tuple[str, slice, Outputs]:
        """Send one batch and read its answer."""
        settings = self.settings
        endpoint = settings.endpoint
        body = request(endpoint, self.profile, rows.batch(where))
        headers = {"Content-Type": "application/json", HEADER: settings.name}
        self.requests += 1
        began = time.perf_counter()
        try:
            answer = call("POST", endpoint.url, endpoint, body=body, headers=headers, timeout=settings.timeout)
            self.latency.observe(time.perf_counter() - began)
            found: Reply = reply(endpoint, answer.body, answer.headers, where.stop - where.start)
            outputs = said(found.outputs, settings.outputs, self.profile)
        except CallError as error:
            raise _FailedError(error.fault, str(error)) from None
        except ProtocolError as error:
            raise _FailedError("answer", f"{endpoint.url}: {error}") from None
        return found.version or settings.version or UNKNOWN_VERSION, where, outputs

    def _judged(self, rows: Rows, answered: list[tuple[str, slice, Outputs]]) -> Iterable[ProbeResult]:
        """Yield the verdict on each version that answered: behind a canary there are two."""
        for version in dict.fromkeys(version for version, _, _ in answered):
            mine = [(where, outputs) for name, where, outputs in answered if name == version]
            places = np.concatenate([np.arange(where.start, where.stop) for where, _ in mine])
            outputs = Outputs(*(np.concatenate(parts) for parts in zip(*(said for _, said in mine), strict=True)))
            found = performance(outputs, rows.labels[places], self.profile, self.model.threshold)
            yield ProbeResult(version, len(places), found, self._changed(version, rows, places, outputs))

    def _changed(
        self, version: str, rows: Rows, places: "np.ndarray[tuple[int], np.dtype[np.intp]]", outputs: Outputs
    ) -> float | None:
        """Return the share of outputs that are not the pinned ones, or those that the version gave at first."""
        pinned = rows.pinned if self._is_pinned(version) else None
        if pinned is None:
            first = self._first.get(version)
            if first is None and len(places) == len(rows) and self.settings.sample is None:
                if len(self._first) >= _REMEMBERED_VERSIONS:
                    del self._first[next(iter(self._first))]
                self._first[version] = rows, outputs
            if first is None or first[0] is not rows:
                return None
            pinned = first[1]
        return changed(outputs, pinned.rows(places), self.model.threshold, self.settings.tolerance)

    def _is_pinned(self, version: str) -> bool:
        pinned = self.settings.pinned
        return pinned is not None and pinned.version in (None, version)

    def origin(self, version: str) -> Literal["rows", "first_answer", "none"]:
        """Return where the outputs come from with which those of a version are compared."""
        if self._is_pinned(version):
            return "rows"
        return "first_answer" if version in self._first else "none"


Stamp = tuple[float, int]


def _stamp(rows: str | QuerySettings) -> Stamp | None:
    """Return what changes when a local file does; None where only reading tells."""
    path = Path(rows) if isinstance(rows, str) else None
    if path is None or not path.is_file():
        return None
    status = path.stat()
    return status.st_mtime, status.st_size
