import logging
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pytest

from mlops_exporter.exposition import catalogue
from mlops_exporter.exposition.budget import DETAILS, Budget, detail_of
from mlops_exporter.exposition.catalogue import Metric, all_metrics
from mlops_exporter.exposition.samples import Rows, Samples
from mlops_exporter.exposition.text import render

OWN = 2 + len(DETAILS)
"""Series that the budget adds."""


def samples(metric: Metric, rows: Iterable[Sequence[str]], values: Iterable[float] | float = 1.0) -> Samples:
    made = Rows(metric, rows)
    return Samples(made, np.array(np.broadcast_to(np.array(values, np.float64), (len(made),))))


class Version:
    """A version with features, their drift in one window, and groups."""

    def __init__(self, model: str, version: str, features: int, bins: int = 0, groups: int = 0) -> None:
        self.leading = (model, version)
        self.features = [f"f{number}" for number in range(features)]
        self.drift = dict.fromkeys(self.features, 0.0)
        self.missing = dict.fromkeys(self.features, 0.0)
        self.bins = [f"b{number}" for number in range(bins)]
        self.groups = [f"g{number}" for number in range(groups)]

    def samples(self) -> list[Samples]:
        feature_bins = [(*self.leading, name, bin_, "[0,1)") for name in self.features for bin_ in self.bins]
        quality = [(*self.leading, name, "missing", "") for name in self.features if self.bins]
        windows = [(*self.leading, "1h", name) for name in self.features]
        statistics = [(*row, "psi") for row in windows]
        return [
            samples(catalogue.PREDICTIONS, [self.leading], 7.0),
            samples(catalogue.FEATURE_VALUES, feature_bins),
            samples(catalogue.FEATURE_REFERENCE, feature_bins + quality, [0.1] * len(feature_bins + quality)),
            samples(catalogue.FEATURE_DRIFT, statistics, list(self.drift.values())),
            samples(catalogue.FEATURE_DRIFT_THRESHOLD, statistics, 0.5),
            samples(catalogue.FEATURE_MISSING, windows, list(self.missing.values())),
            samples(catalogue.GROUP_WINDOW_LABELS, [(*self.leading, "sex", "1h", group) for group in self.groups]),
        ]


def collect(versions: Sequence[Version]) -> list[Samples]:
    """Return the samples of all versions of a model together, as collectors do."""
    collected = []
    for model in dict.fromkeys(version.leading[0] for version in versions):
        mine = [version.samples() for version in versions if version.leading[0] == model]
        for groups in zip(*mine, strict=True):
            rows = Rows(groups[0].rows.metric, [])
            rows.prefixes = [prefix for group in groups for prefix in group.rows.prefixes]
            collected.append(Samples(rows, np.concatenate([group.values for group in groups])))
    return collected


def exposed(budget: Budget, *versions: Version, further: int = 0) -> dict[str, float]:
    """Fit the samples of versions; return what is exposed by its text."""
    lines = render(budget.fit(collect(versions), further), openmetrics=False).decode().splitlines()
    found = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {series: float(value) for series, value in found.items()}


def of(found: Mapping[str, float], metric: Metric) -> list[str]:
    return [series for series in found if series.startswith(f"{metric.name}{{")]


def features_of(found: Mapping[str, float], version: Version) -> list[str]:
    """Names of the version's features whose drift is exposed."""
    model, number = version.leading
    drift = [series for series in of(found, catalogue.FEATURE_DRIFT) if f'"{model}",version="{number}"' in series]
    return [series.split('feature="')[1].split('"')[0] for series in drift]


def dropped(found: Mapping[str, float]) -> dict[str, float]:
    return {detail: found[f'ml_exporter_series_dropped{{detail="{detail}"}}'] for detail in DETAILS}


def test_below_the_limit_everything_is_exposed_and_counted() -> None:
    version = Version("m", "1", features=3, bins=2, groups=2)
    version.drift["f1"] = np.nan
    budget = Budget(1000)
    found = exposed(budget, version, further=5)
    assert dropped(found) == dict.fromkeys(DETAILS, 0)
    assert found["ml_exporter_series_limit"] == 1000
    assert found["ml_exporter_series"] == len(found) + 5 == 1 + 6 + 9 + 2 + 3 + 3 + 2 + OWN + 5
    assert budget.state.exposed == found["ml_exporter_series"]
    assert budget.state.left_out == []


def test_exactly_the_limit_is_within_it() -> None:
    version = Version("m", "1", features=3, bins=2, groups=2)
    size = len(exposed(Budget(1000), version))
    assert dropped(exposed(Budget(size), version)) == dict.fromkeys(DETAILS, 0)
    assert dropped(exposed(Budget(size - 1), version))["bins"] == 12


@pytest.mark.parametrize(
    ("limit", "gone"),
    [
        (400, {}),
        (399, {"bins": 200}),
        (200, {"bins": 200}),
        (199, {"bins": 200, "groups": 154}),
        (46, {"bins": 200, "groups": 154}),
        (40, {"bins": 200, "groups": 154, "features": 8}),
        (1, {"bins": 200, "groups": 154, "features": 40}),
    ],
)
def test_the_finest_detail_goes_first(limit: int, gone: dict[str, float], caplog: pytest.LogCaptureFixture) -> None:
    version = Version("m", "1", features=10, bins=10, groups=154)
    size = len(exposed(Budget(10_000), version))
    found = exposed(Budget(limit + size - 400), version)
    assert dropped(found) == dict.fromkeys(DETAILS, 0) | gone
    assert found["ml_exporter_series"] == len(found) <= max(limit + size - 400, 1 + OWN)
    assert 'ml_model_predictions_total{model="m",version="1"}' in found
    assert len(caplog.records) == bool(gone)


def test_the_reference_that_alerts_on_quality_read_stays_with_its_feature() -> None:
    version = Version("m", "1", features=4, bins=10)
    found = exposed(Budget(40), version)
    assert dropped(found)["bins"] == 80
    reference = of(found, catalogue.FEATURE_REFERENCE)
    assert len(reference) == 4
    assert all('bin="missing",range=""' in series for series in reference)
    found = exposed(Budget(20), version)
    assert len(of(found, catalogue.FEATURE_REFERENCE)) == len(features_of(found, version)) == 3


def test_the_largest_model_gives_first_and_of_its_versions_the_oldest() -> None:
    small, old, new = Version("a", "1", 2, bins=5), Version("b", "1", 2, bins=20), Version("b", "2", 2, bins=20)
    size = len(exposed(Budget(10_000), small, old, new))
    budget = Budget(size - 1)
    found = exposed(budget, small, old, new)
    assert {series.partition(",feature")[0] for series in of(found, catalogue.FEATURE_VALUES)} == {
        'ml_feature_values_total{model="a",version="1"',
        'ml_feature_values_total{model="b",version="2"',
    }
    assert [(out.detail, out.model, out.version, out.of) for out in budget.state.left_out] == [
        ("bins", "b", "1", "features")
    ]


def test_what_is_left_out_stays_out(caplog: pytest.LogCaptureFixture) -> None:
    first, second = Version("a", "1", 5, bins=10), Version("a", "2", 5, bins=10)
    budget = Budget(len(exposed(Budget(10_000), first)) + 10)
    assert dropped(exposed(budget, first))["bins"] == 0
    assert dropped(exposed(budget, first, second))["bins"] > 0
    assert dropped(exposed(budget, first))["bins"] > 0, "also when only some collectors are scraped"
    for _ in range(10):
        exposed(budget, first, second)
    assert len(caplog.records) == 1, "told once"


def test_values_that_come_and_go_change_nothing() -> None:
    version = Version("a", "1", 10, groups=3)
    size = len(exposed(Budget(10_000), version))
    budget = Budget(size)
    version.drift = dict.fromkeys(version.features, np.nan)
    exposed(budget, version)
    version.drift = dict.fromkeys(version.features, 3.0)
    assert dropped(exposed(budget, version)) == dict.fromkeys(DETAILS, 0)


def narrow(shown: int) -> Budget:
    """Return a budget in which one version may show so many features."""
    return Budget(OWN + 1 + 3 * shown)


def test_features_that_drift_take_the_place_of_others() -> None:
    version = Version("m", "1", features=20)
    budget = narrow(5)
    assert features_of(exposed(budget, version), version) == ["f0", "f1", "f2", "f3", "f4"]
    assert len(budget.state.left_out[0].features) == 15
    version.drift["f17"] = 0.6
    assert features_of(exposed(budget, version), version) == ["f0", "f1", "f2", "f3", "f17"]
    version.missing["f9"] = 0.4
    assert features_of(exposed(budget, version), version) == ["f0", "f1", "f2", "f9", "f17"]
    version.drift["f17"], version.missing["f9"] = 0.1, 0.0
    assert features_of(exposed(budget, version), version) == ["f0", "f1", "f2", "f9", "f17"], "no need to change back"
    assert exposed(budget, version)["ml_exporter_series"] <= OWN + 16


def test_the_most_drifted_are_never_hidden() -> None:
    version = Version("m", "1", features=50)
    budget = narrow(10)
    exposed(budget, version)
    drift = np.random.default_rng(1)
    for _ in range(100):
        order = drift.permutation(50)
        version.drift |= {f"f{feature}": 0.02 * 1.3**rank for rank, feature in enumerate(order.tolist())}
        shown = features_of(exposed(budget, version), version)
        assert set(shown) >= {f"f{feature}" for feature in order[-9:].tolist()}
        assert len(shown) == 10


@pytest.mark.slow
def test_noise_does_not_make_features_come_and_go() -> None:
    version = Version("m", "1", features=200)
    budget = narrow(100)
    noise = np.random.default_rng(2)
    before = set(features_of(exposed(budget, version), version))
    changes = 0
    for _ in range(300):
        values = 0.2 + 0.05 * noise.normal(size=200)
        values[:120] = 0.9 + 0.02 * noise.normal(size=120)  # more features drift, all alike, than may be shown
        version.drift = dict(zip(version.features, values.tolist(), strict=True))
        shown = set(features_of(exposed(budget, version), version))
        changes += len(shown - before)
        before = shown
    assert changes == 0


def test_each_version_gets_its_share_of_the_features(caplog: pytest.LogCaptureFixture) -> None:
    small, large, larger = Version("a", "1", 5), Version("b", "1", 100), Version("b", "2", 100)
    budget = Budget(OWN + 3 + 3 * 25)
    found = exposed(budget, small, large, larger)
    assert [len(features_of(found, version)) for version in (small, large, larger)] == [5, 10, 10]
    assert "90 of 100 features of b 1, 90 of 100 features of b 2" in caplog.text
    assert found["ml_exporter_series"] <= OWN + 3 + 3 * 25


def test_log_names_features_that_change_places(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    version = Version("m", "1", features=20)
    budget = narrow(5)
    exposed(budget, version)
    version.drift["f19"] = 5.0
    exposed(budget, version)
    exposed(budget, version)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "f19" in caplog.text


def test_names_of_any_kind_are_kept_apart() -> None:
    version = Version("m", "1", features=0)
    version.features = ['",feature="', 'a\\"b', "c\n", 'feature="f1', "x,feature="]
    version.drift = dict(zip(version.features, [0.0, 9.0, 0.0, 0.0, 8.0], strict=True))
    version.missing = dict.fromkeys(version.features, 0.0)
    budget = narrow(2)
    assert len(of(exposed(budget, version), catalogue.FEATURE_DRIFT)) == 2
    assert budget.state.left_out[0].features == ['",feature="', "c\n", 'feature="f1']


def test_details_are_of_versions() -> None:
    details = {metric.name: detail_of(metric) for metric in all_metrics()}
    for metric in all_metrics():
        if details[metric.name]:
            assert {"model", "version"} <= set(metric.labels)
            assert metric.type != "histogram"
            assert not metric.name.endswith("_total") or details[metric.name] != "features", "a counter comes and goes"
    kept = {"ml_model_performance", "ml_model_drifted_features", "ml_model_predictions_total", "ml_fairness"}
    assert {details[name] for name in kept} == {None}
    assert details["ml_model_confusion_total"] == "classes"
    assert details["ml_feature_values_total"] == "bins"
    assert details["ml_group_confusion_total"] == "groups"
    assert set(filter(None, details.values())) == set(DETAILS)


def test_features_stay_as_chosen_when_another_version_comes() -> None:
    first, second = Version("m", "1", features=20), Version("m", "2", features=20)
    budget = Budget(OWN + 2 + 3 * 10)
    exposed(budget, first)
    first.drift["f15"] = second.drift["f16"] = 9.0
    assert len(features_of(exposed(budget, first), first)) == 10
    found = exposed(budget, first, second)
    assert features_of(found, first) == ["f0", "f1", "f2", "f3", "f15"]
    assert features_of(found, second) == ["f0", "f1", "f2", "f3", "f16"]
    assert found["ml_exporter_series"] <= OWN + 2 + 3 * 10


def test_a_limit_below_what_always_stays_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    version = Version("m", "1", features=3, groups=3)
    budget = Budget(3)
    for _ in range(3):
        assert exposed(budget, version)["ml_exporter_series"] == 1 + OWN
    assert [record.getMessage() for record in caplog.records][1:] == [
        "limits.series of 3 is too low: nothing more can be left out"
    ]


def test_a_version_in_the_place_of_another_is_judged_for_itself() -> None:
    first, old, new = (Version("m", number, 2, bins=bins) for number, bins in (("1", 5), ("2", 20), ("3", 20)))
    budget = Budget(len(exposed(Budget(10_000), first, old)) - 1)
    exposed(budget, first, old)
    assert [out.version for out in budget.state.left_out] == ["2"]
    exposed(budget, first, new)
    assert [out.version for out in budget.state.left_out] == ["2", "3"]
