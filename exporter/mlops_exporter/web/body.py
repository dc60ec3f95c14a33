"""Reading a request body of events: limited in size before and after decompression, and in patience."""

import asyncio
import zlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]


class BodyRefusedError(Exception):
    """The body cannot be taken: `status` is the HTTP status, the message says why."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class ClientGoneError(Exception):
    """The client closed the connection before its request was complete."""


class BodyReader:
    """Reads the bodies of concurrent requests.

    `limit` bounds one body, on the wire and decompressed, `room` the decompressed bytes of all bodies that are being
    read at one time; `patience` is how many seconds a client may pause while it sends one.
    """

    def __init__(self, limit: int, room: int, patience: float) -> None:
        self._limit = limit
        self._room = room
        self._patience = patience

    def check_length(self, declared: int) -> None:
        """Raise BodyRefusedError (413) when a body of the declared length is too large."""
        if declared > self._limit:
            raise _too_large(self._limit)

    async def read(self, receive: Receive, *, gzipped: bool) -> bytes:
        """Read a whole body, decompressed.

        Raises BodyRefusedError: 413 over the limit, 429 when other bodies take all the room, 408 when the client
        pauses too long, 400 for gzip that is damaged or cut short. Raises ClientGoneError when the client leaves.
        """
        gunzip = _Gunzip(self._limit) if gzipped else None
        chunks: list[bytes] = []
        received = held = 0
        more = True
        try:
            while more:
                chunk, more = await self._receive(receive)
                received += len(chunk)
                self.check_length(received)
                if gunzip:
                    chunk = gunzip.feed(chunk)
                chunks.append(chunk)
                held += len(chunk)
                self._room -= len(chunk)
                if self._room < 0:
                    raise BodyRefusedError(429, "too many large bodies arrive at once: send again after a second")
        finally:
            self._room += held
        if gunzip:
            gunzip.finish()
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def _receive(self, receive: Receive) -> tuple[bytes, bool]:
        try:
            async with asyncio.timeout(self._patience):
                message = await receive()
        except TimeoutError:
            raise BodyRefusedError(408, f"no data for {self._patience:g} s: send a body without such pauses") from None
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        return message.get("body", b""), message.get("more_body", False)


def _too_large(limit: int) -> BodyRefusedError:
    return BodyRefusedError(413, f"the body is over {limit} bytes (after decompression): send smaller batches")


class _Gunzip:
    """Incremental gunzip of one or more concatenated members that never holds more than `limit` bytes of output."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._room = limit
        self._member = zlib.decompressobj(wbits=31)

    def feed(self, chunk: bytes) -> bytes:
        outputs = []
        while chunk:
            if self._member.eof:
                self._member = zlib.decompressobj(wbits=31)
            try:
                output = self._member.decompress(chunk, self._room + 1)
            except zlib.error as error:
                raise BodyRefusedError(400, f"the body is not valid gzip: {error}") from None
            if len(output) > self._room:
                raise _too_large(self._limit)
            self._room -= len(output)
            outputs.append(output)
            chunk = self._member.unused_data
        return b"".join(outputs)

    def finish(self) -> None:
        if not self._member.eof:
            raise BodyRefusedError(400, "the gzip body ends too early: it was cut off on its way")
