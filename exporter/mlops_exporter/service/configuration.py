"""Reads a configuration and holds it against the world: profiles, tokens, installed extras, every fault at its line."""

from collections.abc import Hashable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from socket import gethostname
from typing import Any, Literal, NamedTuple

from pydantic import ValidationError

from mlops_exporter.events.attributes import Attributes
from mlops_exporter.ingest.members import here
from mlops_exporter.judging.fairness import BETTER as FAIRER
from mlops_exporter.judging.performance import BETTER, COST, METRICS, RANGES, lacking
from mlops_exporter.lifecycle.mirror import Mirror
from mlops_exporter.profile.bins import CategoricalVariable
from mlops_exporter.profile.profile import Profile, ProfileError, load
from mlops_exporter.profile.profiles import Profiles, unprofiled
from mlops_exporter.profile.sets import MAX_CLASSES
from mlops_exporter.service.models_dir import gather
from mlops_exporter.service.references import Found, provider_of
from mlops_exporter.service.registry import mirror_of
from mlops_exporter.settings.config import Config
from mlops_exporter.settings.document import ConfigError, Document, Location, near_or_all
from mlops_exporter.settings.models import Benchmark, FairnessBenchmark, FairnessSettings, Limits, ModelSettings
from mlops_exporter.settings.registry import MlflowSettings, registered_model
from mlops_exporter.settings.sources import KafkaSettings
from mlops_exporter.statistics import ranking
from mlops_exporter.web.tokens import read_token


def read(path: Path) -> tuple[Config, dict[str, Profiles]]:
    """Read and validate a configuration and the profiles that it names; raises ConfigError with all faults.

    A file of `models_dir` that is broken is left out, and one of a directory of profiles: `Config.broken` names it and
    its faults.
    """
    document = Document.read(path, example="the key models")
    gathered = gather(document, _checked)
    if gathered.entries:
        own = document.content.get("models") or []
        document.content["models"] = [*own, *gathered.entries] if isinstance(own, list) else own
    config, profiles = _checked(document)
    return config.without(gathered.broken | config.broken), profiles


def _checked(document: Document) -> tuple[Config, dict[str, Profiles]]:
    """Hold a configuration against the world; raises ConfigError with all faults."""
    faults = document.duplicate_keys()
    found = _profiles(document, faults)
    profiles = {name: each for name, (each, _) in found.items()}
    broken: dict[str, list[str]] = {}
    for _, origin in found.values():
        broken |= origin.broken
    try:
        config = Config.model_validate(document.content, context={"directory": document.path.parent})
    except ValidationError as error:
        raise ConfigError(faults + document.describe(error, Config)) from None
    faults += [document.fault(location, fault) for location, fault in _unusable(config)]
    for index, model in enumerate(config.models):
        if model.name in profiles:
            faults += [
                document.fault(("models", index, "costs", "matrix"), fault)
                for fault in _unpriced(model, profiles[model.name])
            ]
            faults += [
                document.fault(("models", index, "profiles"), fault) for fault in _many_classes(profiles[model.name])
            ]
            unfit, left = _fitting(model, *found[model.name], config.limits)
            faults += [document.fault(("models", index, key), fault) for key, fault in unfit]
            profiles[model.name] = left.profiles
            broken |= left.broken
    faults += [document.fault(location, fault) for location, fault in _kserve_mismatches(config, profiles)]
    if faults:
        raise ConfigError(faults)
    return config.without(broken), profiles


def _many_classes(profiles: Profiles) -> Iterator[str]:
    """Yield what is wrong where the versions' sets of classes are too many to be kept together."""
    known = {name for profile in profiles for name in profile.classes}
    if profiles.newest.task == "multilabel" and len(known) > MAX_CLASSES:
        yield f"have {len(known)} classes together, and those of a multilabel model can be {MAX_CLASSES} at most"


def _unpriced(model: ModelSettings, profiles: Profiles) -> Iterator[str]:
    """Yield what is wrong with a price: a class that no version knows."""
    known = {name for profile in profiles for name in profile.classes}
    for name in sorted(model.costs.classes - known) if model.costs else ():
        yield f"{name!r} is a class of no profile; {near_or_all(name, known)}"


class _Left(NamedTuple):
    profiles: Profiles
    broken: dict[str, list[str]]


def _fitting(
    model: ModelSettings, profiles: Profiles, found: Found, limits: Limits
) -> tuple[list[tuple[str, str]], _Left]:
    """Return key and fault where a model's settings do not fit its profiles, and what is left of those.

    As long as one of a directory fits, it is the files that do not fit which are left out.
    """
    unfit = {version: list(_mismatches(model, profiles.by_version[version], limits)) for version in found.files}
    unfit = {version: faults for version, faults in unfit.items() if faults}
    if not unfit or len(unfit) == len(found.files):
        return [fault for profile in profiles for fault in _mismatches(model, profile, limits)], _Left(profiles, {})
    fit = {version: profile for version, profile in profiles.by_version.items() if version not in unfit}
    broken = {
        found.files[version]: [
            f"{found.files[version]}: does not fit {key} of model {model.name}: {fault}" for key, fault in faults
        ]
        for version, faults in unfit.items()
    }
    return [], _Left(Profiles(profiles.shared, fit), broken)


def _unusable(config: Config) -> Iterator[tuple[Location, str]]:
    """Yield place and fault of what may be written, but cannot be used here: metrics, tokens, extras, the broker's."""
    for index, model in enumerate(config.models):
        for metric, benchmark in model.benchmarks.items():
            place: Location = ("models", index, "benchmarks", metric)
            if metric == COST:
                if model.costs is None:
                    yield place, "nothing has a price: give the model costs"
                elif benchmark.max_increase is not None:
                    yield (*place, "max_increase"), "no profile knows what its errors cost; agree on a max"
            elif metric not in METRICS[model.task]:
                yield place, f"not a metric of a {model.task} model; {near_or_all(metric, METRICS[model.task])}"
            elif metric in RANGES:
                for key, fault in _impossible(benchmark, *RANGES[metric]):
                    yield (*place, key), fault
            for key, fault in _wrong_way(metric, benchmark, BETTER.get(metric)):
                yield (*place, key), fault
        for measure, agreed in (model.fairness.benchmarks if model.fairness else {}).items():
            for key, fault in _wrong_way(measure, agreed, FAIRER.get(measure)):
                yield ("models", index, "fairness", "benchmarks", measure, key), fault
        if model.task in ("multilabel", "forecast", "ranking") and any(
            probe.model == model.name for probe in config.probes
        ):
            yield (
                ("models", index, "task"),
                f"probes ask for one class or number a row: not for {model.task} models",
            )
    for index, source in enumerate(config.sources):
        for number, token in enumerate(source.http.tokens if source.http else ()):
            try:
                read_token(token.file)
            except ConfigError as error:
                yield ("sources", index, "http", "tokens", number, "file"), str(error)
        if source.http and source.http.members and here(source.http.members) is None:
            fault = f"this machine, {gethostname()}, is none of these hosts, or several: say with `this` which it is"
            yield ("sources", index, "http", "members", "urls"), fault
        if source.http and source.http.members and source.http.tokens and not source.http.members.has_credentials:
            yield ("sources", index, "http", "members"), "with tokens, members need one for each other: give token_file"
        if source.redis and not find_spec("redis"):
            yield ("sources", index, "redis"), _NEEDS.format("redis", "redis")
        if source.table and not find_spec("pyarrow"):
            yield ("sources", index, "table"), _NEEDS.format("pyarrow", "tables")
        if source.sql and not (find_spec("pyarrow") and find_spec("adbc_driver_manager")):
            yield ("sources", index, "sql"), _NEEDS.format("adbc_driver_manager", "sql")
        for kind, rows in (("table", source.table), ("sql", source.sql)):
            if rows is not None and rows.model not in {model.name for model in config.models}:
                yield ("sources", index, kind, "model"), f"{rows.model!r} is none of the models"
        for keys, fault in _kafka_faults(source.kafka) if source.kafka else ():
            yield ("sources", index, "kafka", *keys), fault


_NEEDS = "needs the Python package {}: pip install 'mlops-exporter[{}]'"


def _kafka_faults(settings: KafkaSettings) -> Iterator[tuple[tuple[str, ...], str]]:
    if not find_spec("confluent_kafka"):
        yield (), _NEEDS.format("confluent_kafka", "kafka")
        return
    from mlops_exporter.sources.kafka import check_settings

    try:
        check_settings(settings)
    except ValueError as error:
        yield ("settings",), str(error)


def _impossible(benchmark: Benchmark, low: float, high: float) -> Iterator[tuple[str, str]]:
    """Yield which value makes no sense for what lies between `low` and `high`, as a percentage does not."""
    for name, lowest, highest in (
        ("min", low, high),
        ("max", low, high),
        ("max_drop", 0.0, high - low),
        ("max_increase", 0.0, high - low),
    ):
        value = getattr(benchmark, name)
        if value is not None and not lowest <= value <= highest:
            yield name, f"{value:g} must lie between {lowest:g} and {highest:g}"


def _wrong_way(
    metric: str, benchmark: Benchmark | FairnessBenchmark, better: Literal["higher", "lower"] | None
) -> Iterator[tuple[str, str]]:
    """Yield the bound that a good model would miss and a bad one keep, where it stands alone."""
    if better is None:
        return
    low, high = ("min", "max_drop"), ("max", "max_increase")
    right, wrong = (low, high) if better == "higher" else (high, low)
    given = [key for key in wrong if getattr(benchmark, key, None) is not None]
    if given and all(getattr(benchmark, key, None) is None for key in right):
        said = f"a {better} {metric} is better, so that this alone calls a bad model good"
        yield given[0], f"{said}; give {' or '.join(key for key in right if key in type(benchmark).model_fields)}"


def _profiles(document: Document, faults: list[str]) -> dict[str, tuple[Profiles, Found]]:
    """Load the profiles that the models name, whatever else may be wrong with the configuration."""
    profiles: dict[str, tuple[Profiles, Found]] = {}
    nothing = Found({})
    models = document.content.get("models")
    for index, model in enumerate(models if isinstance(models, list) else []):
        if not isinstance(model, dict):
            continue
        file, provider = model.get("profile"), provider_of(model.get("profiles"), document.path.parent)
        key = "profile" if provider is None else "profiles"
        try:
            if (known := _registered(document, model)) is not None:
                profiles[str(model.get("name"))] = known, nothing
            elif provider is not None:
                found = provider.profiles()
                profiles[str(model.get("name"))] = Profiles(by_version=found.profiles), found
            elif model.get("task") == "outcomes" and file is None:
                profiles[str(model.get("name"))] = Profiles(unprofiled("outcomes")), nothing
            elif isinstance(file, str):
                profiles[str(model.get("name"))] = Profiles(load(document.path.parent / file)), nothing
        except (ProfileError, ValueError) as error:
            faults.append(document.fault(("models", index, key), str(error)))
    return profiles


def profile_states(config: Config, directory: Path) -> Hashable:
    """Return what changes when the profiles of some model's versions do."""
    providers = {model.name: provider_of(model.profiles, directory) for model in config.models}
    return tuple((name, provider.state()) for name, provider in providers.items() if provider is not None)


def _registered(document: Document, model: Mapping[str, Any]) -> Profiles | None:
    """Return the profiles of a model that come from the registry, asked if that of the alias is not there yet.

    Each version has its own, any other that of the alias. None where the profile is a file. Raises ValueError where
    they cannot be had; what is wrong with the settings of MLflow is told where they are.
    """
    address = model.get("profiles") or model.get("profile")
    named = registered_model(address)
    if named is None:
        return None
    state, benchmarks = document.content.get("state"), model.get("benchmarks")
    if not isinstance(state, dict) or not isinstance(state.get("path"), str):
        raise ValueError("needs state.path, where profiles are kept for when the registry is away")
    context = {"directory": document.path.parent}
    try:
        settings = MlflowSettings.model_validate(document.content.get("mlflow"), context=context)
    except ValidationError:
        raise ValueError("needs the key mlflow, with the url of its server") from None
    metrics = {
        name: str(benchmark["mlflow"])
        for name, benchmark in (benchmarks.items() if isinstance(benchmarks, dict) else ())
        if isinstance(benchmark, dict) and "mlflow" in benchmark
    }
    place = document.path.parent / state["path"]
    mirror = mirror_of(str(model.get("name")), address, metrics, settings, place)
    _, alias = named
    if not _is_there(mirror, alias):
        mirror.refresh()
        if not _is_there(mirror, alias):
            raise ValueError(
                f"the registry at {settings.url} gave no profile of {address}: the log says why; put it to the run of "
                "that version with profile build --log-to-run, or log_profile"
            )
    by_version = {path.stem: load(path) for path in sorted(mirror.directory.glob("*.json"))}
    return Profiles(load(mirror.file(alias)) if alias else None, by_version)


def _is_there(mirror: Mirror, alias: str) -> bool:
    return mirror.file(alias).exists() if alias else any(mirror.directory.glob("*.json"))


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
    if model.segments is not None:
        try:
            Attributes(model.cut, profile, limits.groups, model.binned)
        except ValueError as error:
            yield "segments", str(error)
    yield from (("profile" if model.profile else "profiles", fault) for fault in _oversize(profile, limits))
    if profile.ranking is not None:
        known = ranking.names(profile.ranking.cutoffs)
        for metric in model.benchmarks.keys() & METRICS["ranking"].keys() - set(known):
            yield "benchmarks", f"{metric}: the profile looks at {', '.join(known)}; build it with other --cutoffs"
    for metric, benchmark in model.benchmarks.items():
        if metric in METRICS[model.task] and (lack := lacking(metric, profile)):
            yield "benchmarks", f"{metric}: can never be judged, as the profile has no {lack}"
            continue
        relative = benchmark.max_drop is not None or benchmark.max_increase is not None
        if relative and metric != COST and metric not in profile.performance:
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
    regression = profile.of_numbers
    for metric in settings.benchmarks:
        if regression != (metric in ("mae_difference", "bias_difference")):
            yield f"benchmarks: {profile.task} has no {metric}"


def _kserve_mismatches(config: Config, profiles: dict[str, Profiles]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Yield place and fault where KServe's mapping names a model or a class that is not there."""
    names = [model.name for model in config.models]
    for index, source in enumerate(config.sources):
        for service, mapping in (source.http.kserve.models if source.http else {}).items():
            place = ("sources", index, "http", "kserve", "models", service)
            model = mapping.model or service.rpartition("/")[2]
            if model not in names:
                yield place, f"{service}: model {model!r} is not among models: {', '.join(names)}"
            elif mapping.classes and sorted(mapping.classes) != sorted(profiles[model].newest.classes):
                yield (
                    (*place, "classes"),
                    f"{service}: classes must be those of the profile, in the order of the model's output: "
                    f"{', '.join(profiles[model].newest.classes) or 'none'}",
                )
