"""A real server for tests: an application on its own event loop in a thread."""

import asyncio
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvloop

from mlops_exporter.web.protocol import Connections
from mlops_exporter.web.server import listen, serve


@contextmanager
def served(
    app: Any,
    address: str = "127.0.0.1:0",
    tls: ssl.SSLContext | None = None,
    connections: Connections | None = None,
) -> Iterator[str]:
    """Serve an ASGI application as in production; yields `host:port`, and stops the server at the end."""
    (listener,) = sockets = listen([address])
    host, port = listener.getsockname()[:2]
    loop = uvloop.new_event_loop()
    stop = asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(serve(app, sockets, stop, tls, connections)))
    thread.start()
    try:
        yield f"{host}:{port}"
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(timeout=10)
        assert not thread.is_alive(), "the server did not stop"
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
