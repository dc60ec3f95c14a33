import json
from collections import Counter
from functools import cache
from typing import Any

import numpy as np
import pytest

from mlops_exporter.demo.feeder import FLIGHT_MINUTE, FLIGHTS_LOOP_SECONDS, MPG_LABEL_DELAY, MPG_YEAR_SECONDS, Feeder
from mlops_exporter.demo.tables import DATA, read_table

NOW = 1_700_000_000.0
MPG_LOOP_SECONDS = 13 * MPG_YEAR_SECONDS
SECONDS = 2 * max(FLIGHTS_LOOP_SECONDS, MPG_LOOP_SECONDS) + 60  # into the third loop


def ticks(seconds: float, step: float = 0.25) -> list[float]:
    return [number * step for number in range(1, round(seconds / step) + 1)]


def feed(feeder: Feeder, times: list[float]) -> bytes:
    return b"".join(feeder.batch(elapsed, NOW + elapsed) for elapsed in times)


@cache
def traffic() -> tuple[dict[str, Any], ...]:
    return tuple(json.loads(line) for line in feed(Feeder(), ticks(SECONDS)).splitlines())


def predictions(model: str) -> dict[str, dict[str, Any]]:
    return {event["id"]: event for event in traffic() if event["model"] == model and "label" not in event}


def labels(model: str) -> dict[str, dict[str, Any]]:
    return {event["id"]: event for event in traffic() if event["model"] == model and "label" in event}


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    first, again, other = (feed(Feeder(seed), ticks(5)) for seed in (1, 1, 2))
    assert first == again
    assert first != other


@pytest.mark.slow
def test_irregular_calls_lose_and_repeat_nothing() -> None:
    irregular = [0.0, 0.001, 0.4, 0.4, 7.3, 7.31, 30.0]
    regular = [json.loads(line) for line in feed(Feeder(), ticks(30)).splitlines()]
    assert [json.loads(line) for line in feed(Feeder(), irregular).splitlines()] == regular


@pytest.mark.slow
def test_elapsed_may_not_fall() -> None:
    feeder = Feeder()
    feeder.batch(2.0, NOW)
    with pytest.raises(ValueError, match=r"must not fall: it was 2\.0 and is now 1\.0"):
        feeder.batch(1.0, NOW)


@pytest.mark.slow
def test_times_never_fall_and_lie_within_the_call_that_gave_them() -> None:
    feeder = Feeder()
    feeder.batch(10.0, NOW)
    times = [json.loads(line)["ts"] for line in feeder.batch(12.0, NOW + 2).splitlines()]
    assert times == sorted(times)
    assert times[0] >= NOW
    assert times[-1] <= NOW + 2


@pytest.mark.slow
def test_every_line_is_strict_json() -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    for line in feed(Feeder(), ticks(20)).splitlines():
        json.loads(line, parse_constant=refuse)


@pytest.mark.slow
def test_ids_are_unique_over_the_loops_and_every_label_follows_its_prediction() -> None:
    kinds = Counter((event["model"], event["id"], "label" in event) for event in traffic())
    assert max(kinds.values()) == 1
    for model in ("mpg", "flights"):
        asked = predictions(model)
        assert all(label["ts"] >= asked[name]["ts"] for name, label in labels(model).items())


def test_mpg_comes_at_forty_a_second_with_nine_labels_in_ten() -> None:
    asked, answered = predictions("mpg"), labels("mpg")
    assert len(asked) == 40 * SECONDS + 1  # the first at 0 s
    assert len(answered) / len(asked) == pytest.approx(0.9, abs=0.015)
    delays = [label["ts"] - asked[name]["ts"] for name, label in answered.items()]
    assert min(delays) == pytest.approx(MPG_LABEL_DELAY[0], abs=0.02)
    assert max(delays) == pytest.approx(MPG_LABEL_DELAY[1], abs=0.02)


def test_mpg_goes_through_the_periods_with_cars_of_the_period_only() -> None:
    cars = read_table(DATA / "mpg.csv", text=("origin",))
    names = ("cylinders", "displacement", "horsepower", "weight", "acceleration")
    years: dict[tuple[float, ...], set[float]] = {}
    for *car, year in zip(*(cars[name].tolist() for name in (*names, "year")), strict=True):
        years.setdefault(tuple(car), set()).add(year)
    for name, event in predictions("mpg").items():
        period = int(name.removeprefix("mpg-")) / 40 % MPG_LOOP_SECONDS // MPG_YEAR_SECONDS
        expected = {1970.0, 1971.0, 1972.0, 1973.0} if period < 4 else {1970 + period}
        assert years[tuple(event["features"][feature] for feature in names)] & expected


@pytest.mark.slow
def test_flights_replays_each_flight_once_a_loop_and_labels_those_that_arrived() -> None:
    flights = read_table(DATA / "flights.csv.gz", text=("departure", "carrier", "origin"))
    size = len(flights["late"])
    asked = list(predictions("flights").values())
    loop = [event for event in asked if event["ts"] < NOW + FLIGHTS_LOOP_SECONDS]
    assert len(loop) == pytest.approx(size, abs=5)  # the last of the year leave in the next
    assert [event["groups"]["carrier"] for event in asked[:size]] == flights["carrier"].tolist()
    assert [event["score"] for event in asked[size : size + 100]] == [event["score"] for event in asked[:100]]
    answered = labels("flights")
    arrived = [answered[f"flights-{row}"]["label"] for row in np.flatnonzero(np.isfinite(flights["late"]))]
    assert arrived == flights["late"][np.isfinite(flights["late"])].tolist()
    assert not any(f"flights-{row}" in answered for row in np.flatnonzero(np.isnan(flights["late"])))


@pytest.mark.slow
def test_a_flights_label_takes_its_time_in_the_air() -> None:
    flights = read_table(DATA / "flights.csv.gz", text=("departure", "carrier", "origin"))
    asked, answered = predictions("flights"), labels("flights")
    rows = np.flatnonzero(np.isfinite(flights["late"]))[:1000].tolist()
    delays = [answered[f"flights-{row}"]["ts"] - asked[f"flights-{row}"]["ts"] for row in rows]
    assert delays == pytest.approx(flights["air_time"][rows] * FLIGHT_MINUTE, abs=0.002)


@pytest.mark.slow
def test_gaps_in_the_data_are_null() -> None:
    flights = read_table(DATA / "flights.csv.gz", text=("departure", "carrier", "origin"))
    size = len(flights["late"])
    asked = list(predictions("flights").values())[:size]
    for feature in ("departure_delay", "temperature", "distance"):
        nulls = sum(event["features"][feature] is None for event in asked)
        assert nulls == np.isnan(flights[feature]).sum()
    assert any(event["features"]["departure_delay"] is None for event in asked)


def test_events_look_as_a_model_server_would_send_them() -> None:
    for model, output in (("mpg", "prediction"), ("flights", "score")):
        event = predictions(model)[f"{model}-0"]
        assert set(event) == {"model", "version", "id", "ts", "features", output, "groups", "latency_seconds"}
        assert event["version"] == "1"
        latencies = [event["latency_seconds"] for event in predictions(model).values()]
        assert min(latencies) > 0
        assert max(latencies) < 0.1
    assert {event["groups"]["origin"] for event in predictions("mpg").values()} == {"North America", "Europe", "Asia"}


def test_mpg_errs_more_as_cars_move_on() -> None:
    errors: dict[int, list[float]] = {}
    asked = predictions("mpg")
    for name, label in labels("mpg").items():
        period = int(int(name.removeprefix("mpg-")) / 40 % MPG_LOOP_SECONDS // MPG_YEAR_SECONDS)
        errors.setdefault(period, []).append(abs(label["label"] - asked[name]["prediction"]))
    means = {period: float(np.mean(values)) for period, values in errors.items()}
    assert all(means[period] < 1.9 for period in range(4))
    assert all(means[period] > 5 for period in range(9, 13))


def test_the_winter_models_recall_falls_in_autumn() -> None:
    asked, answered = predictions("flights"), labels("flights")
    found: dict[bool, list[bool]] = {True: [], False: []}
    for name, label in answered.items():
        moment = (asked[name]["ts"] - NOW) % FLIGHTS_LOOP_SECONDS / FLIGHTS_LOOP_SECONDS
        if label["label"] == 1 and (moment < 0.25 or 0.6 < moment < 0.85):
            found[moment < 0.25].append(asked[name]["score"] >= 0.5)
    assert np.mean(found[True]) - np.mean(found[False]) > 0.06
