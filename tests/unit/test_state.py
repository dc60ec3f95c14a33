import asyncio
import math

import msgspec
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from mlops_exporter.collectors.data import DataCollector
from mlops_exporter.collectors.performance import ModelCollector
from mlops_exporter.counting.model import Model
from mlops_exporter.demo.feeder import Feeder
from mlops_exporter.demo.run import CONFIG
from mlops_exporter.exposition.text import render
from mlops_exporter.ingest.intake import Intake, SourceCounts
from mlops_exporter.judging.drift import Comparisons
from mlops_exporter.judging.judge import caution
from mlops_exporter.judging.status import HISTORY_POINTS, ModelState, Observer, source_state
from mlops_exporter.service import configuration as config
from mlops_exporter.settings.durations import parse_duration
from mlops_exporter.settings.models import Limits
from mlops_exporter.sources.base import Health

START = 1_800_000_000.0


class Exporter:
    """The demonstration on a clock of its own."""

    def __init__(self) -> None:
        settings, profiles = config.read(CONFIG)
        self.models = [Model(model, profiles[model.name], Limits()) for model in settings.models]
        self.comparisons = Comparisons()
        self.data = DataCollector(self.models, self.comparisons)
        self.observers = {m.name: Observer(m, m.reference, self.comparisons.of(m.reference)) for m in self.models}
        self.intake = Intake(self.models, ["push"], Limits())
        self.feeder = Feeder()
        self.now = START

    def run_to(self, seconds: int) -> None:
        """Live until `seconds` after the start, with a point of history every 10 s."""

        async def live() -> None:
            for second in range(int(self.now - START) + 1, seconds + 1):
                self.now = START + second
                body = self.feeder.batch(second, self.now)
                await self.intake.submit("push", body, self.now)
                if second % 10 == 0:
                    self.intake.flush()
                    for observer in self.observers.values():
                        observer.record(self.now)
            self.intake.flush()

        asyncio.run(live())

    def state(self, model: str) -> ModelState:
        (state,) = self.observers[model].states(self.now)
        return state

    def metric(self, name: str, **labels: str) -> dict[tuple[str, ...], float]:
        """Samples of a metric with these labels, by the values of the others."""
        samples = [s for c in (ModelCollector(self.models), self.data) for s in c.collect(self.now)]
        return {
            tuple(value for key, value in sample.labels.items() if key not in labels): sample.value
            for family in text_string_to_metric_families(render(samples, False).decode())
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        }


@pytest.fixture(scope="module")
def exporter() -> Exporter:
    return Exporter()


@pytest.mark.slow
def test_from_nothing_over_good_to_failing(exporter: Exporter) -> None:
    assert exporter.observers["mpg"].states(START) == []
    exporter.run_to(2)
    state = exporter.state("mpg")
    assert state.state == "unknown"
    assert state.reasons[-1].endswith(" of 100 labels that a judgement needs")
    assert state.performance.value is None

    exporter.run_to(35)
    state = exporter.state("mpg")
    assert (state.state, state.reasons, state.drifted) == ("good", [], [])

    exporter.run_to(110)
    state = exporter.state("mpg")
    assert state.state == "failing"
    assert state.reasons[0].startswith("mae ")
    assert " in 1m, at most 2.3 is agreed" in state.reasons[0]
    assert "horsepower" in state.drifted
    assert exporter.state("flights").reasons != []


@pytest.mark.slow
def test_it_says_what_the_metrics_say(exporter: Exporter) -> None:
    exporter.run_to(110)
    for name in ("mpg", "flights"):
        state = exporter.state(name)
        headline = state.performance
        assert msgspec.convert(msgspec.json.decode(msgspec.json.encode(state)), ModelState) == state
        labels = {"model": name, "version": "1", "window": headline.window}
        for metric, value in (("", headline.value), ("_lower", headline.lower), ("_upper", headline.upper)):
            assert exporter.metric(f"ml_model_performance{metric}", **labels)[headline.metric,] == value
        assert exporter.metric("ml_model_drifted_features_controlled", **labels)[()] == len(state.drifted)
        assert exporter.metric("ml_model_predictions_total", model=name)["1",] == state.predictions
        assert exporter.metric("ml_model_label_coverage_ratio", **labels).get(()) == state.label_coverage
        bounds = (
            exporter.metric("ml_model_benchmark_min", model=name, version="1"),
            exporter.metric("ml_model_benchmark_max", model=name, version="1"),
        )
        assert [headline.minimum, headline.maximum] == [bound.get((headline.metric,)) for bound in bounds]
        lower, upper = (exporter.metric(f"ml_model_performance{end}", **labels) for end in ("_lower", "_upper"))
        values = exporter.metric("ml_model_performance", **labels)
        widened = float(caution(np.array(parse_duration(headline.window))))
        missed = {m for (m,), low in bounds[0].items() if values[m,] + (upper[m,] - values[m,]) * widened < low} | {
            m for (m,), high in bounds[1].items() if values[m,] + (lower[m,] - values[m,]) * widened > high
        }
        assert {reason.split()[0] for reason in state.reasons if "agreed" in reason} == missed


def test_silence(exporter: Exporter) -> None:
    exporter.run_to(110)
    (state,) = exporter.observers["flights"].states(exporter.now + 1000)
    assert state.state == "silent"
    assert "no prediction in 5m" in state.reasons
    assert state.drifted == []

    (state,) = exporter.observers["flights"].states(exporter.now + 90)
    (reason,) = (reason for reason in state.reasons if reason.startswith("no prediction in 1m, where "))
    usual = float(reason.removeprefix("no prediction in 1m, where ").removesuffix(" are usual").replace(",", ""))
    assert usual == pytest.approx(state.predictions / 5, abs=1)


def test_what_drifted_is_as_many_as_are_counted(exporter: Exporter) -> None:
    exporter.run_to(110)
    state = exporter.state("mpg")
    reason = next(reason for reason in state.reasons if reason.endswith(" drifted in 1m"))
    named = reason.removesuffix(" drifted in 1m").split(", ")
    assert named == [*state.drifted[:3], f"{len(state.drifted) - 3} more features"]


def test_history_is_bounded(exporter: Exporter) -> None:
    (model, *_) = exporter.models
    observer = Observer(model, model.reference, exporter.comparisons.of(model.reference))
    exporter.run_to(110)
    for second in range(HISTORY_POINTS + 5):
        observer.record(exporter.now + second)
    (state,) = observer.states(exporter.now)
    assert len(state.performance.history) == HISTORY_POINTS
    assert all(value is None or math.isfinite(value) for value in state.performance.history)


def test_sources() -> None:
    counts = SourceCounts(accepted=7, late=1, last_event=5.0)
    counts.rejected["bad_score"] = 2
    counts.rejected["unknown_model"] = 3
    pushed = source_state("push", counts)
    assert (pushed.up, pushed.lag_events, pushed.rejected) == (True, None, 5)
    assert pushed.rejected_by_reason == {"unknown_model": 3, "bad_score": 2}
    pulled = source_state("stream", counts, Health(up=False, lag_events=12.0, error="no broker"))
    assert (pulled.up, pulled.lag_events, pulled.error) == (False, 12.0, "no broker")
