"""Whoever counts rows of a model counts what an exporter counts of the same events, whatever the model predicts."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mlops_exporter.arrays import Floats
from mlops_exporter.counting.model import Model
from mlops_exporter.ingest.intake import Intake
from mlops_exporter.ledgers import LedgerCounter, Recipe
from mlops_exporter.profile.profile import Task
from mlops_exporter.service.configuration import read
from mlops_exporter.settings.models import Limits
from tests.support.kinds import Kind, kind, write_configuration

TASKS: list[Task] = ["multilabel", "forecast", "regression", "ranking"]
ROWS = 300


def events(of: Kind) -> list[dict[str, Any]]:
    """The rows as events, each with its label."""

    def value(row: dict[str, Any], column: Any) -> Any:
        if isinstance(column, dict):
            return {str(key): value(row, each) for key, each in column.items()}
        return row[column].timestamp() if column == "at" else row[column]

    rows = of.table.to_pylist()
    features = {"amount": "amount", "country": "country"}
    return [{"model": "m", "features": value(row, features), **value(row, of.columns)} for row in rows]


def exporter(config: Path, bodies: list[list[dict[str, Any]]]) -> Floats:
    """What an exporter has counted of bodies of events."""
    settings, profiles = read(config)
    intake = Intake([Model(settings.models[0], profiles["m"], Limits())], ["s"], Limits())
    for body in bodies:
        taken = asyncio.run(intake.submit("s", b"\n".join(json.dumps(event).encode() for event in body), time.time()))
        assert (taken.accepted, taken.rejected) == (len(body), 0)
    intake.flush()
    return np.asarray(sum(version.lifetime for version in intake.models["m"].versions.values()))


@pytest.mark.parametrize("task", TASKS)
def test_rows_with_their_labels(task: Task, tmp_path: Path) -> None:
    of = kind(task, ROWS, time.time() - 700, 600)
    config = write_configuration(tmp_path, of, "m")
    counter = LedgerCounter(config, "m", columns=of.columns)
    counter.add(of.table)
    assert (counter.accepted, counter.refused) == (ROWS, {})
    cells = np.sum([ledger.numbers() for ledger in counter.ledgers("p", "1")], axis=0)
    np.testing.assert_allclose(cells, exporter(config, [events(of)]), rtol=1e-9, atol=1e-9)
    assert np.count_nonzero(cells) > 50


@pytest.mark.parametrize("task", ["multilabel", "forecast", "regression"])
def test_labels_that_come_later(task: Task, tmp_path: Path) -> None:
    of = kind(task, ROWS, time.time() - 700, 300)
    config = write_configuration(tmp_path, of, "m")
    later = of.columns | {"id": "id"}
    label = later.pop("label")
    recipe = Recipe.read(config, "m", columns=later, late={"id": "id", "ts": "known", "label": label})
    table = of.table.append_column("known", pa.array(np.arange(ROWS) * 0.5 + time.time() - 300))
    counter = LedgerCounter.of(recipe)
    counter.add(table)
    for batch in table.to_batches(max_chunksize=100):
        counter.add_late(batch)
    assert (counter.accepted, counter.refused) == (2 * ROWS, {})
    ids, known = table["id"].to_pylist(), table["known"].to_pylist()
    predictions = [{**event, "id": id_} for event, id_ in zip(events(of), ids, strict=True)]
    labels = [
        {"model": "m", "id": id_, "ts": at, "label": event.pop("label")}
        for event, id_, at in zip(predictions, ids, known, strict=True)
    ]
    cells = np.sum([ledger.numbers() for ledger in counter.ledgers("p", "1")], axis=0)
    np.testing.assert_allclose(cells, exporter(config, [predictions, labels]), rtol=1e-9, atol=1e-9)
