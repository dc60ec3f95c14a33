import asyncio
import base64
import time
from pathlib import Path
from typing import Any

import bcrypt
import httpx
import pytest
from pydantic import SecretStr

from mlops_exporter.web.auth import Bucket, BusyError, Guard, Passwords
from mlops_exporter.web.config import HttpSettings, RateLimit, WebConfig

PASSWORD = "öpen:sesame"
USERS = {"alice": SecretStr(bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode())}


async def app(scope: Any, receive: Any, send: Any) -> None:
    headers = [(b"content-type", b"text/plain"), (b"x-content-type-options", b"app")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"secret"})


def get(guard: Guard, path: str = "/", authorization: str | bytes | None = None) -> httpx.Response:
    async def send() -> httpx.Response:
        headers = {} if authorization is None else {b"authorization": authorization}
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=guard), base_url="http://exporter") as client:
            return await client.get(path, headers=headers)  # type: ignore[arg-type]

    return asyncio.run(send())


def basic(user: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


def test_without_users_everybody_may_ask() -> None:
    assert get(Guard(app, WebConfig)).text == "secret"


@pytest.mark.parametrize("path", ["/", "/metrics", "/-/healthy", "/v1/events", "/nowhere"])
def test_all_routes_need_a_password(path: str) -> None:
    guard = Guard(app, lambda: WebConfig(basic_auth_users=USERS))
    refused = get(guard, path)
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"].startswith("Basic realm=")
    assert "secret" not in refused.text
    assert get(guard, path, basic("alice", PASSWORD)).text == "secret"


@pytest.mark.parametrize(
    "authorization",
    [
        basic("alice", "wrong"),
        basic("alice", ""),
        basic("bob", PASSWORD),
        basic("", ""),
        basic("alice", PASSWORD + "\0"),
        basic("alice", "x" * 10_000),
        "Basic",
        "Basic !!!",
        "Basic " + base64.b64encode(b"alice").decode(),
        "Basic é",
        "Bearer " + base64.b64encode(f"alice:{PASSWORD}".encode()).decode(),
        "",
    ],
)
def test_wrong_credentials(authorization: str) -> None:
    guard = Guard(app, lambda: WebConfig(basic_auth_users=USERS))
    for _ in range(2):  # the second time from the cache
        assert get(guard, "/metrics", authorization.encode()).status_code == 401


def test_a_path_with_its_own_guard_is_left_to_it() -> None:
    guard = Guard(app, lambda: WebConfig(basic_auth_users=USERS), {"/v1/events"})
    assert get(guard, "/v1/events").text == "secret"
    assert get(guard, "/v1/events/").status_code == 401


def test_users_change_at_once() -> None:
    config = WebConfig(basic_auth_users=USERS)
    guard = Guard(app, lambda: config)
    assert get(guard, "/", basic("alice", PASSWORD)).status_code == 200
    changed = SecretStr(bcrypt.hashpw(b"other", bcrypt.gensalt(4)).decode())
    config = WebConfig(basic_auth_users={"alice": changed})
    assert get(guard, "/", basic("alice", PASSWORD)).status_code == 401
    assert get(guard, "/", basic("alice", "other")).status_code == 200
    config = WebConfig(basic_auth_users={"carol": changed})
    assert get(guard, "/", basic("alice", "other")).status_code == 401


def test_headers_replace_those_of_the_application() -> None:
    headers = {"X-Content-Type-Options": "nosniff", "X-Frame-Options": "deny"}
    config = WebConfig(http_server_config=HttpSettings(headers=headers), basic_auth_users=USERS)
    guard = Guard(app, lambda: config)
    for response in (get(guard), get(guard, "/", basic("alice", PASSWORD))):
        assert response.headers.get_list("x-content-type-options") == ["nosniff"]
        assert response.headers["x-frame-options"] == "deny"


def test_rate_limit() -> None:
    guard = Guard(app, lambda: WebConfig(rate_limit=RateLimit.model_validate({"interval": "1h", "burst": 2})))
    assert [get(guard).status_code for _ in range(3)] == [200, 200, 429]
    assert 3590 < int(get(guard).headers["retry-after"]) <= 3600


def test_the_bucket_fills_again() -> None:
    bucket = Bucket(RateLimit.model_validate({"interval": "100ms", "burst": 3}))
    assert [bucket.take(1000.0) for _ in range(3)] == [0.0, 0.0, 0.0]
    assert bucket.take(1000.0) == pytest.approx(0.1)
    assert bucket.take(1000.11) == 0.0
    assert bucket.take(1000.11) > 0
    assert [bucket.take(2000.0) > 0 for _ in range(4)] == [False, False, False, True]


def timed(password: str, user: str, users: dict[str, SecretStr]) -> float:
    begin = time.process_time()  # of all threads, and of this process alone, however busy the machine is
    assert not asyncio.run(Passwords().right(user.encode(), password.encode(), users))
    return time.process_time() - begin


@pytest.mark.slow
def test_an_unknown_user_takes_as_long_as_a_known_one() -> None:
    users = {"alice": SecretStr(bcrypt.hashpw(b"x", bcrypt.gensalt(8)).decode())}
    pairs = [(timed("wrong", "alice", users), timed("wrong", "nobody", users)) for _ in range(9)]
    known, unknown = (min(times) for times in zip(*pairs, strict=True))
    assert 0.67 < known / unknown < 1.5


def test_verdicts_are_remembered_and_no_password_with_them() -> None:
    users = {"alice": SecretStr(bcrypt.hashpw(b"open sesame", bcrypt.gensalt(9)).decode())}
    passwords = Passwords()

    async def ask(user: bytes, password: bytes) -> tuple[bool, float]:
        begin = time.process_time()
        return await passwords.right(user, password, users), time.process_time() - begin

    async def asks() -> None:
        for password, verdict in ((b"open sesame", True), (b"wrong", False)):
            first, again = await ask(b"alice", password), await ask(b"alice", password)
            assert (first[0], again[0]) == (verdict, verdict)
            assert again[1] < first[1] / 10
        assert not (await ask(b"aliceopen", b" sesame"))[0]
        assert "sesame" not in repr(vars(passwords))

    asyncio.run(asks())


@pytest.mark.slow
def test_the_cache_is_bounded() -> None:
    passwords = Passwords()

    async def guesses() -> None:
        for number in range(300):
            assert not await passwords.right(b"alice", str(number).encode(), USERS)
        assert await passwords.right(b"alice", PASSWORD.encode(), USERS)

    asyncio.run(guesses())
    assert len(passwords._verdicts) == 256


@pytest.mark.slow
def test_guesses_neither_pile_up_nor_hold_up_who_is_known() -> None:
    users = {"alice": SecretStr(bcrypt.hashpw(b"x", bcrypt.gensalt(8)).decode())}
    passwords = Passwords()

    async def flood() -> tuple[int, float]:
        assert await passwords.right(b"alice", b"x", users)
        guesses = [asyncio.create_task(passwords.right(b"alice", b"%d" % n, users)) for n in range(50)]
        await asyncio.sleep(0)
        begin = time.perf_counter()
        assert await passwords.right(b"alice", b"x", users)
        waited = time.perf_counter() - begin
        outcomes = await asyncio.gather(*guesses, return_exceptions=True)
        share = waited / (time.perf_counter() - begin)
        assert not any(outcome is True for outcome in outcomes)
        return sum(isinstance(outcome, BusyError) for outcome in outcomes), share

    turned_away, share = asyncio.run(flood())
    assert turned_away == 50 - 32
    assert share < 0.25  # of the time that the guesses took


def test_a_long_password_counts_as_far_as_bcrypt_reads(tmp_path: Path) -> None:
    users = {"alice": SecretStr(bcrypt.hashpw(b"x" * 72, bcrypt.gensalt(4)).decode())}
    assert asyncio.run(Passwords().right(b"alice", b"x" * 80, users))
    assert not asyncio.run(Passwords().right(b"alice", b"x" * 71, users))
