"""How rows become a request of each protocol, and its answer the outputs of each row.

KServe V1 and V2 (the Open Inference Protocol), MLflow's `/invocations`, Azure ML's online endpoints for MLflow models,
and templates for anything else that speaks JSON.
"""

import json
import math
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import msgspec

from mlops_exporter.profile.bins import CategoricalVariable
from mlops_exporter.profile.parsing import JsonError, parsed
from mlops_exporter.profile.profile import Profile
from mlops_exporter.settings.probes import EndpointSettings

Table = Mapping[str, Sequence[Any]]
"""Columns of one length."""

ONLY = ""
"""Name of the output where the protocol gives it none."""

_AZURE_REQUEST = {"input_data": {"columns": "$columns", "index": "$index", "data": "$rows"}}


class ProtocolError(Exception):
    """An answer that cannot be read; the message says what is expected."""


class Reply(NamedTuple):
    """Outputs by name, one value (a number, a text, a list) for each row; `version` where the answer tells it."""

    outputs: dict[str, list[Any]]
    version: str | None


def request(endpoint: EndpointSettings, profile: Profile, batch: Table) -> bytes:
    """Return the body of a request for the rows of `batch`."""
    match endpoint.kind:
        case "kserve_v2":
            tensors = _one_tensor(endpoint.tensor, batch) if endpoint.tensor else _tensors(profile, batch)
            # Servers that take tables (MLServer) make one of the columns; those that take tensors pay no heed.
            content: Any = (
                {"inputs": tensors} if endpoint.tensor else {"parameters": {"content_type": "pd"}, "inputs": tensors}
            )
        case "kserve_v1":
            content = {"instances": _rows(batch)}
        case "mlflow":
            content = {"dataframe_split": {"columns": list(batch), "data": _rows(batch)}}
        case "azureml":
            content = _filled(_AZURE_REQUEST, batch)
        case _:
            assert endpoint.http is not None
            content = _filled(endpoint.http.request, batch)
    return msgspec.json.encode(content, enc_hook=str)


def reply(endpoint: EndpointSettings, body: bytes, headers: Mapping[str, str], rows: int) -> Reply:
    """Read the answer to a request of so many rows; raises ProtocolError."""
    answer = _parse(body)
    version = headers.get(endpoint.version_header.lower()) if endpoint.version_header else None
    if endpoint.kind == "kserve_v2":
        outputs = _read_tensors(answer)
        told = answer.get("model_version")
        version = version or (str(told) if told not in (None, "") else None)
    else:
        outputs = _by_name(_list(answer, endpoint))
    for name, values in outputs.items():
        if len(values) != rows:
            raise ProtocolError(f"output {name or 'predictions'} has {len(values)} values for {rows} rows")
    return Reply(outputs, version)


def _rows(batch: Table) -> list[list[Any]]:
    return [list(row) for row in zip(*batch.values(), strict=True)]


def _tensors(profile: Profile, batch: Table) -> list[dict[str, Any]]:
    """Return one input of shape [n, 1] for each feature."""
    tensors = []
    for name, values in batch.items():
        texts = isinstance(profile.features.get(name), CategoricalVariable)
        kind = "BYTES" if texts else "INT64" if all(type(value) is int for value in values) else "FP64"
        data = [None if value is None else str(value) for value in values] if texts else list(values)
        tensors.append({"name": name, "shape": [len(data), 1], "datatype": kind, "data": data})
    return tensors


def _one_tensor(name: str, batch: Table) -> list[dict[str, Any]]:
    rows = _rows(batch)
    return [
        {"name": name, "shape": [len(rows), len(batch)], "datatype": "FP64", "data": list(chain.from_iterable(rows))}
    ]


def _filled(template: Any, batch: Table) -> Any:
    """Return a template with the batch in the place of its placeholders."""
    if isinstance(template, dict):
        return {key: _filled(value, batch) for key, value in template.items()}
    if isinstance(template, list):
        return [_filled(value, batch) for value in template]
    match template:
        case "$rows":
            return _rows(batch)
        case "$records":
            return [dict(zip(batch, row, strict=True)) for row in _rows(batch)]
        case "$columns":
            return list(batch)
        case "$index":
            return list(range(len(next(iter(batch.values())))))
    return template


def _parse(body: bytes) -> Any:
    """Read JSON; with NaN and infinities, which JSON lacks and Python servers send."""
    if not body.strip():
        raise ProtocolError("the answer is empty")
    try:
        return parsed(body)
    except JsonError:
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            raise ProtocolError(f"the answer is not JSON: {body[:80]!r}") from None


def _list(answer: Any, endpoint: EndpointSettings) -> list[Any]:
    """Return what has one entry for each row."""
    if endpoint.http is not None:
        found = _at(answer, endpoint.http.response)
        if not isinstance(found, list):
            raise ProtocolError(f"{endpoint.http.response or 'the answer'} is no list with one entry for each row")
        return found
    predictions = answer.get("predictions") if isinstance(answer, dict) else answer
    if not isinstance(predictions, list):
        raise ProtocolError("the answer has no list `predictions`")
    return predictions


def _at(answer: Any, path: str) -> Any:
    for part in path.split(".") if path else ():
        if isinstance(answer, dict) and part in answer:
            answer = answer[part]
        elif isinstance(answer, list) and part.isdecimal() and int(part) < len(answer):
            answer = answer[int(part)]
        else:
            raise ProtocolError(f"the answer has nothing at {path!r}")
    return answer


def _by_name(rows: list[Any]) -> dict[str, list[Any]]:
    if rows and all(isinstance(row, dict) for row in rows):
        names = dict.fromkeys(chain.from_iterable(rows))
        return {name: [_single(row.get(name)) for row in rows] for name in names}
    return {ONLY: [_single(row) for row in rows]}


def _single(value: Any) -> Any:
    """Return the only value of a list of one; anything else as it is."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _read_tensors(answer: Any) -> dict[str, list[Any]]:
    tensors = answer.get("outputs") if isinstance(answer, dict) else None
    if not isinstance(tensors, list) or not tensors:
        raise ProtocolError("the answer has no list `outputs`")
    outputs = {}
    for tensor in tensors:
        try:
            name, shape, values = tensor["name"], [int(size) for size in tensor["shape"]], tensor["data"]
            for _ in shape[1:]:
                if all(isinstance(value, list) for value in values):
                    values = list(chain.from_iterable(values))
            width = math.prod(shape[1:])
            if len(values) != shape[0] * width or width < 1:
                raise ValueError
        except (KeyError, TypeError, ValueError, IndexError, OverflowError):
            raise ProtocolError("an output needs name, shape, and data of that shape") from None
        outputs[str(name)] = values if width == 1 else [values[at : at + width] for at in range(0, len(values), width)]
    return outputs
