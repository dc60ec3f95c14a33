"""Models whose profiles come from a registry: where they are kept, and asking for new ones while the exporter runs."""

import asyncio
import hashlib
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

import msgspec

from mlops_exporter.judging.status import Report
from mlops_exporter.lifecycle.mirror import Mirror
from mlops_exporter.settings.config import Config
from mlops_exporter.settings.models import ModelSettings
from mlops_exporter.settings.registry import MlflowSettings, registered_model
from mlops_exporter.sources.calls import in_thread

LOOK_SECONDS = 1.0


class Following(Protocol):
    """The running exporter, as far as it follows a registry."""

    @property
    def mirrors(self) -> Mapping[str, Mirror]: ...  # noqa: D102
    def status(self) -> Report:
        """Return how everything is."""
        ...


def mirror_of(model: str, profile: object, metrics: Mapping[str, str], mlflow: MlflowSettings, state: Path) -> Mirror:
    """Return the mirror of a model whose `profile` is in the registry.

    Profiles of another server, model or choice of metrics lie elsewhere, so that they are never taken for these.
    """
    named = registered_model(profile)
    assert named is not None
    origin = hashlib.sha256(msgspec.json.encode([mlflow.url, named[0], mlflow.artifact, sorted(metrics.items())]))
    directory = state / "registry" / quote(model, safe="") / origin.hexdigest()[:12]
    return Mirror(model, named[0], mlflow, directory, metrics)


def mirrors(config: Config, former: Mapping[str, Mirror]) -> dict[str, Mirror]:
    """Return the mirrors of all models that have one, the former ones of which that stay the same."""
    found: dict[str, Mirror] = {}
    for model in config.models:
        address = model.profiles or model.profile
        if registered_model(address) is None or config.mlflow is None or config.state is None:
            continue
        fresh = mirror_of(model.name, address, logged_metrics(model), config.mlflow, config.state.path)
        known = former.get(model.name)
        same = known is not None and (known.directory, known.settings) == (fresh.directory, fresh.settings)
        found[model.name] = known if known is not None and same else fresh
    return found


def logged_metrics(model: ModelSettings) -> dict[str, str]:
    """Return the run's metric behind each reference performance that is not the profile's own."""
    return {name: benchmark.mlflow for name, benchmark in model.benchmarks.items() if benchmark.mlflow is not None}


async def follow(service: Following, reload: Callable[[], None]) -> None:
    """Ask the registry every now and then until cancelled, and `reload` when a profile came or an alias moved."""
    due: dict[Mirror, float] = {}
    while True:
        moved = False
        for mirror in list(service.mirrors.values()):
            if due.get(mirror, 0.0) > time.monotonic():
                continue
            moved |= await in_thread(mirror.refresh)
            due[mirror] = time.monotonic() + mirror.settings.every
            if mirror.settings.write_state:
                states = dict(_states(service.status(), mirror.model))
                await in_thread(lambda mirror=mirror, states=states: mirror.write_state(states))  # type: ignore[misc]
        if moved:
            reload()
        await asyncio.sleep(LOOK_SECONDS)


def _states(report: Report, model: str) -> Iterable[tuple[str, str]]:
    return ((state.version, state.state) for state in report.models if state.model == model)
