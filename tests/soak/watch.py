"""Scrapes once a second, all along, and looks at the process from outside."""

import http.client
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from gzip import decompress

import psutil

from tests.soak.subject import Subject
from tests.soak.traffic import Account

SCRAPE_SECONDS = 1.0
_HEADERS = {
    "Accept": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
    "Accept-Encoding": "gzip",
}
_PREDICTIONS = re.compile(r'^ml_model_predictions_total\{model="(\w+)",version="1"\} ([0-9.e+]+)', re.MULTILINE)


@dataclass(frozen=True)
class Look:
    """What one scrape and one look at the process told. Times in seconds, memory in bytes."""

    time: float
    process: int
    predictions: int
    latency: float
    memory: int
    files: int
    threads: int


@dataclass
class Watch:
    """The looks so far, and what was wrong. `predictions` is what the last scrape showed, by model."""

    subject: Subject
    accounts: Mapping[str, Account]
    looks: list[Look] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    predictions: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch")
        self._connection: http.client.HTTPConnection | None = None

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.wait(SCRAPE_SECONDS):
            if self.subject.restarting.is_set():
                self._disconnect()
                continue
            exporter = self.subject.exporter
            try:
                self._look(exporter.address, exporter.process.pid)
            except (OSError, http.client.HTTPException, psutil.Error) as error:
                self._disconnect()
                if not self.subject.restarting.is_set() and self.subject.exporter is exporter:
                    self.faults.append(f"a scrape failed: {type(error).__name__}: {error}")
        self._disconnect()

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _look(self, address: str, pid: int) -> None:
        if self._connection is None:
            self._connection = http.client.HTTPConnection(address, timeout=10)
        begin = time.perf_counter()
        self._connection.request("GET", "/metrics", headers=_HEADERS)
        answer = self._connection.getresponse()
        body = answer.read()
        latency = time.perf_counter() - begin
        if answer.status != 200:
            self.faults.append(f"a scrape was answered with {answer.status}")
            return
        shown = _PREDICTIONS.findall(decompress(body).decode())
        self._compare({model: int(float(count)) for model, count in shown if model in self.accounts})
        process = psutil.Process(pid)
        with process.oneshot():
            memory, threads = process.memory_info().rss, process.num_threads()
        self.looks.append(
            Look(time.time(), pid, sum(self.predictions.values()), latency, memory, process.num_fds(), threads)
        )

    def _compare(self, shown: Mapping[str, int]) -> None:
        """Counters never go back, not even over a restart, and show nothing that was not sent."""
        for model, before in self.predictions.items():
            if shown.get(model, 0) < before:
                self.faults.append(f"predictions of {model} went back from {before} to {shown.get(model, 0)}")
        for model, count in shown.items():
            if count > (sent := self.accounts[model].predictions.total()):
                self.faults.append(f"{count} predictions of {model} were counted when {sent} had been sent")
        self.predictions = dict(shown)
