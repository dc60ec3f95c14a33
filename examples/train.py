"""Train a classifier, keep its reference, score new rows, and send both predictions and labels: examples/README.md."""

import sys

import joblib
import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression

from mlops_exporter.client import Monitor

FEATURES = ["amount", "age"]


def customers(rows: int, seed: int) -> pd.DataFrame:
    """Return customers, and whether each paid back."""
    random = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "amount": random.lognormal(3, 1, rows).round(2),
            "age": random.normal(40, 9, rows).round(),
            "sex": random.choice(["female", "male"], rows),
        }
    )
    odds = np.exp(frame["age"] / 9 - frame["amount"] / 20 - 3)
    return frame.assign(y=(random.random(rows) < odds / (1 + odds)).astype(int))


def train() -> None:
    """Fit the model, and write what it says of rows that it has not seen: the reference."""
    past, unseen = customers(4000, 1), customers(4000, 2)
    model = LogisticRegression().fit(past[FEATURES], past["y"])
    joblib.dump(model, "credit.joblib")
    unseen.assign(p=model.predict_proba(unseen[FEATURES])[:, 1]).to_csv("reference.csv", index=False)


def send(url: str) -> None:
    """Score new customers; their labels follow by id."""
    model, new = joblib.load("credit.joblib"), customers(500, 3)
    with Monitor(url, model="credit") as monitor:
        for row in new.assign(p=model.predict_proba(new[FEATURES])[:, 1]).itertuples():
            features = {name: getattr(row, name) for name in FEATURES}
            monitor.predict(id=f"c{row.Index}", features=features, score=row.p, groups={"sex": row.sex})
            monitor.label(f"c{row.Index}", row.y)


if __name__ == "__main__":
    send(sys.argv[2]) if sys.argv[1:2] == ["send"] else train()
