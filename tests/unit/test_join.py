"""The join against a plain reading of its rules, event by event."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_exporter.counting.join import CLOSED, Join, Pairs, Transfer
from mlops_exporter.counting.keys import KeyTable, hash_ids
from mlops_exporter.ingest.trees import pack, unpack


def make(limit: int = 1000, remembered: int = 1000, time_to_live: float = 100.0) -> Join:
    return Join(2, 3, time_to_live, limit, remembered)


@dataclass
class Plain:
    """What the join must do, with a dict."""

    records: dict[int, tuple[str, float, float, float]] = field(default_factory=dict)  # state, predicted, time, label
    pairs: list[tuple[float, float, float]] = field(default_factory=list)  # output, label, corrected label
    duplicate_labels: int = 0
    duplicate_predictions: int = 0

    def predict(self, key: int, time: float, output: float, label: float | None) -> None:
        state, _, _, old = self.records.get(key, ("absent", 0.0, 0.0, 0.0))
        if state == "absent":
            self.records[key] = ("paired" if label is not None else "predicted", output, time, label or 0.0)
        elif state == "labelled":
            self.records[key] = ("paired", output, time, old)
            self.pairs.append((output, old, np.nan))
        else:
            self.duplicate_predictions += 1

    def label(self, key: int, label: float) -> None:
        state, output, time, old = self.records.get(key, ("absent", 0.0, 0.0, 0.0))
        if state == "absent":
            self.records[key] = ("labelled", 0.0, 0.0, label)
        elif state == "predicted":
            self.records[key] = ("paired", output, time, label)
            self.pairs.append((output, label, np.nan))
        elif old == label:
            self.duplicate_labels += 1
        else:
            self.records[key] = (state, output, time, label)
            if state == "paired":
                self.pairs.append((output, label, old))


def rows(pairs: Pairs) -> list[tuple[float, float, float]]:
    return list(zip(pairs.outputs[:, 0].tolist(), pairs.labels.tolist(), pairs.old_labels.tolist(), strict=True))


EVENTS = st.lists(
    st.tuples(st.sampled_from("pl"), st.integers(1, 12), st.integers(0, 2), st.booleans()), min_size=1, max_size=60
)


@pytest.mark.slow
@given(EVENTS, st.integers(1, 20))
def test_equals_the_plain_reading_for_any_order_and_any_batching(
    events: list[tuple[str, int, int, bool]], batch: int
) -> None:
    join, plain = make(), Plain()
    found: list[tuple[float, float, float]] = []
    duplicate_labels = duplicate_predictions = 0
    for start in range(0, len(events), batch):
        part = events[start : start + batch]
        predictions = [(key, float(number), with_label) for kind, key, number, with_label in part if kind == "p"]
        labels = [(key, float(number)) for kind, key, number, _ in part if kind == "l"]
        # Within a batch predictions come first, as in Model.count.
        for key, number, with_label in predictions:
            plain.predict(key, 1.0, number, number if with_label else None)
        for key, number in labels:
            plain.label(key, number)
        n = len(predictions)
        result = join.predict(
            np.array([key for key, _, _ in predictions], np.uint64),
            np.ones(n),
            np.zeros(n, np.intp),
            np.array([[number, 0.0] for _, number, _ in predictions]).reshape(n, 2),
            np.array([number if with_label else np.nan for _, number, with_label in predictions], np.float64),
        )
        duplicate_predictions += int((~result.fresh).sum())
        found += rows(result.pairs)
        joined = join.label(
            np.array([key for key, _ in labels], np.uint64),
            np.full(len(labels), 2.0),
            np.array([number for _, number in labels], np.float64),
        )
        duplicate_labels += joined.duplicates
        found += rows(joined.pairs)
    assert sorted(map(repr, found)) == sorted(map(repr, plain.pairs))
    assert (duplicate_labels, duplicate_predictions) == (plain.duplicate_labels, plain.duplicate_predictions)
    states = [record[0] for record in plain.records.values()]
    assert join.waiting_predictions.tolist() == [states.count("predicted"), 0, 0]
    assert join.waiting_labels == states.count("labelled")


def predict(join: Join, keys: list[int], time: float = 1.0, version: int = 0) -> None:
    n = len(keys)
    nothing = np.full(n, np.nan)
    join.predict(np.array(keys, np.uint64), np.full(n, time), np.full(n, version), np.zeros((n, 2)), nothing)


def label(join: Join, keys: list[int], value: float = 1.0, time: float = 2.0) -> Pairs:
    n = len(keys)
    return join.label(np.array(keys, np.uint64), np.full(n, time), np.full(n, value)).pairs


def test_predictions_expire_by_version_and_labels_as_unmatched() -> None:
    join = make(time_to_live=10.0)
    predict(join, [1, 2], time=0.0, version=1)
    predict(join, [3], time=5.0, version=2)
    label(join, [9], time=1.0)
    assert join.expire(10.0).versions.tolist() == []
    given_up = join.expire(14.0)
    assert (given_up.versions.tolist(), given_up.labels) == ([1, 1], 0)  # the later prediction is in front of the label
    given_up = join.expire(20.0)
    assert (given_up.versions.tolist(), given_up.labels) == ([2], 1)
    assert join.waiting_predictions.tolist() == [0, 0, 0]
    assert len(label(join, [1]).labels) == 0  # given up is forgotten: the label now waits


def test_the_oldest_give_way_beyond_the_limit_and_pairs_are_forgotten_beyond_theirs() -> None:
    join = make(limit=3, remembered=2)
    n = 5
    result = join.predict(
        np.arange(1, n + 1, dtype=np.uint64), np.arange(n, dtype=np.float64), np.zeros(n, np.intp),
        np.zeros((n, 2)), np.full(n, np.nan),
    )  # fmt: skip
    assert len(result.given_up.versions) == 2
    assert join.waiting_predictions.sum() == 3
    assert len(label(join, [3, 4, 5]).labels) == 3
    again = join.label(np.array([4, 5], np.uint64), np.zeros(2), np.ones(2))
    assert again.duplicates == 2
    label(join, [3])  # forgotten: waits as a label without prediction
    assert join.waiting_labels == 1


def test_a_failed_prediction_expects_no_label() -> None:
    join = make()
    join.predict(np.array([7], np.uint64), np.zeros(1), np.zeros(1, np.intp), np.zeros((1, 2)), np.array([CLOSED]))
    result = join.label(np.array([7], np.uint64), np.ones(1), np.ones(1))
    assert len(result.pairs.labels) == 0
    assert result.duplicates == 1


@pytest.mark.slow
def test_rows_are_used_again_and_stale_queue_entries_do_no_harm() -> None:
    join = make(limit=100, remembered=10, time_to_live=50.0)
    for step in range(3000):
        keys = [step * 10 + i + 1 for i in range(10)]
        predict(join, keys, time=float(step))
        label(join, keys[:9], time=float(step))
        join.expire(float(step))
    assert len(join._records.keys) < 3000
    assert join.waiting_predictions[0] == 51  # one of each step's ten, for the time to live
    assert len(join._waiting) < 70_000


@pytest.mark.slow
@given(EVENTS)
def test_a_restored_join_goes_on_as_the_original(events: list[tuple[str, int, int, bool]]) -> None:
    original = make()
    for kind, key, number, _ in events:
        if kind == "p":
            predict(original, [key], time=float(number))
        else:
            label(original, [key], value=float(number))
    restored = make()
    restored.restore(unpack(pack(original.state())), Transfer(dict.fromkeys(range(3), range(2))))
    assert restored.waiting_predictions.tolist() == original.waiting_predictions.tolist()
    for key in range(1, 13):
        theirs, ours = label(original, [key], value=5.0), label(restored, [key], value=5.0)
        assert repr(rows(theirs)) == repr(rows(ours))
    assert restored.expire(1000.0).labels == original.expire(1000.0).labels


@pytest.mark.slow
@given(st.lists(st.tuples(st.booleans(), st.sets(st.integers(1, 500), max_size=80)), max_size=30))
def test_key_table_equals_a_dict(steps: list[tuple[bool, set[int]]]) -> None:
    table, plain = KeyTable(), dict[int, int]()
    everything = np.arange(1, 501, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    for number, (insert, members) in enumerate(steps):
        chosen = [m for m in sorted(members) if (m in plain) != insert]
        keys = everything[[m - 1 for m in chosen]]
        if insert:
            table.insert(keys, np.full(len(keys), number, np.int32))
            plain.update(dict.fromkeys(chosen, number))
        else:
            table.remove(keys)
            for member in chosen:
                del plain[member]
        assert table.find(everything).tolist() == [plain.get(m, -1) for m in range(1, 501)]
        assert len(table) == len(plain)


def test_key_table_takes_keys_that_all_want_the_same_buckets() -> None:
    keys = np.arange(1, 15, dtype=np.uint64) << np.uint64(40)  # all first choices and most second ones are bucket 0
    table = KeyTable()
    table.insert(keys, np.arange(14, dtype=np.int32))
    assert table.find(keys).tolist() == list(range(14))


def test_ids_hash_alike_in_every_process_and_differ_by_seed() -> None:
    assert hash_ids(["a", "é"], 5).tolist() == hash_ids(["a", "é"], 5).tolist()
    assert hash_ids(["a"], 5)[0] != hash_ids(["a"], 6)[0]
    assert hash_ids([], 1).shape == (0,)


@pytest.mark.parametrize("count", [100_000])
def test_keys_of_many_ids_differ(count: int) -> None:
    assert len(np.unique(hash_ids([f"id-{number}" for number in range(count)], 3))) == count
