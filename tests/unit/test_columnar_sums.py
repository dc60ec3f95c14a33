"""An Arrow stream adds exactly the sums that the same events add as NDJSON, whatever columns they come in."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mlops_exporter.counting.model import Model
from mlops_exporter.events.columns import Columns
from mlops_exporter.events.decoder import Decoder
from mlops_exporter.events.reasons import Reason
from mlops_exporter.profile.profile import Profile, Task
from mlops_exporter.profiling.build import BuildRequest, build
from mlops_exporter.settings.models import Limits, ModelSettings
from tests.support.one_model import WINDOW

DIMENSIONS, ROWS = 5, 600
NOW = time.time()
CLASSES = {"binary": ["0", "1"], "multiclass": ["a", "b", "c"]}
REQUESTS: dict[str, dict[str, Any]] = {
    "binary": {"scores": {"1": "p1"}},
    "multiclass": {"scores": {name: f"p{name}" for name in "abc"}},
    "regression": {"prediction": "yhat"},
}
FAIRNESS = {"attributes": ["sex", {"name": "age", "edges": [30, 50]}, "region", "sex*age"]}


def outcome(task: str, rng: np.random.Generator) -> Any:
    return float(np.round(rng.normal(), 2)) if task == "regression" else str(rng.choice(CLASSES[task]))


def profile(task: Task, directory: Path) -> Profile:
    rng = np.random.default_rng(3)
    rows = []
    for _ in range(2000):
        p = rng.dirichlet([1] * len(CLASSES.get(task, "1")))
        rows.append(
            {
                "x": rng.normal(),
                "region": str(rng.choice(["north", "south"])),
                "text": rng.normal(size=DIMENSIONS).tolist(),
                "sex": str(rng.choice(["female", "male"])),
                "y": outcome(task, rng),
                "yhat": rng.normal(),
                **{f"p{name}": float(share) for name, share in zip(CLASSES.get(task, []), p, strict=False)},
            }
        )
    path = directory / "reference.ndjson"
    path.write_text("\n".join(map(json.dumps, rows)))
    columns = {"x", "region", "text"}
    request = BuildRequest(
        data=path, task=task, label="y", groups=("sex", "region"), features=tuple(columns), **REQUESTS[task]
    )
    return build(request)[0]


@pytest.fixture(scope="module", params=["binary", "multiclass", "regression"])
def reference(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Profile:
    return profile(request.param, tmp_path_factory.mktemp(request.param))


def events(task: str, count: int = ROWS) -> list[dict[str, Any]]:
    """Events of every shape: whole, without features, without groups, failed, labelled, labels alone, repeated."""
    rng = np.random.default_rng(4)

    def maybe(value: Any, share: float = 0.9) -> Any:
        return value if rng.random() < share else None

    def event(number: int) -> dict[str, Any]:
        base = {"id": maybe(f"i{rng.integers(count)}"), "ts": NOW - float(rng.integers(1, 100))}
        if rng.random() < 0.2:
            return {**base, "id": f"i{number // 2}", "label": outcome(task, rng)}
        odd = [[1.0], [1.0] * (DIMENSIONS - 1) + [None], [], [1e300] * DIMENSIONS]
        text = rng.normal(size=DIMENSIONS).tolist() if rng.random() < 0.9 else odd[rng.integers(len(odd))]
        groups = {
            "sex": maybe(str(rng.choice(["female", "male", "another"]))),
            "age": maybe(float(rng.integers(18, 80))),
            "region": maybe(str(rng.choice(["north", "south"])), 0.5),
        }
        scores = dict(
            zip(CLASSES.get(task, []), rng.dirichlet([1] * len(CLASSES.get(task, "1"))).tolist(), strict=False)
        )
        said = {
            "binary": {"score": maybe(scores.get("1"))},
            "multiclass": {"scores": maybe(scores)},
            "regression": {},
        }[task]
        return {
            **base,
            "version": maybe(str(rng.choice(["1", "2"]))),
            "features": maybe(
                {"x": maybe(rng.normal()), "region": maybe(str(rng.choice(["north", "east"]))), "text": maybe(text)}
            ),
            "groups": maybe(groups),
            **said,
            "prediction": outcome(task, rng),
            "label": maybe(outcome(task, rng), 0.4),
            "latency_seconds": maybe(0.25, 0.5),
            "error": maybe("failed", 0.05),
        }

    return [event(number) for number in range(count)]


def ndjson(rows: list[dict[str, Any]]) -> bytes:
    return "\n".join(json.dumps({"model": "m", **row}) for row in rows).encode()


def arrow(rows: list[dict[str, Any]], profile: Profile, flat_groups: bool, vectors: Any) -> bytes:
    """The same events as columns."""
    number, text = pa.float64(), pa.string()
    groups = pa.struct([("sex", text), ("age", number), ("region", text)])
    types = {
        "id": text,
        "ts": number,
        "version": text,
        "features": pa.struct([("x", number), ("region", text), ("text", vectors)]),
        "score": number,
        "scores": pa.struct([(name, number) for name in profile.classes]),
        "prediction": number if profile.task == "regression" else text,
        "label": number if profile.task == "regression" else text,
        "latency_seconds": number,
        "error": text,
    }
    columns = {name: pa.array([row.get(name) for row in rows], type_) for name, type_ in types.items()}
    if flat_groups:
        for field in groups:
            column = pa.array([(row.get("groups") or {}).get(field.name) for row in rows], field.type)
            columns[f"groups.{field.name}"] = column.dictionary_encode() if field.type == text else column
    else:
        columns["groups"] = pa.array([row.get("groups") for row in rows], groups)
    batch = pa.record_batch(columns)
    batch = batch.replace_schema_metadata({"model": "m"})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    body: bytes = sink.getvalue().to_pybytes()
    return body


def state_after(profile: Profile, *bodies: bytes) -> tuple[dict[str, Any], list[tuple[int, Reason]]]:
    """What a model has counted of bodies that are gathered to one batch, and what was refused."""
    settings = ModelSettings.model_validate(
        {"name": "m", "task": profile.task, "profile": "p", "windows": [WINDOW], "fairness": _fairness(profile)}
    )
    model = Model(settings, profile, Limits())
    decoder = Decoder([model.reference.schema])
    parts: list[Columns] = []
    refused: list[tuple[int, Reason]] = []
    for body in bodies:
        decoded = decoder.decode(body, NOW)
        refused += decoded.refused
        parts.append(decoded.columns["m"])
    gathered = Columns.joined(parts)
    model.admit(set(gathered.versions), NOW)
    model.count(gathered)
    state = model.state()
    return {
        **{name: state[name] for name in state if name != "join"},
        "waiting": model.joins.main.waiting_predictions,
    }, refused


def _fairness(profile: Profile) -> dict[str, Any]:
    return {**FAIRNESS, "favourable": profile.classes[-1]} if profile.classes else FAIRNESS


def equal(left: Any, right: Any) -> None:
    if isinstance(left, dict):
        assert left.keys() == right.keys()
        for name in left:
            equal(left[name], right[name])
    else:
        np.testing.assert_array_equal(left, right)


@pytest.mark.slow
@pytest.mark.parametrize("flat_groups", [False, True], ids=["struct of groups", "columns of groups"])
@pytest.mark.parametrize("vectors", [pa.list_(pa.float64()), pa.large_list(pa.float64())], ids=["list", "large_list"])
def test_the_same_sums(reference: Profile, flat_groups: bool, vectors: Any) -> None:
    rows = events(reference.task)
    from_json, refused = state_after(reference, ndjson(rows))
    from_arrow, refused_arrow = state_after(reference, arrow(rows, reference, flat_groups, vectors))
    assert refused == refused_arrow
    equal(from_arrow, from_json)
    assert from_json["labels_duplicate"] + from_json["predictions_duplicate"] > 10
    version = next(iter(from_json["versions"].values()))
    section = version["places"]
    for name in ("text", "groups"):
        assert any(name in place for place in section)


@pytest.mark.slow
def test_bodies_of_both_kinds_gather(reference: Profile) -> None:
    rows = events(reference.task)
    third = len(rows) // 3
    mixed, _ = state_after(
        reference,
        ndjson(rows[:third]),
        arrow(rows[third : 2 * third], reference, True, pa.list_(pa.float32())),
        ndjson(rows[2 * third :]),
    )
    equal(mixed, state_after(reference, ndjson(rows))[0])


@pytest.mark.slow
def test_vectors_of_one_size(reference: Profile) -> None:
    rows = [row for row in events(reference.task) if row.get("features")]
    for number, row in enumerate(rows):
        row["features"]["text"] = None if number % 7 == 0 else [float(number), *range(DIMENSIONS - 1)]
    expected, _ = state_after(reference, ndjson(rows))
    for type_ in (pa.float32(), pa.float64(), pa.int32()):
        fixed = arrow(rows, reference, True, pa.list_(type_, DIMENSIONS))
        equal(state_after(reference, fixed)[0], expected)


def test_what_is_no_group_and_no_vector(reference: Profile) -> None:
    """Wrong types are unknown groups and invalid vectors, as in JSON."""
    prediction = 1.5 if reference.task == "regression" else reference.classes[0]
    row = {"prediction": prediction, "features": {"x": 1.0}}
    odd = {"sex": ["female"], "age": "40", "region": None}
    expected, refused = state_after(reference, ndjson([{**row, "ts": NOW, "groups": odd}] * 3))
    assert not refused
    batch = pa.record_batch(
        {
            "x": [1.0] * 3,
            "text": [["1", "2", "3", "4", "5"]] * 3,
            "prediction": [prediction] * 3,
            "groups.sex": [["female"]] * 3,
            "groups.age": ["40"] * 3,
        }
    ).replace_schema_metadata({"model": "m"})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    got, refused = state_after(reference, sink.getvalue().to_pybytes())
    assert not refused
    equal(got, expected)
