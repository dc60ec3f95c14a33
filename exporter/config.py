"""The configuration file: read, validated as a whole, every fault with its file, line, key and remedy."""

import importlib.util
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, Field, ValidationError, ValidationInfo, field_validator, model_validator

from exporter.attributes import Attributes
from exporter.budget import DEFAULT_LIMIT
from exporter.compute.settings import ComputeSettings
from exporter.durations import Duration
from exporter.performance import METRICS, RANGES
from exporter.profile.bins import CategoricalVariable
from exporter.profile.profile import Profile, ProfileError, Task, load
from exporter.settings import ConfigError, Document, near_or_all
from exporter.settings import Settings as _Settings
from exporter.statistics.thresholds import SMALLEST_ALPHA
from exporter.values import canonical
from exporter.web.tokens import read_token

MODEL_NAME = r"[A-Za-z0-9][A-Za-z0-9_.:/-]*"

Statistic = Literal["psi", "js", "hellinger", "ks", "wasserstein", "tvd"]
STATISTICS: tuple[Statistic, ...] = get_args(Statistic)


class Benchmark(_Settings):
    """The values that a metric must keep: absolute, or against the profile's own performance."""

    min: float | None = None
    max: float | None = None
    max_drop: Annotated[float, Field(ge=0)] | None = None
    max_increase: Annotated[float, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _says_something(self) -> "Benchmark":
        if not self.model_fields_set:
            raise ValueError("a benchmark needs min, max, max_drop or max_increase")
        if {"min", "max_drop"} <= self.model_fields_set or {"max", "max_increase"} <= self.model_fields_set:
            raise ValueError("give min or max_drop, and max or max_increase, not both of a kind")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min is {self.min:g} and max {self.max:g}: nothing lies between them")
        return self

    def fault_within(self, low: float, high: float) -> str | None:
        """Return which value makes no sense for what lies between `low` and `high`, as a percentage does not."""
        for name, lowest, highest in (
            ("min", low, high),
            ("max", low, high),
            ("max_drop", 0.0, high - low),
            ("max_increase", 0.0, high - low),
        ):
            value = getattr(self, name)
            if value is not None and not lowest <= value <= highest:
                return f"{name}: {value:g} must lie between {lowest:g} and {highest:g}"
        return None


class DriftSettings(_Settings):
    """Which drift statistics are exported and when they count as drift."""

    statistics: list[Statistic] = ["psi", "js", "ks"]
    false_alarm_rate: Annotated[float, Field(ge=SMALLEST_ALPHA, le=0.2)] = 0.01
    min_effect: dict[Statistic, Annotated[float, Field(ge=0)]] = {"psi": 0.1, "js": 0.1, "ks": 0.1}


class AttributeSettings(_Settings):
    """A sensitive attribute: a name, or names joined by `*` for their intersection; `edges` cut a numeric one."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    edges: Annotated[list[float], Field(max_length=50)] = []

    @model_validator(mode="before")
    @classmethod
    def _may_be_a_name(cls, value: object) -> object:
        return {"name": value} if isinstance(value, str) else value

    @field_validator("edges")
    @classmethod
    def _edges_ascend(cls, edges: list[float]) -> list[float]:
        if edges != sorted(set(edges)):
            raise ValueError("edges must ascend")
        return edges


FairnessMetric = Literal[
    "demographic_parity_difference",
    "demographic_parity_ratio",
    "equalized_odds_difference",
    "equal_opportunity_difference",
    "mae_difference",
    "bias_difference",
]


class FairnessBenchmark(_Settings):
    """The values that a measure of fairness must keep."""

    min: float | None = None
    max: float | None = None

    @model_validator(mode="after")
    def _says_something(self) -> "FairnessBenchmark":
        if not self.model_fields_set:
            raise ValueError("a benchmark needs min or max")
        return self


class FairnessSettings(_Settings):
    """Whose treatment is compared. Groups below `min_group_size` are exported by size alone."""

    attributes: Annotated[list[AttributeSettings], Field(min_length=1, max_length=20)]
    favourable: str | None = None
    min_group_size: Annotated[int, Field(ge=2)] = 30
    benchmarks: dict[FairnessMetric, FairnessBenchmark] = {}

    @property
    def edges(self) -> dict[str, list[float]]:
        """Edges by attribute; none for a categorical one."""
        return {attribute.name: attribute.edges for attribute in self.attributes}

    @field_validator("benchmarks")
    @classmethod
    def _benchmarks_are_possible(
        cls, benchmarks: dict[FairnessMetric, FairnessBenchmark]
    ) -> dict[FairnessMetric, FairnessBenchmark]:
        for metric, benchmark in benchmarks.items():
            highest = math.inf if metric in ("mae_difference", "bias_difference") else 1.0
            for value in (benchmark.min, benchmark.max):
                if value is not None and not 0.0 <= value <= highest:
                    raise ValueError(f"{metric}: {value:g} must lie between 0 and {highest:g}")
        return benchmarks

    @field_validator("favourable", mode="before")
    @classmethod
    def _favourable_is_a_class(cls, value: object) -> object:
        return canonical(value) if isinstance(value, str | int | float | bool) else value

    @field_validator("attributes")
    @classmethod
    def _attributes_differ(cls, attributes: list[AttributeSettings]) -> list[AttributeSettings]:
        names = [attribute.name for attribute in attributes]
        if len(set(names)) != len(names):
            raise ValueError("every attribute once")
        if any(attribute.edges and "*" in attribute.name for attribute in attributes):
            raise ValueError("an intersection has no edges of its own; give them to its attributes")
        return attributes


class EstimationSettings(_Settings):
    """Performance estimated before the labels are in."""

    enabled: bool = True


class MultivariateSettings(_Settings):
    """Drift of the joint distribution of the numeric features; the rate of false alarms is the drift's."""

    enabled: bool = True
    min_effect: dict[Literal["mmd", "pca_reconstruction"], Annotated[float, Field(ge=0)]] = {
        "mmd": 0.05,
        "pca_reconstruction": 0.1,
    }


class ChangeSettings(_Settings):
    """Changes of errors and scores as they happen; changes of a mean in [0, 1] up to `tolerance` are let pass."""

    enabled: bool = True
    false_alarm_probability: Annotated[float, Field(gt=0, le=0.2)] = 0.01
    tolerance: Annotated[float, Field(ge=0, le=0.5)] = 0.01


class ChallengeSettings(_Settings):
    """Two versions that predict the same events under the same ids."""

    champion: Annotated[str, Field(min_length=1, max_length=64)]
    challenger: Annotated[str, Field(min_length=1, max_length=64)]

    @field_validator("champion", "challenger", mode="before")
    @classmethod
    def _is_a_version(cls, value: object) -> object:
        return canonical(value) if isinstance(value, str | int | float) else value

    @model_validator(mode="after")
    def _differ(self) -> "ChallengeSettings":
        if self.champion == self.challenger:
            raise ValueError("champion and challenger must be two versions")
        return self


class MinSamples(_Settings):
    """Sample sizes below which no performance and no drift is exported."""

    performance: Annotated[int, Field(ge=1)] = 30
    drift: Annotated[int, Field(ge=10)] = 100


class ModelSettings(_Settings):
    """One watched model."""

    name: Annotated[str, Field(pattern=f"^{MODEL_NAME}$", max_length=128)]
    task: Task
    profile: Path
    windows: Annotated[list[Duration], Field(min_length=1, max_length=8)] = [900.0, 3600.0, 86400.0]
    positive: str | None = None
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.5
    performance_time: Literal["label", "prediction"] = "label"
    label_delay: Duration = 7 * 86400.0
    label_ttl: Duration = 30 * 86400.0
    benchmarks: dict[str, Benchmark] = {}
    drift: DriftSettings = DriftSettings()
    min_samples: MinSamples = MinSamples()
    fairness: FairnessSettings | None = None
    estimation: EstimationSettings = EstimationSettings()
    multivariate: MultivariateSettings = MultivariateSettings()
    change: ChangeSettings = ChangeSettings()
    challenge: ChallengeSettings | None = None

    @field_validator("positive", mode="before")
    @classmethod
    def _positive_is_a_class(cls, value: object) -> object:
        return canonical(value) if isinstance(value, str | int | float | bool) else value

    @field_validator("windows")
    @classmethod
    def _windows_differ(cls, windows: list[float]) -> list[float]:
        if len(set(windows)) != len(windows) or min(windows) < 1:
            raise ValueError("windows must differ from each other and last 1s or longer")
        return sorted(windows)

    @model_validator(mode="after")
    def _label_delay_fits(self) -> "ModelSettings":
        if "label_delay" not in self.model_fields_set and self.label_delay > self.label_ttl:
            return self.model_copy(update={"label_delay": self.label_ttl})
        return self

    @model_validator(mode="after")
    def _fits_its_task(self) -> "ModelSettings":
        for metric, benchmark in self.benchmarks.items():
            if metric not in METRICS[self.task]:
                hint = near_or_all(metric, METRICS[self.task])
                raise ValueError(f"benchmarks.{metric}: not a metric of a {self.task} model; {hint}")
            if metric in RANGES and (fault := benchmark.fault_within(*RANGES[metric])):
                raise ValueError(f"benchmarks.{metric}.{fault}")
        if self.label_delay > self.label_ttl:
            raise ValueError("label_delay: a label is expected before label_ttl, at which its prediction is given up")
        if self.positive is not None and self.task != "binary":
            raise ValueError(f"positive: only a binary model has a positive class, not a {self.task} one")
        return self


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

    @field_validator("file")
    @classmethod
    def _holds_a_token(cls, file: Path) -> Path:
        try:
            read_token(file)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return file


class HttpSource(_Settings):
    """Events posted to /v1/events. With tokens, it takes them from their bearers only."""

    tokens: list[TokenSettings] = []
    kserve: KServeSettings = KServeSettings()


def _require_extra(module: str, extra: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise ValueError(f"needs the Python package {module}: pip install 'mlops-exporter[{extra}]'")


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
        _require_extra("redis", "redis")
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

    @model_validator(mode="after")
    def _settings_are_known(self) -> "KafkaSettings":
        _require_extra("confluent_kafka", "kafka")
        from exporter.sources.kafka import check_settings

        check_settings(self)
        return self


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


class Limits(_Settings):
    """Bounds that keep memory, work and series finite whatever comes in."""

    series: Annotated[int, Field(ge=1000)] = DEFAULT_LIMIT
    pending_predictions: Annotated[int, Field(ge=1)] = 10_000_000
    remembered_labels: Annotated[int, Field(ge=0)] = 1_000_000
    versions: Annotated[int, Field(ge=1, le=1000)] = 16
    features: Annotated[int, Field(ge=1)] = 5000
    categories: Annotated[int, Field(ge=1)] = 1000
    classes: Annotated[int, Field(ge=2)] = 200
    groups: Annotated[int, Field(ge=2)] = 200
    queue_events: Annotated[int, Field(ge=1)] = 100_000
    body_bytes: Annotated[int, Field(ge=1024)] = 16 * 1024 * 1024


class StateSettings(_Settings):
    """Where state is kept, so that nothing acknowledged is lost."""

    path: RelativePath


class Config(_Settings):
    """The whole configuration."""

    state: StateSettings | None = None
    models: Annotated[list[ModelSettings], Field(min_length=1)]
    sources: list[SourceSettings] = [SourceSettings(name="push", http=HttpSource())]
    compute: ComputeSettings = ComputeSettings()
    limits: Limits = Limits()

    @model_validator(mode="after")
    def _names_differ(self) -> "Config":
        for kind, names in (("models", [m.name for m in self.models]), ("sources", [s.name for s in self.sources])):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"{kind}: every name once, but these are there twice: {', '.join(twice)}")
        if sum(source.http is not None for source in self.sources) > 1:
            raise ValueError("sources: one http source at most, since all share /v1/events")
        known = {model.name for model in self.models}
        for token in (token for source in self.sources if source.http for token in source.http.tokens):
            if unknown := sorted(set(token.models or ()) - known):
                raise ValueError(
                    f"tokens: no model is named {', '.join(unknown)}; there are {', '.join(sorted(known))}"
                )
        if sum(source.stdin is not None for source in self.sources) > 1:
            raise ValueError("sources: one stdin source at most, since there is one standard input")
        return self


def read(path: Path) -> tuple[Config, dict[str, Profile]]:
    """Read and validate a configuration and the profiles that it names; raises ConfigError with all faults."""
    document = Document.read(path, example="the key models")
    faults = document.duplicate_keys()
    profiles = _profiles(document, faults)
    try:
        config = Config.model_validate(document.content, context={"directory": path.parent})
    except ValidationError as error:
        raise ConfigError(faults + document.describe(error, Config)) from None
    for index, model in enumerate(config.models):
        if model.name in profiles:
            found = _mismatches(model, profiles[model.name], config.limits)
            faults += [document.fault(("models", index, key), fault) for key, fault in found]
    faults += [document.fault(location, fault) for location, fault in _kserve_mismatches(config, profiles)]
    if faults:
        raise ConfigError(faults)
    return config, profiles


def _profiles(document: Document, faults: list[str]) -> dict[str, Profile]:
    """Load the profiles that the models name, whatever else may be wrong with the configuration."""
    profiles = {}
    models = document.content.get("models")
    for index, model in enumerate(models if isinstance(models, list) else []):
        file = model.get("profile") if isinstance(model, dict) else None
        if not isinstance(file, str):
            continue
        try:
            profiles[str(model.get("name"))] = load(document.path.parent / file)
        except ProfileError as error:
            faults.append(document.fault(("models", index, "profile"), str(error)))
    return profiles


def _mismatches(model: ModelSettings, profile: Profile, limits: Limits) -> Iterator[tuple[str, str]]:
    """Yield key and fault where a model's settings do not fit its profile."""
    if model.task != profile.task:
        yield "task", f"{model.task!r}, but the profile is for {profile.task!r}"
        return
    if model.positive is not None and model.positive != profile.positive:
        yield (
            "positive",
            (
                f"{model.positive!r}, but the profile was built with {profile.positive!r}; "
                f"build it again with --positive {model.positive}"
            ),
        )
    if model.fairness is not None:
        yield from (("fairness", fault) for fault in _unfair(model.fairness, profile, limits))
    yield from (("profile", fault) for fault in _oversize(profile, limits))
    for metric, benchmark in model.benchmarks.items():
        relative = benchmark.max_drop is not None or benchmark.max_increase is not None
        if relative and metric not in profile.performance:
            yield (
                "benchmarks",
                (
                    f"{metric}: max_drop and max_increase need the reference {metric}, which the profile lacks; "
                    "build it with label and prediction (or score), or give min or max"
                ),
            )


def _oversize(profile: Profile, limits: Limits) -> Iterator[str]:
    """Yield where a profile asks for more sums than the limits allow."""
    variables = [*profile.features.items(), *profile.groups.items()]
    categories = {name: len(v.categories) for name, v in variables if isinstance(v, CategoricalVariable)}
    sizes = [("features", "", len(profile.features)), ("classes", "", len(profile.classes))]
    for kind, of, size in sizes + [("categories", f" of {name}", size) for name, size in categories.items()]:
        limit = getattr(limits, kind)
        if size > limit:
            yield f"has {size} {kind}{of}, more than limits.{kind} of {limit}: build it with fewer, or raise the limit"


def _unfair(settings: FairnessSettings, profile: Profile, limits: Limits) -> Iterator[str]:
    """Yield what does not fit between the settings of fairness and a profile."""
    try:
        Attributes(settings.edges, profile, limits.groups)
    except ValueError as error:
        yield f"attributes: {error}"
    if settings.favourable is not None and settings.favourable not in profile.classes:
        yield f"favourable: {settings.favourable!r} is no class; the classes are {', '.join(profile.classes) or 'none'}"
    regression = profile.task == "regression"
    for metric in settings.benchmarks:
        if regression != (metric in ("mae_difference", "bias_difference")):
            yield f"benchmarks: {profile.task} has no {metric}"


def _kserve_mismatches(config: Config, profiles: dict[str, Profile]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Yield place and fault where KServe's mapping names a model or a class that is not there."""
    names = [model.name for model in config.models]
    for index, source in enumerate(config.sources):
        for service, mapping in (source.http.kserve.models if source.http else {}).items():
            place = ("sources", index, "http", "kserve", "models", service)
            model = mapping.model or service.rpartition("/")[2]
            if model not in names:
                yield place, f"{service}: model {model!r} is not among models: {', '.join(names)}"
            elif mapping.classes and sorted(mapping.classes) != sorted(profiles[model].classes):
                yield (
                    (*place, "classes"),
                    f"{service}: classes must be those of the profile, in the order of the model's output: "
                    f"{', '.join(profiles[model].classes) or 'none'}",
                )
