"""The demonstration: feeds the bundled traffic to an exporter, and says what there is to see."""

import asyncio
import time
from pathlib import Path

from mlops_exporter.demo.feeder import Feeder
from mlops_exporter.service.service import Service

CONFIG = Path(__file__).parent / "mlops-exporter.yml"

FEED_SECONDS = 0.25
_SOURCE = "push"


async def feed(service: Service, speed: float = 1.0) -> None:
    """Send the traffic, as model servers would, until cancelled; `speed` seconds of it in a second."""
    feeder = Feeder()
    start = time.monotonic()
    while True:
        now = time.time()
        body = feeder.batch(speed * (time.monotonic() - start), now)
        if body:
            await service.intake.submit(_SOURCE, body, now)
        await asyncio.sleep(FEED_SECONDS)


def introduction(address: str) -> str:
    """Return what a first-time user should know."""
    host, _, port = address.rpartition(":")
    url = f"http://{host if host not in ('', '0.0.0.0', '[::]') else 'localhost'}:{port}"  # nosec B104
    return f"""\
mlops-exporter demo: two models on real data, replayed as live traffic. Ctrl-C stops it.

  {url}           what is watched
  {url}/metrics   what Prometheus scrapes

Within two minutes both models leave what they were trained on:

  mpg      predicts miles per gallon from cars of 1970-1973. From about 60 s on newer cars come in: horsepower
           drifts, and the mean absolute error grows past its benchmark.
             ml_feature_drift{{model="mpg",feature="horsepower",statistic="psi"}}  against  ml_feature_drift_threshold
             ml_model_performance_lower{{model="mpg",metric="mae"}}  against  ml_model_benchmark_max
  flights  predicts delays of New York departures from a winter's flights. From about 50 s on spring comes:
           temperature drifts, and from about 90 s on log loss and accuracy leave their benchmarks.

  curl -s {url}/metrics | grep '^ml_model_performance{{model="mpg"'
"""
