"""What a member of a Kafka group takes to read again what waits for its label: `make kafka` has the broker it needs.

The topic holds predictions that others have counted: the group stands at its end. An exporter of that group begins with
nothing, and is measured until it counts from there.
"""

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tests.support.brokers import KafkaBroker
from tests.support.exporter import Exporter, start_exporter, write_config
from tests.support.prometheus import eventually

PARTITIONS = 12
TOPIC, GROUP = "events", "members"


def send(address: str, count: int) -> None:
    """Send so many predictions, and let the group stand behind them."""
    admin = AdminClient({"bootstrap.servers": address})
    admin.create_topics([NewTopic(TOPIC, PARTITIONS, 1)])[TOPIC].result(20)
    producer = Producer(
        {"bootstrap.servers": address, "linger.ms": 50, "batch.size": 2**20, "queue.buffering.max.messages": 10**6}
    )
    now = time.time()
    for number in range(count):
        if number % 1000 == 0:
            now = time.time()
            producer.poll(0)
        event = (
            f'{{"model":"credit","version":"3","id":"prediction-{number:012d}","ts":{now:.3f},'
            f'"score":0.{number % 90 + 10},"features":{{"amount":{number % 30}}}}}'
        )
        while True:
            try:
                producer.produce(TOPIC, event, partition=number % PARTITIONS)
                break
            except BufferError:
                producer.poll(0.1)
    assert producer.flush(120) == 0
    consumer = Consumer({"bootstrap.servers": address, "group.id": GROUP})
    parts = [TopicPartition(TOPIC, number) for number in range(PARTITIONS)]
    ends = [TopicPartition(TOPIC, p.partition, consumer.get_watermark_offsets(p, timeout=20)[1]) for p in parts]
    assert sum(end.offset for end in ends) == count
    consumer.commit(offsets=ends, asynchronous=False)
    consumer.close()


def measure(exporter: Exporter, count: int) -> str:
    """Return what it took until so many predictions wait."""
    process = psutil.Process(exporter.process.pid)
    began, scrapes = time.monotonic(), []
    while True:
        asked = time.monotonic()
        shown = exporter.scrape()
        scrapes.append(time.monotonic() - asked)
        waiting = sum(shown.series("ml_model_pending_predictions").values())
        if waiting == count and sum(shown.series("ml_exporter_source_refill_events").values()) == 0:
            break
        time.sleep(1)
    wall = time.monotonic() - began
    counted = sum(shown.series("ml_model_predictions_total").values())
    assert counted == 0, "others have counted them"
    times = process.cpu_times()
    peak = next(
        int(line.split()[1])
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines()
        if line.startswith("VmHWM")
    )
    spent = times.user + times.system
    return (
        f"{count:,} waiting predictions read again in {wall:.0f} s, {spent:.0f} s of processor time "
        f"({count / spent:,.0f} a second and core), peak {peak / 1024:,.0f} MiB, "
        f"the longest of {len(scrapes)} scrapes {max(scrapes):.2f} s; load {psutil.getloadavg()[0]:.1f}"
    )


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--waiting", type=int, default=10_000_000)
    count = parser.parse_args().waiting
    with TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "kafka").mkdir()
        broker = KafkaBroker(directory / "kafka")
        try:
            broker.start()
            send(broker.address, count)
            kafka = {"bootstrap_servers": broker.address, "topics": [TOPIC], "group": GROUP}
            write_config(
                directory, sources=[{"name": "stream", "kafka": kafka}], state={"path": "state"},
                limits={"pending_predictions": max(2 * count, 1000)},
            )  # fmt: skip
            exporter = start_exporter(directory)
            try:
                eventually(exporter.is_ready, 60)
                print(measure(exporter, count))
            finally:
                exporter.process.kill()
                exporter.process.wait()
        finally:
            broker.stop()


if __name__ == "__main__":
    main()
