"""The Kafka source against a broker with a disk."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from exporter.config import KafkaSettings
from exporter.sources.kafka import KafkaSource
from tests.integration.sources.brokers import KafkaBroker
from tests.sink import RecordingSink, event, running, until

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
        await until(lambda: stream.health == (True, 0, None))
        await asyncio.sleep(PERSISTED_SECONDS)
        broker.kill()
        await until(lambda: not stream.health.up)
        assert stream.health.error is not None
        broker.start()
        await asyncio.to_thread(send, broker, *range(1000, 2000))
        await until(lambda: len(sink.ids) >= 2000, 30)
        await until(lambda: stream.health == (True, 0, None))

    asyncio.run(running(stream, sink, story))
    assert sorted(sink.ids) == list(range(2000))

    async def restarted() -> None:
        await asyncio.to_thread(send, broker, 2000)
        await until(lambda: len(sink.ids) > 2000)

    asyncio.run(running(source(broker), sink, restarted))
    assert sorted(sink.ids) == list(range(2001))
