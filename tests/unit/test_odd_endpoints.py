"""Endpoints that answer oddly: each answer is read right, or it is a failure of the right kind that says why."""

import asyncio
import gzip
import json
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_exporter.probing.prober import Prober
from mlops_exporter.probing.protocols import ProtocolError, reply
from mlops_exporter.probing.verdict import said
from mlops_exporter.profile.profile import Profile
from mlops_exporter.profiling.build import BuildRequest, build
from mlops_exporter.settings.access import AccessSettings
from mlops_exporter.settings.models import ModelSettings
from mlops_exporter.settings.probes import EndpointSettings, ProbeSettings
from mlops_exporter.sources.calls import CallError, call
from mlops_exporter.tables.lists import lists
from tests.certificates import Authority

ROWS = 4
GOOD = b'{"predictions": [0.1, 0.9, 0.8, 0.2]}'


@contextmanager
def answering(
    *parts: bytes, pause: float = 0.0, reset: bool = False, tls: ssl.SSLContext | None = None
) -> Iterator[int]:
    """A server that reads a request and writes these parts, whatever was asked; yields its port."""
    stop = threading.Event()

    def serve(listening: socket.socket) -> None:
        while not stop.is_set():
            try:
                connection, _ = listening.accept()
                with connection, tls.wrap_socket(connection, server_side=True) if tls else connection as peer:
                    head = b""
                    while b"\r\n\r\n" not in head:
                        head += peer.recv(65536)
                    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
                    body = head.partition(b"\r\n\r\n")[2]
                    while len(body) < length:
                        body += peer.recv(65536)
                    for part in parts:
                        peer.sendall(part)
                        if stop.wait(pause):
                            return
                    if reset:
                        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            except OSError:
                continue

    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.05)
        thread = threading.Thread(target=serve, args=(listening,), daemon=True)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            stop.set()
            thread.join()


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("golden") / "credit.ndjson"
    rows = [{"amount": number, "p": score, "label": number % 2} for number, score in enumerate((0.1, 0.9, 0.8, 0.2))]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.fixture(scope="module")
def profile(table: Path) -> Profile:
    return build(BuildRequest(table, "binary", label="label", scores={"1": "p"}, positive="1"))[0]


def probed(table: Path, profile: Profile, endpoint: dict[str, Any], **more: Any) -> Prober:
    """Make one pass."""
    probe = ProbeSettings.model_validate(
        {"name": "g", "model": "m", "rows": str(table), "endpoint": endpoint, "outputs": {"": "score"},
         "pinned": {"score": "p"}, "stop_after": 1, "timeout": "1s", **more}
    )  # fmt: skip
    model = ModelSettings.model_validate({"name": "m", "task": "binary", "profile": "p.json"})
    subject = Prober(probe, model, profile, lists)
    asyncio.run(subject.probe())
    return subject


def http(body: bytes, head: bytes = b"", status: bytes = b"200 OK", protocol: bytes = b"HTTP/1.1") -> bytes:
    return protocol + b" " + status + b"\r\n" + head + b"Content-Length: %d\r\n\r\n" % len(body) + body


def chunked(body: bytes) -> bytes:
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(http(GOOD, b"Content-Type: text/plain\r\n"), id="another type of content"),
        pytest.param(chunked(GOOD), id="chunked"),
        pytest.param(b"HTTP/1.0 200 OK\r\n\r\n" + GOOD, id="HTTP/1.0, until the end"),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n" + http(GOOD), id="after 100"),
        pytest.param(http(gzip.compress(GOOD), b"Content-Encoding: gzip\r\n"), id="gzip"),
        pytest.param(http(zlib.compress(GOOD), b"Content-Encoding: deflate\r\n"), id="deflate"),
        pytest.param(http(b"\xef\xbb\xbf" + GOOD), id="a mark of the order of bytes"),
        pytest.param(http(GOOD, status=b"201 Created"), id="201"),
    ],
)
def test_good_answers_in_odd_wrapping(answer: bytes, table: Path, profile: Profile) -> None:
    with answering(answer) as port:
        subject = probed(table, profile, {"mlflow": f"http://127.0.0.1:{port}/invocations"})
    assert subject.course.error is None
    assert subject.results[0].changed == 0


def test_a_missing_score_among_others_is_a_changed_output(table: Path, profile: Profile) -> None:
    with answering(http(b'{"predictions": [0.1, NaN, 0.8, 0.2]}')) as port:
        subject = probed(table, profile, {"mlflow": f"http://127.0.0.1:{port}/invocations"})
    assert subject.results[0].changed == 1 / ROWS


REDIRECT = http(b"", b"Location: https://login.example.org/\r\n", b"302 Found")


@pytest.mark.parametrize(
    ("answer", "fault", "says"),
    [
        pytest.param(REDIRECT, "http_status", "redirects to https://login.example.org/", id="a redirect"),
        pytest.param(b"HTTP/1.1 204 No Content\r\n\r\n", "answer", "empty", id="204"),
        pytest.param(http(b"<html>log in</html>"), "answer", "not JSON", id="a page"),
        pytest.param(b"SSH-2.0-OpenSSH\r\n", "connection", "SSH", id="no HTTP"),
        pytest.param(b"", "connection", "closed", id="nothing"),
        pytest.param(http(GOOD).replace(b": 37", b": 99"), "connection", "IncompleteRead", id="cut short"),
        pytest.param(chunked(GOOD)[:-40], "connection", "IncompleteRead", id="chunks cut short"),
        pytest.param(http(GOOD[:-1]), "answer", "not JSON", id="JSON cut short"),
        pytest.param(http(GOOD, b"Content-Encoding: br\r\n"), "answer", "encoded as 'br'", id="an encoding"),
        pytest.param(http(GOOD, b"Content-Encoding: gzip\r\n"), "answer", "no gzip", id="no gzip"),
        pytest.param(
            http(gzip.compress(GOOD)[:-9], b"Content-Encoding: gzip\r\n"), "answer", "cut short", id="gzip cut short"
        ),
        pytest.param(
            http(gzip.compress(bytes(1 << 24)), b"Content-Encoding: gzip\r\n"), "answer", "more than", id="a gzip bomb"
        ),
        pytest.param(http(b"[" * 100_000), "answer", "not JSON", id="a nest"),
        pytest.param(http(b'{"predictions": [0.1, 0.9, 0.8]}'), "answer", "3 values for 4 rows", id="one fewer"),
        pytest.param(http(b'{"predictions": [NaN, NaN, null, NaN]}'), "answer", "no output has", id="nothing said"),
        pytest.param(http(b'{"predictions": [0.1, 1.7, 0.8, 0.2]}'), "answer", "no probabilities", id="log-odds"),
        pytest.param(http(b'{"predictions": [0.1, Infinity, 0.8, 0.2]}'), "answer", "inf is no number", id="infinity"),
        pytest.param(http(b'{"predictions": [0.1, {"a": 1}, 0.8, 0.2]}'), "answer", "does not fit", id="an object"),
    ],
)  # fmt: skip
def test_odd_answers_are_failures_of_their_kind(
    answer: bytes, fault: str, says: str, table: Path, profile: Profile
) -> None:
    with answering(answer) as port:
        subject = probed(table, profile, {"mlflow": f"http://127.0.0.1:{port}/invocations"})
    assert subject.course.error is not None
    assert says in subject.course.error
    assert {name for name, count in subject.course.failures.items() if count} == {fault}
    assert subject.results == ()


def test_an_output_that_is_named_must_be_there(table: Path, profile: Profile) -> None:
    with answering(http(b'{"predictions": [{"a": 1}, {"a": 0}, {"a": 1}, {"a": 0}]}')) as port:
        url = f"http://127.0.0.1:{port}/invocations"
        subject = probed(table, profile, {"mlflow": url}, outputs={"a": "prediction", "p": "score"})
    assert "lacks the output p; it has a" in (subject.course.error or "")


@pytest.mark.parametrize(
    "head",
    [
        pytest.param([b"HTTP/1.1 200 OK\r\n", *[b"X-A: b\r\n"] * 50], id="headers"),
        pytest.param([b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", *[b" "] * 50], id="body"),
        pytest.param([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", *[b"0"] * 50], id="chunks"),
        pytest.param([b"HTTP/1.1 100 Continue\r\n\r\n"] * 50, id="100 again and again"),
    ],
)
def test_drops_keep_nobody_waiting(head: list[bytes]) -> None:
    with answering(*head, pause=0.03) as port:
        began = time.monotonic()
        with pytest.raises(CallError) as caught:
            call("POST", f"http://127.0.0.1:{port}/", AccessSettings(), body=b"{}", timeout=0.2)
        assert time.monotonic() - began < 0.5
    assert caught.value.fault == "timeout"


def test_a_reset_connection() -> None:
    with (
        answering(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", reset=True) as port,
        pytest.raises(CallError) as caught,
    ):
        call("POST", f"http://127.0.0.1:{port}/", AccessSettings(), body=b"{}")
    assert caught.value.fault == "connection"


def test_a_certificate_of_nobody_who_is_trusted(tmp_path: Path) -> None:
    ours, theirs = Authority(tmp_path, "ours"), Authority(tmp_path, "theirs")
    shown = theirs.server()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(shown.certificate, shown.key)
    with answering(http(b"{}"), tls=tls) as port:
        url = f"https://127.0.0.1:{port}/"
        assert call("GET", url, AccessSettings(ca_file=theirs.certificate)).body == b"{}"
        with pytest.raises(CallError, match="CERTIFICATE_VERIFY_FAILED") as caught:
            call("GET", url, AccessSettings(ca_file=ours.certificate))
    assert caught.value.fault == "connection"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "one line"),
        (b"geheim\nX-Evil: 1", "one line"),
        ("schlüssel".encode(), "one line"),
        (b"\xff", "not a text"),
    ],
)
def test_credentials_of_no_use_are_told_and_not_shown(content: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(content)
    for access in ({"token_file": "secret"}, {"header_files": {"X-Api-Key": "secret"}}):
        settings = AccessSettings.model_validate(access, context={"directory": tmp_path})
        with pytest.raises(CallError, match=says) as caught:
            call("GET", "http://127.0.0.1:1/", settings)
        assert caught.value.fault == "credentials"
        assert "geheim" not in str(caught.value)


def test_a_header_from_a_file_is_sent(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("geheim\n")
    settings = AccessSettings.model_validate({"header_files": {"X-Api-Key": "key"}}, context={"directory": tmp_path})
    with socket.create_server(("127.0.0.1", 0)) as server:
        asked: list[bytes] = []

        def serve() -> None:
            with server.accept()[0] as peer:
                asked.append(peer.recv(65536))
                peer.sendall(http(b"{}"))

        thread = threading.Thread(target=serve)
        thread.start()
        call("GET", f"http://127.0.0.1:{server.getsockname()[1]}/", settings)
        thread.join()
    assert b"X-Api-Key: geheim\r\n" in asked[0]


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["name", "data", "a"]), inner, max_size=3)
    ),
    max_leaves=12,
)
_TENSOR = st.fixed_dictionaries(
    {"name": _JSON, "shape": st.lists(st.integers(-2, 5) | _JSON, max_size=3), "data": _JSON}
)


@settings(max_examples=60, deadline=None)
@given(
    answer=_JSON | st.fixed_dictionaries({"predictions": _JSON}) | st.fixed_dictionaries({"outputs": st.lists(_TENSOR)})
)
def test_no_answer_breaks_the_reading(answer: object, profile: Profile) -> None:
    for kind in ("kserve_v2", "kserve_v1"):
        endpoint = EndpointSettings.model_validate({kind: "http://models/"})
        with suppress(ProtocolError):
            said(reply(endpoint, json.dumps(answer).encode(), {}, ROWS).outputs, {}, profile)
