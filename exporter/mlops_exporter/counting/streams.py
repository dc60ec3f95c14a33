"""The streams in which changes are looked for: a model's errors and its scores, as numbers in [0, 1]."""

from typing import Literal

import numpy as np

from mlops_exporter.arrays import Floats
from mlops_exporter.counting.ledger import Outputs
from mlops_exporter.profile.bins import NumericVariable
from mlops_exporter.profile.profile import Profile

Stream = Literal["error", "score"]
Scale = tuple[float, float]
"""Offset and width: a number of the stream is (value - offset) / width, cut to [0, 1]."""


def scales(profile: Profile) -> dict[Stream, Scale]:
    """Return how the streams that a model has are scaled: a regression's by two standard deviations."""
    if profile.classes:
        return {"error": (0.0, 1.0), "score": (0.0, 1.0)}
    found: dict[Stream, Scale] = {}
    if isinstance(profile.label, NumericVariable):
        found["error"] = (0.0, 2 * profile.label.standard_deviation or 1.0)
    if isinstance(profile.prediction, NumericVariable):
        spread = profile.prediction.standard_deviation or 1.0
        found["score"] = (profile.prediction.mean - 2 * spread, 4 * spread)
    return found


def values(profile: Profile, stream: Stream, scale: Scale, outputs: Outputs, labels: Floats) -> Floats:
    """Return a stream's numbers, unknown ones left out; `labels` are read for the errors alone.

    `error`: 1 for a wrong class; of a regression |prediction - label|. `score`: the positive class's probability, of
    more classes the highest; of a regression the prediction.
    """
    if stream == "error":
        known = ~(np.isnan(outputs.prediction) | np.isnan(labels))
        error = outputs.prediction[known] - labels[known]
        numbers = (error != 0).astype(np.float64) if profile.classes else np.abs(error)
    elif profile.classes:
        scores = outputs.scores.max(axis=1, initial=0.0)
        numbers = scores[~np.isnan(scores)] if outputs.scores.shape[1] else np.empty(0)
    else:
        numbers = outputs.prediction[~np.isnan(outputs.prediction)]
    offset, width = scale
    return np.clip((numbers - offset) / width, 0.0, 1.0)
