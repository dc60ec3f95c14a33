"""A quarter of ordinary life, and twelve faults beside it: `make ordinary-quarter`.

Ten models of all tasks, with 25 features, shared by two exporters, live through thirteen weeks: day and night with a
rhythm of a standard deviation in three features, sessions, nights without events, weekends, a holiday, growth by half,
a release a week with a day as a canary, labels that are late for an hour and for a day, exporters that start anew
without their state, a Prometheus that does, a clock that is an hour ahead, a batch of 100,000 events of ten days ago.
Nobody may be paged, and there may be two warnings a week. Then twelve faults must each be told within their time.

Every metric of models, data and intake that an alert reads comes from the exporter's own objects; those of the machine
are left out. A scrape every 5 minutes (every minute around the faults) is shortened to one. A real Prometheus answers
the shipped expressions; inhibition and grouping are left out, so that users see no more than what is counted here. The
versions of a model share one profile.
"""

import argparse
import math
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mlops_exporter.profile.profile import Task
from mlops_exporter.settings.models import Benchmark, ModelSettings
from prometheus.source.render import ALERTS
from tests.simulations import calendar
from tests.simulations.calendar import within
from tests.simulations.ordinary import Ordinary
from tests.simulations.scrapes import DAY, HOUR, START, Exporter, Firing, asked, firings, record
from tests.support.prometheus import Prometheus

TASKS: tuple[Task, ...] = ("binary", "regression", "multiclass")
EXPORTERS = 2
WEEKS = 13
STEP = 300
WARNINGS = 2
"""How many warnings a week of ordinary life may bring."""


class Restarting(Exporter):
    """An exporter to which the calendar happens."""

    def __init__(self, streams: list[Ordinary], instance: str) -> None:
        super().__init__(streams, instance)
        self._ordinary, self._instance = streams, instance

    def live(self, start: float, seconds: int) -> None:
        """Let a stretch of time pass."""
        passed = start - START
        if any(at <= passed < at + seconds for at in calendar.RESTARTS):
            shown = self.shown
            super().__init__(self._ordinary, self._instance)
            self.shown |= shown
        ahead = HOUR if within(start, calendar.STEPPED) else 0.0
        for stream, model in zip(self._ordinary, self._service.models, strict=True):
            stream.live(model, start, seconds, ahead=ahead)
            if calendar.BACKFILLED <= passed < calendar.BACKFILLED + seconds:
                stream.remember(model, calendar.HISTORY, 10 * DAY, start)

    def scrape(self, now: float) -> Iterator[str]:
        """Yield what a scrape shows, unless nobody scrapes."""
        if not within(now, *calendar.UNSCRAPED):
            yield from super().scrape(now)


def live(directory: Path, numbers: list[int], days: int) -> set[str]:
    """Record the life of one exporter's models; returns the names of the series that were scraped."""
    began = time.monotonic()
    streams = [
        Ordinary(f"model-{number}", TASKS[number % len(TASKS)], number, directory, sleeps=number % 2 == 1)
        for number in numbers
    ]
    exporter = Restarting(streams, f"exporter-{numbers[0]}:10042")
    for day in range(days):
        record(exporter, directory, START + day * DAY, START + (day + 1) * DAY, STEP)
        print(f"{streams[0].name}…: day {day + 1} of {days} after {time.monotonic() - began:.0f} s", flush=True)
    return exporter.shown


def quarter(directory: Path, days: int, models: int) -> Counter[str]:
    """Count what fires in ordinary life, by severity."""
    began = time.monotonic()
    parts = [directory / str(part) for part in range(min(EXPORTERS, models))]
    for part in parts:
        part.mkdir()
    with ProcessPoolExecutor(len(parts)) as pool:
        lives = [
            pool.submit(live, part, list(range(models))[number :: len(parts)], days)
            for number, part in enumerate(parts)
        ]
        for each in lives:
            each.result()
    (directory / "data").mkdir()
    for part in parts:
        for block in (part / "data").iterdir():
            block.rename(directory / "data" / block.name)
    with asked(directory) as server:
        found = judge(server, days)
    print(f"{days} ordinary days, {models} models, {len(ALERTS)} rules: critical {found['critical']}, "
          f"warning {found['warning']}, info {found['info']} ({time.monotonic() - began:.0f} s)")  # fmt: skip
    return found


def judge(server: Prometheus, days: int) -> Counter[str]:
    """Count the firings of all alerts but the one that always fires."""
    found: Counter[str] = Counter()
    for alert in ALERTS:
        if alert.category == "watchdog":
            continue
        for at, labels in firings(server, alert, START + STEP, START + days * DAY, STEP):
            found[alert.severity] += 1
            print(f"fired: {alert.severity} {alert.name} after {(at - START) / DAY:.2f} days {labels}", flush=True)
    return found


class Fault(NamedTuple):
    """Something that breaks, the alert that tells of it, and within how many minutes it does."""

    what: str
    alert: str
    minutes: int
    task: Task = "binary"


FAULTS = {
    "wrong": Fault("A quarter of the predictions becomes wrong", "MLModelPerformanceBelowBenchmark", 60),
    "burning": Fault("Half of the predictions becomes wrong", "MLErrorBudgetBurnFast", 60),
    "drifted": Fault("Five features move, and an eighth of the predictions becomes wrong", "MLFeatureDrift", 45),
    "missing": Fault("A feature is missing in a third of the events", "MLFeatureMissing", 45),
    "unusable": Fault("A feature no longer arrives", "MLFeatureUnusable", 45),
    "invalid": Fault("A third of a feature's values is invalid", "MLFeatureInvalid", 45),
    "unseen": Fault("A third of a feature's categories is new", "MLFeatureUnseenCategories", 45),
    "scored": Fault("Scores move, and predictions with them", "MLPredictionDrift", 45),
    "unfair": Fault("One group is refused", "MLFairnessOutsideBenchmark", 60),
    "failing": Fault("A fifth of the predictions fails", "MLPredictionFailures", 30),
    "slow": Fault("Predictions take thirty times as long", "MLPredictionLatencyHigh", 30),
    "silent": Fault("A model gets no traffic", "MLNoPredictions", 45),
}
BROKEN_AT = START + DAY + 11 * HOUR
WATCHED = 90 * 60


def _break(fault: str, made: dict[str, Any]) -> None:
    """Change what a model's events say."""
    n = len(made["labels"])
    third = np.arange(n) % 3 == 0
    match fault:
        case "wrong" | "burning":
            other = np.arange(n) % (4 if fault == "wrong" else 2) == 0
            made["labels"][other] = 1 - made["predictions"][other]
        case "drifted":
            made["numeric"][3:8] += 1.0
            other = np.arange(n) % 8 == 0  # what does no harm is told as information
            made["labels"][other] = 1 - made["predictions"][other]
        case "missing":
            made["numeric"][10, third] = np.nan
        case "unusable":
            made["numeric"][10] = np.nan
        case "invalid":
            made["numeric"][11, third] = np.inf
        case "unseen":
            made["codes"][2, third] = made["codes"].max() + 1  # the code of all that the profile does not list
        case "scored":
            made["scores"][:, 1] = made["scores"][:, 1] ** 0.3
            made["predictions"] = np.where(made["failed"], np.nan, made["scores"][:, 1] >= 0.5)
        case "unfair":
            refused = made["codes"][0] == made["codes"][0].min()
            made["predictions"][refused & ~made["failed"]] = 0.0
        case "failing":
            made["failed"] |= np.arange(n) % 5 == 0
            made["predictions"][made["failed"]] = np.nan
            made["scores"][made["failed"]] = np.nan
            made["labels"][made["failed"]] = np.nan
        case "slow":
            made["latencies"] *= 30


class Breaking(Ordinary):
    """An ordinary model of which something breaks, without the daily rhythm that is told as drift by itself.

    A budget burns at 14.4 times its pace only where less than 7 % may be wrong: `burning` is that good a model.
    """

    def __init__(self, fault: str, seed: int, directory: Path, at: float) -> None:
        self._good = fault == "burning"
        super().__init__(fault, FAULTS[fault].task, seed, directory, rhythm=0)
        self.fault, self.fault_at = (lambda made: _break(fault, made)), at

    @property
    def settings(self) -> ModelSettings:
        """The model as a user would configure it."""
        settings = super().settings
        return settings.model_copy(update={"benchmarks": {"accuracy": Benchmark(min=0.97)}}) if self._good else settings

    def _outcomes(self, n: int, wrong: float) -> Any:
        scores, predictions, labels = super()._outcomes(n, wrong)
        if self._good:
            labels = np.where(self._rng.random(n) < 0.01, 1 - predictions, predictions)
        return scores, predictions, labels

    def live(self, model: Any, start: float, seconds: int, *, ahead: float = 0.0) -> None:
        """Let the model count what happens in a stretch of time."""
        if self.name != "silent" or start < self.fault_at:
            super().live(model, start, seconds, ahead=ahead)


def faults(directory: Path, names: list[str], lived: int = DAY + 11 * HOUR) -> dict[str, float | None]:
    """Return how many minutes after it began each fault was told, None if it was not in time.

    An alert that fired in the hour before is a false alarm, and proves nothing of the fault.
    Models have `lived` so many seconds when they break.
    """
    seeds = {name: 100 + number for number, name in enumerate(FAULTS)}  # whatever else breaks
    broken = [Breaking(name, seeds[name], directory, BROKEN_AT) for name in names]
    exporter = Restarting([*broken], "a:10042")
    record(exporter, directory, BROKEN_AT - lived, BROKEN_AT, STEP)
    record(exporter, directory, BROKEN_AT, BROKEN_AT + WATCHED, 60)
    by_name = {alert.name: alert for alert in ALERTS}
    found: dict[str, float | None] = {}
    with asked(directory) as server:
        for name in names:
            fault = FAULTS[name]
            told = [
                (firing.at - BROKEN_AT) / 60
                for firing in _after(server, fault.alert, by_name)
                if firing.labels.get("model") == name
            ]
            found[name] = in_time(told, fault.minutes)
            shown = f"told after {min(told):.0f} minutes" if told else "never told"
            shown = f"{shown}, as before it broke" if told and min(told) < 0 else shown
            print(f"{fault.what}: {fault.alert} {shown}, promised within {fault.minutes}", flush=True)
    return found


def in_time(told: Sequence[float], promised: float) -> float | None:
    """Return how many minutes after it began a fault was told, None if too late, never, or before it began."""
    first = min(told, default=math.inf)
    return first if 0 <= first <= promised else None


def _after(server: Prometheus, alert: str, by_name: dict[str, Any]) -> list[Firing]:
    return firings(server, by_name[alert], BROKEN_AT - HOUR, BROKEN_AT + WATCHED, 60)


def main() -> int:
    """Run both parts, or the one that is asked for; 1 when ordinary life was told of, or a fault was not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weeks", type=int, default=WEEKS)
    parser.add_argument("--models", type=int, default=10)
    parser.add_argument("--only", choices=("life", "faults"))
    parser.add_argument("--fault", choices=FAULTS, action="append", help="break this alone, and again for another")
    arguments = parser.parse_args()
    good = True
    if arguments.only != "life":
        with tempfile.TemporaryDirectory() as directory:
            good &= None not in faults(Path(directory), arguments.fault or list(FAULTS)).values()
    if arguments.only != "faults":
        with tempfile.TemporaryDirectory() as directory:
            found = quarter(Path(directory), 7 * arguments.weeks, arguments.models)
            good &= found["critical"] == 0 and found["warning"] <= WARNINGS * arguments.weeks
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
