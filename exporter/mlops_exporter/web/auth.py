"""Who may ask: basic authentication, rate limit and headers of the web configuration, around the application."""

import asyncio
import base64
import binascii
import hashlib
import math
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping

import bcrypt
from pydantic import SecretStr

from mlops_exporter.web.app import Application, Response, Scope, Send, header, text
from mlops_exporter.web.body import Message, Receive
from mlops_exporter.web.config import RateLimit, WebConfig

_MAX_VERDICTS = 256
_MAX_WAITING = 32  # logins whose bcrypt is waited for; beyond it they are turned away rather than piled up
_BCRYPT_BYTES = 72  # more of a password does not count, in Go as here
_NOBODYS_HASH = b"$2b$%02d$" + b"." * 22 + b"x" * 31


class Guard:
    """The ASGI application behind its web configuration, which `config` gives as of now.

    All routes need a password where there are users, health and readiness too, except the paths `guarded_otherwise`.
    """

    def __init__(
        self, app: Application, config: Callable[[], WebConfig], guarded_otherwise: Collection[str] = ()
    ) -> None:
        self._app = app
        self._config = config
        self._guarded_otherwise = guarded_otherwise
        self._passwords = Passwords()
        self._bucket = Bucket(config().rate_limit)

    def renew(self, app: Application, guarded_otherwise: Collection[str]) -> None:
        """Guard another application from now on; verdicts and the rate limit stay."""
        self._app = app
        self._guarded_otherwise = guarded_otherwise

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        config = self._config()
        sends = _with_headers(send, config.http_server_config.headers)
        refusal = await self._refusal(scope, config)
        if refusal is None:
            await self._app(scope, receive, sends)
        else:
            await refusal.send(scope, sends)

    async def _refusal(self, scope: Scope, config: WebConfig) -> Response | None:
        if self._bucket.limit != config.rate_limit:
            self._bucket = Bucket(config.rate_limit)
        wait = self._bucket.take(time.monotonic())
        if wait > 0:
            return text(429, "too many requests: rate_limit", (b"retry-after", str(math.ceil(wait)).encode()))
        if not config.basic_auth_users or scope["path"] in self._guarded_otherwise:
            return None
        given = _credentials(header(scope, b"authorization"))
        if given is not None:
            try:
                if await self._passwords.right(*given, config.basic_auth_users):
                    return None
            except BusyError:
                return text(503, "too many logins at once: try again", (b"retry-after", b"1"))
        return text(401, "user and password are needed", (b"www-authenticate", b'Basic realm="mlops-exporter"'))


class Bucket:
    """A token bucket: `burst` requests at once, and one more after each interval."""

    def __init__(self, limit: RateLimit) -> None:
        self.limit = limit
        self._tokens = float(limit.burst)
        self._filled = -math.inf

    def take(self, now: float) -> float:
        """Return 0 when a request may pass at `now` (seconds), otherwise how many seconds are missing."""
        interval, burst = self.limit.interval, self.limit.burst
        if interval <= 0:
            return 0.0
        self._tokens = min(burst, self._tokens + (now - self._filled) / interval)
        self._filled = now
        if self._tokens < 1:
            return (1 - self._tokens) * interval
        self._tokens -= 1
        return 0.0


class BusyError(Exception):
    """Too many passwords are being checked."""


class Passwords:
    """Checks passwords against bcrypt hashes, one at a time and beside the event loop, and remembers the verdicts.

    Verdicts are kept under a keyed hash of user, bcrypt hash and password: no password stays in memory, and a changed
    hash is a new question. An unknown user costs as much as a known one.
    """

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._verdicts: OrderedDict[bytes, bool] = OrderedDict()
        self._turn = asyncio.Lock()
        self._waiting = 0

    async def right(self, user: bytes, password: bytes, users: Mapping[str, SecretStr]) -> bool:
        """Tell whether it is that user's password. Raises BusyError."""
        hashes = {name.encode(): secret.get_secret_value().encode() for name, secret in users.items()}
        hashed = hashes.get(user) or _NOBODYS_HASH % max(int(known[4:6]) for known in hashes.values())
        question = hashlib.blake2b(key=self._key)
        for part in (user, hashed, password):
            question.update(len(part).to_bytes(8) + part)
        key = question.digest()
        verdict = self._verdicts.get(key)
        if verdict is None:
            verdict = self._verdicts[key] = await self._compare(password, hashed) and user in hashes
        self._verdicts.move_to_end(key)
        while len(self._verdicts) > _MAX_VERDICTS:
            self._verdicts.popitem(last=False)
        return verdict

    async def _compare(self, password: bytes, hashed: bytes) -> bool:
        if self._waiting >= _MAX_WAITING:
            raise BusyError
        self._waiting += 1
        try:
            async with self._turn:
                return await asyncio.to_thread(bcrypt.checkpw, password[:_BCRYPT_BYTES], hashed)
        finally:
            self._waiting -= 1


def _credentials(value: str) -> tuple[bytes, bytes] | None:
    """Return user and password of an Authorization header (RFC 7617), None when there are none."""
    scheme, _, encoded = value.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return None
    return (user, password) if colon else None


def _with_headers(send: Send, headers: Mapping[str, str]) -> Send:
    """Return a `send` that sets headers, in place of the application's own."""
    if not headers:
        return send
    extra = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    names = {name for name, _ in extra}

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            kept = [(name, value) for name, value in message["headers"] if name not in names]
            message["headers"] = kept + extra
        await send(message)

    return sending
