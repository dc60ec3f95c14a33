"""Releases at their edges: the same version with other bins, mounted ConfigMaps, and events that come meanwhile."""

import asyncio
import shutil
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml
from msgspec.structs import replace

from mlops_exporter.profile.profile import Profile, save
from mlops_exporter.service.configuration import read
from mlops_exporter.service.service import Options, Service
from tests.models import numeric, profiles
from tests.support import pipeline


def profile_of(version: str, edge: float = 50.0) -> Profile:
    profile = profiles()["credit"]
    provenance = replace(profile.provenance, model_version=version)
    return replace(profile, features={"amount": numeric([0.0, 10.0, edge])}, provenance=provenance)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "profiles").mkdir()
    for version in ("1", "2"):
        save(profile_of(version), tmp_path / "profiles" / f"{version}.json")
    model = {"name": "m", "task": "binary", "profiles": "profiles", "windows": ["1h"]}
    (tmp_path / "mlops-exporter.yml").write_text(yaml.safe_dump({"models": [model]}))
    return tmp_path


def service_of(site: Path) -> Service:
    file = site / "mlops-exporter.yml"
    service = Service(*read(file), Options(config_file=file))
    service.intake.closed = service.unreloadable = None
    return service


def reload(service: Service) -> None:
    asyncio.run(service._reloader.reload())


def predictions(version: str, numbers: Iterable[int]) -> bytes:
    event: dict[str, Any] = {"model": "m", "version": version, "features": {"amount": 5.0}, "score": 0.8}
    return pipeline.ndjson({**event, "id": f"{version}-{number}"} for number in numbers)


def labels(version: str, numbers: Iterable[int]) -> bytes:
    return pipeline.ndjson({"model": "m", "id": f"{version}-{number}", "label": 1} for number in numbers)


def test_the_same_version_with_other_bins(site: Path) -> None:
    service = service_of(site)
    pipeline.submit(service, predictions("1", range(10)), predictions("2", range(10)), labels("1", range(4)))
    before = pipeline.scrape(service)
    save(profile_of("1", 80.0), site / "profiles" / "1.json")
    reload(service)
    pipeline.submit(service, labels("1", range(10)), predictions("1", [10]))
    shown = pipeline.scrape(service)
    hashes = [one.by("profile_hash", "ml_model_info", version="1").keys() for one in (before, shown)]
    assert hashes[0].isdisjoint(hashes[1])
    assert sum(shown.series("ml_feature_values_total", version="1").values()) == 1, "no sum of two sets of bins"
    assert shown.value("ml_model_labels_total", version="1") == 6, "what waited got its label"
    assert shown.value("ml_model_pending_predictions", version="1") == 1
    for name in ("ml_model_info", "ml_model_predictions_total", "ml_feature_values_total"):
        assert shown.series(name, version="2") == before.series(name, version="2"), "no other version notices"


def test_a_mounted_config_map(site: Path) -> None:
    """Kubernetes swaps the link ..data, through which every file is reached."""
    mounted = site / "profiles"
    shutil.rmtree(mounted)

    def publish(generation: str, **files: Profile) -> None:
        content = mounted / f"..{generation}"
        content.mkdir(parents=True)
        for name, profile in files.items():
            save(profile, content / f"{name}.json")
            if not (mounted / f"{name}.json").is_symlink():
                (mounted / f"{name}.json").symlink_to(f"..data/{name}.json")
        (mounted / "..data_tmp").symlink_to(content.name)
        (mounted / "..data_tmp").rename(mounted / "..data")

    publish("one", v1=profile_of("1"))
    service = service_of(site)
    pipeline.submit(service, predictions("1", range(5)))
    known = service.profile_states()
    assert service.profile_states() == known
    publish("two", v1=profile_of("1"), v2=profile_of("2"))
    assert service.profile_states() != known
    reload(service)
    pipeline.submit(service, predictions("2", range(5)))
    kinds = pipeline.scrape(service)
    assert kinds.by("version", "ml_model_version_profile", profile="own") == {"1": 1, "2": 1}
    assert kinds.value("ml_model_predictions_total", version="1") == 5
    publish("three", v2=profile_of("2"))  # the link of v1 hangs until it is taken away, too
    reload(service)
    assert service.assembly.models["m"].profiles.by_version.keys() == {"2"}
    (mounted / "v1.json").unlink()
    reload(service)
    pipeline.submit(service, labels("1", range(5)))
    assert pipeline.scrape(service).value("ml_model_labels_total", version="1") == 5


@pytest.mark.parametrize("step", [0.0, 0.001, 0.004])
def test_a_release_under_way_loses_no_event(site: Path, step: float) -> None:
    """Predictions and labels of the version that comes, stays or goes, while its profile does."""
    service = service_of(site)

    async def send(numbers: range) -> None:
        for number in numbers:
            await asyncio.sleep(step)
            for version in ("1", "2", "3"):
                found = await service.intake.submit("push", predictions(version, [number]), time.time())
                assert not found.errors
            if number % 2:
                for version in ("1", "2", "3"):
                    await service.intake.submit("push", labels(version, [number - 1]), time.time())

    async def release(turn: int) -> None:
        save(profile_of("3", 60.0 + turn), site / "profiles" / "3.json")
        gone = site / "profiles" / "1.json"
        if turn % 2:
            save(profile_of("1"), gone)
        else:
            gone.unlink()
        await service._reloader.reload()

    async def run() -> None:
        for turn in range(4):
            await asyncio.gather(send(range(50 * turn, 50 * turn + 50)), release(turn))
        service.intake.flush()

    asyncio.run(run())
    shown = pipeline.scrape(service)
    model = service.assembly.models["m"]
    for version in ("1", "2"):  # version 3 began anew at every turn
        assert shown.value("ml_model_predictions_total", version=version) == 200
        assert shown.value("ml_model_labels_total", version=version) == 100
    for version in ("1", "2", "3"):
        assert shown.value("ml_model_pending_predictions", version=version) == 100
    assert (model.labels_unmatched, model.labels_duplicate, model.predictions_duplicate) == (0, 0, 0)
