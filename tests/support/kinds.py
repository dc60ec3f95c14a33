"""Tables of models of every kind: rows with their labels, and the columns that say what is what."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from mlops_exporter.profile.profile import Task, save
from mlops_exporter.profiling.build import BuildRequest, build

CLASSES = ("cat", "dog", "emu")


class Kind(NamedTuple):
    """A table of rows at times of its own, what its columns are, and how a profile is built of it."""

    table: Any
    columns: dict[str, Any]
    request: dict[str, Any]
    settings: dict[str, Any]


def kind(task: Task, rows: int, start: float, seconds: float, seed: int = 1) -> Kind:
    """Return rows of a task within so many seconds from `start`: times, ids, a number and a text as features."""
    rng = np.random.default_rng(seed)
    times = np.sort(start + rng.uniform(0, seconds, rows))
    table: dict[str, Any] = {
        "id": [f"{seed}-{number}" for number in range(rows)],
        "at": pa.array((times * 1e6).astype(np.int64), pa.timestamp("us", "UTC")),
        "amount": rng.normal(50, 9, rows).round(3),
        "country": rng.choice(["DE", "FR", "IT"], rows),
    }
    columns: dict[str, Any] = {"ts": "at"}
    request: dict[str, Any] = {"exclude": ("at", "id"), "label": "truth"}
    settings: dict[str, Any] = {}
    if task == "multilabel":
        scores, actual = rng.uniform(size=(2, rows, len(CLASSES)))
        sets = [[name for name, p in zip(CLASSES, row, strict=True) if p >= 0.5] for row in scores]
        table |= {"said": sets, "truth": [[n for n, p in zip(CLASSES, row, strict=True) if p >= 0.4] for row in actual]}
        table |= {f"p_{name}": scores[:, k].round(3) for k, name in enumerate(CLASSES)}
        of_each = {name: f"p_{name}" for name in CLASSES}
        columns |= {"prediction": "said", "label": "truth", "scores": of_each}
        request |= {"scores": of_each, "exclude": ("at", "id", "said")}
    elif task == "ranking":
        shown = [rng.choice(40, size, replace=False).astype(str).tolist() for size in rng.integers(1, 9, rows)]
        table |= {"said": shown, "truth": [each[: rng.integers(0, 3)] for each in shown]}
        columns |= {"prediction": "said", "label": "truth"}
        request |= {"prediction": "said"}
    else:
        guess = rng.normal(100, 20, rows).round(3)
        table |= {"said": guess, "truth": (guess + rng.normal(0, 5, rows)).round(3)}
        table |= {"low": guess - 6.4, "high": guess + 6.4}
        columns |= {"prediction": "said", "label": "truth", "quantiles": {0.1: "low", 0.9: "high"}}
        request |= {"prediction": "said", "quantiles": {0.1: "low", 0.9: "high"}}
        if task == "forecast":
            table |= {"ahead": rng.choice(["1h", "1d"], rows), "naive": (guess + rng.normal(0, 15, rows)).round(3)}
            columns |= {"horizon": "ahead", "naive": "naive"}
            request |= {"horizon": "ahead", "naive": "naive"}
        else:
            table["stars"] = rng.integers(1, 6, rows).astype(float)
            columns["outcomes"] = {"rating": "stars"}
            settings["outcomes"] = {"rating": {"low": 1, "high": 5}}
            request["exclude"] = ("at", "id", "stars")
    return Kind(pa.table(table), columns, {"task": task, **request}, settings)


def write_configuration(directory: Path, of: Kind, *models: str) -> Path:
    """Write the configuration of some models of a kind, with their profile."""
    directory.mkdir(parents=True, exist_ok=True)
    pq.write_table(of.table, directory / "reference.parquet")
    save(build(BuildRequest(data=directory / "reference.parquet", **of.request))[0], directory / "profile.json")
    common = {"task": of.request["task"], "profile": "profile.json", "windows": ["15m", "1h"], **of.settings}
    path = directory / "mlops-exporter.yml"
    settings = {"models": [{"name": name, **common} for name in models], "state": {"path": "state"}}
    path.write_text(yaml.safe_dump(settings))
    return path
