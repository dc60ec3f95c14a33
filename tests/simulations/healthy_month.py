"""False pages over a healthy month, and how soon trouble is told: `make healthy-month`.

Ten models of all tasks, with 25 features, two attributes of groups and one event a second each, live through 30 days
in which nothing changes; two exporters share them. Then two models get trouble at a known time. Every metric of models,
data and intake that an alert reads comes from the exporter's own objects, which count the events; the machine's metrics
are left out. A scrape every 5 minutes (every minute in the second part) is shortened to one. Labels come with their
predictions. Inhibition and grouping are left out, so that real users see no more than what is counted here.
"""

import argparse
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from mlops_exporter.profile.profile import Task
from prometheus.source.render import ALERTS
from tests.simulations.scrapes import DAY, START, Exporter, asked, firings, read_by, record
from tests.simulations.streams import Stream, Trouble
from tests.support.prometheus import Prometheus

TASKS: tuple[Task, ...] = ("binary", "regression", "multiclass")
EXPORTERS = 2
STEP = 300


def live(directory: Path, numbers: list[int], days: int) -> set[str]:
    """Record the healthy days of one exporter's models; returns the names of the series that were scraped."""
    began = time.monotonic()
    streams = [Stream(f"model-{number}", TASKS[number % len(TASKS)], number, directory) for number in numbers]
    exporter = Exporter(streams, f"exporter-{numbers[0]}:10042")
    for day in range(days):
        record(exporter, directory, START + day * DAY, START + (day + 1) * DAY, STEP)
        print(f"{streams[0].name}…: day {day + 1} of {days} after {time.monotonic() - began:.0f} s", flush=True)
    return exporter.shown


def month(directory: Path, days: int, models: int) -> Counter[str]:
    """Count what fires in a healthy month, by severity; also `shown`, the alerts whose series were all there."""
    began = time.monotonic()
    parts = [directory / str(part) for part in range(EXPORTERS)]
    for part in parts:
        part.mkdir()
    with ProcessPoolExecutor(EXPORTERS) as pool:
        lives = [
            pool.submit(live, part, list(range(models))[number::EXPORTERS], days) for number, part in enumerate(parts)
        ]
        shown = set.union(*(each.result() for each in lives))
    (directory / "data").mkdir()
    for part in parts:
        for block in (part / "data").iterdir():
            block.rename(directory / "data" / block.name)
    unseen = [alert.name for alert in ALERTS if not read_by(alert) <= shown]
    print(f"without their series, and so not judged: {', '.join(unseen)}")
    with asked(directory) as server:
        found = judge(server, days)
    print(f"{days} healthy days, {models} models, {len(ALERTS)} rules: critical {found['critical']}, "
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


def delays(directory: Path) -> None:
    """Tell how long after its beginning trouble is told."""
    at = START + 26 * 3600
    troubles = {"drift": Trouble(at, shift=0.5), "accuracy": Trouble(at, wrong=0.061)}
    streams = [Stream(name, "binary", 100 + number, directory, troubles[name]) for number, name in enumerate(troubles)]
    exporter = Exporter(streams, "a:10042")
    record(exporter, directory, START, START + DAY, 60)
    record(exporter, directory, START + DAY, START + 32 * 3600, 60)
    with asked(directory) as server:
        for alert in ALERTS:
            for when, labels in firings(server, alert, START + 25 * 3600, START + 32 * 3600, 60):
                if "model" in labels:
                    minutes = (when - at) / 60
                    print(
                        f"{labels['model']}: {alert.name} {labels.get('metric', '')} {minutes:.0f} min after",
                        flush=True,
                    )


def main() -> None:
    """Run both parts, or the one that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--models", type=int, default=10)
    parser.add_argument("--only", choices=("month", "delays"))
    arguments = parser.parse_args()
    if arguments.only != "month":
        with tempfile.TemporaryDirectory() as directory:
            delays(Path(directory))
    if arguments.only != "delays":
        with tempfile.TemporaryDirectory() as directory:
            month(Path(directory), arguments.days, arguments.models)


if __name__ == "__main__":
    main()
