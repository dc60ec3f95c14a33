"""Kafka topics, read as a member of a consumer group: offsets are committed once the events are durable.

The consumer lives in a thread of its own, which hands one body at a time to the event loop and waits until it is
durable. So nothing is in flight when partitions are taken away or given. The position is the next offset of every
partition: what comes again after a crash, or after a commit that failed, is passed by.
"""

import asyncio
import json
import logging
import re
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from confluent_kafka import OFFSET_INVALID, Consumer, KafkaError, KafkaException, Message, TopicPartition

from mlops_exporter.events import clock
from mlops_exporter.settings.sources import KafkaSettings, SourceSettings
from mlops_exporter.sources.base import (
    BATCH_EVENTS,
    BATCH_SECONDS,
    STOP_SECONDS,
    Health,
    IntakeResult,
    Sink,
    deliver,
    persist,
)
from mlops_exporter.sources.lines import MALFORMED, lines_of

_DEFAULTS = {
    "partition.assignment.strategy": "cooperative-sticky",
    "auto.offset.reset": "earliest",
    "statistics.interval.ms": 1000,
    "queued.max.messages.kbytes": 16 * 1024,  # what is read ahead, of all partitions; without it, 64 MiB of each topic
}
_ASK_SECONDS = 5.0  # how long a question to the brokers may take when partitions are given

_log = logging.getLogger(__name__)
_client_log = logging.getLogger(f"{__name__}.client")
# What breaks a connection also comes to `error_cb`, and is told once: librdkafka repeats it with ever other counts.
_client_log.addFilter(lambda record: not record.getMessage().startswith("FAIL "))
_REPETITION = re.compile(r" \(after \d+ms in state [^)]*\)$")

Partition = tuple[str, int]


def make(settings: SourceSettings, _profiles: object) -> "KafkaSource":
    """Return the source of a configuration."""
    assert settings.kafka is not None
    return KafkaSource(settings.name, settings.kafka)


class KafkaSource:
    """The messages of some topics."""

    def __init__(self, name: str, settings: KafkaSettings) -> None:
        self.name = name
        self.health = Health(False)
        self._settings = settings

    async def run(self, sink: Sink) -> None:
        """Deliver until cancelled."""
        await persist(self, lambda: self._follow(sink), (KafkaException, OSError))

    async def _follow(self, sink: Sink) -> None:
        member = _Member(self, self._settings, sink, asyncio.get_running_loop())
        pool = ThreadPoolExecutor(1, thread_name_prefix=f"kafka-{self.name}")
        thread = asyncio.get_running_loop().run_in_executor(pool, member.consume)
        try:
            await asyncio.shield(thread)
        except asyncio.CancelledError:
            member.stop()
            await asyncio.wait({thread}, timeout=STOP_SECONDS)
            member.abandon()
            await asyncio.wait({thread})
            raise
        finally:
            pool.shutdown(wait=False)


class _Member:
    """One membership of the group, for the consumer's thread but for `stop` and `abandon`."""

    def __init__(
        self, source: KafkaSource, settings: KafkaSettings, sink: Sink, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._source = source
        self._sink = sink
        self._loop = loop
        self._settings = settings
        self._stopping = threading.Event()
        self._delivery: Future[IntakeResult] | None = None
        self._next = _decode(sink.position(source.name))
        self._standing: dict[Partition, int] | None = None  # of the assigned partitions, for the lag; None: none yet
        self._assigned: set[Partition] = set()
        self._uncommitted: set[Partition] = set()
        self._commit_due = False
        self._connected = False
        self._fault: str | None = None
        self._connection_fault: str | None = None

    def stop(self) -> None:
        """Ask for the end, after the body at hand."""
        self._stopping.set()

    def abandon(self) -> None:
        """Give up the body at hand."""
        if self._delivery is not None:
            self._delivery.cancel()

    def consume(self) -> None:
        """Deliver until stopped; raises KafkaException when this consumer can do no more."""
        callbacks = {
            "error_cb": self._on_error,
            "on_commit": self._on_commit,
            "stats_cb": self._on_statistics,
            "logger": _client_log,
        }
        settings = client_settings(self._settings)
        self._from_beginning = settings["auto.offset.reset"] in ("earliest", "smallest", "beginning")
        self._consumer = Consumer(settings | callbacks)
        try:
            self._consumer.subscribe(
                list(self._settings.topics),
                on_assign=self._on_assign,
                on_revoke=self._on_revoke,
                on_lost=self._on_lost,
            )
            while not self._stopping.is_set():
                self._take(self._consumer.consume(BATCH_EVENTS, BATCH_SECONDS))
                if self._commit_due:
                    self._commit_due = False
                    self._commit(self._uncommitted, wait=False)
                self._report()
            self._commit_at_last()
        finally:
            self._consumer.close()

    def _take(self, messages: Sequence[Message]) -> None:
        lines: list[bytes] = []
        following: dict[Partition, int] = {}
        for message in messages:
            if error := message.error():
                self._fault = error.str()
                if error.fatal():
                    raise KafkaException(error)
                continue
            partition, offset = (str(message.topic()), int(message.partition() or 0)), int(message.offset() or 0)
            if partition not in self._assigned:
                continue
            if offset < following.get(partition, self._next.get(partition, 0)):  # it is durable already
                self._uncommitted |= {partition} & self._next.keys()
                self._commit_due = True
                continue
            following[partition] = offset + 1
            value = message.value()
            lines += [MALFORMED] if value is None else lines_of(bytes(value))
        if not following:
            return
        self._fault = None
        position = self._next | following
        if lines:
            self._delivery = asyncio.run_coroutine_threadsafe(
                deliver(self._sink, self._source.name, b"\n".join(lines), clock.now(), _encode(position)), self._loop
            )
            self._delivery.result()
        self._next = position
        self._standing = (self._standing or {}) | following
        self._uncommitted |= following.keys()
        self._commit_due = True

    def _commit(self, partitions: set[Partition], wait: bool) -> None:
        """Commit what is durable. A failure is made up for by a later commit, or in the end by the position."""
        if not partitions:
            return
        offsets = [TopicPartition(*partition, self._next[partition]) for partition in partitions]
        try:
            if wait:
                self._consumer.commit(offsets=offsets, asynchronous=False)
            else:
                self._consumer.commit(offsets=offsets, asynchronous=True)
        except KafkaException as error:
            self._on_commit(error.args[0], offsets)

    def _commit_at_last(self) -> None:
        """Commit what is durable before leaving; while the group rebalances that is refused, so take part in it."""
        deadline = time.monotonic() + STOP_SECONDS
        while True:
            self._commit_due = False
            self._commit(self._uncommitted, wait=True)
            if not self._commit_due or time.monotonic() > deadline:
                return
            self._consumer.consume(1, BATCH_SECONDS)  # a message that comes now is left to the next member

    def _on_commit(self, error: KafkaError | None, _: list[TopicPartition]) -> None:
        if error is not None:
            self._commit_due = True
            _log.debug("source %s could not commit, and will try again: %s", self._source.name, error.str())

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        assigned = {(partition.topic, partition.partition) for partition in partitions}
        _log.info("source %s is given %s", self._source.name, _names(assigned))
        self._fault = None
        self._assigned |= assigned
        try:
            for partition in assigned & self._next.keys():
                self._check_position(consumer, partition)
            self._standing = (self._standing or {}) | self._where(consumer, partitions)
        except KafkaException as error:
            _log.info("source %s could not ask where the group stands: %s", self._source.name, error)

    def _where(self, consumer: Consumer, partitions: list[TopicPartition]) -> dict[Partition, int]:
        """Return the offsets that are next: by the position, by the group's commit, or else where it begins."""
        standing = {}
        for committed in consumer.committed(partitions, timeout=_ASK_SECONDS) if partitions else ():
            partition = committed.topic, committed.partition
            standing[partition] = max(committed.offset, self._next.get(partition, OFFSET_INVALID))
            if standing[partition] < 0:
                begin, end = consumer.get_watermark_offsets(TopicPartition(*partition), timeout=_ASK_SECONDS)
                standing[partition] = begin if self._from_beginning else end
        return standing

    def _check_position(self, consumer: Consumer, partition: Partition) -> None:
        """Forget a position beyond the end of its partition, which then is not the one that it was."""
        _, end = consumer.get_watermark_offsets(TopicPartition(*partition), timeout=_ASK_SECONDS)
        if end < self._next[partition]:
            _log.warning(
                "source %s: %s ends at %d, but was read up to %d before: it was made anew, and is read from where the "
                "group stands",
                self._source.name,
                _names([partition]),
                end,
                self._next.pop(partition),
            )

    def _on_revoke(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        revoked = {(partition.topic, partition.partition) for partition in partitions}
        self._commit(self._uncommitted & revoked, wait=True)
        self._release(revoked)

    def _on_lost(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        self._release({(partition.topic, partition.partition) for partition in partitions})

    def _release(self, partitions: set[Partition]) -> None:
        _log.info("source %s gives back %s", self._source.name, _names(partitions))
        self._assigned -= partitions
        if self._standing is not None:
            self._standing = {partition: at for partition, at in self._standing.items() if partition not in partitions}
        self._uncommitted -= partitions

    def _on_error(self, error: KafkaError) -> None:
        if error.code() == KafkaError._ALL_BROKERS_DOWN:
            self._connected = False
            self._connection_fault = self._connection_fault or error.str()
        else:
            self._connection_fault = _REPETITION.sub("", error.str())

    def _on_statistics(self, text: str) -> None:
        brokers = json.loads(text)["brokers"].values()
        self._connected = any(broker["state"] == "UP" for broker in brokers)
        if self._connected:
            self._connection_fault = None

    def _report(self) -> None:
        error = self._fault if self._connected else self._connection_fault
        if error is not None and self._source.health.error is None:
            _log.warning("source %s is down and will be tried again: %s", self._source.name, error)
        up = self._connected and error is None
        self._source.health = Health(up, self._lag() if self._connected else None, error)

    def _lag(self) -> float | None:
        """Return how many messages wait in the partitions of this member, None before it was given any."""
        if self._standing is None:
            return None
        lag = 0
        for partition, standing in self._standing.items():
            watermarks = self._consumer.get_watermark_offsets(TopicPartition(*partition), cached=True)
            if watermarks is not None and watermarks[1] != OFFSET_INVALID:
                lag += max(0, watermarks[1] - standing)
        return lag


def client_settings(settings: KafkaSettings) -> dict[str, Any]:
    """Return librdkafka's configuration; raises OSError when a file with a secret cannot be read."""
    given: dict[str, Any] = {}
    for key, value in settings.settings.items():
        if key.endswith("_file"):
            given[key.removesuffix("_file")] = Path(str(value)).read_text(encoding="utf-8").strip()
        else:
            given[key] = value
    return (
        _DEFAULTS
        | given
        | {
            "bootstrap.servers": settings.bootstrap_servers,
            "group.id": settings.group,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
        }
    )


def check_settings(settings: KafkaSettings) -> None:
    """Raise ValueError when librdkafka does not know a setting, or cannot use it."""
    reserved = {"bootstrap.servers", "group.id", "enable.auto.commit", "enable.auto.offset.store"}
    if taken := reserved & settings.settings.keys():
        raise ValueError(f"{', '.join(sorted(taken))} cannot be set: the exporter does")
    try:
        Consumer(client_settings(settings) | {"logger": _client_log}).close()  # else it writes to standard error
    except KafkaException as error:
        raise ValueError(f"{error.args[0].str()}") from None
    except OSError as error:
        raise ValueError(f"{error}") from None


def _decode(position: bytes | None) -> dict[Partition, int]:
    topics: Mapping[str, Mapping[str, int]] = json.loads(position) if position else {}
    return {(topic, int(number)): offset for topic, offsets in topics.items() for number, offset in offsets.items()}


def _encode(offsets: Mapping[Partition, int]) -> bytes:
    topics: dict[str, dict[int, int]] = {}
    for (topic, number), offset in offsets.items():
        topics.setdefault(topic, {})[number] = offset
    return json.dumps(topics).encode()


def _names(partitions: Any) -> str:
    return ", ".join(f"{topic}[{number}]" for topic, number in sorted(partitions)) or "nothing"
