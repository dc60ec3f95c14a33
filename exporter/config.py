"""The configuration file: read, validated as a whole, every fault with its file, line, key and remedy."""

import difflib
import importlib.util
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from exporter.compute.settings import ComputeSettings
from exporter.durations import Duration
from exporter.performance import METRICS
from exporter.profile.profile import Profile, ProfileError, Task, load
from exporter.values import canonical

MODEL_NAME = r"[A-Za-z0-9][A-Za-z0-9_.:/-]*"

Statistic = Literal["psi", "js", "hellinger", "ks", "wasserstein", "tvd"]
STATISTICS: tuple[Statistic, ...] = get_args(Statistic)


class ConfigError(Exception):
    """A configuration that cannot be used; `faults` has one line for each fault."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


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
        return self


class DriftSettings(_Settings):
    """Which drift statistics are exported and when they count as drift."""

    statistics: list[Statistic] = ["psi", "js", "ks"]
    false_alarm_rate: Annotated[float, Field(ge=1e-4, le=0.2)] = 0.01
    min_effect: dict[Statistic, Annotated[float, Field(ge=0)]] = {"psi": 0.1, "js": 0.1, "ks": 0.1}


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
    def _fits_its_task(self) -> "ModelSettings":
        for metric in self.benchmarks:
            if metric not in METRICS[self.task]:
                hint = _near_or_all(metric, METRICS[self.task])
                raise ValueError(f"benchmarks.{metric}: not a metric of a {self.task} model; {hint}")
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


class HttpSource(_Settings):
    """Events posted to /v1/events."""

    kserve: KServeSettings = KServeSettings()


def _beside_configuration(path: Path, info: ValidationInfo) -> Path:
    """Return a path that starts at the directory of the configuration file."""
    return Path((info.context or {}).get("directory", "")) / path


RelativePath = Annotated[Path, AfterValidator(_beside_configuration)]


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

    pending_predictions: Annotated[int, Field(ge=1)] = 10_000_000
    remembered_labels: Annotated[int, Field(ge=0)] = 1_000_000
    versions: Annotated[int, Field(ge=1, le=1000)] = 16
    queue_events: Annotated[int, Field(ge=1)] = 100_000
    body_bytes: Annotated[int, Field(ge=1024)] = 16 * 1024 * 1024


class StateSettings(_Settings):
    """Where state is kept, so that nothing acknowledged is lost."""

    path: Path


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
        if sum(source.stdin is not None for source in self.sources) > 1:
            raise ValueError("sources: one stdin source at most, since there is one standard input")
        return self


def read(path: Path) -> tuple[Config, dict[str, Profile]]:
    """Read and validate a configuration and the profiles that it names; raises ConfigError with all faults."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{path}: cannot be read: {error}"]) from error
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        content = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError([f"{path}:{line}: not YAML: {error.problem}"]) from error
    except yaml.YAMLError as error:
        raise ConfigError([f"{path}: not YAML: {error}"]) from error
    if node is None or not isinstance(content, dict):
        raise ConfigError([f"{path}:1: must be a mapping with the key models"])
    faults = list(_duplicate_keys(path, node))
    profiles = _profiles(path, node, content, faults)
    try:
        config = Config.model_validate(content, context={"directory": path.parent})
    except ValidationError as error:
        faults += [_describe(path, node, fault) for fault in error.errors()]
        raise ConfigError(faults) from None
    for index, model in enumerate(config.models):
        if model.name in profiles:
            faults += [
                f"{path}:{_line(node, ('models', index, key))}: models[{index}].{key}: {fault}"
                for key, fault in _mismatches(model, profiles[model.name])
            ]
    faults += [f"{path}:{_line(node, location)}: {fault}" for location, fault in _kserve_mismatches(config, profiles)]
    if faults:
        raise ConfigError(faults)
    return config, profiles


def _profiles(path: Path, node: yaml.Node, content: dict[str, Any], faults: list[str]) -> dict[str, Profile]:
    """Load the profiles that the models name, whatever else may be wrong with the configuration."""
    profiles = {}
    models = content.get("models")
    for index, model in enumerate(models if isinstance(models, list) else []):
        file = model.get("profile") if isinstance(model, dict) else None
        if not isinstance(file, str):
            continue
        try:
            profiles[str(model.get("name"))] = load(path.parent / file)
        except ProfileError as error:
            location = ("models", index, "profile")
            faults.append(f"{path}:{_line(node, location)}: models[{index}].profile: {error}")
    return profiles


def _mismatches(model: ModelSettings, profile: Profile) -> Iterator[tuple[str, str]]:
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


def _describe(path: Path, node: yaml.Node, fault: Any) -> str:
    """Turn a pydantic fault into one line that says where, what and what would be right."""
    location = tuple(part for part in fault["loc"] if not isinstance(part, str) or "[" not in part)
    message = fault["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    if fault["type"] == "extra_forbidden":
        message = f"unknown key; {_near_or_all(location[-1], _known_keys(Config, location[:-1]))}"
    elif fault["type"] == "missing":
        message = "missing; it must be given"
    elif fault["type"] in ("model_type", "dict_type"):
        message = f"must be a mapping; known here: {', '.join(sorted(_known_keys(Config, location)))}"
    elif fault["type"] == "list_type":
        message = "must be a list, as in [a, b]"
    elif fault["type"] == "too_short":
        message = "must have at least one entry"
    elif fault["type"] == "value_error" and isinstance(fault["input"], dict):
        head, _, rest = message.partition(": ")
        if _has(node, (*location, *head.split("."))):  # the validator of a mapping names the key that is at fault
            location, message = (*location, *head.split(".")), rest
    secret = fault["type"] == "extra_forbidden"  # a misspelt key may well hold a password
    if not secret and not isinstance(fault["input"], dict | list) and repr(fault["input"]) not in message:
        message = f"{fault['input']!r}: {message}"
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")
    place = f"{path}:{_line(node, location)}"
    return f"{place}: {key}: {message}" if key else f"{place}: {message}"


def _near_or_all(name: object, known: Iterable[str]) -> str:
    """Return the one that was probably meant, else all that there are."""
    close = difflib.get_close_matches(str(name), known, 1)
    return f"did you mean {close[0]}?" if close else f"known here: {', '.join(sorted(known))}"


def _known_keys(model: Any, location: tuple[str | int, ...]) -> set[str]:
    """Return the keys of the settings at `location`."""
    for part in location:
        if isinstance(part, int):
            continue
        field = getattr(model, "model_fields", {}).get(part)
        if field is None:
            continue
        model = next((found for found in _settings_in(field.annotation)), model)
    return set(model.model_fields)


def _settings_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _settings_in(argument)


def _line(node: yaml.Node, location: tuple[str | int, ...]) -> int:
    """Return the line of the deepest part of `location` that the file has."""
    return [node.start_mark.line + 1, *_path(node, location)][-1]


def _has(node: yaml.Node, location: tuple[str | int, ...]) -> bool:
    """Whether the file has `location`."""
    return len(list(_path(node, location))) == len(location)


def _path(node: yaml.Node, location: tuple[str | int, ...]) -> Iterator[int]:
    """Yield the line of each part of `location` until one that the file lacks."""
    for part in location:
        if isinstance(node, yaml.MappingNode):
            found = next(((k, v) for k, v in node.value if k.value == str(part)), None)
            if found is None:
                return
            yield found[0].start_mark.line + 1
            node = found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            yield node.start_mark.line + 1
        else:
            return


def _duplicate_keys(path: Path, node: yaml.Node) -> Iterator[str]:
    """Yield a fault for each key given twice, of which YAML would silently drop one."""
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.value in seen:
                yield f"{path}:{line}: {key.value}: given twice, first in line {seen[key.value]}"
            seen[key.value] = line
            yield from _duplicate_keys(path, value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from _duplicate_keys(path, value)
