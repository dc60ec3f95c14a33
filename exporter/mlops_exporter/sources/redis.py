"""Redis Streams, read through a consumer group: entries are acknowledged once their events are durable.

The position is the IDs of the body that was delivered last. It is the only one that can be durable and yet not be
acknowledged, so when these entries come again, after a crash or a broken connection, they are acknowledged only.
"""

import asyncio
import json
import logging
import socket
import time
from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from mlops_exporter.events import clock
from mlops_exporter.settings.sources import RedisSettings, SourceSettings
from mlops_exporter.sources.base import (
    BATCH_BYTES,
    BATCH_EVENTS,
    BATCH_SECONDS,
    Health,
    Pace,
    Sink,
    by_bytes,
    deliver,
    finish,
    persist,
    stay_cancelled,
)
from mlops_exporter.sources.lines import MALFORMED, lines_of

BLOCK_SECONDS = 1.0
LAG_SECONDS = 2.0
"""How often the lag is asked for."""

MOST_ENTRIES = 250
"""Read at a time: small ones may be followed by ones of a megabyte, and Redis cannot be asked for bytes."""

_TIMEOUT_SECONDS = 5.0 + BLOCK_SECONDS

_log = logging.getLogger(__name__)

Entry = tuple[bytes, dict[bytes, bytes] | None]


def make(settings: SourceSettings, _profiles: object) -> "RedisSource":
    """Return the source of a configuration."""
    assert settings.redis is not None
    return RedisSource(settings.name, settings.redis)


class RedisSource:
    """The entries of one stream."""

    def __init__(self, name: str, settings: RedisSettings) -> None:
        self.name = name
        self.health = Health(False)
        self._settings = settings
        self._field = settings.field.encode()
        self._consumer = settings.consumer or f"{socket.gethostname()}-{name}"
        self._next_claim = self._next_lag = 0.0
        self._pace = Pace(MOST_ENTRIES)

    async def run(self, sink: Sink) -> None:
        """Deliver until cancelled, connecting again when the connection breaks."""
        await persist(self, lambda: self._try(sink), (RedisError, OSError))

    async def _try(self, sink: Sink) -> None:
        try:
            await self._follow(sink)
        except RedisTimeoutError:
            self._pace.slow_down()
            raise

    async def _follow(self, sink: Sink) -> None:
        """Deliver as long as the connection lasts."""
        settings = self._settings
        async with self._connect() as client:
            await self._join(client)
            _log.info("source %s reads the stream %s as %s", self.name, settings.stream, self._consumer)
            self.health = Health(True)
            await self._recover(client, sink)
            while True:
                stay_cancelled()  # redis-py sends through asyncio.wait_for, which may swallow it before Python 3.12
                await self._measure(client)
                await self._claim(client, sink)
                asked = self._pace.entries
                entries = last = await self._read(client, ">", block=round(1000 * BLOCK_SECONDS))
                while len(last) == MOST_ENTRIES and self._has_room(entries):
                    last = await self._read(client, ">")
                    entries = entries + last
                await finish(self._take(client, sink, entries))
                if len(last) < asked:
                    await asyncio.sleep(BATCH_SECONDS)

    def _has_room(self, entries: Sequence[Entry]) -> bool:
        """Whether as many more make one body with these still."""
        size = sum(map(_size, entries))
        return len(entries) + self._pace.entries <= BATCH_EVENTS and size * 2 <= BATCH_BYTES

    def _connect(self) -> Redis:
        settings = self._settings
        secret: dict[str, Any] = {}
        if settings.password_file is not None:
            secret["password"] = settings.password_file.read_text(encoding="utf-8").strip()
        return Redis.from_url(
            settings.url,
            **secret,
            protocol=2,
            socket_timeout=_TIMEOUT_SECONDS,
            socket_connect_timeout=_TIMEOUT_SECONDS,
            # A command whose answer was lost must not be sent again unseen: its entries would wait for ever.
            retry=Retry(NoBackoff(), 0),
        )

    async def _join(self, client: Redis) -> None:
        """Make stream and group if they are not there; a new group begins with the stream's first entry."""
        try:
            await client.xgroup_create(self._settings.stream, self._settings.group, id="0", mkstream=True)
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise

    async def _recover(self, client: Redis, sink: Sink) -> None:
        """Deal with what this consumer was given before and has not acknowledged."""
        if position := sink.position(self.name):
            await self._acknowledge(client, json.loads(position))
        while entries := await self._read(client, "0"):
            await finish(self._take(client, sink, entries))

    async def _claim(self, client: Redis, sink: Sink) -> None:
        """Take over what consumers that seem dead were given and have not acknowledged."""
        idle = self._settings.claim_idle
        if time.monotonic() < self._next_claim:
            return
        cursor: bytes | str = "0-0"
        while True:
            cursor, entries, *_ = await client.xautoclaim(
                self._settings.stream,
                self._settings.group,
                self._consumer,
                min_idle_time=round(1000 * idle),
                start_id=cursor,
                count=self._pace.entries,
            )
            entries = [entry for entry in entries if entry[0] is not None]  # Redis 6.2 shows deleted ones so
            if entries:
                _log.info("source %s takes over %d entries of other consumers", self.name, len(entries))
                await finish(self._take(client, sink, entries))
            if cursor in (b"0-0", "0-0"):
                break
        self._next_claim = time.monotonic() + idle / 2

    async def _read(self, client: Redis, start: str, block: int | None = None) -> list[Entry]:
        settings = self._settings
        answer: Any = await client.xreadgroup(
            settings.group, self._consumer, {settings.stream: start}, count=self._pace.entries, block=block
        )
        return answer[0][1] if answer else []

    async def _take(self, client: Redis, sink: Sink, entries: Sequence[Entry]) -> None:
        """Deliver entries, then acknowledge them. Entries deleted from the stream are only acknowledged."""
        self._pace.learn(len(entries), sum(map(_size, entries)))
        for part in by_bytes(entries, _size):
            await self._take_part(client, sink, part)

    async def _take_part(self, client: Redis, sink: Sink, entries: Sequence[Entry]) -> None:
        identities = [identity.decode() for identity, _ in entries]
        lines = [line for _, fields in entries if fields for line in self._lines(fields)]
        if lines:
            await deliver(sink, self.name, b"\n".join(lines), clock.now(), json.dumps(identities).encode())
        if identities:
            await self._acknowledge(client, identities)

    async def _acknowledge(self, client: Redis, identities: Sequence[str]) -> None:
        await client.xack(self._settings.stream, self._settings.group, *identities)

    def _lines(self, fields: dict[bytes, bytes]) -> list[bytes]:
        value = fields.get(self._field)
        return [MALFORMED] if value is None else lines_of(value)

    async def _measure(self, client: Redis) -> None:
        """Find out how much waits: what the group was not given yet, and what was given and not acknowledged."""
        if time.monotonic() < self._next_lag:
            return
        for group in await client.xinfo_groups(self._settings.stream):
            if group["name"] == self._settings.group.encode():
                lag = group.get("lag")  # unknown to Redis below 7, and after entries were deleted
                self.health = Health(True, None if lag is None else lag + group["pending"])
        self._next_lag = time.monotonic() + LAG_SECONDS


def _size(entry: Entry) -> int:
    """Return the bytes of an entry, all of its fields."""
    return sum(len(name) + len(value) for name, value in (entry[1] or {}).items())
