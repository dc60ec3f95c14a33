"""Scrapes of the real exporter process while events pour in: the latency that Prometheus sees on a busy day."""

import http.client
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from mlops_exporter.profile.profile import save
from tests.benchmarks import scrape
from tests.support import workload

VERSIONS = 8  # of a model with 25 features and three windows: more than 10,000 series
BODY_EVENTS = 1000
RATE = 100_000
SENDERS = 2  # or the exporter would wait for the one while it makes its next body


@contextmanager
def exporting() -> Iterator[str]:
    """Run `mlops-exporter run` with workload W's model; yields `host:port`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    with tempfile.TemporaryDirectory() as directory:
        save(workload.profile(), Path(directory) / "credit.json")
        config = Path(directory) / "mlops-exporter.yml"
        config.write_text("models: [{name: credit, task: binary, profile: credit.json}]\n")
        command = [sys.executable, "-m", "mlops_exporter", "run", f"--config.file={config}"]
        with subprocess.Popen([*command, f"--web.listen-address={address}", "--log.level=error"]) as process:
            try:
                _wait(f"http://{address}/-/ready")
                yield address
            finally:
                process.terminate()


def _wait(url: str) -> None:
    for _ in range(200):
        try:
            with urllib.request.urlopen(url):
                return
        except OSError:
            time.sleep(0.1)
    raise TimeoutError(url)


def ingest(address: str, seconds: float, rate: float) -> None:
    """Post bodies for so long, at most at that rate; print the rate that was reached. Ids never come twice."""
    stock = [
        body.replace(b'"version":"3"', b'"version":"%d"' % (number % VERSIONS))
        for number, body in enumerate(workload.bodies(16 * BODY_EVENTS, BODY_EVENTS, time.time()))
    ]
    begin = time.monotonic()

    def send(sender: int) -> int:
        connection = http.client.HTTPConnection(address, timeout=60)
        sent = 0
        while (now := time.monotonic()) < begin + seconds:
            time.sleep(max(0.0, begin + sent * SENDERS / rate - now))
            run = sent // (BODY_EVENTS * len(stock)) * SENDERS + sender
            body = stock[sent // BODY_EVENTS % len(stock)].replace(b'"id":"0001-', b'"id":"%04d-' % run)
            connection.request("POST", "/v1/events", body, {"Content-Type": "application/x-ndjson"})
            response = connection.getresponse()
            answer = response.read()
            if response.status == 202:
                sent += BODY_EVENTS
            elif response.status != 429:
                raise RuntimeError(answer)
        return sent

    with ThreadPoolExecutor(SENDERS) as senders:
        sent = sum(senders.map(send, range(SENDERS)))
    print(f"{sent / (time.monotonic() - begin):.0f}", flush=True)


def measure(rate: float, scrapers: int = 10, scrapes: int = 12) -> tuple[float, float, float, int]:
    """Return p50 and p99 in milliseconds, the rate of ingest that was reached, and the number of series."""
    spread = random.Random(1)
    with exporting() as address:
        ingest_command = [sys.executable, "-m", "tests.benchmarks.busy", "ingest", address]
        subprocess.run([*ingest_command, "1", "50000"], check=True, stdout=subprocess.DEVNULL)  # make all versions
        with urllib.request.urlopen(f"http://{address}/metrics") as answer:
            series = sum(not line.startswith(b"#") for line in answer.read().splitlines())
        reached = [0.0]
        if rate:
            client = subprocess.Popen([*ingest_command, str(scrapes + 2), str(rate)], stdout=subprocess.PIPE, text=True)
            reader = threading.Thread(target=lambda: reached.append(float(client.communicate()[0])))
            reader.start()
            time.sleep(1.5)
        p50, p99 = scrape.measure(address, [spread.random() for _ in range(scrapers)], scrapes)
        if rate:
            reader.join()
    return p50, p99, reached[-1], series


def main() -> None:
    """Print the table."""
    for rate in (0, RATE // 2, RATE):
        p50, p99, reached, series = measure(rate)
        print(
            f"scrape {series} series of a real exporter, 10 scrapers, {reached:,.0f} events/s coming in (asked "
            f"{rate:,}): p50 {p50:.1f} ms, p99 {p99:.1f} ms (goal p99 < {scrape.GOAL_MILLISECONDS:g} ms)"
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["ingest"]:
        ingest(sys.argv[2], float(sys.argv[3]), float(sys.argv[4]))
    else:
        main()
