"""Forecasts and announced quantiles: how often intervals cover, and how often a good one is called bad.

Simulation: errors are drawn independently, as of one horizon a target each.
"""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import poisson

from mlops_exporter.judging import judge
from mlops_exporter.judging.judge import COVERAGE_GAP, LEAST_SKILL
from mlops_exporter.statistics import forecast
from mlops_exporter.statistics.forecast import Sums
from mlops_exporter.statistics.intervals import Estimate

pytestmark = pytest.mark.simulation

F64 = NDArray[np.float64]
WINDOWS = 2000
AT_ONCE = 200_000
"""Labels that are drawn at once."""
LEVELS = [0.1, 0.5, 0.9]
HOUR = np.array([3600.0])
METRICS = {
    "mae": forecast.mae,
    "wape": forecast.wape,
    "skill": forecast.skill,
    "pinball_loss": forecast.pinball_loss,
    "coverage": forecast.coverage,
}
LAWS = ("normal", "heavy tails", "demand with zeros")


def drawn(law: str, n: int, windows: int, seed: int, *, skilled: float = 1.0) -> Sums:
    """Sums of windows of n labels each; the naive forecast's errors are `skilled` times as large as the model's."""
    rng = np.random.default_rng(seed)
    at_once = max(AT_ONCE // n, 1)
    parts = [_drawn(rng, law, n, min(at_once, windows - start), skilled) for start in range(0, windows, at_once)]
    return forecast.split(np.concatenate(parts), LEVELS)


def _drawn(rng: np.random.Generator, law: str, n: int, windows: int, skilled: float) -> F64:
    shape = windows * n
    if law == "demand with zeros":
        rate = rng.gamma(2.0, 2.0, shape)
        label, prediction = rng.poisson(rate).astype(np.float64), rate
        naive = rng.poisson(rate).astype(np.float64)
        quantiles = np.stack([np.maximum(rate + ndtri(level) * np.sqrt(rate), 0.0) for level in LEVELS], axis=1)
    else:
        prediction = rng.normal(50, 10, shape)
        noise = rng.normal(size=shape) if law == "normal" else rng.standard_t(4, shape)
        label = prediction + 5 * noise
        naive = prediction + 5 * skilled * rng.permutation(noise)
        quantiles = prediction[:, np.newaxis] + 5 * np.array([ndtri(level) for level in LEVELS])
    codes = np.repeat(np.arange(windows), n)
    return forecast.sums(prediction, label, naive, quantiles, LEVELS, codes, windows)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("n", [50, 200, 1000])
def test_intervals_cover(law: str, n: int) -> None:
    truth = Sums(*(part.sum(0, keepdims=True) for part in drawn(law, AT_ONCE, 40, 0)))
    windows = drawn(law, n, WINDOWS, n)
    for name, metric in METRICS.items():
        wanted, (_, lower, upper) = float(metric(truth).value[0]), metric(windows)
        covered = float(((lower <= wanted) & (wanted <= upper)).mean())
        print(f"{law}, {n} labels, {name}: {covered:.3f}")
        assert covered > (0.9 if n == 50 else 0.925), name


def told(estimate: Estimate, minimum: float | None, maximum: float | None) -> float:
    """How often a window is told of, with the caution of an hour's windows, of which a month has hundreds."""
    return float(judge.outside(estimate, minimum, maximum, float(judge.caution(HOUR)[0])).mean())


@pytest.mark.parametrize("n", [100, 1000])
def test_a_forecast_at_the_least_skill_is_rarely_called_no_better(n: int) -> None:
    """Its errors are so much smaller than the naive forecast's as is just enough."""
    windows = drawn("normal", n, 1000, 3, skilled=1 / (1 - LEAST_SKILL))
    found = told(forecast.skill(windows), LEAST_SKILL, None)
    print(f"{n} labels: {found:.4f}, allowed for are {float(judge.chance(HOUR)[0]):.5f}")
    assert found < 0.003


@pytest.mark.parametrize("rate", [None, 0.5, 3.0, 20.0])
@pytest.mark.parametrize("n", [100, 1000])
def test_honest_intervals_are_rarely_called_misleading(n: int, rate: float | None) -> None:
    """Of normal errors, and of Poisson numbers, which often equal their quantiles."""
    windows = drawn("normal", n, 1000, 4) if rate is None else _counts(n, 1000, rate)
    narrow = told(forecast.coverage(windows), 0.8 - COVERAGE_GAP, None)
    wide = told(forecast.strict_coverage(windows), None, 0.8 + COVERAGE_GAP)
    print(f"{n} labels, rate {rate}: {narrow:.4f} too narrow, {wide:.4f} too wide")
    assert narrow + wide < 0.002


def _counts(n: int, windows: int, rate: float) -> Sums:
    """Sums of windows of Poisson numbers with the quantiles of their law."""
    label = np.random.default_rng(7).poisson(rate, n * windows).astype(np.float64)
    quantiles = np.tile(poisson.ppf(LEVELS, rate), (len(label), 1))
    nothing, codes = np.full(len(label), np.nan), np.repeat(np.arange(windows), n)
    return forecast.split(forecast.sums(label, label, nothing, quantiles, LEVELS, codes, windows), LEVELS)


def test_a_copy_of_the_naive_forecast_and_intervals_of_half_the_width_are_told() -> None:
    """In a thousand labels; the copy is told of in any window, since nothing varies."""
    windows = drawn("normal", 1000, 200, 5)
    copied = windows._replace(naive_absolute=windows.naive, naive_error2=windows.naive2, naive_crossed=windows.naive2)
    assert told(forecast.skill(copied), LEAST_SKILL, None) == 1.0
    rng = np.random.default_rng(6)
    label = rng.normal(size=200_000)
    narrow = np.tile([ndtri(level) / 2 for level in LEVELS], (len(label), 1))
    codes = np.repeat(np.arange(200), 1000)
    nothing = np.full(len(label), np.nan)
    sums = forecast.sums(np.zeros(len(label)), label, nothing, narrow, LEVELS, codes, 200)
    assert told(forecast.coverage(forecast.split(sums, LEVELS)), 0.75, 0.85) == 1.0
