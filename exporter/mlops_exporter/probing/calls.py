"""One request to an HTTP server, with credentials from files, bounded in time and size.

Python's own client does it: a few requests a minute need no pool and no further dependency.
"""

import asyncio
import base64
import contextlib
import http.client
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar, cast
from urllib.parse import urlsplit

from mlops_exporter import __version__
from mlops_exporter.settings.access import AccessSettings

Result = TypeVar("Result")

Fault = Literal["connection", "timeout", "http_status", "answer", "credentials"]

LARGEST_ANSWER = 64 * 1024 * 1024
_AT_ONCE = 64 * 1024
_SHOWN = 300

USER_AGENT = f"mlops-exporter/{__version__}"


class CallError(Exception):
    """A request without a good answer: `fault` is its kind, `status` the HTTP status where there was one."""

    def __init__(self, fault: Fault, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.fault = fault
        self.status = status


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of status 200 to 299. Names of headers are in lower case."""

    body: bytes
    headers: Mapping[str, str]


def call(
    method: str,
    url: str,
    access: AccessSettings,
    *,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = 10.0,
) -> Answer:
    """Send one request and return its answer; blocks for `timeout` seconds at most. Raises CallError.

    Redirects are not followed, since credentials must not be taken elsewhere.
    """
    deadline = time.monotonic() + timeout
    parts = urlsplit(url)
    path = parts.path or "/"
    target = f"{path}?{parts.query}" if parts.query else path
    sent = {"User-Agent": USER_AGENT, **(headers or {}), **access.headers, **_credentials(access)}
    connection = _connection(parts.scheme, parts.hostname or "", parts.port, access, timeout)
    try:
        connection.request(method, target, body, sent)
        response = connection.getresponse()
        content = _read(response, connection, deadline)
    except TimeoutError:
        raise CallError("timeout", f"{url}: no answer within {timeout:g} s") from None
    except (OSError, http.client.HTTPException) as error:
        raise CallError("connection", f"{url}: {error or type(error).__name__}") from None
    finally:
        connection.close()
    if not 200 <= response.status < 300:
        said = content[:_SHOWN].decode(errors="replace").strip()
        raise CallError("http_status", f"{url}: answer {response.status}: {said}", response.status)
    return Answer(content, {name.lower(): value for name, value in response.getheaders()})


def _credentials(access: AccessSettings) -> dict[str, str]:
    try:
        if access.token_file is not None:
            return {"Authorization": f"Bearer {access.token_file.read_text(encoding='ascii').strip()}"}
        if access.username is not None and access.password_file is not None:
            pair = f"{access.username}:{access.password_file.read_text(encoding='utf-8').rstrip(chr(10))}"
            return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
    except OSError as error:
        raise CallError("credentials", f"{error.filename}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise CallError("credentials", f"{access.token_file or access.password_file}: not a text") from None
    return {}


def _connection(
    scheme: str, host: str, port: int | None, access: AccessSettings, timeout: float
) -> http.client.HTTPConnection:
    if scheme == "http":
        return http.client.HTTPConnection(host, port, timeout=timeout)
    try:
        context = ssl.create_default_context(cafile=access.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise CallError("credentials", f"{access.ca_file}: no certificates: {error}") from None
    if access.cert_file is not None:
        try:
            context.load_cert_chain(access.cert_file, access.key_file)
        except (OSError, ssl.SSLError) as error:
            raise CallError("credentials", f"{access.cert_file}: no certificate with its key: {error}") from None
    return http.client.HTTPSConnection(host, port, timeout=timeout, context=context)


def _read(response: http.client.HTTPResponse, connection: http.client.HTTPConnection, deadline: float) -> bytes:
    """Read a body that may come in drops, until the deadline."""
    chunks: list[bytes] = []
    size = 0
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        if connection.sock is not None:  # the server may have closed after the last byte
            connection.sock.settimeout(left)
        chunk = response.read1(_AT_ONCE)
        if not chunk:
            return b"".join(chunks)
        chunks.append(chunk)
        size += len(chunk)
        if size > LARGEST_ANSWER:
            raise http.client.HTTPException(f"the answer has more than {LARGEST_ANSWER} bytes")


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
