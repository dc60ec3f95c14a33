"""The whole way of an event in one process: bodies in, expositions out, read with prometheus_client's parser."""

import asyncio
import csv
import json
import time
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from mlops_exporter.profile.profile import NUMERIC, Profile, Task
from mlops_exporter.profiling.build import BuildRequest, build
from mlops_exporter.service.service import Options, Service
from mlops_exporter.settings.config import Config

Event = dict[str, Any]
Labels = frozenset[tuple[str, str]]

GRID = 64
"""Scores are whole multiples of 1/GRID, each of which has a bin of its own: ROC AUC then has no error of binning."""

CLASSES = {"binary": ["no", "yes"], "multiclass": ["cat", "dog", "emu"], "regression": []}
CLASSES["multilabel"], CLASSES["forecast"] = CLASSES["multiclass"], []
STATISTICS = ["psi", "js", "hellinger", "ks", "wasserstein", "tvd"]


def reference_rows(task: Task, rows: int = 4000, seed: int = 7) -> list[Event]:
    """Reference data: a heavy-tailed feature, a whole one with ties, one with gaps, a text, a boolean."""
    random = np.random.default_rng(seed)
    table: dict[str, Sequence[Any]] = {
        "amount": random.lognormal(size=rows).tolist(),
        "rooms": random.poisson(3.0, rows).tolist(),
        "age": [
            None if gap else age for gap, age in zip(random.random(rows) < 0.2, random.normal(40, 9, rows), strict=True)
        ],
        "country": random.choice(["DE", "FR", "IT"], rows, p=[0.6, 0.3, 0.1]).tolist(),
        "owner": (random.random(rows) < 0.4).tolist(),
    }
    if task in NUMERIC:
        label = random.normal(100, 20, rows)
        table |= {"y": label.tolist(), "p": (label + random.normal(0, 5, rows)).tolist()}
        if task == "forecast":
            table |= {"ahead": random.choice(["1h", "1d"], rows).tolist()}
            table |= {"naive": (label + random.normal(0, 15, rows)).tolist()}
            table |= {name: [p + far for p in table["p"]] for name, far in (("low", -6.4), ("high", 6.4))}
    elif task == "multilabel":
        scores = random.integers(0, GRID + 1, (rows, 3)) / GRID
        actual = random.random((rows, 3)) < scores
        table["y"] = ["|".join(np.array(CLASSES[task])[each]) or "|" for each in actual]
        table |= {f"p_{name}": scores[:, k].tolist() for k, name in enumerate(CLASSES[task])}
    else:
        names = np.array(CLASSES[task])
        scores = random.multinomial(GRID, np.full(len(names), 1 / len(names)), rows) / GRID
        table["y"] = names[(scores.cumsum(axis=1) > random.random((rows, 1))).argmax(axis=1)].tolist()
        table |= {f"p_{name}": scores[:, k].tolist() for k, name in enumerate(names)}
    return [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]


@cache
def profile(task: Task) -> Profile:
    """The profile of `reference_rows`."""
    with TemporaryDirectory() as directory:
        path = Path(directory) / "reference.csv"
        rows = reference_rows(task)
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
        of_each = {name: f"p_{name}" for name in CLASSES[task]}
        scores = {"binary": {"positive": "p_yes"}, "multiclass": of_each, "multilabel": of_each}
        built, _ = build(
            BuildRequest(
                data=path,
                task=task,
                label="y",
                prediction="p" if task in NUMERIC else None,
                horizon="ahead" if task == "forecast" else None,
                naive="naive" if task == "forecast" else None,
                quantiles={0.1: "low", 0.5: "p", 0.9: "high"} if task == "forecast" else {},
                scores=scores.get(task, {}),
                positive="yes" if task == "binary" else None,
                separator="|" if task == "multilabel" else None,
                features=("amount", "rooms", "age", "country", "owner"),
                model_version="7",
            )
        )
    return built


def service(
    *tasks: Task,
    only: dict[Task, dict[str, Any]] | None = None,
    limits: dict[str, int] | None = None,
    **settings: Any,
) -> Service:
    """An exporter with a model per task, named like it; `settings` are those of all models, `only` those of one."""
    defaults: dict[str, Any] = {
        "windows": ["15m", "1h"],
        "min_samples": {"performance": 1, "drift": 10},
        "drift": {"statistics": STATISTICS},
    }
    models = [
        {"name": task, "task": task, "profile": f"{task}.json"} | defaults | settings | (only or {}).get(task, {})
        for task in tasks
    ]
    # Nothing samples compute here: no sample is missed for as long as a module's tests take.
    config = Config.model_validate({"models": models, "limits": limits or {}, "compute": {"interval": "1m"}})
    made = Service(config, {task: profile(task) for task in tasks}, Options())
    made.intake.closed = None  # as it is once the service runs
    return made


def ndjson(events: Iterable[object]) -> bytes:
    """The events as a body."""
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)


class Exposition:
    """A parsed exposition."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.families = {family.name: family for family in text_string_to_metric_families(text)}
        self._samples: dict[str, dict[Labels, float]] = {}
        for family in self.families.values():
            for sample in family.samples:
                self._samples.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value

    @property
    def names(self) -> set[str]:
        """Names of all samples, so `_bucket` and the like too."""
        return set(self._samples)

    def series(self, name: str, **labels: str) -> dict[Labels, float]:
        """The series of a name that have these labels."""
        wanted = set(labels.items())
        return {key: value for key, value in self._samples.get(name, {}).items() if wanted <= key}

    def value(self, name: str, **labels: str) -> float | None:
        """The one value, None where it is absent."""
        found = list(self.series(name, **labels).values())
        assert len(found) <= 1, f"{name} {labels}: {len(found)} series"
        return found[0] if found else None

    def by(self, label: str, name: str, **labels: str) -> dict[str, float]:
        """Values by one further label."""
        return {dict(key)[label]: value for key, value in self.series(name, **labels).items()}


def submit(service: Service, *bodies: bytes) -> tuple[int, list[tuple[int, str]]]:
    """Send bodies one after the other; returns accepted and refused."""

    async def run() -> tuple[int, list[tuple[int, str]]]:
        accepted = 0
        refused: list[tuple[int, str]] = []
        for body in bodies:
            result = await service.intake.submit("push", body, time.time())
            accepted += result.accepted
            refused += result.errors
        service.intake.flush()
        return accepted, refused

    return asyncio.run(run())


def fill_windows(service: Service) -> None:
    """Let what is counted be no beginning: its first events arrived long ago, so that every window is full."""
    for model in service.intake.models.values():
        for version in model.versions.values():
            version.begun = 0.0


def scrape(service: Service) -> Exposition:
    """What a scrape shows."""
    return Exposition(asyncio.run(service.registry.scrape(openmetrics=False, gzipped=False)).decode())
