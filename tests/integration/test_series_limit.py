"""An exporter with more series than it may have leaves out the finest detail, and says so everywhere."""

import json
from pathlib import Path

import httpx

from mlops_exporter.exposition.budget import DETAILS
from tests.integration import hostile
from tests.support.exporter import running_exporter, write_config

LIMIT = 4000


def test_the_limit_holds_and_what_is_left_out_is_told(tmp_path: Path) -> None:
    events = [
        {"model": model, "version": str(version), "prediction": prediction, "label": prediction, "features": features}
        for version in range(5)
        for model, prediction, features in (
            ("credit", 1, {"amount": 5, "country": "DE"}),
            ("iris", "setosa", {"width": 25.0}),
            ("price", 5, {"rooms": 3, "area": "north"}),
        )
        for _ in range(150)
    ]
    body = hostile.ndjson(*map(json.dumps, events))
    write_config(tmp_path, limits={"series": LIMIT})
    with (
        running_exporter(tmp_path) as exporter,
        httpx.Client(base_url=exporter.url, trust_env=False) as client,
    ):
        whole = _series(client)
        assert _dropped(whole) == dict.fromkeys(DETAILS, 0)
        assert client.post("/v1/events", content=body.content, headers=body.headers).json()["accepted"] == len(events)
        first, again, data = _series(client), _series(client), _series(client, "?collect[]=data")
        state = client.get("/api/v1/status").json()["series"]
        log = exporter.log.read_text()

    assert len(first) <= LIMIT
    assert {name for name in first if "model=" in name} == {name for name in again if "model=" in name}
    assert first["ml_exporter_series"] == len(first)
    assert first["ml_exporter_series_limit"] == LIMIT
    assert _dropped(first)["bins"] > 100
    assert sum(name.startswith("ml_model_labels_total{") for name in first) == 15, "counts of all versions stay"
    assert {name for name in data if name.startswith("ml_feature")} == {n for n in first if n.startswith("ml_feature")}
    assert state["limit"] == LIMIT
    assert state["dropped"]["bins"] == _dropped(data)["bins"] > 0
    named = {(each["detail"], each["model"], each["version"]) for each in state["left_out"]}
    assert ("bins", "credit", "0") in named
    assert log.count("limits.series") == 1


def _series(client: httpx.Client, query: str = "") -> dict[str, float]:
    lines = client.get(f"/metrics{query}").text.splitlines()
    pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
    return {name: float(value) for name, _, value in pairs}


def _dropped(series: dict[str, float]) -> dict[str, float]:
    return {detail: series[f'ml_exporter_series_dropped{{detail="{detail}"}}'] for detail in DETAILS}
