"""What a soak came to: judged, and as the tables of docs/reliability.md."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np

from tests.soak.watch import Look

STRETCHES = 10
SETTLING_SECONDS = 60.0
"""How long a process may grow after its start: NumPy, SQLite and the tables of ids reach their size."""

GROWTH = 1.10
"""By what factor memory may differ from then to the end."""

MORE_FILES = 5
MORE_THREADS = 2


@dataclass(frozen=True)
class Book:
    """What came of the events of one source."""

    source: str
    sent: int
    acknowledged: int
    refused: int
    counted: int
    lost: int
    doubled: int


@dataclass(frozen=True)
class Incident:
    """A fault, when it began, how long it lasted, and how long after it everything sent was counted."""

    name: str
    time: float
    seconds: float
    recovery: float


@dataclass
class Report:
    """All that was seen: `faults` are why it is not good, `left_out` what could not be tried and the reason."""

    looks: Sequence[Look] = ()
    books: list[Book] = field(default_factory=list)
    incidents: list[Incident] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)

    def judge(self) -> list[str]:
        """Return everything that is not as it should be."""
        return [*self.faults, *self._miscounts(), *self._growth()]

    def _miscounts(self) -> Iterator[str]:
        for book in self.books:
            if book.lost or book.doubled:
                yield f"{book.source}: {book.lost} events lost, {book.doubled} counted twice"
            if book.acknowledged != book.sent:
                yield f"{book.source}: {book.acknowledged} of {book.sent} events were acknowledged"

    def _growth(self) -> Iterator[str]:
        life = self.last_life()
        settled = [look for look in life if look.time > life[0].time + SETTLING_SECONDS]
        if not settled:
            return
        early, late = settled[: len(settled) // 4 + 1], settled[-(len(settled) // 4 + 1) :]
        before, after = (float(np.median([look.memory for look in part])) for part in (early, late))
        if after > GROWTH * before:
            yield f"memory grew from {before / 1e6:.0f} to {after / 1e6:.0f} MB"
        if (files := min(look.files for look in late)) > max(look.files for look in early) + MORE_FILES:
            yield f"file descriptors grew to {files}"
        if (threads := min(look.threads for look in late)) > max(look.threads for look in early) + MORE_THREADS:
            yield f"threads grew to {threads}"

    def last_life(self) -> list[Look]:
        """What was seen of the process that ran at the end."""
        return [look for look in self.looks if look.process == self.looks[-1].process]

    def tables(self) -> str:
        """Return the Markdown."""
        return "\n".join([*self._summary(), "", *self._books(), "", *self._marks(), "", *self._incidents()]) + "\n"

    def _summary(self) -> Iterator[str]:
        lives = len(list(groupby(look.process for look in self.looks)))
        minutes = (self.looks[-1].time - self.looks[0].time) / 60
        latencies = [1e3 * look.latency for look in self.looks]
        p50, p99 = np.percentile(latencies, [50, 99])
        yield (
            f"{minutes:.0f} minutes, {len(self.incidents)} faults, {lives} lives of the process, "
            f"{len(self.looks)} scrapes: p50 {p50:.0f} ms, p99 {p99:.0f} ms, slowest {max(latencies):.0f} ms."
        )
        for name, reason in self.left_out.items():
            yield f"Left out: {name} ({reason})."

    def _books(self) -> Iterator[str]:
        yield "| source | events sent | acknowledged | rightly refused | predictions counted | lost | doubled |"
        yield "|---|---|---|---|---|---|---|"
        for book in self.books:
            yield (
                f"| {book.source} | {book.sent} | {book.acknowledged} | {book.refused} | {book.counted} "
                f"| {book.lost} | {book.doubled} |"
            )

    def _marks(self) -> Iterator[str]:
        yield "| minute | faults so far | predictions | RSS, MB | descriptors | threads | scrape p50, ms | p99, ms |"
        yield "|---|---|---|---|---|---|---|---|"
        start, end = self.looks[0].time, self.looks[-1].time
        width = (end - start) / STRETCHES
        for number in range(STRETCHES):
            until = start + (number + 1) * width + 1e-6
            looks = [look for look in self.looks if until - width <= look.time < until]
            if not looks:
                continue
            p50, p99 = np.percentile([1e3 * look.latency for look in looks], [50, 99])
            last = looks[-1]
            faults = sum(incident.time < until for incident in self.incidents)
            yield (
                f"| {(last.time - start) / 60:.1f} | {faults} | {last.predictions} | {last.memory / 1e6:.0f} "
                f"| {last.files} | {last.threads} | {p50:.0f} | {p99:.0f} |"
            )

    def _incidents(self) -> Iterator[str]:
        yield "| fault | times | slowest recovery, s |"
        yield "|---|---|---|"
        times = Counter(incident.name for incident in self.incidents)
        for name, count in times.items():
            slowest = max(incident.recovery for incident in self.incidents if incident.name == name)
            yield f"| {name} | {count} | {slowest:.1f} |"
