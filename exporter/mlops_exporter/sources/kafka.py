"""Kafka topics, read as a member of a consumer group: offsets are committed once the events are durable.

The consumer lives in a thread of its own, which hands one body at a time to the event loop and waits until it is
durable. So nothing is in flight when partitions are taken away or given. The position is the next offset of every
partition: what comes again after a crash, or after a commit that failed, is passed by.

The topic is the log of what waits for its label. Who is given a partition that others have read meanwhile reads it
again, from as long ago as anything waits up to where the group stands, and counts none of it: so labels that are to
come find their predictions here. Who has given one away forgets what waited of it.
"""

import asyncio
import json
import logging
import re
import threading
import time
from collections.abc import Collection, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any

from confluent_kafka import OFFSET_INVALID, Consumer, KafkaError, KafkaException, Message, TopicPartition

from mlops_exporter.events import clock
from mlops_exporter.settings.sources import KafkaSettings, SourceSettings
from mlops_exporter.sources.base import (
    BATCH_SECONDS,
    STOP_SECONDS,
    Health,
    Origins,
    Pace,
    Sink,
    by_bytes,
    deliver,
    hold,
    persist,
)
from mlops_exporter.sources.lines import MALFORMED, lines_of

_DEFAULTS = {
    "partition.assignment.strategy": "cooperative-sticky",
    "auto.offset.reset": "earliest",
    "statistics.interval.ms": 1000,
    "queued.max.messages.kbytes": 16 * 1024,  # what is read ahead, of all partitions; without it, 64 MiB of each topic
    "fetch.queue.backoff.ms": 50,  # after which it looks whether there is room again; without it, a second goes by
}
_REFILLED_AT_ONCE = 4096  # messages: they are not answered for one by one, and larger bodies cost less
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
        self._delivery: Future[Any] | None = None
        self._next = _decode(sink.position(source.name))
        self._standing: dict[Partition, int] | None = None  # of the assigned partitions, for the lag; None: none yet
        self._assigned: set[Partition] = set()
        self._uncommitted: set[Partition] = set()
        self._commit_due = False
        self._refills: dict[Partition, tuple[int, int]] = {}
        """Of the assigned partitions that are read again, the next offset and the one at which counting begins."""
        self._connected = False
        self._pace, self._refilling_pace = Pace(), Pace(_REFILLED_AT_ONCE)
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
        self._incremental = str(settings.get("partition.assignment.strategy", "cooperative")).startswith("cooperative")
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
                pace = self._refilling_pace if self._refills else self._pace
                messages = self._consumer.consume(pace.entries, BATCH_SECONDS)
                pace.learn(len(messages), sum(map(len, messages)))
                for part in by_bytes(messages, len):
                    if self._stopping.is_set():
                        break
                    self._take(part)
                if self._refills and not messages:
                    self._finish_refills()
                if self._commit_due:
                    self._commit_due = False
                    self._commit(self._uncommitted, wait=False)
                self._report()
            self._commit_at_last()
        finally:
            self._consumer.close()

    def _take(self, messages: Sequence[Message]) -> None:
        """Let others wait again what they have counted, and count the rest."""
        again, fresh = _Lines(), _Lines()
        for message in messages:
            if (error := message.error()) is not None:
                self._fault = error.str()
                if error.fatal():
                    raise KafkaException(error)
                continue
            partition: Any = message.topic(), message.partition()  # a message without error has them all
            offset: Any = message.offset()
            if partition not in self._assigned:
                continue
            refill = self._refills.get(partition)
            if refill is not None and offset < refill[1]:
                again.add(partition, offset, message.value())
            elif offset < fresh.following.get(partition, self._next.get(partition, 0)):  # it is durable already
                self._uncommitted |= {partition} & self._next.keys()
                self._commit_due = True
            else:
                fresh.add(partition, offset, message.value())
        if again.following:
            self._refill(again)
        if fresh.following:
            self._hold(fresh.following.keys() & self._refills.keys())
            self._count(fresh)

    def _count(self, lines: "_Lines") -> None:
        """Deliver lines that nobody has counted."""
        self._fault = None
        position = self._next | lines.following
        if lines.origins:
            name, body = self._source.name, lines.body
            self._wait(deliver(self._sink, name, body, clock.now(), _encode(position), lines.origins))
        self._next = position
        self._standing = (self._standing or {}) | lines.following
        self._uncommitted |= lines.following.keys()
        self._commit_due = True

    def _refill(self, lines: "_Lines") -> None:
        """Let wait again what others have counted."""
        if lines.origins:
            self._wait(self._sink.refill(self._source.name, lines.body, clock.now(), lines.origins))
        for partition, offset in lines.following.items():
            self._refills[partition] = offset, self._refills[partition][1]
        self._hold({partition for partition, (offset, end) in self._refills.items() if offset >= end})

    def _hold(self, refilled: Collection[Partition]) -> None:
        """Make durable what was refilled, and that it was: from there on, partitions are counted."""
        if not refilled:
            return
        position = self._next | {partition: self._refills[partition][1] for partition in refilled}
        self._wait(hold(self._sink, self._source.name, _encode(position)))
        self._next = position
        for partition in refilled:
            del self._refills[partition]
        _log.info("source %s has read %s again and counts from there", self._source.name, _names(refilled))

    def _wait(self, work: Coroutine[Any, Any, Any]) -> None:
        """Let the event loop do something, and wait until it is done."""
        self._delivery = asyncio.run_coroutine_threadsafe(work, self._loop)
        self._delivery.result()

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
            committed = self._committed(consumer, partitions)
            self._standing = (self._standing or {}) | self._where(consumer, committed)
            if self._settings.refill and self._sink.refills is not None:
                self._prepare_refills(consumer, committed, self._sink.refills)
        except KafkaException as error:
            if self._settings.refill and self._sink.refills is not None:
                raise  # to go on would strand what waits: whoever joins the group anew asks again
            _log.info("source %s could not ask where the group stands: %s", self._source.name, error)
        if self._refills.keys() & assigned:
            for each in partitions:
                each.offset = self._refills.get((each.topic, each.partition), (OFFSET_INVALID, 0))[0]
            (consumer.incremental_assign if self._incremental else consumer.assign)(partitions)

    def _prepare_refills(self, consumer: Consumer, committed: Mapping[Partition, int], seconds: float) -> None:
        """Find what is to be read again: the partitions that others have read since this exporter last did.

        Nothing waits here any more of those that it does not have, or is to read again. Of a partition that ends before
        where the group stands nothing was read: it was made anew.
        """
        stale = {partition for partition, offset in committed.items() if self._next.get(partition, -1) < offset}
        self._next = {partition: at for partition, at in self._next.items() if partition in self._assigned - stale}
        kept = map(_name, self._next.keys() | self._refills.keys())
        self._wait(self._sink.forget(self._source.name, frozenset(kept), _encode(self._next)))
        if not stale:
            return
        since = round(1000 * (clock.now() - seconds))
        for begin in consumer.offsets_for_times([TopicPartition(*each, since) for each in stale], timeout=_ASK_SECONDS):
            partition = begin.topic, begin.partition
            _, end = consumer.get_watermark_offsets(TopicPartition(*partition), timeout=_ASK_SECONDS)
            if 0 <= begin.offset < committed[partition] <= end:
                self._refills[partition] = begin.offset, committed[partition]
        if self._refills:
            _log.info("source %s reads %d messages of %s again", self._source.name, self._left, _names(self._refills))

    @property
    def _left(self) -> int:
        """How many messages are to be read again."""
        return sum(end - offset for offset, end in self._refills.values())

    def _finish_refills(self) -> None:
        """See which partitions are read again although the last of their offsets hold no message."""
        at = self._consumer.position([TopicPartition(*partition) for partition in self._refills])
        self._hold({(e.topic, e.partition) for e in at if e.offset >= self._refills[e.topic, e.partition][1]})

    def _committed(self, consumer: Consumer, partitions: list[TopicPartition]) -> dict[Partition, int]:
        """Return where the group stands, negative where it has never been."""
        answer = consumer.committed(partitions, timeout=_ASK_SECONDS) if partitions else []
        return {(each.topic, each.partition): int(each.offset) for each in answer}

    def _where(self, consumer: Consumer, committed: Mapping[Partition, int]) -> dict[Partition, int]:
        """Return the offsets that are next: by the position, by the group's commit, or else where it begins."""
        standing = {}
        for partition, offset in committed.items():
            standing[partition] = max(offset, self._next.get(partition, OFFSET_INVALID))
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
                _name(partition),
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
        for partition in partitions:
            self._refills.pop(partition, None)

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
        self._source.health = Health(up, self._lag() if self._connected else None, error, refill=self._left)

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


class _Lines:
    """The lines of messages, partition by partition, and the offsets that follow them."""

    def __init__(self) -> None:
        self._lines: dict[Partition, list[bytes]] = {}
        self.following: dict[Partition, int] = {}

    def add(self, partition: Partition, offset: int, value: bytes | None) -> None:
        """Take in a message."""
        self.following[partition] = offset + 1
        lines = self._lines.get(partition)
        if lines is None:
            lines = self._lines[partition] = []
        lines += [MALFORMED] if value is None else lines_of(value)

    @property
    def body(self) -> bytes:
        """All lines."""
        return b"\n".join(chain.from_iterable(self._lines.values()))

    @property
    def origins(self) -> Origins:
        """Which lines are whose."""
        return tuple((_name(partition), len(lines)) for partition, lines in self._lines.items() if lines)


def broker_settings(settings: KafkaSettings) -> dict[str, Any]:
    """Return what librdkafka is given of a user's; raises OSError when a file with a secret cannot be read."""
    given: dict[str, Any] = {}
    for key, value in settings.settings.items():
        if key.endswith("_file"):
            given[key.removesuffix("_file")] = Path(str(value)).read_text(encoding="utf-8").strip()
        else:
            given[key] = value
    return given | {"bootstrap.servers": settings.bootstrap_servers}


def client_settings(settings: KafkaSettings) -> dict[str, Any]:
    """Return a consumer's configuration; raises OSError when a file with a secret cannot be read."""
    given = broker_settings(settings)
    defaults = dict(_DEFAULTS)
    if given.get("group.protocol") == "consumer":  # there the brokers assign
        del defaults["partition.assignment.strategy"]
    ours = {"group.id": settings.group, "enable.auto.commit": False, "enable.auto.offset.store": False}
    return defaults | given | ours


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


def _name(partition: Partition) -> str:
    return f"{partition[0]}[{partition[1]}]"


def _names(partitions: Iterable[Partition]) -> str:
    return ", ".join(map(_name, sorted(partitions))) or "nothing"
