"""How fast the formats beside NDJSON are: `python -m tests.benchmarks.formats`.

Events have 20 numeric and 5 categorical features and a score. Times are CPU times, so that neighbours matter less.
"""

import json
import time
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pyarrow as pa

from mlops_exporter.counting.model import Model
from mlops_exporter.events.decoder import Decoder
from mlops_exporter.profile.profile import SCHEMA, Profile, Provenance
from mlops_exporter.settings.models import Limits, ModelSettings
from mlops_exporter.settings.sources import KServeSettings
from mlops_exporter.sources.base import Content
from mlops_exporter.sources.kserve import KServe
from tests.models import categorical, numeric

NUMERIC, CATEGORICAL, CATEGORIES = 20, 5, 10


def profile() -> Profile:
    """A binary model of the benchmark's shape."""
    features = {f"n{i}": numeric(np.linspace(-3, 3, 51).tolist()) for i in range(NUMERIC)}
    names = [f"k{i}" for i in range(CATEGORIES)]
    made = Profile(
        SCHEMA,
        "binary",
        500,
        Provenance("", "", "", "", ""),
        {**features, **{f"c{i}": categorical(*names) for i in range(CATEGORICAL)}},
        classes=["0", "1"],
        score=numeric(np.linspace(0, 1, 11).tolist()),
        score_edges=[0.25, 0.5, 0.75],
        prediction=categorical("0", "1"),
        label=categorical("0", "1"),
    )
    made.validate()
    return made


def arrow(rows: int, random: np.random.Generator) -> bytes:
    """One record batch of events without ids."""
    names = pa.array([f"k{i}" for i in range(CATEGORIES)])
    columns = {f"n{i}": pa.array(random.normal(size=rows)) for i in range(NUMERIC)}
    for i in range(CATEGORICAL):
        codes = pa.array(random.integers(0, CATEGORIES, rows), pa.int32())
        columns[f"c{i}"] = pa.DictionaryArray.from_arrays(codes, names)
    columns |= {"score": pa.array(random.random(rows)), "ts": pa.array(np.full(rows, time.time()))}
    batch = pa.record_batch(columns).replace_schema_metadata({"model": "m", "version": "1"})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    body: bytes = sink.getvalue().to_pybytes()
    return body


def cloud_events(rows: int, random: np.random.Generator) -> list[bytes]:
    """A request in the V1 protocol, and its response."""
    instance = {f"n{i}": float(random.normal()) for i in range(NUMERIC)} | {f"c{i}": "k1" for i in range(CATEGORICAL)}
    halves: list[tuple[str, dict[str, object]]] = [
        ("request", {"instances": [instance] * rows}),
        ("response", {"predictions": [1] * rows}),
    ]
    return [
        json.dumps(
            {
                "id": "ID",
                "type": f"org.kubeflow.serving.inference.{kind}",
                "inferenceservicename": "m",
                "data": data,
            }
        ).encode()
        for kind, data in halves
    ]


def best(work: Callable[[], object], tries: int = 15) -> float:
    """Shortest CPU time of several tries, in seconds."""
    times = []
    for _ in range(tries):
        begin = time.process_time()
        work()
        times.append(time.process_time() - begin)
    return min(times)


def joined(adapter: KServe, bodies: list[bytes], rows: int, identifiers: Iterator[int]) -> None:
    """Let an adapter join requests and responses of a thousand rows in all."""
    content = Content("application/cloudevents+json")
    for _ in range(1000 // rows):
        identifier = b"%d" % next(identifiers)
        for body in bodies:
            taken = adapter.translate(adapter.read(content, body.replace(b"ID", identifier)), 0.0)
        assert len(taken.lines) == rows


def main() -> None:
    """Print events per second of one core."""
    random = np.random.default_rng(1)
    settings = ModelSettings.model_validate({"name": "m", "task": "binary", "profile": "m.json"})
    model = Model(settings, profile(), Limits())
    model.admit({"1"})
    decoder = Decoder([model.reference.schema])
    for rows in (1000, 4000, 16000, 64000):
        body = arrow(rows, random)
        decoded = rows / best(partial(decoder.decode, body, time.time()))
        columns = decoder.decode(body, time.time()).columns["m"]
        counted = rows / best(partial(model.count, columns))
        both = 1 / (1 / decoded + 1 / counted)
        print(
            f"arrow, {rows} rows a body: {decoded / 1e6:.2f} M events/s decoded, {counted / 1e6:.2f} M counted, ",
            end="",
        )
        print(f"{both / 1e6:.2f} M both")
    for rows in (1, 100):
        adapter = KServe(KServeSettings(), {"m": model.reference.profile})
        work = partial(joined, adapter, cloud_events(rows, random), rows, iter(range(10**9)))
        print(f"kserve, {rows} rows a request: {1000 / best(work) / 1e3:.0f} k events/s joined and written as NDJSON")


if __name__ == "__main__":
    main()
