import asyncio
import base64
import gzip
import hashlib
import logging
import zlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from mlops_exporter.events.reasons import Reason, Refused
from mlops_exporter.ingest.ledgers import LedgersResult
from mlops_exporter.judging.status import Report
from mlops_exporter.settings.document import ConfigError
from mlops_exporter.sources.base import Content, IntakeResult, QueueFullError, UnavailableError
from mlops_exporter.web.app import App, ReloadError
from mlops_exporter.web.negotiation import OPENMETRICS, TEXT

NDJSON = {"content-type": "application/x-ndjson"}
EVENTS = b'{"model":"credit"}\n{"model":"credit"}\n'


class Service:
    """A service whose every answer the test decides, and that remembers what it was asked."""

    names = ("compute", "model")

    def __init__(self) -> None:
        self.scrapes: list[tuple[bool, bool, frozenset[str] | None]] = []
        self.bodies: list[bytes] = []
        self.contents: list[Content] = []
        self.refused: list[Reason] = []
        self.result = IntakeResult(accepted=2)
        self.ledgers = LedgersResult(accepted=2)
        self.full: float | None = None
        self.full_at_submit: float | None = None
        self.not_ready: str | None = None
        self.state = Report("1.2.3", started=1_000.0, time=4_700.0)
        self.models: list[frozenset[str] | None] = []
        self.reloads = 0
        self.reload_error: Exception | None = None

    async def scrape(self, openmetrics: bool, gzipped: bool, collectors: frozenset[str] | None) -> bytes:
        self.scrapes.append((openmetrics, gzipped, collectors))
        body = b"ml_up 1.0\n"
        return gzip.compress(body) if gzipped else body

    def refuse(self, reason: Reason) -> None:
        self.refused.append(reason)

    def ensure_room(self) -> None:
        if self.full is not None:
            raise QueueFullError(self.full)

    async def submit(
        self, body: bytes, arrived: float, content: Content, *, models: frozenset[str] | None = None
    ) -> IntakeResult:
        self.models.append(models)
        if self.full_at_submit is not None:
            raise QueueFullError(self.full_at_submit)
        self.bodies.append(body)
        self.contents.append(content)
        return self.result

    async def submit_ledgers(
        self, body: bytes, arrived: float, content: Content, *, models: frozenset[str] | None = None
    ) -> LedgersResult:
        self.models.append(models)
        if self.full_at_submit is not None:
            raise QueueFullError(self.full_at_submit)
        self.bodies.append(body)
        return self.ledgers

    def shares(self, models: frozenset[str] | None) -> bytes:
        self.ensure_room()
        self.models.append(models)
        return b"shares"

    def status(self) -> Report:
        return self.state

    def ready(self) -> str | None:
        return self.not_ready

    async def reload(self) -> None:
        self.reloads += 1
        if self.reload_error:
            raise self.reload_error


@pytest.fixture
def service() -> Service:
    return Service()


def make_app(service: Service, **settings: Any) -> App:
    return App(service, service, service, **settings)


def request(app: App, method: str, url: str, **arguments: Any) -> httpx.Response:
    async def send() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://exporter") as client:
            return await client.request(method, url, **arguments)

    return asyncio.run(send())


def post(service: Service, content: Any, headers: dict[str, str] | None = None, **settings: Any) -> httpx.Response:
    headers = NDJSON if headers is None else headers
    return request(make_app(service, **settings), "POST", "/v1/events", content=content, headers=headers)


@pytest.mark.parametrize(("accept", "content_type"), [("", TEXT), ("application/openmetrics-text", OPENMETRICS)])
@pytest.mark.parametrize("coding", ["identity", "gzip"])
def test_metrics(service: Service, accept: str, content_type: str, coding: str) -> None:
    response = request(make_app(service), "GET", "/metrics", headers={"accept": accept, "accept-encoding": coding})
    assert response.status_code == 200
    assert response.headers["content-type"] == content_type
    assert response.headers.get("content-encoding", "identity") == coding
    assert response.headers["vary"] == "Accept, Accept-Encoding"
    assert response.content == b"ml_up 1.0\n"
    assert service.scrapes == [(content_type == OPENMETRICS, coding == "gzip", None)]


def test_several_accept_headers_are_one_list(service: Service) -> None:
    headers = [("accept", "text/plain;q=0.5"), ("accept", "application/openmetrics-text")]
    assert request(make_app(service), "GET", "/metrics", headers=headers).headers["content-type"] == OPENMETRICS


def test_collect_filter(service: Service) -> None:
    app = make_app(service)
    assert request(app, "GET", "/metrics?collect[]=model&collect[]=compute").status_code == 200
    assert service.scrapes[-1][2] == frozenset({"model", "compute"})
    refused = request(app, "GET", "/metrics?collect%5B%5D=modle&collect[]=model")
    assert refused.status_code == 400
    assert refused.text == "unknown collector modle: there are compute, model\n"
    assert len(service.scrapes) == 1


def test_head_is_get_without_a_body(service: Service) -> None:
    for path in ("/metrics", "/", "/-/healthy"):
        get, head = (request(make_app(service), method, path) for method in ("GET", "HEAD"))
        assert head.status_code == get.status_code == 200
        assert head.headers["content-type"] == get.headers["content-type"]
        assert head.content == b""


def test_telemetry_path_is_configurable(service: Service) -> None:
    app = make_app(service, telemetry_path="/probe")
    assert request(app, "GET", "/probe").content == b"ml_up 1.0\n"
    assert request(app, "GET", "/metrics").status_code == 404
    assert 'href="/probe"' in request(app, "GET", "/").text
    assert request(make_app(service, telemetry_path="/"), "GET", "/").content == b"ml_up 1.0\n"
    for path in ("metrics", "/v1/events"):
        with pytest.raises(ConfigError, match=r"must begin with / and be none of"):
            make_app(service, telemetry_path=path)


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("POST", "/metrics", "GET, HEAD"),
        ("GET", "/modeldata/log", "POST"),
        ("GET", "/v1/events", "POST"),
        ("GET", "/-/reload", "POST"),
    ],
)
def test_wrong_method(service: Service, method: str, path: str, allow: str) -> None:
    response = request(make_app(service), method, path)
    assert response.status_code == 405
    assert response.headers["allow"] == allow
    assert response.headers["content-type"] == "text/plain; charset=utf-8"


def test_unknown_path(service: Service) -> None:
    response = request(make_app(service), "GET", "/nowhere")
    assert response.status_code == 404
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert "/metrics" in response.text


def test_health_and_readiness(service: Service) -> None:
    app = make_app(service)
    assert request(app, "GET", "/-/healthy").status_code == 200
    assert request(app, "GET", "/-/ready").status_code == 200
    service.not_ready = "checkpoint is being read"
    response = request(app, "GET", "/-/ready")
    assert response.status_code == 503
    assert "checkpoint is being read" in response.text
    assert request(app, "GET", "/-/healthy").status_code == 200


def test_reload_needs_leave(service: Service) -> None:
    response = request(make_app(service), "POST", "/-/reload")
    assert response.status_code == 403
    assert "--web.enable-lifecycle" in response.text
    assert service.reloads == 0


def test_reload(service: Service) -> None:
    app = make_app(service, reload=service.reload)
    assert request(app, "POST", "/-/reload").status_code == 200
    service.reload_error = ReloadError("mlops-exporter.yml: models[0].task: write binary, multiclass or regression")
    response = request(app, "POST", "/-/reload")
    assert response.status_code == 500
    assert response.text == (
        "not reloaded, the former configuration stays in force:\n"
        "mlops-exporter.yml: models[0].task: write binary, multiclass or regression\n"
    )
    service.reload_error = UnavailableError("not reloaded: restoring state", 5)
    response = request(app, "POST", "/-/reload")
    assert (response.status_code, response.text) == (503, "not reloaded: restoring state\n")
    assert response.headers["retry-after"] == "5"
    assert service.reloads == 3


def test_status(service: Service) -> None:
    response = request(make_app(service), "GET", "/api/v1/status")
    assert response.headers["content-type"] == "application/json"
    expected = {"version": "1.2.3", "started": 1000.0, "time": 4700.0, "not_ready": None}
    dropped = {"bins": 0, "groups": 0, "classes": 0, "features": 0}
    series = {"exposed": 0, "limit": 20000, "dropped": dropped, "left_out": []}
    rest: dict[str, Any] = {"models": [], "sources": [], "errors": [], "series": series, "configuration": None}
    rest |= {"watches_models": True, "machine": None}
    assert response.json() == {**expected, **rest}


@pytest.mark.parametrize(("path", "heading"), [("/", "mlops-exporter"), ("/docs", "What the metrics mean")])
def test_pages_allow_only_what_they_bring(service: Service, path: str, heading: str) -> None:
    response = request(make_app(service), "GET", path)
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert f"<h1>{heading}</h1>" in response.text
    policy = response.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        content = response.text.partition(f"<{tag}>")[2].partition(f"</{tag}>")[0]
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def test_scrapes_at_once_are_limited(service: Service) -> None:
    gate = asyncio.Event()

    class Slow(Service):
        async def scrape(self, openmetrics: bool, gzipped: bool, collectors: frozenset[str] | None) -> bytes:
            await gate.wait()
            return await super().scrape(openmetrics, gzipped, collectors)

    async def scrapes(app: App) -> list[int]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://exporter") as client:
            first = [asyncio.create_task(client.get("/metrics")) for _ in range(2)]
            await asyncio.sleep(0.05)
            third = await client.get("/metrics")
            assert "--web.max-requests" in third.text
            assert third.headers["retry-after"] == "1"
            health = await client.get("/-/healthy")
            gate.set()
            done = await asyncio.gather(*first)
            again = await client.get("/metrics")
            return [response.status_code for response in (third, health, *done, again)]

    app = App(Slow(), service, service, max_requests=2)
    assert asyncio.run(scrapes(app)) == [503, 200, 200, 200, 200]


def test_an_error_is_logged_and_answered(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    service.reload_error = RuntimeError("disk on fire")
    response = request(make_app(service, reload=service.reload), "POST", "/-/reload")
    assert response.status_code == 500
    assert "disk on fire" not in response.text
    assert "disk on fire" in caplog.text


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "application/x-ndjson", "application/ndjson", "Application/JSON; charset=utf-8"],
)
@pytest.mark.parametrize(
    ("content", "coding"), [(EVENTS, "identity"), (gzip.compress(EVENTS), "gzip"), (gzip.compress(EVENTS), "x-gzip")]
)
def test_events(service: Service, content_type: str, content: bytes, coding: str) -> None:
    response = post(service, content, {"content-type": content_type, "content-encoding": coding})
    assert response.status_code == 202
    assert response.json() == {"accepted": 2, "rejected": 0, "errors": []}
    assert service.bodies == [EVENTS]


def test_events_partly_refused(service: Service) -> None:
    service.result = IntakeResult(3, 150, [(line, "unknown_model") for line in range(1, 151)])
    response = post(service, EVENTS)
    assert response.status_code == 202
    answer = response.json()
    assert (answer["accepted"], answer["rejected"], len(answer["errors"])) == (3, 150, 100)
    assert answer["errors"][0] == {"line": 1, "reason": "unknown_model"}


def test_events_none_readable(service: Service) -> None:
    service.result = IntakeResult(0, 1, [(1, "malformed_json")])
    response = post(service, b"{")
    assert response.status_code == 400
    assert response.json() == {"accepted": 0, "rejected": 1, "errors": [{"line": 1, "reason": "malformed_json"}]}


def test_an_empty_body_is_a_batch_of_no_events(service: Service) -> None:
    service.result = IntakeResult(0)
    response = post(service, b"")
    assert response.status_code == 202
    assert response.json() == {"accepted": 0, "rejected": 0, "errors": []}


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": ""},
        {},
        {"content-type": "application/jsonx"},
        {**NDJSON, "content-encoding": "br"},
        {**NDJSON, "content-encoding": "gzip, gzip"},
    ],
)
def test_unsupported_media(service: Service, headers: dict[str, str]) -> None:
    response = post(service, EVENTS, headers)
    assert response.status_code == 415
    assert "send " in response.text
    assert service.bodies == []
    assert service.refused == ["unsupported_type"]


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


def test_size_limit_holds_at_the_byte(service: Service) -> None:
    assert post(service, b"x" * 100, body_limit=100).status_code == 202
    assert post(service, gzip.compress(b"x" * 100), {**NDJSON, "content-encoding": "gzip"}, body_limit=100).is_success
    assert service.bodies == [b"x" * 100] * 2


@pytest.mark.parametrize(
    ("content", "coding"),
    [
        (lambda: b"x" * 101, "identity"),
        (lambda: chunks(b"x" * 60, b"x" * 60), "identity"),
        (lambda: gzip.compress(b"x" * 101), "gzip"),
        (lambda: gzip.compress(b"x" * 60) + gzip.compress(b"x" * 60), "gzip"),
        (lambda: gzip.compress(b"") * 6, "gzip"),
    ],
    ids=["declared", "streamed", "decompressed", "members", "compressed"],
)
def test_too_large(service: Service, content: Callable[[], Any], coding: str) -> None:
    response = post(service, content(), {**NDJSON, "content-encoding": coding}, body_limit=100)
    assert response.status_code == 413
    assert "100 bytes" in response.text
    assert service.bodies == []
    assert service.refused == ["body_too_large"]


@pytest.mark.slow
def test_a_gzip_bomb_is_never_unpacked(service: Service) -> None:
    compressor = zlib.compressobj(9, wbits=31)
    bomb = b"".join(compressor.compress(bytes(1 << 20)) for _ in range(200)) + compressor.flush()
    assert len(bomb) < 1 << 20
    assert post(service, bomb, {**NDJSON, "content-encoding": "gzip"}, body_limit=1 << 20).status_code == 413


@pytest.mark.parametrize("streamed", [False, True])
def test_gzip_members_and_chunks_of_any_cut(service: Service, streamed: bool) -> None:
    packed = gzip.compress(EVENTS) + gzip.compress(EVENTS)
    content: Any = chunks(*(packed[i : i + 1] for i in range(len(packed)))) if streamed else packed
    assert post(service, content, {**NDJSON, "content-encoding": "gzip"}).status_code == 202
    assert service.bodies == [EVENTS * 2]


@pytest.mark.parametrize(
    "content",
    [gzip.compress(EVENTS)[:-4], gzip.compress(EVENTS)[:12], b"", b"{}", gzip.compress(EVENTS) + b"garbage"],
    ids=["no trailer", "cut", "nothing", "not gzip", "garbage after it"],
)
def test_damaged_gzip(service: Service, content: bytes) -> None:
    response = post(service, content, {**NDJSON, "content-encoding": "gzip"})
    assert response.status_code == 400
    assert "gzip" in response.text
    assert service.bodies == []
    assert service.refused == ["bad_gzip"]


async def untouchable() -> AsyncIterator[bytes]:
    raise AssertionError("the body was read")
    yield b""


@pytest.mark.parametrize(("seconds", "header"), [(0.2, "1"), (1.0, "1"), (2.1, "3")])
def test_full_queue_is_told_before_the_body_is_read(service: Service, seconds: float, header: str) -> None:
    service.full = seconds
    response = post(service, untouchable())
    assert response.status_code == 429
    assert service.refused == [], "nothing is lost, the client will send it again"
    assert response.headers["retry-after"] == header


def test_queue_that_fills_meanwhile(service: Service) -> None:
    service.full_at_submit = 5
    response = post(service, EVENTS)
    assert response.status_code == 429
    assert response.headers["retry-after"] == "5"


def test_a_client_that_waits_for_leave_is_hung_up_on(service: Service) -> None:
    service.full = 1
    assert post(service, EVENTS, {**NDJSON, "expect": "100-continue"}).headers["connection"] == "close"
    assert "connection" not in post(service, EVENTS).headers


Message = dict[str, Any]


def converse(app: App, messages: list[Message], *, cancel: bool = False) -> list[Message]:
    """Answer to a POST of events whose client sends these messages and then nothing more."""
    sent: list[Message] = []

    async def receive() -> Message:
        return messages.pop(0) if messages else await asyncio.Event().wait()  # type: ignore[return-value]

    async def send(message: Any) -> None:
        sent.append(message)

    async def run() -> None:
        headers = [(b"content-type", b"application/json")]
        scope = {"type": "http", "method": "POST", "path": "/v1/events", "query_string": b"", "headers": headers}
        task = asyncio.create_task(app(scope, receive, send))
        if cancel:
            await asyncio.sleep(0.01)
            task.cancel()
        await asyncio.wait_for(task, 5)

    asyncio.run(run())
    return sent


BEGIN = {"type": "http.request", "body": b"{", "more_body": True}


def test_a_client_that_leaves_is_no_error(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert converse(make_app(service), [BEGIN, {"type": "http.disconnect"}]) == []
    assert service.bodies == []
    assert [record for record in caplog.records if record.name != "asyncio"] == []


def test_a_client_that_stops_sending_is_not_waited_for(service: Service) -> None:
    answer = converse(make_app(service, body_patience=0.05), [BEGIN])
    assert answer[0]["status"] == 408
    assert service.refused == ["body_stalled"]
    assert (b"connection", b"close") in answer[0]["headers"]
    assert service.bodies == []


def test_a_request_cut_off_by_the_shutdown_is_told(service: Service) -> None:
    answer = converse(make_app(service), [BEGIN], cancel=True)
    assert answer[0]["status"] == 503
    assert (b"connection", b"close") in answer[0]["headers"]


def test_bodies_being_read_have_one_bounded_room(service: Service) -> None:
    app = make_app(service, body_limit=100)  # and so room for 400 bytes at a time

    async def upload(size: int, pause: float) -> int:
        async def content() -> AsyncIterator[bytes]:
            yield b"x" * size
            await asyncio.sleep(pause)

        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://exporter") as client:
            return (await client.post("/v1/events", content=content(), headers=NDJSON)).status_code

    async def uploads() -> list[int]:
        slow = [asyncio.create_task(upload(100, 0.2)) for _ in range(4)]
        await asyncio.sleep(0.1)
        return [await upload(100, 0), *await asyncio.gather(*slow), await upload(100, 0)]

    assert asyncio.run(uploads()) == [429, 202, 202, 202, 202, 202]


def test_what_a_request_says_of_its_body(service: Service) -> None:
    binary = {"ce-id": "a", "Ce-Type": "t", "ce-source": "%E2%82%AC", "content-type": "text/plain"}
    assert post(service, EVENTS, binary).status_code == 202
    assert post(service, EVENTS, {"ce-type": "t"}).status_code == 202
    assert post(service, EVENTS, {"content-type": "Application/CloudEvents+JSON; charset=utf-8"}).status_code == 202
    assert post(service, EVENTS, {"content-type": "text/plain", "ce-id": "a"}).status_code == 415
    assert service.contents == [
        Content("text/plain", {"id": "a", "type": "t", "source": "€"}),
        Content("", {"type": "t"}),
        Content("application/cloudevents+json", {}),
    ]


def test_what_is_counted_is_told_to_an_exporter_that_adds_up(service: Service) -> None:
    answer = request(make_app(service), "GET", "/v1/ledgers")
    assert (answer.status_code, answer.content) == (200, b"shares")
    assert answer.headers["content-type"] == "application/vnd.msgpack"
    assert answer.headers["content-encoding"] == "gzip"
    assert request(App(service, None, service), "GET", "/v1/ledgers").status_code == 404
    assert request(make_app(service), "PUT", "/v1/ledgers").headers["allow"] == "POST, GET, HEAD"
    service.full = 2.0
    assert request(make_app(service), "GET", "/v1/ledgers").status_code == 429


MSGPACK = {"content-type": "application/vnd.msgpack"}


def test_ledgers_are_answered_one_by_one(service: Service) -> None:
    service.ledgers = LedgersResult(1, 2, 1, [(3, Refused("bad_cells", "cell 0 of 'labels' is NaN or infinite"))])
    answer = request(make_app(service), "POST", "/v1/ledgers", content=b"\x90", headers=MSGPACK)
    assert answer.status_code == 202
    told = answer.json()
    (error,) = told.pop("errors")
    assert told == {"accepted": 1, "repeated": 2, "changed": 1, "rejected": 1, "refused": {"bad_cells": 1}}
    assert (error["ledger"], error["reason"]) == (3, "bad_cells")
    assert "cell 0" in error["detail"]
    assert service.bodies == [b"\x90"]


@pytest.mark.parametrize(
    ("result", "status"),
    [
        (LedgersResult(refused=[(1, Refused("bad_ledger"))]), 400),
        (LedgersResult(refused=[(1, Refused("forbidden_model"))]), 403),
        (LedgersResult(repeated=1, refused=[(1, Refused("bad_ledger"))]), 202),
        (LedgersResult(), 202),
    ],
)
def test_a_body_of_which_no_ledger_is_taken_is_an_error(service: Service, result: LedgersResult, status: int) -> None:
    service.ledgers = result
    assert request(make_app(service), "POST", "/v1/ledgers", content=b"x", headers=MSGPACK).status_code == status


@pytest.mark.parametrize("type_", ["application/json", "text/plain", "", "application/vnd.apache.arrow.stream"])
def test_ledgers_of_another_type_are_refused(service: Service, type_: str) -> None:
    headers = {"content-type": type_, "ce-type": "org.kubeflow.serving.inference.request"}
    assert request(make_app(service), "POST", "/v1/ledgers", content=b"x", headers=headers).status_code == 415
    assert (service.bodies, service.refused) == ([], ["unsupported_type"])


def test_ledgers_have_the_limits_of_events(service: Service) -> None:
    app = make_app(service, body_limit=1000)
    assert request(app, "POST", "/v1/ledgers", content=bytes(1001), headers=MSGPACK).status_code == 413
    bomb = gzip.compress(bytes(100_000))
    headers = {**MSGPACK, "content-encoding": "gzip"}
    assert request(app, "POST", "/v1/ledgers", content=bomb, headers=headers).status_code == 413
    service.full_at_submit = 2.0
    answer = request(app, "POST", "/v1/ledgers", content=b"\x90", headers=MSGPACK)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "2")
    assert request(App(service, None, service), "POST", "/v1/ledgers", headers=MSGPACK).status_code == 404
