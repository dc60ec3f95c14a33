"""A profile from parts of a table is that from the whole table; late labels in ledgers are those of one exporter."""

import pickle
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from mlops_exporter.counting.model import Model
from mlops_exporter.counting.producer import Producer
from mlops_exporter.events.decoder import Decoder
from mlops_exporter.profile.hours import HourlyReference, HourlyVectors
from mlops_exporter.profile.profile import Task
from mlops_exporter.profiling import build as profiling
from mlops_exporter.profiling.build import BuildRequest, Counting, Surveyed, build, sha256_of, summed, survey_of
from mlops_exporter.profiling.hours import Timing
from mlops_exporter.profiling.survey import keys_of
from mlops_exporter.settings.models import Limits
from mlops_exporter.tables import table as tables
from mlops_exporter.tables.table import Table
from tests.support import pipeline, workload
from tests.support.alike import assert_alike

ROWS = 700
T = TypeVar("T")


class Apart:
    """Both passes part by part, as tasks would do it that know nothing of each other: what they get is sent to them."""

    def __init__(self, table: Table) -> None:
        self.table = table
        rows = [sum(batch.num_rows for batch in Table([file], reading=table.reading).batches()) for file in table.files]
        self.parts = table.parts_of(rows)
        ends = [0, *np.cumsum(rows).tolist()]
        self._starts = [ends[table.files.index(part.files[0])] for part in self.parts]

    def survey(self, request: BuildRequest, named: set[str]) -> Surveyed:
        return summed(
            (
                sent(survey_of(request, part.blocks(), named, typed=self.table.typed, start=start))
                for part, start in zip(self.parts, self._starts, strict=True)
            ),
            Surveyed.plus,
        )

    def count(self, counting: Counting) -> Counting:
        return summed(self._counted(counting), Counting.plus)

    def _counted(self, counting: Counting) -> Iterator[Counting]:
        for part, start in zip(self.parts, self._starts, strict=True):
            mine = sent(counting)
            for block in part.blocks():
                mine.add(block, start)
                start += block.num_rows
            yield sent(mine)

    def digest(self) -> str:
        return sha256_of(self.table.files, [file.digest() for file in self.table.files])


def sent(found: T) -> T:
    copy: T = pickle.loads(pickle.dumps(found))
    return copy


def table_of(task: Task) -> Any:
    """Rows whose columns are of all kinds: with gaps, codes, ids, too many categories, vectors, an order."""
    rng = np.random.default_rng(3)
    table = pa.Table.from_pylist(pipeline.reference_rows(task, ROWS))
    texts = np.array([f"t{number}" for number in rng.zipf(1.3, ROWS).clip(max=400)])
    columns = {
        "shop": pa.array(texts),
        "zip": pa.array([f"{number:05d}" for number in rng.integers(0, 99, ROWS)]),
        "row": pa.array(np.arange(ROWS)),
        "meaning": pa.array(rng.normal(size=(ROWS, 3)).astype(np.float32).tolist(), pa.list_(pa.float32())),
        "sometimes": pa.array(["none" if n < 500 else str(n % 7) for n in range(ROWS)]),
        "at": pa.array(np.arange(ROWS) // 8 * 86_400 + np.arange(ROWS) % 8 * 3600),
    }
    for name, column in columns.items():
        table = table.append_column(name, column)
    return table


def request_of(task: Task, place: Path) -> BuildRequest:
    scores = {name: f"p_{name}" for name in pipeline.CLASSES[task]}
    return BuildRequest(
        data=place,
        task=task,
        label="y",
        prediction="p" if task == "regression" else None,
        scores={"positive": "p_yes"} if task == "binary" else {} if task == "regression" else scores,
        positive="yes" if task == "binary" else None,
        separator="|",
        groups=("country",),
        timing=Timing("at", "hour", "UTC"),
    )


@pytest.mark.parametrize("task", ["binary", "regression", "multilabel"])
@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_a_profile_from_parts_is_that_of_the_table(
    task: Task, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = table_of(task)
    if kind == "csv":
        table = table.drop(["meaning"])
    ends = [0, 300, 301, 520, 600, 620, 660, ROWS]
    for number, (start, stop) in enumerate(pairwise(ends)):
        part = table.slice(start, stop - start)
        if kind == "csv":
            pyarrow.csv.write_csv(part, tmp_path / f"{number}.csv")
        else:
            pq.write_table(part, tmp_path / f"{number}.parquet")
    request = request_of(task, tmp_path)
    whole, notes = build(request)
    assert len(notes) > 2
    monkeypatch.setattr(tables, "PART_ROWS", 90)
    monkeypatch.setattr(profiling, "NEIGHBOURS", 2)
    here, notes_here = build(request)
    apart = Apart(Table.at(request.places, reading=request.reading_of_named))
    assert [len(part.files) for part in apart.parts] == [1, 2, 2, 2]
    there, notes_there = build(request, passes=apart)
    assert notes == notes_here == notes_there
    there.provenance.created = here.provenance.created
    assert msgspec.to_builtins(there) == msgspec.to_builtins(here)  # to the last digit
    assert whole.features.keys() >= {"amount", "shop", "zip"}
    assert isinstance(whole.hours, HourlyReference)
    assert isinstance(whole.hours.vectors, HourlyVectors)
    assert min(whole.hours.vectors.rows[:8]) > 80
    assert_alike(msgspec.to_builtins(here), msgspec.to_builtins(whole), "profile")


def test_keys_go_by_the_number_of_the_row_alone() -> None:
    keys = keys_of(1000, 0)
    assert (np.concatenate([keys_of(300, 0), keys_of(700, 300)]) == keys).all()
    assert (keys == np.random.default_rng(1).random(1000)).all()
    assert not (keys_of(1000, 0, 2) == keys).any()


def test_late_labels_in_ledgers_are_those_of_one_exporter() -> None:
    now = time.time()
    whole = [msgspec.json.decode(line) for line in workload.events(400, now - 300)]
    predictions = [{name: value for name, value in event.items() if name != "label"} for event in whole]
    labels = [
        {"model": "credit", "id": event["id"], "label": event["label"], "ts": event["ts"] + number % 200}
        for number, event in enumerate(whole)
    ]
    one, producer = workload.model(), Producer(workload.settings(), workload.profile(), Limits())
    decoder = Decoder(one.schemas)
    both = [decoder.decode(pipeline.ndjson(events), now).parts["credit"] for events in (predictions, labels)]
    for parts in both:
        for columns in parts:
            one.admit(columns.version_names - {None}, now)
            one.count(columns, now)
    mine = Decoder(producer.schemas)

    def decoded(events: list[Any]) -> Any:
        return mine.decode(pipeline.ndjson(events), now).parts["credit"]

    for columns in decoded(predictions):
        assert not producer.take(columns, now)
    ahead = {**labels[7], "ts": now + 100}
    refused = producer.take_late(decoded(predictions[:250]), decoded([*labels[:7], ahead, *labels[8:250]]), now)
    assert refused == {"bad_timestamp": 1}
    refused = producer.take_late(
        decoded([predictions[7], *predictions[250:]]), decoded([labels[7], *labels[250:]]), now
    )
    assert not refused
    assert producer.take_late([], decoded([{**labels[0], "id": "nobody"}]), now) == {"label_alone": 1}
    merged = Model(workload.settings(), workload.profile(), Limits())
    for ledger in producer.ledgers("p", "1"):
        merged.admit({ledger.version}, now)
        merged.add(ledger, now)
    np.testing.assert_allclose(merged.versions["3"].lifetime, one.versions["3"].lifetime, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(merged.versions["3"].totals(now), one.versions["3"].totals(now), rtol=1e-9, atol=1e-9)
    assert merged.versions["3"].last_label == one.versions["3"].last_label
    producer.clear()
    assert producer.panes == 0
