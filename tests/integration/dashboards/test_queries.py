"""Every query of every dashboard, asked of a real Prometheus that scrapes the demonstration."""

import re
import time
from typing import Any

import httpx
import pytest

from tests.dashboards import DASHBOARDS, Target, annotations, substitute, targets, variables
from tests.support.prometheus import Prometheus

BUILT_IN = {"__rate_interval": "10s", "__range": "1m", "__interval": "1s"}
CHOICES = (
    {
        "model": "mpg",
        "metric": "mae",
        "feature": "horsepower",
        "attribute": "origin",
        "group_metric": "mae",
    },
    {
        "model": "flights",
        "metric": "accuracy",
        "feature": "temperature",
        "attribute": "carrier",
        "group_metric": "accuracy",
    },
)
FAIRNESS_METRICS = {"mpg": "mae_difference", "flights": "demographic_parity_difference"}
COMMON = {
    "cluster": ".*",
    "namespace": ".*",
    "job": ".+",
    "instance": ".+",
    "version": "1",
    "window": "1m",
    "source": ".*",
    "workload": ".*",
    "gpu": ".*",
}

# Panels, or queries of them, that have nothing to show for the demonstration, and why.
EMPTY = {
    "Which alerts fire, by model?": "no alerting rules are loaded here",
    "What fires, where, and since when?": "no alerting rules are loaded here",
    "Which differ from the same hours of last week?": "no week has gone by",
    "How many events come in? [B]": "no partial ledgers come in",
    "How many events come in? [C]": "the exporters here are no members of a set",
    "How many are refused or late? [B]": "no partial ledgers come in",
    "Do embeddings drift?": "the demonstration has none",
    "Do probes get through?": "the demonstration has none",
    "How long does an endpoint take?": "the demonstration has none",
    "Which versions does the registry name?": "the demonstration has none",
    "What becomes of CloudEvents?": "the demonstration has none",
    "What do alerts ask of retraining?": "no receiver of retraining runs here",
    "How are its answers rated?": "the demonstration's models have labels, and no outcomes",
    "How do its ratings go?": "the demonstration's models have labels, and no outcomes",
    "Which positions are found relevant?": "the demonstration has no model that ranks",
    "How good are its lists, by the counters?": "the demonstration has no model that ranks",
    "How strong is the evidence that ratings changed?": "the demonstration's models have labels, and no outcomes",
    "Do ratings drift?": "the demonstration's models have labels, and no outcomes",
    "Do ratings find their answers?": "the demonstration's models have labels, and no outcomes",
    "How good will each class be, before labels come?": "the demonstration has no multiclass model",
    "How good is it at each class?": "the demonstration has no multiclass model",
    "How good is each horizon?": "the demonstration's models do not forecast",
    "How do errors grow with the horizon?": "the demonstration's models do not forecast",
    "Do announced intervals hold?": "the demonstration's models announce no quantiles",
    "How many labels lie below each quantile?": "the demonstration's models announce no quantiles",
    "Which classes are worse than in the reference?": "the demonstration has no multiclass model",
    "How much time does it lose to its quota? [A]": "no CPU quota holds for the tests",
    "Which processes hold GPU memory?": "the processes here do not use the GPU",
    "Do its batches come in time?": "the demonstration's models predict all the time",
    "How large are its batches?": "the demonstration's models predict all the time",
    "How do probes end?": "the demonstration has none",
    "Is $metric of probes as agreed?": "the demonstration has none",
    "When was it retrained?": "no receiver of retraining runs here",
    "Why is it retrained, or why not?": "no receiver of retraining runs here",
    "Does the challenger beat the champion?": "the demonstration has no challenger",
    "Is the challenger pulling ahead?": "the demonstration has no challenger",
    "Why are events refused?": "the demonstration's events are good",
    "Do models get features that they do not know?": "the demonstration's events are good",
    "How many are refused or late? [A]": "the demonstration's events are good",
    "Does it fall behind?": "the demonstration's source is pushed to",
    "How is each source? [C]": "the demonstration's source is pushed to",
    "Is it held back by its quota?": "no CPU quota holds for the tests",
    "How many cores would do for a week's use? [A]": "no week has gone by",
    "How many cores would do for a week's use? [E]": "no week has gone by",
    "What does the work cost?": "the demonstration has no prices",
    "What do they really do?": "the A100 here is older than GPM",
    "Who uses the GPUs?": "the workload here does not use the GPU",
    "Does the driver tell nonsense?": "it tells none",
    "Do they make errors? [B]": "no critical event happens",
    "Which fairness metrics keep their benchmark? [E]": "the demonstration agrees on no fairness benchmark",
    "How fair is it over time? [D]": "the demonstration agrees on no fairness benchmark",
}

# What is there only at times, and when.
SOMETIMES = {
    "Which model needs attention first? [G]": "a fairness benchmark is surely missed",
    "How many cores would do for a week's use? [C]": "the rules of a week, every five minutes, were evaluated",
    "How many cores would do for a week's use? [D]": "the rules of a week, every five minutes, were evaluated",
}


@pytest.fixture
def whole(prometheus: Prometheus) -> Prometheus:
    """The server, asked of a moment at which both exporters were scraped."""
    return prometheus.without_gaps(2)


def choices(uid: str) -> list[dict[str, str]]:
    """What is chosen on a dashboard, once for each model."""
    if uid == "mlops-fairness":
        return [{**chosen, "fairness_metric": FAIRNESS_METRICS[chosen["model"]]} for chosen in CHOICES]
    return [*CHOICES]


def may_be_empty(target: Target) -> bool:
    return bool(EMPTY.keys() & {target.title, f"{target.title} [{target.letter}]"})


def ask(server: Prometheus, endpoint: str, **parameters: str) -> list[Any]:
    """The result of a query, which must have neither an error nor a warning."""
    answer = httpx.get(f"{server.url}/api/v1/{endpoint}", params=parameters, timeout=10, trust_env=False).json()
    assert answer["status"] == "success", f"{answer.get('error')}: {parameters}"
    assert not answer.get("warnings"), parameters
    assert not answer.get("infos"), parameters
    data = answer["data"]
    result: list[Any] = data["result"] if isinstance(data, dict) else data
    return result


def evaluate(server: Prometheus, expr: str, *, instant: bool, seconds: float = 60) -> list[Any]:
    end = server.moment or time.time()
    if instant:
        return ask(server, "query", query=expr, time=str(end))
    return ask(server, "query_range", query=expr, start=str(end - seconds), end=str(end), step="5")


def answers(server: Prometheus, target: Target) -> list[Any]:
    """What the query finds for either model."""
    return [
        series
        for chosen in choices(target.uid)
        for series in evaluate(
            server, substitute(target.expr, {**COMMON, **BUILT_IN, **chosen}), instant=target.instant
        )
    ]


@pytest.mark.parametrize("uid", sorted(DASHBOARDS))
def test_every_query_finds_data(whole: Prometheus, uid: str) -> None:
    without, wrongly = [], []
    for target in targets(uid):
        found = answers(whole, target)
        if f"{target.title} [{target.letter}]" in SOMETIMES:
            continue
        if not found and not may_be_empty(target):
            without.append(f"{target}: {target.expr}")
        if found and may_be_empty(target):
            wrongly.append(str(target))
    assert not without
    assert not wrongly, "these have data after all: take them out of EMPTY"


@pytest.mark.parametrize("uid", sorted(DASHBOARDS))
def test_every_variable_has_values(whole: Prometheus, uid: str) -> None:
    for name, variable in variables(uid).items():
        if variable["type"] == "query":
            found = {value for chosen in choices(uid) for value in options(whole, variable, chosen)}
            assert found, f"{name}: {variable['query']['query']}"
            wanted = {chosen[name] for chosen in choices(uid)} if name in CHOICES[0] else set()
            assert wanted <= found


def options(server: Prometheus, variable: dict[str, Any], chosen: dict[str, str]) -> list[str]:
    """The values of a variable, as Grafana finds them."""
    query = substitute(variable["query"]["query"], {**COMMON, **chosen})
    if found := re.fullmatch(r"label_values\((.+), (\w+)\)", query):
        return [str(value) for value in ask(server, f"label/{found[2]}/values", **{"match[]": found[1]})]
    found = re.fullmatch(r"query_result\((.+)\)", query, re.DOTALL)
    assert found, query
    texts = [
        "{" + ",".join(f'{key}="{value}"' for key, value in series["metric"].items()) + "}"
        for series in evaluate(server, found[1], instant=True)
    ]
    matches = [re.search(variable["regex"].strip("/"), text) for text in texts]
    return [match[1] for match in matches if match]


@pytest.mark.parametrize("uid", sorted(DASHBOARDS))
def test_annotations_are_understood(whole: Prometheus, uid: str) -> None:
    for annotation in annotations(uid):
        for chosen in CHOICES:
            evaluate(whole, substitute(annotation["expr"], {**COMMON, **chosen}), instant=False)


def test_a_new_version_is_one_event(whole: Prometheus) -> None:
    (new,) = [each for each in annotations("mlops-model") if each["name"] == "New versions"]
    whole_life = 3600  # it began when Prometheus was started for all the tests here, however long ago
    expr = substitute(new["expr"], {**COMMON, **CHOICES[0]})
    (event,) = evaluate(whole, expr, instant=False, seconds=whole_life)
    assert event["metric"] == {"model": "mpg", "version": "1"}


def test_the_default_metric_has_a_benchmark(whole: Prometheus) -> None:
    metric = variables("mlops-model")["metric"]
    assert options(whole, metric, CHOICES[0])[0] in {"mae", "r2"}
    benchmarked = {"accuracy", "recall", "log_loss", "roc_auc", "expected_calibration_error"}
    assert options(whole, metric, CHOICES[1])[0] in benchmarked
