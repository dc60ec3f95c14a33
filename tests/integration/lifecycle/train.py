"""Run by the Python of MLflow's own environment: trains a small model with scikit-learn and saves it for its servers.

    python train.py save DIRECTORY       model/ for `mlflow models serve`, mlserver/ for MLServer, golden.ndjson
    python train.py log URI DIRECTORY    trains with tracking, registers version after version of `credit`

The file that MODEL_FAULT names breaks the model while it is served: swapped columns, a broken scaler, a label flip, or
another artifact.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

FEATURES = ["amount", "income", "age"]


def frame(rows: int, seed: int) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "amount": random.lognormal(3, 0.6, rows),
            "income": random.normal(50, 12, rows),
            "age": random.integers(18, 80, rows).astype(float),
        }
    )
    logit = 0.08 * table["amount"] - 0.09 * table["income"] + 0.02 * table["age"] + 1.6
    table["label"] = (random.random(rows) < 1 / (1 + np.exp(-logit))).astype(int)
    return table


class Served(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """The model as it is served: probabilities of the positive class."""

    def __init__(self, right: Any, other: Any) -> None:
        self.right, self.other = right, other

    def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
        table = pd.DataFrame(model_input)[FEATURES].astype(float)
        fault = Path(os.environ["MODEL_FAULT"]).read_text().strip()
        model = self.right
        if fault == "swapped columns":
            table = table.rename(columns={"amount": "income", "income": "amount"})[FEATURES]
        elif fault == "a broken scaler":
            table = table / 10
        elif fault == "a wrong artifact":
            model = self.other
        scores = model.predict_proba(table)[:, 1]
        return 1 - scores if fault == "a label flip" else scores


def trained(seed: int, columns: list[str]) -> Any:
    table = frame(3000, seed)
    masked = table[FEATURES].where(pd.Series(True, index=table.index), 0).copy()
    for name in FEATURES:
        if name not in columns:
            masked[name] = np.random.default_rng(9).permutation(masked[name])
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(masked, table["label"])


def save(directory: Path) -> None:
    os.environ["MODEL_FAULT"] = str(directory / "fault")
    (directory / "fault").write_text("")
    served = Served(trained(1, FEATURES), trained(2, ["age"]))
    mlflow.pyfunc.save_model(str(directory / "model"), python_model=served, pip_requirements=[])
    golden = frame(1000, 3)
    golden["p"] = served.right.predict_proba(golden[FEATURES])[:, 1]
    golden.to_json(directory / "golden.ndjson", orient="records", lines=True, double_precision=15)
    runtime = directory / "mlserver"
    runtime.mkdir()
    (runtime / "model-settings.json").write_text(
        json.dumps({"name": "credit", "implementation": "runtime.Credit", "parameters": {"version": "7"}})
    )


def log(uri: str, directory: Path) -> None:
    from mlops_exporter.lifecycle.training import log_profile

    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment("credit")
    with mlflow.start_run() as run:
        model = trained(1, FEATURES)
        table = frame(2000, 4)
        table["p"] = model.predict_proba(table[FEATURES])[:, 1]
        mlflow.log_metric("val_auc", 0.876)
        log_profile(table, task="binary", label="label", score="p", positive="1")
        info = mlflow.sklearn.log_model(model, name="model", registered_model_name="credit", pip_requirements=[])
    mlflow.MlflowClient().set_registered_model_alias("credit", "champion", info.registered_model_version)
    table.to_json(directory / "reference.ndjson", orient="records", lines=True)
    print(json.dumps({"run": run.info.run_id, "version": str(info.registered_model_version)}))


if __name__ == "__main__":
    if sys.argv[1] == "save":
        save(Path(sys.argv[2]))
    else:
        log(sys.argv[2], Path(sys.argv[3]))
