"""What may be written of the sources of events."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from mlops_exporter.profile.values import canonical
from mlops_exporter.settings.access import AccessSettings, Url
from mlops_exporter.settings.document import Settings as _Settings
from mlops_exporter.settings.durations import Duration
from mlops_exporter.settings.paths import RelativePath, beside_configuration
from mlops_exporter.settings.tables import SqlSettings, TableSettings


class KServeModel(_Settings):
    """How the payloads of one InferenceService become events; see docs/events.md.

    `version` is the CloudEvents extension that tells the version. `features` name the columns of rows that are lists.
    `outputs` say what the response's outputs are, `classes` the order of the classes in `scores`.
    """

    model: Annotated[str | None, Field(description="The model; by default that of the same name.")] = None
    component: Annotated[str, Field(description="The component whose CloudEvents count; others are dropped.")] = (
        "predictor"
    )
    version: Annotated[str, Field(description="The CloudEvents extension that tells the version.")] = "endpoint"
    features: Annotated[list[str], Field(description="Names of the columns where rows are lists.")] = []
    outputs: Annotated[
        dict[str, Literal["prediction", "score", "scores"]],
        Field(description="Which output is the prediction, the score, or the scores."),
    ] = {}
    classes: Annotated[list[str], Field(description="Order of the classes in scores; by default the profile's.")] = []

    @field_validator("classes", mode="before", json_schema_input_type=list[str | int | float | bool])
    @classmethod
    def _classes_are_strings(cls, value: object) -> object:
        return [canonical(name) for name in value] if isinstance(value, list) else value


class KServeSettings(_Settings):
    """CloudEvents of KServe's inference logger. A request and its response wait `wait` for each other."""

    models: Annotated[
        dict[str, KServeModel],
        Field(
            description="How payloads become events, by `inferenceservicename` or `namespace/name`; "
            "what Azure ML's SDK posts is of the service `azureml`."
        ),
    ] = {}
    wait: Annotated[Duration, Field(description="How long a request or response waits for the other.")] = 60.0
    waiting_events: Annotated[
        int, Field(ge=1, description="How many may wait; beyond it the oldest are counted alone.")
    ] = 100_000
    waiting_bytes: Annotated[int, Field(ge=1024, description="Bytes that they may hold; beyond it likewise.")] = (
        64 * 1024 * 1024
    )
    remembered_events: Annotated[
        int, Field(ge=0, description="CloudEvents that are remembered, to know repeated ones.")
    ] = 200_000


class TokenSettings(_Settings):
    """A file with a bearer token, and the models whose events its bearer may send; none named means all."""

    file: Annotated[RelativePath, Field(description="File with the token on one line; read again when it changes.")]
    models: Annotated[
        Annotated[list[str], Field(min_length=1)] | None,
        Field(description="Models whose events its bearer may send; none named means all."),
    ] = None


class MembersSettings(AccessSettings):
    """Exporters behind one load balancer, this one among them: each keeps the ids that fall to it."""

    urls: Annotated[
        list[Url],
        Field(min_length=2, description="Addresses of all of them, each `http[s]://HOST:PORT`, the same in each."),
    ]
    this: Annotated[
        Url | None,
        Field(description="Which of `urls` is this exporter; by default the one whose host is this machine's name."),
    ] = None
    timeout: Annotated[Duration, Field(ge=0.1, description="How long another member's answer may take.")] = 10.0

    @field_validator("urls")
    @classmethod
    def _each_once(cls, urls: list[str]) -> list[str]:
        return _bare(urls, "or it would get twice its share")

    @model_validator(mode="after")
    def _is_one_of_them(self) -> "MembersSettings":
        if self.this is not None and self.this.rstrip("/") not in self.urls:
            raise ValueError(f"this: {self.this} is none of urls")
        return self


class HttpSourceSettings(_Settings):
    """Events posted to /v1/events. With tokens, it takes them from their bearers only."""

    tokens: Annotated[
        list[TokenSettings],
        Field(description="Bearer tokens, one of which a sender must have; none lets everybody send."),
    ] = []
    kserve: Annotated[KServeSettings, Field(description="CloudEvents of KServe's inference logger.")] = KServeSettings()
    members: Annotated[
        MembersSettings | None,
        Field(description="Exporters behind one load balancer, which share the events by id."),
    ] = None


class FileSettings(_Settings):
    """NDJSON files, plain or .gz: all that match the glob `path`."""

    path: Annotated[RelativePath, Field(description="A glob; `**` stands for any depth.")]


class StdinSettings(_Settings):
    """NDJSON on standard input."""


class RedisSettings(_Settings):
    """A Redis stream, read through a consumer group; `field` of an entry holds the event.

    Entries that another consumer has left unacknowledged for `claim_idle` are taken over.
    """

    url: Annotated[
        str, Field(description="`redis://[USER[:PASSWORD]@]HOST:PORT/DB`, `rediss://…` for TLS, `unix:///PATH`.")
    ]
    stream: Annotated[str, Field(min_length=1, description="Key of the stream.")]
    group: Annotated[
        str,
        Field(min_length=1, description="Consumer group; made when it is not there, from the stream's first entry on."),
    ] = "mlops-exporter"
    consumer: Annotated[
        Annotated[str, Field(min_length=1)] | None,
        Field(description="Name within the group, the same after a restart; by default made of host and source."),
    ] = None
    field: Annotated[str, Field(min_length=1, description="Field of an entry that holds the event.")] = "event"
    password_file: Annotated[
        RelativePath | None, Field(description="File with the password, read at every connection.")
    ] = None
    claim_idle: Annotated[
        Duration, Field(ge=1, description="Age at which another consumer's unacknowledged entries are taken over.")
    ] = 60.0

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

    bootstrap_servers: Annotated[str, Field(min_length=1, description="`HOST:PORT`, several with commas.")]
    topics: Annotated[
        list[Annotated[str, Field(min_length=1)]],
        Field(min_length=1, description="Topics; one that begins with `^` is a regular expression."),
    ]
    group: Annotated[str, Field(min_length=1, description="Consumer group.")] = "mlops-exporter"
    refill: Annotated[
        bool,
        Field(
            description="Whether a partition that other members have read is read again from `label_ttl` ago, and not "
            "counted: so its labels find their predictions. Needs `state`."
        ),
    ] = True
    settings: Annotated[
        dict[str, str | int | float | bool],
        Field(description="librdkafka's own settings; a key that ends in `_file` takes its value from that file."),
    ] = {}

    @field_validator("settings")
    @classmethod
    def _files_are_relative(
        cls, settings: dict[str, str | int | float | bool], info: ValidationInfo
    ) -> dict[str, str | int | float | bool]:
        files = {key: value for key, value in settings.items() if key.endswith("_file")}
        return settings | {key: str(beside_configuration(Path(str(value)), info)) for key, value in files.items()}


class ReplicasSettings(AccessSettings):
    """Other exporters of the same models, whose counts are added up as if one exporter had got all their events."""

    urls: Annotated[list[Url], Field(min_length=1, description="Their addresses, each `http[s]://HOST:PORT`.")]
    interval: Annotated[Duration, Field(ge=1, description="How often each is asked for its sums.")] = 15.0
    timeout: Annotated[Duration, Field(ge=0.1, description="How long an answer may take.")] = 10.0

    @field_validator("urls")
    @classmethod
    def _each_once(cls, urls: list[str]) -> list[str]:
        return _bare(urls, "or it would count twice")


def _bare(urls: list[str], otherwise: str) -> list[str]:
    """Return addresses without a slash at their end; none may come twice."""
    bare = [url.rstrip("/") for url in urls]
    if repeated := {url for url in bare if bare.count(url) > 1}:
        raise ValueError(f"{', '.join(sorted(repeated))}: name each exporter once, {otherwise}")
    return bare


class SourceSettings(_Settings):
    """One source of events: a name and exactly one kind."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$", max_length=64, description="`source` of its series.")]
    http: Annotated[HttpSourceSettings | None, Field(description="Events posted to `/v1/events`.")] = None
    file: Annotated[FileSettings | None, Field(description="NDJSON files.")] = None
    stdin: Annotated[StdinSettings | None, Field(description="NDJSON on standard input.")] = None
    redis: Annotated[RedisSettings | None, Field(description="A Redis stream.")] = None
    kafka: Annotated[KafkaSettings | None, Field(description="Kafka topics.")] = None
    table: Annotated[TableSettings | None, Field(description="Files of rows, here or in an object store.")] = None
    sql: Annotated[SqlSettings | None, Field(description="Rows of a database.")] = None
    replicas: Annotated[ReplicasSettings | None, Field(description="Other exporters, to be added up.")] = None

    @model_validator(mode="after")
    def _has_one_kind(self) -> "SourceSettings":
        if len(given := self._given()) != 1:
            kinds = ", ".join(kind for kind in SourceSettings.model_fields if kind != "name")
            raise ValueError(f"a source has one kind of {kinds}, not {' and '.join(given) or 'none'}")
        return self

    @property
    def kind(self) -> str:
        """The key that is given beside the name; a source that pulls is in the module of this name."""
        return self._given()[0]

    def _given(self) -> list[str]:
        return [key for key in SourceSettings.model_fields if key != "name" and getattr(self, key) is not None]
