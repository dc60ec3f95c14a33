"""One request to an HTTP server, with credentials from files, bounded in time and size.

Python's own client does it: a few requests a minute need no pool and no further dependency.
"""

import asyncio
import base64
import contextlib
import http.client
import io
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast
from urllib.parse import urlsplit

from mlops_exporter import __version__
from mlops_exporter.settings.access import AccessSettings

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

Result = TypeVar("Result")

Fault = Literal["connection", "timeout", "http_status", "answer", "credentials"]

LARGEST_ANSWER = 64 * 1024 * 1024
_AT_ONCE = 64 * 1024
_ZLIB_OR_GZIP = zlib.MAX_WBITS | 32
_SHOWN = 300
_REDIRECTS = (301, 302, 303, 307, 308)

USER_AGENT = f"mlops-exporter/{__version__}"


class CallError(Exception):
    """A request without a good answer: `fault` is its kind, `status` the HTTP status where there was one."""

    def __init__(self, fault: Fault, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.fault = fault
        self.status = status


class _UnreadableError(Exception):
    """A body that cannot be taken; the message says why."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of status 200 to 299. Names of headers are in lower case."""

    body: bytes
    headers: Mapping[str, str]


class _Bounded(io.RawIOBase):
    """What comes from a socket until a deadline: a server that answers in drops keeps nobody waiting for ever."""

    def __init__(self, sock: socket.socket, raw: io.RawIOBase, deadline: float) -> None:
        self._sock, self._raw, self._deadline = sock, raw, deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int | None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._sock.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


def _answering(deadline: float) -> type[http.client.HTTPResponse]:
    """Return the class of answers whose head and body have come by a deadline."""

    class Response(http.client.HTTPResponse):
        def __init__(self, sock: socket.socket, *args: Any, **more: Any) -> None:
            super().__init__(sock, *args, **more)
            self.fp = io.BufferedReader(_Bounded(sock, self.fp.detach(), deadline), _AT_ONCE)

    return Response


def call(
    method: str,
    url: str,
    access: AccessSettings,
    *,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = 10.0,
    largest: int = LARGEST_ANSWER,
) -> Answer:
    """Send one request and return its answer of at most `largest` bytes, decompressed; raises CallError.

    It blocks for `timeout` seconds at most. Redirects are not followed, since credentials must not be taken elsewhere.
    """
    deadline = time.monotonic() + timeout
    parts = urlsplit(url)
    path = parts.path or "/"
    target = f"{path}?{parts.query}" if parts.query else path
    sent = {"User-Agent": USER_AGENT, **(headers or {}), **access.headers, **_credentials(access)}
    connection = _connection(parts.scheme, parts.hostname or "", parts.port, access, timeout)
    connection.response_class = _answering(deadline)
    try:
        connection.connect()
        if connection.sock is not None:
            connection.sock.settimeout(max(deadline - time.monotonic(), 0.001))
        connection.request(method, target, body, sent)
        with connection.getresponse() as response:
            content = _read(response, largest)
    except TimeoutError:
        raise CallError("timeout", f"{url}: no answer within {timeout:g} s") from None
    except (OSError, http.client.HTTPException) as error:
        raise CallError("connection", f"{url}: {str(error) or type(error).__name__}") from None
    except UnicodeError:
        raise CallError("connection", f"{url}: an address and its headers are ASCII; escape other characters") from None
    except _UnreadableError as error:
        raise CallError("answer", f"{url}: {error}", response.status) from None
    finally:
        connection.close()
    if not 200 <= response.status < 300:
        said = content[:_SHOWN].decode(errors="replace").strip()
        if response.status in _REDIRECTS and (place := response.getheader("Location")):
            said = f"it redirects to {place[:_SHOWN]}, which is not followed: give that address"
        raise CallError("http_status", f"{url}: answer {response.status}: {said}", response.status)
    return Answer(content, {name.lower(): value for name, value in response.getheaders()})


def _credentials(access: AccessSettings) -> dict[str, str]:
    found = {name: _secret(file) for name, file in access.header_files.items()}
    if access.token_file is not None:
        found["Authorization"] = f"Bearer {_secret(access.token_file)}"
    if access.username is not None and access.password_file is not None:
        pair = f"{access.username}:{_text(access.password_file).rstrip(chr(10))}"
        found["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    return found


def _secret(file: Path) -> str:
    """Return the one line of a file that goes into a header; what is wrong with it never shows it."""
    text = _text(file).strip()
    if not text or not text.isascii() or not text.isprintable():
        raise CallError("credentials", f"{file}: must be one line of printable ASCII")
    return text


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise CallError("credentials", f"{file}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise CallError("credentials", f"{file}: not a text") from None


def _connection(
    scheme: str, host: str, port: int | None, access: AccessSettings, timeout: float
) -> http.client.HTTPConnection:
    if scheme == "http":
        return http.client.HTTPConnection(host, port or http.client.HTTP_PORT, timeout=timeout)
    files = (access.ca_file, access.cert_file, access.key_file)
    system = ssl.get_default_verify_paths() if access.ca_file is None else ()
    context = _tls(*files, tuple(_state(file) for file in (*files, *system)))
    return http.client.HTTPSConnection(host, port or http.client.HTTPS_PORT, timeout=timeout, context=context)


@lru_cache(maxsize=32)
def _tls(
    ca_file: Path | None, cert_file: Path | None, key_file: Path | None, _states: tuple[object, ...]
) -> ssl.SSLContext:
    """Return a context of these files as they are now: reading them for each request costs more than all the rest."""
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise CallError("credentials", f"{ca_file}: no certificates: {error}") from None
    if cert_file is not None:
        try:
            context.load_cert_chain(cert_file, key_file)
        except (OSError, ssl.SSLError) as error:
            raise CallError("credentials", f"{cert_file}: no certificate with its key: {error}") from None
    return context


def _state(file: str | Path | None) -> object:
    """Return what changes when a file is written or replaced, or is another one."""
    try:
        found = None if file is None else Path(file).stat()
    except OSError:
        found = None
    return file, None if found is None else (found.st_ino, found.st_size, found.st_mtime_ns)


def _read(response: http.client.HTTPResponse, largest: int) -> bytes:
    """Read a body to its end, decompressed; raises _UnreadableError."""
    encoding = response.getheader("Content-Encoding", "identity").strip().lower()
    if encoding not in ("identity", "", "gzip", "x-gzip", "deflate"):
        raise _UnreadableError(f"the answer is encoded as {encoding!r}, for which nobody asked")
    unpacking = None if encoding in ("identity", "") else zlib.decompressobj(_ZLIB_OR_GZIP)
    chunks: list[bytes] = []
    size = 0
    while chunk := response.read1(_AT_ONCE):
        try:
            chunk = chunk if unpacking is None else unpacking.decompress(chunk, largest + 1 - size)
        except zlib.error as error:
            raise _UnreadableError(f"the answer is no {encoding}: {error}") from None
        chunks.append(chunk)
        size += len(chunk)
        if size > largest:
            raise _UnreadableError(f"the answer has more than {largest} bytes")
    if response.length:
        raise http.client.IncompleteRead(b"", response.length)
    if size and unpacking is not None and not unpacking.eof:
        raise _UnreadableError(f"the answer is cut short: its {encoding} has no end")
    return b"".join(chunks)


async def in_thread(work: Callable[[], Result]) -> Result:
    """Run blocking work beside the event loop, in a thread that keeps nobody from stopping when it is cancelled."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Result] = loop.create_future()

    def settle(result: Result | None, error: BaseException | None) -> None:
        if future.cancelled():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(cast(Result, result))

    def run() -> None:
        result, error = None, None
        try:
            result = work()
        except BaseException as problem:
            error = problem
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, name="mlops-exporter-call", daemon=True).start()
    return await future
