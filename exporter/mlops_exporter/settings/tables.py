"""What may be written of tables as sources: where they are, and what their columns mean."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from mlops_exporter.profile.values import canonical
from mlops_exporter.settings.document import Settings as _Settings
from mlops_exporter.settings.durations import Duration

Captured = Literal["azureml", "sagemaker", "kserve", "databricks"]

Column = Annotated[str, Field(min_length=1)]


class ColumnSettings(_Settings):
    """Which columns of a table are what of an event: one form for files and for SQL."""

    id: Annotated[Column | None, Field(description="Joins a prediction with its label.")] = None
    ts: Annotated[Column | None, Field(description="When it happened; absent means when the row was read.")] = None
    version: Annotated[Column | None, Field(description="Version of the model.")] = None
    prediction: Annotated[Column | None, Field(description="Predicted class or number.")] = None
    score: Annotated[Column | None, Field(description="Probability of the positive class.")] = None
    scores: Annotated[dict[str, Column], Field(description="Column of each class's probability.")] = {}
    label: Annotated[Column | None, Field(description="True class or number.")] = None
    horizon: Annotated[Column | None, Field(description="How far ahead a forecast looks.")] = None
    naive: Annotated[Column | None, Field(description="What the naive forecast says.")] = None
    series: Annotated[Column | None, Field(description="What is forecast; with `target_ts` in place of an id.")] = None
    target_ts: Annotated[Column | None, Field(description="The time that is forecast.")] = None
    quantiles: Annotated[dict[str, Column], Field(description="Column of each quantile, by its level.")] = {}
    categories: Annotated[Column | None, Field(description="Categories of the items of a ranked list.")] = None
    latency_seconds: Annotated[Column | None, Field(description="How long the prediction took.")] = None
    error: Annotated[Column | None, Field(description="Why it failed; null where it did not.")] = None
    groups: Annotated[dict[str, Column], Field(description="Column of each sensitive attribute.")] = {}
    outcomes: Annotated[dict[str, Column], Field(description="Column of each number by which answers are rated.")] = {}
    features: Annotated[
        dict[str, Column] | None,
        Field(description="Column of each feature; by default those named like the profile's. `{}` is none."),
    ] = None

    @field_validator("quantiles", mode="before")
    @classmethod
    def _levels_are_texts(cls, value: object) -> object:
        return {canonical(level): column for level, column in value.items()} if isinstance(value, dict) else value

    @field_validator("groups", "outcomes", "features", mode="before")
    @classmethod
    def _may_be_names(cls, value: object) -> object:
        return {name: name for name in value} if isinstance(value, list) else value

    @property
    def named(self) -> set[str]:
        """All columns that are named."""
        single = (
            self.id,
            self.ts,
            self.version,
            self.prediction,
            self.score,
            self.label,
            self.horizon,
            self.naive,
            self.series,
            self.target_ts,
            self.categories,
            self.latency_seconds,
            self.error,
        )
        nested = (self.scores, self.groups, self.outcomes, self.quantiles, self.features or {})
        several = [name for columns in nested for name in columns.values()]
        return {name for name in (*single, *several) if name is not None}


class _Rows(_Settings):
    """What tables and queries have in common."""

    model: Annotated[str, Field(min_length=1, description="Model whose events the rows are.")]
    columns: Annotated[ColumnSettings, Field(description="Which columns are what.")]
    timezone: Annotated[str, Field(description="Of times that name none.")] = "UTC"
    interval: Annotated[Duration, Field(ge=1, description="How often it is looked for something new.")] = 60.0

    @field_validator("timezone")
    @classmethod
    def _timezone_is_known(cls, name: str) -> str:
        from zoneinfo import ZoneInfo

        try:
            ZoneInfo(name)
        except (KeyError, ValueError, OSError):
            raise ValueError(f"{name!r} is no time zone: write one like UTC or Europe/Berlin") from None
        return name


def _beside(path: str, info: ValidationInfo) -> str:
    return path if "://" in path else str(Path((info.context or {}).get("directory", "")) / path)


TablePath = Annotated[str, Field(min_length=1), AfterValidator(_beside)]
"""A file, a glob, a directory or an object store's url; a relative path is beside the configuration."""


class TableSettings(_Rows):
    """Files of rows, each read once: a batch job's output, or its labels. A file is whole when it is there."""

    path: Annotated[
        TablePath,
        Field(description="File, glob or directory: Parquet, CSV, NDJSON, Arrow; s3://, gs://, abfs://."),
    ]
    captured: Annotated[
        Captured | None,
        Field(
            description="Whose log of requests and answers it is; its columns are `id`, `ts`, `version`, the inputs, "
            "and `output` or `output.NAME`."
        ),
    ] = None
    inputs: Annotated[
        list[Column] | None,
        Field(description="Names of inputs that were logged without; by default those of the profile's features."),
    ] = None
    settle: Annotated[Duration, Field(ge=0, description="How long a local file must have been left alone.")] = 10.0
    rewritten: Annotated[
        Literal["tell", "again"],
        Field(
            description="What becomes of a file that changed after it was read: it is told, or read again, "
            "where ids see to it that what was counted counts once."
        ),
    ] = "tell"

    @model_validator(mode="after")
    def _captured_columns_are_known(self) -> "TableSettings":
        if self.captured is not None:
            common = {"id": "id", "ts": "ts"}
            given = self.columns.model_dump(exclude_unset=True)
            return self.model_copy(update={"columns": ColumnSettings.model_validate({**common, **given})})
        return self


class DatabaseSettings(_Settings):
    """A database that is only read."""

    url: Annotated[str | None, Field(description="`postgresql://…` or `sqlite:///PATH`.")] = None
    url_file: Annotated[Path | None, Field(description="File with the url, where it holds a password.")] = None
    timeout: Annotated[Duration, Field(ge=1, description="Time that a query may take.")] = 60.0

    @field_validator("url_file")
    @classmethod
    def _file_is_relative(cls, path: Path | None, info: ValidationInfo) -> Path | None:
        return None if path is None else Path((info.context or {}).get("directory", "")) / path

    @model_validator(mode="after")
    def _has_one_url(self) -> "DatabaseSettings":
        if (self.url is None) == (self.url_file is None):
            raise ValueError("give url or url_file, one of the two")
        if self.url is not None and not self.url.startswith(("postgresql://", "sqlite:///")):
            raise ValueError("url: write postgresql://HOST/DATABASE or sqlite:///PATH")
        return self


class QuerySettings(DatabaseSettings):
    """The rows of a query, all of them."""

    query: Annotated[str, Field(min_length=1, description="A SELECT.")]


class SqlSettings(_Rows, DatabaseSettings):
    """Rows of a query beyond a watermark of its column `cursor`; read-only."""

    query: Annotated[str, Field(min_length=1, description="A SELECT without ORDER BY.")]
    cursor: Annotated[
        str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="Column that only grows: a time or a number.")
    ]
    overlap: Annotated[
        Duration, Field(description="How far behind the watermark is read again, for rows committed late.")
    ] = 300.0
