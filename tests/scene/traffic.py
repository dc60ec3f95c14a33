"""What the scene's models were trained on, and the events of two hours of their life.

`credit` (binary) has 25 features, groups and two versions; one feature drifts in the last hour, and the new version
treats one group worse. `rent` (regression) is worse in production than in staging. `intent` (three classes) gets its
labels late. Of old flats `rent` is three times as wrong in the last hour. The numbers are drawn, and the same every
time.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tests.scene import kinds
from tests.scene.shares import BEGIN, DRIFT_FROM, END, LATE_FROM, Event, Floats, Share

FEATURES = ("income", *(f"f{number:02}" for number in range(2, 24)), "country", "channel")
COUNTRIES, CHANNELS = ("DE", "FR", "PL"), ("web", "app", "branch")
INTENTS = ("buy", "ask", "leave")
OLD = 42
"""From which age on a flat is old, in years."""


def train(directory: Path) -> None:
    """Write the training data of each model into DIRECTORY, as MODEL.csv or MODEL.ndjson."""
    kinds.train(directory)
    rng = np.random.default_rng(1)
    for model, events in (("credit", _credit), ("rent", _rent), ("intent", _intent)):
        rows = events(rng, np.zeros(6000), Share(model, 1.0, 0, noise=3.0))
        with (directory / f"{model}.csv").open("w") as file:
            for number, row in enumerate(rows):
                flat = (
                    row["features"] | row.get("groups", {}) | {"label": row["label"], "prediction": row["prediction"]}
                )
                if "score" in row:
                    flat["score"] = row["score"]
                for name, score in row.get("scores", {}).items():
                    flat[f"score_{name}"] = score
                if not number:
                    file.write(",".join(flat) + "\n")
                file.write(",".join(str(value) for value in flat.values()) + "\n")


def live(share: Share, file: Path) -> None:
    """Write the events of one exporter's share of a model as NDJSON, in the order of their time."""
    rng = np.random.default_rng(share.seed)
    times = np.sort(rng.uniform(BEGIN, END - 1, int(share.rate * (END - BEGIN))))
    others = {name: events for name, (events, _) in kinds.KINDS.items()}
    make = {"credit": _credit, "rent": _rent, "intent": _intent} | others
    lines: list[tuple[float, str]] = []
    for number, (ts, row) in enumerate(zip(times.tolist(), make[share.model](rng, times, share), strict=True)):
        label = row.pop("label", None)
        event = {"model": share.model, "id": f"{share.seed}-{number}", "ts": round(ts, 3), **row}
        event["latency_seconds"] = round(float(rng.lognormal(-3.5, 0.4)), 4)
        lines.append((ts, json.dumps(event)))
        late = 3600.0 if share.model == "intent" and ts > LATE_FROM else 30.0
        heard = share.model == "shop" or rng.random() < 0.9  # of a list that nobody hears of, nothing was relevant
        if label is not None and ts + late < END and heard:
            answer = {"model": share.model, "id": event["id"], "ts": round(ts + late, 3), "label": label}
            lines.append((ts + late, json.dumps(answer)))
    file.write_text("".join(f"{line}\n" for _, line in sorted(lines)))


def _credit(rng: np.random.Generator, times: Floats, share: Share) -> Iterator[Event]:
    for ts, row in zip(times.tolist(), rng.standard_normal((len(times), 23)), strict=True):
        values = np.exp(row * 0.5 + 8)
        if ts > DRIFT_FROM:
            values[0] *= 2.2
        score = float(rng.beta(0.4, 0.4))
        version = "2026.11" if rng.random() < share.canary else "2026.10"
        sex = "female" if rng.random() < 0.45 else "male"
        wrong = version == "2026.11" and ts > DRIFT_FROM and rng.random() < 0.12
        label = int(rng.random() < score)
        prediction = int(score > 0.5)
        if version == "2026.11" and sex == "female" and prediction and rng.random() < 0.35:
            prediction = 0
        event: Event = {
            "version": version,
            "features": {
                **dict(zip(FEATURES[:23], (round(float(value), 3) for value in values), strict=True)),
                "country": COUNTRIES[rng.choice(3, p=(0.6, 0.3, 0.1))],
                "channel": CHANNELS[rng.choice(3, p=(0.5, 0.3, 0.2))],
            },
            "score": round(score, 4),
            "prediction": prediction,
            "label": 1 - label if wrong else label,
        }
        if share.groups:
            event["groups"] = {"sex": sex, "region": ("north", "south")[int(rng.random() < 0.5)]}
        yield event


def _rent(rng: np.random.Generator, times: Floats, share: Share) -> Iterator[Event]:
    for ts, (area, rooms, age) in zip(times.tolist(), rng.standard_normal((len(times), 3)).tolist(), strict=True):
        prediction = 20 + 5 * area + rooms
        region = ("north", "south")[int(rng.random() < 0.5)]
        wider = 3 if ts > DRIFT_FROM and 30 + 9 * age > OLD else 1
        yield {
            "version": "1",
            "features": {"area": round(70 + 20 * area, 2), "rooms": round(3 + rooms, 2), "age": round(30 + 9 * age, 2)},
            "prediction": round(prediction, 3),
            "groups": {"region": region},
            "label": round(prediction + float(rng.normal(0, share.noise * wider * 1.2533)), 3),
        }


def _intent(rng: np.random.Generator, times: Floats, share: Share) -> Iterator[Event]:
    for length, words in rng.standard_normal((len(times), 2)).tolist():
        scores = rng.dirichlet((0.3, 0.3, 0.3))
        yield {
            "version": "007",
            "features": {"length": round(120 + 30 * length, 1), "words": round(20 + 5 * words, 1)},
            "scores": {name: round(float(score), 4) for name, score in zip(INTENTS, scores, strict=True)},
            "prediction": INTENTS[int(scores.argmax())],
            "label": INTENTS[int(rng.choice(3, p=scores))],
        }
