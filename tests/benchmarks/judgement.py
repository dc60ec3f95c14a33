"""What the judgement families cost: events per second taken in with each family on, against all of them off.

Run it: python -m tests.benchmarks.judgement. Times are those of Model.count alone and of decoding and counting.
"""

import gc
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from mlops_exporter.counting.model import Model
from mlops_exporter.events.decoder import Decoder
from mlops_exporter.ingest.intake import BATCH_EVENTS
from tests.support.one_model import make_model

NUMERIC, CATEGORICAL = 20, 5
ROWS, REPEATS = 16_384, 15

GOAL = 0.70
"""Share of the speed without any family that all of them together must leave."""

OFF: dict[str, Any] = {name: {"enabled": False} for name in ("estimation", "multivariate", "change")}
FAMILIES: dict[str, dict[str, Any]] = {
    "fairness": {"fairness": {"attributes": ["sex", "region", "sex*region"]}},
    "estimation": {"estimation": {"enabled": True}},
    "multivariate": {"multivariate": {"enabled": True}},
    "change": {"change": {"enabled": True}},
}


def _table(rows: int, rng: np.random.Generator) -> dict[str, list[Any]]:
    table: dict[str, list[Any]] = {f"x{i}": rng.normal(0, 1, rows).tolist() for i in range(NUMERIC)}
    table |= {f"c{i}": rng.choice(list("abcdefgh"), rows).tolist() for i in range(CATEGORICAL)}
    score = 1 / (1 + np.exp(-np.array(table["x0"]) - np.array(table["x1"])))
    return table | {
        "sex": rng.choice(["female", "male"], rows).tolist(),
        "region": rng.choice(["north", "south", "east", "west"], rows).tolist(),
        "score": score.tolist(),
        "label": (rng.random(rows) < score).astype(int).tolist(),
    }


def _model(directory: Path, settings: dict[str, Any]) -> Model:
    table = _table(5000, np.random.default_rng(0))
    request = {"task": "binary", "label": "label", "scores": {"1": "score"}, "groups": ("sex", "region")}
    return make_model(directory, table, request, **settings)


def _bodies(rows: int) -> list[bytes]:
    table = _table(rows, np.random.default_rng(1))
    names = [name for name in table if name[0] in "xc"]
    lines = [
        json.dumps(
            {
                "model": "m",
                "id": str(row),
                "features": {name: table[name][row] for name in names},
                "score": table["score"][row],
                "label": table["label"][row],
                "groups": {"sex": table["sex"][row], "region": table["region"][row]},
            }
        )
        for row in range(rows)
    ]
    return ["\n".join(lines[start : start + BATCH_EVENTS]).encode() for start in range(0, rows, BATCH_EVENTS)]


def measure(models: dict[str, Model], bodies: list[bytes]) -> dict[str, tuple[float, float]]:
    """Return the best seconds for counting, and for decoding and counting, of each model; rounds are interleaved."""
    best = {name: (float("inf"), float("inf")) for name in models}
    for repeat in range(REPEATS):
        for name, model in list(models.items())[:: 1 if repeat % 2 else -1]:
            gc.collect()
            decoder = Decoder([model.reference.schema])
            counting = 0.0
            fresh = [body.replace(b'"id": "', b'"id": "%d-' % repeat) for body in bodies]
            begin = time.process_time()
            for body in fresh:
                columns = decoder.decode(body, time.time()).columns[model.name]
                model.admit({"default"})
                start = time.process_time()
                model.count(columns)
                counting += time.process_time() - start
            total = time.process_time() - begin
            best[name] = (min(best[name][0], counting), min(best[name][1], total))
    return best


def shares(*names: str) -> dict[str, tuple[float, float]]:
    """Measure models without any family, with those named, and with all."""
    everything = {key: value for settings in FAMILIES.values() for key, value in settings.items()}
    settings = {"off": {}, **{name: FAMILIES[name] for name in names}, "all": everything}
    with tempfile.TemporaryDirectory() as directory:
        models = {name: _model(Path(directory), {**OFF, **more}) for name, more in settings.items()}
    return measure(models, _bodies(ROWS))


def main() -> None:
    """Print a table of events per second, and of the share that each family leaves."""
    best = shares(*FAMILIES)
    count, whole = best["off"]
    print(f"{'families':<14}{'count only':>14}{'share':>8}{'with decoding':>16}{'share':>8}")
    for name, (counting, total) in best.items():
        print(
            f"{name:<14}{ROWS / counting:>12.0f}/s{count / counting:>8.2f}{ROWS / total:>14.0f}/s{whole / total:>8.2f}"
        )


if __name__ == "__main__":
    main()
