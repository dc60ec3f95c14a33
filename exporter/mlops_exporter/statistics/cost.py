"""What a model's errors cost: the mean cost of a decision, from the sums that performance is made of."""

from mlops_exporter.arrays import Floats
from mlops_exporter.statistics import regression
from mlops_exporter.statistics.intervals import Estimate, bounded_mean, mean_from_sums


def of_classes(confusion: Floats, costs: Floats) -> Estimate:
    """Mean of `costs`, (K, K), over the cells of `confusion`, (..., K, K), both [predicted, actual]; NaN for no labels.

    The interval knows the cheapest and the dearest decision, so it holds where the dear ones are rare.
    """
    n = confusion.sum((-2, -1))
    total, squares = (confusion * costs).sum((-2, -1)), (confusion * costs**2).sum((-2, -1))
    return bounded_mean(n, total, squares, float(costs.min()), float(costs.max()))


def of_errors(sums: Floats, over: float, under: float) -> Estimate:
    """Mean of over · max(e, 0) + under · max(−e, 0), e = prediction − label, from moments (..., CELLS).

    Σe² is not kept by sign, so all of it counts at the dearer side: with unequal prices the interval is too wide, by a
    third for errors as often above as below and a price three times the other.
    """
    m = regression.split(sums)
    total = over * regression.overprediction_sum(sums) + under * regression.underprediction_sum(sums)
    return mean_from_sums(m.n, total, max(over, under) ** 2 * m.error2, low=0.0)
