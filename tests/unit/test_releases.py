"""Versions with profiles of their own: labels come home, whatever has been released since."""

import asyncio
import json
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from mlops_exporter.collectors.performance import ModelCollector
from mlops_exporter.counting.model import Model
from mlops_exporter.events.decoder import Decoder
from mlops_exporter.ingest.trees import pack, unpack
from mlops_exporter.profile.profile import Profile, save
from mlops_exporter.profile.profiles import Profiles
from mlops_exporter.service import configuration
from mlops_exporter.service.service import Service
from mlops_exporter.settings.document import ConfigError
from mlops_exporter.settings.models import Limits, ModelSettings
from tests.models import numeric, profiles
from tests.support import pipeline
from tests.support.one_model import feed, samples

NOW = time.time()
CHANGES = 20


def profile_of(version: str) -> Profile:
    """The profile of a version, whose features have other names and bins than any other's."""
    profile = profiles()["credit"]
    edge = float(version)
    features = {**profile.features, f"new{version}": numeric([0.0, edge, edge + 50.0])}
    provenance = replace(profile.provenance, model_version=version)
    return replace(profile, features=features, provenance=provenance, performance={"roc_auc": 0.5 + edge / 100})


def model_of(kept: Profiles, *, windows: tuple[str, ...] = ("1h",), versions: int = 32) -> Model:
    settings = {
        "name": "m",
        "task": "binary",
        "profiles": "profiles",
        "windows": list(windows),
        "benchmarks": {"roc_auc": {"max_drop": 0.03}},
    }
    model = Model(ModelSettings.model_validate(settings), kept, Limits(versions=versions))
    model.seed = 7
    return model


def own(*versions: str) -> Profiles:
    return Profiles(by_version={version: profile_of(version) for version in versions})


def predicted(version: str, n: int) -> list[dict[str, object]]:
    features = {f"new{version}": float(version) + 1, "amount": 5.0}
    return [
        {"id": f"{version}-{i}", "ts": NOW - 100, "version": version, "features": features, "prediction": i % 2}
        for i in range(n)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("killed", [False, True])
def test_labels_come_home_over_twenty_releases(killed: bool) -> None:
    rng = np.random.default_rng(1)
    oracle: dict[str, Counter[tuple[int, int]]] = {}
    due: list[tuple[int, dict[str, object]]] = []
    model = model_of(own("1"))
    for release in range(1, CHANGES + 1):
        version = str(release)
        if release > 1:
            following = model_of(own(*map(str, range(max(1, release - 2), release + 1))))
            if killed and release % 2:
                following.restore(unpack(pack(model.state())))
            else:
                following.take_over(model)
            model = following
        feed(model, predicted(version, 30))
        for i in range(30):
            label = int(rng.integers(2))
            oracle.setdefault(version, Counter())[i % 2, label] += 1
            due.append((release + int(rng.integers(CHANGES)), {"id": f"{version}-{i}", "ts": NOW, "label": label}))
        now_due = [label for at, label in due if at <= release]
        due = [(at, label) for at, label in due if at > release]
        feed(model, now_due)
    assert model.waiting == len(due)
    feed(model, [label for _, label in due])
    assert (model.waiting, model.labels_unmatched, model.labels_duplicate) == (0, 0, 0)
    for version, cells in oracle.items():
        layout = model.reference_of(version).layout
        assert f"new{version}" in layout.features
        ledger = model.versions[version].lifetime
        assert ledger[layout.predictions] == 30
        assert ledger[layout.confusion].tolist() == [cells[p, a] for p in (0, 1) for a in (0, 1)]
        assert ledger[layout.features[f"new{version}"]][:-2].sum() == 30


def test_a_removed_version_goes_once_nothing_refers_to_it() -> None:
    former = model_of(own("1", "2"))
    feed(former, [*predicted("1", 4), *predicted("2", 4)])
    model = model_of(own("2"))
    model.take_over(former)
    assert "new1" in model.reference_of("1").layout.features, "it is counted on by its own profile"
    feed(model, [{"id": "1-0", "ts": NOW, "label": 1}])
    model.expire(NOW + 10)
    assert list(model.versions) == ["1", "2"]
    model.expire(NOW + 40 * 86400)
    assert list(model.versions) == ["2"]
    assert [reference.version for reference in model.references] == [None, "2"]
    assert former.versions["1"].unlabelled == 0
    feed(model, predicted("3", 1))
    assert model.versions["3"].place == 0, "the place of the one that is gone"


def test_each_version_has_its_own_benchmark_and_one_without_profile_none() -> None:
    model = model_of(own("1", "2"))
    feed(model, [*predicted("1", 2), *predicted("2", 2), *predicted("9", 2)])
    feed(model, [{"id": "9-0", "ts": NOW, "label": 1}])
    found = samples(ModelCollector([model]))
    agreed = {
        version: found.get(f'ml_model_benchmark_min{{model="m",version="{version}",metric="roc_auc"}}')
        for version in ("1", "2", "9")
    }
    assert agreed == {"1": pytest.approx(0.48), "2": pytest.approx(0.49), "9": None}
    kinds = {
        v: [
            k
            for k in ("own", "shared", "none")
            if f'ml_model_version_profile{{model="m",version="{v}",profile="{k}"}}' in found
        ]
        for v in ("1", "9")
    }
    assert kinds == {"1": ["own"], "9": ["none"]}
    bare = model.reference_of("9")
    assert (bare.layout.feature_names, bare.profile.provenance.model_version) == ([], "")
    assert model.versions["9"].lifetime[bare.layout.confusion].tolist() == [0, 1, 0, 0]


@pytest.mark.slow
def test_a_class_that_only_a_later_version_knows() -> None:
    iris = profiles()["iris"]
    fewer = replace(iris, provenance=replace(iris.provenance, model_version="1"))
    classes = ["extra", *iris.classes]
    more = replace(
        iris,
        classes=classes,
        prediction=None,
        label=None,
        provenance=replace(iris.provenance, model_version="2", created="2027-01-01T00:00:00Z"),
    )
    settings = {"name": "m", "task": "multiclass", "profiles": "profiles", "windows": ["1h"]}
    model = Model(ModelSettings.model_validate(settings), Profiles(by_version={"1": fewer, "2": more}), Limits())
    last = iris.classes[-1]
    feed(model, [{"id": v, "version": v, "ts": NOW - 9, "features": {}, "prediction": last} for v in ("1", "2")])
    feed(model, [{"id": v, "ts": NOW, "label": last} for v in ("1", "2")])
    for version in ("1", "2"):
        layout = model.reference_of(version).layout
        assert model.versions[version].lifetime[layout.confusion][-1] == 1


def test_a_release_with_one_profile_loses_no_waiting_prediction() -> None:
    settings = {"name": "m", "task": "binary", "profile": "p.json", "windows": ["1h"]}

    def shared(version: str) -> Model:
        model = Model(ModelSettings.model_validate(settings), profile_of(version), Limits())
        model.seed = 7
        return model

    former, following = shared("1"), shared("2")
    feed(former, [*predicted("1", 5), *[{**event, "version": "0"} | {"id": f"0-{i}"}
                                        for i, event in enumerate(predicted("1", 5))]])  # fmt: skip
    following.take_over(former)
    assert following.waiting == 10
    assert following.reference_of("1").retired, "the profile was made for it, and stays with it"
    assert following.reference_of("0").version is None, "the profile was never its own"
    feed(following, [{"id": f"{v}-{i}", "ts": NOW, "label": 1} for v in ("0", "1") for i in range(5)])
    for version in ("0", "1"):
        layout = following.reference_of(version).layout
        assert following.versions[version].lifetime[layout.labels] == 5


def test_profiles_of_a_directory(tmp_path: Path) -> None:
    directory = tmp_path / "profiles"
    directory.mkdir()
    for version in ("1", "2"):
        save(profile_of(version), directory / f"any{version}.json")
    save(replace(profile_of("3"), provenance=replace(profile_of("3").provenance, model_version="default")),
         directory / "3.json")  # fmt: skip
    file = tmp_path / "mlops-exporter.yml"
    file.write_text("models: [{name: m, task: binary, profiles: profiles}]")
    config, found = configuration.read(file)
    assert sorted(found["m"].by_version) == ["1", "2", "3"]
    before = configuration.profile_states(config, tmp_path)
    assert configuration.profile_states(config, tmp_path) == before
    save(profile_of("4"), directory / "4.json")
    assert configuration.profile_states(config, tmp_path) != before
    save(profile_of("4"), directory / "again.json")
    iris = profiles()["iris"]
    other_task = replace(iris, provenance=replace(iris.provenance, model_version="5"))
    save(other_task, directory / "other_task.json")
    (directory / "half.json").write_text('{"schema": 1')
    config, found = configuration.read(file)
    assert sorted(found["m"].by_version) == ["1", "2", "3", "4"], "a broken file harms no other version"
    assert {Path(name).name for name in config.broken} == {"again.json", "half.json", "other_task.json"}
    faults = "\n".join(fault for faults in config.broken.values() for fault in faults)
    assert "is of version 4, like" in faults
    assert "the profile is for 'multiclass'" in faults
    for path in directory.iterdir():
        path.write_text("{}")
    with pytest.raises(ConfigError, match=r"any1\.json"):
        configuration.read(file)
    save(profile_of("1"), directory / "any1.json")
    file.write_text('models: [{name: m, task: binary, profiles: {"7": profiles/any1.json}}]')
    assert list(configuration.read(file)[1]["m"].by_version) == ["7"]
    for key in ("7", "'7'"):
        file.write_text(f"models: [{{name: m, task: binary, profiles: {{{key}: profiles/any1.json}}}}]")
        assert list(configuration.read(file)[1]["m"].by_version) == ["7"]
    file.write_text("models: [{name: m, task: binary, profile: profiles/3.json, profiles: profiles}]")
    with pytest.raises(ConfigError, match="give either profile, for all versions, or profiles"):
        configuration.read(file)


def test_versions_that_only_wait_for_labels_make_room_for_a_release() -> None:
    model = model_of(own("1"), versions=4)
    for day, version in enumerate(("old", "older", "1", "2")):
        model.admit({version}, NOW - 90_000 + day)
        feed(model, [{"id": f"{version}-{i}", "ts": NOW - 90_000, "version": version, "score": 0.5} for i in range(3)])
    for place, each in enumerate(model.versions.values()):
        each.seen = NOW - 90_000 + place
    assert model.waiting == 12
    assert model.admit({"new"}, NOW) == set()
    assert list(model.versions) == ["new", "older", "1", "2"]
    feed(model, [{"id": "new-0", "ts": NOW, "version": "new", "score": 0.5}])
    assert (model.waiting, model.given_up) == (10, {"old": 3})
    series = 'ml_model_predictions_unlabelled_total{{model="m",version="{}"}}'.format
    assert samples(ModelCollector([model]))[series("old")] == 3
    again = model_of(own("1"), versions=4)
    again.restore(unpack(pack(model.state())))
    assert samples(ModelCollector([again]))[series("old")] == 3
    feed(again, [{"id": "old-0", "ts": NOW, "label": 1}, {"id": "older-0", "ts": NOW, "label": 1}])
    assert (again.waiting, again.joins.main.waiting_labels) == (9, 1)
    assert again.admit({"old"}, NOW) == set(), "the next one makes room, which shows no label"
    assert again.versions["old"].unlabelled == 3
    assert again.given_up == {"1": 3}


def test_a_version_that_a_window_shows_stays() -> None:
    model = model_of(own("1"), versions=2)
    feed(model, [*predicted("1", 2), *predicted("2", 2)])
    assert model.admit({"3"}, NOW) == {"3"}
    assert model.waiting == 4


def flood(service: Service, events: list[dict[str, object]], at: float) -> list[tuple[int, str]]:
    """Post events as one body that arrives `at`; returns what was refused."""
    return list(asyncio.run(service.intake.submit("push", pipeline.ndjson(events), at)).errors)


def weeks_old(version: str, count: int = 3) -> list[dict[str, object]]:
    return [
        {"model": "binary", "version": version, "id": f"{version}-{i}", "ts": NOW - 20 * 86400, "prediction": "yes"}
        for i in range(count)
    ]


def test_a_flood_of_versions_that_no_window_shows_refuses_no_release() -> None:
    service = pipeline.service("binary", windows=["1h", "1d"])
    (model,) = service.models
    for number in range(16):
        assert flood(service, weeks_old(f"junk{number:02}"), NOW + number / 100) == []
    service.intake.flush()
    assert model.waiting == 48
    release = {"model": "binary", "version": "real", "ts": NOW, "prediction": "yes"}
    assert flood(service, [release], NOW + 1) == []
    assert flood(service, [event for v in range(40) for event in weeks_old(f"more{v:02}", 1)], NOW + 2)[0][1] == (
        "too_many_versions"
    ), "one body takes the place of all that nothing shows, not of its own"
    service.intake.flush()
    assert "real" in model.versions
    assert len(model.versions) == 16
    assert sum(model.given_up.values()) + model.waiting == 48 + 15
    shown = pipeline.scrape(service)
    assert shown.value("ml_model_predictions_total", version="real") == 1
    assert sum(shown.by("version", "ml_model_predictions_unlabelled_total").values()) == sum(model.given_up.values())


def test_in_one_body_the_versions_of_late_events_come_first() -> None:
    service = pipeline.service("binary", limits={"versions": 2}, windows=["1h"])
    late = {"model": "binary", "version": "z", "ts": NOW, "prediction": "yes"}
    refused = flood(service, [*weeks_old("a", 1), *weeks_old("b", 1), late], NOW)
    assert refused == [(2, "too_many_versions")]


def test_a_version_that_made_room_before_its_events_were_counted() -> None:
    """Between admission and count lies the journal: another body may have made room meanwhile."""
    model = model_of(own("1"), versions=1)
    old = {"model": "m", "ts": NOW - 90_000, "version": "old"}
    events = [old | {"id": f"old-{i}", "score": 0.5} for i in range(3)]
    events += [old | {"id": "failed", "error": "no"}, old | {"score": 0.5}]
    events += [{"model": "m", "id": "nobody", "ts": NOW, "label": 1}]
    columns = Decoder(model.schemas).decode("\n".join(map(json.dumps, events)).encode(), NOW).columns["m"]
    assert not model.admit({"old": NOW - 90_000}, NOW)
    assert not model.admit({"new"}, NOW + 1)
    model.count(columns, NOW)
    assert (model.given_up, model.waiting, model.joins.main.waiting_labels) == ({"old": 3}, 0, 1)
    assert list(model.versions) == ["new"]
