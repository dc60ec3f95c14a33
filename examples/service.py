"""A FastAPI service whose predictions are watched: uvicorn service:app, with credit.joblib of train.py.

curl -H 'content-type: application/json' -d '{"id": "a1", "amount": 20, "age": 41}' http://127.0.0.1:8000/predict
"""

import os

import joblib
import pandas as pd
from fastapi import FastAPI
from pydantic import BaseModel

from mlops_exporter.client import Monitor, PredictionMiddleware

model = joblib.load("credit.joblib")
monitor = Monitor(os.environ.get("MLOPS_EXPORTER_URL", "http://127.0.0.1:10042"), model="credit")
app = FastAPI()


def event(request: dict, response: dict) -> dict:
    """Return what the exporter is told of a request and its answer."""
    return {"id": request["id"], "features": {n: request[n] for n in ("amount", "age")}, "score": response["score"]}


app.add_middleware(PredictionMiddleware, monitor=monitor, path="/predict", read=event)


class Customer(BaseModel):
    """Who asks for a credit."""

    id: str
    amount: float
    age: float


@app.post("/predict")
def predict(customer: Customer) -> dict[str, float]:
    """Return the probability that the credit is paid back."""
    row = pd.DataFrame([{"amount": customer.amount, "age": customer.age}])
    return {"score": float(model.predict_proba(row)[0, 1])}
