"""What tests and simulations of embeddings share."""

import json
from pathlib import Path

import numpy as np

from mlops_exporter.counting.model import Model
from mlops_exporter.profile.profile import load, save
from mlops_exporter.profiling.build import BuildRequest, build
from mlops_exporter.settings.models import Limits, ModelSettings
from tests.support.one_model import WINDOW

DIMENSIONS = 48


def texts(n: int, seed: int, *, shift: float = 0.0, scale: float = 1.0, flipped: bool = False) -> np.ndarray:
    """Vectors (n, dimensions) around a mean, the first two dimensions of which are correlated."""
    rng = np.random.default_rng(seed)
    mean = np.linspace(-0.5, 1, DIMENSIONS)
    noise = rng.normal(0, 0.3, (n, DIMENSIONS))
    noise[:, 1::2] = 0.2 * noise[:, 1::2] + (-1 if flipped else 1) * 0.95 * noise[:, ::2]
    return scale * (mean + noise + shift * np.cos(np.arange(DIMENSIONS)))


def model_of_texts(directory: Path) -> Model:
    """A model one of whose features is an embedding; its profile is built in `directory`."""
    path = directory / "reference.ndjson"
    rows = [
        {"text": None if row % 50 == 0 else vector, "length": float(row % 7), "y": row % 2}
        for row, vector in enumerate(texts(4000, 1).tolist())
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    profile, _ = build(BuildRequest(data=path, task="binary", label="y", prediction="y"))
    save(profile, directory / "profile.json")
    profile = load(directory / "profile.json")
    assert profile.embeddings["text"].dimensions == DIMENSIONS
    assert list(profile.features) == ["length"]
    settings = ModelSettings.model_validate({"name": "m", "task": "binary", "profile": "p", "windows": [WINDOW]})
    return Model(settings, profile, Limits())
