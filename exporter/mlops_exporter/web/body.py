"""Reading a request body of events: limited in size before and after decompression, in patience and in time."""

import asyncio
import math
import time
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]


STALLED_SECONDS = 1.0
PROGRESS_BYTES = 64 * 1024
"""A body of which fewer bytes came in so many seconds makes room for others."""

SMALL_BYTES = 16 * 1024
SMALL_OUTPUT_BYTES = 256 * 1024
"""A body of so few bytes, compressed and not, is decompressed at once; a thread would cost more."""

MOST_MEMBERS = 1000
"""Of a gzip body, which is one, or a few where logs were put together."""

_PIECE_BYTES = 64 * 1024

_NO_ROOM = "too many large bodies arrive at once: send again after a second"


class BodyRefusedError(Exception):
    """The body cannot be taken: `status` is the HTTP status, the message says why."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class ClientGoneError(Exception):
    """The client closed the connection before its request was complete."""


class BodyReader:
    """Reads the bodies of concurrent requests.

    `limit` bounds one body, on the wire and decompressed, `room` the bytes of all bodies that are on their way;
    `patience` is how many seconds a client may pause while it sends one, `deadline` how many it may take for all of it.

    Where there is no more room, the sender that holds most of it gives way with its slowest body, unless that one goes
    on all the same; then the body that came last does. So nobody turns others away by sending slowly. A compressed
    body is held as it came, and decompressed when it is complete.
    """

    def __init__(self, limit: int, room: int, patience: float, deadline: float = math.inf) -> None:
        self._limit = limit
        self._room = room
        self._patience = patience
        self._deadline = deadline
        self._arriving: set[_Arriving] = set()
        self._decompressing = asyncio.Semaphore(max(1, room // limit))

    def check_length(self, declared: int) -> None:
        """Raise BodyRefusedError (413) when a body of the declared length is too large."""
        if declared > self._limit:
            raise _too_large(self._limit)

    async def read(self, receive: Receive, *, gzipped: bool, sender: str = "") -> bytes:
        """Read a whole body, decompressed.

        Raises BodyRefusedError: 413 over the limit, 429 when other bodies take all the room, 408 when the client
        pauses too long or takes too long, 400 for gzip that is damaged or cut short. Raises ClientGoneError when the
        client leaves.
        """
        body = _Arriving(sender, time.monotonic())
        self._arriving.add(body)
        try:
            await self._receive_all(body, receive)
        finally:
            self._arriving.discard(body)
            self._room += body.held
        content = body.chunks[0] if len(body.chunks) == 1 else b"".join(body.chunks)
        if not gzipped:
            return content
        body.chunks.clear()
        async with self._decompressing:
            return await _decompress(content, self._limit)

    async def _receive_all(self, body: "_Arriving", receive: Receive) -> None:
        more = True
        while more:
            chunk, more = await self._receive(body, receive)
            body.take(chunk, time.monotonic())
            self._room -= len(chunk)
            self.check_length(body.received)
            while self._room < 0:
                self._make_room(body)

    def _make_room(self, latest: "_Arriving") -> None:
        """Refuse a body; raises BodyRefusedError if it is the latest."""
        now = time.monotonic()
        held: Counter[str] = Counter()
        for body in self._arriving:
            held[body.sender] += body.held
        slowest = min(self._arriving, key=lambda body: (-held[body.sender], not body.held, body.progressed))
        if slowest is not latest and (
            held[slowest.sender] > held[latest.sender] or now - slowest.progressed > STALLED_SECONDS
        ):
            self._room += slowest.give_way()
        else:
            raise BodyRefusedError(429, _NO_ROOM)

    async def _receive(self, body: "_Arriving", receive: Receive) -> tuple[bytes, bool]:
        now = time.monotonic()
        left = body.began + self._deadline - now
        try:
            async with asyncio.timeout(min(self._patience, left)) as body.timeout:
                message = await receive()
        except TimeoutError:
            if body.gave_way:
                raise BodyRefusedError(429, _NO_ROOM) from None
            if left <= self._patience:
                raise BodyRefusedError(
                    408, f"the body took more than {self._deadline:g} s (limits.body_duration): send smaller batches"
                ) from None
            raise BodyRefusedError(408, f"no data for {self._patience:g} s: send a body without such pauses") from None
        if body.gave_way:
            raise BodyRefusedError(429, _NO_ROOM)
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        return message.get("body", b""), message.get("more_body", False)


class _Arriving:
    """A body on its way, of which `held` bytes are in memory."""

    def __init__(self, sender: str, began: float) -> None:
        self.sender = sender
        self.began = self.progressed = began
        self.chunks: list[bytes] = []
        self.received = self.held = 0
        self.gave_way = False
        self.timeout: asyncio.Timeout | None = None
        self._noted = 0

    def take(self, chunk: bytes, now: float) -> None:
        """Hold the next bytes; a few at a time are no progress."""
        self.chunks.append(chunk)
        self.received += len(chunk)
        self.held += len(chunk)
        if self.received - self._noted >= PROGRESS_BYTES:
            self.progressed, self._noted = now, self.received

    def give_way(self) -> int:
        """End the wait for the rest of it; returns how much is freed."""
        freed, self.held = self.held, 0
        self.chunks.clear()
        self.gave_way = True
        if self.timeout is not None and not self.timeout.expired():
            self.timeout.reschedule(asyncio.get_running_loop().time())
        return freed


async def _decompress(content: bytes, limit: int) -> bytes:
    """Gunzip a whole body; a large one beside the event loop, which need not wait for it."""
    if len(content) <= SMALL_BYTES:
        with suppress(_LargeError):
            return _gunzip(content, limit, min(limit, SMALL_OUTPUT_BYTES))
    return await asyncio.to_thread(_gunzip, content, limit, limit)


def _too_large(limit: int) -> BodyRefusedError:
    return BodyRefusedError(413, f"the body is over {limit} bytes (after decompression): send smaller batches")


class _LargeError(Exception):
    """There is more than was asked for."""


def _gunzip(content: bytes, limit: int, most: int) -> bytes:
    """Return what one or more members hold, without ever holding more than `most` bytes.

    Raises BodyRefusedError for more than `limit`, _LargeError for more than `most`.
    """
    outputs = []
    room, members, place = most, 1, 0
    member = zlib.decompressobj(wbits=31)
    while place < len(content):
        if member.eof:
            member, members = zlib.decompressobj(wbits=31), members + 1
            if members > MOST_MEMBERS:
                raise BodyRefusedError(400, f"the gzip body has over {MOST_MEMBERS} members: compress it as a whole")
        piece = content[place : place + _PIECE_BYTES]
        try:
            output = member.decompress(piece, room + 1)
        except zlib.error as error:
            raise BodyRefusedError(400, f"the body is not valid gzip: {error}") from None
        if len(output) > room:
            raise _too_large(limit) if most == limit else _LargeError
        room -= len(output)
        outputs.append(output)
        place += len(piece) - len(member.unused_data)  # in pieces, since it is a copy of all that is left
    if not member.eof:
        raise BodyRefusedError(400, "the gzip body ends too early: it was cut off on its way")
    return b"".join(outputs)
