"""The rows of a reference as a table of each format and as events of each format."""

import csv
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mlops_exporter.counting.ledger import Layout, Outputs
from mlops_exporter.events.columns import Decoded
from mlops_exporter.events.decoder import Decoder
from mlops_exporter.events.schema import Schema
from mlops_exporter.profile.profile import Profile

Table = Mapping[str, Sequence[Any]]
Row = dict[str, Any]

MODEL = "credit"
OUTCOMES = ("label", "prediction", "score")


def rows_of(table: Table) -> list[Row]:
    """The rows of a table of columns."""
    return [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]


def write_csv(path: Path, table: Table) -> Path:
    """Write a table as pandas would: missing cells are empty."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_MINIMAL)
        writer.writerow(table)
        writer.writerows(zip(*table.values(), strict=True))
    return path


def write_ndjson(path: Path, table: Table) -> Path:
    """Write a table as flat JSON objects."""
    path.write_text("".join(json.dumps(row, default=float) + "\n" for row in rows_of(table)), encoding="utf-8")
    return path


def write_parquet(path: Path, table: Table | Any) -> Path:
    """Write a table, or an Arrow table, as Parquet."""
    pq.write_table(table if isinstance(table, pa.Table) else pa.table(dict(table)), path)
    return path


TABLES: dict[str, Callable[[Path, Table], Path]] = {"csv": write_csv, "ndjson": write_ndjson, "parquet": write_parquet}


def event_of(row: Row, number: int = 0) -> Row:
    """One row as an event: what is no outcome is a feature."""
    outcomes = {name: row[name] for name in OUTCOMES if name in row}
    features = {name: value for name, value in row.items() if name not in OUTCOMES}
    return {"model": MODEL, "id": number, "features": features, **outcomes}


def ndjson_events(table: Table) -> bytes:
    """The rows as lines of JSON."""
    events = [event_of(row, number) for number, row in enumerate(rows_of(table))]
    return b"".join(json.dumps(event, default=float).encode() + b"\n" for event in events)


def json_array(table: Table) -> bytes:
    """The rows as one JSON array."""
    return json.dumps([event_of(row, number) for number, row in enumerate(rows_of(table))], default=float).encode()


def arrow_events(table: Table | Any) -> bytes:
    """The rows as an Arrow stream."""
    columns = table if isinstance(table, pa.Table) else pa.table(dict(table))
    columns = columns.replace_schema_metadata({"model": MODEL})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, columns.schema) as writer:
        writer.write_table(columns)
    return bytes(sink.getvalue())


EVENTS: dict[str, Callable[[Table], bytes]] = {
    "ndjson": ndjson_events,
    "array": json_array,
    "arrow": arrow_events,
}


def decoded(profile: Profile, body: bytes) -> tuple[Schema, Decoded]:
    """A body as the exporter decodes it."""
    schema = Schema(MODEL, profile)
    return schema, Decoder([schema]).decode(body, time.time())


def counts(profile: Profile, body: bytes) -> dict[str, list[int]]:
    """The cells that a body adds to each feature, to the score and to the label; all of its events must be taken."""
    schema, taken = decoded(profile, body)
    assert taken.refused == []
    layout = Layout(profile)
    ledger = layout.zeros()
    for columns in taken.parts[MODEL]:
        encoded = columns.features.encoded(schema)
        layout.count_features(ledger, encoded.numeric.copy(), encoded.codes)
        predictions = np.array([np.nan if p is None else p for p in columns.predictions], np.float64)
        labels = np.array([np.nan if y is None else y for y in columns.labels], np.float64)
        outputs = Outputs.plain(predictions, schema.score_array(columns.scores)).decided(profile.task, 0.5)
        layout.count_predictions(ledger, outputs, np.full(len(columns), np.nan), failed=0)
        known = ~np.isnan(labels)
        layout.count_labels(
            ledger, outputs.rows(np.flatnonzero(known)), labels[known], np.full(int(known.sum()), np.nan)
        )
    found = {name: ledger[cells].astype(int).tolist() for name, cells in layout.features.items()}
    for name, cells in (("score", layout.score), ("prediction", layout.prediction), ("label", layout.label)):
        found[name] = ledger[cells].astype(int).tolist()
    return found


def reference_counts(profile: Profile) -> dict[str, list[int]]:
    """The same cells, as the profile has them."""
    found = {name: variable.counts for name, variable in profile.features.items()}
    for name in ("score", "prediction", "label"):
        variable = getattr(profile, name)
        found[name] = [] if variable is None else variable.counts
    return found
