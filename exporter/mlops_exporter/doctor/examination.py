"""The whole examination, in an order in which a cause comes before what follows from it, each part bounded in time."""

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mlops_exporter.doctor import compute, configuration, events, listening, prometheus, sources, state_directory
from mlops_exporter.doctor.findings import Finding, ok, problem
from mlops_exporter.service.healthcheck import Access
from mlops_exporter.settings.compute import ComputeSettings

CHECK_SECONDS = 15.0
"""How long the checks, which run side by side, may take; one that hangs in a driver or a resolver is left behind."""

Check = tuple[str, Callable[[], Iterable[Finding]]]


@dataclass(frozen=True, slots=True)
class Subject:
    """What is examined: files, and where the exporter should listen; `addresses` are its listen addresses."""

    config_file: Path
    addresses: tuple[str, ...]
    telemetry_path: str = "/metrics"
    web_config: Path | None = None
    credentials: Path | None = None
    client_certificate: Path | None = None
    prometheus_url: str | None = None


def examine(subject: Subject) -> list[Finding]:
    """Return all findings. Nothing is changed; it takes little more than CHECK_SECONDS at most."""
    read = configuration.read(subject.config_file)
    settings, profiles = (None, {}) if isinstance(read, list) else read
    findings = read if isinstance(read, list) else list(configuration.check(subject.config_file, *read))
    if subject.web_config is not None:
        findings += configuration.check_web(subject.web_config)
    running: listening.Running | None = None
    for address in subject.addresses:
        access = Access(address, subject.web_config, subject.credentials, subject.client_certificate)
        found, answering = listening.find(access, subject.telemetry_path, str(subject.config_file))
        findings += found
        running = running or answering
    checks: list[Check] = []
    if settings is not None:
        if running is not None:
            findings += configuration.check_loaded(subject.config_file, settings, running.report)
        if settings.state is not None:
            path = settings.state.path
            checks.append((state_directory.AREA, partial(state_directory.check, path, running is not None)))
        watched_sources = settings.sources if settings.models else []
        checks += [(sources.AREA, partial(sources.check, source, settings, profiles)) for source in watched_sources]
        if running is not None and settings.models:
            checks.append((events.AREA, partial(events.check, running, settings, profiles)))
    if subject.prometheus_url is not None:
        url = subject.prometheus_url
        checks.append((prometheus.AREA, partial(prometheus.check, url, subject.addresses, settings)))
    watched = settings.compute if settings is not None else ComputeSettings()
    priced = watched.cost is not None and watched.cost.gpu_per_hour is not None
    checks.append((compute.AREA, partial(compute.check_gpus, priced)))
    checks.append((compute.AREA, partial(compute.check_workloads, watched)))
    findings += side_by_side(checks, CHECK_SECONDS)
    if subject.prometheus_url is None:
        findings.append(ok(prometheus.AREA, "not asked: name it with --prometheus.url to have the scrape examined"))
    return findings


def side_by_side(checks: list[Check], seconds: float) -> list[Finding]:
    """Run checks at the same time and return their findings in order; one that is not done in time is a problem."""
    results: dict[int, list[Finding]] = {}

    def run(number: int, area: str, check: Callable[[], Iterable[Finding]]) -> None:
        found: list[Finding] = []
        try:
            found.extend(check())
        except Exception as error:
            remedy = "the other checks hold all the same; please report this one"
            found.append(problem(area, f"the check itself failed: {type(error).__name__}: {error}", remedy))
        results[number] = found

    threads = [threading.Thread(target=run, args=(number, *check), daemon=True) for number, check in enumerate(checks)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    overdue = f"no answer within {seconds:g} s"
    remedy = "what it asks hangs: a network file system, a driver, a name server"
    return [
        finding
        for number, (area, _) in enumerate(checks)
        for finding in results.get(number, [problem(area, overdue, remedy)])
    ]
