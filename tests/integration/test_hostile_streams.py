"""Whatever is posted: memory, series and log stay bounded, refusals are counted, and honest events count exactly."""

import json
import subprocess
from collections import Counter
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import httpx
import psutil
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from mlops_exporter.events.reasons import REASONS
from mlops_exporter.profile.profile import save
from tests import dom
from tests.integration import hostile
from tests.models import categorical, profiles
from tests.requirements import require_program
from tests.support.exporter import Exporter, running_exporter, write_config

HONEST = 200
VERSIONS = 4
ROUNDS = 6


@pytest.fixture
def exporter(tmp_path: Path) -> Iterator[Exporter]:
    models = []
    for name, profile in profiles().items():
        profile.groups = {"sex": categorical("female", "male")}
        save(profile, tmp_path / f"{name}-grouped.json")
        files = {"name": name, "task": profile.task, "profile": f"{name}-grouped.json"}
        models.append({**files, "fairness": {"attributes": ["sex"]}})
    limits = {"versions": VERSIONS, "pending_predictions": 2000, "remembered_labels": 2000}
    write_config(tmp_path, *models, limits=limits)
    with running_exporter(tmp_path) as exporter:
        yield exporter


class Outcome:
    """What became of posted bodies."""

    def __init__(self) -> None:
        self.statuses = Counter[int]()
        self.accepted = self.rejected = 0

    def post(self, client: httpx.Client, body: hostile.Body) -> None:
        answer = client.post("/v1/events", content=body.content, headers=body.headers)
        self.statuses[answer.status_code] += 1
        if answer.status_code in (400, 202) and answer.headers["content-type"] == "application/json":
            self.accepted += answer.json()["accepted"]
            self.rejected += answer.json()["rejected"]
        else:
            self.rejected += 1


def honest(first: int) -> hostile.Body:
    """Events of which each sum is known: one label of two is right, and each error is 3."""
    lines = []
    for number in range(first, first + HONEST):
        credit = {"model": "credit", "version": "3", "id": f"h{number}", "features": {"amount": 5, "country": "DE"}}
        lines.append({**credit, "prediction": 1, "groups": {"sex": "female"}, "latency_seconds": 0.25})
        lines.append({"model": "credit", "id": f"h{number}", "label": number % 2})
        lines.append({"model": "price", "version": "3", "prediction": 8, "label": 5})
        lines.append({"model": "iris", "version": "3", "prediction": "setosa", "label": "setosa"})
    return hostile.ndjson(*map(json.dumps, lines))


NOT_TRIED = {
    *("forbidden_model", "unauthorized", "body_stalled"),
    *("bad_cloud_event", "unknown_cloud_event_type", "bad_payload", "unnamed_columns", "unmapped_outputs"),
    *("rows_differ", "framed_by_schema_registry", "arrow_not_installed", "bad_outcome"),
    *("bad_horizon", "bad_quantile", "bad_naive", "bad_target"),
    *("bad_ledger", "bad_pane", "future_pane", "pane_too_old", "other_profile", "other_layout", "bad_cells"),
    "too_many_ledgers",
}
"""Reasons that need tokens, patience, KServe, Kafka, outcomes, forecasts, ledgers or an exporter without pyarrow."""

SUMS = {
    'ml_model_predictions_total{model="credit",version="3"}': HONEST,
    'ml_model_labels_total{model="credit",version="3"}': HONEST,
    'ml_model_confusion_total{model="credit",version="3",predicted="1",actual="1"}': HONEST / 2,
    'ml_model_prediction_latency_seconds_sum{model="credit",version="3"}': HONEST / 4,
    'ml_feature_values_total{model="credit",version="3",feature="country",bin="DE",range="DE"}': HONEST,
    'ml_group_predictions_total{model="credit",version="3",attribute="sex",group="female",predicted="1"}': HONEST,
    'ml_model_labels_total{model="price",version="3"}': HONEST,
    'ml_model_absolute_error_sum_total{model="price",version="3"}': 3 * HONEST,
    'ml_model_squared_error_sum_total{model="price",version="3"}': 9 * HONEST,
    'ml_model_overprediction_sum_total{model="price",version="3"}': 3 * HONEST,
    'ml_model_confusion_total{model="iris",version="3",predicted="setosa",actual="setosa"}': HONEST,
}
"""What one body of honest events adds."""


def scrape(client: httpx.Client, accept: str = "text/plain") -> bytes:
    return client.get("/metrics", headers={"accept": accept}).content


def series(body: bytes) -> dict[str, float]:
    lines = (line.rpartition(" ") for line in body.decode().split("\n") if line and not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


def test_hostile_streams(exporter: Exporter) -> None:
    process = psutil.Process(exporter.process.pid)
    numbers = count()
    outcome = Outcome()
    memory, sizes = [], []
    with httpx.Client(base_url=exporter.url, trust_env=False, timeout=60) as client:
        outcome.post(client, honest(0))
        before = series(scrape(client))
        for _ in range(ROUNDS):
            for body in hostile.bodies(numbers):
                outcome.post(client, body)
            for number in range(300):
                outcome.post(client, hostile.ndjson(f'{{"model":"m{number}"', f'{{"model":"credit","id":{number}}}'))
            memory.append(process.memory_info().rss)
            sizes.append(len(series(scrape(client))))
        poisoned = series(scrape(client))
        outcome.post(client, honest(HONEST))
        after = series(scrape(client))
        page, status = client.get("/"), client.get("/api/v1/status")
        bodies = scrape(client), scrape(client, "application/openmetrics-text;version=1.0.0")

    assert set(outcome.statuses) == {202, 400, 413, 415}, "neither failures nor anything else"
    assert after['ml_exporter_events_total{source="push"}'] == outcome.accepted
    refused = {name: value for name, value in after.items() if name.startswith("ml_exporter_events_rejected_total{")}
    assert sum(refused.values()) == outcome.rejected
    occurred = {name.split('reason="')[1].rstrip('"}') for name, value in refused.items() if value}
    assert set(REASONS) - occurred == NOT_TRIED
    assert {name: after[name] - poisoned[name] for name in SUMS} == pytest.approx(SUMS, abs=1e-3)
    assert {name: before[name] for name in SUMS} == pytest.approx(SUMS)
    assert all(value - value == 0 for name, value in after.items()), "neither infinite nor NaN"

    assert sizes[-1] == sizes[0] < 5000, "all versions came in the first round, and nothing else makes series"
    assert sum("ml_model_info{" in name for name in after) <= 3 * VERSIONS
    megabytes = [round(each / 1e6) for each in memory]
    assert max(megabytes[ROUNDS // 2 :]) < min(1.25 * max(megabytes[: ROUNDS // 2]), 400), megabytes
    _is_valid(*bodies)
    _is_escaped(page.text)
    _is_quiet(exporter.log.read_text())
    assert len(status.json()["models"]) == sum("ml_model_info{" in name for name in after)


def _is_valid(text: bytes, openmetrics: bytes) -> None:
    families = [*parse_text(text.decode())]
    shown = {sample.labels["version"] for family in families for sample in family.samples if "version" in sample.labels}
    assert any(evil in version for evil in hostile.EVIL for version in shown)
    names = {family.name for family in parse_openmetrics(openmetrics.decode())}  # type: ignore[no-untyped-call]
    assert {"ml_model_predictions", "ml_exporter_series"} < names
    command = [require_program("promtool"), "check", "metrics"]
    checked = subprocess.run(command, input=text, capture_output=True, timeout=30, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def _is_escaped(page: str) -> None:
    tree = dom.parse(page)
    assert [element.tag for element in tree.all("script")] == ["script"], "the page's own"
    assert not list(tree.all("img"))
    assert any(evil in tree.text for evil in hostile.EVIL), "a hostile version is shown as text"


def _is_quiet(log: str) -> None:
    assert len(log.splitlines()) < 30, log[:3000]
    assert "Traceback" not in log
    assert "\x1b" not in log
