"""Tables as sources of events."""

import asyncio
import time
from pathlib import Path
from typing import Any

from mlops_exporter.events.decoder import Decoder
from mlops_exporter.events.schema import Schema
from mlops_exporter.profile.bins import NumericVariable
from mlops_exporter.settings.tables import TableSettings
from mlops_exporter.sources.table import TableSource
from mlops_exporter.tables.mapping import Mapping
from tests.models import profiles
from tests.sink import RecordingSink, until

PROFILE = profiles()["credit"]
DECODER = Decoder([Schema("credit", PROFILE)])
COLUMNS = {"id": "request", "ts": "scored_at", "score": "p", "version": "release"}


def source(path: Path | str, *, columns: dict[str, Any] | None = None, **settings: Any) -> TableSource:
    chosen = TableSettings.model_validate(
        {
            "model": "credit",
            "path": str(path),
            "settle": "0",
            "interval": "1s",
            "columns": columns or COLUMNS,
            **settings,
        }
    )
    numeric = [name for name, variable in PROFILE.features.items() if isinstance(variable, NumericVariable)]
    return TableSource("batch", chosen, Mapping("credit", chosen.columns, chosen.timezone, PROFILE.features, numeric))


def ids(sink: RecordingSink) -> list[Any]:
    found: list[Any] = []
    for body in sink.bodies:
        decoded = DECODER.decode(body, time.time())
        assert not decoded.refused
        found += [each for columns in decoded.columns.values() for each in columns.ids]
    return found


async def told(source: TableSource, sink: RecordingSink, count: int) -> None:
    """Run the source until so many rows have come, and through one more look."""
    task = asyncio.create_task(source.run(sink))
    try:
        await until(lambda: task.done() or len(ids(sink)) >= count, 60)
        await asyncio.sleep(0.1)
    finally:
        task.cancel()
        await asyncio.wait({task})
