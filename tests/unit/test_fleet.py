"""Several exporters added up: their shares are one exporter that got all their events, whatever one of them does."""

import asyncio
import random
import time
from functools import cache
from typing import Any
from zlib import crc32

import msgspec
import numpy as np
import pytest

from mlops_exporter.counting.model import Model
from mlops_exporter.ingest.intake import Intake
from mlops_exporter.profile.profile import Task
from mlops_exporter.settings.config import Config
from mlops_exporter.settings.models import Limits
from tests.support import pipeline, workload
from tests.support.pipeline import Event, reference_rows

SHARED = (
    *("ml_model", "ml_feature", "ml_prediction", "ml_label"),
    *("ml_horizon", "ml_quantile", "ml_interval", "ml_forecast"),
)


def _add_up(intake: Intake, *exporters: Intake | bytes) -> dict[str, str]:
    shares = {f"http://{n}": it if isinstance(it, bytes) else it.shares(None) for n, it in enumerate(exporters)}
    return dict(asyncio.run(intake.add_up(shares)))


def _events(task: Task, now: float, rows: int = 240) -> list[Event]:
    """Predictions of the last hour, in order, and labels that come minutes later, of most of them."""
    rng = random.Random(5)
    found: list[Event] = []
    for number, row in enumerate(reference_rows(task, rows, 9)):
        ts = now - rng.random() * 3500
        event: Event = {"model": task, "version": "7", "id": str(number), "ts": ts}
        event["features"] = {name: row[name] for name in ("amount", "rooms", "age", "country", "owner")}
        event |= {"score": row["p_yes"]} if task == "binary" else {"prediction": row["p"]}
        if task == "forecast":
            event |= {"horizon": row["ahead"], "naive": row["naive"]}
            event["quantiles"] = {"0.1": row["low"], "0.5": row["p"], "0.9": row["high"]}
        found.append(event)
        if rng.random() < 0.7:
            found.append({"model": task, "id": str(number), "ts": min(ts + rng.random() * 600, now), "label": row["y"]})
    return sorted(found, key=lambda event: float(event["ts"]))


@pytest.mark.slow
@pytest.mark.parametrize("task", ["binary", "regression", "forecast"])
def test_shares_of_replicas_are_one_exporter_that_got_all_events(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    made = [pipeline.service(task, change={"enabled": False}, label_delay="15m") for _ in range(5)]
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)  # which panes are too old to be told apart goes by the arrival
    for each in made:
        monkeypatch.setattr(each.registry, "_now", lambda: now)
    one, fleet, *replicas = made
    events = _events(task, now)
    pipeline.submit(one, pipeline.ndjson(events))
    for number, replica in enumerate(replicas):
        mine = [event for event in events if crc32(event["id"].encode()) % 3 == number]
        pipeline.submit(replica, pipeline.ndjson(mine))
    for _ in range(2):  # again and again, and the same
        assert _add_up(fleet.intake, *(replica.intake for replica in replicas)) == {}
        here, there = pipeline.scrape(one), pipeline.scrape(fleet)
        names = [n for n in here.names if n.startswith(SHARED)]
        assert len(names) > 25
        assert there.names >= set(names)
        for name in names:
            expected, found = here.series(name), there.series(name)
            assert expected.keys() == found.keys(), name
            for key, value in expected.items():
                assert found[key] == pytest.approx(value, rel=1e-6, abs=1e-9), (name, key)
    assert (here.value("ml_model_pending_predictions") or 0) > 0


def _exporter(*seeds: int, count: int = 100, now: float | None = None) -> Intake:
    intake = _empty()
    for seed in seeds:
        lines = workload.events(count, time.time() if now is None else now, seed)
        asyncio.run(_submit(intake, b"\n".join(lines)))
    return intake


_profile = cache(workload.profile)


def _empty() -> Intake:
    """An exporter that has counted nothing."""
    return Intake([Model(workload.settings(), _profile(), Limits())], ["push"], Limits())


async def _submit(intake: Intake, body: bytes) -> None:
    await intake.submit("push", body, time.time())
    intake.flush()


def _predictions(intake: Intake) -> float:
    return float(sum(version.lifetime[0] for version in intake.models["credit"].versions.values()))


def test_nothing_is_shown_before_each_has_answered_once() -> None:
    fleet, first, second = _empty(), _exporter(1), _exporter(2)
    assert _add_up(fleet, first, b"") == {}
    assert _predictions(fleet) == 0
    assert _add_up(fleet, first, second) == {}
    assert _predictions(fleet) == 200
    asyncio.run(_submit(first, b"\n".join(workload.events(50, time.time(), 3))))
    assert _add_up(fleet, first, b"") == {}  # the second one is away, and counts with what it told last
    assert _predictions(fleet) == 250


def test_counters_do_not_go_back_when_one_begins_anew() -> None:
    fleet, first, second = _empty(), _exporter(1), _exporter(2)
    _add_up(fleet, first, second)
    second = _exporter(3, count=30)
    _add_up(fleet, first, second)
    assert _predictions(fleet) == 230
    (version,) = fleet.models["credit"].versions.values()
    assert version.totals(time.time())[-1, 0] == 130  # its windows are gone


def _damaged(share: bytes, **changes: Any) -> bytes:
    content = msgspec.msgpack.decode(share)
    content["models"]["credit"]["versions"]["3"] |= changes
    return msgspec.msgpack.encode(content)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"profile": "0"}, "profile"),
        ({"layout": "0"}, "settings"),
        ({"lifetime": b""}, "damaged"),
        ({"windows": {}}, "windows"),
        ({"waiting": "many"}, "Expected `int`"),
    ],
)
def test_a_share_of_other_settings_or_damaged_is_told_and_left_out(changes: dict[str, Any], told: str) -> None:
    fleet, first, second = _empty(), _exporter(1), _exporter(2)
    _add_up(fleet, first, second)
    faults = _add_up(fleet, first, _damaged(second.shares(None), **changes))
    assert list(faults) == ["http://1"]
    assert told in faults["http://1"]
    assert _predictions(fleet) == 200


@pytest.mark.parametrize(
    ("numbers", "change"),
    [([5, 4], 0), ([4, 4], 0), ([2**63], 0), ([-1], 0), ([1], -1), ([1], 8), ([], 8), (list(range(61)), 0)],
)
def test_a_damaged_window_is_told(numbers: list[int], change: int) -> None:
    fleet, first = _empty(), _exporter(1)
    share = first.shares(None)
    windows = msgspec.msgpack.decode(share)["models"]["credit"]["versions"]["3"]["windows"]
    size = len(numbers) * first.models["credit"].reference.layout.size * 8
    ring = {"first": 0, "numbers": numbers, "panes": bytes(size + change)}
    damaged = _damaged(share, windows=windows | {next(iter(windows)): ring})
    assert "damaged" in _add_up(fleet, damaged)["http://0"]
    assert _predictions(fleet) == 0


OTHERS = [b"\x00", b"{}", b"\x91" * 100_000, msgspec.msgpack.encode({"format": 2, "models": {}})]


@pytest.mark.parametrize("share", OTHERS)
def test_what_is_no_share_is_told(share: bytes) -> None:
    assert list(_add_up(_empty(), share)) == ["http://0"]


def test_a_share_is_not_changed_by_what_is_counted_later() -> None:
    exporter = _exporter(1)
    before = exporter.shares(None)
    copied = bytes(before)
    asyncio.run(_submit(exporter, b"\n".join(workload.events(50, time.time(), 3))))
    assert before == copied
    assert exporter.shares(frozenset({"other"})) != before
    assert msgspec.msgpack.decode(exporter.shares(frozenset({"other"})))["models"] == {}


@pytest.mark.parametrize("urls", [[], ["ftp://a"], ["http://a:1", "http://a:1/"]])
def test_addresses_are_checked(urls: list[str]) -> None:
    with pytest.raises(ValueError, match="urls"):
        Config.model_validate({"sources": [{"name": "fleet", "replicas": {"urls": urls}}]})


def test_an_exporter_that_adds_up_has_no_other_source() -> None:
    sources = [{"name": "fleet", "replicas": {"urls": ["http://a:1"]}}, {"name": "push", "http": {}}]
    with pytest.raises(ValueError, match="replicas are alone"):
        Config.model_validate({"models": [], "sources": sources})


def test_the_sums_are_those_of_all() -> None:
    fleet, both = _empty(), _exporter(1, 2)
    _add_up(fleet, _exporter(1), _exporter(2))
    (found,), (expected,) = (each.models["credit"].versions.values() for each in (fleet, both))
    whole = both.models["credit"].reference.bounds.whole
    assert (found.lifetime[whole] == expected.lifetime[whole]).all()
    np.testing.assert_allclose(found.lifetime, expected.lifetime, rtol=1e-9)


@pytest.mark.parametrize("change", [{"threshold": 0.4}, {"windows": [900.0, 7200.0]}, {"label_delay": 60.0}])
def test_shares_from_before_a_reload_are_not_added_to_what_means_something_else(change: dict[str, Any]) -> None:
    fleet, first = _empty(), _exporter(1)
    _add_up(fleet, first)
    assert _predictions(fleet) == 100
    settings = workload.settings().model_copy(update=change)
    following = Intake([Model(settings, _profile(), Limits())], ["push"], Limits())
    fleet.prepare(following, ())
    fleet.become(following)
    assert _add_up(fleet, b"") == {}
    assert _predictions(fleet) == 0
    assert list(_add_up(fleet, first)) == ["http://0"]


def test_a_reload_that_changes_nothing_of_a_model_goes_on() -> None:
    fleet, first = _empty(), _exporter(1)
    _add_up(fleet, first)
    following = _empty()
    fleet.prepare(following, ())
    fleet.become(following)
    assert _add_up(fleet, b"") == {}
    assert _predictions(fleet) == 100
