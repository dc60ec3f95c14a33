"""Exporters of one Kafka group that come and go, beside Apache Kafka: over all of them everything counts once."""

import contextlib
import json
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tests.integration.sources.test_apache_kafka import QUICK, broker
from tests.support.exporter import Exporter, run, start_exporter, write_config
from tests.support.prometheus import eventually

pytestmark = pytest.mark.apache_kafka

PARTITIONS = 12
RATE = 20_000
"""Events a second that are sent, where the machine can."""

PROTOCOLS: dict[str, dict[str, Any]] = {
    "cooperative": QUICK,
    "range": {**QUICK, "partition.assignment.strategy": "range"},
    "consumer": {"group.protocol": "consumer"},
}
COUNTERS = (
    "ml_model_predictions_total",
    "ml_model_labels_total",
    "ml_model_labels_duplicate_total",
    "ml_model_labels_unmatched_total",
    "ml_model_predictions_unlabelled_total",
    "ml_model_confusion_total",
)


PENDING = "ml_model_pending_predictions"


class Sender(threading.Thread):
    """Sends predictions, and the label of each some seconds later, keyed by id, until it is told to stop."""

    def __init__(self, address: str, rate: int) -> None:
        super().__init__()
        self._producer = Producer(
            {"bootstrap.servers": address, "linger.ms": 20, "queue.buffering.max.messages": 10**6}
        )
        self._rate = rate
        self._stopping = threading.Event()
        self.sent = 0
        self.seconds = 0.0

    def run(self) -> None:
        started, number = time.monotonic(), 0
        while not self._stopping.wait(max(0.0, started + self.sent / self._rate - time.monotonic())):
            now = time.time()
            for each in range(number, number + 500):
                self._send(
                    each, {"version": "3", "ts": now, "score": each % 10 / 10, "features": {"amount": each % 30}}
                )
                if (old := each - 4 * self._rate) >= 0:  # eight seconds later, at full rate
                    self._send(old, {"ts": now, "label": old % 2})
            number += 500
        assert self._producer.flush(30) == 0
        self.seconds = time.monotonic() - started

    def _send(self, number: int, event: dict[str, Any]) -> None:
        name = f"i{number}"
        value = json.dumps({"model": "credit", "id": name, **event})
        self._producer.produce("events", value, key=name)
        self._producer.poll(0)
        self.sent += 1

    def stop(self) -> None:
        self._stopping.set()
        self.join()


class Group:
    """Exporters with a state each, which may be started, stopped, and killed."""

    def __init__(self, directory: Path, address: str, settings: dict[str, Any]) -> None:
        self._directory, self._address, self._settings = directory, address, settings
        self.running: dict[str, Exporter] = {}

    def start(self, name: str, group: str = "members") -> Exporter:
        directory = self._directory / name
        directory.mkdir(exist_ok=True)
        kafka = {
            "bootstrap_servers": self._address,
            "topics": ["events"],
            "group": group,
            "settings": {**self._settings, "group.instance.id": name},
        }
        self._configure(directory, [{"name": "stream", "kafka": kafka}])
        self.running[name] = start_exporter(directory)
        return self.running[name]

    def _configure(self, directory: Path, sources: list[dict[str, Any]]) -> None:
        write_config(directory, sources=sources, state={"path": "state"}, compute={"interval": "1m"})

    def end(self, name: str, number: int = signal.SIGTERM) -> None:
        process = self.running.pop(name).process
        process.send_signal(number)
        process.wait(30)

    def counts(self, *names: str) -> Counter[str]:
        """The counters of members over all of them; of one that is gone, as it left them on disk."""
        found: Counter[str] = Counter()
        for name in names:
            if name in self.running:
                found += counts_of(self.running[name])
                continue
            self._configure(self._directory / name, [{"name": "push", "http": {}}])
            exporter = start_exporter(self._directory / name)
            eventually(exporter.is_ready, 60)
            found += counts_of(exporter)
            exporter.process.kill()
            exporter.process.wait()
        return found

    def until_idle(self) -> None:
        eventually(lambda: all(is_idle(exporter) for exporter in self.running.values()), 240)

    def until_assigned(self) -> None:
        """Wait until each of them has partitions and counts."""
        before = {name: counts_of(exporter).total() for name, exporter in self.running.items()}
        eventually(lambda: all(counts_of(e).total() > before[n] for n, e in self.running.items()), 120)

    def close(self) -> None:
        for exporter in self.running.values():
            exporter.process.kill()
            exporter.process.wait()


def counts_of(exporter: Exporter) -> Counter[str]:
    found: Counter[str] = Counter()
    with contextlib.suppress(httpx.TransportError):
        shown = exporter.scrape()
        for name in COUNTERS:
            for labels, value in shown.series(name, model="credit").items():
                found[f"{name} {sorted(labels)}"] += round(value)
    return found


def is_idle(exporter: Exporter) -> bool:
    shown = exporter.scrape()
    names = ("ml_exporter_source_lag_events", "ml_exporter_source_refill_events", "ml_exporter_queue_events")
    return all(sum(shown.series(name).values()) == 0 and shown.series(name) for name in names)


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    with broker(tmp_path / "kafka", **{"group.consumer.session.timeout.ms": "45000"}) as kafka:
        admin = AdminClient({"bootstrap.servers": kafka.address})
        admin.create_topics([NewTopic("events", PARTITIONS, 1)])["events"].result(20)
        yield kafka.address


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "protocol",
    [
        "cooperative",
        "range",
        pytest.param("consumer", marks=pytest.mark.xfail(reason="who was killed is refused under its instance id")),
    ],
)
def test_three_members_five_and_two_count_what_one_counts(tmp_path: Path, address: str, protocol: str) -> None:
    group = Group(tmp_path, address, PROTOCOLS[protocol])
    sender = Sender(address, RATE)
    with ExitStack() as stack:
        stack.callback(group.close)
        group.start("one", "alone")
        for name in "abc":
            group.start(name)
        for exporter in group.running.values():
            eventually(exporter.is_ready, 60)
        sender.start()
        stack.callback(sender.stop)
        group.until_assigned()
        time.sleep(10)
        group.end("b", signal.SIGKILL)
        group.start("b")
        group.start("d")
        group.start("e")
        group.until_assigned()
        time.sleep(10)
        for name in "ad":
            group.end(name, signal.SIGKILL)
            group.start(name)
        time.sleep(5)
        for name in "abc":
            group.end(name)
        group.until_assigned()
        time.sleep(10)
        sender.stop()
        group.until_idle()
        members_left, alone = [group.running[name] for name in "de"], group.running["one"]
        theirs, ours = group.counts(*"abcde"), group.counts("one")
        print(f"\n{protocol}: {sender.sent} events, {sender.sent / sender.seconds:.0f}/s: {dict(ours)}")
        assert theirs == ours
        # Those that are gone still know of what waited when they left, and nobody scrapes them.
        waiting = sum(exporter.value(PENDING, model="credit", version="3") or 0 for exporter in members_left)
        assert waiting == alone.value(PENDING, model="credit", version="3")
        assert not [key for key in ours if "unmatched" in key or "unlabelled" in key]


def test_the_doctor_says_when_a_topic_forgets_too_soon(tmp_path: Path, address: str) -> None:
    admin = AdminClient({"bootstrap.servers": address})
    admin.create_topics([NewTopic("short", 1, 1, config={"retention.ms": "3600000"})])["short"].result(20)
    admin.create_topics([NewTopic("long", 1, 1, config={"retention.ms": "-1"})])["long"].result(20)
    kafka = {"bootstrap_servers": address, "topics": ["short", "long"]}
    write_config(tmp_path, sources=[{"name": "stream", "kafka": kafka}], state={"path": "state"})
    told = run("doctor", "--config.file=mlops-exporter.yml", directory=tmp_path, timeout=120).stdout
    assert "topic short keeps messages for 1h, and predictions wait 30d for their label" in " ".join(told.split())
    assert "topic long keeps" not in told
