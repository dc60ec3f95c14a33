"""The exporter under test: started, killed, started again, with a clock that can be put wrong."""

import csv
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import httpx

from tests.soak.traffic import SLOTS, Logged, Pushed, Queued
from tests.support.exporter import ENVIRONMENT, Exporter, run, start_exporter, write_config
from tests.support.prometheus import eventually, free_port

FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
READY_SECONDS = 90.0
LOG = "events.ndjson"
FLOODED = "flooded"
"""A model that no sender knows: its versions come and go."""


class Subject:
    """One exporter in `directory`, with its state in `directory/state`. `restarting` is set while it may be away."""

    def __init__(self, directory: Path, redis_url: str, durable: bool = True) -> None:
        self.directory = directory
        self.restarting = threading.Event()
        self._durable = durable
        self._redis_url = redis_url
        self._port = free_port()
        self._clock = directory / "clock"
        self.set_clock(0)
        _build_profile(directory)
        self.configure(0.5)
        self.exporter = self._start()

    def configure(self, floor: float) -> None:
        """Write the configuration, with a benchmark of accuracy."""
        model = {
            "task": "binary",
            "profile": "model.json",
            "windows": ["1m", "15m", "24h"],
            "benchmarks": {"accuracy": {"min": floor}},
        }
        sources: list[dict[str, Any]] = [
            {"name": Pushed.model, "http": {}},
            {"name": Queued.model, "redis": {"url": self._redis_url, "stream": Queued.stream}},
            {"name": Logged.model, "file": {"path": f"{LOG}*"}},
        ]
        settings: dict[str, Any] = {"sources": sources, "limits": {"remembered_labels": 20_000}}
        if self._durable:
            settings["state"] = {"path": str(self.directory / "state")}
        names = (Pushed.model, Queued.model, Logged.model, FLOODED)
        write_config(self.directory, *({"name": name, **model} for name in names), **settings)

    def set_clock(self, seconds: int) -> None:
        """Put the clock of an exporter that was started with a false one off by so much."""
        self._clock.write_text(f"{seconds:+d}\n")

    def clock_error(self) -> float:
        """By how many seconds the exporter's clock is off."""
        answer = httpx.get(f"{self.exporter.url}/api/v1/status", trust_env=False, timeout=10).json()
        return float(answer["time"]) - time.time()

    def restart(
        self, number: signal.Signals, *, false_clock: bool = False, between: Callable[[], None] = lambda: None
    ) -> None:
        """End the process by a signal and start it again, on the same port; a false clock needs libfaketime.

        `between` is done while it is away.
        """
        self.restarting.set()
        self.stop(number)
        between()
        self.exporter = self._start(false_clock)
        self.restarting.clear()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End the process by a signal; asked politely it must say that it ended well."""
        self.restarting.set()
        self.exporter.process.send_signal(number)
        status = self.exporter.process.wait(timeout=READY_SECONDS)
        assert status == (0 if number == signal.SIGTERM else -number), f"exit status {status}"

    def end(self) -> None:
        """See to it that the process is gone."""
        self.exporter.process.kill()
        self.exporter.process.wait()

    def _start(self, false_clock: bool = False) -> Exporter:
        arguments = ["run"]
        if knows_reload():
            arguments.append("--web.enable-lifecycle")
        exporter = start_exporter(
            self.directory, *arguments, port=self._port, environment=self._environment(false_clock)
        )
        try:
            eventually(exporter.is_ready, READY_SECONDS)
        except BaseException:
            exporter.process.kill()
            exporter.process.wait()
            raise
        return exporter

    def _environment(self, false_clock: bool) -> dict[str, str]:
        if not false_clock or FAKETIME is None:
            return ENVIRONMENT
        return ENVIRONMENT | {
            "LD_PRELOAD": os.fspath(FAKETIME),
            "FAKETIME_TIMESTAMP_FILE": os.fspath(self._clock),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }


@cache
def knows_reload() -> bool:
    """Whether the exporter can read its configuration again."""
    return "--web.enable-lifecycle" in run("run", "--help", directory=Path.cwd()).stdout


def _build_profile(directory: Path) -> None:
    """Make the profile of the traffic with the command line."""
    rng = random.Random(7)
    with (directory / "train.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["slot", "amount", "age", "country", "score", "label"])
        for row in range(6000):
            score = rng.random()
            country = rng.choice(("DE", "FR"))
            label = int(rng.random() < 0.5)
            writer.writerow([f"s{row % SLOTS}", f"{rng.gauss(100, 10):.2f}", row % 80, country, f"{score:.3f}", label])
    options = ["--task", "binary", "--label", "label", "--score", "score", "--model-version", "1"]
    result = run("profile", "build", "--data", "train.csv", *options, "--output", "model.json", directory=directory)
    assert result.returncode == 0, result.stderr
