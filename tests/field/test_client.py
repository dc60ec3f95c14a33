"""What scikit-learn users have in hand, given to the client as it is; and nothing that they have raises."""

import asyncio
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
from fastapi import FastAPI, HTTPException
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mlops_exporter.client import Monitor, PredictionMiddleware, watch
from tests.support.http_sink import Events, taking_events

NAMES = ["amount", "age"]


@pytest.fixture
def sink() -> Iterator[tuple[str, Events]]:
    """The URL of a server that takes everything, and what it took."""
    with taking_events() as taking:
        yield taking


def sent(sink: tuple[str, Events], event: dict[str, Any], **settings: Any) -> tuple[dict[str, Any], Monitor]:
    """What becomes of one prediction."""
    url, taken = sink
    with Monitor(url, model="credit", **settings) as monitor:
        monitor.predict(**{"ts": 1.0, "error": "x", **event})
        assert monitor.flush()
    (only,) = taken
    return {name: value for name, value in only.items() if name not in ("model", "ts", "error")}, monitor


ROW = {"amount": 1.5, "age": 2.0}
CLASSES: dict[str, Any] = {"classes": np.array([0, 1])}


@pytest.mark.parametrize(
    "features",
    [
        ROW,
        pd.Series(ROW),
        pd.DataFrame([ROW]),
        [1.5, 2.0],
        (1.5, 2.0),
        np.array([1.5, 2.0]),
        np.array([[1.5, 2.0]]),
        np.array([1.5, 2.0], np.float32),
        [[1.5, 2.0]],
        [np.array([1.5, 2.0])],
        {"amount": Decimal("1.5"), "age": np.float64(2)},
        (value for value in (1.5, 2.0)),
    ],
    ids=lambda features: type(features).__name__,
)
def test_features_of_one_row(sink: tuple[str, Events], features: Any) -> None:
    event, monitor = sent(sink, {"features": features}, features=NAMES)
    assert event == {"features": ROW}
    assert monitor.left_out == 0


@pytest.mark.parametrize(
    ("scores", "settings", "expected"),
    [
        ([0.25, 0.75], {}, {"score": 0.75}),
        (np.array([[0.25, 0.75]]), {}, {"score": 0.75}),
        ([0.25, 0.75], CLASSES, {"scores": {"0": 0.25, "1": 0.75}}),
        (np.array([[0.25, 0.75]]), {"classes": [False, True]}, {"scores": {"false": 0.25, "true": 0.75}}),
        ({0.0: 0.25, np.int64(1): 0.75}, {}, {"scores": {"0": 0.25, "1": 0.75}}),
        (pd.Series({"cat": 0.25, "dog": 0.75}), {}, {"scores": {"cat": 0.25, "dog": 0.75}}),
        (pd.DataFrame([{"cat": 0.25, "dog": 0.75}]), {}, {"scores": {"cat": 0.25, "dog": 0.75}}),
    ],
)
def test_scores_of_one_row(
    sink: tuple[str, Events], scores: Any, settings: dict[str, Any], expected: dict[str, Any]
) -> None:
    event, monitor = sent(sink, {"scores": scores}, **settings)
    assert event == expected
    assert monitor.left_out == 0


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("features", [1.5]),
        ("features", "f"),
        ("features", 3),
        ("features", pd.DataFrame([ROW, ROW])),
        ("features", np.ones((2, 2))),
        ("scores", [0.1, 0.2, 0.7]),
        ("scores", "high"),
        ("groups", "f"),
        ("groups", object()),
        ("prediction", [1, 2]),
        ("prediction", {"a": 1}),
        ("score", np.array([0.25, 0.75])),
        ("latency_seconds", np.array([1, 2])),
    ],
)
def test_what_cannot_be_understood_is_left_out_and_said_once(
    sink: tuple[str, Events], member: str, value: Any, caplog: pytest.LogCaptureFixture
) -> None:
    url, taken = sink
    with Monitor(url, model="credit", features=["a", "b", "c"]) as monitor:
        for _ in range(3):
            monitor.predict(error="x", **{member: value})
        assert monitor.flush()
        assert (monitor.left_out, monitor.dropped, monitor.sent) == (3, 0, 3)
    assert all(member not in event for event in taken)
    assert len([record for record in caplog.records if f"without {member}" in record.getMessage()]) == 1


@pytest.mark.parametrize("value", [np.array([1]), np.array([[1]]), [1], pd.Series([1]), np.int64(1)])
def test_a_prediction_of_one_row_is_its_value(sink: tuple[str, Events], value: Any) -> None:
    assert sent(sink, {"prediction": value})[0] == {"prediction": 1}


def test_one_group_needs_no_mapping(sink: tuple[str, Events]) -> None:
    assert sent(sink, {"groups": "f"}, groups=["sex"])[0] == {"groups": {"sex": "f"}}


class Vicious:
    """Raises whatever is asked of it."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__

    def __bool__(self) -> bool:
        raise RuntimeError("neither")


def test_nothing_that_it_is_given_raises(sink: tuple[str, Events]) -> None:
    url, _ = sink
    members = ("id", "features", "prediction", "score", "scores", "label", "groups", "latency_seconds", "error")
    recursive: list[Any] = []
    recursive.append(recursive)
    value: Any
    with Monitor(url, model="credit") as monitor:
        for value in (Vicious(), {"a": Vicious()}, recursive, {1: {2: recursive}}, b"\xff", "\ud800", {}, [], 1j):
            for member in (*members, "model", "version", "ts"):
                monitor.predict(**{member: value})
            monitor.label(value, value)
        monitor.flush()
    assert monitor.dropped + monitor.rejected + monitor.sent > 0


def test_certificates_that_cannot_be_read_raise_nothing() -> None:
    with Monitor("https://127.0.0.1:9", ca_file="/absent.pem", cert_file="/absent.crt", exit_seconds=0.1) as monitor:
        monitor.predict(model="credit", score=0.5)
        assert not monitor.flush(0.2)
    assert monitor.dropped == 1


FRAME = pd.DataFrame({"amount": np.linspace(0, 1, 40), "age": np.linspace(5, 1, 40)})
LABELS = (FRAME["amount"] > 0.4).astype(int)


def test_a_watched_classifier_answers_as_before_and_is_heard(sink: tuple[str, Events]) -> None:
    url, taken = sink
    plain = make_pipeline(StandardScaler(), LogisticRegression()).fit(FRAME, LABELS)
    with Monitor(url, model="credit") as monitor:
        model = watch(plain, monitor, ids=lambda rows: rows.index)
        assert model.predict(FRAME).tolist() == plain.predict(FRAME).tolist()
        np.testing.assert_array_equal(model.predict_proba(FRAME), plain.predict_proba(FRAME))
        assert model.classes_.tolist() == [0, 1]
        assert model.named_steps.keys() == plain.named_steps.keys()
        assert model.score(FRAME, LABELS) == plain.score(FRAME, LABELS)
        assert monitor.flush()
    assert len(taken) == 80
    assert taken[3]["features"] == {"amount": FRAME["amount"][3], "age": FRAME["age"][3]}
    assert (taken[3]["prediction"], taken[3]["id"]) == (int(plain.predict(FRAME)[3]), 3)
    assert taken[43]["scores"] == {"0": plain.predict_proba(FRAME)[3][0], "1": plain.predict_proba(FRAME)[3][1]}
    assert taken[3]["latency_seconds"] > 0


def test_a_watched_regression_on_arrays_takes_the_names_of_its_training(sink: tuple[str, Events]) -> None:
    url, taken = sink
    fitted = LinearRegression().fit(FRAME, FRAME["age"])
    with Monitor(url, model="price") as monitor:
        with pytest.warns(UserWarning, match="valid feature names"):
            watch(fitted, monitor).predict(FRAME.to_numpy()[:2])
        assert monitor.flush()
    assert [event["features"]["amount"] for event in taken] == FRAME["amount"][:2].tolist()


def test_the_error_of_a_watched_model_is_its_callers(sink: tuple[str, Events]) -> None:
    url, taken = sink
    with Monitor(url, model="credit") as monitor:
        model = watch(LogisticRegression(), monitor)
        with pytest.raises(Exception, match="not fitted"):
            model.predict(FRAME[:1])
        assert monitor.flush()
    assert [event["error"] for event in taken] == ["NotFittedError"]


def test_more_rows_than_may_wait_are_counted_and_not_even_read(sink: tuple[str, Events]) -> None:
    url, _ = sink
    fitted = LinearRegression().fit(FRAME.to_numpy(), FRAME["age"])
    with Monitor(url, model="price", queue_events=10, features=NAMES) as monitor:
        watch(fitted, monitor).predict(np.zeros((1000, 2)))
        assert monitor.flush()
        assert (monitor.sent, monitor.dropped) == (10, 990)


def asked(app: FastAPI, method: str, path: str, **request: Any) -> httpx.Response:
    """The answer of a service."""

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            return await client.request(method, path, **request)

    return asyncio.run(ask())


def test_a_service_of_fastapi(sink: tuple[str, Events]) -> None:
    url, taken = sink
    app = FastAPI()
    monitor = Monitor(url, model="credit")
    app.add_middleware(PredictionMiddleware, monitor=monitor, path="/predict")

    @app.post("/predict")
    def predict(request: dict[str, Any]) -> dict[str, Any]:
        if request["amount"] is None:
            raise HTTPException(422)
        if request["amount"] < 0:
            raise RuntimeError("broken")
        return {"prediction": 1, "score": 0.75}

    assert asked(app, "POST", "/predict", json=ROW, headers={"X-Request-ID": "r1"}).json()["score"] == 0.75
    assert asked(app, "POST", "/predict", json={"amount": None}).status_code == 422
    assert asked(app, "POST", "/predict", json={"amount": -1}).status_code == 500
    assert asked(app, "POST", "/predict", content=b"no JSON").status_code == 422
    assert asked(app, "GET", "/predict").status_code == 405
    assert monitor.flush()
    monitor.close()
    good, failed = taken
    assert (good["features"], good["prediction"], good["score"], good["id"]) == (ROW, 1, 0.75, "r1")
    assert good["latency_seconds"] > 0
    assert (failed["features"], failed["error"]) == ({"amount": -1}, "RuntimeError")


def test_a_middleware_reads_as_it_is_told_and_hurts_nobody(sink: tuple[str, Events]) -> None:
    url, taken = sink
    app = FastAPI()
    monitor = Monitor(url, model="credit", features=NAMES, classes=[0, 1])

    def read(request: Any, response: Any) -> list[dict[str, Any]]:
        rows = zip(request["rows"], response["probabilities"], strict=True)
        return [{"features": row, "scores": said} for row, said in rows]

    app.add_middleware(PredictionMiddleware, monitor=monitor, path="/batch", read=read)

    @app.post("/batch")
    def batch(request: dict[str, Any]) -> dict[str, Any]:
        return {"probabilities": [[0.25, 0.75]] * len(request["rows"])}

    assert asked(app, "POST", "/batch", json={"rows": [[1.5, 2.0], [1.5, 2.0]]}).status_code == 200
    assert asked(app, "POST", "/batch", json={"rows": [], "more": "x" * 2_000_000}).status_code == 200
    assert monitor.flush()
    monitor.close()
    assert [event["features"] for event in taken] == [ROW, ROW]
    assert taken[0]["scores"] == {"0": 0.25, "1": 0.75}
    assert monitor.dropped == 1  # the body that was too long to be read
