import warnings
from collections.abc import Callable, Sequence
from itertools import permutations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import expit, logit
from scipy.stats import gamma
from sklearn import metrics

from mlops_exporter.profiling.build import score_edges, tied_bins
from mlops_exporter.statistics import classification
from mlops_exporter.statistics.intervals import Estimate, Spread, wilson

F64 = NDArray[np.float64]
Labels = NDArray[np.int_]


@st.composite
def outcomes(draw: st.DrawFn, classes: tuple[int, ...] = (2, 3, 5)) -> tuple[int, Labels, Labels]:
    """A number of classes, predictions and labels."""
    k = draw(st.sampled_from(classes))
    pairs = draw(st.lists(st.tuples(st.integers(0, k - 1), st.integers(0, k - 1)), min_size=1, max_size=60))
    predicted, actual = np.array(pairs).T
    return k, predicted, actual


@st.composite
def ranked(draw: st.DrawFn) -> tuple[Labels, Labels]:
    """Labels and the bins of their scores, both classes present."""
    pairs = draw(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 9)), min_size=2, max_size=60))
    actual, bins = np.array(pairs).T
    assume(0 < actual.sum() < len(actual))
    return actual, bins


def confusion_of(k: int, predicted: Labels, actual: Labels) -> F64:
    counts: F64 = metrics.confusion_matrix(actual, predicted, labels=range(k)).T.astype(float)
    return counts


def histogram_of(actual: Labels, bins: Labels, size: int = 10) -> F64:
    return np.stack([np.bincount(bins[actual == side], minlength=size) for side in (0, 1)], axis=-1).astype(float)


def close(estimate: Estimate, wanted: float | F64 | Sequence[float]) -> None:
    np.testing.assert_allclose(estimate.value, wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.slow
@given(outcomes())
def test_equal_to_scikit_learn_for_any_number_of_classes(case: tuple[int, Labels, Labels]) -> None:
    k, predicted, actual = case
    confusion = confusion_of(k, predicted, actual)
    macro = {"labels": range(k), "average": "macro", "zero_division": np.nan}
    close(classification.accuracy(confusion), metrics.accuracy_score(actual, predicted))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn's remarks on absent classes
        close(classification.macro_precision(confusion), metrics.precision_score(actual, predicted, **macro))
        close(classification.macro_recall(confusion), metrics.recall_score(actual, predicted, **macro))
        close(classification.macro_f1(confusion), metrics.f1_score(actual, predicted, **macro))
        balanced = metrics.balanced_accuracy_score(actual, predicted)
        mcc = metrics.matthews_corrcoef(actual, predicted)
        rest = [metrics.recall_score(actual != c, predicted != c, zero_division=np.nan) for c in range(k)]
    close(classification.balanced_accuracy(confusion), balanced if len(set(actual)) > 1 else np.nan)
    close(classification.mcc(confusion), mcc if min(len(set(actual)), len(set(predicted))) > 1 else np.nan)
    defined = ~np.isnan(rest)
    close(classification.macro_specificity(confusion), np.mean(np.array(rest)[defined]) if defined.any() else np.nan)


@pytest.mark.slow
@given(outcomes())
def test_per_class_equal_to_scikit_learn(case: tuple[int, Labels, Labels]) -> None:
    k, predicted, actual = case
    binary = classification.one_vs_rest(confusion_of(k, predicted, actual))
    assert binary.shape == (k, 2, 2)
    np.testing.assert_array_equal(
        binary, metrics.multilabel_confusion_matrix(actual, predicted, labels=range(k)).transpose(0, 2, 1)
    )
    own = {"labels": range(k), "average": None, "zero_division": np.nan}
    close(classification.precision(binary), metrics.precision_score(actual, predicted, **own))
    close(classification.recall(binary), metrics.recall_score(actual, predicted, **own))
    close(classification.f1(binary), metrics.f1_score(actual, predicted, **own))
    close(
        classification.specificity(binary),
        [metrics.recall_score(actual != c, predicted != c, zero_division=np.nan) for c in range(k)],
    )


METRICS: list[Callable[[F64], Estimate]] = [
    classification.accuracy,
    classification.precision,
    classification.recall,
    classification.specificity,
    classification.f1,
    classification.balanced_accuracy,
    classification.mcc,
    classification.macro_precision,
    classification.macro_recall,
    classification.macro_specificity,
    classification.macro_f1,
]

MEANS = [classification.balanced_accuracy, classification.macro_precision, classification.macro_recall]


@pytest.mark.slow
@pytest.mark.parametrize("metric", METRICS)
@given(outcomes(classes=(2,)))
def test_the_interval_holds_the_value_within_the_range(
    metric: Callable[[F64], Estimate], case: tuple[int, Labels, Labels]
) -> None:
    estimate = metric(confusion_of(*case))
    low = -1 if metric is classification.mcc else 0
    if np.isnan(estimate.value):
        assert np.isnan(estimate.lower)
        assert np.isnan(estimate.upper)
    else:
        assert low <= estimate.lower <= estimate.value <= estimate.upper <= 1
        assert estimate.lower < estimate.upper  # a finite window is never certain


@pytest.mark.parametrize("metric", METRICS)
def test_vectorised_over_leading_axes(metric: Callable[[F64], Estimate]) -> None:
    confusion = np.random.default_rng(3).integers(0, 30, (3, 4, 2, 2)).astype(float)
    confusion[1, 2] = 0
    whole = metric(confusion)
    for index in np.ndindex(3, 4):
        for part, single in zip(whole, metric(confusion[index]), strict=True):
            np.testing.assert_allclose(part[index], single, rtol=1e-12)
    assert np.isnan(whole.value[1, 2])


@pytest.mark.parametrize(
    "metric", [classification.mcc, classification.macro_specificity, classification.macro_f1, *MEANS]
)
@pytest.mark.parametrize("k", [2, 4])
def test_the_delta_method_follows_a_numerical_derivative(metric: Callable[[F64], Estimate], k: int) -> None:
    # At counts this large the smoothing of the variance is negligible, and so are the clipping and the curvature.
    confusion = np.random.default_rng(4).integers(10, 90, (k, k)).astype(float) * 1e8
    n = confusion.sum()
    step = 1e-5 * n
    slopes = np.empty_like(confusion)
    for cell in np.ndindex(k, k):
        up, down = confusion.copy(), confusion.copy()
        up[cell] += step
        down[cell] -= step
        slopes[cell] = (metric(up).value - metric(down).value) / (2 * step) * n
    shares = confusion / n
    deviation = np.sqrt(((shares * slopes**2).sum() - (shares * slopes).sum() ** 2) / n)
    estimate = metric(confusion)
    assert float(estimate.upper - estimate.lower) == pytest.approx(2 * 1.959964 * deviation, rel=1e-5)


@pytest.mark.slow
@given(ranked())
def test_ranking_metrics_equal_scikit_learn(case: tuple[Labels, Labels]) -> None:
    actual, bins = case
    close(classification.roc_auc(histogram_of(actual, bins)), metrics.roc_auc_score(actual, bins))
    close(classification.average_precision(histogram_of(actual, bins)), metrics.average_precision_score(actual, bins))


@pytest.mark.slow
@given(ranked())
def test_delong_equals_its_definition_pair_by_pair(case: tuple[Labels, Labels]) -> None:
    actual, bins = case
    positive, negative = bins[actual == 1], bins[actual == 0]
    assume(min(len(positive), len(negative)) > 1)
    wins = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
    parts = wins.mean(0).var(ddof=1) / len(negative), wins.mean(1).var(ddof=1) / len(positive)
    histogram = histogram_of(actual, bins)
    found = classification.roc_auc_variances(histogram, classification.ranks(histogram))
    np.testing.assert_allclose(found, parts, rtol=1e-6, atol=1e-12)


def test_the_interval_of_roc_auc_is_delong_s_where_cases_are_many() -> None:
    histogram = np.random.default_rng(2).integers(1, 9, (20, 2)).astype(float) * 1e6
    estimate = classification.roc_auc(histogram)
    half = 1.959964 * np.sqrt(sum(classification.roc_auc_variances(histogram, classification.ranks(histogram))))
    half /= estimate.value * (1 - estimate.value)
    assert float(logit(estimate.upper) - logit(estimate.value)) == pytest.approx(half, rel=1e-5)
    assert float(logit(estimate.value) - logit(estimate.lower)) == pytest.approx(half, rel=1e-5)


def test_average_precision_s_variance_follows_a_numerical_derivative() -> None:
    counts = np.random.default_rng(11).integers(10, 90, (6, 2)).astype(float) * 1e6
    n = counts.sum()
    slopes = np.empty_like(counts)
    for cell in np.ndindex(6, 2):
        step = np.zeros_like(counts)
        step[cell] = 1e-5 * n
        difference = classification.average_precision(counts + step).value
        difference -= classification.average_precision(counts - step).value
        slopes[cell] = difference / 2e-5
    shares = counts / n
    deviation = np.sqrt(((shares * slopes**2).sum() - (shares * slopes).sum() ** 2) / n)
    estimate = classification.average_precision(counts)
    assert float(estimate.upper - estimate.lower) == pytest.approx(2 * 1.959964 * deviation, rel=1e-4)


def test_average_precision_of_scores_in_random_order_is_the_mean_over_all_orders() -> None:
    counts = np.array([[2.0, 1.0], [1.0, 3.0], [0.0, 2.0], [2.0, 0.0]])
    orders = []
    for low in permutations([0, 0, 1]):
        for middle in set(permutations([0, 1, 1, 1])):
            actual = np.array([*low, *middle, 1, 1, 0, 0])
            orders.append(metrics.average_precision_score(actual, np.arange(len(actual))))
    estimate = classification.average_precision(counts, np.zeros(4, np.bool_))
    assert float(estimate.value) == pytest.approx(np.mean(orders))


def test_average_precision_of_fractions_of_events_is_near_that_of_the_events() -> None:
    rng = np.random.default_rng(12)
    counts = np.stack([rng.poisson(3.0, 400), rng.poisson(np.linspace(0.0, 0.5, 400))], axis=-1).astype(float)
    whole, fractions = (classification.average_precision(each, np.False_) for each in (counts, counts / 8))
    assert float(fractions.value) == pytest.approx(float(whole.value), rel=0.05)
    assert fractions.lower < whole.lower < whole.upper < fractions.upper


def test_a_perfect_ranking_of_few_positives_is_not_certain() -> None:
    estimate = classification.average_precision(np.array([[500.0, 0.0], [0.0, 1.0], [0.0, 1.0]]), np.False_)
    assert estimate.value == 1
    assert estimate.lower < 0.5


def test_f1_has_the_interval_of_the_share_that_it_is_made_of() -> None:
    confusion = np.array([[970.0, 2.0], [4.0, 5.0]])
    share = wilson(np.array(5.0), np.array(11.0))
    estimate = classification.f1(confusion)
    assert float(estimate.lower) == pytest.approx(float(2 * share.lower / (1 + share.lower)))
    assert float(estimate.upper) == pytest.approx(float(2 * share.upper / (1 + share.upper)))


def test_discrete_scores_are_ties() -> None:
    rng = np.random.default_rng(8)
    actual = rng.random(20_000) < 0.01
    score = np.where(rng.random(20_000) < 0.5, 0.25, np.round(rng.beta(1 + actual, 6), 2))
    edges = score_edges([np.sort(score)])
    tied = np.zeros(len(edges) + 1, np.bool_)
    tied[tied_bins(np.sort(score), edges)] = True
    histogram = histogram_of(actual.astype(int), np.searchsorted(edges, score, side="right"), len(edges) + 1)
    wanted = metrics.average_precision_score(actual, score)
    assert classification.average_precision(histogram, tied).value == pytest.approx(wanted, rel=1e-3)


def test_a_point_mass_among_continuous_scores_has_a_bin_of_its_own() -> None:
    rng = np.random.default_rng(8)
    actual = rng.random(50_000) < 0.02
    score = np.where(rng.random(50_000) < 0.4, 0.3, expit(rng.standard_normal(50_000) + 2 * actual - 1))
    edges = score_edges([np.sort(score)])
    tied = np.zeros(len(edges) + 1, np.bool_)
    tied[tied_bins(np.sort(score), edges)] = True
    assert tied.sum() == 1
    histogram = histogram_of(actual.astype(int), np.searchsorted(edges, score, side="right"), len(edges) + 1)
    wanted = metrics.average_precision_score(actual, score)
    assert classification.average_precision(histogram, tied).value == pytest.approx(wanted, rel=1e-3)


def test_roc_auc_of_a_perfect_ranking_is_not_certain() -> None:
    estimate = classification.roc_auc(np.array([[7.0, 0.0], [0.0, 5.0]]))
    assert estimate.value == 1
    assert estimate.lower == pytest.approx(float(wilson(np.array(5.0), np.array(5.0)).lower))
    assert estimate.upper == 1


def test_ranking_metrics_are_nan_without_both_classes() -> None:
    one_class = np.zeros((2, 4, 2))
    one_class[0, :, 0] = 3
    assert np.isnan(classification.roc_auc(one_class).value).all()
    assert np.isnan(classification.average_precision(one_class).value).all()
    one_class[1, :, 1] = 3
    assert np.isnan(classification.roc_auc(one_class).value).all()
    # With positives alone every threshold is precise, as in scikit-learn.
    assert classification.average_precision(one_class).value[1] == 1


def test_macro_roc_auc_equals_scikit_learn_and_misses_a_class_as_nan() -> None:
    rng = np.random.default_rng(5)
    actual = rng.integers(0, 3, 400)
    scores = rng.integers(1, 30, (400, 3)) + 6 * np.eye(3, dtype=int)[actual]
    # Each class keeps its own histogram of small integers: scikit-learn wants rows that sum to 1, so average by hand.
    wanted = np.mean([metrics.roc_auc_score(actual == c, scores[:, c]) for c in range(3)])
    histograms = np.stack([histogram_of((actual == c).astype(int), scores[:, c], 40) for c in range(3)])
    close(classification.macro_roc_auc(histograms), wanted)
    histograms[1, :, 1] = 0
    assert np.isnan(classification.macro_roc_auc(histograms).value)


@pytest.mark.parametrize("odds", [lambda odds: odds, lambda odds: odds - 6, lambda odds: 4 * odds - 1])
def test_roc_auc_is_within_two_thousandths_when_scores_are_on_another_scale_than_the_references(
    odds: Callable[[F64], F64],
) -> None:
    rng = np.random.default_rng(6)
    actual = (rng.random(20_000) < 0.3).astype(int)
    balanced = rng.standard_normal(20_000) + 1.4 * actual - 0.7
    edges = score_edges([np.sort(expit(balanced))])
    score = expit(odds(balanced))
    histogram = histogram_of(actual, np.searchsorted(edges, score, side="right"), len(edges) + 1)
    assert classification.roc_auc(histogram).value == pytest.approx(metrics.roc_auc_score(actual, score), abs=2e-3)


@pytest.mark.parametrize("name", ["normal", "uniform", "beta", "ties", "steep"])
@pytest.mark.parametrize("shift", [-0.5, 0.0, 0.5])
def test_roc_auc_from_bins_is_within_a_thousandth(name: str, shift: float) -> None:
    def sample(rng: np.random.Generator, drift: float) -> tuple[Labels, F64]:
        actual = (rng.random(20_000) < 0.3).astype(int)
        noise = rng.standard_normal(20_000) + 1.4 * actual + drift
        match name:
            case "normal":
                return actual, expit(noise - 1)
            case "uniform":
                return actual, ((rng.random(20_000) + 0.8 * actual + 0.2 * drift) / 2).clip(0, 1)
            case "beta":
                return actual, rng.beta(1 + actual + abs(drift), 4 - actual)
            case "ties":
                return actual, np.round(expit(noise), 1)
        return actual, expit(8 * noise - 20)

    rng = np.random.default_rng(6)
    _, reference = sample(rng, 0.0)
    edges = score_edges([np.sort(reference)])
    actual, score = sample(rng, shift)
    histogram = histogram_of(actual, np.searchsorted(edges, score, side="right"), len(edges) + 1)
    assert classification.roc_auc(histogram).value == pytest.approx(metrics.roc_auc_score(actual, score), abs=1e-3)


NOTHING_EXPECTED = Spread(np.array(0.0), np.array(0.0))


def test_losses_equal_scikit_learn() -> None:
    rng = np.random.default_rng(7)
    actual = rng.integers(0, 2, 500)
    score = rng.uniform(0.01, 0.99, 500)
    loss = -np.log(np.where(actual == 1, score, 1 - score))
    square = (score - actual) ** 2
    n = np.array(500.0)
    close(classification.log_loss(n, loss.sum(), (loss**2).sum(), NOTHING_EXPECTED), metrics.log_loss(actual, score))
    estimate = classification.brier_score(n, square.sum(), (square**2).sum(), NOTHING_EXPECTED)
    close(estimate, metrics.brier_score_loss(actual, score))
    mean, variance = square.mean(), square.var(ddof=1) / 500
    assert float(estimate.lower) == pytest.approx(gamma.ppf(0.025, mean**2 / variance, scale=variance / mean), rel=0.01)
    one_more = (square**2).sum() / square.sum() / 500
    mean, variance = mean + one_more, variance + one_more**2
    assert float(estimate.upper) == pytest.approx(gamma.ppf(0.975, mean**2 / variance, scale=variance / mean), rel=0.01)


def test_the_limits_of_a_mean_of_many_losses_are_those_of_the_central_limit_theorem() -> None:
    n, loss = np.array(1e8), 0.3
    squares = 0.3**2 + 0.2**2
    estimate = classification.log_loss(n, n * loss, n * squares, Spread(np.array(9.0), np.array(9.0)))
    half = 1.959964 * 0.2 / 1e4
    np.testing.assert_allclose([estimate.lower, estimate.upper], [loss - half, loss + half], atol=half / 100)


def test_losses_of_nothing_and_of_one() -> None:
    estimate = classification.log_loss(
        np.array([0.0, 1.0]), np.array([0.0, 0.7]), np.array([0.0, 0.49]), NOTHING_EXPECTED
    )
    np.testing.assert_array_equal(estimate.value, [np.nan, 0.7])
    assert np.isnan(estimate.lower).all()


def test_losses_without_any_large_one_allow_for_those_that_the_scores_expect() -> None:
    scores = np.zeros((1, 2, 2))
    scores[0, 0, 0] = 1000  # predictions of 0.002, no positive among them
    probability = np.array([0.002, 0.5])
    of_log, of_brier = classification.expected_losses(scores, probability)
    assert float(of_log.size) == pytest.approx(-np.log(0.002), rel=0.01)
    assert float(of_brier.variance) == pytest.approx(0.002, rel=0.01)
    loss = -np.log(0.998)
    n = np.array(1000.0)
    estimate = classification.log_loss(n, n * loss, n * loss**2, of_log)
    assert float(estimate.upper) > 1.5 * 0.002 * -np.log(0.002)  # what the truth is if the scores are right
    blind = classification.log_loss(n, n * loss, n * loss**2, NOTHING_EXPECTED)
    assert float(blind.upper) < 0.003


def test_expected_losses_of_several_classes() -> None:
    scores = np.zeros((3, 2, 2))
    scores[:, 0, 0], scores[:, 1, 1] = [90, 80, 30], [10, 20, 70]
    of_log, of_brier = classification.expected_losses(scores, np.array([0.1, 0.7]))
    weight = np.array([200 * 0.1, 100 * 0.7]) / 100
    loss = -np.log([0.1, 0.7])
    assert float(of_log.variance) == pytest.approx(weight @ loss**2 - (weight @ loss) ** 2)
    square = 2 * np.array([0.9, 0.3]) ** 2
    assert float(of_brier.size) == pytest.approx((weight @ square**3) / (weight @ square**2))


def test_expected_calibration_error_by_hand() -> None:
    count = np.array([[100.0, 0.0, 300.0], [0.0, 0.0, 0.0]])
    positives = np.array([[20.0, 0.0, 210.0], [0.0, 0.0, 0.0]])
    score_sum = np.array([[10.0, 0.0, 270.0], [0.0, 0.0, 0.0]])
    estimate = classification.expected_calibration_error(count, positives, score_sum, np.array([0.2, np.nan]))
    value, half = 70 / 400, 1.959964 * np.sqrt((0.2 - (70 / 400) ** 2) / 400)
    first, third = 21 / 102, 211 / 302  # shares of positives, one more of either class added
    bias = np.sqrt(2 / np.pi) * (np.sqrt(100 * first * (1 - first)) + np.sqrt(300 * third * (1 - third))) / 400
    np.testing.assert_allclose(estimate.value, [value, np.nan])
    np.testing.assert_allclose(estimate.upper, [value + half, np.nan], rtol=1e-6)
    np.testing.assert_allclose(estimate.lower, [value - half - bias, np.nan], rtol=1e-6)
