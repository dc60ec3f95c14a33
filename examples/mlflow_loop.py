"""Train, track and register with MLflow; the exporter takes model versions and profiles from its registry.

MLFLOW_TRACKING_URI=http://mlflow:5000 python mlflow_loop.py, with this in mlops-exporter.yml:

    state: {path: state}
    mlflow: {url: "http://mlflow:5000"}
    models:
      - {name: credit, task: binary, positive: "1", profiles: "mlflow:models:/credit"}
"""

import mlflow
from mlflow.models import infer_signature
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from train import FEATURES, customers

from mlops_exporter.lifecycle.training import log_profile

past, unseen = customers(4000, seed=1), customers(4000, seed=2)
mlflow.set_experiment("credit")
with mlflow.start_run():
    model = LogisticRegression().fit(past[FEATURES], past["y"])
    unseen["p"] = model.predict_proba(unseen[FEATURES])[:, 1]
    mlflow.log_metric("val_auc", roc_auc_score(unseen["y"], unseen["p"]))
    log_profile(unseen, task="binary", label="y", score="p", positive="1", groups=["sex"])
    signature = infer_signature(past[FEATURES], model.predict(past[FEATURES]))
    logged = mlflow.sklearn.log_model(model, name="model", signature=signature)
registered = mlflow.register_model(logged.model_uri, "credit")
mlflow.MlflowClient().set_registered_model_alias("credit", "champion", registered.version)
print(f"version {registered.version} is the champion")
