"""What a reload keeps and what it does not, and that it is all or nothing."""

import asyncio
import gc
import json
import shutil
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from mlops_exporter.compute.workloads import WorkloadSampler
from mlops_exporter.counting.join import Join, Transfer
from mlops_exporter.counting.model import Model
from mlops_exporter.ingest.journal import Journal
from mlops_exporter.ingest.store import Store
from mlops_exporter.ingest.trees import pack, unpack
from mlops_exporter.profile.profile import Profile, save
from mlops_exporter.service.configuration import read
from mlops_exporter.service.reload import unchangeable
from mlops_exporter.service.service import Options, Service
from mlops_exporter.settings.config import Config
from mlops_exporter.settings.models import Limits, ModelSettings
from mlops_exporter.web.app import ReloadError
from tests.models import numeric, profiles
from tests.support import pipeline
from tests.support.one_model import feed

NOW = time.time()


def make(profile: Profile, limits: Limits | None = None, **settings: Any) -> Model:
    defaults: dict[str, Any] = {"name": "m", "task": profile.task, "profile": "m.json", "windows": ["15m", "1h"]}
    model = Model(ModelSettings.model_validate(defaults | settings), profile, limits or Limits())
    model.seed = 7
    return model


def busy(profile: Profile, **settings: Any) -> Model:
    """A model with predictions that wait, labels that wait, and pairs."""
    model = make(profile, **settings)
    said = {"binary": {"score": 0.8}, "regression": {"prediction": 12.0}}[profile.task]
    label = {"binary": 1, "regression": 11.0}[profile.task]
    feed(model, [{"id": n, "ts": NOW - 160, "version": "1", "features": {"age": 5}, **said} for n in range(10)])
    feed(model, [{"id": n, "ts": NOW - 150, "label": label} for n in (0, 1, 2, 99)])
    return model


def comparable(tree: Any) -> Any:
    """A state without what says nothing: rows of the join that are free."""
    return json.loads(
        json.dumps(tree, default=lambda it: it.decode() if isinstance(it, bytes) else it.astype(float).tolist())
    )


SEX = {"attributes": ["country"]}
KEEPING: list[dict[str, Any]] = [
    {"benchmarks": {"accuracy": {"min": 0.9}}},
    {"drift": {"statistics": ["psi"], "false_alarm_rate": 0.05}},
    {"min_samples": {"performance": 5}},
    {"label_delay": "1h"},
    {"label_ttl": "8d"},
    {"windows": ["15m", "2h"]},
    {"windows": ["1h"]},
    {"fairness": SEX},
    {"estimation": {"enabled": False}},
    {"multivariate": {"enabled": False}},
    {"change": {"enabled": False}},
    {"change": {"tolerance": 0.2}},
    {"challenge": {"champion": "1", "challenger": "2"}},
]


@pytest.mark.slow
@pytest.mark.parametrize("settings", KEEPING, ids=lambda settings: "-".join(settings))
def test_a_reload_keeps_what_a_restart_keeps(settings: dict[str, Any]) -> None:
    profile = profiles()["credit"]
    former = busy(profile)
    taken, restored = make(profile, **settings), make(profile, **settings)
    assert taken.reference.basis == former.reference.basis
    restored.restore(unpack(pack(former.state())))
    taken.take_over(former)
    assert comparable(taken.state()) == comparable(restored.state())
    version = taken.versions["1"]
    assert version.lifetime[taken.reference.layout.predictions] == 10
    assert version.lifetime[taken.reference.layout.labels] == 3
    assert (taken.waiting, taken.joins.main.waiting_labels) == (7, 1)
    for model in (taken, restored):
        feed(model, [{"id": n, "ts": NOW, "label": 1} for n in range(10)])
        assert model.versions["1"].lifetime[model.reference.layout.labels] == 10
        assert (model.labels_duplicate, model.labels_unmatched, model.waiting) == (3, 0, 0)
        feed(model, [{"id": 5, "version": "1", "score": 0.8}])
        assert model.predictions_duplicate == 1


@pytest.mark.parametrize("settings", [{"threshold": 0.9}, {"performance_time": "prediction"}])
def test_what_decides_how_events_are_counted_begins_anew(settings: dict[str, Any]) -> None:
    former, following = make(profiles()["credit"]), make(profiles()["credit"], **settings)
    assert former.reference.basis != following.reference.basis


def test_a_threshold_that_decides_nothing_is_no_reason_to_begin_anew() -> None:
    assert make(profiles()["price"]).reference.basis == make(profiles()["price"], threshold=0.9).reference.basis


def test_kept_windows_stay_and_new_ones_begin_empty() -> None:
    profile = profiles()["credit"]
    following = make(profile, windows=["15m", "2h"])
    following.take_over(busy(profile))
    kept, new = following.versions["1"].totals(NOW)[:, following.reference.layout.predictions].ravel()
    assert [kept, new] == [10, 0]
    late = {"id": "late", "version": "1", "ts": NOW - 50, "score": 0.8, "label": 1}
    feed(following, [late, {"id": 0, "ts": NOW, "label": 0}])  # corrects what the new window has never counted
    assert following.labels_corrected == 1
    kept, new = following.versions["1"].totals(NOW)[:, following.reference.layout.confusion]
    assert kept.tolist() == [0, 0, 1, 3]
    assert new.tolist() == [0, 0, 0, 1]


def test_coverage_never_exceeds_what_was_predicted() -> None:
    profile = profiles()["credit"]
    following = make(profile, label_delay="1s")
    following.take_over(busy(profile))
    feed(following, [{"id": n, "ts": NOW - 55, "label": 1} for n in range(10)])  # of predictions from before
    later = NOW + 120
    feed(following, [{"id": f"new{n}", "ts": NOW + 100, "version": "1", "score": 0.4} for n in range(4)])
    feed(following, [{"id": f"new{n}", "ts": NOW + 101, "label": 1} for n in range(3)])
    assert following.versions["1"].label_coverage(later, 1.0) == [0.75, 0.75]


def test_other_attributes_begin_anew_and_nothing_is_subtracted_from_them() -> None:
    profile = profiles()["credit"]
    following = make(profile, fairness=SEX)
    following.take_over(busy(profile))
    feed(following, [{"id": 0, "ts": NOW, "label": 0}, {"id": 5, "ts": NOW, "label": 1}])
    assert following.reference.group_counts is not None
    section = following.reference.layout.cells_of(following.reference.group_counts)
    for totals in following.versions["1"].totals(NOW):
        assert totals[section].min() == 0
        groups = following.reference.group_counts.sums(totals[section], 0)
        assert groups[:, following.reference.group_counts.layout.labels].ravel().tolist() == [0, 0, 0, 0, 1], "unknown"
        assert totals[following.reference.layout.confusion].tolist() == [0, 0, 0, 4]
    assert (following.labels_duplicate, following.labels_corrected) == (1, 0), "no correction of what it cannot find"


def test_outputs_keep_their_columns_when_others_come_before_them() -> None:
    former = Join(3, 1, 1e6, 100, 100)
    keys, ones = np.array([5, 6], np.uint64), np.ones(2)
    outputs = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    former.predict(keys, ones, np.zeros(2, np.intp), outputs, np.full(2, np.nan))
    transfer = Transfer({0: [0, -1, 2, 1]})
    restored, taken = Join(4, 1, 1e6, 100, 100), Join(4, 1, 1e6, 100, 100)
    restored.restore(unpack(pack(former.state())), transfer)
    taken.take_over(former, transfer)
    for join in (restored, taken):
        assert join.waiting_predictions.tolist() == [2]
        pairs = join.label(keys, ones, ones).pairs
        assert np.array_equal(pairs.outputs, [[1, np.nan, 3, 2], [4, np.nan, 6, 5]], equal_nan=True)


def test_fewer_versions_than_there_are() -> None:
    profile = profiles()["price"]
    former = make(profile)
    feed(former, [{"id": version, "version": version, "prediction": 1.0} for version in ("1", "2", "3")])
    following = make(profile, Limits(versions=2))
    following.take_over(former)
    assert [following.waiting_predictions(version) for version in ("1", "2", "3")] == [1, 1, 1]
    assert following.admit({"4"}) == {"4"}


def test_what_the_process_has_started_with_cannot_change() -> None:
    def config(**settings: Any) -> Config:
        models = [{"name": "m", "task": "binary", "profile": "m.json"}]
        return Config.model_validate({"models": models, **settings})

    before = config(state={"path": "a"}, compute={"root": "/host"})
    assert list(unchangeable(before, before)) == []
    assert [place for place, _ in unchangeable(before, config(state={"path": "b"}))] == [
        ("state", "path"),
        ("compute", "root"),
    ]
    assert list(unchangeable(before, config(compute={"root": "/host"}))) == [
        (("state",), "was a and is absent now: that needs a restart")
    ]


class Site:
    """A configuration with its profiles, and a service that runs by it, without a server."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.file = directory / "mlops-exporter.yml"
        for name, profile in profiles().items():
            save(profile, directory / f"{name}.json")

    def write(self, *, further: Mapping[str, Any] | None = None, **models: dict[str, Any]) -> None:
        tasks = {name: profile.task for name, profile in profiles().items()}
        content = [
            {"name": name, "task": tasks[name], "profile": f"{name}.json", **settings}
            for name, settings in models.items()
        ]
        self.file.write_text(yaml.safe_dump({"models": content, **(further or {})}))

    def service(self) -> Service:
        service = Service(*read(self.file), Options(config_file=self.file))
        service.intake.closed = service.unreloadable = None
        return service


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def reload(service: Service) -> None:
    asyncio.run(service._reloader.reload())


def predictions(name: str, ids: Sequence[int]) -> bytes:
    said = {"credit": {"score": 0.7}, "price": {"prediction": 12.0}}[name]
    return pipeline.ndjson({"model": name, "id": n, **said} for n in ids)


@pytest.mark.slow
def test_unchanged_models_are_the_same_objects(site: Site) -> None:
    site.write(credit={}, price={})
    service = site.service()
    former = service.assembly
    renamed = site.directory / "elsewhere.json"
    shutil.copy(site.directory / "price.json", renamed)
    site.write(credit={"benchmarks": {"accuracy": {"min": 0.9}}}, price={"profile": renamed.name})
    reload(service)
    assert service.assembly is not former
    assert service.assembly.models["price"] is former.models["price"] is service.intake.models["price"]
    price = service.assembly.models["price"].reference
    (observer,) = [each for each in service.assembly.observers if each.reference is price]
    assert observer in list(former.observers)
    assert service.assembly.models["credit"] is not former.models["credit"]
    credit = service.assembly.models["credit"].reference
    assert service.assembly.comparisons.of(credit) is former.comparisons.of(credit)


@pytest.mark.slow
def test_the_former_assembly_leaves_no_trace(site: Site) -> None:
    site.write(credit={}, price={})
    service = site.service()
    pipeline.submit(service, predictions("credit", range(3)))
    former = service.assembly
    traces: list[weakref.ref[Any]] = [weakref.ref(former.registry), weakref.ref(former.models["price"])]
    del former
    site.write(credit={})
    gc.disable()  # it comes when many objects were made, which says nothing of the size of arrays
    try:
        reload(service)
    finally:
        gc.enable()
    assert [trace() for trace in traces] == [None, None]
    assert pipeline.scrape(service).value("ml_model_predictions_total", model="credit") == 3


@pytest.mark.slow
def test_labels_that_come_during_a_reload_are_no_loss(
    site: Site, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO")
    site.write(credit={})
    service = site.service()
    pipeline.submit(service, predictions("credit", range(50)))
    stop = service.pulling.stop

    async def label_then_stop(names: Sequence[str]) -> None:
        labels = pipeline.ndjson({"model": "credit", "id": n, "label": 1} for n in range(20))
        await service.intake.submit("push", labels, time.time())
        await stop(names)

    monkeypatch.setattr(service.pulling, "stop", label_then_stop)
    site.write(credit={"windows": ["2h"]})
    reload(service)
    assert caplog.messages[-1] == "the configuration was loaded anew: model credit goes on with other settings"
    shown = pipeline.scrape(service)
    assert shown.value("ml_model_labels_total", model="credit", version="default") == 20
    assert shown.value("ml_model_pending_predictions", model="credit", version="default") == 30


@pytest.mark.slow
def test_a_failure_anywhere_leaves_all_as_it_was(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.write(credit={})
    service = site.service()
    pipeline.submit(service, predictions("credit", range(3)))
    former = service.assembly
    site.write(credit={"windows": ["2h"], "label_ttl": "sometimes"})
    with pytest.raises(ReloadError, match=r"mlops-exporter\.yml:2: models\[0\]\.label_ttl"):
        reload(service)
    assert service.assembly is former
    assert len(caplog.records) == 1
    shown = pipeline.scrape(service)
    assert shown.value("ml_exporter_config_last_reload_successful") == 0
    assert shown.value("ml_model_predictions_total", model="credit") == 3
    site.write(credit={"windows": ["2h"]})
    reload(service)
    assert pipeline.scrape(service).value("ml_exporter_config_last_reload_successful") == 1


FILE = {"sources": [{"name": "log", "file": {"path": "*.ndjson"}}]}
PUSH = {
    "sources": [{"name": "push", "http": {}}],
    "compute": {"workloads": [{"name": "trainer", "phase": "training", "match": "train"}]},
}


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(FILE, PUSH), (PUSH, FILE)], ids=["more", "less"])
def test_what_was_prepared_in_vain_leaves_no_trace(
    site: Site,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unreadable(_sampler: WorkloadSampler) -> None:
        raise OSError("no processes can be read")

    async def fail(_names: Sequence[str]) -> None:
        raise OSError("gone")

    site.write(credit={}, further=before)
    service = site.service()
    parts = service.intake.state().keys()
    collectors, watch, guarded = service.registry.collectors, service.compute.watch, service.assembly.guarded
    monkeypatch.setattr(WorkloadSampler, "sample", unreadable)
    monkeypatch.setattr(service.pulling, "stop", fail)
    site.write(credit={}, price={}, further=after)
    with pytest.raises(ReloadError, match="gone"):
        reload(service)
    assert service.intake.state().keys() == parts
    assert (service.registry.collectors, service.compute.watch, service.assembly.guarded) == (
        collectors, watch, guarded
    )  # fmt: skip
    assert not [line for line in caplog.messages if line.startswith("sampling of")]


@pytest.mark.slow
def test_a_reload_that_cannot_be_made_durable_is_none(site: Site) -> None:
    site.write(credit={}, price={})
    service = site.service()

    async def run() -> None:
        store = Store(site.directory / "state")
        service.journal = Journal(store, service.intake, service.faults)
        service.intake.keep_in(service.journal)
        journal = asyncio.create_task(service.journal.run())
        await service.intake.submit("push", predictions("credit", range(3)), time.time())
        site.write(credit={"benchmarks": {"accuracy": {"min": 0.9}}})
        store.close()  # as good as a disk that is gone
        with pytest.raises(ReloadError, match=r"state\.sqlite3"):
            await service._reloader.reload()
        journal.cancel()
        await asyncio.wait([journal])

    former = service.assembly
    asyncio.run(run())
    assert service.assembly is former
    shown = pipeline.scrape(service)
    assert shown.value("ml_model_predictions_total", model="credit") == 3
    assert set(shown.by("model", "ml_model_labels_unmatched_total")) == {"credit", "price"}


@pytest.mark.slow
@pytest.mark.parametrize("pause", [0.0, 0.001, 0.005, 0.02, 0.05])
def test_after_a_crash_all_is_as_it_was_in_memory(site: Site, pause: float) -> None:
    site.write(credit={}, price={})
    service = site.service()

    def counts(one: Service) -> dict[str, Any]:
        return {name: comparable(model.state()) for name, model in one.intake.models.items()}

    async def run() -> None:
        service.journal = Journal(Store(site.directory / "state"), service.intake, service.faults)
        service.intake.keep_in(service.journal)
        journal = asyncio.create_task(service.journal.run())

        async def send(number: int) -> None:
            await asyncio.sleep(pause * number / 10)
            body = predictions("credit", range(10 * number, 10 * number + 10)) + b"\n" + predictions("price", [number])
            await service.intake.submit("push", body, time.time())

        await send(0)
        site.write(credit={"fairness": SEX, "windows": ["15m", "30m"]}, price={})
        other = profiles()["price"]
        other.features["rooms"] = numeric([0.0, 5.0, 50.0])
        save(other, site.directory / "price.json")
        await asyncio.gather(service._reloader.reload(), *(send(number) for number in range(1, 20)))
        service.intake.flush()
        journal.cancel()
        await asyncio.wait([journal])

    asyncio.run(run())
    assert service.assembly.models["credit"].versions["default"].lifetime[0] == 200
    assert service.assembly.models["credit"].predictions_duplicate == 0
    shutil.copytree(site.directory / "state", site.directory / "copy")  # the first still holds the lock
    restarted = site.service()

    async def restore() -> None:
        store = Store(site.directory / "copy")
        await restarted._restore(store)
        store.close()

    asyncio.run(restore())
    assert counts(restarted) == counts(service)


@pytest.mark.slow
def test_a_source_of_another_kind_knows_no_position(site: Site) -> None:
    site.write(credit={})
    service = site.service()
    service.intake._positions = {"push": b"of a file", "gone": b"kept"}
    content = yaml.safe_load(site.file.read_text())
    log = site.directory / "log"
    content["sources"] = [{"name": "push", "file": {"path": str(log)}}]
    site.file.write_text(yaml.safe_dump(content))

    async def run() -> None:
        await service._reloader.reload()
        await service.pulling.stop()

    asyncio.run(run())
    assert service.intake.position("push") is None
    assert service.intake.position("gone") == b"kept"


def test_without_a_file_there_is_nothing_to_load(site: Site) -> None:
    site.write(credit={})
    service = Service(*read(site.file), Options())
    service.unreloadable = None
    with pytest.raises(ReloadError, match=r"--config\.file"):
        reload(service)
