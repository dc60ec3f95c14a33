"""What may be written of the sources of events."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from mlops_exporter.profile.values import canonical
from mlops_exporter.settings.document import Settings as _Settings
from mlops_exporter.settings.durations import Duration


class KServeModel(_Settings):
    """How the payloads of one InferenceService become events; see docs/events.md.

    `version` is the CloudEvents extension that tells the version. `features` name the columns of rows that are lists.
    `outputs` say what the response's outputs are, `classes` the order of the classes in `scores`.
    """

    model: str | None = None
    component: str = "predictor"
    version: str = "endpoint"
    features: list[str] = []
    outputs: dict[str, Literal["prediction", "score", "scores"]] = {}
    classes: list[str] = []

    @field_validator("classes", mode="before")
    @classmethod
    def _classes_are_strings(cls, value: object) -> object:
        return [canonical(name) for name in value] if isinstance(value, list) else value


class KServeSettings(_Settings):
    """CloudEvents of KServe's inference logger. A request and its response wait `wait` for each other."""

    models: dict[str, KServeModel] = {}
    wait: Duration = 60.0
    waiting_events: Annotated[int, Field(ge=1)] = 100_000
    waiting_bytes: Annotated[int, Field(ge=1024)] = 64 * 1024 * 1024
    remembered_events: Annotated[int, Field(ge=0)] = 200_000


def _beside_configuration(path: Path, info: ValidationInfo) -> Path:
    """Return a path that starts at the directory of the configuration file."""
    return Path((info.context or {}).get("directory", "")) / path


RelativePath = Annotated[Path, AfterValidator(_beside_configuration)]


class TokenSettings(_Settings):
    """A file with a bearer token, and the models whose events its bearer may send; none named means all."""

    file: RelativePath
    models: Annotated[list[str], Field(min_length=1)] | None = None


class HttpSource(_Settings):
    """Events posted to /v1/events. With tokens, it takes them from their bearers only."""

    tokens: list[TokenSettings] = []
    kserve: KServeSettings = KServeSettings()


class FileSettings(_Settings):
    """NDJSON files, plain or .gz: all that match the glob `path`."""

    path: RelativePath


class StdinSettings(_Settings):
    """NDJSON on standard input."""


class RedisSettings(_Settings):
    """A Redis stream, read through a consumer group; `field` of an entry holds the event.

    Entries that another consumer has left unacknowledged for `claim_idle` are taken over.
    """

    url: str
    stream: Annotated[str, Field(min_length=1)]
    group: Annotated[str, Field(min_length=1)] = "mlops-exporter"
    consumer: Annotated[str, Field(min_length=1)] | None = None
    field: Annotated[str, Field(min_length=1)] = "event"
    password_file: RelativePath | None = None
    claim_idle: Annotated[Duration, Field(ge=1)] = 60.0

    @model_validator(mode="after")
    def _can_connect(self) -> "RedisSettings":
        # Judged here, not in a validator of the field, so that no message repeats a password.
        if not self.url.startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("url: write redis://HOST:PORT/DB, rediss://… for TLS or unix:///PATH")
        return self


class KafkaSettings(_Settings):
    """Kafka topics, read as a member of a consumer group.

    `settings` are librdkafka's own, TLS and SASL above all; a key with `_file` behind its name takes its value from
    that file.
    """

    bootstrap_servers: Annotated[str, Field(min_length=1)]
    topics: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)]
    group: Annotated[str, Field(min_length=1)] = "mlops-exporter"
    settings: dict[str, str | int | float | bool] = {}

    @field_validator("settings")
    @classmethod
    def _files_are_relative(
        cls, settings: dict[str, str | int | float | bool], info: ValidationInfo
    ) -> dict[str, str | int | float | bool]:
        files = {key: value for key, value in settings.items() if key.endswith("_file")}
        return settings | {key: str(_beside_configuration(Path(str(value)), info)) for key, value in files.items()}


class SourceSettings(_Settings):
    """One source of events: a name and exactly one kind."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$", max_length=64)]
    http: HttpSource | None = None
    file: FileSettings | None = None
    stdin: StdinSettings | None = None
    redis: RedisSettings | None = None
    kafka: KafkaSettings | None = None

    @model_validator(mode="after")
    def _has_one_kind(self) -> "SourceSettings":
        kinds = [kind for kind in SourceSettings.model_fields if kind != "name"]
        given = [kind for kind in kinds if getattr(self, kind) is not None]
        if len(given) != 1:
            raise ValueError(f"a source has one kind of {', '.join(kinds)}, not {' and '.join(given) or 'none'}")
        return self
