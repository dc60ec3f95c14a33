"""Rows of SQLite beyond a watermark: none lost, none twice, nothing written, no secret told."""

import asyncio
import contextlib
import sqlite3
from pathlib import Path

import pytest

from mlops_exporter.settings.tables import SqlSettings
from mlops_exporter.sources.sql import SqlSource
from mlops_exporter.tables.mapping import Mapping
from tests.sink import RecordingSink, until
from tests.support.sql import ids, source, until_rows


def insert(path: Path, *rows: tuple[str, float]) -> None:
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE IF NOT EXISTS scored (id TEXT, at REAL, p REAL, amount REAL, country TEXT)")
        database.executemany("INSERT INTO scored VALUES (?, ?, 0.5, 1.5, 'DE')", rows)
        database.commit()


def test_rows_beyond_the_watermark_come_once(tmp_path: Path) -> None:
    path = tmp_path / "w.db"
    sink = RecordingSink()
    insert(path, ("a", 1.0), ("b", 2.0), ("c", 2.0))
    asyncio.run(until_rows(source(f"sqlite:///{path}"), sink, 3))
    insert(path, ("d", 2.0), ("e", 3.0), ("late", 0.5))
    asyncio.run(until_rows(source(f"sqlite:///{path}"), sink, 5))
    assert sorted(ids(sink)) == ["a", "b", "c", "d", "e"]


def test_a_database_that_is_not_there_is_told_without_its_password(tmp_path: Path) -> None:
    secret = tmp_path / "url"
    secret.write_text("postgresql://user:hunter2@127.0.0.1:1/db?connect_timeout=1\n")
    columns = {"id": "id"}
    settings = SqlSettings.model_validate(
        {"model": "credit", "url_file": str(secret), "query": "SELECT 1", "cursor": "at", "columns": columns}
    )
    asked = SqlSource("warehouse", settings, Mapping("credit", settings.columns, "UTC", [], []))
    asyncio.run(until_rows(asked, RecordingSink(), 0))
    asyncio.run(_until_told(asked))
    assert asked.health.error
    assert "hunter2" not in asked.health.error


async def _until_told(source: SqlSource) -> None:
    task = asyncio.create_task(source.run(RecordingSink()))
    await until(lambda: source.health.error != "not started", 60)
    task.cancel()
    await asyncio.wait({task})


def test_nothing_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / "w.db"
    insert(path, ("a", 1.0))
    asked = source(f"sqlite:///{path}", "SELECT 1 AS at); DELETE FROM scored; SELECT (1")
    asyncio.run(_until_told(asked))
    with contextlib.closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT count(*) FROM scored").fetchone() == (1,)


@pytest.mark.parametrize("url", ["mysql://x", "user:hunter2@host"])
def test_what_is_no_url_is_said_without_repeating_it(url: str) -> None:
    with pytest.raises(ValueError, match="url: write postgresql://") as error:
        source(url)
    assert "hunter2" not in str(error.value.errors()[0]["msg"])  # type: ignore[attr-defined]
