"""The configuration, the profiles that it names, and the web configuration."""

from collections.abc import Iterator
from pathlib import Path

from mlops_exporter.doctor.findings import Finding, ok, problem, warning
from mlops_exporter.judging.status import Report
from mlops_exporter.profile.profile import Profile
from mlops_exporter.profile.profiles import Profiles
from mlops_exporter.service import configuration as config
from mlops_exporter.settings.config import Config
from mlops_exporter.settings.document import ConfigError
from mlops_exporter.web import config as web_config
from mlops_exporter.web.tls import server_context

AREA = "configuration"
FEW_ROWS = 1000
"""A reference of fewer rows is so uncertain itself that drift thresholds are wide."""


def read(path: Path) -> tuple[Config, dict[str, Profiles]] | list[Finding]:
    """Return the configuration with its profiles, or what is wrong with them."""
    try:
        return config.read(path)
    except ConfigError as error:
        if not path.exists():
            remedy = "name it with --config.file; README.md shows one of eight lines"
            return [problem(AREA, f"{path}: there is no such file", remedy)]
        return [problem(AREA, fault, "correct this line, then run doctor again") for fault in error.faults]


def check(path: Path, settings: Config, profiles: dict[str, Profiles]) -> Iterator[Finding]:
    """Yield what there is to say of a valid configuration."""
    sources = ", ".join(source.name for source in settings.sources)
    yield ok(AREA, f"{path}: models {', '.join(profiles) or 'none'}; sources {sources or 'none'}")
    for name, faults in settings.broken.items():
        remedy = "correct that file and reload: its model or version is left out, and no other is"
        yield from (problem(AREA, f"{name}: {fault}", remedy) for fault in faults)
    if not settings.models:
        yield ok(AREA, "no model is configured: the exporter watches the machine alone")
        return
    if not settings.sources:
        yield problem(
            AREA, "sources is empty, so no event can come in", "remove the key, or add - {name: push, http: {}}"
        )
    if settings.state is None:
        yield warning(
            AREA,
            "no state.path: counts, windows and predictions that wait for labels are gone after a restart",
            "add state: {path: /var/lib/mlops-exporter} unless that is meant",
        )
    for name, several in profiles.items():
        for profile in several:
            yield from _profile(name, profile)


def _profile(name: str, profile: Profile) -> Iterator[Finding]:
    features = len(profile.features) + len(profile.embeddings)
    origin = profile.provenance
    yield ok(
        AREA,
        f"{name}: {profile.task}, {features} features, version {origin.model_version}, {profile.rows} reference rows, "
        f"built {origin.created[:10]} from {origin.data}",
    )
    again = "build the profile again with mlops-exporter profile build"
    if profile.rows < FEW_ROWS:
        yield warning(
            AREA,
            f"{name}: {profile.rows} reference rows make wide drift thresholds, so only strong drift shows",
            f"{again} from at least {FEW_ROWS} rows",
        )
    if not profile.performance:
        yield warning(
            AREA,
            f"{name}: the profile knows no reference performance",
            f"{again}, with --label and --score or --prediction, to compare with the performance at training",
        )


def check_loaded(path: Path, settings: Config, report: Report) -> Iterator[Finding]:
    """Yield how the files differ from what an exporter has loaded."""
    reload = "reload the exporter: SIGHUP, or POST /-/reload with --web.enable-lifecycle"
    configured, watched = {model.name for model in settings.models}, {model.model for model in report.models}
    for name in sorted(configured - watched):
        yield problem(AREA, f"{name}: in {path}, and not loaded by the exporter that runs", reload)
    for name in sorted(watched - configured):
        what = f"{name}: watched by the exporter that runs, and not in {path}"
        yield warning(AREA, what, f"{reload}; or name the file that it runs with")
    if configured != watched or report.configuration is None:
        return
    files = [path, *(settings.models_dir.glob("*.y*ml") if settings.models_dir is not None else ())]
    for file in files:
        if file.stat().st_mtime > report.configuration.loaded:
            yield warning(AREA, f"{file}: written after the exporter loaded its configuration: not loaded", reload)


def check_web(path: Path) -> Iterator[Finding]:
    """Yield what there is to say of a web configuration."""
    try:
        tls = web_config.read(path).tls_server_config
        if tls is not None:
            server_context(tls)
    except ConfigError as error:
        yield from (problem(AREA, fault, "correct this line, then run doctor again") for fault in error.faults)
    else:
        yield ok(AREA, f"{path}: {'with' if tls else 'without'} TLS")
