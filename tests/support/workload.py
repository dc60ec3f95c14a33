"""Workload W: events of 20 numeric and 5 categorical features, prediction, score and label, about 567 bytes each."""

import json

import numpy as np

from mlops_exporter.counting.model import Model
from mlops_exporter.profile.bins import CategoricalVariable, NumericVariable, Variable, count_numeric, quantile_edges
from mlops_exporter.profile.profile import Profile, Provenance
from mlops_exporter.settings.models import Limits, ModelSettings

NUMERIC = [f"num_{number:02d}" for number in range(20)]
CATEGORICAL = [f"cat_{number}" for number in range(5)]
CATEGORIES = ["aa", "bb", "cc", "dd", "ee", "ff", "gg", "hh"]
REFERENCE_ROWS = 50_000


def profile(seed: int = 0) -> Profile:
    """Return the profile of W's features, a score, and two classes."""
    rng = np.random.default_rng(seed)
    features: dict[str, Variable] = {name: _numeric(rng.normal(size=REFERENCE_ROWS)) for name in NUMERIC}
    for name in CATEGORICAL:
        counts = rng.multinomial(REFERENCE_ROWS, np.full(len(CATEGORIES), 1 / len(CATEGORIES)))
        features[name] = CategoricalVariable(CATEGORIES, [*counts.tolist(), 0, 0, 0])
    scores = rng.uniform(size=REFERENCE_ROWS)
    share = np.arange(1, 256) / 256
    half = REFERENCE_ROWS // 2
    classes = CategoricalVariable(["0", "1"], [half, half, 0, 0, 0])
    return Profile(
        schema=1,
        task="binary",
        rows=REFERENCE_ROWS,
        provenance=Provenance("", "", "3", "", ""),
        features=features,
        classes=["0", "1"],
        score=_numeric(scores),
        score_edges=np.unique(np.concatenate([share, np.quantile(scores, share)])).tolist(),
        prediction=classes,
        label=classes,
        performance={"accuracy": 0.9},
    )


def _numeric(sample: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> NumericVariable:
    edges, exported = quantile_edges(np.sort(sample), sample.min(), sample.max(), 10)
    counts = count_numeric(np.sort(sample), np.array([*edges, np.inf, np.nan])).tolist()
    positions = ((np.array(edges[:-1]) + edges[1:]) / 2).tolist()
    return NumericVariable(edges, exported, counts, positions, float(sample.mean()), float(sample.std()))


def model(windows: tuple[str, ...] = ("15m", "1h", "24h")) -> Model:
    """Return a model that takes W's events."""
    return Model(settings(windows), profile(), Limits())


def settings(windows: tuple[str, ...] = ("15m", "1h", "24h")) -> ModelSettings:
    """Return the settings of W's model."""
    return ModelSettings.model_validate(
        {"name": "credit", "task": "binary", "profile": "credit.json", "windows": list(windows)}
    )


def events(count: int, now: float, seed: int = 1) -> list[bytes]:
    """Return NDJSON lines, without their line ends, whose `ts` lie in the minute before `now`."""
    rng = np.random.default_rng(seed)
    numeric = np.round(rng.normal(size=(count, len(NUMERIC))), 4).tolist()
    categories = rng.integers(0, len(CATEGORIES), (count, len(CATEGORICAL)))
    scores = np.round(rng.uniform(size=count), 4).tolist()
    labels = (rng.uniform(size=count) < scores).astype(int).tolist()
    times = np.sort(now - rng.uniform(0, 60, count)).tolist()
    return [
        json.dumps(
            {
                "model": "credit",
                "version": "3",
                "id": f"{seed:04d}-{number:010d}",
                "ts": round(times[number], 3),
                "features": {
                    **dict(zip(NUMERIC, numeric[number], strict=True)),
                    **{name: CATEGORIES[code] for name, code in zip(CATEGORICAL, categories[number], strict=True)},
                },
                "score": scores[number],
                "prediction": int(scores[number] >= 0.5),
                "label": labels[number],
            },
            separators=(",", ":"),
        ).encode()
        for number in range(count)
    ]


def bodies(count: int, per_body: int, now: float, seed: int = 1) -> list[bytes]:
    """Return NDJSON bodies of `per_body` events each."""
    lines = events(count, now, seed)
    return [b"\n".join(lines[start : start + per_body]) + b"\n" for start in range(0, count, per_body)]
