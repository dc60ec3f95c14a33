"""What a fleet costs Prometheus: made-up exporters with real expositions, a real Prometheus and the shipped rules.

An exposition is that of a model of 25 features, at one of several moments, with another model's name in its place.
Rates and drift move as they would, so nothing compresses better than in life.
"""

import argparse
import asyncio
import re
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import NamedTuple

import httpx

from mlops_exporter.exposition.registry import Registry
from mlops_exporter.ingest.intake import Intake
from mlops_exporter.settings.models import Limits
from tests.benchmarks.refresh import collectors
from tests.support import workload
from tests.support.prometheus import Prometheus, running_prometheus

RULES = Path(__file__).parents[2] / "prometheus" / "rules"
INTERVAL = 15.0
MOMENTS = 40
"""Different expositions of a model: ten minutes of scrapes."""

_EVENTS = 500


class Cost(NamedTuple):
    """What Prometheus took: series in memory, bytes and cores of the process, seconds of one round of all rules."""

    series: float
    of_models: float
    """Those that exporters showed; the others are what rules record, and what Prometheus adds to each scrape."""
    memory: float
    cores: float
    slowest_group: float
    rules: float
    missed: float


def expositions(moments: int = MOMENTS) -> list[bytes]:
    """Return what a model named `credit` shows at successive moments, each some hundred events after the other."""
    now = time.time()
    model = workload.model()
    intake = Intake([model], ["bench"], Limits())
    registry = Registry(collectors(model), count().__next__)
    bodies = workload.bodies(moments * _EVENTS, _EVENTS, now)

    async def made() -> list[bytes]:
        texts = []
        for body in bodies:
            await intake.submit("bench", body, now)
            intake.flush()
            texts.append(await registry.scrape(openmetrics=False, gzipped=False))
        return texts

    return asyncio.run(made())


def _of_models(text: bytes, names: Sequence[bytes]) -> bytes:
    """Return an exposition of many models: families stay together, as they must."""
    families = re.split(rb"(?=^# HELP )", text, flags=re.MULTILINE)
    parts = []
    for family in families:
        head = b"".join(line for line in family.splitlines(keepends=True) if line.startswith(b"#"))
        samples = family[len(head) :]
        parts.append(head + b"".join(samples.replace(b'model="credit"', b'model="%s"' % name) for name in names))
    return b"".join(parts)


@contextmanager
def serving(models: int) -> Iterator[str]:
    """Serve exporters of so many models each, the first as `/0/metrics`; yields the address."""
    moments = expositions()
    began = time.monotonic()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            number = int(self.path.split("/")[1])
            moment = min(int((time.monotonic() - began) / INTERVAL), len(moments) - 1)
            names = [b"model-%04d" % (number * models + each) for each in range(models)]
            body = _of_models(moments[moment], names)
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def measure(exporters: int, models: int, seconds: float) -> Cost:
    """Return what Prometheus takes for `exporters` of `models` models each, scraped and judged so long."""
    with serving(models) as address, tempfile.TemporaryDirectory() as directory:
        targets = [
            {"targets": [address], "labels": {"__metrics_path__": f"/{n}/metrics", "instance": f"exporter-{n}"}}
            for n in range(exporters)
        ]
        config = {
            "global": {"scrape_interval": "15s", "scrape_timeout": "14s", "evaluation_interval": "30s"},
            "rule_files": [str(RULES / "*.yml")],
            "scrape_configs": [{"job_name": "mlops-exporter", "static_configs": targets}],
        }
        with running_prometheus(config, Path(directory)) as server:
            time.sleep(seconds / 2)
            before, began = _own_metrics(server), time.monotonic()
            time.sleep(seconds / 2)
            after, passed = _own_metrics(server), time.monotonic() - began
            (shown,) = server.query("sum(scrape_samples_post_metric_relabeling)")
    durations = _values(after, "prometheus_rule_group_last_duration_seconds")
    return Cost(
        series=sum(_values(after, "prometheus_tsdb_head_series")),
        of_models=float(shown["value"][1]),
        memory=sum(_values(after, "process_resident_memory_bytes")),
        cores=(_seconds(after) - _seconds(before)) / passed,
        slowest_group=max(durations),
        rules=sum(durations),
        missed=sum(_values(after, "prometheus_rule_group_iterations_missed_total")),
    )


def _own_metrics(server: Prometheus) -> str:
    return httpx.get(f"{server.url}/metrics", timeout=30, trust_env=False).text


def _values(text: str, name: str) -> list[float]:
    return [float(value) for value in re.findall(rf"^{name}(?:\{{.*\}})? (\S+)$", text, re.MULTILINE)]


def _seconds(text: str) -> float:
    return sum(_values(text, "process_cpu_seconds_total"))


def main() -> None:
    """Print one line for each size of a fleet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--exporters", type=int, default=10)
    parser.add_argument("--models", type=int, nargs="+", default=[5, 20])
    parser.add_argument("--seconds", type=float, default=300)
    arguments = parser.parse_args()
    for models in arguments.models:
        cost = measure(arguments.exporters, models, arguments.seconds)
        print(
            f"fleet of {arguments.exporters} exporters, {arguments.exporters * models} models of 25 features: "
            f"{cost.of_models:,.0f} series shown, {cost.series:,.0f} in memory with what rules record, "
            f"{cost.memory / 2**20:,.0f} MiB ({cost.memory / cost.of_models / 1024:.1f} KiB for each that is shown), "
            f"{cost.cores:.2f} cores, all rules in {cost.rules:.1f} s, the slowest group in "
            f"{cost.slowest_group:.2f} s, {cost.missed:.0f} evaluations missed"
        )


if __name__ == "__main__":
    main()
