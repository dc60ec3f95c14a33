"""The HTTP interface as a plain ASGI function: routes, methods, content types, status codes.

It knows the service only through the protocols below, so that every answer can be tested without one.
"""

import asyncio
import gzip
import logging
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Final, Protocol
from urllib.parse import parse_qs, unquote

import msgspec

from mlops_exporter.events import clock
from mlops_exporter.events.explain import with_words
from mlops_exporter.events.reasons import Reason, TooManyEventsError
from mlops_exporter.ingest.ledgers import LedgersResult
from mlops_exporter.ingest.members import PASSED, passed_of
from mlops_exporter.judging.status import Report
from mlops_exporter.logs import escaped, escaped_lines
from mlops_exporter.settings.document import ConfigError
from mlops_exporter.sources.base import (
    ARROW_TYPE,
    MSGPACK_TYPE,
    Content,
    IntakeResult,
    Passed,
    QueueFullError,
    UnavailableError,
)
from mlops_exporter.web import negotiation
from mlops_exporter.web.body import BodyReader, BodyRefusedError, ClientGoneError, Message, Receive
from mlops_exporter.web.landing import landing_page
from mlops_exporter.web.page import CONTENT_SECURITY_POLICY
from mlops_exporter.web.reference import reference_page
from mlops_exporter.web.tokens import Tokens, UnauthorizedError

MAX_ERRORS = 100
"""Refused events that one answer of `POST /v1/events` describes; `rejected` counts them all."""

MAX_KEY = 256
"""Characters of an Idempotency-Key."""

Send = Callable[[Message], Awaitable[None]]
Scope = Mapping[str, Any]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

_log = logging.getLogger(__name__)
_EVENT_TYPES = (
    "application/json",
    "application/x-ndjson",
    "application/ndjson",
    "application/jsonl",
    "application/cloudevents+json",
    "application/cloudevents-batch+json",
    *([ARROW_TYPE] if find_spec("pyarrow") else []),
)
_LEDGER_TYPES = (MSGPACK_TYPE, "application/msgpack", "application/x-msgpack")
_REFUSALS: Final[dict[int, Reason]] = {  # of bodies that it makes no sense to send again
    400: "bad_gzip",
    408: "body_stalled",
    413: "body_too_large",
    415: "unsupported_type",
}
_BODIES_AT_ONCE = 4  # the memory for bodies being read, in bodies of the largest size
_NO_STORE = (b"cache-control", b"no-store")


class Scraper(Protocol):
    """Makes expositions."""

    @property
    def names(self) -> Collection[str]:
        """Names of the collectors that `collect[]` may ask for."""
        ...

    async def scrape(self, openmetrics: bool, gzipped: bool, collectors: frozenset[str] | None) -> bytes:
        """Return the exposition of the named collectors, of all when None, compressed when `gzipped`."""
        ...


class Intake(Protocol):
    """Takes batches of events."""

    def ensure_room(self) -> None:
        """Raise QueueFullError when the queue is full now. Asked before a body is read."""
        ...

    def refuse(self, reason: Reason) -> None:
        """Account for a body that was refused unread."""
        ...

    async def submit(
        self, body: bytes, arrived: float, content: Content, *, models: frozenset[str] | None = None
    ) -> IntakeResult:
        """Take the events of `body`, which arrived at `arrived` (Unix seconds), and return once they are durable.

        Events of models other than `models` are refused; None allows all. Raises QueueFullError, having taken nothing.
        """
        ...

    async def submit_ledgers(
        self, body: bytes, arrived: float, content: Content, *, models: frozenset[str] | None = None
    ) -> LedgersResult:
        """Take the partial ledgers of `body`, as `submit` takes events."""
        ...

    def shares(self, models: frozenset[str] | None) -> bytes:
        """Return what is counted of `models`, None for all. Raises QueueFullError."""
        ...


class Status(Protocol):
    """Tells how the service is."""

    def status(self) -> Report:
        """Return what `GET /api/v1/status` answers, as JSON, and the landing page shows."""
        ...

    def ready(self) -> str | None:
        """Return None when ready, otherwise the reason why not."""
        ...


class ReloadError(Exception):
    """The configuration could not be loaded, and the former one stays in force; the message says what is wrong."""


@dataclass(frozen=True, slots=True)
class Response:
    """An answer. `headers` come on top of content-type and content-length."""

    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    headers: tuple[tuple[bytes, bytes], ...] = ()

    async def send(self, scope: Scope, send: Send) -> None:
        """Send it as the answer to the request `scope`."""
        headers = [
            (b"content-type", self.content_type.encode()),
            (b"content-length", str(len(self.body)).encode()),
            (b"x-content-type-options", b"nosniff"),
            *self.headers,
        ]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else self.body})


Handler = Callable[[Scope, Receive], Awaitable[Response]]


class App:
    """The ASGI application.

    Without an `intake` nothing can be posted to it.
    `reload` loads the configuration anew, or raises ReloadError, or UnavailableError when it cannot now; None disables
    `POST /-/reload`. `body_limit` is the largest body of events in bytes, on the wire and decompressed; `body_patience`
    how many seconds a client may pause while it sends one, `body_duration` how many it may take for all of it. With
    `tokens` events are taken from their bearers only. Of more than `max_requests` scrapes at once (0 is no limit) those
    beyond are refused.
    """

    def __init__(
        self,
        scraper: Scraper,
        intake: Intake | None,
        status: Status,
        *,
        reload: Callable[[], Awaitable[None]] | None = None,
        telemetry_path: str = "/metrics",
        body_limit: int = 16 * 1024 * 1024,
        body_patience: float = 15.0,
        body_duration: float = 60.0,
        tokens: Tokens | None = None,
        max_requests: int = 40,
    ) -> None:
        self._scraper = scraper
        self._intake = intake
        self._status = status
        self._reload = reload
        self._telemetry_path = telemetry_path
        self._bodies = BodyReader(body_limit, _BODIES_AT_ONCE * body_limit, body_patience, body_duration)
        self._tokens = tokens
        self._max_requests = max_requests
        self._scraping = 0
        self._routes: dict[str, dict[str, Handler]] = {
            "/-/healthy": {"GET": self._get_healthy},
            "/-/ready": {"GET": self._get_ready},
            "/-/reload": {"POST": self._post_reload},
            "/api/v1/status": {"GET": self._get_status},
            "/docs": {"GET": self._get_reference},
            "/v1/events": {"POST": self._post_events},
            "/modeldata/log": {"POST": self._post_events},  # where Azure ML's SDK posts
            "/v1/ledgers": {"POST": self._post_ledgers, "GET": self._get_ledgers},
        }
        if not telemetry_path.startswith("/") or telemetry_path in self._routes:
            raise ConfigError(
                [f"telemetry path {telemetry_path!r}: must begin with / and be none of {', '.join(self._routes)}"]
            )
        self._routes["/"] = {"GET": self._get_landing}
        self._routes[telemetry_path] = {"GET": self._get_metrics}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            raise ValueError(f"only HTTP is served, not {scope['type']}")
        try:
            response = await self._answer(scope, receive)
        except ClientGoneError:
            return
        except asyncio.CancelledError:  # the server waited long enough for this request
            response = text(503, "shutting down: send again later", (b"connection", b"close"))
        except Exception:
            _log.exception("%s %r failed", scope["method"], scope["path"])
            response = text(500, "internal error: the log of the exporter says more")
        await response.send(scope, send)

    async def _answer(self, scope: Scope, receive: Receive) -> Response:
        route = self._routes.get(scope["path"])
        if route is None:
            return text(404, f"nothing here: see / or {self._telemetry_path}")
        handler = route.get("GET" if scope["method"] == "HEAD" else scope["method"])
        if handler is None:
            allowed = ", ".join(f"{method}, HEAD" if method == "GET" else method for method in route)
            return text(405, f"{scope['path']} takes {allowed}", (b"allow", allowed.encode()))
        return await handler(scope, receive)

    async def _get_metrics(self, scope: Scope, receive: Receive) -> Response:
        names = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True).get("collect[]")
        unknown = set(names or ()).difference(self._scraper.names)
        if unknown:
            known = ", ".join(sorted(self._scraper.names))
            return text(400, f"unknown collector {', '.join(sorted(unknown))}: there are {known}")
        if 0 < self._max_requests <= self._scraping:
            return text(503, f"{self._scraping} scrapes are going on: see --web.max-requests", (b"retry-after", b"1"))
        openmetrics = negotiation.wants_openmetrics(header(scope, b"accept"))
        gzipped = negotiation.accepts_gzip(header(scope, b"accept-encoding"))
        self._scraping += 1
        try:
            body = await self._scraper.scrape(openmetrics, gzipped, frozenset(names) if names else None)
        finally:
            self._scraping -= 1
        headers = [(b"vary", b"Accept, Accept-Encoding"), _NO_STORE]
        if gzipped:
            headers.append((b"content-encoding", b"gzip"))
        return Response(200, body, negotiation.OPENMETRICS if openmetrics else negotiation.TEXT, tuple(headers))

    async def _get_landing(self, scope: Scope, receive: Receive) -> Response:
        return _html(landing_page(self._status.status(), self._telemetry_path))

    async def _get_reference(self, scope: Scope, receive: Receive) -> Response:
        return _html(reference_page())

    async def _get_healthy(self, scope: Scope, receive: Receive) -> Response:
        return text(200, "healthy")

    async def _get_ready(self, scope: Scope, receive: Receive) -> Response:
        reason = self._status.ready()
        return text(200, "ready") if reason is None else text(503, f"not ready: {reason}")

    async def _get_status(self, scope: Scope, receive: Receive) -> Response:
        return _json(200, self._status.status(), _NO_STORE)

    async def _post_reload(self, scope: Scope, receive: Receive) -> Response:
        if self._reload is None:
            return text(403, "reloading over HTTP is off: start with --web.enable-lifecycle, or send SIGHUP")
        try:
            await self._reload()
        except UnavailableError as unavailable:
            return _refusal(scope, 503, str(unavailable), unavailable.retry_after)
        except ReloadError as error:
            return text(500, f"not reloaded, the former configuration stays in force:\n{error}")
        return text(200, "reloaded")

    async def _post_events(self, scope: Scope, receive: Receive) -> Response:
        """Take a batch: 202 when any event was taken or there was none (an empty body), 400 when all were refused.

        401 without a valid token where tokens are configured, 403 when it opens none of the models.
        """
        if (intake := self._intake) is None:
            return text(404, "events are not taken here: add a source with `http: {}` to the configuration")

        async def submit(body: bytes, content: Content, models: frozenset[str] | None) -> Response:
            return _events_answer(await intake.submit(body, clock.now(), content, models=models), content)

        return await self._take(scope, receive, intake, _EVENT_TYPES, submit)

    async def _post_ledgers(self, scope: Scope, receive: Receive) -> Response:
        """Take partial ledgers: 202 when any was taken or known, 400 when all were refused; else as for events."""
        if (intake := self._intake) is None:
            return text(404, "ledgers are not taken here: add a source with `http: {}` to the configuration")

        async def submit(body: bytes, content: Content, models: frozenset[str] | None) -> Response:
            return _ledgers_answer(await intake.submit_ledgers(body, clock.now(), content, models=models), content)

        return await self._take(scope, receive, intake, _LEDGER_TYPES, submit)

    async def _get_ledgers(self, scope: Scope, receive: Receive) -> Response:
        """Return what is counted, for an exporter that adds up several: of the models that the sender's token opens."""
        if self._intake is None:
            return text(404, "no events are taken here: add a source with `http: {}` to the configuration")
        try:
            models = None if self._tokens is None else self._tokens.scope(header(scope, b"authorization"))
            body = self._intake.shares(models)
        except UnauthorizedError as refusal:
            return text(401, str(refusal), (b"www-authenticate", refusal.challenge.encode()))
        except UnavailableError as unavailable:
            return _refusal(scope, 503, str(unavailable), unavailable.retry_after)
        except QueueFullError as full:
            return _refusal(scope, 429, str(full), full.retry_after)
        headers = [(b"vary", b"Accept-Encoding"), _NO_STORE]
        if negotiation.accepts_gzip(header(scope, b"accept-encoding")):
            body = await asyncio.to_thread(gzip.compress, body, 1)
            headers.append((b"content-encoding", b"gzip"))
        return Response(200, body, MSGPACK_TYPE, tuple(headers))

    async def _take(
        self,
        scope: Scope,
        receive: Receive,
        intake: Intake,
        types: Collection[str],
        submit: Callable[[bytes, Content, frozenset[str] | None], Awaitable[Response]],
    ) -> Response:
        """Read a body of one of these types from whoever may send it, and return what `submit` answers to it."""
        try:
            models = None if self._tokens is None else self._tokens.scope(header(scope, b"authorization"))
            gzipped, content = self._check_headers(scope, types)
            intake.ensure_room()
            body = await self._bodies.read(receive, gzipped=gzipped, sender=_sender(scope))
            return await submit(body, content, models)
        except UnauthorizedError as refusal:
            intake.refuse("unauthorized")
            return text(401, str(refusal), (b"www-authenticate", refusal.challenge.encode()))
        except BodyRefusedError as refusal:
            if refusal.status in _REFUSALS:
                intake.refuse(_REFUSALS[refusal.status])
            return _refusal(scope, refusal.status, str(refusal), retry_after=1)
        except TooManyEventsError as refusal:
            intake.refuse("too_many_events")
            return text(413, str(refusal))
        except UnavailableError as unavailable:
            return _refusal(scope, 503, str(unavailable), unavailable.retry_after)
        except QueueFullError as full:
            return _refusal(scope, 429, str(full), full.retry_after)

    def _check_headers(self, scope: Scope, types: Collection[str]) -> tuple[bool, Content]:
        """Return whether the body is gzipped, and what it is; raise BodyRefusedError when the headers rule it out.

        Types that a web page may send to another site without asking (none, text/plain, forms) are refused, so that no
        page open in a browser near the exporter can slip events in. A CloudEvent in binary mode may have any type,
        since KServe repeats its caller's: a page would have to ask before it sends such headers.
        """
        type_ = header(scope, b"content-type").partition(";")[0].strip().lower()
        attributes = {
            key[3:].decode("latin-1"): unquote(value.decode("latin-1"))
            for key, value in scope["headers"]
            if key.startswith(b"ce-")
        }
        if type_ not in types and (types is not _EVENT_TYPES or "type" not in attributes):
            raise BodyRefusedError(415, f"content type {type_ or 'missing'}: send one of {', '.join(types)}")
        coding = header(scope, b"content-encoding").strip().lower()
        if coding not in ("", "identity", "gzip", "x-gzip"):
            raise BodyRefusedError(415, f"content encoding {coding}: send gzip or identity")
        length = header(scope, b"content-length")
        if length.isdecimal():
            self._bodies.check_length(int(length))
        key = header(scope, b"idempotency-key").strip()
        if len(key) > MAX_KEY:
            raise BodyRefusedError(431, f"Idempotency-Key of {len(key)} characters: send {MAX_KEY} at most")
        return coding in ("gzip", "x-gzip"), Content(type_, attributes, key, self._passed(scope))

    def _passed(self, scope: Scope) -> Passed | None:
        text = header(scope, PASSED.encode())
        passed = passed_of(text)
        if text and passed is None:
            raise BodyRefusedError(400, f"{PASSED}: only members of a set of exporters send it")
        return passed


def _events_answer(result: IntakeResult, content: Content) -> Response:
    errors: list[dict[str, Any]] = [{"line": line, "reason": reason} for line, reason in result.errors[:MAX_ERRORS]]
    for error, detail in zip(errors, result.details, strict=False):
        error["detail"] = detail
    unreadable = result.rejected > 0 and result.accepted == 0
    answer = {"accepted": result.accepted, "rejected": result.rejected, "errors": errors}
    if result.ignored:
        answer["ignored"] = result.ignored
    if content.key or content.passed:
        answer |= {"refused": dict(result.refused), "repeated": result.repeated}
    if content.passed:
        return _json(202, answer)  # whoever passed it knows what else was in the whole body
    if result.repeated == "changed":
        return _json(422, answer)
    forbidden = unreadable and {*result.refused, *(reason for _, reason in result.errors)} == {"forbidden_model"}
    return _json(403 if forbidden else 400 if unreadable else 202, answer)


def _ledgers_answer(result: LedgersResult, content: Content) -> Response:
    errors = [
        {"ledger": number, "reason": refused.reason, "detail": with_words(refused.reason, refused.told)}
        for number, refused in (result.refused if content.passed else result.refused[:MAX_ERRORS])
    ]
    answer = {
        "accepted": result.accepted,
        "repeated": result.repeated,
        "changed": result.changed,
        "rejected": len(result.refused),
        "refused": Counter(result.reasons),
        "errors": errors,
    }
    if content.passed:
        return _json(202, answer)
    unreadable = result.refused and not result.accepted and not result.repeated
    forbidden = unreadable and set(result.reasons) == {"forbidden_model"}
    return _json(403 if forbidden else 400 if unreadable else 202, answer)


def header(scope: Scope, name: bytes) -> str:
    """Return a header's value, several of one name joined as RFC 9110 says; empty when there is none."""
    return ",".join(value.decode("latin-1") for key, value in scope["headers"] if key == name)


def _sender(scope: Scope) -> str:
    client = scope.get("client")
    return str(client[0]) if client else ""


def _refusal(scope: Scope, status: int, reason: str, retry_after: float) -> Response:
    """Return the answer to a body that was not read to its end.

    The connection stays: the server throws the rest of the body away, and the client can read the answer. It closes
    when the client waits for leave to send (Expect), or has stopped sending.
    """
    headers = []
    if status in (429, 503):
        headers.append((b"retry-after", str(max(1, math.ceil(retry_after))).encode()))
    if status == 408 or header(scope, b"expect"):
        headers.append((b"connection", b"close"))
    return text(status, reason, *headers)


def text(status: int, line: str, *headers: tuple[bytes, bytes]) -> Response:
    """Return an answer of one line of plain text."""
    return Response(status, f"{escaped_lines(line)}\n".encode(errors="replace"), headers=headers)


def _html(page: str) -> Response:
    policy = (b"content-security-policy", CONTENT_SECURITY_POLICY.encode())
    headers = (policy, (b"referrer-policy", b"no-referrer"), _NO_STORE)
    return Response(200, page.encode(errors="replace"), "text/html; charset=utf-8", headers)


def _json(status: int, value: Any, *headers: tuple[bytes, bytes]) -> Response:
    body = msgspec.json.encode(value)
    if not body.isascii() or b"\x7f" in body:  # in JSON all that would be escaped stands within texts
        body = escaped(body.decode()).encode()
    return Response(status, body, "application/json", headers)
