"""Everything that follows from one configuration: models, sources, collectors and routes.

A reload makes the next assembly beside the one in force, of whatever of that can go on, and puts it in its place.
"""

from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mlops_exporter.collectors.family import Views
from mlops_exporter.collectors.kinds import kinds, made_of
from mlops_exporter.collectors.parts import Parts, Running
from mlops_exporter.compute.sampler import Watch
from mlops_exporter.counting.model import Model
from mlops_exporter.counting.reference import Reference
from mlops_exporter.events import clock
from mlops_exporter.exposition.budget import Budget
from mlops_exporter.exposition.registry import Registry
from mlops_exporter.ingest.http import KSERVE, HttpSource
from mlops_exporter.ingest.intake import Intake
from mlops_exporter.ingest.journal import Faults, Journal
from mlops_exporter.ingest.members import MemberSet, here
from mlops_exporter.judging.drift import Comparisons
from mlops_exporter.judging.status import Observer, Report
from mlops_exporter.lifecycle.mirror import Mirror
from mlops_exporter.probing.prober import Prober
from mlops_exporter.probing.rows import Block
from mlops_exporter.profile.profile import Profile
from mlops_exporter.profile.profiles import Profiles, as_profiles
from mlops_exporter.service.registry import mirrors
from mlops_exporter.settings.config import Config
from mlops_exporter.settings.loading import Loading
from mlops_exporter.settings.models import ModelSettings
from mlops_exporter.settings.sources import HttpSourceSettings, SourceSettings
from mlops_exporter.settings.tables import QuerySettings
from mlops_exporter.sources.base import Source
from mlops_exporter.sources.kserve import KServe
from mlops_exporter.sources.pulling import make
from mlops_exporter.tables.files import needs_pyarrow
from mlops_exporter.web.app import App, Application
from mlops_exporter.web.tokens import Tokens


class ServiceView(Protocol):
    """What of the running exporter an assembly shows."""

    @property
    def faults(self) -> Faults: ...  # noqa: D102
    @property
    def journal(self) -> Journal | None: ...  # noqa: D102
    @property
    def loading(self) -> Loading: ...  # noqa: D102
    @property
    def restoring(self) -> bool: ...  # noqa: D102
    def generation(self) -> Hashable:
        """Return what is the same as long as every sample is."""
        ...

    def status(self) -> Report:
        """Return how everything is."""
        ...

    def ready(self) -> str | None:
        """Return None when events are taken, otherwise the reason why not."""
        ...


@dataclass(frozen=True, slots=True)
class Fixed:
    """What no reload changes. `reload` is what `POST /-/reload` does, None when that is off."""

    service: ServiceView
    telemetry_path: str
    max_requests: int
    collectors_off: frozenset[str]
    reload: Callable[[], Awaitable[None]] | None
    config_file: Path | None


@dataclass(frozen=True, slots=True)
class Assembly:
    """The parts. `intake` is what the running intake is, or is to become; `guarded` are the paths that need a token."""

    config: Config
    models: dict[str, Model]
    intake: Intake
    comparisons: Comparisons
    observers: Views[Observer]
    watch: Watch
    http: HttpSource | None
    pulling: dict[str, Source]
    probers: dict[str, Prober]
    mirrors: dict[str, Mirror]
    registry: Registry
    app: Application
    guarded: frozenset[str]


def assemble(
    fixed: Fixed,
    config: Config,
    profiles: Mapping[str, Profiles | Profile],
    watch: Watch,
    former: Assembly | None = None,
    running: Intake | None = None,
) -> Assembly:
    """Make the parts, of those of the `former` assembly that stay as they are, and for its `running` intake.

    Nothing of the former one changes. Raises ConfigError for a token file that became useless meanwhile.
    """
    adds_up = any(source.replicas is not None for source in config.sources)
    watched = [_of_a_fleet(settings) if adds_up else settings for settings in config.models]
    models = {settings.name: _model(settings, profiles[settings.name], config, former) for settings in watched}
    names = [source.name for source in config.sources]
    kserve = _kserve(config, profiles, former)
    translators = {} if kserve is None else {KSERVE: kserve}
    intake = Intake(models.values(), names, config.limits, None if running is None else running.seed, translators)
    running = running or intake
    members = _members(config, former)
    limit = config.limits.body_events
    http = None if kserve is None else HttpSource(_http_name(config), running, kserve, limit, members)
    pulling = _pulling(config, profiles, former)
    probers = _probers(config, profiles, former)
    comparisons = Comparisons(None if former is None else former.comparisons)
    followed = mirrors(config, {} if former is None else former.mirrors)
    service = fixed.service
    live = Running(
        running,
        pulling,
        http,
        list(probers.values()),
        list(followed.values()),
        service.faults,
        lambda: service.journal,
        lambda: service.loading,
    )
    collectors = [*made_of(Parts(list(models.values()), comparisons, live)), *watch.collectors]
    of_counts = frozenset(kind.name for kind in kinds() if kind.of_counts)
    registry = Registry(
        [collector for collector in collectors if collector.name not in fixed.collectors_off],
        fixed.service.generation,
        now=clock.now,
        budget=Budget(config.limits.series),
        withheld=lambda: of_counts if service.restoring else (),
    )
    settings = _http_settings(config)
    tokens = [] if settings is None else settings.tokens
    app = App(
        registry,
        http,
        fixed.service,
        reload=fixed.reload,
        telemetry_path=fixed.telemetry_path,
        body_limit=config.limits.body_bytes,
        body_duration=config.limits.body_duration,
        tokens=Tokens(tokens) if tokens else None,
        max_requests=fixed.max_requests,
    )
    staying = {reference for model in models.values() for reference in model.references}
    watching = () if former is None else former.observers
    known = {observer.reference: observer for observer in watching if observer.reference in staying}

    def observer(model: Model, reference: Reference) -> Observer | None:
        comparison = comparisons.ready(reference)
        return known.get(reference) or (None if comparison is None else Observer(model, reference, comparison))

    observers = Views(list(models.values()), observer)
    guarded = frozenset({"/v1/events", "/v1/ledgers"} if tokens else ())
    return Assembly(
        config,
        models,
        intake,
        comparisons,
        observers,
        watch,
        http,
        pulling,
        probers,
        followed,
        registry,
        app,
        guarded,
    )


def _of_a_fleet(settings: ModelSettings) -> ModelSettings:
    """Return the settings of a model that is added up, without what needs the order of events, or pairs of them."""
    return settings.model_copy(
        update={"change": settings.change.model_copy(update={"enabled": False}), "challenge": None}
    )


def _model(settings: ModelSettings, profiles: Profiles | Profile, config: Config, former: Assembly | None) -> Model:
    """Return the former model when nothing of it changes, and otherwise a new one, which is empty yet."""
    known = None if former is None else former.models.get(settings.name)
    if (
        known is None
        or former is None
        or former.config.limits != config.limits
        or known.profiles != as_profiles(profiles)
    ):
        return Model(settings, profiles, config.limits)
    same = settings.model_copy(update={key: getattr(known.settings, key) for key in _PROFILES}) == known.settings
    return known if same else Model(settings, profiles, config.limits)


_PROFILES = ("profile", "profiles")
"""Settings that say where profiles lie, which changes nothing as long as the profiles are the same."""


def _http_settings(config: Config) -> HttpSourceSettings | None:
    return next((source.http for source in config.sources if source.http is not None), None)


def _http_name(config: Config) -> str:
    return next(source.name for source in config.sources if source.http is not None)


def _kserve(config: Config, profiles: Mapping[str, Profiles | Profile], former: Assembly | None) -> KServe | None:
    """Return what reads posted CloudEvents, None where nothing is posted; what waits in a former one waits on."""
    settings = _http_settings(config)
    if settings is None:
        return None
    known = None if former is None else former.http
    return KServe(settings.kserve, profiles) if known is None else known.kserve


def _members(config: Config, former: Assembly | None) -> MemberSet | None:
    """Return the set of exporters that share what is posted, the former one where nothing of it changes."""
    settings = _http_settings(config)
    if settings is None or settings.members is None:
        return None
    known = None if former is None or former.http is None else former.http.members
    if known is not None and known.settings == settings.members:
        return known
    this = here(settings.members)
    assert this is not None, "the configuration was checked"
    return MemberSet(settings.members, this)


def renew_kserve(assembly: Assembly) -> None:
    """Let the CloudEvents that wait, wait by the settings of this assembly."""
    settings = _http_settings(assembly.config)
    if assembly.http is not None and settings is not None:
        profiles = {name: model.profiles for name, model in assembly.models.items()}
        assembly.http.kserve.renew(settings.kserve, profiles)


def _pulling(config: Config, profiles: Mapping[str, Profiles | Profile], former: Assembly | None) -> dict[str, Source]:
    """Return the pulling sources, the former ones of which that did not change."""
    unchanged = [] if former is None else former.config.sources
    pulling: dict[str, Source] = {}
    for settings in config.sources:
        known = former.pulling.get(settings.name) if former is not None and settings in unchanged else None
        if former is not None and not _same_features(settings, profiles, former):
            known = None
        source = known or make(settings, profiles)
        if source is not None:
            pulling[settings.name] = source
    return pulling


def _same_features(settings: SourceSettings, profiles: Mapping[str, Profiles | Profile], former: Assembly) -> bool:
    """Tell whether the columns of a table mean what they did: by the profiles of its model."""
    rows = settings.table or settings.sql
    if rows is None:
        return True
    model = former.models.get(rows.model)
    return model is not None and model.profiles == as_profiles(profiles[rows.model])


def _probers(config: Config, profiles: Mapping[str, Profiles | Profile], former: Assembly | None) -> dict[str, Prober]:
    """Return what probes the endpoints, of a former assembly that to which nothing has changed."""
    models = {model.name: model for model in config.models}
    probers: dict[str, Prober] = {}
    for settings in config.probes:
        model, known = models[settings.model], None if former is None else former.probers.get(settings.name)
        if known is not None and known.settings != settings:
            known = None
        now = as_profiles(profiles[settings.model])
        same = known is not None and (known.model, known.profiles) == (model, now)
        probers[settings.name] = (
            known if known is not None and same else Prober(settings, model, now, _labelled_rows, former=known)
        )
    return probers


def _labelled_rows(rows: str | QuerySettings) -> tuple[Iterable[Block], bool]:
    needs_pyarrow()
    from mlops_exporter.tables.lists import lists  # which needs it, and is slow to load

    return lists(rows)
