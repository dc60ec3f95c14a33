"""MLflow's REST API (2.x and 3.x), as far as the life of a model needs it: versions, aliases, runs, artifacts, tags."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from mlops_exporter.profile.parsing import JsonError, parsed
from mlops_exporter.settings.registry import MlflowSettings
from mlops_exporter.sources.calls import CallError, call

PAGE_SIZE = 200
_PAGES = 50

Answered = TypeVar("Answered")


class RegistryError(Exception):
    """The server does not answer, or not as MLflow does; the message says what."""


class MissingError(RegistryError):
    """What was asked for is not there."""


class Version(msgspec.Struct):
    """A version of a registered model."""

    version: str
    run_id: str = ""
    status: str = "READY"
    creation_timestamp: int = 0


class _Alias(msgspec.Struct):
    alias: str
    version: str


class _Registered(msgspec.Struct):
    name: str
    aliases: list[_Alias] = []


class _RegisteredAnswer(msgspec.Struct):
    registered_model: _Registered


class _VersionsAnswer(msgspec.Struct):
    model_versions: list[Version] = []
    next_page_token: str = ""


class _Metric(msgspec.Struct):
    key: str
    value: Any


class _Info(msgspec.Struct):
    run_id: str
    artifact_uri: str


class _Data(msgspec.Struct):
    metrics: list[_Metric] = []


class _Run(msgspec.Struct):
    info: _Info
    data: _Data = msgspec.field(default_factory=_Data)


class _RunAnswer(msgspec.Struct):
    run: _Run


@dataclass(frozen=True, slots=True)
class Registered:
    """A registered model: its versions, newest first, and the version of each alias."""

    versions: list[Version]
    aliases: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Run:
    """A run: its last metrics, and where its artifacts lie."""

    id: str
    artifact_uri: str
    metrics: dict[str, float]


class Mlflow:
    """A tracking server. Every method blocks for the settings' time-out at most, and raises RegistryError."""

    def __init__(self, settings: MlflowSettings) -> None:
        self._settings = settings
        self._url = settings.url.rstrip("/")

    def registered(self, name: str) -> Registered:
        """Return versions and aliases of a registered model."""
        model = self._get("/api/2.0/mlflow/registered-models/get", _RegisteredAnswer, name=name).registered_model
        quoted = name.replace("'", "''")
        versions: list[Version] = []
        token: dict[str, str] = {}
        for _ in range(_PAGES):
            answer = self._get(
                "/api/2.0/mlflow/model-versions/search",
                _VersionsAnswer,
                filter=f"name='{quoted}'",
                max_results=str(PAGE_SIZE),
                **token,
            )
            versions += answer.model_versions
            if not answer.next_page_token:
                break
            token = {"page_token": answer.next_page_token}
        ready = [version for version in versions if version.status == "READY"]
        ready.sort(key=lambda version: version.creation_timestamp, reverse=True)
        return Registered(ready, {alias.alias: alias.version for alias in model.aliases})

    def run(self, run_id: str) -> Run:
        """Return a run."""
        run = self._get("/api/2.0/mlflow/runs/get", _RunAnswer, run_id=run_id).run
        metrics = {metric.key: float(metric.value) for metric in run.data.metrics if _is_number(metric.value)}
        return Run(run.info.run_id, run.info.artifact_uri, metrics)

    def artifact(self, run_id: str, path: str) -> bytes:
        """Return an artifact of a run."""
        return self._call("GET", "/get-artifact", {"path": path, "run_id": run_id})

    def upload(self, run_id: str, path: str, content: bytes) -> None:
        """Put an artifact to a run, through the server; it must serve artifacts, as it does by default."""
        place = urlsplit(self.run(run_id).artifact_uri)
        if place.scheme != "mlflow-artifacts":
            raise RegistryError(
                f"the artifacts of run {run_id} are at {place.scheme or 'a directory'}, not served by MLflow: call "
                "log_profile in the training script instead"
            )
        root = quote(place.path.strip("/"))
        self._call("PUT", f"/api/2.0/mlflow-artifacts/artifacts/{root}/{quote(path)}", body=content)

    def tag(self, name: str, version: str, key: str, value: str) -> None:
        """Set a tag of a version."""
        content = {"name": name, "version": version, "key": key, "value": value}
        self._call("POST", "/api/2.0/mlflow/model-versions/set-tag", body=msgspec.json.encode(content))

    def _get(self, path: str, type_: type[Answered], **query: str) -> Answered:
        body = self._call("GET", path, query)
        try:
            answered: Answered = parsed(body, type_)
            return answered
        except JsonError as error:
            raise RegistryError(f"{self._url}{path}: not an answer of MLflow: {error}") from None

    def _call(self, method: str, path: str, query: dict[str, str] | None = None, body: bytes | None = None) -> bytes:
        url = f"{self._url}{path}" + (f"?{urlencode(query)}" if query else "")
        headers = {"Content-Type": "application/json"} if method == "POST" else {}
        try:
            return call(method, url, self._settings, body=body, headers=headers, timeout=self._settings.timeout).body
        except CallError as error:
            if error.status == 404:
                raise MissingError(str(error)) from None
            if error.status in (401, 403):
                raise RegistryError(f"{error}: give username and password_file, or token_file") from None
            raise RegistryError(str(error)) from None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def followed(model: Registered, follow: str, keep: int) -> Sequence[Version]:
    """Return the versions to be watched: those with an alias, or the newest."""
    if follow == "versions":
        return model.versions[:keep]
    aimed = set(model.aliases.values())
    return [version for version in model.versions if version.version in aimed]
