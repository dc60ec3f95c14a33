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


async def read_body(receive: Receive, *, gzipped: bool, limit: int, patience: float) -> bytes:
    """Read a whole request body, decompressed.

    Raises BodyRefusedError: 413 over `limit` bytes on the wire or decompressed, 408 when the client sends nothing for
    `patience` seconds, 400 for gzip that is damaged or cut short. Raises ClientGoneError when the client leaves.
    """
    gunzip = _Gunzip(limit) if gzipped else None
    chunks: list[bytes] = []
    received = 0
    more = True
    while more:
        try:
            async with asyncio.timeout(patience):
                message = await receive()
        except TimeoutError:
            raise BodyRefusedError(408, f"no data for {patience:g} s: send the body without pauses") from None
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        chunk = message.get("body", b"")
        more = message.get("more_body", False)
        received += len(chunk)
        if received > limit:
            raise too_large(limit)
        chunks.append(gunzip.feed(chunk) if gunzip else chunk)
    if gunzip:
        gunzip.finish()
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def too_large(limit: int) -> BodyRefusedError:
    """Return the refusal of a body over `limit` bytes."""
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
                raise too_large(self._limit)
            self._room -= len(output)
            outputs.append(output)
            chunk = self._member.unused_data
        return b"".join(outputs)

    def finish(self) -> None:
        if not self._member.eof:
            raise BodyRefusedError(400, "the gzip body ends too early: it was cut off on its way")
