"""The collectors, and the scrapes made of them: each collector fails alone, and every body is made once per state."""

import asyncio
import logging
import platform
import time
from collections.abc import Callable, Collection, Hashable, Iterable
from dataclasses import dataclass

import numpy as np
from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.exposition import generate_latest as text_latest
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics_latest

from mlops_exporter import __version__
from mlops_exporter.exposition import catalogue
from mlops_exporter.exposition.budget import Budget
from mlops_exporter.exposition.samples import Collector, Rows, Samples
from mlops_exporter.exposition.text import gzip, render

_MAX_SCRAPES = 16  # formats times filters kept of one state; each scraper has one of them

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Scrape:
    """One exposition, and its compressed form once somebody asked for it."""

    body: bytes
    gzipped: asyncio.Future[bytes] | None = None


class Registry:
    """Makes expositions from collectors, once for all scrapers of a state.

    `generation` is asked at each scrape; as long as it returns the same value, the bodies made before are served again.
    So it must change whenever any sample may have changed, also by the passing of time. `process_*` and `python_info`
    come from prometheus_client and are as old as the rest of the body. Collectors that are `withheld` now give nothing.
    """

    def __init__(
        self,
        collectors: Iterable[Collector],
        generation: Callable[[], Hashable],
        now: Callable[[], float] = time.time,
        *,
        budget: Budget | None = None,
        withheld: Callable[[], Collection[str]] = frozenset,
    ) -> None:
        self._collectors = {collector.name: collector for collector in collectors}
        self._generation = generation
        self._now = now
        self.budget = budget or Budget()
        self._withheld = withheld
        self._failed: set[str] = set()
        self._rendered: Hashable = None
        self._scrapes: dict[tuple[bool, frozenset[str] | None], _Scrape] = {}
        self._process = CollectorRegistry()
        ProcessCollector(registry=self._process)
        PlatformCollector(registry=self._process)
        build = Rows(catalogue.EXPORTER_BUILD_INFO, [(__version__, platform.python_version())])
        self._build_info = Samples(build, np.ones(1))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the collectors."""
        return tuple(self._collectors)

    @property
    def collectors(self) -> tuple[Collector, ...]:
        """The collectors themselves."""
        return tuple(self._collectors.values())

    async def scrape(self, openmetrics: bool, gzipped: bool, collectors: frozenset[str] | None = None) -> bytes:
        """Return the exposition of the named collectors, of all when None; compressed when `gzipped`.

        What the exporter says of itself and of its process is always part of it.
        Raises KeyError for a name that no collector has.
        """
        generation = self._generation()
        if generation != self._rendered or len(self._scrapes) >= _MAX_SCRAPES:
            self._scrapes.clear()
            self._rendered = generation
        scrape = self._scrapes.get((openmetrics, collectors))
        if scrape is None:
            scrape = _Scrape(self._render(openmetrics, self.names if collectors is None else sorted(collectors)))
            self._scrapes[openmetrics, collectors] = scrape
        if not gzipped:
            return scrape.body
        if scrape.gzipped is None:  # in a thread: the event loop goes on while zlib works
            scrape.gzipped = asyncio.ensure_future(asyncio.to_thread(gzip, scrape.body))
        return await asyncio.shield(scrape.gzipped)  # one scraper that goes away must not take it from the others

    def _render(self, openmetrics: bool, names: Iterable[str]) -> bytes:
        withheld = self._withheld()
        samples = [s for name in names if name not in withheld for s in self._collect(self._collectors[name])]
        samples.append(self._build_info)
        latest = openmetrics_latest if openmetrics else text_latest
        process: bytes = latest(self._process)
        further = sum(not line.startswith(b"#") for line in process.splitlines())
        return process.removesuffix(b"# EOF\n") + render(self.budget.fit(samples, further), openmetrics)

    def _collect(self, collector: Collector) -> list[Samples]:
        """Return the collector's samples, none of them when it fails, and how it went."""
        begin = time.perf_counter()
        samples: list[Samples] = []
        failed = False
        try:
            samples.extend(collector.collect(self._now()))
        except Exception:
            samples.clear()
            failed = True
            if collector.name not in self._failed:
                _log.exception("collector %s fails: its samples are absent until it works again", collector.name)
        duration = time.perf_counter() - begin
        if failed:
            self._failed.add(collector.name)
        elif collector.name in self._failed:
            self._failed.discard(collector.name)
            _log.info("collector %s works again", collector.name)
        row = [(collector.name,)]
        samples.append(Samples(Rows(catalogue.EXPORTER_COLLECTOR_DURATION, row), np.array([duration])))
        samples.append(Samples(Rows(catalogue.EXPORTER_COLLECTOR_SUCCESS, row), np.array([float(not failed)])))
        return samples
