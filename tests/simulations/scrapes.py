"""What simulated models would show to scrapes, in a real Prometheus, and when alerts would fire on it.

The exporter's own objects count the events on a simulated clock; what a scrape would show becomes blocks by way of
`promtool tsdb create-blocks-from openmetrics`. Each alert's expression is asked for every evaluation as a range query,
with recording rules and thresholds put in their place in the text; `for` and `keep_firing_for` are applied here as
Prometheus does.
"""

import re
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from mlops_exporter.exposition.samples import Rows
from mlops_exporter.service.service import Options, Service
from mlops_exporter.settings.config import Config
from prometheus.source.alert import Alert
from prometheus.source.render import ALERTS, RECORDS
from prometheus.source.thresholds import THRESHOLDS
from tests.requirements import require_program
from tests.simulations.streams import Stream
from tests.support.prometheus import Prometheus, running_prometheus

HOUR, DAY = 3600, 86_400
START = 1_760_000_000 // DAY * DAY

_HISTOGRAM_PARTS = ("", "_bucket", "_sum", "_count")


class Firing(NamedTuple):
    """When an alert began to fire (Unix seconds), and for what."""

    at: float
    labels: dict[str, str]


def read_by(alert: Alert) -> set[str]:
    """Return the names of the exporter's series that an alert reads, directly or by recording rules."""
    return set(re.findall(r"\bml_\w+", expression(alert)))


def expression(alert: Alert) -> str:
    """Return an alert's expression with recording rules and thresholds in their place.

    A rule that reads itself remembers nothing here: a query has no evaluation before it.
    """
    records = {
        rule.record: rule.expr.replace(rule.record, "(vector(0) > 1)")
        for _, groups in RECORDS.values()
        for group in groups
        for rule in group.rules
    }
    records["ml:exporter:up"] = "up"  # which reads itself; here every target is an exporter
    text = alert.expr
    for name in THRESHOLDS:
        text = text.replace(f"absent(ml:threshold:{name})", "absent(vector(1))")
    while found := re.search(r"ml:\w+:\w+", text):
        text = text[: found.start()] + f"({records[found.group()]})" + text[found.end() :]
        for name, threshold in THRESHOLDS.items():
            text = text.replace(f"scalar(ml:threshold:{name})", f"{threshold.value:g}")
    return text


class Exporter:
    """One exporter on a simulated clock, and what Prometheus scrapes of it at `instance`."""

    def __init__(self, streams: Sequence[Stream], instance: str, windows: Sequence[str] | None = ("15m",)) -> None:
        self._streams = streams
        self._windows = windows
        config = Config(models=[stream.settings for stream in streams])
        self._service = Service(config, {stream.name: stream.profile for stream in streams}, Options())
        for model in self._service.models:
            model.admit({"1"})
        machine = {collector.name for collector in self._service.compute.collectors}
        self._collectors = [each for each in self._service.registry.collectors if each.name not in machine]
        self._target = f'job="mlops-exporter",instance="{instance}"'
        self._needed = {name for alert in ALERTS for name in read_by(alert)}
        self._prefixes: dict[int, tuple[Rows, list[str]]] = {}
        self.shown = {"ml_exporter_collector_success"}
        """Names of the series that were scraped."""

    def live(self, start: float, seconds: int) -> None:
        """Let a stretch of time pass."""
        for stream, model in zip(self._streams, self._service.models, strict=True):
            stream.live(model, start, seconds)

    def scrape(self, now: float) -> Iterator[str]:
        """Yield what a scrape at `now` shows of what alerts read, as lines of OpenMetrics with times."""
        yield f"up{{{self._target}}} 1 {now:.0f}\n"
        for collector in self._collectors:
            yield f'ml_exporter_collector_success{{{self._target},collector="{collector.name}"}} 1 {now:.0f}\n'
            for samples in collector.collect(now):
                rows = samples.rows
                names = {rows.metric.name + part for part in _HISTOGRAM_PARTS} & self._needed
                if not names:
                    continue
                kept = self._prefixes.get(id(rows))
                if kept is None:
                    kept = self._prefixes[id(rows)] = (rows, [self._as_scraped(prefix) for prefix in rows.prefixes])
                for prefix, value in zip(kept[1], samples.values.tolist(), strict=True):
                    if prefix and value == value:
                        self.shown |= names
                        yield f"{prefix}{value!r} {now:.0f}\n"

    def _as_scraped(self, prefix: str) -> str:
        """Return the series as Prometheus keeps it; empty for what no alert reads."""
        if not _is_read(prefix, self._windows):
            return ""
        return prefix.replace("{", f"{{{self._target},", 1) if "{" in prefix else f"{prefix.strip()}{{{self._target}}} "


def _is_read(prefix: str, windows: Sequence[str] | None) -> bool:
    """Whether alerts read this series: of features, PSI in some windows, None for all, and the special bins."""
    if not prefix.startswith("ml_feature_"):
        return True
    if prefix.startswith("ml_feature_reference_ratio"):
        return 'range=""' in prefix
    looked_at = windows is None or any(f'window="{window}"' in prefix for window in windows)
    return looked_at and ('statistic="' not in prefix or 'statistic="psi"' in prefix)


def record(exporter: Exporter, directory: Path, start: float, end: float, step: int) -> None:
    """Let time pass from `start` to `end`, scraped every `step` seconds, and write blocks of it."""
    text = directory / "scrapes.om"
    with text.open("w") as file:
        for now in range(int(start), int(end), step):
            exporter.live(now, step)
            file.writelines(exporter.scrape(now + step))
        file.write("# EOF\n")
    command = [require_program("promtool"), "tsdb", "create-blocks-from", "openmetrics", "--quiet"]
    subprocess.run(
        [*command, "--max-block-duration=24h", text, directory / "data"], check=True, stdout=subprocess.DEVNULL
    )
    text.unlink()


@contextmanager
def asked(directory: Path) -> Iterator[Prometheus]:
    """Run a Prometheus over the recorded blocks."""
    flags = ("--storage.tsdb.retention.time=100y", "--query.max-samples=500000000", "--query.timeout=10m")
    with running_prometheus({"scrape_configs": []}, directory, *flags) as server:
        yield server


def firings(server: Prometheus, alert: Alert, start: float, end: float, step: int) -> list[Firing]:
    """Return the firings of an alert that is evaluated every `step` seconds."""
    active: dict[tuple[tuple[str, str], ...], set[int]] = {}
    for chunk in range(int(start), int(end), 2 * DAY):
        last = min(chunk + 2 * DAY, int(end)) - step
        answer = server.api("query_range", query=expression(alert), start=str(chunk), end=str(last), step=str(step))
        for series in answer["result"]:
            key = tuple(sorted(series["metric"].items()))
            active.setdefault(key, set()).update(int(at) for at, _ in series["values"])
    begun = []
    wait, keep = _seconds(alert.wait), _seconds(alert.keep)
    for key, times in active.items():
        since: int | None = None
        firing_until = -1
        for now in range(int(start), int(end), step):
            if now not in times:
                since = None
                continue
            since = now if since is None else since
            if now - since >= wait or firing_until >= now - step:
                if firing_until < now - step:
                    begun.append(Firing(float(now), dict(key)))
                firing_until = now + keep
    return begun


def _seconds(duration: str | None) -> int:
    if duration is None:
        return 0
    return int(duration[:-1]) * {"s": 1, "m": 60, "h": 3600, "d": DAY}[duration[-1]]
