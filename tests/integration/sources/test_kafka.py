"""The Kafka source against a broker with a disk."""

import asyncio
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from mlops_exporter.settings.sources import KafkaSettings
from mlops_exporter.sources.base import Health
from mlops_exporter.sources.kafka import KafkaSource
from tests.sink import RecordingSink, event, running, until
from tests.support.brokers import KafkaBroker
from tests.support.prometheus import free_port

PERSISTED_SECONDS = 3.5  # the broker writes offsets to disk on a timer


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[KafkaBroker]:
    broker = KafkaBroker(tmp_path)
    broker.start()
    admin = AdminClient({"bootstrap.servers": broker.address})
    admin.create_topics([NewTopic("events", 2, 1)])["events"].result(10)
    yield broker
    broker.stop()


def send(broker: KafkaBroker, *identities: int) -> None:
    producer = Producer({"bootstrap.servers": broker.address})
    for identity in identities:
        producer.produce("events", event(identity), partition=identity % 2)
    assert producer.flush(10) == 0


def source(broker: KafkaBroker) -> KafkaSource:
    settings: dict[str, str | int | float | bool] = {"reconnect.backoff.max.ms": 500}
    return KafkaSource("stream", KafkaSettings(bootstrap_servers=broker.address, topics=["events"], settings=settings))


def test_a_killed_broker_shows_and_nothing_is_lost_or_doubled(broker: KafkaBroker) -> None:
    sink, stream = RecordingSink(), source(broker)
    send(broker, *range(1000))

    async def story() -> None:
        await until(lambda: len(sink.ids) == 1000)
        await until(lambda: stream.health == Health(True, 0, refill=0))
        await asyncio.sleep(PERSISTED_SECONDS)
        broker.kill()
        await until(lambda: not stream.health.up)
        assert stream.health.error is not None
        broker.start()
        await asyncio.to_thread(send, broker, *range(1000, 2000))
        await until(lambda: len(sink.ids) >= 2000, 30)
        await until(lambda: stream.health == Health(True, 0, refill=0))

    asyncio.run(running(stream, sink, story))
    assert sorted(sink.ids) == list(range(2000))

    async def restarted() -> None:
        await asyncio.to_thread(send, broker, 2000)
        await until(lambda: len(sink.ids) > 2000)

    asyncio.run(running(source(broker), sink, restarted))
    assert sorted(sink.ids) == list(range(2001))


def test_what_others_have_read_is_read_again_and_not_counted(broker: KafkaBroker) -> None:
    sinks = RecordingSink(), RecordingSink()
    send(broker, *range(10))

    async def first() -> None:
        await until(lambda: len(sinks[0].ids) == 10)

    async def second() -> None:
        await until(lambda: len(sinks[1].positions) == 1 and sinks[1].refilled and stream.health.refill == 0)
        await asyncio.to_thread(send, broker, 10)
        await until(lambda: sinks[1].ids == [10])

    asyncio.run(running(source(broker), sinks[0], first))
    stream = source(broker)
    asyncio.run(running(stream, sinks[1], second))
    again = [json.loads(line)["id"] for body in sinks[1].refilled for line in body.split(b"\n")]
    assert sorted(again) == list(range(10))
    assert json.loads(sinks[1].positions["stream"]) == {"events": {"0": 6, "1": 5}}


def test_a_broker_that_is_not_there_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    """However often librdkafka tries, so that the last faults on the landing page keep those of others."""
    address = f"127.0.0.1:{free_port()}"
    settings = KafkaSettings(bootstrap_servers=address, topics=["events"], settings={"reconnect.backoff.max.ms": 100})
    stream = KafkaSource("stream", settings)

    async def story() -> None:
        await until(lambda: stream.health.error is not None)
        await asyncio.sleep(1.0)

    with caplog.at_level(logging.WARNING):
        asyncio.run(running(stream, RecordingSink(), story))
    (record,) = caplog.records
    assert record.getMessage().startswith("source stream is down and will be tried again: ")
    assert stream.health.error is not None
    assert stream.health.error.endswith(f"{address} failed: Connection refused")
