"""Real streams sent to a running exporter over HTTP, and how far what it exports holds: a table of docs/statistics.md.

    python -m tests.simulations.running_streams [--by-hour] [STREAM …]

A process of the exporter goes by the clock of the stream. The reference is all that is streamed, so that what differs
from it differs by time alone. Beside it come the same events in no order, at the same times.
"""

import re
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import httpx
import msgspec
import numpy as np
from sklearn import metrics

from mlops_exporter.arrays import Flags, Floats
from mlops_exporter.profile.profile import Task, save
from mlops_exporter.profiling.build import BuildRequest, build
from mlops_exporter.profiling.hours import Timing
from mlops_exporter.settings.durations import parse_duration
from tests.simulations.real_streams import REAL, Predicted, predicted
from tests.simulations.stream_clock import tell
from tests.support.exporter import running_exporter, write_config

SETTLED = 10
"""Lengths of a window that must have passed before it is looked at: as in `dependent_streams`."""

BLOCK = 2
"""Longest windows in a block."""

DRIFTS = {"features": "ml_feature_drift", "prediction": "ml_prediction_drift", "all together": "ml_data_drift"}

_PERFORMANCE = "ml_model_performance"
_READ = re.compile(
    rf"({_PERFORMANCE}(?:_lower|_upper)?|(?:{'|'.join(DRIFTS.values())})(?:_threshold)?|ml_model_window_labels"
    r')\{model="stream",version="1",(.*)\} (\S+)'
)
_LABEL = re.compile(r'(\w+)="([^"]*)"')

Key = tuple[str, ...]
"""Name of a metric, window, and what else tells its series apart."""


class Readings(NamedTuple):
    """What scrapes showed, by series: NaN where it was absent. `since` are seconds from the first event, (scrapes,)."""

    since: Floats
    series: dict[Key, Floats]

    def of(self, name: str, window: str) -> dict[Key, Floats]:
        """Return all series of a metric and window, by the rest of their labels, once the window has settled."""
        settled = self.since >= SETTLED * parse_duration(window)
        return {key[2:]: values[settled] for key, values in self.series.items() if key[:2] == (name, window)}


class Interval(NamedTuple):
    """Of a metric's 95 % intervals in windows of `size` labels: shares that cover the long-run value.

    `plain`: intervals as wide as those of the same labels in no order. `widened`: how many times as wide they are.
    """

    size: float
    plain: float
    ordered: float
    in_blocks: float
    shuffled: float
    widened: float


class Flagged(NamedTuple):
    """Share of values of drift above their thresholds: in order, in blocks that are in no order, and in no order."""

    ordered: float
    in_blocks: float
    shuffled: float


class Told(NamedTuple):
    """What the exporter told of a stream: by window and metric, and by window and kind of drift."""

    intervals: dict[tuple[str, str], Interval]
    drift: dict[tuple[str, str], Flagged]


def told(stream: Predicted, windows: Sequence[str], *, by_hour: bool = False) -> Told:
    """Send a stream to exporters, as it was and in no order, and look at all windows once they have settled.

    Their reference may be by the hour of the day.
    """
    truth = long_run(stream)
    blocks = stream.in_blocks(BLOCK * parse_duration(windows[-1]))
    streams = (stream, blocks, stream.shuffled())
    ordered, moved, mixed = (_measured(each, stream, windows, by_hour=by_hour) for each in streams)
    intervals, drift = {}, {}
    for window in windows:
        size = float(np.mean(ordered.of("ml_model_window_labels", window)[()]))
        for metric, value in truth.items():
            one, two, three = (_covered(each, window, metric, value) for each in (ordered, moved, mixed))
            plain = _covered_with_width(ordered, mixed, window, metric, value)
            widened = one.width / three.width
            intervals[window, metric] = Interval(size, plain, one.share, two.share, three.share, widened)
        for kind, name in DRIFTS.items():
            drift[window, kind] = Flagged(*(_flagged(each, window, name) for each in (ordered, moved, mixed)))
    return Told(intervals, drift)


def long_run(stream: Predicted) -> dict[str, float]:
    """Return what all events together say, by scikit-learn."""
    label, score = stream.label, stream.score
    if not stream.binary:
        mae, mse = metrics.mean_absolute_error(label, score), metrics.mean_squared_error(label, score)
        return {"mae": mae, "rmse": mse**0.5, "bias": float((score - label).mean())}
    of_scores = {
        "roc_auc": metrics.roc_auc_score,
        "log_loss": metrics.log_loss,
        "brier_score": metrics.brier_score_loss,
    }
    found = {name: float(of(label, score)) for name, of in of_scores.items()}
    return {"accuracy": metrics.accuracy_score(label, score >= 0.5)} | found


def readings(
    stream: Predicted, reference: Predicted, windows: Sequence[str], directory: Path, *, by_hour: bool = False
) -> Readings:
    """Send the events of a stream in batches of half a shortest window, each followed by a scrape."""
    _write_profile(reference, directory, by_hour=by_hour)
    task = "binary" if stream.binary else "regression"
    model = {"name": "stream", "task": task, "profile": "stream.json", "windows": list(windows)}
    write_config(directory, model | ({"positive": "1"} if stream.binary else {}))
    clock = directory / "clock"
    since: list[float] = []
    series: dict[Key, dict[int, float]] = {}
    tell(clock, stream.times[0])
    module = "tests.simulations.stream_clock"
    with (
        running_exporter(directory, program=(module, str(clock))) as exporter,
        httpx.Client(base_url=exporter.url, trust_env=False, timeout=60) as client,
    ):
        for now, body in _batches(stream, parse_duration(windows[0]) / 2):
            tell(clock, now)
            answer = client.post("/v1/events", content=body, headers={"content-type": "application/x-ndjson"})
            assert answer.json()["rejected"] == 0, answer.text
            for key, value in _shown(client.get("/metrics").text):
                series.setdefault(key, {})[len(since)] = value
            since.append(now - stream.times[0])
    return Readings(np.array(since), {key: _filled(found, len(since)) for key, found in series.items()})


def _filled(found: dict[int, float], scrapes: int) -> Floats:
    values = np.full(scrapes, np.nan)
    values[list(found)] = list(found.values())
    return values


def _write_profile(reference: Predicted, directory: Path, *, by_hour: bool) -> None:
    said = (reference.score >= 0.5).astype(int) if reference.binary else reference.score
    label = reference.label.astype(int) if reference.binary else reference.label
    table = reference.features.assign(score=reference.score, prediction=said, label=label, at=reference.times)
    table.to_parquet(directory / "reference.parquet")
    task: Task = "binary" if reference.binary else "regression"
    profile, _ = build(
        BuildRequest(
            directory / "reference.parquet",
            task,
            label="label",
            prediction="prediction",
            scores={"1": "score"} if reference.binary else {},
            positive="1" if reference.binary else None,
            features=tuple(reference.features),
            timing=Timing("at", "hour", "UTC") if by_hour else None,
            model_version="1",
        )
    )
    save(profile, directory / "stream.json")


def _batches(stream: Predicted, seconds: float) -> Iterator[tuple[float, bytes]]:
    """Yield the ends of stretches of time, and their events as NDJSON."""
    said = [
        {"prediction": int(p >= 0.5), "score": p} if stream.binary else {"prediction": p} for p in stream.score.tolist()
    ]
    features = stream.features.to_dict("records")
    lines = [
        msgspec.json.encode({"model": "stream", "version": "1", "ts": ts, "features": row, **outcome, "label": label})
        for ts, row, outcome, label in zip(
            stream.times.tolist(),
            features,
            said,
            (stream.label.astype(int) if stream.binary else stream.label).tolist(),
            strict=True,
        )
    ]
    ends = np.arange(stream.times[0], stream.times[-1], seconds)[1:]
    for first, last, end in zip(
        *(np.searchsorted(stream.times, at) for at in (ends - seconds, ends)), ends.tolist(), strict=True
    ):
        yield end, b"\n".join(lines[first:last])


def _shown(text: str) -> Iterator[tuple[Key, float]]:
    for line in text.splitlines():
        if found := _READ.fullmatch(line):
            labels = dict(_LABEL.findall(found[2]))
            yield (found[1], labels.pop("window"), *labels.values()), float(found[3])


class _Covered(NamedTuple):
    """Share of intervals that hold the long-run value, and how wide they are on average."""

    share: float
    width: float


def _covered(found: Readings, window: str, metric: str, truth: float) -> _Covered:
    """Look at a metric's intervals."""
    lower, upper = (found.of(f"{_PERFORMANCE}_{end}", window)[metric,] for end in ("lower", "upper"))
    known = ~np.isnan(lower)
    covered = (lower <= truth) & (truth <= upper)
    return _Covered(float(covered[known].mean()), float((upper - lower)[known].mean()))


def _covered_with_width(found: Readings, like: Readings, window: str, metric: str, truth: float) -> float:
    """Return how often intervals hold the long-run value that are as wide as those `like` them at the same time."""
    ours, (value, lower, upper) = (
        found.of(_PERFORMANCE, window)[metric,],
        (like.of(_PERFORMANCE + end, window)[metric,] for end in ("", "_lower", "_upper")),
    )
    known = ~np.isnan(ours + lower)
    covered = (ours - value + lower <= truth) & (truth <= ours - value + upper)
    return float(covered[known].mean())


def _flagged(found: Readings, window: str, name: str) -> float:
    """Return the share of values of drift that exceed their thresholds."""
    values, thresholds = found.of(name, window), found.of(f"{name}_threshold", window)
    flags: list[Flags] = [value[~np.isnan(value)] > thresholds[key][~np.isnan(value)] for key, value in values.items()]
    return float(np.concatenate(flags).mean())


def main(names: Sequence[str], *, by_hour: bool) -> None:
    """Print the table."""
    for name in names or REAL:
        found = told(predicted(REAL[name].table()), REAL[name].windows, by_hour=by_hour)
        for (window, metric), it in found.intervals.items():
            shares = " | ".join(f"{share:.0%}" for share in it[1:-1])
            print(f"| {name}, {window} ({it.size:,.0f}) | {metric} | {shares} | {it.widened:.1f} |")
        for (window, kind), flags in found.drift.items():
            print(f"| {name}, {window} | drift: {kind} | {' | '.join(f'{share:.1%}' for share in flags)} |", flush=True)


def _measured(stream: Predicted, reference: Predicted, windows: Sequence[str], *, by_hour: bool) -> Readings:
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        found = readings(stream, reference, windows, Path(directory), by_hour=by_hour)
    print(f"{len(found.since)} scrapes, {len(found.series)} series, {time.monotonic() - began:.0f} s", flush=True)
    return found


if __name__ == "__main__":
    main([each for each in sys.argv[1:] if each != "--by-hour"], by_hour="--by-hour" in sys.argv)
