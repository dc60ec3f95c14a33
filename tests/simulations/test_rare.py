"""Rare positives: how near average precision from bins is to that of the raw scores, and what intervals cover."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from mlops_exporter.statistics import classification
from tests.simulations import coverage

pytestmark = pytest.mark.simulation


@pytest.mark.parametrize("law", coverage.RARE)
@pytest.mark.parametrize(("rate", "n"), [(1e-2, 50_000), (1e-3, 200_000), (1e-4, 1_000_000)])
def test_average_precision_is_that_of_the_raw_scores_within_a_hundredth(law: str, rate: float, n: int) -> None:
    rng = np.random.default_rng(4)
    rare = coverage.Rare(law, rate, rng)
    actual, score = rare.draw((n,))
    found = classification.average_precision(rare.histogram(actual, score), rare.tied)
    assert float(found.value) == pytest.approx(average_precision_score(actual, score), rel=0.01)


@pytest.mark.parametrize("law", coverage.RARE)
@pytest.mark.parametrize("positives", [4, 30])
def test_intervals_of_rare_positives_cover(law: str, positives: int) -> None:
    rng, rate, windows = np.random.default_rng(positives), 0.01, 600
    rare = coverage.Rare(law, rate, rng)
    endless = rare.draw((1, 1_000_000))
    truth = {name: float(estimate.value[0]) for name, estimate in rare.estimates(*endless).items()}
    drawn = rare.draw((windows, int(positives / rate)))
    shares = {name: coverage.covered(each, truth[name]) for name, each in rare.estimates(*drawn).items()}
    few = {name: share for name, share in shares.items() if share < 0.93}
    assert few == {}


@pytest.mark.parametrize("positives", [3, 4, 10, 30])
@pytest.mark.parametrize(("recall", "precision"), [(0.5, 0.5), (0.8, 0.3), (0.3, 0.8)])
def test_f1_of_rare_positives_covers(recall: float, precision: float, positives: int) -> None:
    rate = 0.002
    hits = recall * rate
    false = hits / precision - hits
    shares = np.array([[1 - rate - false, rate - hits], [false, hits]])
    counts = np.random.default_rng(positives).multinomial(int(positives / rate), shares.ravel(), 4_000)
    found = classification.f1(counts.reshape(-1, 2, 2).astype(float))
    known = ~np.isnan(found.value)
    truth = 2 * precision * recall / (precision + recall)
    assert ((found.lower <= truth) & (truth <= found.upper))[known].mean() >= 0.94


@pytest.mark.parametrize("n", [200, 1_000, 5_000])
def test_macro_f1_with_a_rare_class_covers(n: int) -> None:
    shares = np.array([[0.59, 0.05, 0.002], [0.04, 0.302, 0.002], [0.004, 0.002, 0.008]])
    counts = np.random.default_rng(n).multinomial(n, shares.ravel(), 4_000).reshape(-1, 3, 3).astype(float)
    counts = counts[(counts.sum(-2) > 0).all(-1)]  # a window without the class averages over the others
    truth = float(classification.macro_f1(shares * 1e12).value)
    assert coverage.covered(classification.macro_f1(counts), truth) >= 0.94
