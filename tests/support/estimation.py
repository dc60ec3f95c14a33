"""What tests and simulations of estimation share."""

from typing import Any

import numpy as np
from sklearn import metrics as sklearn

Table = dict[str, list[Any]]


def sigmoid(x: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-x)))


def binary(n: int, seed: int, *, shift: float = 0.0, concept: float = 1.0, distortion: float = 1.0) -> Table:
    """A population whose scores are distorted logits; `shift` moves the features, `concept` scales their effect."""
    x = np.random.default_rng(seed).normal(shift, 1.5, n)
    label = (np.random.default_rng(seed + 1).random(n) < sigmoid(concept * x)).astype(int)
    return {"x": x.tolist(), "score": sigmoid(distortion * x).tolist(), "label": label.tolist()}


BINARY = {"task": "binary", "label": "label", "scores": {"1": "score"}, "features": ("x",)}


def events(table: Table, *, labelled: bool) -> list[dict[str, Any]]:
    return [
        {"features": {"x": x}, "score": score, **({"label": label} if labelled else {})}
        for x, score, label in zip(table["x"], table["score"], table["label"], strict=True)
    ]


def estimated(found: dict[str, float], metric: str, suffix: str = "") -> float:
    return found[f'ml_model_performance_estimated{suffix}{{model="m",version="default",window="1h",metric="{metric}"}}']


def realised(table: Table) -> dict[str, float]:
    score, label = np.array(table["score"]), np.array(table["label"])
    predicted = score >= 0.5
    return {
        "accuracy": sklearn.accuracy_score(label, predicted),
        "precision": sklearn.precision_score(label, predicted),
        "recall": sklearn.recall_score(label, predicted),
        "f1": sklearn.f1_score(label, predicted),
        "roc_auc": sklearn.roc_auc_score(label, score),
    }
