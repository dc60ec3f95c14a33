"""Kafka's protocol, spoken by the mock cluster that is part of librdkafka."""

import asyncio
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from mlops_exporter.settings.sources import KafkaSettings
from mlops_exporter.sources.base import BATCH_BYTES, BATCH_EVENTS, Health, by_bytes
from mlops_exporter.sources.kafka import KafkaSource, check_settings, client_settings
from tests.sink import RecordingSink, event, running, until

QUICK: dict[str, str | int | float | bool] = {
    "heartbeat.interval.ms": 200,
    "fetch.wait.max.ms": 50,
    "session.timeout.ms": 5000,
}


class Cluster:
    """One mock broker, which lives as long as this producer."""

    def __init__(self) -> None:
        quiet = {"log_level": 3}  # else librdkafka says that this is a mock
        self.producer = Producer({"bootstrap.servers": "-", "test.mock.num.brokers": 1} | quiet)
        broker = next(iter(self.producer.list_topics(timeout=10).brokers.values()))
        self.address = f"{broker.host}:{broker.port}"

    def send(self, *values: bytes | None, partition: int | None = None) -> None:
        for number, value in enumerate(values):
            place = number % 4 if partition is None else partition
            self.producer.produce("events", value, partition=place)
        assert self.producer.flush(10) == 0

    def settings(self) -> KafkaSettings:
        return KafkaSettings(bootstrap_servers=self.address, topics=["events"], group="exporters", settings=QUICK)

    def committed(self) -> int:
        """Sum of the group's committed offsets."""
        consumer = Consumer({"bootstrap.servers": self.address, "group.id": "exporters"})
        try:
            offsets = consumer.committed([TopicPartition("events", number) for number in range(4)], timeout=5)
            return sum(max(0, partition.offset) for partition in offsets)
        finally:
            consumer.close()


@pytest.fixture
def cluster() -> Cluster:
    cluster = Cluster()
    cluster.send(*(event(number) for number in range(4)))  # makes the topic, of four partitions
    return cluster


def test_messages_are_delivered_and_committed_once_durable(cluster: Cluster) -> None:
    sink, source = RecordingSink(), KafkaSource("stream", cluster.settings())

    async def story() -> None:
        await until(lambda: sorted(sink.ids) == [0, 1, 2, 3])
        cluster.send(*(event(number) for number in range(4, 3000)))
        await until(lambda: len(sink.ids) == 3000)
        await until(lambda: source.health == Health(True, 0, refill=0))

    asyncio.run(running(source, sink, story))
    assert sorted(sink.ids) == list(range(3000))
    assert len(sink.bodies) < 300  # gathered, not one by one
    assert cluster.committed() == 3000
    position = json.loads(sink.positions["stream"])
    assert sum(position["events"].values()) == 3000


def test_large_messages_are_handed_over_by_bytes(cluster: Cluster) -> None:
    """Small ones first, so that many are asked for at a time when the large ones come."""
    sink, padding = RecordingSink(), "x" * 500_000

    async def story() -> None:
        cluster.send(*(event(number) for number in range(4, 1000)))
        await until(lambda: len(sink.ids) == 1000)
        large = [json.dumps({"model": "m", "id": number, "padding": padding}).encode() for number in range(1000, 1040)]
        cluster.send(*large)
        await until(lambda: len(sink.ids) == 1040)

    asyncio.run(running(KafkaSource("stream", cluster.settings()), sink, story))
    assert sorted(sink.ids) == list(range(1040))
    assert max(map(len, sink.bodies)) <= BATCH_BYTES + BATCH_EVENTS, "line ends come on top"
    assert cluster.committed() == 1040


def test_a_message_larger_than_a_batch_is_a_body_of_its_own() -> None:
    sizes = [1, 2, BATCH_BYTES, BATCH_BYTES + 1, 3, BATCH_BYTES - 3, 1]
    parts = [[len(message) for message in part] for part in by_bytes([bytes(size) for size in sizes], len)]
    assert parts == [[1, 2], [BATCH_BYTES], [BATCH_BYTES + 1], [3, BATCH_BYTES - 3], [1]]
    assert list(by_bytes([], len)) == []


def test_nothing_is_committed_before_it_is_durable(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlops_exporter.sources.kafka.STOP_SECONDS", 0.2)
    sink = RecordingSink()
    sink.refusals = 1_000_000

    async def story() -> None:
        await until(lambda: sink.refusals < 1_000_000)

    asyncio.run(running(KafkaSource("stream", cluster.settings()), sink, story))
    assert sink.bodies == []
    assert cluster.committed() == 0


def test_poison_is_counted_and_passed_by(cluster: Cluster) -> None:
    sink = RecordingSink()
    many = b"[" + event(10) + b",\n" + event(11) + b"]"
    pretty = json.dumps({"model": "m", "id": 12}, indent=2).encode()
    cluster.send(b"\xff\xfe", None, b"[broken", many, pretty, event(13) + b"\n" + event(14), partition=1)

    async def story() -> None:
        await until(lambda: cluster.committed() == 10)

    asyncio.run(running(KafkaSource("stream", cluster.settings()), sink, story))
    decoded = [line for line in sink.lines if line.startswith(b"{")]
    assert sorted(json.loads(line)["id"] for line in decoded) == [0, 1, 2, 3, 10, 11, 12, 13, 14]
    assert len(sink.lines) - len(decoded) == 3


def test_what_comes_again_after_a_crash_counts_nothing_twice(cluster: Cluster) -> None:
    """The crash is between durability and commit: the sink has the position, the group has not."""
    sink, source = RecordingSink(), KafkaSource("stream", cluster.settings())
    sink.positions["stream"] = json.dumps({"events": dict.fromkeys("0123", 1)}).encode()

    async def story() -> None:
        await until(lambda: cluster.committed() == 4)  # redelivered, recognised, committed without an event
        await until(lambda: source.health == Health(True, 0, refill=0))
        cluster.send(event(4))
        await until(lambda: sink.ids)

    asyncio.run(running(source, sink, story))
    assert sink.ids == [4]


def test_two_exporters_share_the_partitions_and_take_over_from_each_other(cluster: Cluster) -> None:
    """No event is lost or counted twice while a second member joins and the first one leaves."""
    sinks = RecordingSink(), RecordingSink()
    sources = [KafkaSource(f"stream{number}", cluster.settings()) for number in range(2)]
    sent = 4

    async def produce_until(condition: Callable[[], bool]) -> None:
        nonlocal sent
        async with asyncio.timeout(20):
            while not condition():
                cluster.send(*(event(sent + number) for number in range(40)))
                sent += 40
                await asyncio.sleep(0.02)

    async def story() -> None:
        one, two = (asyncio.create_task(source.run(sink)) for source, sink in zip(sources, sinks, strict=True))
        try:
            await produce_until(lambda: len(sinks[0].ids) > 100 and len(sinks[1].ids) > 100)
            assert sources[0].health.up
            one.cancel()
            await asyncio.wait({one})
            before = len(sinks[0].ids), len(sinks[1].ids)
            await produce_until(lambda: len(sinks[1].ids) > before[1] + 100)
            await until(lambda: sum(len(sink.ids) for sink in sinks) >= sent, 20)
            assert len(sinks[0].ids) == before[0]
        finally:
            two.cancel()
            await asyncio.wait({two})

    asyncio.run(story())
    assert sorted(sinks[0].ids + sinks[1].ids) == list(range(sent))


def test_a_topic_made_anew_is_read_from_its_beginning(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    sink = RecordingSink()
    sink.positions["stream"] = json.dumps({"events": {"0": 5000}}).encode()

    async def story() -> None:
        await until(lambda: len(sink.ids) == 4)

    asyncio.run(running(KafkaSource("stream", cluster.settings()), sink, story))
    assert "made anew" in caplog.text


def test_one_made_anew_since_others_read_it_is_counted(cluster: Cluster) -> None:
    """Where the group stands is beyond its end: nothing of it is read again without being counted."""
    consumer = Consumer({"bootstrap.servers": cluster.address, "group.id": "exporters"})
    consumer.commit(offsets=[TopicPartition("events", number, 500) for number in range(4)], asynchronous=False)
    consumer.close()
    sink = RecordingSink()

    async def story() -> None:
        await until(lambda: len(sink.ids) == 4)

    asyncio.run(running(KafkaSource("stream", cluster.settings()), sink, story))
    assert sink.refilled == []


def test_without_a_broker_it_is_down_says_why_and_recovers(caplog: pytest.LogCaptureFixture) -> None:
    sink = RecordingSink()
    settings = KafkaSettings(bootstrap_servers="127.0.0.1:1", topics=["events"], settings={"socket.timeout.ms": 1000})
    source = KafkaSource("stream", settings)

    async def story() -> None:
        await until(lambda: "refused" in (source.health.error or ""))
        assert source.health.lag_events is None

    with caplog.at_level(logging.WARNING, "mlops_exporter.sources.kafka"):
        asyncio.run(running(source, sink, story))
    assert not source.health.up


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"no.such.setting": "1"}, "No such configuration property"),
        ({"enable.auto.commit": True}, "cannot be set"),
        ({"sasl.password_file": "/nowhere/at/all"}, "No such file"),
        ({"security.protocol": "carrier-pigeon"}, "security.protocol"),
    ],
)
def test_settings_are_judged_by_librdkafka(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_settings(KafkaSettings(bootstrap_servers="127.0.0.1:1", topics=["events"], settings=settings))


def test_tls_and_sasl_pass_through_and_secrets_come_from_files(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("hunter2\n")
    settings = KafkaSettings(
        bootstrap_servers="127.0.0.1:1",
        topics=["events"],
        settings={
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "SCRAM-SHA-256",
            "sasl.username": "exporter",
            "sasl.password_file": str(tmp_path / "password"),
        },
    )
    client = client_settings(settings)
    assert client["sasl.password"] == "hunter2"
    assert client["security.protocol"] == "SASL_PLAINTEXT"
    assert "sasl.password_file" not in client
    assert client["partition.assignment.strategy"] == "cooperative-sticky"
