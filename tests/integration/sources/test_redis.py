"""The Redis source against a real Redis."""

import asyncio
import contextlib
import logging
import socket
import threading
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from mlops_exporter.settings.sources import RedisSettings
from mlops_exporter.sources.base import BATCH_BYTES, Health, Pace
from mlops_exporter.sources.redis import MOST_ENTRIES, RedisSource
from tests.sink import RecordingSink, event, running, until
from tests.support.brokers import RedisServer


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def client(server: RedisServer) -> Iterator[Redis]:
    with Redis(port=server.port, protocol=2) as client:
        yield client


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlops_exporter.sources.base.RETRY_SECONDS", (0.1, 0.5))
    monkeypatch.setattr("mlops_exporter.sources.redis.LAG_SECONDS", 0.1)


def source(server: RedisServer, **settings: object) -> RedisSource:
    given: dict[str, object] = {"url": server.url, "stream": "feedback", "group": "exporters", "consumer": "first"}
    return RedisSource("queue", RedisSettings.model_validate(given | settings))


def add(client: Redis, *identities: int, field: str = "event") -> None:
    with client.pipeline(transaction=False) as pipeline:
        for identity in identities:
            pipeline.xadd("feedback", {field: event(identity)})
        pipeline.execute()


def pending(client: Redis) -> int:
    return int(client.xpending("feedback", "exporters")["pending"])


def test_entries_are_delivered_and_acknowledged_and_the_lag_shows(server: RedisServer, client: Redis) -> None:
    add(client, *range(2500))  # before the group is made
    sink, queue = RecordingSink(), source(server)

    async def story() -> None:
        await until(lambda: len(sink.ids) == 2500)
        add(client, 2500)
        await until(lambda: len(sink.ids) == 2501)
        await until(lambda: queue.health == Health(True, 0))
        sink.refusals = 10  # a full intake for half a second
        add(client, *range(2501, 2601))
        await until(lambda: pending(client) > 0)
        await until(lambda: len(sink.ids) == 2601 and pending(client) == 0)

    asyncio.run(running(queue, sink, story))
    assert sink.ids == list(range(2601))
    assert len(sink.bodies) < 10


def test_lag_counts_what_waits_in_the_group(server: RedisServer, client: Redis) -> None:
    client.xgroup_create("feedback", "exporters", id="0", mkstream=True)
    add(client, *range(30))
    client.xreadgroup("exporters", "stuck", {"feedback": ">"}, count=10)  # ten given to another, not acknowledged
    sink, queue = RecordingSink(), source(server)

    async def story() -> None:
        await until(lambda: len(sink.ids) == 20)
        await until(lambda: queue.health.lag_events == 10)

    asyncio.run(running(queue, sink, story))


def test_poison_and_missing_fields_are_counted_and_acknowledged(server: RedisServer, client: Redis) -> None:
    client.xadd("feedback", {"event": b"\xff\xfe"})
    client.xadd("feedback", {"something": b"else"})
    client.xadd("feedback", {"event": b"[" + event(1) + b",\n" + event(2) + b"]"})
    add(client, 3)
    sink = RecordingSink()

    async def story() -> None:
        await until(lambda: len(sink.lines) == 5 and pending(client) == 0)

    asyncio.run(running(source(server), sink, story))
    assert [line for line in sink.lines if not line.startswith(b"{")] == [b"\xff\xfe", b"?"]


def test_another_field_may_hold_the_event(server: RedisServer, client: Redis) -> None:
    add(client, 1, field="payload")
    sink = RecordingSink()

    async def story() -> None:
        await until(lambda: sink.ids == [1])

    asyncio.run(running(source(server, field="payload"), sink, story))


def test_killed_and_started_again_nothing_is_lost_or_doubled(
    server: RedisServer, client: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    sink, queue = RecordingSink(), source(server)
    sent = 0

    async def story() -> None:
        nonlocal sent
        for _ in range(3):
            before = len(sink.ids)
            add(client, *range(sent, sent + 1000))
            sent += 1000
            await until(lambda: len(sink.ids) > before)  # noqa: B023 - it is awaited here
            server.kill()  # as likely before an acknowledgement as after it
            await until(lambda: not queue.health.up)
            assert queue.health.error is not None
            assert queue.health.lag_events is None
            server.start()
            await until(lambda: queue.health.up)
        await until(lambda: len(sink.ids) == 3000 and pending(client) == 0)

    with caplog.at_level(logging.WARNING):
        asyncio.run(running(queue, sink, story))
    assert sink.ids == list(range(3000))
    assert len(caplog.records) <= 12  # not one per attempt


class CrashError(Exception):
    """Stands for a power cut."""


@pytest.mark.parametrize("entries", [5, 2300])
def test_a_crash_between_durability_and_acknowledgement_counts_nothing_twice(
    server: RedisServer, client: Redis, monkeypatch: pytest.MonkeyPatch, entries: int
) -> None:
    add(client, *range(entries))
    sink = RecordingSink()

    async def crash(*_: object) -> None:
        raise CrashError

    with monkeypatch.context() as patch:
        patch.setattr(RedisSource, "_acknowledge", crash)
        with pytest.raises(CrashError):
            asyncio.run(source(server).run(sink))
    given = len(sink.ids)
    assert given == pending(client) == min(entries, Pace().entries)

    async def story() -> None:
        await until(lambda: len(sink.ids) == entries and pending(client) == 0)

    asyncio.run(running(source(server), sink, story))
    assert sink.ids == list(range(entries))


def test_a_crash_before_durability_loses_nothing(server: RedisServer, client: Redis) -> None:
    client.xgroup_create("feedback", "exporters", id="0", mkstream=True)
    add(client, *range(1500))
    client.xreadgroup("exporters", "first", {"feedback": ">"}, count=1200)  # given to us, and forgotten
    client.xtrim("feedback", maxlen=1499, approximate=False)  # the first entry is deleted meanwhile
    sink = RecordingSink()

    async def story() -> None:
        await until(lambda: len(sink.ids) == 1499 and pending(client) == 0)

    asyncio.run(running(source(server), sink, story))
    assert sink.ids == list(range(1, 1500))


def test_a_dead_consumers_entries_are_taken_over(server: RedisServer, client: Redis) -> None:
    client.xgroup_create("feedback", "exporters", id="0", mkstream=True)
    add(client, *range(20))
    client.xreadgroup("exporters", "dead", {"feedback": ">"}, count=20)
    add(client, *range(20, 30))
    sink = RecordingSink()

    async def story() -> None:
        await until(lambda: len(sink.ids) == 10)
        assert sink.ids == list(range(20, 30))  # not idle for long enough yet
        await until(lambda: len(sink.ids) == 30 and pending(client) == 0)

    asyncio.run(running(source(server, claim_idle="1s"), sink, story))
    assert sorted(sink.ids) == list(range(30))


def test_two_consumers_share_the_stream(server: RedisServer, client: Redis) -> None:
    sinks = RecordingSink(), RecordingSink()
    add(client, *range(5000))

    async def story() -> None:
        await until(lambda: len(sinks[0].ids) + len(sinks[1].ids) == 5000)

    async def both() -> None:
        await running(source(server), sinks[0], lambda: running(source(server, consumer="second"), sinks[1], story))

    asyncio.run(both())
    assert sorted(sinks[0].ids + sinks[1].ids) == list(range(5000))
    assert all(sink.ids for sink in sinks)


def test_it_stops_even_when_the_client_swallows_the_cancellation(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = RedisSource._read
    swallowed: list[BaseException] = []

    async def swallow(*arguments: Any, **settings: Any) -> Any:
        try:
            return await read(*arguments, **settings)
        except asyncio.CancelledError as cancellation:
            if swallowed:
                raise
            swallowed.append(cancellation)
            return []

    monkeypatch.setattr(RedisSource, "_read", swallow)

    async def story() -> None:
        queue = source(server)
        task = asyncio.create_task(queue.run(RecordingSink()))
        await until(lambda: queue.health.up)
        await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.wait({task}, timeout=5)
        assert task.cancelled()
        assert swallowed

    asyncio.run(story())


def test_a_flushed_server_gets_its_group_again(server: RedisServer, client: Redis) -> None:
    sink, queue = RecordingSink(), source(server)
    add(client, 1)

    async def story() -> None:
        await until(lambda: sink.ids == [1])
        client.flushall()
        add(client, 2)
        await until(lambda: sink.ids == [1, 2])

    asyncio.run(running(queue, sink, story))


def test_a_password_is_read_from_its_file_and_never_shown(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    server = RedisServer(tmp_path, password="hunter2")
    server.start()
    (tmp_path / "password").write_text("wrong-secret\n")
    sink, queue = RecordingSink(), source(server, password_file=str(tmp_path / "password"))

    async def story() -> None:
        await until(lambda: queue.health.error is not None)
        assert "secret" not in str(queue.health.error)
        (tmp_path / "password").write_text("hunter2\n")  # rotated: read again at the next attempt
        await until(lambda: queue.health.up)

    try:
        with caplog.at_level(logging.DEBUG, "exporter"):
            asyncio.run(running(queue, sink, story))
    finally:
        server.stop()
    assert "hunter2" not in caplog.text
    assert "wrong-secret" not in caplog.text


@pytest.mark.parametrize("size", [283_000, 1_000_000])
def test_large_entries_are_read_a_few_at_a_time(server: RedisServer, client: Redis, size: int) -> None:
    count = 120_000_000 // size
    for identity in range(count):
        client.xadd("feedback", {"event": event(identity), "note": b"x" * size})
    sink, queue = RecordingSink(), source(server)

    async def story() -> None:
        await until(lambda: len(sink.ids) == count, 60)
        await until(lambda: pending(client) == 0)

    tracemalloc.start()
    try:
        asyncio.run(running(queue, sink, story))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sink.ids == list(range(count))
    assert peak < 60e6  # all of them are 120


def test_large_entries_behind_small_ones_are_handed_over_by_bytes(server: RedisServer, client: Redis) -> None:
    for identity in range(400):
        client.xadd("feedback", {"event": event(identity)})
    for identity in range(400, 460):
        client.xadd("feedback", {"event": event(identity)[:-1] + b',"note":"' + b"x" * 500_000 + b'"}'})
    sink = RecordingSink()

    async def story() -> None:
        await until(lambda: len(sink.ids) == 460, 60)
        await until(lambda: pending(client) == 0)

    asyncio.run(running(source(server), sink, story))
    assert sink.ids == list(range(460))
    assert max(map(len, sink.bodies)) <= BATCH_BYTES + MOST_ENTRIES, "line ends come on top"


def test_what_does_not_come_in_time_is_asked_for_in_smaller_portions(
    server: RedisServer, client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlops_exporter.sources.redis._TIMEOUT_SECONDS", 0.6)
    monkeypatch.setattr("mlops_exporter.sources.redis.BLOCK_SECONDS", 0.1)
    for identity in range(40):
        client.xadd("feedback", {"event": event(identity), "note": b"x" * 300_000})
    with Throttled(server.port, bytes_per_second=2_000_000) as line:  # so 8 entries take twice the time that there is
        sink, queue = RecordingSink(), source(server, url=f"redis://127.0.0.1:{line.port}/0")

        async def story() -> None:
            await until(lambda: len(sink.ids) == 40, 60)

        asyncio.run(running(queue, sink, story))
    assert sorted(sink.ids) == list(range(40))


def test_a_pace_goes_by_bytes() -> None:
    pace = Pace()
    taken = []
    for size in (100, 100, 100, 100, 100, 283_000, 10, 1_000_000, 9_000_000):
        taken.append(pace.entries)
        pace.learn(pace.entries, size * pace.entries)
    assert taken == [8, 32, 128, 512, 1000, 1000, 14, 56, 4]
    assert pace.entries == 1
    pace.slow_down()
    pace.learn(0, 0)
    assert pace.entries == 1


class Throttled:
    """A slow line to a port of this machine."""

    def __init__(self, port: int, bytes_per_second: float) -> None:
        self._target, self._pause = port, 65536 / bytes_per_second

    def __enter__(self) -> "Throttled":
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                threading.Thread(target=self._pass_on, args=(near, far, 0.0), daemon=True).start()
                threading.Thread(target=self._pass_on, args=(far, near, self._pause), daemon=True).start()

    def _pass_on(self, one: socket.socket, other: socket.socket, pause: float) -> None:
        with contextlib.suppress(OSError), one, other:
            while data := one.recv(65536):
                other.sendall(data)
                time.sleep(pause * len(data) / 65536)
