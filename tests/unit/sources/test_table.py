"""Files of rows: each taken up once, from where a kill has left it, and rewritten ones told."""

import asyncio
import json
import os
import random
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlops_exporter.events.schema import Schema
from mlops_exporter.profile.bins import NumericVariable
from mlops_exporter.profile.profiles import Profiles
from mlops_exporter.sources import table as table_source
from mlops_exporter.sources.base import Health, Origins
from mlops_exporter.tables.errors import TableError
from mlops_exporter.tables.files import find
from tests.sink import RecordingSink
from tests.support.tables import COLUMNS, DECODER, PROFILE, ids, source, told


def rows(start: int, stop: int) -> dict[str, Any]:
    count = stop - start
    return {
        "request": [f"r{number}" for number in range(start, stop)],
        "scored_at": pa.array([1_790_000_000_000_000 + n for n in range(count)], pa.timestamp("us")),
        "release": pa.array([3] * count, pa.int32()),
        "p": np.linspace(0, 1, count),
        "amount": pa.array([None if n % 7 == 0 else 1.5 * n for n in range(count)], pa.float64()),
        "country": ["DE"] * count,
    }


def write(path: Path, start: int, stop: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(rows(start, stop)), path, row_group_size=90)
    return path


def expected(count: int) -> list[str]:
    return [f"r{number}" for number in range(count)]


def test_rows_are_events_of_the_columns_that_are_named(tmp_path: Path) -> None:
    sink = RecordingSink()
    asyncio.run(told(source(write(tmp_path / "a.parquet", 0, 10)), sink, 10))
    columns = DECODER.decode(sink.bodies[0], time.time()).columns["credit"]
    assert columns.ids == expected(10)
    assert columns.versions == ["3"] * 10
    assert columns.times[0] == 1_790_000_000.0
    numeric, _, _ = columns.features.encoded(Schema("credit", PROFILE))
    amount = [name for name, v in PROFILE.features.items() if isinstance(v, NumericVariable)].index("amount")
    assert np.isnan(numeric[amount, 0])
    assert numeric[amount, 1] == 1.5


@pytest.mark.parametrize("suffix", ["csv", "ndjson"])
def test_texts_of_files_mean_what_the_profile_says(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"t.{suffix}"
    path.write_text(
        "request,scored_at,p,release,amount,country\n1,2026-11-01T12:00:00Z,0.5,3,,DE\n2,2026-11-01T12:00:00Z,0.25,3,oops,FR\n"
        if suffix == "csv"
        else '{"request":1,"scored_at":"2026-11-01T12:00:00Z","p":0.5,"release":3,"amount":null,"country":"DE"}\n'
        '{"request":2,"scored_at":"2026-11-01T12:00:00Z","p":0.25,"release":3,"amount":"oops","country":"FR"}\n'
    )
    sink = RecordingSink()
    asyncio.run(told(source(path), sink, 2))
    columns = DECODER.decode(sink.bodies[0], time.time()).columns["credit"]
    assert [str(each) for each in columns.ids] == ["1", "2"]
    numeric, _, _ = columns.features.encoded(Schema("credit", PROFILE))
    amount = [name for name, v in PROFILE.features.items() if isinstance(v, NumericVariable)].index("amount")
    assert np.isnan(numeric[amount, 0])
    assert np.isinf(numeric[amount, 1])


@pytest.mark.slow
def test_new_files_and_partitions_are_taken_up_once(tmp_path: Path) -> None:
    sink = RecordingSink()
    write(tmp_path / "day=1" / "a.parquet", 0, 100)
    asyncio.run(told(source(tmp_path), sink, 100))
    write(tmp_path / "day=2" / "a.parquet", 100, 150)
    asyncio.run(told(source(tmp_path), sink, 150))
    asyncio.run(told(source(tmp_path), sink, 150))
    assert ids(sink) == expected(150)


class KilledError(Exception):
    """The exporter is gone."""


class DyingSink(RecordingSink):
    """Dies now and then, having kept a body and its position, or neither of them."""

    def __init__(self, chances: Iterator[float]) -> None:
        super().__init__()
        self.chances = chances
        self.kills = 0

    async def submit(
        self, source: str, body: bytes, arrived: float, position: bytes | None = None, *, origins: Origins = ()
    ) -> Any:
        chance = next(self.chances)
        if chance < 0.3:
            self.kills += 1
            raise KilledError
        result = await super().submit(source, body, arrived, position, origins=origins)
        if chance < 0.6:
            self.kills += 1
            raise KilledError
        return result


@pytest.mark.slow
def test_every_row_counts_once_over_kills_in_the_middle_of_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_source, "BODY_ROWS", 11)
    chance = random.Random(3)
    sink = DyingSink(iter(chance.random, None))
    for number in range(4):
        write(tmp_path / f"{number}.parquet", 250 * number, 250 * (number + 1))

    async def lives() -> None:
        while len(ids(sink)) < 1000:
            task = asyncio.create_task(source(tmp_path).run(sink))
            await asyncio.wait({task}, timeout=0.2 if len(ids(sink)) < 1000 else 0.01)
            task.cancel()
            await asyncio.wait({task})

    asyncio.run(lives())
    assert sink.kills >= 50
    assert ids(sink) == expected(1000)


@pytest.mark.slow
@pytest.mark.parametrize(("policy", "count"), [("tell", 20), ("again", 45)])
def test_a_rewritten_file_is_told_or_read_again(
    policy: str, count: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sink = RecordingSink()
    path = write(tmp_path / "a.parquet", 0, 20)
    asyncio.run(told(source(path, rewritten=policy), sink, 20))
    write(path, 0, 25)
    again = source(path, rewritten=policy)
    with caplog.at_level("INFO"):
        asyncio.run(told(again, sink, count))
    assert len(ids(sink)) == count
    assert f"{path} was changed after it had been read; it is" in caplog.text
    assert again.health == Health(True, None, None, 1 if policy == "tell" else 0)


def test_a_file_that_is_still_written_to_waits(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", 0, 20)
    waiting = source(path, settle="1h")
    sink = RecordingSink()
    asyncio.run(told(waiting, sink, 0))
    assert sink.bodies == []
    os.utime(path, (0, time.time() - 7200))
    asyncio.run(told(waiting, sink, 20))
    assert ids(sink) == expected(20)


def test_labels_come_from_a_table_of_their_own(tmp_path: Path) -> None:
    pq.write_table(pa.table({"request": ["r1", "r2"], "outcome": [1, 0]}), tmp_path / "labels.parquet")
    sink = RecordingSink()
    columns = {"id": "request", "label": "outcome", "features": {}}
    asyncio.run(told(source(tmp_path / "labels.parquet", columns=columns), sink, 2))
    columns_ = DECODER.decode(sink.bodies[0], time.time()).columns["credit"]
    assert columns_.versions == [None, None]
    assert list(columns_.labels) == [1.0, 0.0]


def test_a_column_that_is_not_there_is_told(tmp_path: Path) -> None:
    asked = source(write(tmp_path / "a.parquet", 0, 5), columns={"id": "requset"})
    asyncio.run(told(asked, RecordingSink(), 0))
    assert asked.health.up is False
    assert "no column 'requset'; there are request, scored_at" in str(asked.health.error)


@pytest.mark.parametrize(
    ("good", "wrong", "told"),
    [
        ("2026-11-01T12:00:00Z", "yesterday", "'yesterday' is no time like those before"),
        ("2026-11-01T12:00:00", "2026-11-01T12:00:00Z", "'2026-11-01T12:00:00Z' is no time like those before"),
        ("1793534400.5", "12:00", "'12:00' is no time like those before"),
        (None, "01/11/2026", "'01/11/2026' is no time:"),
    ],
)
@pytest.mark.parametrize("row", [4501, 5000])
def test_a_text_that_is_no_time_is_told_with_its_row_and_column(
    good: str | None, wrong: str, told: str, row: int, tmp_path: Path
) -> None:
    times = [good] * 5000
    times[row - 1] = wrong
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"request": ["r"] * 5000, "scored_at": times, "p": [0.5] * 5000}), path)
    columns = {"id": "request", "ts": "scored_at", "score": "p"}
    (file,) = find([str(path)])
    with pytest.raises(TableError, match=rf"a\.parquet: row {row}, column 'scored_at': {told}"):
        list(source(path, columns=columns).bodies(file))


@pytest.mark.parametrize("column", ["request", "scored_at", "p", "release"])
def test_a_list_where_one_value_belongs_is_told_with_its_row_and_column(column: str, tmp_path: Path) -> None:
    good = {"request": "r", "scored_at": "2026-11-01T12:00:00Z", "p": 0.5, "release": 3, "amount": 1.0}
    rows = [good] * 5000
    rows[4500] = {**good, column: [1, 2]}
    path = tmp_path / "a.ndjson"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (file,) = find([str(path)])
    with pytest.raises(
        TableError, match=rf"a\.ndjson: row 4501, column '{column}': a list or an object, but .* is one"
    ):
        list(source(path).bodies(file))


def test_ids_of_sixteen_bytes_are_uuids(tmp_path: Path) -> None:
    named = [uuid.UUID(int=random.Random(number).getrandbits(128), version=4) for number in range(40)]
    cells = pa.array([each.bytes for each in named], pa.binary(16))
    pq.write_table(pa.table({"request": cells, "p": [0.5] * 40}), tmp_path / "a.parquet")
    sink = RecordingSink()
    asyncio.run(told(source(tmp_path, columns={"id": "request", "score": "p"}), sink, 40))
    assert ids(sink) == [*map(str, named)]


def test_a_reload_with_another_profile_reads_its_features_from_then_on(tmp_path: Path) -> None:
    from mlops_exporter.service.assembly import _same_features
    from mlops_exporter.settings.sources import SourceSettings

    class Model:
        profiles = Profiles(PROFILE)

    class Former:
        models: ClassVar = {"credit": Model}

    former: Any = Former
    table = {"model": "credit", "path": str(tmp_path), "columns": COLUMNS}
    settings = SourceSettings.model_validate({"name": "batch", "table": table})
    changed = msgspec.structs.replace(PROFILE, features={})
    assert _same_features(settings, {"credit": PROFILE}, former)
    assert not _same_features(settings, {"credit": changed}, former)
