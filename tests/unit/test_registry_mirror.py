"""Profiles from MLflow's registry: followed versions, a server that is away, metrics of the run, verdicts as tags."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from mlops_exporter.collectors.registry import RegistryCollector
from mlops_exporter.lifecycle.mirror import Mirror
from mlops_exporter.lifecycle.mlflow import MissingError, Mlflow, RegistryError
from mlops_exporter.profile.profile import Profile, load, save
from mlops_exporter.service.configuration import read
from mlops_exporter.settings.document import ConfigError
from mlops_exporter.settings.registry import MlflowSettings, registered_model
from tests import registry as stand_in
from tests.models import profiles
from tests.registry import Registry
from tests.support.exporter import Exporter, running_exporter
from tests.support.one_model import samples
from tests.support.prometheus import eventually


@pytest.fixture
def server() -> Iterator[Registry]:
    with stand_in.serving() as running:
        yield running


def log(server: Registry, directory: Path, *versions: str, profile: Profile | None = None) -> None:
    file = directory / "logged.json"
    save(profile or profiles()["credit"], file)
    for version in versions:
        server.versions.append(version)
        server.artifacts[f"run-{version}", "mlops-profile.json"] = file.read_bytes()


def mirror(server: Registry, directory: Path, metrics: dict[str, str] | None = None, **settings: Any) -> Mirror:
    configured = MlflowSettings.model_validate({"url": server.url, **settings})
    return Mirror("loans", "credit", configured, directory / "profiles", metrics or {})


def there(directory: Path) -> list[str]:
    return sorted(path.name for path in (directory / "profiles").glob("*.json"))


def test_versions_with_an_alias_are_followed_and_stay(server: Registry, tmp_path: Path) -> None:
    log(server, tmp_path, "1", "2", "3")
    server.aliases = {"champion": "1", "challenger": "3"}
    subject = mirror(server, tmp_path)
    assert subject.refresh()
    assert there(tmp_path) == ["1.json", "3.json"]
    assert load(tmp_path / "profiles" / "3.json").provenance.model_version == "3"
    assert not subject.refresh(), "nothing new"
    server.aliases = {"champion": "2"}
    assert subject.refresh()
    assert load(subject.file("champion")).provenance.model_version == "2"
    assert there(tmp_path) == ["1.json", "2.json", "3.json"], "late labels of the former versions find theirs"


def test_the_newest_versions_are_followed_where_there_are_no_aliases(server: Registry, tmp_path: Path) -> None:
    server.page = 3
    log(server, tmp_path, *(str(number) for number in range(1, 11)))
    subject = mirror(server, tmp_path, follow="versions", keep=4)
    subject.refresh()
    assert there(tmp_path) == ["10.json", "7.json", "8.json", "9.json"]
    log(server, tmp_path, "11")
    subject.refresh()
    assert there(tmp_path) == ["10.json", "11.json", "8.json", "9.json"]


def test_an_alias_is_never_dropped(server: Registry, tmp_path: Path) -> None:
    log(server, tmp_path, "1", "2", "3", "4")
    for champion in ("2", "3", "4"):
        server.aliases = {"old": "1", "champion": champion}
        mirror(server, tmp_path, keep=2).refresh()
    assert there(tmp_path) == ["1.json", "4.json"]


def test_a_server_that_is_away_changes_nothing_but_the_age(server: Registry, tmp_path: Path) -> None:
    log(server, tmp_path, "1")
    server.aliases = {"champion": "1"}
    subject = mirror(server, tmp_path)
    subject.refresh()
    found = samples(RegistryCollector([subject]))
    known = found['ml_registry_last_success_timestamp_seconds{model="loans"}']
    assert found['ml_registry_up{model="loans"}'] == 1
    assert found['ml_registry_version_info{model="loans",version="1",alias="champion"}'] == 1
    server.away = True
    assert not subject.refresh()
    found = samples(RegistryCollector([subject]))
    assert (found['ml_registry_up{model="loans"}'], found['ml_registry_failures_total{model="loans"}']) == (0, 1)
    assert found['ml_registry_last_success_timestamp_seconds{model="loans"}'] == known
    assert there(tmp_path) == ["1.json"]


def test_a_profile_that_comes_after_the_version_is_found(server: Registry, tmp_path: Path) -> None:
    server.versions, server.aliases = ["1"], {"champion": "1"}
    subject = mirror(server, tmp_path)
    assert not subject.refresh()
    assert subject.up
    log(server, tmp_path, "1")
    assert subject.refresh()


@pytest.mark.parametrize("content", [b"", b"{}", b"<html>", b'{"schema": 99}'])
def test_an_artifact_that_is_no_profile_is_not_used(content: bytes, server: Registry, tmp_path: Path) -> None:
    log(server, tmp_path, "1", "2")
    server.artifacts["run-2", "mlops-profile.json"] = content
    server.aliases = {"champion": "1", "challenger": "2"}
    mirror(server, tmp_path).refresh()
    assert there(tmp_path) == ["1.json"]


def test_benchmarks_come_from_the_runs_metrics(server: Registry, tmp_path: Path) -> None:
    profile = profiles()["credit"]
    profile.performance = {"roc_auc": 0.5, "accuracy": 0.7}
    log(server, tmp_path, "1", profile=profile)
    server.aliases, server.metrics = {"champion": "1"}, {"val_auc": 0.91, "loss": 3.0}
    mirror(server, tmp_path, {"roc_auc": "val_auc", "f1": "val_f1"}).refresh()
    assert load(tmp_path / "profiles" / "1.json").performance == {"roc_auc": 0.91, "accuracy": 0.7}


def test_verdicts_are_written_back_once(server: Registry, tmp_path: Path) -> None:
    log(server, tmp_path, "1")
    server.aliases = {"champion": "1"}
    subject = mirror(server, tmp_path)
    subject.refresh()
    for state in ("failing", "failing", "good"):
        subject.write_state({"1": state, "99": "good"})
    assert [(tag["name"], tag["version"], tag["key"], tag["value"].partition("20")[0]) for tag in server.tags] == [
        ("credit", "1", "mlops.state", "failing since "),
        ("credit", "1", "mlops.state", "good since "),
    ]


def test_passwords(server: Registry, tmp_path: Path) -> None:
    server.password = "right"
    log(server, tmp_path, "1")
    server.aliases = {"champion": "1"}
    (tmp_path / "password").write_text("right\n")
    assert not mirror(server, tmp_path).refresh()
    assert mirror(server, tmp_path, username="me", password_file=str(tmp_path / "password")).refresh()


def test_a_profile_is_put_to_a_run(server: Registry) -> None:
    client = Mlflow(MlflowSettings(url=server.url))
    client.upload("run-5", "mlops-profile.json", b"{}")
    assert client.artifact("run-5", "mlops-profile.json") == b"{}"
    with pytest.raises(MissingError):
        client.artifact("run-5", "another.json")


def test_a_run_whose_artifacts_the_server_does_not_serve(server: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    client = Mlflow(MlflowSettings(url=server.url))
    elsewhere = replace(client.run("run-5"), artifact_uri="s3://bucket/1")
    monkeypatch.setattr(Mlflow, "run", lambda self, run_id: elsewhere)
    with pytest.raises(RegistryError, match="are at s3, not served by MLflow: call log_profile"):
        client.upload("run-5", "mlops-profile.json", b"{}")


def test_what_is_not_mlflow_is_told(server: Registry) -> None:
    with pytest.raises(RegistryError, match="answer 404"):
        Mlflow(MlflowSettings(url=f"{server.url}/elsewhere")).registered("credit")
    with pytest.raises(RegistryError):
        Mlflow(MlflowSettings(url="http://127.0.0.1:1")).registered("credit")


@pytest.mark.parametrize(
    ("text", "name"),
    [("mlflow:models:/credit@champion", ("credit", "champion")), ("profiles/credit.json", None), (None, None)],
)
def test_registered_models_are_named(text: object, name: tuple[str, str] | None) -> None:
    assert registered_model(text) == name


@pytest.mark.parametrize(
    "text",
    ["mlflow:credit@a", "mlflow:models:/a/b@c", "mlflow:models:/..@a", "mlflow:models:/a@.."],
)
def test_names_of_no_use(text: str) -> None:
    with pytest.raises(ValueError, match="write mlflow:models:/NAME@ALIAS"):
        registered_model(text)


def configured(directory: Path, server: Registry, **settings: Any) -> dict[str, Any]:
    model = {
        "name": "loans",
        "task": "binary",
        "profile": "mlflow:models:/credit@champion",
        "benchmarks": {"roc_auc": {"mlflow": "val_auc", "max_drop": 0.03}},
    }
    return {
        "models": [model],
        "state": {"path": "state"},
        "mlflow": {"url": server.url, "every": "1s", "write_state": True},
        **settings,
    }


def write(directory: Path, content: dict[str, Any]) -> Path:
    path = directory / "mlops-exporter.yml"
    path.write_text(yaml.safe_dump({key: value for key, value in content.items() if value is not None}))
    return path


def test_a_configuration_whose_profile_is_in_the_registry(server: Registry, tmp_path: Path) -> None:
    log(server, tmp_path, "1")
    server.aliases, server.metrics = {"champion": "1"}, {"val_auc": 0.91}
    path = write(tmp_path, configured(tmp_path, server))
    _, found = read(path)
    assert found["loans"].newest.performance["roc_auc"] == 0.91
    by_version = {**configured(tmp_path, server)["models"][0], "profiles": "mlflow:models:/credit"}
    del by_version["profile"]
    write(tmp_path, configured(tmp_path, server, models=[by_version]))
    assert set(read(path)[1]["loans"].by_version) == {"1"}
    write(tmp_path, configured(tmp_path, server))
    server.away = True
    assert read(path)[1] == found, "the last one stays, over a restart, too"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"state": None}, "needs state.path"),
        ({"mlflow": None}, "needs the key mlflow"),
        ({}, "gave no profile of mlflow:models:/credit@champion"),
    ],
)
def test_configurations_that_the_registry_cannot_serve(
    settings: dict[str, Any], says: str, server: Registry, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=says):
        read(write(tmp_path, configured(tmp_path, server, **settings)))


@pytest.mark.slow
def test_a_moved_alias_is_watched_within_seconds(server: Registry, tmp_path: Path) -> None:
    log(server, tmp_path, "1")
    server.aliases, server.metrics = {"champion": "1"}, {"val_auc": 0.91}
    write(tmp_path, configured(tmp_path, server))
    with running_exporter(tmp_path) as exporter:
        digest = load(next(tmp_path.glob("state/registry/loans/*/1.json"))).digest

        def watched(version: str) -> bool:
            text = f'profile_version="{version}"'
            return any(text in line for line in _lines(exporter, "ml_model_info{"))

        assert watched("1")
        assert any(digest in line for line in _lines(exporter, "ml_model_info{"))
        other = profiles()["credit"]
        other.rows += 1
        log(server, tmp_path, "2", profile=other)
        server.aliases = {"champion": "2"}
        eventually(lambda: watched("2"), 20)
        assert exporter.value("ml_registry_up", model="loans") == 1
        server.away = True
        eventually(lambda: exporter.value("ml_registry_up", model="loans") == 0)
        assert watched("2"), "the last profile goes on"
        assert {tag["key"] for tag in server.tags} == {"mlops.state"}


def _lines(exporter: Exporter, start: str) -> list[str]:
    text = httpx.get(f"{exporter.url}/metrics", trust_env=False).text
    return [line for line in text.splitlines() if line.startswith(start)]
