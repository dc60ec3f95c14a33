"""Ids that come again and again in one body: what they do is as one after the other, and costs no more than others."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_exporter.arrays import Floats
from mlops_exporter.counting.join import CLOSED, Join, first_of_each
from mlops_exporter.counting.keys import Keys
from mlops_exporter.counting.model import Model
from mlops_exporter.counting.shown import Shown
from mlops_exporter.events.decoder import Decoder
from mlops_exporter.profile.lists import width
from mlops_exporter.profile.profile import Profile
from mlops_exporter.profiling.build import BuildRequest, build
from mlops_exporter.service.service import Options, Service
from mlops_exporter.settings.config import Config
from tests.support import pipeline
from tests.support.pipeline import Event

EVENTS = 50_000

LABELS = st.lists(st.tuples(st.integers(1, 6), st.sampled_from([0.0, 1.0, 2.0, CLOSED])), max_size=40)
PREDICTIONS = st.dictionaries(st.integers(1, 6), st.sampled_from([np.nan, 1.0, CLOSED]))


def in_rounds(keys: Keys, take: Callable[[Any], None]) -> None:
    """Let `take` have places of events: the first of every key, then the second of every key, and so on."""
    left = np.arange(len(keys))
    while len(left):
        first = first_of_each(keys[left])
        take(left[first])
        left = np.delete(left, first)


@given(PREDICTIONS, LABELS, st.booleans(), st.booleans())
def test_labels_at_once_are_labels_one_after_the_other(
    predicted: dict[int, float], events: list[tuple[int, float]], told: bool, refilled: bool
) -> None:
    """Labels that repeat, correct each other, find a prediction, a pair or nothing, here or counted elsewhere."""
    once, rounds = Join(1, 1, 100.0, 1000, 1000), Join(1, 1, 100.0, 1000, 1000)
    n = len(predicted)
    for join in (once, rounds):
        keys, given = np.array([*predicted], np.uint64), np.array([*predicted.values()], np.float64)
        join.predict(keys, np.ones(n), np.zeros(n, np.intp), np.ones((n, 1)), given, refilled=told)
    keys = np.array([key for key, _ in events], np.uint64)
    labels = np.array([label for _, label in events], np.float64)
    times = np.arange(len(events), dtype=np.float64)
    found: list[tuple[float, ...]] = []
    duplicates = 0

    def take(at: Any) -> None:
        nonlocal duplicates
        result = rounds.label(keys[at], times[at], labels[at], refilled=refilled)
        found.extend(zip(*(column.tolist() for column in result.pairs if column.ndim == 1), strict=True))
        duplicates += result.duplicates

    in_rounds(keys, take)
    result = once.label(keys, times, labels, refilled=refilled)
    pairs = list(zip(*(column.tolist() for column in result.pairs if column.ndim == 1), strict=True))
    assert sorted(map(repr, pairs)) == sorted(map(repr, found))
    assert result.duplicates == duplicates
    np.testing.assert_equal(once.state(), rounds.state())
    assert once.waiting_labels == rounds.waiting_labels
    assert once.waiting_predictions.tolist() == rounds.waiting_predictions.tolist()


PARTS = st.lists(
    st.tuples(
        st.integers(1, 4),
        st.dictionaries(st.integers(1, 6), st.sampled_from([0.0, 1.0, 2.0, 3.0]), max_size=3),
        st.sampled_from([2.0, 500.0]),
    ),
    max_size=40,
)


@given(st.sets(st.integers(1, 4)), PARTS, st.integers(1, 40))
def test_feedback_at_once_is_feedback_one_after_the_other(
    shown: set[int], events: list[tuple[int, dict[int, float], float]], batch: int
) -> None:
    """Against a dict for each list: three items, shown ones first, of the highest gains; what comes late is not in."""
    length, ttl = 3, 100.0
    lists = Shown(length, 1, ttl, 1000)
    keys = np.array(sorted(shown), np.uint64)
    table = np.zeros((len(keys), width(length)))
    table[:, :3] = 2.0, 5.0, 6.0
    lists.show(keys, np.ones(len(keys)), np.zeros(len(keys), np.intp), table)
    plain: dict[int, dict[int, float]] = {}
    duplicates = unmatched = 0
    for key, part, when in events:
        if key in shown and when > 1.0 + ttl:
            unmatched += 1
            continue
        before = plain.get(key)
        named = dict(before or {})
        for item, gain in part.items():
            named[item] = max(gain, named.get(item, 0.0))
        seen = {5, 6} if key in shown else set[int]()
        best = sorted(named.items(), key=lambda each: (each[0] not in seen, -each[1], each[0]))
        plain[key] = dict(best[:length])
        duplicates += plain[key] == before
    counts = np.zeros(2, np.intp)
    for start in range(0, len(events), batch):
        some = events[start : start + batch]
        rows = np.zeros((len(some), width(length)))
        for row, (_, part, _) in zip(rows, some, strict=True):
            row[1 + length : 1 + length + len(part)] = [*part]
            row[1 + 2 * length : 1 + 2 * length + len(part)] = [*part.values()]
        heard = lists.hear(
            np.array([key for key, _, _ in some], np.uint64), np.array([when for _, _, when in some]), rows
        )
        counts += heard
    assert counts.tolist() == [duplicates, unmatched]
    state = lists.state()["records"]
    kept = dict(zip(state["keys"].tolist(), state["outputs"].tolist(), strict=True))
    assert kept.keys() == shown | plain.keys()
    for key, row in kept.items():
        named = {int(item): gain for item, gain in zip(row[-2 * length : -length], row[-length:], strict=True) if item}
        assert (row[0] == 1.0, named) == (key in plain, plain.get(key, {}))
    assert lists.waiting_labels == len(plain.keys() - shown)


def ranking(directory: Path) -> Profile:
    path = directory / "lists.ndjson"
    rows = ({"items": ["a", "b", "c"][: 1 + n % 3], "bought": ["a"]} for n in range(300))
    path.write_text("\n".join(map(json.dumps, rows)))
    request = BuildRequest(data=path, task="ranking", label="bought", prediction="items", cutoffs=(1, 20))
    return build(request)[0]


def model_of(task: Any, directory: Path) -> Model:
    if task != "ranking":
        return pipeline.service(task).models[0]
    settings = {"models": [{"name": task, "task": task, "profile": "p.json"}], "compute": {"interval": "1m"}}
    return Service(Config.model_validate(settings), {task: ranking(directory)}, Options()).models[0]


def body(task: str, ids: int, part: str, by: str) -> bytes:
    """Events of so many ids, most of which say something new of theirs."""
    events: list[Event] = []
    for number in range(EVENTS):
        value: Any = [f"i{number % 997}"] if task == "ranking" else number % 997
        event = {"model": task, part: value}
        if by == "series":
            event |= {"series": f"s{number % ids}", "target_ts": 1.79e9}
        else:
            event |= {"id": f"r{number % ids}"}
        if part == "prediction" and task == "forecast":
            event |= {"horizon": "1d"}
        events.append(event)
    return pipeline.ndjson(events)


def cost(task: str, ids: int, by: str, directory: Path) -> Floats:
    """CPU seconds that predictions take, that their labels take, and that labels take which come first."""
    now = time.time()
    taken = []
    for parts in (("prediction", "label"), ("label",)):
        model = model_of(task, directory)
        for part in parts:
            columns = Decoder(model.schemas).decode(body(task, ids, part, by), now).columns[task]
            assert len(columns) == EVENTS
            model.admit(columns.version_names - {None}, now)
            begin = time.process_time()
            model.count(columns, now)
            taken.append(time.process_time() - begin)
    return np.array(taken)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "by"), [("regression", "id"), ("ranking", "id"), ("forecast", "id"), ("forecast", "series")]
)
def test_repeats_of_an_id_cost_what_as_many_ids_do(task: str, by: str, tmp_path: Path) -> None:
    distinct = cost(task, EVENTS, by, tmp_path)
    for ids in (1, 10):
        tries = ((cost(task, ids, by, tmp_path) < 5 * distinct).all() for _ in range(3))
        assert any(tries), ids  # these are hundredths of a second: a busy machine may disturb one
