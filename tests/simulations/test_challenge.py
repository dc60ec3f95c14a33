"""Error rates by simulation: challenge."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mlops_exporter.statistics import comparison
from tests.support.challenge import histograms


@pytest.mark.simulation
@pytest.mark.parametrize("n", [50, 1000])
def test_intervals_cover_the_true_difference(n: int) -> None:
    rng = np.random.default_rng(5)
    windows = 4000
    hard = rng.random((windows, n))
    a, b = ((hard + rng.normal(0, 0.3, (windows, n)) < rate).astype(np.float64) for rate in (0.7, 0.75))
    big = np.random.default_rng(6)
    shared = big.random(2_000_000)
    truth = [float((shared + big.normal(0, 0.3, len(shared)) < rate).mean()) for rate in (0.7, 0.75)]
    rates = comparison.rate_difference(np.full(windows, float(n)), comparison.sums(a, b))
    difference = truth[1] - truth[0]
    assert ((rates.lower <= difference) & (difference <= rates.upper)).mean() == pytest.approx(0.95, abs=0.012)
    common = rng.normal(0, 1, (windows, n))
    errors = [np.square(common + scale * rng.normal(0, 1, (windows, n))) for scale in (1.0, 0.5)]
    roots = comparison.root_difference(np.full(windows, float(n)), comparison.sums(*errors))
    difference = np.sqrt(1.25) - np.sqrt(2)
    covered = ((roots.lower <= difference) & (difference <= roots.upper)).mean()
    assert covered == pytest.approx(0.95, abs=0.03 if n < 100 else 0.012)


@pytest.mark.simulation
@pytest.mark.parametrize("n", [100, 1000])
@pytest.mark.parametrize("base", [0.0, -2.5])
@pytest.mark.parametrize(("own", "shared"), [(0.6, 0.0), (0.2, 0.6)])
def test_the_interval_of_areas_covers_their_true_difference(n: int, base: float, own: float, shared: float) -> None:
    def drawn(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        truth, common = rng.normal(0, 1, n), shared * rng.normal(0, 1, n)
        y = (rng.random(n) < 1 / (1 + np.exp(-2 * truth - base))).astype(int)
        logits = [2 * (truth + common + noise * rng.normal(0, 1, n)) + base for noise in (own, own / 2)]
        champion, challenger = (1 / (1 + np.exp(-logit)) for logit in logits)
        return y, champion, challenger

    rng = np.random.default_rng(8)
    y, champion, challenger = drawn(rng, 500_000)
    truth = roc_auc_score(y, challenger) - roc_auc_score(y, champion)
    windows = [histograms(*drawn(rng, n)) for _ in range(2000)]
    found = comparison.roc_auc_difference(*(np.stack(part) for part in zip(*windows, strict=True)))
    covered = ((found.lower <= truth) & (truth <= found.upper)).mean()
    assert 0.93 <= covered <= 0.985
