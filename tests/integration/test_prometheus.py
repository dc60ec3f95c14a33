"""What a real Prometheus and promtool make of a scrape."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from mlops_exporter.exposition.catalogue import Metric
from mlops_exporter.exposition.registry import Registry
from mlops_exporter.exposition.samples import Rows, Samples
from mlops_exporter.logs import escaped
from mlops_exporter.web.app import App
from tests.requirements import require_program
from tests.standin import StandIn
from tests.support.prometheus import eventually, running_prometheus, scrape_job
from tests.support.serving import served

HOSTILE = [
    "plain",
    'quote"',
    "back\\slash",
    "line\nfeed",
    "tab\t",
    "ünï ☃",
    "{}=,#",
    "\\n",
    " ",
    "cr\r",
    "\x7f",
    "nul\0",
]
THINGS = Metric("ml_things_total", "counter", "model", 'Things: "quoted", with a \\ in them.', ("name",))
RATIO = Metric(
    "ml_share_ratio", "gauge", "model", "A share that is infinite for once, and absent for another.", ("name",)
)
DELAY = Metric("ml_delay_seconds", "histogram", "model", "Delays.", ("name",), (0.1, 1.0, 10.0))


class Everything:
    """Every kind of metric and of label value."""

    name = "everything"

    def __init__(self) -> None:
        self.things = Rows(THINGS, [[value] for value in HOSTILE])

    def collect(self, now: float) -> Iterator[Samples]:
        yield Samples(self.things, np.arange(len(HOSTILE), dtype=float))
        yield Samples(Rows(RATIO, [["a"], ["b"], ["c"]]), np.array([np.inf, np.nan, 1 / 3]))
        yield Samples(Rows(DELAY, [["a"]]), np.array([1.0, 3.0, 4.0, 5.0, 17.25, 5.0]))


class Service(StandIn):
    """Records the formats that were asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.generation = 0
        self.registry = Registry([Everything()], self.next_generation)
        self.names = self.registry.names
        self.openmetrics: set[bool] = set()

    def next_generation(self) -> int:
        self.generation += 1
        return self.generation

    async def scrape(self, openmetrics: bool, gzipped: bool, collectors: frozenset[str] | None) -> bytes:
        self.openmetrics.add(openmetrics)
        assert gzipped  # Prometheus always asks for it
        return await self.registry.scrape(openmetrics, gzipped, collectors)


class TextOnly:
    """Takes OpenMetrics out of what Prometheus accepts: 2.42 has no setting for it."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers = [
            (b"accept", b"text/plain;version=0.0.4") if key == b"accept" else (key, value)
            for key, value in scope["headers"]
        ]
        await self.app({**scope, "headers": headers}, receive, send)


@pytest.mark.parametrize("openmetrics", [True, False], ids=["openmetrics", "text"])
def test_prometheus_scrapes_every_series(openmetrics: bool, tmp_path: Path) -> None:
    service = Service()
    app = App(service, service, service)
    with served(app if openmetrics else TextOnly(app)) as target:
        config = {"scrape_configs": [scrape_job("exporter", target)]}
        with running_prometheus(config, tmp_path) as prometheus:
            eventually(lambda: prometheus.query("up == 1"))
            assert service.openmetrics == {openmetrics}
            things = {row["metric"]["name"]: row["value"][1] for row in prometheus.query("ml_things_total")}
            shown_as = ["\n".join(map(escaped, value.split("\n"))) for value in HOSTILE]
            assert things == {value: str(index) for index, value in enumerate(shown_as)}
            shares = {row["metric"]["name"]: float(row["value"][1]) for row in prometheus.query("ml_share_ratio")}
            assert shares == {"a": np.inf, "c": 1 / 3}
            (median,) = prometheus.query("histogram_quantile(0.4, ml_delay_seconds_bucket)")
            assert float(median["value"][1]) == pytest.approx(0.55)
            bounds = {row["metric"]["le"] for row in prometheus.query("ml_delay_seconds_bucket")}
            assert bounds == {"0.1", "1.0", "10.0", "+Inf"}
            types = {name: entries[0]["type"] for name, entries in prometheus.api("metadata").items()}
            counter = "ml_things" if openmetrics else "ml_things_total"
            assert (types[counter], types["ml_share_ratio"], types["ml_delay_seconds"]) == (
                "counter",
                "gauge",
                "histogram",
            )
            (scraped,) = prometheus.query("scrape_samples_scraped")
            lines = httpx.get(f"http://{target}/metrics", headers={"accept-encoding": "gzip"}).text.split("\n")
            assert int(scraped["value"][1]) == sum(bool(line) and not line.startswith("#") for line in lines)


def test_promtool_finds_nothing_to_complain_of() -> None:
    promtool = require_program("promtool")
    service = Service()
    with served(App(service, service, service)) as target:
        body = httpx.get(f"http://{target}/metrics", headers={"accept-encoding": "gzip"}).content
    result = subprocess.run([promtool, "check", "metrics"], input=body, capture_output=True, timeout=30, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"")
