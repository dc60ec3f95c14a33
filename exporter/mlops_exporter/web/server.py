"""Serving the application: listening sockets, and uvicorn with the settings that an exporter wants."""

import asyncio
import contextlib
import errno
import socket
import ssl
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import uvicorn

from mlops_exporter.web.protocol import BoundedProtocol, Connections

_BACKLOG = 1024  # a burst of scrapers and model servers must not meet a full queue: the kernel retries after a second
_KEEP_ALIVE_SECONDS = 75  # longer than a usual scrape interval, so that Prometheus keeps its connection
_SHUTDOWN_SECONDS = 3


class ListenError(Exception):
    """An address cannot be listened on; the message says which, why, and what to do."""


def listen(addresses: Iterable[str]) -> list[socket.socket]:
    """Open a listening socket for each address: `host:port`, `[IPv6 address]:port`, or `:port` for every interface.

    Raises ListenError, and then leaves none open. Connections made from now on wait for `serve`.
    """
    with contextlib.ExitStack() as opened:
        sockets = [opened.enter_context(_listen(address)) for address in addresses]
        opened.pop_all()
        return sockets


async def serve(
    app: Any,
    sockets: list[socket.socket],
    stop: asyncio.Event,
    tls: ssl.SSLContext | None = None,
    connections: Connections | None = None,
) -> None:
    """Serve the ASGI application `app` until `stop` is set, then finish the requests at hand within 3 seconds.

    Installs no signal handlers, and closes the sockets at the end.
    """
    config = uvicorn.Config(
        app,
        http=partial(BoundedProtocol, bounds=connections or Connections()),  # type: ignore[arg-type]
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        log_level="error",  # a port scanner must not fill the log
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=_BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
    )
    config.load()
    config.ssl = tls
    server = _Server(config, stop)
    await server.serve(sockets)
    if server.server_state.tasks:  # cancelled after the grace: let them say so to their clients
        await asyncio.wait(server.server_state.tasks, timeout=1)


class _Server(uvicorn.Server):
    """Stops on an event instead of signals, which belong to the service."""

    def __init__(self, config: uvicorn.Config, stop: asyncio.Event) -> None:
        super().__init__(config)
        self._stop = stop

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def on_tick(self, counter: int) -> bool:
        return await super().on_tick(counter) or self._stop.is_set()


def host_and_port(address: str) -> tuple[str, int]:
    """Return the parts of a listen address, the host without brackets, "" for every interface; raises ListenError."""
    host, separator, port = address.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not separator or not port.isdecimal() or int(port) > 65535 or (":" in host and not bracketed):
        raise ListenError(f"listen address {address!r}: write host:port, :port or [IPv6 address]:port")
    return host.strip("[]"), int(port)


def _listen(address: str) -> socket.socket:
    host, port = host_and_port(address)
    try:
        if host in ("", "::"):
            dualstack = socket.has_dualstack_ipv6()
            family = socket.AF_INET6 if dualstack else socket.AF_INET
            return socket.create_server(("", port), family=family, backlog=_BACKLOG, dualstack_ipv6=dualstack)
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, where = min(found, key=lambda info: info[0] != socket.AF_INET)  # IPv4 first, as Go does
        return socket.create_server(where[:2], family=family, backlog=_BACKLOG)
    except socket.gaierror as error:
        raise ListenError(f"listen address {address!r}: no such host ({error.strerror})") from error
    except OSError as error:
        remedy = {
            errno.EADDRINUSE: f"stop what listens there (ss -ltnp 'sport = :{port}'), "
            "or choose another with --web.listen-address",
            errno.EACCES: "ports below 1024 need CAP_NET_BIND_SERVICE; choose another with --web.listen-address",
            errno.EADDRNOTAVAIL: "no interface of this machine has that address; :port listens on all of them",
        }.get(error.errno or 0, "choose another with --web.listen-address")
        raise ListenError(f"cannot listen on {address}: {error.strerror or error}; {remedy}") from error
