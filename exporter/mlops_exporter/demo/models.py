"""The demonstration's models at work: a linear predictor in NumPy, without the library that trained it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np

from mlops_exporter.arrays import Floats
from mlops_exporter.demo.tables import Table


@dataclass(frozen=True, slots=True)
class Numeric:
    """A standardised feature: `weight` applies to (value - mean) / scale."""

    mean: float
    scale: float
    weight: float


@dataclass(frozen=True, slots=True)
class LinearModel:
    """Linear regression (link identity) or logistic regression (link logit).

    `categorical` holds a weight per category of each feature (one-hot). A missing number counts as its training
    mean, an unknown category as none; neither moves the prediction.
    """

    link: Literal["identity", "logit"]
    intercept: float
    numeric: dict[str, Numeric]
    categorical: dict[str, dict[str, float]]

    @property
    def features(self) -> tuple[str, ...]:
        """The features' names: numeric, then categorical."""
        return (*self.numeric, *self.categorical)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the coefficients from JSON, laid out as this class is."""
        raw = json.loads(path.read_text())
        raw["numeric"] = {name: Numeric(**terms) for name, terms in raw["numeric"].items()}
        return cls(**raw)

    def predict(self, features: Table) -> Floats:
        """Return one prediction per row: the target's unit for identity, the positive class's probability for logit.

        `features` has a column of shape (rows,) for each of the model's features.
        """
        rows = len(next(iter(features.values())))
        total = np.full(rows, self.intercept)
        for name, terms in self.numeric.items():
            total += np.nan_to_num((features[name] - terms.mean) / terms.scale) * terms.weight
        for name, weights in self.categorical.items():
            categories, position = np.unique(features[name], return_inverse=True)
            total += np.array([weights.get(category, 0.0) for category in categories.tolist()])[position]
        return 1 / (1 + np.exp(-total)) if self.link == "logit" else total
