"""uvicorn's HTTP/1.1 connection with the limits that it leaves open: how large a request head may be, and how late."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any

from uvicorn.protocols.http.flow_control import service_unavailable
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_LIMIT = 64 * 1024
"""Bytes of a request line and its header fields."""

_TOO_LARGE = f"request line and headers are over {HEAD_LIMIT} bytes"


@dataclass(frozen=True, slots=True)
class Connections:
    """How many connections there may be: `most`, and `reserved` ones beyond for the paths that `is_vital` tells."""

    most: int = 512
    reserved: int = 32
    is_vital: Callable[[str], bool] = lambda path: path.startswith("/-/")


class BoundedProtocol(HttpToolsProtocol):
    """A connection that nobody can hold open, or fill, without a request that the application answers.

    From its beginning a request head has `patience` seconds to arrive, and so has the rest of a body that was answered
    before its end; then the connection closes. The body of a request at hand is the application's to limit, and a
    connection between two requests has uvicorn's keep-alive timeout. A client that lets an answer wait for
    `read_patience` seconds is cut off, so that answers that nobody reads do not fill the memory.

    Where there are `bounds.most`, the one that has been without a request for longest makes room for a new one.
    Where all have requests at hand, those beyond are answered on vital paths only.
    """

    patience = 10.0
    read_patience = 30.0

    _deadline: asyncio.TimerHandle | None = None
    _read_deadline: asyncio.TimerHandle | None = None
    _in_head = False
    _head_size = 0
    _measured = 0
    _idle_since = 0.0

    def __init__(self, *arguments: Any, bounds: Connections, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._bounds = bounds

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request, having made room if need be."""
        super().connection_made(transport)
        self._idle_since = monotonic()
        self._make_room()
        self._wait()

    def _make_room(self) -> None:
        bounds = self._bounds
        if len(self.connections) <= bounds.most:
            return
        others: list[BoundedProtocol] = [
            other
            for other in self.connections
            if other is not self and isinstance(other, BoundedProtocol) and not other.transport.is_closing()
        ]
        if len(others) < bounds.most:
            return
        idle = min((other for other in others if other.is_idle), key=lambda other: other._idle_since, default=None)
        if idle is not None:
            idle.transport.close()
        elif len(others) < bounds.most + bounds.reserved:
            self.app = _vital_only(self.app, bounds.is_vital)
        else:
            self.transport.abort()

    @property
    def is_idle(self) -> bool:
        """Whether there is no request at hand, nor one of which more than a beginning has come."""
        return self.cycle is None or bool(self.cycle.response_complete)

    def on_response_complete(self) -> None:
        """Note that the connection is idle from now on."""
        self._idle_since = monotonic()
        super().on_response_complete()

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
        self._measured = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Measure the request line."""
        self._measure(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Measure a header field."""
        self._measure(len(name) + len(value) + len(": \r\n"))
        super().on_header(name, value)

    def _measure(self, size: int) -> None:
        self._measured += size
        if self._measured > HEAD_LIMIT:
            raise ValueError("the head is too large")  # so parsing ends, before there is a request

    def on_headers_complete(self) -> None:
        """Note that the request head is complete."""
        self._in_head = False
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no request, or one whose head is too large."""
        if self._measured > HEAD_LIMIT:
            msg = _TOO_LARGE
        super().send_400_response(msg)

    def data_received(self, data: bytes) -> None:
        """Parse, then see whether the client is still within its limits."""
        super().data_received(data)
        self._head_size = self._head_size + len(data) if self._in_head else 0
        if self.transport.is_closing():
            return
        if self._head_size > HEAD_LIMIT:
            self.send_400_response(_TOO_LARGE)
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


def _vital_only(app: Any, is_vital: Callable[[str], bool]) -> Any:
    async def answer(scope: Any, receive: Any, send: Any) -> None:
        await (app if is_vital(scope["path"]) else service_unavailable)(scope, receive, send)

    return answer
