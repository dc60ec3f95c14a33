import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fairlearn import metrics as fairlearn
from sklearn import metrics as sklearn

from mlops_exporter.collectors.groups import GroupCollector
from mlops_exporter.events.decoder import Decoder
from mlops_exporter.ingest.trees import pack, unpack
from mlops_exporter.settings.models import EstimationSettings, FairnessSettings, Limits
from mlops_exporter.statistics import fairness
from tests.support.one_model import feed, make_model, samples

RNG = np.random.default_rng(7)
N = 4000
SEXES = np.array(["female", "male", "nonbinary"])


def population(n: int, rng: np.random.Generator) -> dict[str, list[Any]]:
    """People whose scores depend on their sex a little, and on their age."""
    sex = rng.choice(SEXES, n, p=[0.5, 0.4, 0.1])
    age = rng.uniform(18, 80, n).round()
    income = rng.lognormal(0, 0.5, n)
    score = 1 / (1 + np.exp(-(income - 1 + 0.5 * (sex == "male") - 0.01 * (age - 50) + rng.normal(0, 1, n))))
    label = (rng.random(n) < score).astype(int)
    return {
        "sex": sex.tolist(),
        "age": age.tolist(),
        "income": income.tolist(),
        "score": score.tolist(),
        "label": label.tolist(),
    }


BINARY = {"task": "binary", "label": "label", "scores": {"1": "score"}, "groups": ("sex",)}
FAIRNESS = {"attributes": ["sex", {"name": "age", "edges": [30, 50]}, "sex*age"]}


def events(table: dict[str, list[Any]], *, labelled: bool = True) -> list[dict[str, Any]]:
    found = []
    for number in range(len(table["sex"])):
        event: dict[str, Any] = {
            "id": str(number),
            "features": {"income": table["income"][number], "age": table["age"][number]},
            "score": table["score"][number],
            "groups": {"sex": table["sex"][number]},
        }
        if labelled:
            event["label"] = table["label"][number]
        found.append(event)
    return found


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, float], dict[str, list[Any]]]:
    model = make_model(tmp_path_factory.mktemp("fair"), population(3000, RNG), BINARY, fairness=FAIRNESS)
    table = population(N, RNG)
    table["sex"][:50] = [None] * 50
    table["sex"][50:90] = ["another"] * 40
    table["age"][100:110] = [None] * 10
    feed(model, events(table))
    return samples(GroupCollector([model])), table


def groups_of(table: dict[str, list[Any]], attribute: str) -> list[str]:
    sex = ["unknown" if s is None else "other" if s == "another" else s for s in table["sex"]]
    age = [
        "unknown" if a is None else "(-inf,30)" if a < 30 else "[30,50)" if a < 50 else "[50,+inf)"
        for a in table["age"]
    ]
    if attribute == "sex":
        return sex
    if attribute == "age":
        return age
    return ["unknown" if "unknown" in pair else "*".join(pair) for pair in zip(sex, age, strict=True)]


@pytest.mark.slow
@pytest.mark.parametrize("attribute", ["sex", "age", "sex*age"])
def test_differences_and_ratios_equal_fairlearn(
    window: tuple[dict[str, float], dict[str, list[Any]]], attribute: str
) -> None:
    found, table = window
    groups = np.array(groups_of(table, attribute))
    names, counts = np.unique(groups, return_counts=True)
    predicted, actual = (np.array(table["score"]) >= 0.5).astype(int), np.array(table["label"])
    positives, negatives = (np.array([(actual[groups == name] == label).sum() for name in names]) for label in (1, 0))
    divided_by = {
        "equal_opportunity_difference": positives,
        "equalized_odds_difference": np.minimum(positives, negatives),
    }
    where = f'{{model="m",version="default",attribute="{attribute}",window="1h",metric="'
    for metric in (
        "demographic_parity_difference",
        "demographic_parity_ratio",
        "equalized_odds_difference",
        "equal_opportunity_difference",
    ):
        large = np.isin(groups, names[divided_by.get(metric, counts) >= 30])
        expected = getattr(fairlearn, metric)(actual[large], predicted[large], sensitive_features=groups[large])
        assert found[f'ml_fairness{where}{metric}"}}'] == pytest.approx(expected, abs=1e-12)
        assert (
            found[f'ml_fairness_lower{where}{metric}"}}'] <= expected <= found[f'ml_fairness_upper{where}{metric}"}}']
        )


@pytest.mark.slow
@pytest.mark.parametrize("attribute", ["sex", "age", "sex*age"])
def test_group_performance_equals_fairlearns_metric_frame(
    window: tuple[dict[str, float], dict[str, list[Any]]], attribute: str
) -> None:
    found, table = window
    groups = np.array(groups_of(table, attribute))
    score, actual = np.array(table["score"]), np.array(table["label"])
    predicted = (score >= 0.5).astype(int)
    oracles = {
        "accuracy": sklearn.accuracy_score,
        "precision": sklearn.precision_score,
        "recall": sklearn.recall_score,
        "f1": sklearn.f1_score,
        "mcc": sklearn.matthews_corrcoef,
    }
    names, counts = np.unique(groups, return_counts=True)
    for group, count in zip(names, counts, strict=True):
        where = f'{{model="m",version="default",attribute="{attribute}",window="1h",group="{group}"'
        assert found[f"ml_group_window_predictions{where}}}"] == count
        assert found[f"ml_group_window_labels{where}}}"] == count
        if count < 30:
            assert not any(key.startswith(f"ml_group_performance{where}") for key in found)
            assert f"ml_group_selection_ratio{where}}}" not in found
    large = np.isin(groups, names[counts >= 30])
    frame = fairlearn.MetricFrame(
        metrics={**oracles, "selection": fairlearn.selection_rate},
        y_true=actual[large],
        y_pred=predicted[large],
        sensitive_features=groups[large],
    ).by_group
    assert len(frame) >= 3
    for group, row in frame.iterrows():
        where = f'{{model="m",version="default",attribute="{attribute}",window="1h",group="{group}"'
        assert found[f"ml_group_selection_ratio{where}}}"] == pytest.approx(row["selection"], abs=1e-12)
        for metric in oracles:
            assert found[f'ml_group_performance{where},metric="{metric}"}}'] == pytest.approx(row[metric], abs=1e-12)
        mine = groups == group
        auc = sklearn.roc_auc_score(actual[mine], score[mine])
        assert found[f'ml_group_performance{where},metric="roc_auc"}}'] == pytest.approx(auc, abs=0.01)
        loss = sklearn.log_loss(actual[mine], score[mine], labels=[0, 1])
        assert found[f'ml_group_performance{where},metric="log_loss"}}'] == pytest.approx(loss, rel=1e-9)


def test_counters_say_who_was_predicted_what(window: tuple[dict[str, float], dict[str, list[Any]]]) -> None:
    found, table = window
    groups = np.array(groups_of(table, "sex"))
    predicted, actual = np.array(table["score"]) >= 0.5, np.array(table["label"]) == 1
    where = '{model="m",version="default",attribute="sex",group="unknown"'
    unknown = groups == "unknown"
    assert found[f'ml_group_predictions_total{where},predicted="1"}}'] == (unknown & predicted).sum()
    expected = (unknown & predicted & ~actual).sum()
    assert found[f'ml_group_confusion_total{where},predicted="1",actual="0"}}'] == expected


def test_labels_that_come_later_find_the_group_of_their_prediction(tmp_path: Path) -> None:
    model = make_model(tmp_path, population(500, RNG), BINARY, fairness=FAIRNESS)
    table = population(300, RNG)
    feed(model, events(table, labelled=False))
    feed(model, [{"id": str(number), "label": label} for number, label in enumerate(table["label"])])
    found = samples(GroupCollector([model]))
    for sex in SEXES:
        where = f'{{model="m",version="default",attribute="sex",window="1h",group="{sex}"}}'
        assert found[f"ml_group_window_labels{where}"] == table["sex"].count(str(sex)) > 0


def test_regression_gaps_equal_the_means_by_group(tmp_path: Path) -> None:
    n = 2000
    rng = np.random.default_rng(3)
    sex = rng.choice(["a", "b", "c"], n)
    truth = rng.normal(50, 10, n)
    error = rng.normal(0, 1, n) * np.where(sex == "a", 2.0, 1.0) + (sex == "b")
    table = {"x": truth.tolist(), "sex": sex.tolist(), "y": truth.tolist(), "p": (truth + error).tolist()}
    request = {"task": "regression", "label": "y", "prediction": "p", "groups": ("sex",), "features": ("x",)}
    model = make_model(tmp_path, table, request, fairness={"attributes": ["sex"]})
    feed(
        model,
        [
            {"features": {"x": x}, "prediction": p, "label": y, "groups": {"sex": s}}
            for x, s, y, p in zip(*table.values(), strict=True)
        ],
    )
    found = samples(GroupCollector([model]))
    by_group = [error[sex == name] for name in ("a", "b", "c")]
    where = '{model="m",version="default",attribute="sex",window="1h",metric="'
    for metric, means in {
        "mae_difference": [np.abs(e).mean() for e in by_group],
        "bias_difference": [e.mean() for e in by_group],
    }.items():
        expected = max(means) - min(means)
        assert found[f'ml_fairness{where}{metric}"}}'] == pytest.approx(expected)
        assert (
            0 < found[f'ml_fairness_lower{where}{metric}"}}'] < expected < found[f'ml_fairness_upper{where}{metric}"}}']
        )
    mae = found['ml_group_performance{model="m",version="default",attribute="sex",window="1h",group="a",metric="mae"}']
    assert mae == pytest.approx(np.abs(by_group[0]).mean())


def test_groups_are_compared_without_a_favourable_class_too(tmp_path: Path) -> None:
    table = {"sex": ["f", "m"] * 30, "y": ["a", "b", "c"] * 20, "yhat": ["a", "b", "b"] * 20}
    request = {"task": "multiclass", "label": "y", "prediction": "yhat", "groups": ("sex",)}
    model = make_model(tmp_path, table, request, fairness={"attributes": ["sex"]})
    feed(model, [{"prediction": "a", "label": "a", "groups": {"sex": "f"}}] * 40)
    found = samples(GroupCollector([model]))
    series = 'model="m",version="default",attribute="sex",window="1h"'
    assert found[f'ml_group_performance{{{series},group="f",metric="accuracy"}}'] == 1
    assert not any(name.startswith(("ml_fairness", "ml_group_selection")) for name in found)


def test_small_groups_never_trigger() -> None:
    selected, n = np.array([50.0, 48.0, 0.0]), np.array([100.0, 100.0, 10.0])
    small = fairness.demographic_parity_difference(selected, n, n >= 30)
    assert small.value == pytest.approx(0.02)
    alone = fairness.demographic_parity_ratio(selected, n, np.array([True, False, False]))
    assert np.isnan(alone).all()


def test_configuration_faults_say_what_would_be_right(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"income: a numeric feature needs edges"):
        make_model(tmp_path, population(100, RNG), BINARY, fairness={"attributes": ["income"]})
    with pytest.raises(ValueError, match=r"gender: the profile knows no such attribute; build it with --groups gender"):
        make_model(tmp_path, population(100, RNG), BINARY, fairness={"attributes": ["gender"]})


def test_groups_of_other_shapes_are_read_or_refused(tmp_path: Path) -> None:
    table = population(300, RNG)
    model = make_model(tmp_path, table, BINARY, fairness=FAIRNESS)
    decoder = Decoder([model.reference.schema])
    lines = [
        '{"model":"m","score":0.7,"groups":["female"]}',
        '{"model":"m","score":0.7,"groups":{"sex":5}}',
        '{"model":"m","score":0.7,"groups":{"sex":["female"]},"features":{"age":true}}',
        '{"model":"m","score":0.7,"groups":{"sex":"female","shoe":44},"features":{"age":20}}',
    ]
    decoded = decoder.decode("\n".join(lines).encode(), 1e9)
    assert decoded.refused == [(1, "bad_groups")]
    columns = decoded.columns["m"]
    groups = model.reference.schema.group_array(columns, columns.features.encoded(model.reference.schema)).astype(int)
    attributes = model.reference.schema.attributes
    assert attributes is not None
    names = [[attributes.groups[a][code] for a, code in enumerate(row)] for row in groups.tolist()]
    assert names == [
        ["other", "unknown", "unknown"],
        ["unknown", "unknown", "unknown"],
        ["female", "(-inf,30)", "female*(-inf,30)"],
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    "attributes",
    [
        FAIRNESS["attributes"],
        ["sex*age", {"name": "age", "edges": [30, 50]}, "sex"],  # in another order, and as many
        ["sex"],
        [{"name": "age", "edges": [30, 60]}, "sex", {"name": "income", "edges": [1]}],  # others of the same width
    ],
)
@pytest.mark.parametrize("estimated", [True, False])
def test_groups_survive_a_restart_while_labels_are_awaited(
    tmp_path: Path, attributes: list[Any], estimated: bool
) -> None:
    """Those of attributes that are still the same; of new ones, and of ones cut otherwise, the group is unknown."""
    model = make_model(tmp_path, population(300, RNG), BINARY, fairness=FAIRNESS)
    table = population(400, RNG)
    feed(model, events(table, labelled=False))
    settings = model.settings.model_copy(
        update={
            "fairness": FairnessSettings.model_validate({"attributes": attributes}),
            "estimation": EstimationSettings(enabled=estimated),
        }
    )
    again = type(model)(settings, model.reference.profile, Limits())
    again.seed = model.seed
    again.restore(unpack(pack(model.state())))
    feed(again, [{"id": str(number), "label": label} for number, label in enumerate(table["label"])])
    found = samples(GroupCollector([again]))
    before = {json.dumps(attribute) for attribute in FAIRNESS["attributes"]}
    for attribute in attributes:
        name = attribute if isinstance(attribute, str) else attribute["name"]
        known = json.dumps(attribute) in before and (
            name != "sex*age" or {"name": "age", "edges": [30, 50]} in attributes
        )
        expected = Counter(groups_of(table, name)) if known else Counter({"unknown": len(table["sex"])})
        assert again.reference.group_counts is not None
        for group in again.reference.group_counts.groups[again.reference.group_counts.names.index(name)]:
            where = f'{{model="m",version="default",attribute="{name}",window="1h",group="{group}"}}'
            assert found[f"ml_group_window_labels{where}"] == expected[group], where
