"""What may be written of probes: rows that are sent through the live endpoint of a model."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from mlops_exporter.profile.values import canonical
from mlops_exporter.settings.access import AccessSettings, Url
from mlops_exporter.settings.document import Settings as _Settings
from mlops_exporter.settings.durations import Duration
from mlops_exporter.settings.tables import QuerySettings, TablePath

Role = Literal["prediction", "score", "scores"]
KINDS = ("kserve_v2", "kserve_v1", "mlflow", "azureml", "http")
"""The protocols of an endpoint."""

PLACEHOLDERS = ("$rows", "$records", "$columns", "$index")


class TemplateSettings(_Settings):
    """An endpoint of any other protocol that takes and gives JSON.

    In `request` the texts `$rows` (a list of rows, each a list), `$records` (a list of objects), `$columns` (names)
    and `$index` (0, 1, …) stand for the batch. `response` is the path to the list with one entry for each row, keys
    and positions joined by dots; empty for the whole answer.
    """

    url: Annotated[Url, Field(description="Address of inference.")]
    request: Annotated[
        dict[str, Any],
        Field(description="Body of a request; `$rows`, `$records`, `$columns`, `$index` stand for the batch."),
    ]
    response: Annotated[
        str, Field(description="Path to the list with one entry for each row, as in `result.0.values`.")
    ] = ""

    @field_validator("request")
    @classmethod
    def _sends_rows(cls, request: dict[str, Any]) -> dict[str, Any]:
        if not {"$rows", "$records"} & set(_texts(request)):
            raise ValueError("the batch must stand somewhere: write $rows or $records for it")
        return request


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict | list):
        return [text for part in (value.values() if isinstance(value, dict) else value) for text in _texts(part)]
    return [value] if isinstance(value, str) else []


class EndpointSettings(AccessSettings):
    """Where and how a model is asked: exactly one protocol, with the address of its inference.

    `tensor` names the one input that takes all features (kserve_v2); without it each feature is an input of its own.
    `version_header` is the header of an answer that tells the version, where the protocol has no place for it.
    """

    kserve_v2: Annotated[
        Url | None, Field(description="Open Inference Protocol: `http://HOST/v2/models/NAME/infer`.")
    ] = None
    kserve_v1: Annotated[Url | None, Field(description="KServe V1: `http://HOST/v1/models/NAME:predict`.")] = None
    mlflow: Annotated[Url | None, Field(description="MLflow's scoring server: `http://HOST/invocations`.")] = None
    azureml: Annotated[Url | None, Field(description="Azure ML's online endpoint of an MLflow model.")] = None
    http: Annotated[TemplateSettings | None, Field(description="Anything else that takes and gives JSON.")] = None
    tensor: Annotated[
        Annotated[str, Field(min_length=1)] | None,
        Field(description="Name of the one input that takes all features (kserve_v2); without it each has its own."),
    ] = None
    version_header: Annotated[
        Annotated[str, Field(min_length=1)] | None, Field(description="Header of an answer that tells the version.")
    ] = None

    @property
    def kind(self) -> str:
        """The protocol."""
        return next(kind for kind in KINDS if getattr(self, kind) is not None)

    @property
    def url(self) -> str:
        """The address of inference."""
        where: str | TemplateSettings = getattr(self, self.kind)
        return where if isinstance(where, str) else where.url

    @model_validator(mode="after")
    def _has_one_protocol(self) -> "EndpointSettings":
        given = [kind for kind in KINDS if getattr(self, kind) is not None]
        if len(given) != 1:
            raise ValueError(f"an endpoint has one protocol of {', '.join(KINDS)}, not {' and '.join(given) or 'none'}")
        if self.tensor is not None and self.kserve_v2 is None:
            raise ValueError("tensor: only kserve_v2 has tensors")
        return self


class PinnedSettings(_Settings):
    """Columns of the rows with the outputs that a right model gives, and the version that gave them.

    Other versions are compared with what they said at first themselves. Without `version` every one is held to these.
    """

    prediction: Annotated[str | None, Field(description="Column of the predicted class or number.")] = None
    score: Annotated[str | None, Field(description="Column of the positive class's probability.")] = None
    scores: Annotated[dict[str, str], Field(description="Column of each class's probability.")] = {}
    version: Annotated[
        Annotated[str, Field(min_length=1, max_length=64)] | None,
        Field(description="Version that gave these outputs; without it every version is held to them."),
    ] = None

    @field_validator("version", mode="before", json_schema_input_type=str | int | float | None)
    @classmethod
    def _is_a_version(cls, value: object) -> object:
        return canonical(value) if isinstance(value, str | int | float) else value

    @model_validator(mode="after")
    def _names_a_column(self) -> "PinnedSettings":
        if not (self.prediction or self.score or self.scores):
            raise ValueError("name the column of prediction, score or scores")
        return self


class ProbeSettings(_Settings):
    """Labelled rows that are sent through an endpoint every now and then."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$", max_length=64, description="`probe` of its series.")]
    model: Annotated[str, Field(description="Name of the model, whose task, profile and benchmarks hold.")]
    version: Annotated[
        Annotated[str, Field(min_length=1, max_length=64)] | None,
        Field(description="Version behind the endpoint, where its answers do not tell."),
    ] = None
    rows: Annotated[
        Annotated[TablePath, Tag("[path]")] | Annotated[QuerySettings, Tag("[query]")],
        Discriminator(lambda rows: "[query]" if isinstance(rows, dict | QuerySettings) else "[path]"),
        Field(
            description="Labelled rows: file, glob or directory of CSV, NDJSON, Parquet or Arrow, also s3://, gs://, "
            "abfs://; or `url` (`url_file`) and `query` of a database. Read again when they change."
        ),
    ]
    sample: Annotated[
        Annotated[int, Field(ge=1, le=100_000)] | None,
        Field(description="How many rows to choose at random each time; without it all, which must be few."),
    ] = None
    label: Annotated[str, Field(min_length=1, description="Column of the true class or number.")] = "label"
    pinned: Annotated[
        PinnedSettings | None,
        Field(description="What a right model says of the rows; without it what a version said at first holds for it."),
    ] = None
    endpoint: Annotated[EndpointSettings, Field(description="Where and how the model is asked.")]
    outputs: Annotated[
        dict[str, Role], Field(description="Which named output is the `prediction`, the `score` or the `scores`.")
    ] = {}
    every: Annotated[Duration, Field(ge=1, description="How often, within a tenth more or less.")] = 300.0
    timeout: Annotated[Duration, Field(ge=0.1, le=600, description="How long an answer may take.")] = 10.0
    batch: Annotated[int, Field(ge=1, le=10_000, description="Rows of one request.")] = 100
    requests_per_second: Annotated[
        float, Field(gt=0, le=1000, description="Highest pace; there is one request at a time.")
    ] = 5.0
    stop_after: Annotated[
        int, Field(ge=1, description="Failed requests in a row after which the rest waits for the next time.")
    ] = 3
    tolerance: Annotated[
        float, Field(ge=0, description="How far a number may be from the pinned one, as a share of it where beyond 1.")
    ] = 1e-6

    @field_validator("version", mode="before", json_schema_input_type=str | int | float | None)
    @classmethod
    def _is_a_version(cls, value: object) -> object:
        return canonical(value) if isinstance(value, str | int | float) else value

    @property
    def place(self) -> str:
        """What stands for the rows in a message."""
        return self.rows if isinstance(self.rows, str) else "the query"

    @model_validator(mode="after")
    def _pins_what_is_repeated(self) -> "ProbeSettings":
        if self.sample is not None and self.pinned is None and "tolerance" in self.model_fields_set:
            raise ValueError("tolerance: a fresh sample has no outputs to compare with unless `pinned` names them")
        return self
