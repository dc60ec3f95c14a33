"""Page, alerts and dashboards call a situation the same; promtool runs the rules over what the exporter shows."""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from grafana.source.models import STATES
from mlops_exporter.collectors.kinds import made_of
from mlops_exporter.collectors.parts import Parts
from mlops_exporter.counting.model import Model
from mlops_exporter.exposition.catalogue import all_metrics
from mlops_exporter.judging.drift import Comparison
from mlops_exporter.judging.judge import VERDICTS, WORDS, Verdict
from mlops_exporter.judging.verdicts import Bench
from prometheus.source.__main__ import RULES
from prometheus.source.records import rank
from prometheus.source.render import ALERTS, GROUPS
from tests.dashboards import substitute, targets
from tests.integration.alerting.test_promtool import promtool
from tests.support.one_model import samples
from tests.support.situations import SITUATIONS, model_in, observer_of

MINUTES = 20
_FILES = ("thresholds.yml", "windows.yml", "error_budget.yml", "model_alerts.yml", "data_alerts.yml", "states.yml")
_COUNTERS = {metric.name for metric in all_metrics() if metric.type == "counter"}
_CHOSEN = {"job": ".+", "instance": ".+", "cluster": ".*", "namespace": ".*"}


def _series(model: Model) -> Iterator[dict[str, str]]:
    """What the exporter shows of the model, in promtool's notation: gauges stay, counters rise to what they are."""
    for collector in made_of(Parts([model])):
        for series, value in samples(collector).items():
            name = re.split(r"[{ ]", series)[0]
            labels = '{job="ml",instance="a",' + (series[len(name) + 1 :] if "{" in series else "}")
            growth = f"0+{value / MINUTES!r}x{MINUTES}" if name in _COUNTERS else f"{value!r}+0x{MINUTES}"
            yield {"series": name + labels, "values": growth}


def _told(model: Model) -> set[Verdict]:
    """Return all the verdicts for which the page has reasons."""
    (version,) = model.versions.values()
    now = time.time()
    comparison = Comparison(model.reference.layout, model.settings.drift, model.settings.min_samples.drift)
    reasons = Bench(model.reference, comparison).reasons(
        version, now, version.totals(now)[:, model.reference.layout.predictions.start]
    )
    return {verdict for verdict, said in reasons.items() if said}


def _test(model: Model, state: Verdict, told: set[Verdict]) -> dict[str, Any]:
    """Return promtool's test: the state on the dashboard, and the verdicts of the alerts, pending or firing."""
    (shown,) = {
        it.expr for it in targets("mlops-models") if it.title.startswith("Which model needs") and it.letter == "A"
    }
    expected = [{"labels": '{model="m", version="default"}', "value": rank(state)}]
    checks = [{"expr": substitute(shown, _CHOSEN), "eval_time": f"{MINUTES}m", "exp_samples": expected}]
    for verdict in VERDICTS[: VERDICTS.index("unknown")]:
        names = "|".join(alert.name for alert in ALERTS if alert.verdict == verdict)
        said = f'clamp_max(count(ALERTS{{alertname=~"{names}"}}), 1) or vector(0)'
        value = int(verdict in told)
        checks.append({"expr": said, "eval_time": f"{MINUTES}m", "exp_samples": [{"labels": "{}", "value": value}]})
    return {"interval": "1m", "input_series": list(_series(model)), "promql_expr_test": checks}


@pytest.mark.parametrize("name", SITUATIONS)
def test_page_alerts_and_dashboard_agree(name: str, tmp_path: Path) -> None:
    model = model_in(SITUATIONS[name], tmp_path)
    (state,) = observer_of(model).states(time.time())
    assert state.state == SITUATIONS[name].verdict
    test = {
        "rule_files": [str(RULES / file) for file in _FILES],
        "evaluation_interval": "1m",
        "group_eval_order": [group for file in _FILES for group in GROUPS[file]],
        "tests": [_test(model, state.state, _told(model))],
    }
    path = tmp_path / "test.yml"
    path.write_text(yaml.dump(test, Dumper=yaml.CSafeDumper))
    promtool("test", "rules", path)


def test_dashboards_use_the_words_of_the_page() -> None:
    assert {value: words for value, (words, _) in STATES.meanings.items()} == {
        rank(verdict): words for verdict, (words, _) in WORDS.items()
    }
