"""The demonstration's traffic: bundled data replayed as predictions, with the labels that follow them.

Neither I/O nor a clock: the caller says how much time has passed.
"""

import heapq
from collections.abc import Iterator
from itertools import count
from math import isnan
from typing import Any, NamedTuple

import msgspec
import numpy as np

from mlops_exporter.demo.models import LinearModel
from mlops_exporter.demo.tables import DATA, Table, read_table

Event = dict[str, Any]

MPG_PER_SECOND = 40
MPG_TRAINING_YEARS = (1970, 1971, 1972, 1973)
MPG_YEAR_SECONDS = 10
MPG_LABEL_DELAY = (1.0, 3.0)  # seconds: shortest and longest
MPG_LABELLED = 0.9  # share of predictions whose label ever comes
MPG_LATENCY = 0.003  # seconds, median

FLIGHTS_LOOP_SECONDS = 150  # a year
FLIGHT_MINUTE = 0.05  # seconds that a minute in the air lasts: with the year's own pace no label would be late
FLIGHTS_LATENCY = 0.008  # seconds, median


class Traffic(NamedTuple):
    """One prediction and the label that it may get: `due` and `label_due` are seconds since the start."""

    due: float
    prediction: Event
    label_due: float
    label: Event | None


class Feeder:
    """Traffic of the models `mpg` and `flights`, endless, the same for the same `seed`.

    `mpg` lives through the model years: first the four training years together, for as long as four years last,
    then one year after the other; within such a period cars are drawn at random with replacement. `flights` replays
    a year's flights in the order of departure, as they were. Both begin again when their data end.
    """

    def __init__(self, seed: int = 0) -> None:
        mpg_rng, flights_rng = np.random.default_rng(seed).spawn(2)
        self._traffic = heapq.merge(_mpg(mpg_rng), _flights(flights_rng), key=lambda traffic: traffic.due)
        self._next = next(self._traffic)
        self._labels: list[tuple[float, int, Event]] = []  # a heap: due, order of prediction, label
        self._order = count()
        self._elapsed = 0.0
        self._encoder = msgspec.json.Encoder()

    def batch(self, elapsed: float, now: float) -> bytes:
        """Return as NDJSON, in order of time, the events that fell due since the last call.

        `elapsed` is seconds since the start, `now` the same moment in Unix seconds, from which events get their `ts`.

        Raises:
            ValueError: `elapsed` is less than at the last call.
        """
        if elapsed < self._elapsed:
            raise ValueError(f"elapsed must not fall: it was {self._elapsed} and is now {elapsed}")
        self._elapsed = elapsed
        start = now - elapsed
        events: list[Event] = []
        while self._next.due <= elapsed:
            due, prediction, label_due, label = self._next
            self._append_labels(events, due, start)
            events.append(prediction | {"ts": round(start + due, 3)})
            if label is not None:
                heapq.heappush(self._labels, (label_due, next(self._order), label))
            self._next = next(self._traffic)
        self._append_labels(events, elapsed, start)
        return self._encoder.encode_lines(events)

    def _append_labels(self, events: list[Event], until: float, start: float) -> None:
        while self._labels and self._labels[0][0] <= until:
            due, _, label = heapq.heappop(self._labels)
            events.append(label | {"ts": round(start + due, 3)})


def _mpg(rng: np.random.Generator) -> Iterator[Traffic]:
    cars = read_table(DATA / "mpg.csv", text=("origin",))
    model = LinearModel.load(DATA / "mpg_model.json")
    features = _records(cars, model.features)
    predictions = model.predict(cars).round(3).tolist()
    origins = cars["origin"].tolist()
    labels = cars["mpg"].tolist()
    training = np.isin(cars["year"], MPG_TRAINING_YEARS)
    periods = [(np.flatnonzero(training), len(MPG_TRAINING_YEARS) * MPG_YEAR_SECONDS)]
    periods += [(np.flatnonzero(cars["year"] == year), MPG_YEAR_SECONDS) for year in np.unique(cars["year"][~training])]
    number = count()
    while True:
        for rows, seconds in periods:
            size = seconds * MPG_PER_SECOND
            for row, delay, labelled, latency in zip(
                rng.choice(rows, size).tolist(),
                rng.uniform(*MPG_LABEL_DELAY, size).tolist(),
                (rng.random(size) < MPG_LABELLED).tolist(),
                _latencies(rng, MPG_LATENCY, size),
                strict=True,
            ):
                n = next(number)
                due = n / MPG_PER_SECOND
                name: Event = {"model": "mpg", "id": f"mpg-{n}"}
                prediction = name | {
                    "version": "1",
                    "features": features[row],
                    "prediction": predictions[row],
                    "groups": {"origin": origins[row]},
                    "latency_seconds": latency,
                }
                yield Traffic(due, prediction, due + delay, name | {"label": labels[row]} if labelled else None)


def _flights(rng: np.random.Generator) -> Iterator[Traffic]:
    flights = read_table(DATA / "flights.csv.gz", text=("departure", "carrier", "origin"))
    model = LinearModel.load(DATA / "flights_model.json")
    features = _records(flights, model.features)
    groups = _records(flights, ("carrier", "origin"))
    scores = model.predict(flights).round(6).tolist()
    departure = flights["departure"].astype("datetime64[m]")
    year = departure[0].astype("datetime64[Y]")
    minutes = (departure - year) / np.timedelta64(1, "m")
    loop_minutes = (year + 1 - year.astype("datetime64[m]")) / np.timedelta64(1, "m")
    due_in_loop = np.minimum(minutes / loop_minutes, 1) * FLIGHTS_LOOP_SECONDS
    number = count()
    for loop in count():
        due_times = (loop * FLIGHTS_LOOP_SECONDS + due_in_loop).tolist()
        delays = (flights["air_time"] * FLIGHT_MINUTE).tolist()
        latencies = _latencies(rng, FLIGHTS_LATENCY, len(due_times))
        for row, (due, delay, late, latency) in enumerate(
            zip(due_times, delays, flights["late"].tolist(), latencies, strict=True)
        ):
            name: Event = {"model": "flights", "id": f"flights-{next(number)}"}
            prediction = name | {
                "version": "1",
                "features": features[row],
                "score": scores[row],
                "groups": groups[row],
                "latency_seconds": latency,
            }
            arrived = not isnan(late)  # cancelled and diverted flights never do
            yield Traffic(due, prediction, due + delay, name | {"label": int(late)} if arrived else None)


def _records(table: Table, names: tuple[str, ...]) -> list[Event]:
    """Return a dict per row; NaN stays, for JSON writes it as null."""
    columns = (table[name].tolist() for name in names)
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _latencies(rng: np.random.Generator, median: float, size: int) -> list[float]:
    seconds: list[float] = (median * rng.lognormal(sigma=0.4, size=size)).round(6).tolist()
    return seconds
