import contextlib
import gzip
import http.client
import logging
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import pytest

from mlops_exporter.exposition.registry import Registry
from mlops_exporter.web import body
from mlops_exporter.web.app import App
from mlops_exporter.web.protocol import HEAD_LIMIT, BoundedProtocol, Connections
from mlops_exporter.web.server import ListenError, listen
from tests.standin import StandIn
from tests.support.serving import served

LIMIT = 1 << 20
JSON = {"content-type": "application/json"}


@pytest.fixture
def service() -> StandIn:
    return StandIn()


@pytest.fixture
def address(service: StandIn) -> Iterator[str]:
    app = App(Registry([], lambda: 0), service, service, body_limit=LIMIT, body_patience=0.5)
    with served(app) as address:
        yield address


def connect(address: str) -> socket.socket:
    host, port = address.rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout=5)


def read_all(connection: socket.socket) -> bytes:
    answer = b""
    while chunk := connection.recv(65536):
        answer += chunk
    return answer


def test_one_connection_serves_many_requests(address: str) -> None:
    connection = http.client.HTTPConnection(address, timeout=5)
    connection.connect()
    local = connection.sock.getsockname()
    for path, method in [("/metrics", "GET"), ("/", "HEAD"), ("/nowhere", "GET"), ("/metrics", "HEAD")] * 3:
        connection.request(method, path)
        response = connection.getresponse()
        assert (len(response.read()) > 0) == (method == "GET")
        assert connection.sock is not None
        assert connection.sock.getsockname() == local
        assert response.getheader("server") is None
        assert int(response.headers["content-length"]) > 0
    connection.close()


def test_gzip_both_ways(address: str, service: StandIn) -> None:
    content = gzip.compress(b"{}\n" * 1000)
    response = httpx.post(f"http://{address}/v1/events", content=content, headers={**JSON, "content-encoding": "gzip"})
    assert (response.status_code, response.json()["accepted"]) == (202, 1000)
    response = httpx.get(f"http://{address}/metrics", headers={"accept-encoding": "gzip"})
    assert response.headers["content-encoding"] == "gzip"
    assert "ml_exporter_build_info" in response.text


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "chunked"])
def test_an_oversized_body_gets_its_answer_and_the_connection_goes_on(address: str, declared: bool) -> None:
    content = b"x" * (8 * LIMIT)
    parts = (content[i : i + 65536] for i in range(0, len(content), 65536))
    with httpx.Client(base_url=f"http://{address}", trust_env=False) as client:
        response = client.post("/v1/events", content=content if declared else parts, headers=JSON)
        assert response.status_code == 413
        assert client.get("/-/healthy").status_code == 200


def test_an_oversized_body_is_refused_before_it_is_sent(address: str) -> None:
    with connect(address) as connection:
        connection.sendall(
            b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\nExpect: 100-continue\r\n\r\n" % (LIMIT + 1)
        )
        answer = read_all(connection)  # until the server closes
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in answer


def test_a_slow_client_holds_up_nobody_and_is_given_up(service: StandIn) -> None:
    app = App(Registry([], lambda: 0), service, service, body_patience=3)
    with served(app) as address, connect(address) as slow:
        slow.sendall(
            b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
        )
        begin = time.monotonic()
        for _ in range(5):
            assert httpx.get(f"http://{address}/metrics").status_code == 200
        assert time.monotonic() - begin < 2
        assert read_all(slow).startswith(b"HTTP/1.1 408 ")
    assert service.bodies == []


@pytest.mark.parametrize(
    ("answered", "beginning"),
    [
        (b"", b""),
        (b"", b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-"),
        (b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /-/healthy HTTP/1.1\r\nHo"),
        (b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\r\n", b"{}"),
    ],
    ids=["silence", "first head", "second head", "unread body"],
)
def test_a_request_that_does_not_go_on_is_given_up(
    address: str, answered: bytes, beginning: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BoundedProtocol, "patience", 0.3)
    with connect(address) as connection:
        if answered:
            connection.sendall(answered)
            assert connection.recv(4096).startswith(b"HTTP/1.1 ")
        for byte in beginning:
            connection.sendall(bytes([byte]))
        assert read_all(connection) in (b"", b"healthy\n")  # the end of the answer, then of the connection


def test_a_connection_between_requests_is_kept(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BoundedProtocol, "patience", 0.1)
    connection = http.client.HTTPConnection(address, timeout=5)
    for _ in range(3):
        connection.request("GET", "/-/healthy")
        assert connection.getresponse().read()
        assert connection.sock is not None
        time.sleep(0.3)
    with connect(address) as other:
        other.sendall(
            b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 3\r\n\r\n{}"
        )
        time.sleep(0.3)
        other.sendall(b"\n")
        assert other.recv(100).startswith(b"HTTP/1.1 202 ")
    connection.close()


@pytest.mark.parametrize("filler", [b"x", b"x\r\nX: "], ids=["one header", "many headers"])
def test_a_request_head_is_limited(address: str, filler: bytes) -> None:
    head = b"GET /metrics HTTP/1.1\r\nX: " + filler * HEAD_LIMIT
    with connect(address) as connection:
        connection.sendall(head[: HEAD_LIMIT + 1])
        assert read_all(connection).startswith(b"HTTP/1.1 400 ")
    fitting = {"x": "x" * (HEAD_LIMIT - 500)}
    assert httpx.get(f"http://{address}/-/healthy", headers=fitting).status_code == 200


def test_a_head_that_comes_in_one_read_is_limited(address: str, service: StandIn) -> None:
    for field in (b"X: " + b"x" * (HEAD_LIMIT + 1), b"\r\n".join([b"X: y"] * (HEAD_LIMIT // 5))):
        with connect(address) as connection:
            connection.sendall(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n" + field + b"\r\n\r\n")
            answer = read_all(connection)
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert answer.count(b"HTTP/1.1") == 1
        assert b"are over 65536 bytes" in answer


def post_head(length: int, *headers: str) -> bytes:
    lines = ["POST /v1/events HTTP/1.1", "Host: x", "Content-Type: application/json", f"Content-Length: {length}"]
    return "\r\n".join([*lines, *headers, "", ""]).encode()


@pytest.mark.parametrize("compressed", [True, False])
def test_senders_that_drip_turn_nobody_away(
    service: StandIn, compressed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(body, "STALLED_SECONDS", 0.3)
    content = b"{}\n" * (LIMIT // 3)
    content = gzip.compress(content, 1) if compressed else content
    headers = ["Content-Encoding: gzip"] if compressed else []
    app = App(Registry([], lambda: 0), service, service, body_limit=LIMIT)
    with served(app) as address, ExitStack() as stack:
        drips = [stack.enter_context(connect(address)) for _ in range(8)]
        for drip in drips:
            drip.sendall(post_head(len(content), *headers) + content[:-20])
        time.sleep(0.5)
        for number in range(4):
            for drip in drips:
                with contextlib.suppress(OSError):  # it may have been refused
                    drip.sendall(content[-20 + number : -19 + number])
            response = httpx.post(f"http://{address}/v1/events", content=b"{}\n" * 100_000, headers=JSON)
            assert response.status_code == 202


def test_a_body_has_a_deadline(service: StandIn) -> None:
    app = App(Registry([], lambda: 0), service, service, body_patience=1, body_duration=0.5)
    with served(app) as address, connect(address) as drip:
        drip.sendall(post_head(1000))
        begin = time.monotonic()
        drip.settimeout(0.1)
        while True:
            drip.sendall(b"{")
            with contextlib.suppress(TimeoutError):
                answer = drip.recv(1000)
                break
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"limits.body_duration" in answer
        assert 0.4 < time.monotonic() - begin < 3


def test_idle_connections_make_room(service: StandIn) -> None:
    app = App(Registry([], lambda: 0), service, service)
    with served(app, connections=Connections()) as address, ExitStack() as stack:
        first, *others = (stack.enter_context(connect(address)) for _ in range(512))
        for path in ("/metrics", "/-/healthy", "/api/v1/status"):
            assert httpx.get(f"http://{address}{path}", timeout=2).status_code == 200
        assert read_all(first) == b""  # the one that was idle for longest has been closed
        others[-1].sendall(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n")
        assert others[-1].recv(100).startswith(b"HTTP/1.1 200 ")


def test_busy_connections_leave_some_for_what_is_vital(service: StandIn) -> None:
    app = App(Registry([], lambda: 0), service, service)
    bounds = Connections(20, 5, lambda path: path in ("/metrics", "/-/ready"))
    with served(app, connections=bounds) as address, ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(connect(address)).sendall(post_head(9) + b"{")
        time.sleep(0.2)
        for path, status in (("/metrics", 200), ("/-/ready", 200), ("/", 503)):
            assert httpx.get(f"http://{address}{path}", timeout=2).status_code == status


def test_clients_that_leave_raise_no_alarm(address: str, service: StandIn, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for _ in range(20):
        with connect(address) as hasty:
            hasty.sendall(
                b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
            )
        with connect(address) as noise:
            noise.sendall(b"\x16\x03\x01 this is not HTTP\r\n\r\n")
            assert read_all(noise).startswith(b"HTTP/1.1 400 ")
        with connect(address) as upgrade:
            upgrade.sendall(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
            upgrade.recv(100)
    assert httpx.get(f"http://{address}/-/healthy").status_code == 200
    assert service.bodies == []
    assert [record.getMessage() for record in caplog.records if record.name.startswith(("exporter", "uvicorn"))] == []


def test_a_burst_of_connections_waits_in_the_backlog() -> None:
    (listener,) = listen(["127.0.0.1:0"])
    with listener, ExitStack() as connections:
        for _ in range(200):  # beyond the backlog the kernel drops SYN, and the client sends it again after a second
            connections.enter_context(socket.create_connection(listener.getsockname(), timeout=0.5))


def test_shutdown_is_quick_with_open_connections(service: StandIn) -> None:
    app = App(Registry([], lambda: 0), service, service, body_patience=60)
    with served(app) as address:
        idle = [connect(address) for _ in range(3)]
        for connection in idle[1:]:
            connection.sendall(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n")
            assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")
        begin = time.monotonic()
    assert time.monotonic() - begin < 1.5
    for connection in idle:
        with connection:
            assert read_all(connection) == b""  # closed by the server


def test_shutdown_lets_a_request_at_hand_finish(service: StandIn) -> None:
    app = App(Registry([], lambda: 0), service, service, body_patience=60)
    with ThreadPoolExecutor(1) as pool:
        with served(app) as address:

            def content() -> Iterator[bytes]:
                yield b"{}\n"
                time.sleep(1)
                yield b"{}\n"

            future = pool.submit(httpx.post, f"http://{address}/v1/events", content=content(), headers=JSON)
            time.sleep(0.3)
        assert future.result().json()["accepted"] == 2


def test_shutdown_gives_up_on_a_request_that_does_not_end(service: StandIn) -> None:
    app = App(Registry([], lambda: 0), service, service, body_patience=60)
    with served(app) as address:
        stuck = connect(address)
        stuck.sendall(
            b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
        )
        time.sleep(0.2)
        begin = time.monotonic()
    assert time.monotonic() - begin < 5
    with stuck:
        assert read_all(stuck).startswith(b"HTTP/1.1 503 ")


def test_a_taken_port_is_explained() -> None:
    (taken,) = listen(["127.0.0.1:0"])
    with taken:
        port = taken.getsockname()[1]
        free, *_ = listen(["127.0.0.1:0"])
        free_port = free.getsockname()[1]
        free.close()
        with pytest.raises(
            ListenError, match=rf"127\.0\.0\.1:{port}: Address already in use.*ss -ltnp.*listen-address"
        ):
            listen([f"127.0.0.1:{free_port}", f"127.0.0.1:{port}"])
        (again,) = listen([f"127.0.0.1:{free_port}"])  # the failure left nothing open
        again.close()


@pytest.mark.parametrize(
    "address", ["", "10042", "localhost", "127.0.0.1:", ":http", ":65536", "::1:10042", "[::1]10042", "host:-1"]
)
def test_a_bad_address_is_explained(address: str) -> None:
    with pytest.raises(ListenError, match=r"write host:port, :port or \[IPv6 address\]:port"):
        listen([address])


def test_an_unknown_host_is_explained() -> None:
    with pytest.raises(ListenError, match="no such host"):
        listen(["no-such-host.invalid:0"])
    with pytest.raises(ListenError, match="no interface of this machine has that address"):
        listen(["192.0.2.1:0"])


@pytest.mark.parametrize("address", [":0", "[::]:0", "127.0.0.1:0", "localhost:0", "0.0.0.0:0"])
def test_addresses_that_loopback_reaches(address: str, service: StandIn) -> None:
    with served(App(Registry([], lambda: 0), service, service), address) as where:
        port = where.rsplit(":", 1)[1]
        assert httpx.get(f"http://127.0.0.1:{port}/-/healthy", trust_env=False).status_code == 200


def test_an_answer_that_nobody_reads_is_given_up(service: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BoundedProtocol, "read_patience", 0.3)

    class Huge(Registry):
        async def scrape(self, openmetrics: bool, gzipped: bool, collectors: frozenset[str] | None = None) -> bytes:
            return b"x" * (64 << 20)

    with served(App(Huge([], lambda: 0), service, service)) as address, connect(address) as connection:
        connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        time.sleep(0.8)
        assert received_until_the_end(connection) < 64 << 20


def received_until_the_end(connection: socket.socket) -> int:
    received = 0
    with contextlib.suppress(ConnectionResetError):
        while chunk := connection.recv(1 << 20):
            received += len(chunk)
    return received
