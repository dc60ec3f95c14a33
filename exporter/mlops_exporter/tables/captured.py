"""What serving platforms log of their requests and answers, as rows: inputs, outputs and labels beside id and time.

A record holds a payload, often as text within JSON, and one payload may hold several rows. Some platforms log inputs
and outputs as two records, which are joined by their id. Sources: the platforms' documentation of Azure ML's data
collector, SageMaker's data capture and ground truth, KServe's logger to blobs, and Databricks' inference tables.

The columns are `id`, `ts`, `version`, `error`, `latency_seconds`, `label`; the inputs by their names; and `output`, or
`output.NAME` where outputs have names, `output.0` and so on where they are lists.
"""

import base64
import binascii
import csv
import dataclasses
import io
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from mlops_exporter.profile.parsing import JsonError, parsed
from mlops_exporter.settings.tables import Captured
from mlops_exporter.tables import readers
from mlops_exporter.tables.errors import TableError
from mlops_exporter.tables.files import File
from mlops_exporter.tables.reading import DEFAULT, Reading

ALONE_SECONDS = 3600.0
"""How long inputs wait for the file of their outputs."""

_ROWS = 16_384
_HALVES: dict[Captured, tuple[str, str]] = {
    "azureml": ("model_inputs", "model_outputs"),
    "kserve": ("-request", "-response"),
}
"""What tells a file of inputs from that of their outputs."""

Row = dict[str, object]


class _Half(NamedTuple):
    """What one record says: rows of inputs, of outputs, and what all of them share."""

    id: str | None
    common: Row
    inputs: list[Row] | None = None
    outputs: list[Row] | None = None


def paired(files: Sequence[File], captured: Captured | None) -> list[File]:
    """Return the files to be read, each with that of its outputs, where a platform writes two."""
    if captured not in _HALVES:
        return list(files)
    first, second = _HALVES[captured]
    by_place = {file.place: file for file in files}
    found = []
    for file in files:
        if second in file.place and file.place.replace(second, first) in by_place:
            continue
        companion = by_place.get(file.place.replace(first, second)) if first in file.place else None
        if first in file.place and companion is None and file.modified > time.time() - ALONE_SECONDS:
            continue
        found.append(dataclasses.replace(file, companion=companion))
    return found


def batches(file: File, reading: Reading = DEFAULT) -> Iterator[Any]:
    """Yield the batches of a file, of what a platform logged where `reading` says so; raises TableError."""
    if reading.captured is None:
        yield from readers.batches(file, reading)
        return
    rows: list[Row] = []
    for row in _rows(file, reading):
        rows.append(row)
        if len(rows) == _ROWS:
            yield readers.gathered(rows)
            rows = []
    if rows:
        yield readers.gathered(rows)


def _rows(file: File, reading: Reading) -> Iterator[Row]:
    assert reading.captured is not None
    read = _READERS[reading.captured]
    waiting: dict[str | None, _Half] = {}
    for part in (file, file.companion):
        for number, record in enumerate(_records(part) if part is not None else (), 1):
            try:
                half = read(record, reading.inputs, file)
            except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
                where = part.place if part is not None else ""
                raise TableError(
                    f"{where}: record {number} is not one of {reading.captured}: {type(error).__name__}: {error}"
                ) from error
            if half is None:
                continue
            if reading.captured in _HALVES and (other := waiting.pop(half.id, None)) is not None:
                half = _Half(
                    half.id,
                    {**half.common, **other.common} if other.inputs is not None else {**other.common, **half.common},
                    half.inputs if half.inputs is not None else other.inputs,
                    half.outputs if half.outputs is not None else other.outputs,
                )
            elif reading.captured in _HALVES:
                waiting[half.id] = half
                continue
            yield from _joined(half)
    for half in waiting.values():
        if half.inputs is not None:
            yield from _joined(half)


def _joined(half: _Half) -> Iterator[Row]:
    """Yield the rows of a record: one row has its id, several have a number behind it."""
    inputs, outputs = half.inputs or [], half.outputs or []
    count = max(len(inputs), len(outputs), 0 if half.inputs is not None or half.outputs is not None else 1)
    for number in range(count):
        row: Row = dict(half.common)
        row["id"] = half.id if count == 1 or half.id is None else f"{half.id}/{number}"
        row.update(inputs[number] if number < len(inputs) else {})
        row.update(outputs[number] if number < len(outputs) else {})
        yield row


def _records(file: File) -> Iterator[Any]:
    """Yield the records of a file: of Parquet or CSV, or JSON, one on each line, or all as one value."""
    if file.format != "ndjson":
        for batch in readers.batches(file):
            yield from batch.to_pylist()
        return
    with file.stream() as stream:
        text = io.BufferedReader(stream, 1 << 20)
        for line in text:
            if line.strip():
                try:
                    value = parsed(line)
                except JsonError:
                    value = _whole(line + text.read(), file)
                yield from value if isinstance(value, list) else [value]


def _whole(data: bytes, file: File) -> Any:
    try:
        return parsed(data)
    except JsonError as error:
        raise TableError(f"{file.place}: not JSON: {error}") from error


def _azureml(record: Any, names: Sequence[str], file: File) -> _Half | None:
    rows = record["data"]
    rows = parsed(rows) if isinstance(rows, str) else rows
    common = {"ts": record["time"]}
    if (version := record.get("modelversion")) is not None:
        common["version"] = version
    if record["type"].endswith("inputs"):
        return _Half(record["correlationid"], common, inputs=_named(rows, names))
    return _Half(record["correlationid"], common, outputs=_outputs(rows))


def _sagemaker(record: Any, names: Sequence[str], file: File) -> _Half | None:
    meta = record["eventMetadata"]
    identifier = meta.get("inferenceId") or meta["eventId"]
    if "groundTruthData" in record:
        return _Half(identifier, {"ts": file.modified, "label": _cells(record["groundTruthData"])})
    capture = record["captureData"]
    common: Row = {"ts": meta["inferenceTime"]}
    inputs = _payload(capture["endpointInput"])
    outputs = _payload(capture["endpointOutput"]) if "endpointOutput" in capture else None
    return _Half(
        identifier, common, _inputs(inputs, names), None if outputs is None else _outputs(_predictions(outputs))
    )


def _kserve(record: Any, names: Sequence[str], file: File) -> _Half | None:
    low = {name.lower(): value for name, value in record.items()}
    payload = parsed(base64.b64decode(low["bytes"]))
    common: Row = {"ts": file.modified}
    if payload.get("model_version") is not None:
        common["version"] = payload["model_version"]
    identifier = payload.get("id") or low["id"]
    if low["reqtype"].endswith("request"):
        return _Half(identifier, common, inputs=_inputs(payload, names))
    return _Half(identifier, common, outputs=_outputs(_predictions(payload)))


def _databricks(record: Any, names: Sequence[str], file: File) -> _Half | None:
    meta = record.get("request_metadata") or {}
    meta = dict(meta) if not isinstance(meta, str) else parsed(meta)
    begun = record.get("timestamp_ms")
    begun = record["request_time"].timestamp() if begun is None else begun / 1000
    took = record.get("execution_time_ms", record.get("execution_duration_ms"))
    version = meta.get("model_version") or record.get("served_entity_id")
    common: Row = {"ts": begun}
    if version is not None:
        common["version"] = str(version)
    if took is not None:
        common["latency_seconds"] = took / 1000
    failed = record.get("status_code", 200) != 200
    common["error"] = f"status {record['status_code']}" if failed else None
    return _Half(
        record.get("client_request_id") or record["databricks_request_id"],
        common,
        _inputs(parsed(record["request"]), names),
        None if failed or not record.get("response") else _outputs(_predictions(parsed(record["response"]))),
    )


_READERS = {"azureml": _azureml, "sagemaker": _sagemaker, "kserve": _kserve, "databricks": _databricks}


def _payload(part: Any) -> Any:
    """Return what SageMaker captured: JSON as values, CSV as rows of cells."""
    data = part["data"]
    if part.get("encoding") == "BASE64":
        try:
            data = base64.b64decode(data, validate=True).decode()
        except binascii.Error as error:
            raise ValueError(f"not base64: {error}") from error
    if part.get("encoding") == "JSON" or "json" in part.get("observedContentType", ""):
        if "jsonlines" in part.get("observedContentType", ""):
            return [parsed(line) for line in data.splitlines() if line.strip()]
        return parsed(data)
    return list(csv.reader(io.StringIO(data)))


def _cells(part: Any) -> object:
    """Return the single value of a ground truth."""
    value = _payload(part)
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, dict):
        value = next(iter(value.values())) if len(value) == 1 else value.get("label")
    return value


def _inputs(payload: Any, names: Sequence[str]) -> list[Row]:
    """Return the rows of a request, in whichever of the usual forms it is."""
    if isinstance(payload, dict):
        if "dataframe_split" in payload:
            split = payload["dataframe_split"]
            return [dict(zip(split["columns"], row, strict=True)) for row in split["data"]]
        for member in ("dataframe_records", "instances", "features", "inputs"):
            if member in payload:
                payload = payload[member]
                break
    if isinstance(payload, dict):  # columns by name, or one row
        if payload and all(isinstance(values, list) for values in payload.values()):
            return [dict(zip(payload, row, strict=True)) for row in zip(*payload.values(), strict=True)]
        return [payload]
    if _are_tensors(payload):
        return _tensors(payload, names)
    if isinstance(payload, list) and payload and not isinstance(payload[0], list | dict):
        payload = [payload]
    return _named(payload, names)


def _predictions(payload: Any) -> Any:
    """Return the rows of an answer."""
    if isinstance(payload, dict):
        for member in ("predictions", "outputs", "data"):
            if member in payload:
                return _tensors(payload[member], None) if _are_tensors(payload[member]) else payload[member]
        return [payload]
    return payload if isinstance(payload, list) else [payload]


def _named(rows: Any, names: Sequence[str]) -> list[Row]:
    found: list[Row] = []
    for row in rows if isinstance(rows, list) else [rows]:
        if isinstance(row, dict):
            inner = row.get("features")
            found += _named([inner], names) if isinstance(inner, list) else [row]
        else:
            cells = row if isinstance(row, list) else [row]
            if len(cells) != len(names):
                raise ValueError(f"{len(cells)} inputs without names, and {len(names)} are known: inputs names them")
            found.append(dict(zip(names, cells, strict=True)))
    return found


def _outputs(rows: Any) -> list[Row]:
    found: list[Row] = []
    for row in rows if isinstance(rows, list) else [rows]:
        if isinstance(row, list) and len(row) == 1:
            (row,) = row
        if isinstance(row, dict):
            found.append({f"output.{name}": value for name, value in row.items()})
        elif isinstance(row, list):
            found.append({f"output.{place}": value for place, value in enumerate(row)})
        else:
            found.append({"output": row})
    return found


def _are_tensors(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict) and "shape" in value[0]


def _tensors(tensors: Any, names: Sequence[str] | None) -> list[Any]:
    """Return rows of V2 tensors: a column each, or several in one, which `names` tells apart."""
    count = int(tensors[0]["shape"][0])
    rows: list[Row] = [{} for _ in range(count)]
    for tensor in tensors:
        flat: Any = tensor["data"]
        while flat and isinstance(flat[0], list):
            flat = [value for part in flat for value in part]
        width = len(flat) // count
        if width == 1:
            called = [tensor["name"]]
        elif names is not None and len(names) == width:
            called = list(names)
        else:
            called = [f"{tensor['name']}.{place}" for place in range(width)]
        for number, row in enumerate(rows):
            row.update(zip(called, flat[number * width : (number + 1) * width], strict=True))
    if names is None and len(tensors) == 1 and all(len(row) == 1 for row in rows):
        return [next(iter(row.values())) for row in rows]
    return rows
