"""Partial ledgers: the same counts as of one exporter that got the events, each ledger once, and bad ones told."""

import asyncio
import json
import math
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from operator import itemgetter
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlops_exporter.arrays import Floats
from mlops_exporter.counting.ledger import Layout
from mlops_exporter.counting.model import Model
from mlops_exporter.counting.partial import MOST_LEDGERS, Pane, PartialLedger, decode, encode
from mlops_exporter.counting.producer import Producer
from mlops_exporter.events.decoder import Decoder
from mlops_exporter.events.reasons import Reason, Refused
from mlops_exporter.ingest.body import Body
from mlops_exporter.ingest.intake import Intake
from mlops_exporter.ingest.ledgers import LEDGERS, LedgersResult
from mlops_exporter.ledgers import LedgerCounter
from mlops_exporter.profile.profile import Task, load, save
from mlops_exporter.profiling.build import BuildRequest, build
from mlops_exporter.service.service import Service
from mlops_exporter.settings.models import Limits
from tests.support import pipeline, workload
from tests.support.pipeline import Event, reference_rows

NOW = 1_800_000_000.0
WIDTH = 15.0


def _events(task: Task, now: float, rows: int = 300, seed: int = 3) -> list[Event]:
    """Events of two versions within the last hours, most of them with their label."""
    rng = random.Random(seed)
    found = []
    for number, row in enumerate(reference_rows(task, rows, seed)):
        event: Event = {
            "model": task,
            "version": rng.choice(["7", "8"]),
            "id": f"{seed}-{number}",
            "ts": now - rng.random() ** 3 * 7200,
            "features": {name: row[name] for name in ("amount", "rooms", "age", "country", "owner")},
            "latency_seconds": rng.expovariate(20.0),
        }
        if task == "binary":
            event["score"] = row["p_yes"]
        elif task == "multiclass":
            event["scores"] = {name[2:]: value for name, value in row.items() if name.startswith("p_")}
        else:
            event["prediction"] = row["p"]
        if rng.random() < 0.8:
            event["label"] = row["y"]
        found.append(event)
    return found


def _count(model: Model, events: list[Event], width: float | None = None) -> Producer:
    producer = Producer(model.settings, model.profiles, Limits(), width)
    decoded = Decoder(producer.schemas).decode(pipeline.ndjson(events), time.time())
    assert not decoded.refused
    for columns in decoded.parts.get(model.name, ()):
        assert not producer.take(columns, time.time())
    return producer


def _send(intake: Intake, ledgers: list[PartialLedger], arrived: float | None = None, **more: Any) -> LedgersResult:
    body = Body("push", encode(ledgers), time.time() if arrived is None else arrived, format=LEDGERS, **more)
    return asyncio.run(intake.take_ledgers(body))


def _service(task: Task) -> Service:
    return pipeline.service(task, label_delay="0s", change={"enabled": False})


@pytest.mark.slow
@pytest.mark.parametrize(("task", "producers"), [("binary", 4), ("multiclass", 3), ("regression", 5)])
def test_ledgers_of_several_producers_are_one_exporter_that_got_the_events(
    task: Task, producers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, merged = _service(task), _service(task)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)  # which panes are too old to be told apart goes by the arrival
    for each in (one, merged):
        monkeypatch.setattr(each.registry, "_now", lambda: now)
    events = _events(task, now)
    for event in events:
        del event["id"]
    in_order = sorted(events, key=itemgetter("ts"))
    pipeline.submit(one, pipeline.ndjson(in_order))
    model = merged.intake.models[task]
    rng = random.Random(producers)
    homes = [rng.randrange(producers) for _ in events]
    for home in rng.sample(range(producers), producers):
        producer = _count(model, [event for event, of in zip(events, homes, strict=True) if of == home])
        ledgers = list(producer.ledgers(f"p{home}", "1"))
        result = _send(merged.intake, ledgers, now)
        assert result == LedgersResult(accepted=len(ledgers)), result.refused[0][1].told
    _assert_equal(one.intake.models[task], model, now)
    here, there = pipeline.scrape(one), pipeline.scrape(merged)
    of_models = [
        name for name in here.names if name.startswith(("ml_model", "ml_feature", "ml_prediction", "ml_label"))
    ]
    assert len(of_models) > 25
    for name in of_models:
        expected, found = here.series(name), there.series(name)
        assert expected.keys() == found.keys(), name
        for key, value in expected.items():
            assert found[key] == pytest.approx(value, rel=1e-6, abs=1e-9), (name, key)


def _assert_equal(one: Model, merged: Model, now: float) -> None:
    assert one.versions.keys() == merged.versions.keys()
    for name, version in one.versions.items():
        other = merged.versions[name]
        np.testing.assert_allclose(other.lifetime, version.lifetime, rtol=1e-6, atol=1e-5)
        np.testing.assert_allclose(other.totals(now), version.totals(now), rtol=1e-6, atol=1e-5)
        whole = one.reference_of(name).bounds.whole
        assert (other.lifetime[whole] == version.lifetime[whole]).all()
        assert (other.last_prediction, other.last_label) == (version.last_prediction, version.last_label)


_profile = cache(workload.profile)


def _model(**limits: int) -> Model:
    return Model(workload.settings(), _profile(), Limits(**limits))


def _intake(model: Model | None = None, **limits: Any) -> Intake:
    return Intake([model or _model()], ["push"], Limits.model_validate(limits))


@cache
def _ledgers(count: int = 300, seed: int = 1, epoch: str = "1", now: float = NOW) -> list[PartialLedger]:
    model = _model()
    producer = Producer(model.settings, model.profiles, Limits())
    decoded = Decoder(producer.schemas).decode(b"\n".join(workload.events(count, now, seed)), now + 1e-3)
    for columns in decoded.parts["credit"]:
        assert not producer.take(columns, now + 1e-3)
    return list(producer.ledgers("p", epoch))


def _with(ledger: PartialLedger, **changes: Any) -> PartialLedger:
    return msgspec.structs.replace(ledger, **changes)


def _changed(cells: bytes, change: Callable[[Floats], None]) -> bytes:
    numbers = np.frombuffer(cells, "<f8").copy()
    change(numbers)
    return numbers.tobytes()


def _predictions(intake: Intake) -> float:
    return float(sum(version.lifetime[0] for version in intake.models["credit"].versions.values()))


def test_a_ledger_counts_once_whoever_sends_it_again() -> None:
    intake, ledgers = _intake(), _ledgers()
    assert len(ledgers) >= 4
    assert _send(intake, ledgers, NOW) == LedgersResult(accepted=len(ledgers))
    assert _send(intake, [*ledgers, ledgers[0]], NOW) == LedgersResult(repeated=len(ledgers) + 1)
    twice = _with(ledgers[0], epoch="2")
    assert _send(intake, [twice, twice], NOW) == LedgersResult(accepted=1, repeated=1)
    other = _with(ledgers[0], cells=ledgers[1].cells)
    assert _send(intake, [other], NOW) == LedgersResult(repeated=1, changed=1)
    first = np.frombuffer(ledgers[0].cells)[0]
    assert _predictions(intake) == 300 + first
    source = intake.sources["push"]
    assert (source.accepted, source.ledgers) == (300 + first, len(ledgers) + 1)


def test_what_was_counted_is_known_after_a_restart_and_a_reload() -> None:
    intake, ledgers = _intake(), _ledgers()
    _send(intake, ledgers[:2], NOW)
    following = _intake()
    following.restore(intake.state().get)
    following.replay(Body("push", encode(ledgers[1:3]), NOW, format=LEDGERS))  # as from the journal
    assert _send(following, ledgers, NOW) == LedgersResult(accepted=len(ledgers) - 3, repeated=3)
    assert _predictions(following) == 300
    renewed = _intake()
    following.prepare(renewed, ())
    following.become(renewed)
    assert _send(following, ledgers, NOW).repeated == len(ledgers)


def test_of_two_at_once_one_counts() -> None:
    intake, body = _intake(), encode(_ledgers())

    async def story() -> list[LedgersResult]:
        each = Body("push", body, NOW, format=LEDGERS)
        return await asyncio.gather(*(intake.take_ledgers(each) for _ in range(4)))

    assert sum(result.accepted for result in asyncio.run(story())) == len(_ledgers())
    assert _predictions(intake) == 300


def test_what_is_forgotten_is_refused_and_never_counted_again() -> None:
    intake, ledgers = _intake(ledger_age="1h"), _ledgers()
    _send(intake, ledgers, NOW)
    later = _ledgers(seed=2, now=NOW + 4000)
    assert _send(intake, later, NOW + 4000).accepted == len(later)  # what is too old is forgotten here
    for arrived in (NOW + 4000, NOW + 100, NOW):  # also by a clock that goes back
        result = _send(intake, ledgers, arrived)
        assert set(result.reasons) == {"pane_too_old"}
        assert len(result.refused) == len(ledgers)
    assert _predictions(intake) == 600


def test_where_no_more_can_be_remembered_further_ones_are_refused() -> None:
    intake, ledgers = _intake(remembered_ledgers=2), _ledgers()
    result = _send(intake, ledgers, NOW)
    assert (result.accepted, set(result.reasons)) == (2, {"too_many_ledgers"})
    assert _send(intake, ledgers[:2], NOW).repeated == 2
    assert intake.sources["push"].rejected["too_many_ledgers"] == len(ledgers) - 2


def test_models_that_the_sender_may_not_write_and_unknown_ones_are_refused() -> None:
    intake, (ledger, *_) = _intake(), _ledgers()
    assert _send(intake, [ledger], NOW, models=frozenset({"other"})).reasons == ["forbidden_model"]
    assert _send(intake, [_with(ledger, model="other")], NOW).reasons == ["unknown_model"]
    assert _predictions(intake) == 0


def test_more_versions_than_allowed_are_refused() -> None:
    model = _model(versions=2)
    ledgers = [_with(ledger, version=str(n)) for n, ledger in enumerate(_ledgers()[:4])]
    result = _send(_intake(model), ledgers, NOW)
    assert (result.accepted, result.reasons) == (2, ["too_many_versions"] * 2)


def _set(cell: int, value: float) -> Callable[[Floats], None]:
    def change(cells: Floats) -> None:
        cells[cell] = value

    return change


BAD_CELLS = {
    "NaN": _set(40, math.nan),
    "infinite": _set(40, math.inf),
    "negative": _set(40, -1.0),
    "no whole number": _set(40, 0.5),
    "more than there are events": _set(40, 1e6),
    "no event": lambda cells: cells.fill(0.0),
    "more events than anybody has": lambda cells: np.multiply(cells, 1e10, out=cells),
    "negative predictions": _set(0, -3.0),
    "NaN predictions": _set(0, math.nan),
    "more failures than predictions": _set(1, 1e9),
    "a sum of scores of nobody": lambda cells: np.add(cells, 0.0, out=cells).__setitem__(slice(-2, None), 1e300),
}


@pytest.mark.parametrize("what", BAD_CELLS)
def test_cells_that_no_events_add_up_to_are_refused(what: str) -> None:
    intake, (ledger, good, *_) = _intake(), _ledgers()
    bad = _with(ledger, cells=_changed(ledger.cells, BAD_CELLS[what]))
    result = _send(intake, [bad, good], NOW)
    assert (result.accepted, result.reasons) == (1, ["bad_cells"])
    assert _predictions(intake) == np.frombuffer(good.cells)[0]


@pytest.mark.parametrize(("feature", "cells"), [("num_00", slice(0, 2)), ("cat_0", slice(0, 2))])
def test_a_feature_has_no_more_values_than_there_are_predictions(feature: str, cells: slice) -> None:
    intake, (ledger, *_) = _intake(), _ledgers()
    place = intake.models["credit"].reference.layout.features[feature]

    def change(numbers: Floats) -> None:
        numbers[place][cells] = numbers[0]

    result = _send(intake, [_with(ledger, cells=_changed(ledger.cells, change))], NOW)
    assert result.reasons == ["bad_cells"]
    assert feature in result.refused[0][1].told


BAD: dict[str, tuple[dict[str, Any], Reason]] = {
    "another profile": ({"profile": "0" * 12}, "other_profile"),
    "another layout": ({"layout": "0" * 12}, "other_layout"),
    "another format": ({"format": 2}, "bad_ledger"),
    "too few cells": ({"cells": bytes(8)}, "bad_cells"),
    "half a double": ({"cells": bytes(9)}, "bad_cells"),
    "no cells": ({"cells": b""}, "bad_cells"),
    "a pane of another width": ({"pane": Pane(NOW, 7.0)}, "bad_pane"),
    "a pane between panes": ({"pane": Pane(NOW + 1.0, WIDTH)}, "bad_pane"),
    "a wide pane that a shorter window shows": ({"pane": Pane(NOW // 60 * 60 - 120, 60.0)}, "bad_pane"),
    "a pane without width": ({"pane": Pane(NOW, 0.0)}, "bad_pane"),
    "a pane of NaN": ({"pane": Pane(math.nan, WIDTH)}, "bad_pane"),
    "an infinite pane": ({"pane": Pane(NOW, math.inf)}, "bad_pane"),
    "a pane before 1970": ({"pane": Pane(-WIDTH, WIDTH)}, "bad_pane"),
    "a pane of nanoseconds": ({"pane": Pane(NOW * 1e9, WIDTH)}, "bad_pane"),
    "a pane to come": ({"pane": Pane(NOW + 600.0, WIDTH)}, "future_pane"),
    "an old pane": ({"pane": Pane(NOW - 8 * 86400, WIDTH)}, "pane_too_old"),
    "a prediction to come": ({"last_prediction": NOW + 1e6}, "bad_pane"),
    "a label at no time": ({"last_label": math.nan}, "bad_pane"),
    "no producer": ({"producer": ""}, "bad_ledger"),
    "a long producer": ({"producer": "p" * 129}, "bad_ledger"),
    "a long version": ({"version": "v" * 65}, "bad_ledger"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_ledgers_are_refused_one_by_one(what: str) -> None:
    changes, reason = BAD[what]
    intake, (ledger, good, *_) = _intake(), _ledgers()
    result = _send(intake, [_with(ledger, **changes), good], NOW)
    assert (result.accepted, result.reasons) == (1, [reason])
    source = intake.sources["push"]
    assert (source.rejected[reason], source.ledgers_rejected) == (1, 1)


def test_refused_ledgers_stay_counted_over_a_restart() -> None:
    (ledger, *_) = _ledgers()
    bad = encode([_with(ledger, layout="0" * 12), _with(ledger, model="other")])

    class Kept:
        """A journal that keeps what it is given."""

        def __init__(self) -> None:
            self.bodies: list[Body] = []

        async def commit(self, body: Body, count: Callable[[], None]) -> None:
            self.bodies.append(body)
            count()

    intake, journal = _intake(), Kept()
    intake.keep_in(journal)  # type: ignore[arg-type]
    asyncio.run(intake.take_ledgers(Body("push", bad, NOW, format=LEDGERS)))
    replayed, restored = _intake(), _intake()
    for body in journal.bodies:
        replayed.replay(body)
    restored.restore(intake.state().get)
    for each in (intake, replayed, restored):
        source = each.sources["push"]
        assert (source.ledgers_rejected, source.ledgers) == (2, 0)
        assert (source.rejected["other_layout"], source.rejected["unknown_model"]) == (1, 1)


BODIES = {
    "nothing": b"",
    "JSON": b'[{"format":1}]',
    "one map": msgspec.msgpack.encode({"format": 1}),
    "a ledger without array": msgspec.msgpack.encode(_ledgers(50)[0]),
    "an array that says it is long": b"\xdd\xff\xff\xff\xff" + bytes(1000),
    "an array cut short": encode(_ledgers(50))[:-5],
    "more behind": encode(_ledgers(50)) + b"\x00",
    "many numbers": msgspec.msgpack.encode([0] * 100_000),
    "deep": b"\x91" * 200_000,
    "a deep ledger": msgspec.msgpack.encode([msgspec.Raw(b"\x91" * 100_000 + b"\x01")]),
    "an unknown field": msgspec.msgpack.encode([msgspec.to_builtins(_ledgers(50)[0]) | {"more": 1}]),
    "text that is no UTF-8": msgspec.msgpack.encode([{"format": 1, "model": "x" * 200}]).replace(b"x", b"\xff"),
    "too many ledgers": encode([_ledgers(50)[0]] * (MOST_LEDGERS + 1)),
}


@pytest.mark.parametrize("what", BODIES)
def test_bodies_of_another_kind_are_refused_as_a_whole(what: str) -> None:
    parts = decode(BODIES[what])
    assert parts
    assert all(isinstance(part, Refused) and part.reason == "bad_ledger" for part in parts)
    result = asyncio.run(_intake().take_ledgers(Body("push", BODIES[what], NOW, format=LEDGERS)))
    assert (result.accepted, set(result.reasons)) == (0, {"bad_ledger"})


@pytest.mark.parametrize("change", [{"threshold": 0.4}, {"performance_time": "prediction"}])
def test_settings_that_change_what_cells_mean_make_another_layout(change: dict[str, Any]) -> None:
    settings = workload.settings().model_copy(update=change)
    intake = _intake(Model(settings, _profile(), Limits()))
    assert set(_send(intake, _ledgers(), NOW).reasons) == {"other_layout"}


def test_wide_panes_count_in_the_windows_that_show_them() -> None:
    model = _model()
    hours_ago = NOW // 1440 * 1440 - 5 * 3600
    producer = Producer(model.settings, model.profiles, Limits(), 1440.0)
    decoded = Decoder(producer.schemas).decode(b"\n".join(workload.events(200, hours_ago)), NOW)
    for columns in decoded.parts["credit"]:
        producer.take(columns, NOW)
    intake = _intake()
    assert _send(intake, list(producer.ledgers("p", "1")), NOW).accepted == 1
    (version,) = intake.models["credit"].versions.values()
    assert version.totals(NOW)[:, 0].tolist() == [0.0, 0.0, 200.0]
    assert version.lifetime[0] == 200.0


def _of_a_job(**settings: Any) -> Model:
    return Model(workload.settings().model_copy(update={"cadence": "0 2 * * 1-5", **settings}), _profile(), Limits())


def test_ledgers_of_a_job_are_its_batches() -> None:
    """Twelve nights of a job of weekdays, by ledgers of two producers and by events: the windows hold the same."""
    windows = [86400.0, 7 * 86400.0]
    monday = datetime(2026, 6, 1, 2, tzinfo=UTC).timestamp()
    nights = [monday + day * 86400.0 for day in range(12) if day % 7 < 5]
    batches = [workload.events(20 + number, at, number) for number, at in enumerate(nights)]
    sunday = nights[-1] + 2.2 * 86400.0
    direct, added = _of_a_job(windows=windows), _of_a_job(windows=windows)
    intake = _intake(added, ledger_age="30d")
    for number, lines in enumerate(batches):
        producer = Producer(added.settings, added.profiles, Limits())
        for model in (direct, producer):
            columns = Decoder(model.schemas).decode(b"\n".join(lines), sunday).columns["credit"]
            if isinstance(model, Producer):
                assert not model.take(columns, sunday)
            else:
                model.admit(columns.version_names - {None})
                model.count(columns, sunday)
        assert not _send(intake, list(producer.ledgers(f"p{number % 2}", f"{number}")), sunday).refused
    (one,), (other,) = direct.versions.values(), added.versions.values()
    assert other.totals(sunday)[:, 0].tolist() == one.totals(sunday)[:, 0].tolist()
    assert one.totals(sunday)[:, 0].tolist() == [len(batches[-1]), sum(map(len, batches[-7:]))]


@pytest.mark.parametrize(
    ("windows", "width", "told"),
    [
        ([86400.0, 30 * 86400.0], 43200.0, "windows of a model with a cadence hold batches: send panes of 1440 s"),
        ([30 * 86400.0], 43200.0, "more than an eighth of the 86400 s between two batches"),
    ],
)
def test_wide_panes_of_a_job_are_refused(windows: list[float], width: float, told: str) -> None:
    model = _of_a_job(windows=windows)
    ledger = _with(_ledgers()[0], pane=Pane(NOW // width * width - 40 * width, width))
    result = _send(_intake(model, ledger_age="60d"), [ledger], NOW)
    assert result.reasons == ["bad_pane"]
    assert told in str(result.refused[0][1].told)


def test_rows_that_would_be_other_ledgers_when_read_again_are_not_counted() -> None:
    model = _model()
    producer = Producer(model.settings, model.profiles, Limits())
    line = json.loads(workload.events(1, NOW)[0])
    events = [
        line,
        {**line, "ts": NOW + 100},
        {**line, "ts": None},
        {"model": "credit", "id": "a", "label": 1, "ts": 5.0},
    ]
    decoded = Decoder(producer.schemas).decode(pipeline.ndjson(events), NOW)
    (columns,) = decoded.parts["credit"]
    assert producer.take(columns, NOW) == {"bad_timestamp": 2, "label_alone": 1}
    assert [np.frombuffer(each.cells)[0] for each in producer.ledgers("p", "1")] == [1.0]


def test_rows_of_lists_are_counted(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    items = [rng.choice(40, size, replace=False).astype(str).tolist() for size in rng.integers(1, 9, 300)]
    table = pa.table({"at": time.time() - np.arange(300) - 10, "items": items, "bought": [each[:1] for each in items]})
    pq.write_table(table, tmp_path / "lists.parquet")
    request = BuildRequest(
        data=tmp_path / "lists.parquet", task="ranking", label="bought", prediction="items", exclude=("at",)
    )
    save(build(request)[0], tmp_path / "shop.json")
    config = tmp_path / "mlops-exporter.yml"
    config.write_text("models: [{name: shop, task: ranking, profile: shop.json}]")
    columns = {"ts": "at", "prediction": "items", "label": "bought"}
    counter = LedgerCounter(config, "shop", columns=columns)
    counter.add(table)
    assert (counter.accepted, counter.refused) == (300, {})
    layout = Layout(load(tmp_path / "shop.json"))
    cells = np.sum([ledger.numbers() for ledger in counter.ledgers("p", "1")], axis=0)
    assert cells[layout.predictions.start] == cells[layout.labels.start] == 300
