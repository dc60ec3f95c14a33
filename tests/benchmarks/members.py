"""Sorting the events of a body by member, beside decoding and counting them: what passing events on costs."""

import time

import numpy as np

from mlops_exporter.ingest.members import MemberSet, Split
from mlops_exporter.settings.sources import MembersSettings
from tests.benchmarks.panes import seconds
from tests.support import workload

BODY = 1000


def measure(events: int = 20_000, rounds: int = 5) -> tuple[float, float]:
    """Return microseconds of CPU an event to sort, and to decode and count: the best of interleaved rounds."""
    now = time.time()
    bodies = workload.bodies(events, BODY, now)
    urls = [f"http://exporter-{number}:10042" for number in range(3)]
    members = MemberSet(MembersSettings(urls=urls), urls[0])
    sorting = counting = np.inf
    for _ in range(rounds):
        began = time.process_time()
        for body in bodies:
            for _ in members.split(body, "", None, Split()):
                pass
        sorting = min(sorting, time.process_time() - began)
        counting = min(counting, seconds(b"\n".join(bodies), now))
    return sorting / events * 1e6, counting / events * 1e6


def main() -> None:
    """Print both."""
    sorting, counting = measure()
    print(f"members: sorting an event {sorting:.2f} µs, decoding and counting it {counting:.2f} µs")


if __name__ == "__main__":
    main()
