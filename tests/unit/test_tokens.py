import asyncio
import logging
from pathlib import Path

import httpx
import pytest

from mlops_exporter.counting.model import Model
from mlops_exporter.demo.run import CONFIG
from mlops_exporter.exposition.registry import Registry
from mlops_exporter.ingest.http import HttpSource
from mlops_exporter.ingest.intake import Intake
from mlops_exporter.ingest.journal import Faults, Journal
from mlops_exporter.ingest.store import Store
from mlops_exporter.service import configuration
from mlops_exporter.settings.document import ConfigError
from mlops_exporter.settings.models import Limits
from mlops_exporter.settings.sources import KServeSettings, TokenSettings
from mlops_exporter.sources.base import Content
from mlops_exporter.sources.kserve import KServe
from mlops_exporter.web.app import App
from mlops_exporter.web.tokens import Tokens, UnauthorizedError
from tests.standin import StandIn

ALL, FLIGHTS, BOTH = "a" * 32, "f" * 32, "b" * 32


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    for name, token in {"all": ALL, "flights": FLIGHTS, "both": BOTH}.items():
        (tmp_path / name).write_text(token + "\n")
    scopes = {"all": None, "flights": ["flights"], "both": ["flights", "mpg"]}
    return Tokens([TokenSettings(file=tmp_path / name, models=models) for name, models in scopes.items()])


def test_scopes(tokens: Tokens) -> None:
    assert tokens.scope(f"Bearer {ALL}") is None
    assert tokens.scope(f"bearer {FLIGHTS}") == frozenset({"flights"})
    assert tokens.scope(f"Bearer {BOTH}") == frozenset({"flights", "mpg"})


def test_one_token_in_two_files_opens_what_both_do(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(ALL)
    mpg, flights, every = ([TokenSettings(file=tmp_path / "token", models=m)] for m in (["mpg"], ["flights"], None))
    assert Tokens([*mpg, *flights]).scope(f"Bearer {ALL}") == frozenset({"mpg", "flights"})
    assert Tokens([*mpg, *every]).scope(f"Bearer {ALL}") is None


@pytest.mark.parametrize("header", ["", "Bearer", f"Basic {ALL}", ALL])
def test_no_token(tokens: Tokens, header: str) -> None:
    with pytest.raises(UnauthorizedError) as refusal:
        tokens.scope(header)
    assert refusal.value.challenge.startswith('Bearer realm="mlops-exporter"')


@pytest.mark.parametrize("token", [ALL[:-1], ALL + "a", "c" * 32, "é" * 32, ""])
def test_a_wrong_token(tokens: Tokens, token: str) -> None:
    with pytest.raises(UnauthorizedError, match="not valid here") as refusal:
        tokens.scope(f"Bearer {token}")
    assert 'error="invalid_token"' in refusal.value.challenge


def test_a_token_file_is_read_again(tmp_path: Path, tokens: Tokens, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    (tmp_path / "fresh").write_text("n" * 40)
    (tmp_path / "fresh").replace(tmp_path / "all")
    assert tokens.scope(f"Bearer {'n' * 40}") is None
    with pytest.raises(UnauthorizedError):
        tokens.scope(f"Bearer {ALL}")
    (tmp_path / "all").write_text("short")
    assert tokens.scope(f"Bearer {'n' * 40}") is None  # a file of no use leaves the former token in force
    (tmp_path / "all").unlink()
    assert tokens.scope(f"Bearer {'n' * 40}") is None
    said = [record.getMessage() for record in caplog.records]
    assert [("read again" in line, "not used" in line) for line in said] == [
        (True, False),
        (False, True),
        (False, True),
    ]
    assert not any(token in line for line in said for token in ("n" * 40, ALL, "short"))


@pytest.mark.parametrize("content", ["", "short", "a" * 32 + "\n" + "b" * 32, "é" * 32, "a b" * 20])
def test_a_file_that_is_no_token(tmp_path: Path, content: str) -> None:
    path = tmp_path / "token"
    path.write_text(content)
    with pytest.raises(ConfigError, match="openssl rand -hex 32") as fault:
        Tokens([TokenSettings.model_construct(file=path, models=None)])
    assert not content or content not in str(fault.value)


def test_configuration_names_line_and_remedy(tmp_path: Path) -> None:
    text = CONFIG.read_text().replace("profile: ", f"profile: {CONFIG.parent}/")
    assert "sources:" in text
    path = tmp_path / "mlops-exporter.yml"
    (tmp_path / "good").write_text(ALL)
    (tmp_path / "bad").write_text("secret")
    head = text[: text.index("sources:")]

    def faults(tokens: str) -> str:
        path.write_text(f"{head}sources:\n  - name: push\n    http:\n      tokens:\n        - {tokens}\n")
        try:
            settings, _ = configuration.read(path)
        except ConfigError as error:
            return str(error)
        http = settings.sources[0].http
        assert http is not None
        assert http.tokens[0].file == tmp_path / "good"  # relative to the configuration
        return ""

    line = head.count("\n") + 5
    assert faults("{file: good, models: [flights]}") == ""
    assert f"{path}:{line}: sources[0].http.tokens[0].file: " in faults("{file: bad}")
    assert "secret" not in faults("{file: bad}")
    assert "No such file" in faults("{file: absent}")
    assert "no model is named fligths" in faults("{file: good, models: [fligths]}")


def event(model: str, version: str = "1") -> str:
    return f'{{"model":"{model}","version":"{version}","prediction":1,"features":{{}}}}\n'


def test_events_of_other_models_are_refused_one_by_one(tokens: Tokens) -> None:
    settings, profiles = configuration.read(CONFIG)
    models = [Model(model, profiles[model.name], Limits()) for model in settings.models]
    intake = Intake(models, ["push"], Limits())
    app = App(
        Registry([], lambda: 0),
        HttpSource("push", intake, KServe(KServeSettings(), profiles)),
        StandIn(),
        tokens=tokens,
    )

    async def posts() -> list[httpx.Response]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://exporter") as client:

            async def post(token: str | None, body: str) -> httpx.Response:
                headers = {"content-type": "application/x-ndjson"}
                if token is not None:
                    headers["authorization"] = f"Bearer {token}"
                return await client.post("/v1/events", content=body, headers=headers)

            both = event("mpg", "intruder") + event("flights") + event("mpg")
            return [
                await post(FLIGHTS, both),
                await post(FLIGHTS, event("mpg")),
                await post(ALL, both),
                await post(None, both),
                await post("wrong" * 8, both),
            ]

    mixed, forbidden, allowed, anonymous, wrong = asyncio.run(posts())
    intake.flush()
    assert mixed.status_code == 202
    assert mixed.json()["accepted"] == 1
    assert sorted(fault["line"] for fault in mixed.json()["errors"]) == [1, 3]
    assert {fault["reason"] for fault in mixed.json()["errors"]} == {"forbidden_model"}
    assert forbidden.status_code == 403
    assert (allowed.status_code, allowed.json()["accepted"]) == (202, 3)
    for refused in (anonymous, wrong):
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"].startswith("Bearer ")
    assert intake.sources["push"].rejected["forbidden_model"] == 3
    assert intake.sources["push"].rejected["unauthorized"] == 2
    assert intake.sources["push"].accepted == 4


@pytest.mark.parametrize("allowed", [None, frozenset({"flights"}), frozenset({"flights", "mpg"})])
def test_a_restart_counts_no_more_than_the_token_opened(tmp_path: Path, allowed: frozenset[str] | None) -> None:
    settings, profiles = configuration.read(CONFIG)

    def fresh() -> Intake:
        return Intake([Model(model, profiles[model.name], Limits()) for model in settings.models], ["push"], Limits())

    async def submit(intake: Intake) -> None:
        store = Store(tmp_path)
        journal = Journal(store, intake, Faults())
        intake.keep_in(journal)
        running = asyncio.create_task(journal.run())
        await intake.submit("push", (event("mpg") + event("flights")).encode(), 1.0, models=allowed)
        running.cancel()
        store.close()  # no last checkpoint: it ends as in a crash

    async def replay(intake: Intake, store: Store) -> None:
        for body in store.journal():
            assert body.models == allowed
            intake.replay(body)
        store.close()

    before, after = fresh(), fresh()
    asyncio.run(submit(before))
    asyncio.run(replay(after, Store(tmp_path)))
    assert before.sources == after.sources
    assert before.sources["push"].rejected["forbidden_model"] == (allowed == frozenset({"flights"}))


def test_a_cloud_event_is_held_against_the_token_before_it_waits() -> None:
    _, profiles = configuration.read(CONFIG)
    adapter = KServe(KServeSettings(), profiles)
    attributes = {"id": "a", "type": "org.kubeflow.serving.inference.request", "inferenceservicename": "mpg"}
    content = Content("application/json", attributes | {"specversion": "1.0", "source": "http://localhost/"})
    body = b'{"instances": [{"horsepower": 100}]}'
    assert adapter.translate(adapter.read(content, body, frozenset({"flights"})), 1.0).refused == [
        (1, "forbidden_model")
    ]
    assert adapter.waiting == 0
    assert adapter.translate(adapter.read(content, body, frozenset({"mpg"})), 1.0).refused == []
    assert adapter.waiting == 1
