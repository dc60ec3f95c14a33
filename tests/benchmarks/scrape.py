"""Latency of scrapes over HTTP: ten scrapers, each once a second, of 10,000 series that change at every scrape."""

import asyncio
import http.client
import itertools
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import uvloop

from mlops_exporter.exposition.registry import Registry
from mlops_exporter.exposition.samples import Samples
from mlops_exporter.web.app import App
from mlops_exporter.web.server import listen, serve
from tests.standin import StandIn
from tests.support.exposition import bins_and_drift

GOAL_MILLISECONDS = 40.0
_HEADERS = {
    "Accept": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
    "Accept-Encoding": "gzip",
}


class Changing:
    """Series whose values are new at every scrape."""

    name = "changing"

    def __init__(self, series: int) -> None:
        self.samples = bins_and_drift(series)

    def collect(self, now: float) -> Iterator[Samples]:
        for samples in self.samples:
            yield Samples(samples.rows, samples.values * (now % 1))


def serve_series(series: int) -> None:
    """Serve on a free port, which the first line on stdout tells, until killed."""
    sockets = listen(["127.0.0.1:0"])
    print(sockets[0].getsockname()[1], flush=True)
    nothing = StandIn()
    app = App(Registry([Changing(series)], itertools.count().__next__), nothing, nothing)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(app, sockets, asyncio.Event()))


@contextmanager
def serving(series: int) -> Iterator[str]:
    """Run `serve_series` in a process of its own; yields `host:port`."""
    command = [sys.executable, "-m", "tests.benchmarks.scrape", "serve", str(series)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


def scrape_regularly(address: str, offset: float, scrapes: int, path: str = "/metrics") -> list[float]:
    """Scrape once a second on one connection, beginning `offset` seconds from now; return seconds of each scrape."""
    connection = http.client.HTTPConnection(address, timeout=10)
    begin = time.perf_counter() + offset
    latencies = []
    for scrape in range(scrapes):
        time.sleep(max(0.0, begin + scrape - time.perf_counter()))
        sent = time.perf_counter()
        connection.request("GET", path, headers=_HEADERS)
        response = connection.getresponse()
        body = response.read()
        latencies.append(time.perf_counter() - sent)
        assert response.status == 200, body
    connection.close()
    return latencies


def measure(address: str, offsets: Sequence[float], scrapes: int) -> tuple[float, float]:
    """Return (p50, p99) in milliseconds over one scraper per offset."""
    with ThreadPoolExecutor(len(offsets)) as pool:
        runs = pool.map(lambda offset: scrape_regularly(address, offset, scrapes), offsets)
        latencies = np.concatenate([run[1:] for run in runs])  # the first one also connects
    p50, p99 = np.percentile(latencies, [50, 99]) * 1e3
    return float(p50), float(p99)


def main() -> None:
    scrapers = 10
    spread = random.Random(1)
    with serving(series=10_000) as address:
        for name, offsets in (
            ("spread over the second", [spread.random() for _ in range(scrapers)]),
            ("all at the same moment", [0.1] * scrapers),
        ):
            p50, p99 = measure(address, offsets, scrapes=15)
            print(
                f"scrape 10000 series, {scrapers} scrapers, {name}: p50 {p50:.1f} ms, p99 {p99:.1f} ms "
                f"(goal p99 < {GOAL_MILLISECONDS:g} ms)"
            )


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve_series(int(sys.argv[2]))
    else:
        main()
