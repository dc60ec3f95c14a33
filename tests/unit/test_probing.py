"""Probes: rows through a live endpoint, what is told of the answers, and how gently they are sent."""

import asyncio
import json
import math
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace
from pydantic import ValidationError
from sklearn.metrics import accuracy_score, roc_auc_score

from mlops_exporter.collectors.probes import ProbeCollector
from mlops_exporter.probing.prober import HEADER, Prober
from mlops_exporter.profile.profile import Profile
from mlops_exporter.profile.profiles import Profiles
from mlops_exporter.profiling.build import BuildRequest, build
from mlops_exporter.settings.models import ModelSettings
from mlops_exporter.settings.probes import EndpointSettings, ProbeSettings
from mlops_exporter.tables.lists import lists
from tests.endpoints import Endpoint, Row, serving
from tests.support.one_model import samples

ROWS = 250
FEATURES = ["amount", "age", "country"]


def scores_of(rows: list[Row]) -> list[float]:
    """The model: a logistic score of three features."""
    return [
        1 / (1 + math.exp(-(0.8 * row["amount"] - 0.05 * row["age"] + (0.7 if row["country"] == "DE" else -0.7))))
        for row in rows
    ]


def classes_of(rows: list[Row]) -> list[int]:
    return [int(score >= 0.5) for score in scores_of(rows)]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labelled rows with the scores that the model gives them."""
    random = np.random.default_rng(3)
    path = tmp_path_factory.mktemp("golden") / "credit.ndjson"
    lines = []
    for _ in range(ROWS):
        row: dict[str, Any] = {
            "amount": round(float(random.normal(3, 2)), 3),
            "age": int(random.integers(18, 80)),
            "country": str(random.choice(["DE", "FR"])),
        }
        score = scores_of([row])[0]
        lines.append({**row, "p": score, "yhat": int(score >= 0.5), "label": int(random.random() < score)})
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


@pytest.fixture(scope="module")
def profile(table: Path) -> Profile:
    request = BuildRequest(
        data=table, task="binary", label="label", prediction=None, scores={"positive": "p"}, positive="1",
        threshold=0.5, features=tuple(FEATURES), exclude=(), categorical=(), groups=(), importances={}, bins=10,
        model_version="3",
    )  # fmt: skip
    return build(request)[0]


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with serving(scores_of, FEATURES, version="3") as running:
        yield running


def prober(rows: object, profile: Profile | Profiles, endpoint: dict[str, Any], **settings: Any) -> Prober:
    defaults: dict[str, Any] = {"outputs": {"": "score", "predict": "score"}, "requests_per_second": 1000}
    probe = ProbeSettings.model_validate(
        {
            "name": "golden",
            "model": "credit",
            "rows": str(rows) if isinstance(rows, Path) else rows,
            "endpoint": endpoint,
            **defaults,
            **settings,
        }
    )
    benchmarks = {"roc_auc": {"max_drop": 0.03}, "accuracy": {"min": 0.6}}
    model = ModelSettings.model_validate(
        {"name": "credit", "task": "binary", "profile": "credit.json", "benchmarks": benchmarks}
    )
    return Prober(probe, model, profile, lists, random=Random(5))


def protocol(kind: str, url: str) -> dict[str, Any]:
    endpoints: dict[str, dict[str, Any]] = {
        "kserve_v2": {"kserve_v2": f"{url}/v2/models/credit/infer"},
        "kserve_v1": {"kserve_v1": f"{url}/v1/models/credit:predict", "version_header": "X-Model-Version"},
        "mlflow": {"mlflow": f"{url}/invocations", "version_header": "X-Model-Version"},
        "azureml": {"azureml": f"{url}/score", "version_header": "X-Model-Version"},
        "http": {
            "http": {"url": f"{url}/any", "request": {"wrapped": {"rows": "$records"}}, "response": "result.0.values"},
            "version_header": "x-model-version",
        },
    }
    return endpoints[kind]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["kserve_v2", "kserve_v1", "mlflow", "azureml", "http"])
def test_every_protocol_tells_the_same(kind: str, table: Path, profile: Profile, endpoint: Endpoint) -> None:
    probe = prober(table, profile, protocol(kind, endpoint.url), pinned={"score": "p"})
    asyncio.run(probe.probe())
    assert probe.course.error is None
    rows = [json.loads(line) for line in table.read_text().splitlines()]
    (verdict,) = probe.results
    assert (verdict.version, verdict.rows, verdict.changed) == ("3", ROWS, 0.0)
    labels, scores = [row["label"] for row in rows], [row["p"] for row in rows]
    assert verdict.performance["accuracy"].value == pytest.approx(accuracy_score(labels, np.array(scores) >= 0.5))
    assert verdict.performance["roc_auc"].value == pytest.approx(roc_auc_score(labels, scores), abs=0.01)
    assert verdict.performance["accuracy"].lower < verdict.performance["accuracy"].value
    assert [len(batch) for batch in _batches(endpoint)] == [100, 100, 50]
    assert all(headers[HEADER] == "golden" for _, headers, _ in endpoint.asked)


def _batches(endpoint: Endpoint) -> list[Any]:
    found = []
    for _, _, body in endpoint.asked:
        rows = body.get("instances") or body.get("dataframe_split", body.get("input_data", {})).get("data")
        rows = rows or body.get("wrapped", {}).get("rows") or body["inputs"][0]["data"]
        found.append(rows)
    return found


def test_one_tensor_takes_all_features(table: Path, profile: Profile, tmp_path: Path) -> None:
    def predict(rows: list[Row]) -> list[float]:
        return scores_of([{**row, "country": "DE"} for row in rows])

    numbers = tmp_path / "numbers.ndjson"
    rows = [json.loads(line) | {"country": 1} for line in table.read_text().splitlines()]
    numbers.write_text("\n".join(map(json.dumps, rows)))
    with serving(predict, FEATURES) as endpoint:
        address = {"kserve_v2": f"{endpoint.url}/v2/models/credit/infer", "tensor": "input-0"}
        probe = prober(numbers, profile, address)
        asyncio.run(probe.probe())
        assert probe.course.error is None
        (tensor,) = endpoint.asked[0][2]["inputs"]
        assert (tensor["name"], tensor["shape"]) == ("input-0", [100, 3])


FAULTS = {
    "a wrong artifact": lambda rows: [1 / (1 + math.exp(-0.1 * row["age"] + 4)) for row in rows],
    "swapped columns": lambda rows: scores_of([{**row, "amount": row["age"], "age": row["amount"]} for row in rows]),
    "a broken scaler": lambda rows: scores_of([{**row, "amount": row["amount"] / 10} for row in rows]),
    "a label flip": lambda rows: [1 - score for score in scores_of(rows)],
}


@pytest.mark.slow
@pytest.mark.parametrize("pinned", [{"score": "p"}, {"prediction": "yhat"}, None], ids=["scores", "classes", "first"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_endpoint_is_told_by_the_next_probe(
    fault: str, pinned: dict[str, str] | None, table: Path, profile: Profile, endpoint: Endpoint
) -> None:
    probe = prober(table, profile, protocol("mlflow", endpoint.url), pinned=pinned)
    asyncio.run(probe.probe())
    asyncio.run(probe.probe())
    assert probe.results[0].changed == 0.0
    endpoint.predict = FAULTS[fault]
    asyncio.run(probe.probe())
    assert probe.results[0].changed is not None
    assert probe.results[0].changed > 0.01, "which alarms"


def test_what_a_version_said_at_first_holds_for_it_alone(table: Path, profile: Profile, endpoint: Endpoint) -> None:
    probe = prober(table, profile, protocol("mlflow", endpoint.url), pinned={"score": "p", "version": "3"})
    asyncio.run(probe.probe())
    assert probe.origin("3") == "rows"
    endpoint.version, endpoint.predict = "4", FAULTS["a broken scaler"]
    asyncio.run(probe.probe())
    assert [verdict.version for verdict in probe.results] == ["4"]
    assert [verdict.changed for verdict in probe.results] == [None], "a new version may differ"
    asyncio.run(probe.probe())
    assert (probe.results[0].changed, probe.origin("4")) == (0.0, "first_answer")
    endpoint.predict = scores_of
    asyncio.run(probe.probe())
    assert probe.results[0].changed == 1.0


def test_two_versions_behind_one_endpoint_are_told_apart(table: Path, profile: Profile, endpoint: Endpoint) -> None:
    def predict(rows: list[Row]) -> list[float]:
        endpoint.version = "4" if endpoint.version == "3" else "3"
        return scores_of(rows)

    endpoint.predict = predict
    probe = prober(table, profile, protocol("kserve_v2", endpoint.url), pinned={"score": "p"})
    asyncio.run(probe.probe())
    assert {verdict.version: verdict.rows for verdict in probe.results} == {"4": 150, "3": 100}
    assert {verdict.changed for verdict in probe.results} == {0.0}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "reason", "says"),
    [
        ({"status": 503}, "http_status", "answer 503: out of order"),
        ({"broken": b"<html>"}, "answer", "not JSON"),
        ({"broken": b'{"predictions": [1]}'}, "answer", "1 values for 100 rows"),
        ({"broken": b'{"prediction": 1}'}, "answer", "no list `predictions`"),
        ({"delay": 0.5}, "timeout", "no answer within 0.2 s"),
    ],
)
def test_failures_are_counted_by_kind_and_stop_the_pass(
    change: dict[str, Any], reason: str, says: str, table: Path, profile: Profile, endpoint: Endpoint
) -> None:
    probe = prober(
        table,
        profile,
        protocol("mlflow", endpoint.url),
        timeout="200ms",
        batch=100,
        stop_after=2,
        pinned={"score": "p"},
    )
    asyncio.run(probe.probe())
    assert len(endpoint.asked) == 3
    for name, value in change.items():
        setattr(endpoint, name, value)
    asyncio.run(probe.probe())
    assert probe.course.error is not None
    assert says in probe.course.error
    assert probe.results == (), "nothing stale is shown"
    assert {name: count for name, count in probe.course.failures.items() if count} == {reason: 2}
    asyncio.run(probe.probe())
    assert probe.course.failures[reason] == 3, "after a failed time the first failure is enough"  # type: ignore[index]
    assert probe.course.failed_in_a_row == 2
    vars(endpoint).update({"status": 200, "broken": None, "delay": 0.0})
    asyncio.run(probe.probe())
    assert not probe.course.failed_in_a_row
    assert len(probe.results) == 1


def test_an_endpoint_that_is_not_there(table: Path, profile: Profile) -> None:
    probe = prober(table, profile, {"mlflow": "http://127.0.0.1:1/invocations"})
    asyncio.run(probe.probe())
    assert probe.course.failures["connection"] == 3


def test_a_class_that_the_model_does_not_have_is_a_failure(table: Path, profile: Profile, endpoint: Endpoint) -> None:
    endpoint.predict = lambda rows: ["maybe"] * len(rows)
    probe = prober(table, profile, protocol("mlflow", endpoint.url), outputs={})
    asyncio.run(probe.probe())
    assert probe.course.error is not None
    assert "'maybe' is no class; the classes are 0, 1" in probe.course.error


def test_outputs_that_nobody_mapped_are_a_failure_that_says_what_to_do(
    table: Path, profile: Profile, endpoint: Endpoint
) -> None:
    endpoint.predict = lambda rows: [{"a": 1, "b": 0.5}] * len(rows)
    probe = prober(table, profile, protocol("mlflow", endpoint.url), outputs={})
    asyncio.run(probe.probe())
    assert probe.course.error is not None
    assert "outputs a, b: say under `outputs` which" in probe.course.error


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ({"age": 1}, "no column amount, country, label"),
        ({"amount": 1, "age": 2, "country": "DE", "label": "maybe"}, "'maybe' is no class"),
        ({"amount": 1, "age": 2, "country": "DE", "label": None}, "has no label"),
    ],
)
def test_rows_of_no_use(line: dict[str, Any], says: str, tmp_path: Path, profile: Profile) -> None:
    path = tmp_path / "rows.ndjson"
    path.write_text(json.dumps(line))
    probe = prober(path, profile, {"mlflow": "http://127.0.0.1:1/invocations"})
    asyncio.run(probe.probe())
    assert probe.course.error is not None
    assert says in probe.course.error
    assert probe.course.failures["rows"] == 1


def test_a_golden_set_is_read_again_when_it_changes(
    table: Path, tmp_path: Path, profile: Profile, endpoint: Endpoint
) -> None:
    path = tmp_path / "golden.ndjson"
    lines = table.read_text().splitlines()
    path.write_text("\n".join(lines[:50]))
    probe = prober(path, profile, protocol("mlflow", endpoint.url))
    asyncio.run(probe.probe())
    path.write_text("\n".join(lines[:60]))
    asyncio.run(probe.probe())
    assert probe.results[0].rows == 60


def test_rows_may_be_many_files_or_those_of_a_database(
    table: Path, tmp_path: Path, profile: Profile, endpoint: Endpoint
) -> None:
    lines = table.read_text().splitlines()
    (tmp_path / "golden").mkdir()
    for number in range(5):
        (tmp_path / "golden" / f"{number}.ndjson").write_text("\n".join(lines[number::5]))
    with closing(sqlite3.connect(tmp_path / "warehouse.db")) as database:
        database.execute("CREATE TABLE golden (amount REAL, age INTEGER, country TEXT, p REAL, label INTEGER)")
        rows = [tuple(json.loads(line)[name] for name in (*FEATURES, "p", "label")) for line in lines]
        database.executemany("INSERT INTO golden VALUES (?, ?, ?, ?, ?)", rows)
        database.commit()
        query = {"url": f"sqlite:///{tmp_path}/warehouse.db", "query": "SELECT * FROM golden"}
        for place in (f"{tmp_path}/golden", f"{tmp_path}/golden/*.ndjson", query):
            probe = prober(place, profile, protocol("mlflow", endpoint.url), pinned={"score": "p"})
            asyncio.run(probe.probe())
            assert probe.course.error is None
            assert (probe.results[0].rows, probe.results[0].changed) == (ROWS, 0.0)

        probe = prober(query, profile, protocol("mlflow", endpoint.url))
        asyncio.run(probe.probe())
        endpoint.predict = lambda rows: [1 - score for score in scores_of(rows)]
        asyncio.run(probe.probe())
        assert probe.results[0].changed == 1.0, "the same rows again: what was said at first still holds"
        database.execute("DELETE FROM golden WHERE age < 40")
        database.commit()
        asyncio.run(probe.probe())
        assert probe.results[0].rows < ROWS
        assert probe.results[0].changed is None, "other rows: what is said of them now is the first"
        database.execute("DROP TABLE golden")
        asyncio.run(probe.probe())
        assert "no such table" in (probe.course.error or "")


@pytest.mark.slow
def test_a_sample_is_drawn_anew_and_evenly(table: Path, profile: Profile, endpoint: Endpoint) -> None:
    probe = prober(table, profile, protocol("mlflow", endpoint.url), sample=20, pinned={"score": "p"})
    drawn: dict[float, int] = {}
    for _ in range(100):
        asyncio.run(probe.probe())
        assert (probe.results[0].rows, probe.results[0].changed) == (20, 0.0)
        for row in endpoint.asked[-1][2]["dataframe_split"]["data"]:
            drawn[row[0]] = drawn.get(row[0], 0) + 1
    assert len(drawn) > 0.97 * ROWS, "each row has its chance"
    assert max(drawn.values()) < 30, "and none is preferred: 8 are to be expected"


def test_the_pace_is_bounded(table: Path, profile: Profile, endpoint: Endpoint) -> None:
    probe = prober(table, profile, protocol("mlflow", endpoint.url), batch=50, requests_per_second=20)
    began = time.monotonic()
    asyncio.run(probe.probe())
    assert time.monotonic() - began >= 4 / 20


def test_csv_is_sent_with_the_types_of_the_profile(
    table: Path, tmp_path: Path, profile: Profile, endpoint: Endpoint
) -> None:
    path = tmp_path / "golden.csv"
    path.write_text("amount,age,country,label\n1.5,30,DE,1\n2,41,FR,0\n")
    probe = prober(path, profile, protocol("mlflow", endpoint.url))
    asyncio.run(probe.probe())
    assert endpoint.asked[0][2]["dataframe_split"]["data"] == [[1.5, 30, "DE"], [2, 41, "FR"]]


def test_the_token_is_read_anew(table: Path, tmp_path: Path, profile: Profile, endpoint: Endpoint) -> None:
    token = tmp_path / "token"
    probe = prober(table, profile, {**protocol("mlflow", endpoint.url), "token_file": str(token)})
    asyncio.run(probe.probe())
    assert probe.course.failures["credentials"] == 3
    token.write_text("first\n")
    asyncio.run(probe.probe())
    token.write_text("second\n")
    asyncio.run(probe.probe())
    assert {headers["Authorization"] for _, headers, _ in endpoint.asked} == {"Bearer first", "Bearer second"}


def test_series_of_probes(table: Path, profile: Profile, endpoint: Endpoint) -> None:
    probe = prober(table, profile, protocol("kserve_v2", endpoint.url), pinned={"score": "p"})
    asyncio.run(probe.probe())
    found = samples(ProbeCollector([probe]))
    who = 'probe="golden",model="credit"'
    assert found[f'ml_probe_info{{{who},version="3",protocol="kserve_v2",pinned="rows"}}'] == 1
    assert found[f'ml_probe_rows{{{who},version="3"}}'] == ROWS
    assert found[f'ml_probe_outputs_changed_ratio{{{who},version="3"}}'] == 0
    assert found[f"ml_probe_requests_total{{{who}}}"] == 3
    assert found[f"ml_probe_request_duration_seconds_count{{{who}}}"] == 3
    assert found[f'ml_probe_benchmark_min{{{who},version="3",metric="accuracy"}}'] == 0.6
    reference = profile.performance["roc_auc"]
    assert found[f'ml_probe_benchmark_min{{{who},version="3",metric="roc_auc"}}'] == pytest.approx(reference - 0.03)
    assert found[f'ml_probe_performance{{{who},version="3",metric="accuracy"}}'] > 0.6
    assert not [name for name in found if not name.startswith("ml_probe_")], "never among live counts"
    endpoint.status = 500
    asyncio.run(probe.probe())
    assert not [name for name in samples(ProbeCollector([probe])) if name.startswith("ml_probe_performance{")]


def versions_of(profile: Profile) -> Profiles:
    """Version 3, and a version 4 that was made later, which needs one feature more and is held to less."""
    later = replace(profile.provenance, model_version="4", created="2099-01-01T00:00:00Z")
    features = {**profile.features, "twice": profile.features["amount"]}
    performance = {**profile.performance, "roc_auc": profile.performance["roc_auc"] - 0.1}
    changed = replace(profile, features=features, provenance=later, performance=performance)
    return Profiles(None, {"3": profile, "4": changed})


def test_a_release_with_other_features_is_no_failure(
    table: Path, tmp_path: Path, profile: Profile, endpoint: Endpoint
) -> None:
    def strict(rows: list[Row]) -> list[float]:
        if set(rows[0]) != set(endpoint.features):
            return []  # an answer that is none
        return scores_of(rows)

    rows = [json.loads(line) for line in table.read_text().splitlines()]
    path = tmp_path / "golden.ndjson"
    path.write_text("\n".join(json.dumps(row | {"twice": row["amount"]}) for row in rows))
    both = versions_of(profile)
    endpoint.predict = strict
    address = protocol("mlflow", endpoint.url)
    first = prober(path, Profiles(None, {"3": profile}), address, pinned={"score": "p"})
    asyncio.run(first.probe())
    assert first.course.error is None

    following = Prober(first.settings, first.model, both, lists, former=first)
    asyncio.run(following.probe())
    assert following.course.error is None, "the profile came before its version: what serves is asked as before"
    assert following.course.passes == 2, "no counter goes back"
    endpoint.features, endpoint.version = [*FEATURES, "twice"], "4"
    failed = []
    for _ in range(3):
        asyncio.run(following.probe())
        failed.append(following.course.failed_in_a_row)
    assert failed == [1, 0, 0], "one pass finds out, where two alarm"
    assert following.results[0].version == "4"
    endpoint.features, endpoint.version = FEATURES, "3"
    for _ in range(2):
        asyncio.run(following.probe())
    assert following.course.error is None, "rolled back"

    found = samples(ProbeCollector([following]))
    agreed = 'ml_probe_benchmark_min{probe="golden",model="credit",version="3",metric="roc_auc"}'
    assert found[agreed] == pytest.approx(profile.performance["roc_auc"] - 0.03), "by its own reference"


def test_a_golden_set_without_a_new_feature_still_serves_the_old_version(
    table: Path, profile: Profile, endpoint: Endpoint
) -> None:
    probe = prober(table, versions_of(profile), protocol("mlflow", endpoint.url), pinned={"score": "p"})
    asyncio.run(probe.probe())
    assert probe.course.error is None
    assert probe.results[0].rows == ROWS


def test_an_outage_is_not_prolonged_by_a_release(table: Path, profile: Profile, endpoint: Endpoint) -> None:
    probe = prober(table, versions_of(profile), protocol("mlflow", endpoint.url), pinned={"score": "p"})
    endpoint.status = 503
    asyncio.run(probe.probe())
    endpoint.status = 200
    asyncio.run(probe.probe())
    assert probe.course.error is None


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "an endpoint has one protocol of kserve_v2, kserve_v1, mlflow, azureml, http, not none"),
        ({"mlflow": "http://a/invocations", "kserve_v1": "http://a/v1"}, "not kserve_v1 and mlflow"),
        ({"mlflow": "ftp://a"}, "write http://HOST:PORT/PATH"),
        ({"mlflow": "http://me:secret@a/invocations"}, "give username and password_file"),
        ({"mlflow": "http://a", "tensor": "x"}, "only kserve_v2 has tensors"),
        ({"mlflow": "http://a", "username": "me"}, "belong together"),
        ({"http": {"url": "http://a", "request": {"x": 1}}}, r"write \$rows or \$records"),
    ],
)
def test_endpoints_of_no_use(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        EndpointSettings.model_validate(settings)
