"""Spark counts into a real exporter what one exporter counts of the same events, through kills of whoever takes part.

`make spark` runs this in an environment of its own: it needs Java.
"""

import os
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest

from mlops_exporter import spark
from mlops_exporter.ledgers import LedgerCounter, LedgersNotSentError, send_ledgers
from mlops_exporter.profile.profile import Task, save
from mlops_exporter.profiling import build as profiling
from mlops_exporter.profiling.build import BuildRequest, build
from mlops_exporter.profiling.errors import BuildError
from mlops_exporter.profiling.hours import Timing
from mlops_exporter.tables import table as tables
from tests.support import kinds
from tests.support import spark as support
from tests.support.exporter import Exporter, running_exporter
from tests.support.pages import Shell, blocks

pytestmark = [pytest.mark.spark, pytest.mark.timeout(1800)]

PAGE = Path(__file__).parents[2] / "docs" / "spark.md"
KILLS = int(os.environ.get("KILLS", "4"))
LABELLED = {**support.COLUMNS, "label": "truth"}


@pytest.fixture(scope="module")
def session() -> Iterator[Any]:
    made = support.session("local[2, 4]")
    yield made
    made.stop()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return support.write_configuration(tmp_path)


def test_a_batch_counts_what_one_exporter_counts(session: Any, config: Path, tmp_path: Path) -> None:
    table = support.rows(40_000, time.time() - 3600, 3500)
    place = support.write(table, tmp_path / "predictions")
    with running_exporter(tmp_path) as exporter:
        support.post_events(exporter.url, support.events(table.drop(["id"]), config, without_id(LABELLED)))
        frame = session.read.parquet(str(place))
        how: dict[str, Any] = {"to": exporter.url, "config": config, "model": support.MODEL, "columns": LABELLED}
        sent = spark.batch(frame, epoch="1", **how)
        assert (sent.counted, sent.refused, sent.repeated) == (40_000, {}, 0)
        assert support.assert_equal(exporter.url) > 100_000
        # However the rows are cut when they are counted again, nothing is added.
        again = spark.batch(frame.repartition(7), epoch="1", **how)
        assert (again.ledgers, again.repeated) == (0, sent.ledgers)
        assert support.assert_equal(exporter.url)


def test_tasks_that_fail_and_run_again_count_once(session: Any, config: Path, tmp_path: Path) -> None:
    """Each Python worker is killed at its first attempt, once it has handed rows on to the one that counts."""
    table = support.rows(20_000, time.time() - 1800, 1700)
    place = support.write(table, tmp_path / "predictions")
    marks = tmp_path / "marks"
    marks.mkdir()

    def dies_once(batches: Iterator[Any]) -> Iterator[Any]:
        from pyspark import TaskContext

        context = TaskContext.get()
        assert context is not None
        for batch in batches:
            yield batch
            if context.attemptNumber() == 0:
                (marks / f"{context.partitionId()}").touch()
                os.kill(os.getpid(), 9)

    with running_exporter(tmp_path) as exporter:
        support.post_events(exporter.url, support.events(table.drop(["id"]), config, without_id(LABELLED)))
        frame = session.read.parquet(str(place))
        frame = frame.mapInArrow(dies_once, frame.schema)
        columns = LABELLED
        sent = spark.batch(frame, to=exporter.url, config=config, model=support.MODEL, columns=columns, epoch="1")
        assert len(list(marks.iterdir())) >= support.FILES
        assert sent.counted == 20_000
        assert support.assert_equal(exporter.url)


def test_what_is_wrong_is_told_by_name(session: Any, config: Path, tmp_path: Path) -> None:
    table = support.rows(1000, time.time() - 900, 1800)  # half of it is ahead of the clock
    place = support.write(table, tmp_path / "predictions")
    frame = session.read.parquet(str(place))
    how: dict[str, Any] = {"config": config, "model": support.MODEL, "epoch": "1"}
    with pytest.raises(ValueError, match=r"no column scored in the frame; there are num_00"):
        spark.batch(frame, to="http://127.0.0.1:9", columns={"score": "scored"}, **how)
    with pytest.raises(LedgersNotSentError, match=r"tried for 0\.2 s"):
        spark.batch(frame, to="http://127.0.0.1:9", columns=LABELLED, wait_seconds=0.2, **how)
    with pytest.raises(ValueError, match="label_columns: name the columns of id, ts too"):
        spark.stream(
            frame,
            frame,
            to="http://127.0.0.1:9",
            config=config,
            model=support.MODEL,
            checkpoint=str(tmp_path / "checkpoint"),
            columns=support.COLUMNS,
            label_columns={"label": "truth"},
        )
    with pytest.raises(ValueError, match="label_columns: outcomes cannot come later here"):
        spark.stream(
            frame, frame, to="http://127.0.0.1:9", config=config, model=support.MODEL, checkpoint=str(tmp_path / "c"),
            columns=support.COLUMNS, label_columns={**support.LABELS, "outcomes": {"rating": "score"}},
        )  # fmt: skip
    with running_exporter(tmp_path) as exporter:
        sent = spark.batch(frame, to=exporter.url, columns=LABELLED, **how)
        assert sent.counted + sum(sent.refused.values()) == 1000
        assert sent.refused.keys() == {"bad_timestamp", "future_timestamp"}
        assert 300 < sent.counted < 700
        with pytest.raises(LedgersNotSentError, match="the pane is not as wide as one of the model's windows"):
            spark.batch(frame, to=exporter.url, columns=LABELLED, width=7.0, **{**how, "epoch": "2"})


@pytest.mark.parametrize("distinct", [False, True], ids=["once", "some twice"])
def test_a_stream_joins_late_labels_as_one_exporter_does(
    session: Any, config: Path, tmp_path: Path, distinct: bool
) -> None:
    start = time.time() - 3000
    table = support.rows(12_000, start, 2300)
    labels = support.labels_of(table)
    if distinct:  # what was in the first file is in the last one, too
        table, labels = (pa.concat_tables([each, each.slice(0, 2000)]) for each in (table, labels))
    predictions = support.write(table.drop(["truth", "late"]), tmp_path / "predictions")
    known = support.write(labels, tmp_path / "labels")
    with running_exporter(tmp_path) as exporter:
        support.post_events(exporter.url, support.events(table, config, support.COLUMNS))
        support.post_events(exporter.url, support.events(labels, config, support.LABELS))
        reader = session.readStream.option("maxFilesPerTrigger", 1)
        frames = [
            reader.schema(session.read.parquet(str(place)).schema).parquet(str(place)) for place in (predictions, known)
        ]
        how: dict[str, Any] = {
            "to": exporter.url,
            "config": config,
            "model": support.MODEL,
            "checkpoint": str(tmp_path / "checkpoint"),
            "columns": support.COLUMNS,
            "label_columns": support.LABELS,
            "trigger": {"availableNow": True},
            "distinct": distinct,
        }
        query = spark.stream(*frames, **how)
        query.awaitTermination()
        assert query.lastProgress["batchId"] >= support.FILES - 1
        assert support.assert_equal(exporter.url) > 100_000


@pytest.mark.parametrize("task", ["multilabel", "forecast", "regression", "ranking"])
def test_rows_of_every_kind_of_model(session: Any, task: Task, tmp_path: Path) -> None:
    """tests/unit/test_ledger_kinds.py holds what one process counts of them against an exporter's events."""
    of = kinds.kind(task, 3000, time.time() - 3000, 2900)
    path = kinds.write_configuration(tmp_path, of, support.MODEL, support.ONE)
    frame = session.read.parquet(str(support.write(of.table, tmp_path / "rows")))
    with running_exporter(tmp_path) as exporter:
        how: dict[str, Any] = {"to": exporter.url, "config": path, "columns": of.columns, "epoch": "1"}
        sent = spark.batch(frame, model=support.MODEL, **how)
        assert (sent.counted, sent.refused) == (3000, {})
        counter = LedgerCounter(path, support.ONE, columns=of.columns)
        counter.add(of.table)
        send_ledgers(exporter.url, counter.ledgers("one", "1"))
        found = support.shares(exporter.url)
    ours, theirs = (np.frombuffer(found[m].versions["default"].lifetime) for m in (support.MODEL, support.ONE))
    counts = theirs == np.floor(theirs)
    assert (ours[counts] == theirs[counts]).mean() > 0.999  # a sum of fractions may be whole by chance
    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-6)  # these are added up in another order
    if task == "ranking":
        with pytest.raises(ValueError, match="has the task ranking, whose feedback comes in parts"):
            spark.stream(
                frame, frame, model=support.MODEL, to="http://127.0.0.1:9", config=path, checkpoint=str(tmp_path / "c"),
                columns={"id": "id", "ts": "at", "prediction": "said"},
                label_columns={"id": "id", "ts": "at", "label": "truth"},
            )  # fmt: skip


def without_id(columns: dict[str, str]) -> dict[str, str]:
    return {name: column for name, column in columns.items() if name != "id"}


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_a_profile_is_that_of_one_process_to_the_last_digit(
    session: Any, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "PART_ROWS", 5000)  # in the driver, which decides what tasks get
    monkeypatch.setattr(profiling, "NEIGHBOURS", 2)
    monkeypatch.setattr(spark, "NEIGHBOURS", 2)
    table = support.rows(60_000, time.time() - 4 * 86400, 3.9 * 86400)
    if kind == "parquet":
        support.write(table, tmp_path / "rows", 7)
    else:
        (tmp_path / "rows").mkdir()
        for number in range(3):
            pyarrow.csv.write_csv(table.slice(number * 20_000, 20_000), tmp_path / "rows" / f"{number}.csv")
    request = BuildRequest(
        data=tmp_path / "rows",
        task="binary",
        label="truth",
        scores={"positive": "score"},
        positive="1",
        exclude=("late",),
        groups=("cat_0",),
        timing=Timing("ts", "hour", "UTC"),
    )
    here, notes = build(request)
    there, notes_there = spark.build_profile(request)
    assert notes_there == notes
    there.provenance.created = here.provenance.created
    save(here, tmp_path / "here.json")
    save(there, tmp_path / "there.json")
    assert (tmp_path / "there.json").read_bytes() == (tmp_path / "here.json").read_bytes()
    with pytest.raises(BuildError, match="has no column 'trut'; did you mean 'truth'"):
        spark.build_profile(replace(request, label="trut"))
    with pytest.raises(BuildError, match=r"probabilities lie between 0 and 1.*row 1 has"):
        spark.build_profile(replace(request, scores={"positive": "late"}, exclude=()))


def test_the_page_does_what_it_says(session: Any, config: Path, tmp_path: Path) -> None:
    table = support.rows(2000, time.time() - 5 * 3600, 3000)
    labels = support.labels_of(table).rename_columns(["id", "known_at", "paid"])
    names = {"ts": "at", "version": "model_version", "score": "p", "truth": "paid"}
    table = table.rename_columns([names.get(name, name) for name in table.column_names]).drop(["late"])
    places = {
        name: support.write(rows, tmp_path / name, 2)
        for name, rows in (("rows", table.drop(["id"])), ("predictions", table.drop(["paid"])), ("labels", labels))
    }
    streams = {
        name: session.readStream.schema(session.read.parquet(str(places[name])).schema).parquet(str(places[name]))
        for name in ("predictions", "labels")
    }
    world: dict[str, Any] = dict(streams)
    with running_exporter(tmp_path) as exporter:
        here = {
            "http://exporter:10042": exporter.url,
            '"mlops-exporter.yml"': repr(str(config)),
            "s3a://predictions/day=2026-11-28": str(places["rows"]),
            "s3a://reference/": str(places["rows"]),
            "s3a://state/credit": str(tmp_path / "checkpoint"),
            '{"processingTime": "30 seconds"}': '{"availableNow": True}',
            "spark://master:7077": "local[2]",
        }
        for code in blocks(PAGE.read_text(), "python"):
            exec(_replaced(code, here), world)
        assert world["sent"].counted == 2000
        counted = support.shares(exporter.url)[support.MODEL].versions
        assert sum(np.frombuffer(version.lifetime)[0] for version in counted.values()) == 4000
    (command,) = (each for each in blocks(PAGE.read_text(), "sh") if "--engine spark" in each)
    said = Shell(tmp_path, PYSPARK_PYTHON=sys.executable).run(_replaced(command, here))
    assert "credit.json: 2000 rows" in said


def _replaced(text: str, places: dict[str, str]) -> str:
    for there, place in places.items():
        text = text.replace(there, place)
    return text


@pytest.mark.parametrize("kind", ["batch", "stream"])
def test_killed_drivers_double_and_lose_nothing(kind: str, tmp_path: Path) -> None:
    rng = random.Random(5)
    support.write_configuration(tmp_path)
    began = time.monotonic()
    kills = amid = done = 0
    with running_exporter(tmp_path) as exporter:
        place = _work(kind, tmp_path / "0", exporter)
        while True:
            job = support.Job(kind, place, exporter.url, "local[2]")
            before = sent(exporter)
            if kills == KILLS:
                status = job.wait(1500)
            elif kills % 2:  # at any time
                status = job.wait_for("begun") or job.wait(rng.uniform(0.0, 8.0))
            else:  # amid sending
                while (status := job.wait(0.05)) is None and sent(exporter) == before:
                    pass
            if status is None:
                assert kills < KILLS, f"it does not end: {job.log[-4000:]}"
                job.kill()
                kills += 1
                amid += sent(exporter) > before
                continue
            assert status == 0, job.log[-4000:]
            done += 1
            if kills == KILLS:
                break
            place = _work(kind, tmp_path / str(done), exporter)  # it was done before it was killed often enough
        cells = support.assert_equal(exporter.url)
    print(
        f"{kind}: {kills} drivers killed, {amid} of them after they had sent something, over {done} tables; "
        f"{cells:,} cells equal, {time.monotonic() - began:.0f} s"
    )


def _work(kind: str, place: Path, exporter: Exporter) -> Path:
    """Write what a driver is to count, and send the same as events; returns where it is."""
    place.mkdir()
    config = support.write_configuration(place)
    seed = int(place.name)
    if kind == "batch":  # in thousands of panes: it takes many requests to send them
        table = support.rows(20_000, time.time() - 40_100, 40_000, seed)
        support.write(table, place / "predictions")
        bodies = support.events(table.drop(["id"]), config, without_id(LABELLED))
    else:
        table = support.rows(20_000, time.time() - 3000, 2300, seed)
        labels = support.labels_of(table)
        support.write(table.drop(["truth", "late"]), place / "predictions", 8)
        support.write(labels, place / "labels", 8)
        bodies = [*support.events(table, config, support.COLUMNS), *support.events(labels, config, support.LABELS)]
    support.post_events(exporter.url, bodies)
    return place


def sent(exporter: Exporter) -> float:
    """How many ledgers an exporter has taken."""
    return exporter.value("ml_exporter_ledgers_total") or 0.0


def test_killed_executors_double_and_lose_nothing(config: Path, tmp_path: Path) -> None:
    rng = random.Random(7)
    table = support.rows(200_000, time.time() - 3000, 2300)
    support.write(table, tmp_path / "predictions", 16)
    with running_exporter(tmp_path) as exporter:
        support.post_events(exporter.url, support.events(table.drop(["id"]), config, without_id(LABELLED)))
        job = support.Job("batch", tmp_path, exporter.url, "local-cluster[2,1,800]")
        kills = 0
        deadline = time.monotonic() + 1500
        assert job.wait_for("begun") is None, job.log[-4000:]
        while (status := job.wait(rng.uniform(2.0, 6.0))) is None and time.monotonic() < deadline:
            executors = job.executors()
            if kills < KILLS and executors:
                rng.choice(executors).kill()
                kills += 1
        assert status == 0, job.log[-4000:]
        assert kills == KILLS
        cells = support.assert_equal(exporter.url)
        print(f"{kills} executors killed, {cells:,} cells equal")
