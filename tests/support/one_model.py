"""Models for tests: profiles built from tables in memory, events decoded from JSON."""

import csv
import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mlops_exporter.counting.model import Model
from mlops_exporter.events.columns import by_schema
from mlops_exporter.events.decoder import Decoder
from mlops_exporter.exposition.samples import Collector
from mlops_exporter.profiling.build import BuildRequest, build
from mlops_exporter.settings.models import Limits, ModelSettings

WINDOW = "1h"


def write_csv(path: Path, table: Mapping[str, Sequence[object]]) -> Path:
    """Write columns of one length; None is an empty cell."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(table)
        writer.writerows(zip(*table.values(), strict=True))
    return path


def make_model(
    directory: Path, table: Mapping[str, Sequence[object]], request: dict[str, Any], **settings: Any
) -> Model:
    """Build a profile from a table and return the model `m` of it."""
    path = write_csv(directory / "reference.csv", table)
    profile, _ = build(BuildRequest(data=path, **request))
    validated = ModelSettings.model_validate(
        {"name": "m", "task": profile.task, "profile": "unused.json", "windows": [WINDOW], **settings}
    )
    return Model(validated, profile, Limits())


def fresh(model: Model) -> Model:
    """Return a model of the same profile that has counted nothing."""
    return Model(model.settings, model.profiles, Limits())


def feed(model: Model, events: Sequence[Mapping[str, Any]], batch: int = 2048, *, arrived: float = -math.inf) -> None:
    """Decode events and count them in batches, which arrived at a time, where that is known."""
    decoder = Decoder(model.schemas)
    for start in range(0, len(events), batch):
        lines = [json.dumps({"model": model.name, **event}) for event in events[start : start + batch]]
        decoded = decoder.decode("\n".join(lines).encode(), time.time())
        assert not decoded.refused
        for columns in decoded.parts.get(model.name, ()):
            model.admit(set(columns.versions))
        for columns in by_schema(decoded.parts.get(model.name, ())):
            model.count(columns, arrived)


def samples(collector: Collector) -> dict[str, float]:
    """Collect now; return the value of every series that is there, by its text in an exposition."""
    return {
        prefix.strip(): float(value)
        for sample in collector.collect(time.time())
        for prefix, value in zip(sample.rows.prefixes, sample.values.tolist(), strict=True)
        if not np.isnan(value)
    }
