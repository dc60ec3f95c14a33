"""Holds drift of all features together and estimated errors against NannyML's, in an environment of its own.

`make nannyml`. Two data sets that NannyML ships: loans for cars, of which five of ten chunks have drifted, and prices
of cars.
"""

import logging
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

os.environ["NML_DISABLE_USAGE_LOGGING"] = "1"  # or it tells its makers over the network
import nannyml

from mlops_exporter.collectors.estimation import EstimationCollector
from mlops_exporter.collectors.multivariate import MultivariateCollector
from mlops_exporter.counting.model import Model
from mlops_exporter.exposition.samples import Collector
from tests.support.one_model import feed, fresh, make_model, samples

CHUNKS = 10
LOANS = ("car_value", "salary_range", "debt_to_income_ratio", "loan_length", "repaid_loan_on_prev_car",
         "size_of_downpayment", "driver_tenure")  # fmt: skip
CARS = ("car_age", "km_driven", "price_new", "accident_count", "door_count", "fuel", "transmission")


def ours(
    reference: pd.DataFrame,
    chunks: list[pd.DataFrame],
    request: dict[str, Any],
    kind: Callable[[Sequence[Model]], Collector],
) -> list[dict[str, float]]:
    """Return what a collector shows of each chunk, by the last parts of its series."""
    features = request["features"]
    found = []
    with tempfile.TemporaryDirectory() as directory:
        columns = [*features, *(request[name] for name in ("label", "prediction") if name in request)]
        columns += list(request.get("scores", {}).values())
        table = {name: reference[name].tolist() for name in columns}
        model = make_model(Path(directory), table, request)
    said = "score" if request["task"] == "binary" else "prediction"
    for chunk in chunks:
        one = fresh(model)
        rows = chunk[list(features)].to_dict("records")
        values = chunk["y_pred_proba" if said == "score" else "y_pred"].tolist()
        feed(one, [{"features": row, said: value} for row, value in zip(rows, values, strict=True)])
        shown = samples(kind([one]))
        found.append({key.replace('model="m",version="default",window="1h",', ""): of for key, of in shown.items()})
    return found


def in_chunks(table: pd.DataFrame) -> list[pd.DataFrame]:
    """Cut a table into chunks as NannyML does."""
    return [table.iloc[rows] for rows in np.array_split(np.arange(len(table)), CHUNKS)]


def loans() -> None:
    """Tell which chunks drift by the error of reconstruction."""
    reference, analysis, _ = nannyml.load_synthetic_car_loan_dataset()
    calculator = nannyml.DataReconstructionDriftCalculator(column_names=list(LOANS), chunk_number=CHUNKS)
    table = calculator.fit(reference).calculate(analysis).filter(period="analysis").to_df()
    theirs = table["reconstruction_error"]
    request = {"task": "binary", "label": "repaid", "scores": {"1.0": "y_pred_proba"}, "features": LOANS}
    shown = ours(reference, in_chunks(analysis), request, MultivariateCollector)
    key = '{statistic="pca_reconstruction"}'
    print("pca_reconstruction of loans:   value  threshold  drifts   NannyML's value, bounds, alert")
    for number, each in enumerate(shown):
        value, limit = each["ml_data_drift" + key], each["ml_data_drift_threshold" + key]
        other, low, high, alert = (theirs[part].iloc[number] for part in
                                   ("value", "lower_threshold", "upper_threshold", "alert"))  # fmt: skip
        print(f"{number:2} {value:32.3f} {limit:10.3f}  {value > limit!s:6}   {other:.3f} {low:.3f} {high:.3f} {alert}")
    flags = [each["ml_data_drift" + key] > each["ml_data_drift_threshold" + key] for each in shown]
    assert flags == theirs["alert"].tolist() == [False] * 5 + [True] * 5


def cars() -> None:
    """Tell how far estimated errors are from realised ones."""
    reference, analysis, targets = nannyml.load_synthetic_car_price_dataset()
    estimator = nannyml.DLE(
        feature_column_names=list(CARS), y_pred="y_pred", y_true="y_true", metrics=["mae", "rmse"], chunk_number=CHUNKS
    )
    theirs = estimator.fit(reference).estimate(analysis).filter(period="analysis").to_df()
    request = {"task": "regression", "label": "y_true", "prediction": "y_pred", "features": CARS}
    shown = ours(reference, in_chunks(analysis), request, EstimationCollector)
    errors = np.array_split((targets["y_true"] - analysis["y_pred"]).to_numpy(), CHUNKS)
    for name, realised in (
        ("mae", [np.abs(each).mean() for each in errors]),
        ("rmse", [np.square(each).mean() ** 0.5 for each in errors]),
    ):
        worst = 0.0
        print(f"{name} of prices: realised, ours, NannyML's; ours and NannyML's less realised")
        for number, actual in enumerate(realised):
            own = shown[number][f'ml_model_performance_estimated{{metric="{name}"}}']
            other = theirs[name]["value"].iloc[number]
            beyond = [each / actual - 1 for each in (own, other)]
            print(f"{number:2} {actual:8.1f} {own:8.1f} {other:8.1f}  {beyond[0]:+.1%} {beyond[1]:+.1%}")
            worst = max(worst, abs(own / other - 1))
        assert worst < 0.03


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    loans()
    cars()
