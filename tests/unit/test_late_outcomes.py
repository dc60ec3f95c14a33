"""Outcomes that come after their answer: found by id, each counted once, in any order, over restarts and reloads."""

import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_exporter.client import Monitor
from mlops_exporter.counting.model import Model
from mlops_exporter.events.decoder import Decoder
from mlops_exporter.profile.profiles import unprofiled
from mlops_exporter.service.service import Service
from mlops_exporter.settings.models import Limits, ModelSettings
from tests.support import pipeline
from tests.support.http_sink import taking_events
from tests.support.pipeline import Event
from tests.unit.test_outcomes import OUTCOMES, chat, stream

NOW = time.time() - 5.0


def answer(id_: str, version: str = "1", **members: Any) -> Event:
    return {"model": "chat", "version": version, "id": id_, "ts": NOW - 60, "latency_seconds": 1.0} | members


def rated(id_: str, ts: float = NOW, **outcomes: float) -> Event:
    return {"model": "chat", "id": id_, "ts": ts, "outcomes": outcomes}


def sums_of(model: Model) -> dict[tuple[str, str], float]:
    """Sum of the values above the lowest, by version and outcome, where there are any in the widest window."""
    found = {}
    for version in model.versions.values():
        for counts in model.reference.outcome_counts:
            n, total, _ = version.totals(NOW)[-1][model.reference.layout.cells_of(counts)]
            if n:
                found[version.name, counts.outcome] = total + n * counts.low
    return found


def send(service: Service, *events: Event) -> None:
    assert pipeline.submit(service, pipeline.ndjson(list(events))) == (len(events), [])


def test_a_rating_that_comes_later_finds_the_version_of_its_answer() -> None:
    service = chat()
    send(service, answer("a", "old"), answer("b", "new", outcomes={"tokens": 7}))
    send(service, rated("a", rating=4, profit=-3), rated("b", rating=2))
    assert sums_of(service.models[0]) == {
        ("old", "rating"): 4,
        ("old", "profit"): -3,
        ("new", "rating"): 2,
        ("new", "tokens"): 7,
    }
    exposition = pipeline.scrape(service)
    assert exposition.value("ml_outcome_values_total", version="old", outcome="rating") == 1
    assert exposition.value("ml_model_pending_predictions", version="old") == 0
    assert exposition.value("ml_model_predictions_total", version="old") == 1


def test_one_that_comes_first_waits_for_its_answer() -> None:
    service = chat()
    send(service, rated("a", rating=4))
    assert sums_of(service.models[0]) == {}
    send(service, answer("a", "v", outcomes={"tokens": 9}))
    assert sums_of(service.models[0]) == {("v", "rating"): 4, ("v", "tokens"): 9}


def test_each_counts_once_and_a_correction_moves_the_window() -> None:
    service = chat()
    send(service, answer("a", outcomes={"rating": 2}), rated("a", rating=2), rated("a", rating=2), answer("a"))
    assert sums_of(service.models[0]) == {("1", "rating"): 2}
    send(service, rated("a", rating=5))
    assert sums_of(service.models[0]) == {("1", "rating"): 5}
    exposition = pipeline.scrape(service)
    of = {"outcome": "rating"}
    assert exposition.value("ml_outcome_values_total", **of) == 1
    assert exposition.value("ml_outcome_values_duplicate_total", **of) == 2
    assert exposition.value("ml_outcome_values_corrected_total", **of) == 1
    assert exposition.value("ml_outcome_values_unmatched_total", **of) == 0


def test_a_repeated_answer_brings_what_its_first_lacked() -> None:
    service = chat()
    send(service, answer("a"), answer("a", outcomes={"rating": 3}), answer("a", outcomes={"rating": 3}))
    assert sums_of(service.models[0]) == {("1", "rating"): 3}


def test_what_finds_no_answer_is_told_when_it_is_given_up() -> None:
    service = chat(label_ttl="1h", label_delay="1h")
    send(service, rated("nobody", rating=3))
    (model,) = service.models
    model.expire(NOW + 3000)
    assert model.late.tallies["rating"].counts["unmatched"] == 0
    model.expire(NOW + 4000)
    assert pipeline.scrape(service).value("ml_outcome_values_unmatched_total", outcome="rating") == 1


def test_answers_that_are_never_rated_are_told_nowhere() -> None:
    service = chat(label_ttl="1h", label_delay="1h")
    send(service, answer("a"), answer("b"))
    (model,) = service.models
    model.expire(NOW + 4000)
    exposition = pipeline.scrape(service)
    assert exposition.value("ml_model_predictions_unlabelled_total") == 0
    send(service, rated("a", rating=3))
    assert sums_of(model) == {}


def test_it_counts_in_the_pane_that_the_settings_name() -> None:
    for at, window in (("label", "15m"), ("prediction", "1h")):
        service = chat(performance_time=at)
        send(service, answer("a", ts=NOW - 1800), rated("a", rating=3))
        found = pipeline.scrape(service).by("window", "ml_outcome_window_values", outcome="rating")
        assert found == {"15m": float(window == "15m"), "1h": 1}


def test_an_outcome_needs_an_id_or_an_answer() -> None:
    service = pipeline.service("binary", outcomes=OUTCOMES)
    body = [{"model": "binary", "outcomes": {"rating": 3}}, {"model": "binary", "id": "a", "outcomes": {}}]
    assert pipeline.submit(service, pipeline.ndjson(body)) == (0, [(1, "missing_id"), (2, "nothing_to_count")])


def test_arrow_says_the_same_as_json() -> None:
    service = chat()
    send(service, answer("a", "v"), answer("b", "v"))
    body = stream({"id": ["a", "b", "b"], "ts": [NOW] * 3, "outcomes": [{"rating": 4.0}, {"rating": 2.0}, None]})
    assert pipeline.submit(service, body) == (2, [(3, "nothing_to_count")])
    assert sums_of(service.models[0]) == {("v", "rating"): 6}


def test_a_label_brings_the_outcome_that_came_of_the_decision() -> None:
    service = pipeline.service("binary", outcomes=OUTCOMES)
    events = [
        {"model": "binary", "id": "a", "ts": NOW - 60, "prediction": "yes", "score": 0.9},
        {"model": "binary", "id": "a", "ts": NOW, "label": "yes", "outcomes": {"profit": 3}},
    ]
    assert pipeline.submit(service, pipeline.ndjson(events)) == (2, [])
    assert sums_of(service.models[0]) == {("default", "profit"): 3}
    assert pipeline.scrape(service).value("ml_model_labels_total") == 1


@pytest.mark.parametrize("way", ["restart", "reload"])
def test_what_waits_outlives(way: str) -> None:
    service = chat()
    send(service, answer("a", "old"), rated("first", rating=5), answer("c", outcomes={"rating": 1}))
    send(service, rated("c", rating=1))
    successor = chat(outcomes=dict(reversed(OUTCOMES.items())))
    (model,), (former,) = successor.models, service.models
    model.restore(former.state()) if way == "restart" else model.take_over(former)
    model.seed = former.seed
    send(successor, rated("a", rating=4), answer("first", "new"), rated("c", rating=1))
    assert sums_of(model) == {("old", "rating"): 4, ("new", "rating"): 5, ("1", "rating"): 1}
    assert model.late.tallies["rating"].counts["duplicate"] == 2


def test_other_bounds_begin_anew() -> None:
    service = chat()
    send(service, answer("a"), rated("b", rating=5))
    (model,) = chat(outcomes={"rating": {"low": 1, "high": 4}}).models
    model.restore(service.models[0].state())
    assert not model.late.tallies["rating"].join.waiting_predictions.any()
    assert model.late.tallies["rating"].join.waiting_labels == 0


def test_what_waits_is_bounded() -> None:
    limits = Limits(pending_predictions=6, remembered_labels=6)
    written = {"name": "chat", "task": "outcomes", "outcomes": OUTCOMES}
    model = Model(ModelSettings.model_validate(written), unprofiled("outcomes"), limits)
    (schema,) = model.schemas
    events = [answer(str(number)) for number in range(10)]
    columns = Decoder([schema]).decode(pipeline.ndjson(events), NOW + 1).columns["chat"]
    model.admit({"1"}, NOW)
    model.count(columns, NOW)
    assert [int(t.join.waiting_predictions.sum()) for t in model.late.tallies.values()] == [2, 2, 2]


EVENTS = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.booleans(),
        st.dictionaries(st.sampled_from(sorted(OUTCOMES)), st.sampled_from([1.0, 3.0, 5.0]), max_size=2),
    ),
    max_size=30,
)


@settings(max_examples=40, deadline=None)
@given(EVENTS, st.integers(1, 7))
def test_any_order_and_any_batches_count_as_one_event_after_the_other(drawn: list[Any], batch: int) -> None:
    events = [
        answer(id_, id_, ts=NOW, outcomes=values) if predicts else rated(id_, **values)
        for id_, predicts, values in drawn
        if predicts or values
    ]
    service = chat()
    for several in chunks(events, batch):
        send(service, *several)
    last: dict[tuple[str, str], float] = defaultdict(float)
    for event in as_counted(chunks(events, batch)):
        for name, value in event.get("outcomes", {}).items():
            last[event["id"], name] = value
    answered = {event["id"] for event in events if "latency_seconds" in event}
    assert sums_of(service.models[0]) == {key: value for key, value in last.items() if key[0] in answered}


def as_counted(batches: list[list[Event]]) -> Iterator[Event]:
    """The order in which events count: of a batch, first the answers that are new."""
    answered: set[str] = set()
    for batch in batches:
        rest = []
        for event in batch:
            if "latency_seconds" in event and event["id"] not in answered:
                answered.add(event["id"])
                yield event
            else:
                rest.append(event)
        yield from rest


def chunks(events: list[Event], size: int) -> list[list[Event]]:
    return [events[start : start + size] for start in range(0, len(events), size)]


def test_the_client_sends_them_alone() -> None:
    with taking_events() as (url, taken), Monitor(url, model="chat", batch_seconds=0.01) as monitor:
        monitor.rate("a1", {"rating": np.float32(4)}, ts=7.0)
        assert monitor.flush()
    assert taken == [{"model": "chat", "id": "a1", "ts": 7.0, "outcomes": {"rating": 4.0}}]
