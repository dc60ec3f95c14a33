"""Logs of events, read as one stream in the order of time, in memory that does not grow with them.

A log may be out of order by `lateness` seconds: so far it is read ahead and sorted. What comes later than that is not
lost, but taken late. Several logs are merged; one that begins later is opened later, so a year of rotated files is no
more than two open ones.
"""

import gzip
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import compress
from pathlib import Path
from typing import Annotated, BinaryIO, Protocol, cast

import msgspec
import numpy as np
from msgspec import Meta

from mlops_exporter.arrays import Floats
from mlops_exporter.events.reasons import CLOCK_SKEW_SECONDS, Reason
from mlops_exporter.ingest.intake import BATCH_EVENTS
from mlops_exporter.sources.lines import ndjson

CHUNK_BYTES = 1024 * 1024
_PEEK_BYTES = 64 * 1024


_Time = Annotated[datetime, Meta(tz=True)] | Annotated[float, Meta(ge=0)] | None


class _Stamp(msgspec.Struct, gc=False):
    """All that is read of an event here."""

    ts: _Time = None


_decoder = msgspec.json.Decoder(_Stamp)


class _Ordered(Protocol):
    """A log that knows the time of its next event, infinity at its end."""

    next: float

    def open(self) -> None:
        """Read the beginning, so that `next` is known."""


class RowsInOrder(_Ordered, Protocol):
    """A log of rows, which come as bodies."""

    def take(self, until: float) -> tuple[Floats, Iterator[bytes]]:
        """Return the times, ascending, of rows up to `until` that were not taken yet, and the rows as bodies."""
        ...


class Merge:
    """Several logs as one. `now` is Unix seconds: events beyond it are refused.

    `refused` counts, by reason, what has no usable time and is left out, `late` what came too late to be in order.
    """

    def __init__(self, paths: Sequence[Path], lateness: float, now: float) -> None:
        self.refused: Counter[Reason] = Counter()
        self.late = 0
        self._logs = [_Log(path, lateness, now, self.refused) for path in paths]
        self._rows: list[RowsInOrder] = []
        self._until = -math.inf

    def add(self, logs: Iterable[RowsInOrder]) -> None:
        """Merge logs of rows, too."""
        self._rows += logs

    @property
    def next(self) -> float:
        """Time of the earliest event that was not taken yet, infinity at the end."""
        logs: list[_Ordered] = [*self._logs, *self._rows]
        for log in logs:
            if log.next == -math.inf:
                log.open()
        return min((log.next for log in logs), default=math.inf)

    def bodies(self, until: float) -> Iterator[bytes]:
        """Yield all events up to a time that were not taken yet, some to a body."""
        former = self._until
        lines = self.take(until)
        for first in range(0, len(lines), BATCH_EVENTS):
            yield b"\n".join(lines[first : first + BATCH_EVENTS])
        for log in self._rows:
            times, bodies = log.take(until)
            self.late += int(np.searchsorted(times, former, "right"))
            yield from bodies
        self._rows = [log for log in self._rows if log.next < math.inf]

    def take(self, until: float) -> list[bytes]:
        """Return the lines of events up to a time that were not taken yet, in the order of time."""
        parts = [part for log in self._logs if (part := log.take(until))[1]]
        self._logs = [log for log in self._logs if log.next < math.inf]
        late, self._until = self._until, until
        self.late += sum(int(np.searchsorted(times, late, "right")) for times, _ in parts)
        if len(parts) < 2:
            return parts[0][1] if parts else []
        order = np.argsort(np.concatenate([times for times, _ in parts]), kind="stable").tolist()
        lines = [line for _, lines in parts for line in lines]
        return [lines[index] for index in order]


class _Log:
    """One file, NDJSON or such compressed by gzip."""

    def __init__(self, path: Path, lateness: float, now: float, refused: "Counter[Reason]") -> None:
        self._path = path
        self._lateness = lateness
        self._latest = now + CLOCK_SKEW_SECONDS
        self._refused = refused
        self._file: BinaryIO | None = None
        self._over = False
        self._newest = -math.inf
        self._times = np.empty(0)
        self._lines: list[bytes] = []
        self._at = 0
        self.next = -math.inf
        if path.is_file():
            with _open(path) as file:
                times, _ = _read(file, _PEEK_BYTES, self._latest, Counter())
            self.next = float(times.min()) if len(times) else -math.inf

    def open(self) -> None:
        """Read the beginning, so that `next` is known."""
        self._read_ahead(-math.inf)

    def take(self, until: float) -> tuple[Floats, list[bytes]]:
        """Return the times, ascending, and the lines of events up to `until` that were not taken yet."""
        if self.next > until + self._lateness:
            return self._times[:0], []
        self._read_ahead(until + self._lateness)
        begin = self._at
        self._at = end = int(np.searchsorted(self._times, until, "right"))
        self._look()
        return self._times[begin:end], self._lines[begin:end]

    def _read_ahead(self, time: float) -> None:
        """Read until an event is younger than `time`, at least one, and keep all in order."""
        times, lines = [self._times[self._at :]], self._lines[self._at :]
        if self._file is None and not self._over:
            self._file = _open(self._path)
        while self._file is not None and (self._newest <= time or not sum(map(len, times))):
            more_times, more_lines = _read(self._file, CHUNK_BYTES, self._latest, self._refused)
            if not more_lines:
                self._file.close()
                self._file, self._over = None, True
                break
            if len(more_times):
                self._newest = max(self._newest, float(more_times.max()))
            times.append(more_times)
            lines += more_lines
        if len(times) > 1:
            self._times, self._lines, self._at = np.concatenate(times), lines, 0
            if np.any(self._times[1:] < self._times[:-1]):
                order = np.argsort(self._times, kind="stable")
                self._times, self._lines = self._times[order], [lines[index] for index in order.tolist()]
        self._look()

    def _look(self) -> None:
        left = self._at < len(self._times)
        self.next = float(self._times[self._at]) if left else math.inf if self._over else self._newest


def _open(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def _read(file: BinaryIO, size: int, latest: float, refused: "Counter[Reason]") -> tuple[Floats, list[bytes]]:
    """Return times and lines of the next events, both empty at the end of the file only."""
    while chunk := file.read(size):
        if not chunk.endswith(b"\n"):
            chunk += file.readline()
        lines = [line for line in ndjson(chunk).split(b"\n") if line.strip()]
        times = np.fromiter(_times(lines, refused), np.float64, len(lines))
        future = times > latest
        if future.any():
            refused["future_timestamp"] += int(np.count_nonzero(future))
            times[future] = np.nan
        usable = ~np.isnan(times)
        if not usable.all():
            times, lines = times[usable], list(compress(lines, usable.tolist()))
        if lines:
            return times, lines
    return np.empty(0), []


def _times(lines: Sequence[bytes], refused: "Counter[Reason]") -> Iterable[float]:
    """Return each line's time, NaN where there is none to be had."""
    try:
        stamps = _decoder.decode_lines(b"\n".join(lines))
        if all(stamp.ts is not None for stamp in stamps) and len(stamps) == len(lines):
            return [_seconds(stamp.ts) for stamp in stamps]
    except msgspec.MsgspecError:
        pass
    return _each_time(lines, refused)


def _each_time(lines: Iterable[bytes], refused: "Counter[Reason]") -> Iterator[float]:
    for line in lines:
        found = _time(line)
        if isinstance(found, float):
            yield found
        else:
            refused[found] += 1
            yield math.nan


def _time(line: bytes) -> float | Reason:
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return "malformed_json"
    if not isinstance(event, dict):
        return "not_an_object"
    try:
        time = msgspec.convert(event.get("ts"), type=_Time)
    except msgspec.ValidationError:
        return "bad_timestamp"
    return "bad_timestamp" if time is None else _seconds(time)


def _seconds(time: datetime | float | None) -> float:
    return time if isinstance(time, float) else cast(datetime, time).timestamp()
