"""Numbers by which answers are rated: from an event, in JSON and Arrow, to the mean, its benchmark and the verdict."""

import io
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pa_parquet
import pytest
from scipy import stats

from mlops_exporter.client import Monitor
from mlops_exporter.events.decoder import Decoder
from mlops_exporter.profile.profile import Profile, load, save
from mlops_exporter.profile.profiles import unprofiled
from mlops_exporter.profiling.build import BuildRequest, build
from mlops_exporter.profiling.errors import BuildError
from mlops_exporter.service.configuration import read
from mlops_exporter.service.service import Options, Service
from mlops_exporter.settings.config import Config
from mlops_exporter.settings.document import ConfigError
from tests.support import pipeline
from tests.support.http_sink import taking_events
from tests.support.pipeline import Event

RATING: dict[str, dict[str, Any]] = {"rating": {"low": 1, "high": 5}}
OUTCOMES: dict[str, dict[str, Any]] = {
    **RATING,
    "tokens": {"low": 0, "high": 10_000, "better": "lower"},
    "profit": {"low": -100, "high": 10},
}


def chat(**settings: Any) -> Service:
    """An exporter that watches a language model by its outcomes alone."""
    model = {"name": "chat", "task": "outcomes", "windows": ["15m", "1h"], "outcomes": OUTCOMES} | settings
    made = Service(
        Config.model_validate({"models": [model], "compute": {"interval": "1m"}}),
        {"chat": unprofiled("outcomes")},
        Options(),
    )
    made.intake.closed = None
    return made


def answers(count: int, seed: int = 1) -> list[Event]:
    rng = np.random.default_rng(seed)
    then = time.time() - 1
    drawn = zip(rng.integers(3, 6, count), rng.integers(50, 900, count), rng.normal(0, 5, count), strict=True)
    return [
        {
            "model": "chat",
            "ts": then,
            "outcomes": {"rating": int(rating), "tokens": int(tokens), "profit": float(np.clip(profit, -100, 10))},
        }
        for rating, tokens, profit in drawn
    ]


def stream(columns: dict[str, Any], model: str = "chat") -> bytes:
    table = pa.table(columns).replace_schema_metadata({"model": model})
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def test_the_mean_is_that_of_the_values_with_an_interval_around_it() -> None:
    service, events = chat(), answers(400)
    assert pipeline.submit(service, pipeline.ndjson(events)) == (400, [])
    exposition = pipeline.scrape(service)
    for name in OUTCOMES:
        values = np.array([event["outcomes"][name] for event in events])
        of = {"window": "15m", "outcome": name}
        assert exposition.value("ml_outcome_mean", **of) == pytest.approx(values.mean(), rel=1e-9)
        assert exposition.value("ml_outcome_standard_deviation", **of) == pytest.approx(values.std(ddof=1), rel=1e-9)
        assert exposition.value("ml_outcome_window_values", **of) == 400
        half = 1.96 * values.std() / 20
        lower, upper = (exposition.value(f"ml_outcome_mean_{end}", **of) or 0.0 for end in ("lower", "upper"))
        assert lower < values.mean() - 0.9 * half
        assert upper > values.mean() + 0.9 * half
        total = exposition.value("ml_outcome_above_low_total", outcome=name) or 0.0
        low = exposition.value("ml_outcome_low", outcome=name) or 0.0
        assert total / 400 + low == pytest.approx(values.mean(), rel=1e-9)


@pytest.mark.parametrize(
    ("outcome", "benchmark", "state"),
    [
        ("rating", 3.5, "good"),
        ("rating", 4.4, "failing"),
        ("tokens", 600, "good"),
        ("tokens", 300, "failing"),
    ],
)
def test_a_benchmark_is_kept_or_missed(outcome: str, benchmark: float, state: str) -> None:
    service = chat(outcomes=OUTCOMES | {outcome: OUTCOMES[outcome] | {"benchmark": benchmark}})
    pipeline.submit(service, pipeline.ndjson(answers(600)))
    pipeline.fill_windows(service)
    exposition = pipeline.scrape(service)
    assert exposition.value("ml_outcome_benchmark_missed", outcome=outcome) == (state == "failing")
    (model,) = service.status().models
    assert (model.state, model.performance.metric) == (state, outcome)
    if state == "failing":
        said = "at least" if outcome == "rating" else "at most"
        assert model.reasons[0].startswith(outcome)
        assert model.reasons[0].endswith(f"{said} {benchmark:.4g} is agreed")


def test_too_few_values_judge_nothing() -> None:
    service = chat(outcomes={"rating": {"low": 1, "high": 5, "benchmark": 2.03}})  # missed by less than is tolerated
    pipeline.submit(service, pipeline.ndjson([each | {"outcomes": {"rating": 2}} for each in answers(60)]))
    exposition = pipeline.scrape(service)
    assert exposition.value("ml_outcome_mean", window="15m", outcome="rating") == 2
    assert not exposition.series("ml_outcome_benchmark_missed")
    (model,) = service.status().models
    assert model.state == "unknown"
    assert model.reasons == ["60 of 100 values that a judgement needs"]


def test_they_come_beside_predictions_of_any_task() -> None:
    service = pipeline.service("binary", outcomes=OUTCOMES)
    events = [{"model": "binary", "prediction": "yes", "outcomes": {"profit": -3.25}} for _ in range(40)]
    assert pipeline.submit(service, pipeline.ndjson(events)) == (40, [])
    exposition = pipeline.scrape(service)
    assert exposition.value("ml_outcome_mean", window="15m", outcome="profit") == -3.25
    assert exposition.value("ml_model_window_predictions", window="15m") == 40
    assert exposition.value("ml_outcome_values_total", outcome="rating") == 0


@pytest.mark.parametrize(
    "outcomes",
    [{"rating": 5.01}, {"rating": 0}, {"stars": 4}, {"rating": "4"}, {"rating": True}, [4], 4, {"rating": 1e999}],
    ids=str,
)
def test_what_is_out_of_bounds_unknown_or_no_number_is_refused(outcomes: Any) -> None:
    service = chat()
    body = pipeline.ndjson([{"model": "chat", "outcomes": outcomes}, {"model": "chat", "outcomes": {"rating": 5}}])
    assert pipeline.submit(service, body) == (1, [(1, "bad_outcome")])


def test_null_and_nan_are_missing() -> None:
    service = chat()
    body = (
        b'{"model":"chat","outcomes":{"rating":null,"tokens":7}}\n{"model":"chat","outcomes":{"rating":NaN,"tokens":9}}'
    )
    assert pipeline.submit(service, body) == (2, [])
    counted = pipeline.scrape(service).by("outcome", "ml_outcome_values_total")
    assert counted == {"rating": 0, "tokens": 2, "profit": 0}


def test_arrow_says_the_same_as_json() -> None:
    decoder = Decoder([reference.schema for reference in chat().models[0].references])
    flat = {
        "outcomes.rating": [4.0, None, 6.0],
        "outcomes.tokens": pa.array([3, 10_000, 5]),
        "latency_seconds": [1.0] * 3,
    }
    nested = {
        "outcomes": [{"rating": 4.0, "tokens": 3}, {"rating": None, "tokens": 10_000}, {"rating": 6.0, "tokens": 5}]
    }
    for columns in (flat, nested):
        decoded = decoder.decode(stream(columns), time.time())
        assert decoded.refused == [(3, "bad_outcome")]
        np.testing.assert_equal(decoded.columns["chat"].outcomes, [[4, 3, np.nan], [np.nan, 10_000, np.nan]])
    unknown = decoder.decode(stream({"outcomes": [{"stars": 4.0}, {"stars": None}], "latency_seconds": [1.0] * 2}), 0.0)
    assert unknown.refused == [(1, "bad_outcome")]
    assert decoder.decode(stream({"outcomes": [4.0], "latency_seconds": [1.0]}), 0.0).refused == [(1, "bad_outcome")]


def test_counts_outlive_a_reload_and_begin_anew_with_other_bounds() -> None:
    service = chat()
    pipeline.submit(service, pipeline.ndjson(answers(100)))
    (model,) = service.models
    other = OUTCOMES | {"rating": {"low": 0, "high": 5}}
    (successor,) = chat(outcomes=dict(reversed(other.items()))).models
    successor.restore(model.state())
    (version,) = successor.versions.values()
    sums = {
        counts.outcome: version.totals(time.time())[0][successor.reference.layout.cells_of(counts)][0]
        for counts in successor.reference.outcome_counts
    }
    assert sums == {"rating": 0, "tokens": 100, "profit": 100}


def test_the_client_sends_them() -> None:
    with taking_events() as (url, taken), Monitor(url, model="chat", batch_seconds=0.01) as monitor:
        monitor.predict(latency_seconds=0.5, outcomes={"rating": np.float32(4)})
        assert monitor.flush()
    assert [event["outcomes"] for event in taken] == [{"rating": 4.0}]


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("task: outcomes", "a model of outcomes needs one at least"),
        ("task: outcomes, outcomes: {rating: {low: 5, high: 1}}", "low must be less"),
        ("task: outcomes, outcomes: {rating: {low: 1, high: 5, benchmark: 7}}", "must lie between 1 and 5"),
        ("task: outcomes, outcomes: {'a b': {low: 1, high: 5}}", "pattern"),
        ("task: outcomes, outcomes: {rating: {low: 1}}", "high"),
        ("task: outcomes, outcomes: {rating: {low: 1, high: .inf}}", "finite"),
        ("task: outcomes, outcomes: {r: {low: 1, high: 5}}, segments: [country]", "a model of outcomes has not"),
        ("task: outcomes, outcomes: {r: {low: 1, high: 5}}, benchmarks: {accuracy: {min: 0.9}}", "outcomes has not"),
        ("task: binary, outcomes: {r: {low: 1, high: 5}}", "give either profile"),
    ],
)
def test_the_configuration_says_what_would_be_right(written: str, said: str, tmp_path: Any) -> None:
    file = tmp_path / "mlops-exporter.yml"
    file.write_text(f"models: [{{name: m, {written}}}]")
    with pytest.raises(ConfigError) as error:
        read(file)
    assert said in str(error.value), error.value


def rated_profile(tmp_path: Path, tokens: bool = True) -> Profile:
    """A reference of 4000 answers as `answers` draws them, of whose outcomes it knows the rating, and the tokens."""
    drawn = [event["outcomes"] for event in answers(4000, seed=9)]
    table = pa.table({"length": np.arange(4000) % 50, **{n: [each[n] for each in drawn] for n in ("rating", "tokens")}})
    pa_parquet.write_table(table, tmp_path / "r.parquet")
    rated = ("rating", "tokens") if tokens else ("rating",)
    return build(BuildRequest(tmp_path / "r.parquet", "outcomes", rated=rated, exclude=("tokens",)[tokens:]))[0]


def watched(profile: Profile, **settings: Any) -> Service:
    model = {"name": "chat", "task": "outcomes", "windows": ["15m", "1h"], "outcomes": OUTCOMES} | settings
    made = Service(Config.model_validate({"models": [model]}), {"chat": profile}, Options())
    made.intake.closed = None
    return made


def test_a_profile_keeps_the_distribution_of_outcomes(tmp_path: Path) -> None:
    profile = rated_profile(tmp_path)
    save(profile, tmp_path / "p.json")
    kept = load(tmp_path / "p.json")
    assert kept.rated
    assert list(kept.rated) == ["rating", "tokens"]
    assert list(kept.features) == ["length"], "an outcome is no feature"
    values = np.array([event["outcomes"]["rating"] for event in answers(4000, seed=9)])
    assert kept.rated["rating"].mean == pytest.approx(values.mean(), rel=1e-9)
    assert sum(kept.rated["rating"].counts) == 4000
    assert kept.digest == profile.digest
    pa_parquet.write_table(pa.table({"a": [1.0, 2.0], "rating": ["good", "bad"]}), tmp_path / "w.parquet")
    with pytest.raises(BuildError, match="rated by numbers"):
        build(BuildRequest(tmp_path / "w.parquet", "outcomes", rated=("rating",)))


def test_drift_of_an_outcome_is_scipys_on_the_same_bins(tmp_path: Path) -> None:
    service, profile = watched(rated_profile(tmp_path)), rated_profile(tmp_path)
    assert profile.rated
    rng = np.random.default_rng(2)
    events = answers(900, seed=2)
    for event in events:  # as many ones as fives: the mean is that of threes
        event["outcomes"]["rating"] = int(rng.choice([3, 5]))
    early, late = events[:500], events[500:]
    apart = [{"model": "chat", "id": f"a{n}", "ts": each["ts"], "latency_seconds": 1.0} for n, each in enumerate(late)]
    later = [{**each, "id": f"a{n}"} for n, each in enumerate(late)]
    assert pipeline.submit(service, pipeline.ndjson([*early, *apart, *later]))[1] == []
    exposition = pipeline.scrape(service)
    of = {"window": "15m", "outcome": "rating"}
    ks = stats.ks_2samp(
        [e["outcomes"]["rating"] for e in events], [e["outcomes"]["rating"] for e in answers(4000, seed=9)]
    ).statistic
    assert exposition.value("ml_outcome_drift", statistic="ks", **of) == pytest.approx(ks, rel=1e-9)
    limit = exposition.value("ml_outcome_drift_threshold", statistic="ks", **of)
    assert limit is not None
    assert limit < ks
    tokens = exposition.series("ml_outcome_drift", window="15m", outcome="tokens")
    limits = exposition.series("ml_outcome_drift_threshold", window="15m", outcome="tokens")
    assert tokens
    assert all(value < limits[labels] for labels, value in tokens.items())
    assert not exposition.series("ml_outcome_drift", outcome="profit"), "the profile knows none"


@pytest.mark.parametrize(("late", "worse"), [(False, True), (True, True), (False, False)])
def test_evidence_of_a_change_grows_with_it_alone(tmp_path: Path, late: bool, worse: bool) -> None:
    service = watched(rated_profile(tmp_path, tokens=False), outcomes=OUTCOMES | {"profit": {"low": -100, "high": 10}})
    events = answers(4000, seed=3)
    rng = np.random.default_rng(3)
    if worse:
        for event in events:
            event["outcomes"]["rating"] = int(rng.choice([2, 3, 4, 5]))
    if late:
        values = [{**event, "id": f"a{n}"} for n, event in enumerate(events)]
        first = [{"model": "chat", "id": e["id"], "ts": e["ts"], "latency_seconds": 1.0} for e in values]
        events = [*first, *values]
    pipeline.submit(service, pipeline.ndjson(events))
    exposition = pipeline.scrape(service)
    evidence = exposition.by("outcome", "ml_outcome_change_evidence")
    assert list(evidence) == ["rating"], "the others have neither reference nor benchmark"
    threshold = exposition.value("ml_outcome_change_evidence_threshold", outcome="rating")
    assert threshold is not None
    assert threshold == pytest.approx(np.log(100))
    assert (evidence["rating"] > threshold) == worse
    (report,) = service.status().models
    assert any(reason.startswith("evidence of a change of rating") for reason in report.reasons) == worse


@pytest.mark.parametrize(("outcome", "benchmark"), [("rating", 4.3), ("tokens", 300), ("rating", 3.7), ("tokens", 700)])
def test_without_a_reference_the_benchmark_is_what_may_not_be_missed(outcome: str, benchmark: float) -> None:
    service = chat(outcomes=OUTCOMES | {outcome: OUTCOMES[outcome] | {"benchmark": benchmark}})
    pipeline.submit(service, pipeline.ndjson(answers(6000)))
    found = pipeline.scrape(service).by("outcome", "ml_outcome_change_evidence")
    assert list(found) == [outcome]
    assert (found[outcome] > np.log(100)) == (benchmark in (4.3, 300))
    if found[outcome] > np.log(100):
        (model,) = service.models
        (successor,) = chat(outcomes=OUTCOMES | {outcome: OUTCOMES[outcome] | {"benchmark": benchmark}}).models
        successor.restore(model.state())
        (version,) = successor.versions.values()
        assert version.changes is not None
        assert version.changes.outcomes[outcome].monitor.log_evidence == pytest.approx(found[outcome])
        (other,) = chat(outcomes=OUTCOMES | {outcome: OUTCOMES[outcome] | {"benchmark": benchmark * 0.99}}).models
        other.restore(model.state())
        (version,) = other.versions.values()
        assert version.changes is not None
        assert version.changes.outcomes[outcome].monitor.log_evidence <= 0, "another rule, no evidence"


def test_a_model_of_outcomes_needs_no_profile(tmp_path: Any) -> None:
    file = tmp_path / "mlops-exporter.yml"
    file.write_text("models: [{name: m, task: outcomes, outcomes: {rating: {low: 1, high: 5, benchmark: 4.2}}}]")
    settings, profiles = read(file)
    assert settings.models[0].outcomes["rating"].bounds == (4.2, None)
    assert profiles["m"].newest.task == "outcomes"
