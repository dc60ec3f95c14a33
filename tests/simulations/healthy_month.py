"""False pages over a healthy month, and how soon trouble is told: `make healthy-month`.

Ten models with 25 features and one event a second each live through 30 days in which nothing changes; then two models
get trouble at a known time. The exporter's own objects count the events on a simulated clock, and what a scrape every
5 minutes (every minute in the second part) would show goes into a real Prometheus by way of
`promtool tsdb create-blocks-from openmetrics`. There each alert's expression is asked for every evaluation as a range
query, with recording rules and thresholds put in their place in the text; `for` and `keep_firing_for` are applied here
as Prometheus does. Inhibition and grouping are left out, so that real users see no more than what is counted here.
"""

import argparse
import re
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exporter.collectors import DataCollector, IntakeCollector, ModelCollector
from exporter.config import Benchmark, Config, Limits, ModelSettings
from exporter.estimation import LossEstimation
from exporter.estimation_collector import EstimationCollector
from exporter.ledger import Outputs
from exporter.loading import Loading
from exporter.model import Model
from exporter.profile.build import Request, build
from exporter.profile.profile import Task
from exporter.samples import Collector
from exporter.service import Options, Service
from prometheus.source.alert import Alert
from prometheus.source.render import ALERTS, RECORDS
from prometheus.source.thresholds import THRESHOLDS
from tests.integration.prometheus import Prometheus, running_prometheus

Floats = NDArray[np.float64]

START = 1_760_000_000 // 86_400 * 86_400
DAY = 86_400
NUMERIC, CATEGORICAL = 20, 5
REFERENCE = 20_000
LABELLED, FAILED = 0.9, 0.001
TARGET = 'job="mlops-exporter",instance="a:10042"'
COLOURS = np.array(["red", "green", "blue", "white", "black"])


@dataclass
class Trouble:
    """What changes from `at` (Unix seconds) on: three features' means, in standard deviations, or accuracy."""

    at: float
    shift: float = 0.0
    wrong: float = 0.0


class Stream:
    """A model's events: 25 features and, half of the models each, a class with its score or a number."""

    def __init__(self, name: str, number: int, directory: Path, trouble: Trouble | None = None) -> None:
        self.rng = np.random.default_rng(number)
        self.task: Task = "binary" if number % 2 == 0 else "regression"
        self.trouble = trouble
        table = directory / f"{name}.csv"
        self._write(table)
        scores = {"1": "score"} if self.task == "binary" else {}
        exclude = ("label", "prediction", "score")
        request = Request(
            table, self.task, scores=scores, positive="1" if scores else None, model_version="1",
            label="label", prediction="prediction",
            features=tuple(column for column in self._columns() if column not in exclude),
        )  # fmt: skip
        self.profile, _ = build(request)
        agreed = "accuracy" if self.task == "binary" else "mae"
        benchmark = (
            {"accuracy": Benchmark(max_drop=0.03), "roc_auc": Benchmark(max_drop=0.03)}
            if self.task == "binary"
            else {agreed: Benchmark(max_increase=0.1)}
        )
        settings = ModelSettings(
            name=name, task=self.task, profile=table, positive="1" if scores else None, benchmarks=benchmark
        )
        self.model = Model(settings, self.profile, Limits())
        self.model.admit({"1"})
        self.version = self.model.versions["1"]
        self.codes = [self.profile.features[f"c{i}"].codes for i in range(CATEGORICAL)]  # type: ignore[union-attr]

    def _columns(self) -> list[str]:
        return [*(f"n{i}" for i in range(NUMERIC)), *(f"c{i}" for i in range(CATEGORICAL))]

    def _features(self, n: int, shift: float) -> tuple[Floats, NDArray[np.int64]]:
        numeric = self.rng.standard_normal((NUMERIC, n))
        numeric[:3] += shift
        numeric[10:] = np.exp(numeric[10:])
        numeric[5:8][self.rng.random((3, n)) < 0.05] = np.nan
        categories = self.rng.choice(len(COLOURS), (CATEGORICAL, n), p=[0.4, 0.3, 0.15, 0.1, 0.05])
        return numeric, categories

    def _outcomes(self, n: int, wrong: float) -> tuple[Floats, Floats, Floats]:
        """Prediction, score (calibrated) and label; `wrong` is the share of right predictions made wrong."""
        if self.task == "regression":
            prediction = self.rng.normal(20.0, 5.0, n)
            return prediction, np.full(n, np.nan), prediction + self.rng.normal(0.0, 2.0 * (1 + 5 * wrong), n)
        score = self.rng.beta(0.5, 0.5, n)
        label = (self.rng.random(n) < score).astype(float)
        prediction = (score >= 0.5).astype(float)
        flipped = self.rng.random(n) < wrong
        label[flipped] = 1 - prediction[flipped]
        return prediction, score, label

    def _write(self, table: Path) -> None:
        numeric, categories = self._features(REFERENCE, 0.0)
        prediction, score, label = self._outcomes(REFERENCE, 0.0)
        outcomes = [label, prediction] + ([score] if self.task == "binary" else [])
        header = [*self._columns(), "label", "prediction", *(["score"] if self.task == "binary" else [])]
        as_text = "%d" if self.task == "binary" else "%.6f"
        with table.open("w") as file:
            file.write(",".join(header) + "\n")
            for row in range(REFERENCE):
                cells = ["" if np.isnan(v) else f"{v:.6f}" for v in numeric[:, row]]
                cells += COLOURS[categories[:, row]].tolist()
                cells += [as_text % outcomes[0][row], as_text % outcomes[1][row]]
                cells += [f"{outcomes[2][row]:.6f}"] if len(outcomes) > 2 else []
                file.write(",".join(cells) + "\n")

    def _outputs(self, prediction: Floats, scores: Floats) -> Outputs:
        """What the model said; a regression's expected losses are not known here."""
        expects_losses = isinstance(self.model.estimation, LossEstimation)
        losses = np.full((len(prediction), 2 if expects_losses else 0), np.nan)
        return Outputs.plain(prediction, scores)._replace(losses=losses)

    def live(self, start: float, seconds: int) -> None:
        """Count the events of a stretch of time, one a second, and the labels of those a stretch before."""
        trouble = self.trouble if self.trouble is not None and start >= self.trouble.at else Trouble(0)
        numeric, categories = self._features(seconds, trouble.shift)
        prediction, score, label = self._outcomes(seconds, trouble.wrong)
        failed = int((self.rng.random(seconds) < FAILED).sum())
        layout = self.model.layout
        delta = layout.zeros()
        codes = np.stack([
            np.array([self.codes[i][colour] for colour in COLOURS.tolist()])[categories[i]] for i in range(CATEGORICAL)
        ])  # fmt: skip
        layout.count_features(delta, numeric, codes)
        columns = score[:, None] if self.task == "binary" else np.empty((seconds, 0))
        latency = self.rng.lognormal(np.log(0.03), 0.4, seconds)
        outputs = self._outputs(prediction, columns)
        layout.count_predictions(delta, outputs, latency, failed)
        known = self.rng.random(seconds) < LABELLED
        layout.count_labels(delta, outputs.rows(np.flatnonzero(known)), label[known], np.full(known.sum(), 600.0))
        middle = start + seconds / 2
        self.version.add(delta, middle)
        self.version.cover(seconds, int(known.sum()), middle)
        self.version.last_prediction = self.version.last_label = start + seconds


def needed() -> set[str]:
    """Metrics that alerts read, directly or by recording rules."""
    return set(re.findall(r"\bml_\w+", " ".join(expression(alert) for alert in ALERTS)))


def is_read(prefix: str) -> bool:
    """Whether alerts read this series: of features, PSI in the freshest full window and the special bins."""
    if not prefix.startswith("ml_feature_"):
        return True
    if prefix.startswith("ml_feature_reference_ratio"):
        return 'range=""' in prefix
    return 'window="15m"' in prefix and ('statistic="' not in prefix or 'statistic="psi"' in prefix)


def expression(alert: Alert) -> str:
    """An alert's expression with recording rules and thresholds in their place."""
    records = {
        rule.record: rule.expr for name, (_, groups) in RECORDS.items() for group in groups for rule in group.rules
    }
    text = alert.expr
    for name in THRESHOLDS:
        text = text.replace(f"absent(ml:threshold:{name})", "absent(vector(1))")
    while found := re.search(r"ml:\w+:\w+", text):
        text = text[: found.start()] + f"({records[found.group()]})" + text[found.end() :]
        for name, threshold in THRESHOLDS.items():
            text = text.replace(f"scalar(ml:threshold:{name})", f"{threshold.value:g}")
    return text


def _of_target(prefix: str) -> str:
    """The series as scraped; empty for what no alert reads."""
    if not is_read(prefix):
        return ""
    return prefix.replace("{", f"{{{TARGET},", 1) if "{" in prefix else f"{prefix.strip()}{{{TARGET}}} "


class Recorder:
    """Writes what scrapes show as OpenMetrics with times, and turns it into blocks."""

    def __init__(self, streams: list[Stream], directory: Path) -> None:
        models = [stream.model for stream in streams]
        config = Config(models=[model.settings for model in models])
        service = Service(config, {stream.model.name: stream.profile for stream in streams}, Options())
        self._collectors: list[Collector] = [
            ModelCollector(models),
            DataCollector(models),
            EstimationCollector(models),
            IntakeCollector(service.intake, {}, lambda: Loading(START)),
        ]
        self._directory, self._needed = directory, needed()
        self._prefixes: dict[int, tuple[Any, list[str]]] = {}

    def _lines(self, now: float) -> Iterator[str]:
        yield f"up{{{TARGET}}} 1 {now:.0f}\n"
        for name in ("model", "data", "intake"):
            yield f'ml_exporter_collector_success{{{TARGET},collector="{name}"}} 1 {now:.0f}\n'
        for collector in self._collectors:
            for samples in collector.collect(now):
                metric, rows = samples.rows.metric.name, samples.rows
                if metric not in self._needed and f"{metric}_bucket" not in self._needed:
                    continue
                kept = self._prefixes.get(id(rows))
                if kept is None:
                    kept = self._prefixes[id(rows)] = (rows, [_of_target(prefix) for prefix in rows.prefixes])
                yield from (
                    f"{prefix}{value!r} {now:.0f}\n"
                    for prefix, value in zip(kept[1], samples.values.tolist(), strict=True)
                    if prefix and value == value
                )

    def record(self, streams: list[Stream], start: float, end: float, step: int) -> None:
        """Let time pass and write a block."""
        text = self._directory / "scrapes.om"
        with text.open("w") as file:
            for now in range(int(start), int(end), step):
                for stream in streams:
                    stream.live(now, step)
                file.writelines(self._lines(now + step))
            file.write("# EOF\n")
        subprocess.run(
            ["promtool", "tsdb", "create-blocks-from", "openmetrics", "--quiet", "--max-block-duration=24h", text,
             self._directory / "data"],
            check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        text.unlink()


@contextmanager
def asked(directory: Path) -> Iterator[Prometheus]:
    """A Prometheus over the recorded blocks."""
    flags = ("--storage.tsdb.retention.time=100y", "--query.max-samples=500000000", "--query.timeout=10m")
    with running_prometheus({"scrape_configs": []}, directory, *flags) as server:
        yield server


def seconds(duration: str | None) -> int:
    if duration is None:
        return 0
    return int(duration[:-1]) * {"s": 1, "m": 60, "h": 3600, "d": DAY}[duration[-1]]


def firings(
    server: Prometheus, alert: Alert, start: float, end: float, step: int
) -> list[tuple[float, dict[str, str]]]:
    """When an alert began to fire, and for what."""
    active: dict[tuple[tuple[str, str], ...], set[int]] = {}
    for chunk in range(int(start), int(end), 2 * DAY):
        last = min(chunk + 2 * DAY, int(end)) - step
        answer = server.api("query_range", query=expression(alert), start=str(chunk), end=str(last), step=str(step))
        for series in answer["result"]:
            key = tuple(sorted(series["metric"].items()))
            active.setdefault(key, set()).update(int(at) for at, _ in series["values"])
    begun = []
    wait, keep = seconds(alert.wait), seconds(alert.keep)
    for key, times in active.items():
        since: int | None = None
        firing_until = -1
        for now in range(int(start), int(end), step):
            if now not in times:
                since = None
                continue
            since = now if since is None else since
            if now - since >= wait:
                if firing_until < now - step:
                    begun.append((float(now), dict(key)))
                firing_until = now + keep
    return begun


def month(directory: Path, days: int, models: int) -> None:
    """Count what fires in a healthy month."""
    began = time.monotonic()
    streams = [Stream(f"model-{number}", number, directory) for number in range(models)]
    recorder = Recorder(streams, directory)
    for day in range(days):
        recorder.record(streams, START + day * DAY, START + (day + 1) * DAY, 300)
        print(f"day {day + 1} of {days} recorded after {time.monotonic() - began:.0f} s", flush=True)
    found: Counter[str] = Counter()
    with asked(directory) as server:
        for alert in ALERTS:
            if alert.category == "watchdog":
                continue
            for at, labels in firings(server, alert, START + 300, START + days * DAY, 300):
                found[alert.severity] += 1
                print(f"fired: {alert.severity} {alert.name} after {(at - START) / DAY:.2f} days {labels}", flush=True)
    print(f"{days} healthy days, {models} models, {len(ALERTS)} rules: critical {found['critical']}, "
          f"warning {found['warning']}, info {found['info']} ({time.monotonic() - began:.0f} s)")  # fmt: skip


def delays(directory: Path) -> None:
    """Tell how long after its beginning trouble is told."""
    at = START + 26 * 3600
    troubles = {
        "drift": Trouble(at, shift=0.5),
        "accuracy": Trouble(at, wrong=0.061),
    }
    streams = [
        Stream(name, 2 * number + 100, directory, trouble) for number, (name, trouble) in enumerate(troubles.items())
    ]
    recorder = Recorder(streams, directory)
    recorder.record(streams, START, START + DAY, 60)
    recorder.record(streams, START + DAY, START + 32 * 3600, 60)
    with asked(directory) as server:
        for alert in ALERTS:
            for when, labels in firings(server, alert, START + 25 * 3600, START + 32 * 3600, 60):
                if "model" in labels:
                    minutes = (when - at) / 60
                    print(f"{labels['model']}: {alert.name} {labels.get('metric', '')} {minutes:.0f} min after")


def main() -> None:
    """Run both parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--models", type=int, default=10)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        delays(Path(directory))
    with tempfile.TemporaryDirectory() as directory:
        month(Path(directory), arguments.days, arguments.models)


if __name__ == "__main__":
    main()
