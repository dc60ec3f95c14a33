"""Rows of databases as events."""

import asyncio
import time
from typing import Any

from mlops_exporter.events.decoder import Decoder
from mlops_exporter.events.schema import Schema
from mlops_exporter.settings.tables import SqlSettings
from mlops_exporter.sources.sql import SqlSource
from mlops_exporter.tables.mapping import Mapping
from tests.models import profiles
from tests.sink import RecordingSink, until

PROFILE = profiles()["credit"]
DECODER = Decoder([Schema("credit", PROFILE)])


def source(url: str, query: str = "SELECT * FROM scored", **settings: Any) -> SqlSource:
    columns = {"id": "id", "ts": "at", "score": "p"}
    chosen = SqlSettings.model_validate(
        {
            "model": "credit",
            "url": url,
            "query": query,
            "cursor": "at",
            "columns": columns,
            "interval": "1s",
            **settings,
        }
    )
    return SqlSource("warehouse", chosen, Mapping("credit", chosen.columns, "UTC", PROFILE.features, ["amount"]))


def ids(sink: RecordingSink) -> list[str]:
    found: list[str] = []
    for body in sink.bodies:
        decoded = DECODER.decode(body, time.time())
        assert not decoded.refused
        found += [str(each) for columns in decoded.columns.values() for each in columns.ids]
    return found


async def until_rows(source: SqlSource, sink: RecordingSink, count: int) -> None:
    task = asyncio.create_task(source.run(sink))
    try:
        await until(lambda: task.done() or len(ids(sink)) >= count, 60)
        await asyncio.sleep(0.1)
    finally:
        task.cancel()
        await asyncio.wait({task})
