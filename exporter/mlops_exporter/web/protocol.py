"""uvicorn's HTTP/1.1 connection with the limits that it leaves open: how large a request head may be, and how late."""

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_LIMIT = 64 * 1024
"""Bytes of a request line and its header fields."""


class BoundedProtocol(HttpToolsProtocol):
    """A connection that nobody can hold open, or fill, without a request that the application answers.

    From its beginning a request head has `patience` seconds to arrive, and so has the rest of a body that was answered
    before its end; then the connection closes. The body of a request at hand is the application's to limit, and a
    connection between two requests has uvicorn's keep-alive timeout. A client that lets an answer wait for
    `read_patience` seconds is cut off, so that answers that nobody reads do not fill the memory.
    """

    patience = 10.0
    read_patience = 30.0

    _deadline: asyncio.TimerHandle | None = None
    _read_deadline: asyncio.TimerHandle | None = None
    _in_head = False
    _head_size = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop_waiting()
        self._stop_waiting_for_reader()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Begin to wait for the client to read."""
        super().pause_writing()
        self._read_deadline = self.loop.call_later(self.read_patience, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on: the client has read most of what was sent."""
        self._stop_waiting_for_reader()
        super().resume_writing()

    def on_message_begin(self) -> None:
        """Note that a request head begins."""
        self._in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Note that the request head is complete."""
        self._in_head = False
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        """Parse, then see whether the client is still within its limits."""
        super().data_received(data)
        self._head_size = self._head_size + len(data) if self._in_head else 0
        if self._head_size > HEAD_LIMIT:
            self.send_400_response(f"request line and headers are over {HEAD_LIMIT} bytes")
        elif self.cycle is not None and not self.cycle.response_complete:
            self._stop_waiting()
        elif self._deadline is None:
            self._wait()

    def _wait(self) -> None:
        self._deadline = self.loop.call_later(self.patience, self.transport.close)

    def _stop_waiting_for_reader(self) -> None:
        if self._read_deadline is not None:
            self._read_deadline.cancel()
            self._read_deadline = None

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
