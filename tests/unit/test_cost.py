"""What errors cost: the mean over the events that came, with its interval, its benchmark and its state."""

import time
from typing import Any

import numpy as np
import pytest

from mlops_exporter.profile.profile import Task, save
from mlops_exporter.service.configuration import read
from mlops_exporter.settings.document import ConfigError
from tests.models import profiles
from tests.support import pipeline
from tests.support.pipeline import Exposition

MATRIX = {"no": {"yes": 40.0}, "yes": {"no": 2.5, "yes": -10}}


def shown(task: Task, pairs: list[tuple[Any, Any]], **settings: Any) -> tuple[Exposition, Any]:
    service = pipeline.service(task, **settings)
    events = [{"model": task, "prediction": p, "label": y, "ts": time.time() - 1} for p, y in pairs]
    assert pipeline.submit(service, pipeline.ndjson(events)) == (len(events), [])
    pipeline.fill_windows(service)
    return pipeline.scrape(service), service.status()


def drawn(count: int, wrong: float) -> list[tuple[str, str]]:
    rng = np.random.default_rng(5)
    actual = rng.choice(["no", "yes"], count)
    other = np.where(actual == "no", "yes", "no")
    return list(zip(np.where(rng.random(count) < wrong, other, actual).tolist(), actual.tolist(), strict=True))


def test_it_is_the_mean_of_what_each_decision_costs() -> None:
    pairs = drawn(400, 0.2)
    exposition, _ = shown("binary", pairs, costs={"matrix": MATRIX})
    costs = [MATRIX[predicted].get(actual, 0.0) for predicted, actual in pairs]
    of = {"window": "15m", "metric": "cost"}
    assert exposition.value("ml_model_performance", **of) == pytest.approx(np.mean(costs), rel=1e-12)
    half = 1.96 * float(np.std(costs)) / 20
    assert exposition.value("ml_model_performance_lower", **of) == pytest.approx(np.mean(costs) - half, abs=half / 10)
    assert exposition.value("ml_model_performance_upper", **of) == pytest.approx(np.mean(costs) + half, abs=half / 10)


def test_a_regression_pays_by_unit_and_side() -> None:
    rng = np.random.default_rng(3)
    label, error = rng.normal(100, 20, 500), rng.normal(1, 6, 500)
    pairs = list(zip((label + error).tolist(), label.tolist(), strict=True))
    exposition, _ = shown("regression", pairs, costs={"over": 1.5, "under": 4})
    expected = np.mean(np.where(error > 0, 1.5 * error, -4 * error))
    of = {"window": "15m", "metric": "cost"}
    assert exposition.value("ml_model_performance", **of) == pytest.approx(expected, rel=1e-9)
    lower, upper = (exposition.value(f"ml_model_performance_{end}", **of) or 0.0 for end in ("lower", "upper"))
    assert lower < expected < upper


def test_nothing_costs_without_a_price() -> None:
    exposition, _ = shown("binary", drawn(50, 0.2))
    assert not exposition.series("ml_model_performance", metric="cost")


@pytest.mark.parametrize(("agreed", "state"), [(30.0, "good"), (3.0, "failing")])
def test_its_benchmark_is_kept_or_failed(agreed: float, state: str) -> None:
    settings = {"costs": {"matrix": {"no": {"yes": 40.0}}}, "benchmarks": {"cost": {"max": agreed}}}
    exposition, report = shown("binary", drawn(600, 0.5), **settings)
    assert exposition.value("ml_model_benchmark_max", metric="cost") == agreed
    (model,) = report.models
    assert (model.state, model.performance.metric) == (state, "cost")


def test_a_dear_error_that_no_window_has_seen_is_not_ruled_out() -> None:
    exposition, _ = shown("binary", [("no", "no")] * 300, costs={"matrix": {"no": {"yes": 500.0}, "yes": {"no": 1}}})
    of = {"window": "15m", "metric": "cost"}
    assert exposition.value("ml_model_performance", **of) == 0.0
    assert 500 * 3 / 300 < (exposition.value("ml_model_performance_upper", **of) or 0.0) < 500 * 6 / 300


def test_prices_fit_the_classes(tmp_path: Any) -> None:
    save(profiles()["credit"], tmp_path / "credit.json")
    written = "models: [{name: m, task: binary, profile: credit.json, costs: {matrix: %s}}]"
    file = tmp_path / "mlops-exporter.yml"
    file.write_text(written % "{0: {1: 5}, true: {}}")
    with pytest.raises(ConfigError, match="'true' is a class of no profile"):
        read(file)
    file.write_text(written % "{0: {1.0: 5}}")  # classes are compared as strings, however they are written
    costs = read(file)[0].models[0].costs
    assert costs is not None
    assert costs.matrix == {"0": {"1": 5.0}}
