"""What tests and simulations of multivariate share."""

from typing import Any

import numpy as np

REQUEST = {"task": "binary", "label": "y", "prediction": "y"}


def correlated(n: int, seed: int, correlation: float, *, lognormal: bool = False, features: int = 6) -> np.ndarray:
    """Features of which the first two are correlated, all with the same marginal distribution."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, features))
    x[:, 1] = correlation * x[:, 0] + np.sqrt(1 - correlation**2) * x[:, 1]
    return np.exp(x) if lognormal else x


def table_of(x: np.ndarray) -> dict[str, list[Any]]:
    table: dict[str, list[Any]] = {f"x{i}": column.tolist() for i, column in enumerate(x.T)}
    return table | {"y": (x[:, 0] > np.median(x[:, 0])).astype(int).tolist()}
