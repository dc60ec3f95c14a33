"""Metrics of ranked lists, each a number in [0, 1] of one list, as trec_eval and ranx define them.

A list shows items in order, the first one at position 1. What became relevant has a gain above 0. With g(i) the gain of
the item at position i, m relevant items in all (shown or not) and r(i) = 1 where g(i) > 0:

* precision@k = Σ r(i≤k) / k, also where fewer items were shown; recall@k = Σ r(i≤k) / m; hit_rate@k = max r(i≤k).
* map@k, the average precision of one list: Σ r(i≤k) precision@i / m (Buckley and Voorhees 2000, SIGIR).
* ndcg@k = DCG / ideal DCG, DCG = Σ g(i≤k) / log2(i + 1), gains being linear (Järvelin and Kekäläinen 2002, ACM TOIS
  20(4)); the ideal list has the m items by falling gain.
* mrr, the reciprocal rank 1 / i of the first relevant item, of all positions that are kept (Voorhees 1999, TREC-8).

All are 0 where nothing was relevant.
"""

from collections.abc import Sequence

import numpy as np

from mlops_exporter.arrays import Floats, Ints
from mlops_exporter.statistics import ratings
from mlops_exporter.statistics.intervals import Estimate, exact_share

AT_CUTOFF = ("ndcg", "precision", "recall", "hit_rate", "map")
EMPTY = "empty_list_rate"
"""The mean of 1 for a list without items, and 0 for any other."""

_AT_ONCE = 2048
"""Lists whose items are compared with what was relevant at a time: a few megabytes."""


def names(cutoffs: Sequence[int]) -> list[str]:
    """Return the names of the metrics of lists that are cut at these positions."""
    return [*(f"{metric}@{k}" for metric in AT_CUTOFF for k in cutoffs), "mrr", EMPTY]


def mean(metric: str, sums: Floats) -> Estimate:
    """Mean of a metric over lists from its sums, (..., ratings.CELLS).

    Of empty lists there are few where all is well, so that their share has an exact interval.
    """
    if metric == EMPTY:
        return exact_share(sums[..., 1], sums[..., 0])
    return ratings.mean(sums, 0.0, 1.0)


def by_position(shown: Floats, relevant: Floats, gains: Floats) -> Floats:
    """Return the gain at each position, (n, L): items `shown`, (n, L), with `gains` of `relevant` ones, (n, R).

    Items are numbers, 0 for none. One that is shown twice has its gain where it was first.
    """
    found = np.zeros(shown.shape)
    for start in range(0, len(shown), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        same = (shown[part, :, np.newaxis] == relevant[part, np.newaxis, :]) & (relevant[part, np.newaxis, :] != 0)
        rows, places = np.nonzero(same.any(axis=1))
        found[part][rows, same.argmax(axis=1)[rows, places]] = gains[part][rows, places]
    return found


def measures(lengths: Floats, found: Floats, gains: Floats, cutoffs: Sequence[int]) -> Floats:
    """Return the metrics of lists, (n, names): `found` are gains by position, (n, L), `gains` all there are, (n, R)."""
    hits = found > 0
    total = np.maximum((gains > 0).sum(axis=1), 1)
    positions = np.arange(1, found.shape[1] + 1)
    precisions = hits.cumsum(axis=1) / positions
    discounts = 1 / np.log2(np.arange(2, max(found.shape[1], gains.shape[1]) + 2))
    best = -np.sort(-gains, axis=1)
    at: dict[str, list[Floats]] = {metric: [] for metric in AT_CUTOFF}
    for k in cutoffs:
        ideal: Floats = best[:, :k] @ discounts[: min(k, best.shape[1])]
        gained: Floats = found[:, :k] @ discounts[: min(k, found.shape[1])]
        share = np.divide(gained, ideal, out=np.zeros(len(found)), where=ideal > 0)
        at["ndcg"].append(np.asarray(share.clip(0.0, 1.0), np.float64))
        at["precision"].append(np.asarray(hits[:, :k].sum(axis=1) / k, np.float64))
        at["recall"].append(np.asarray(hits[:, :k].sum(axis=1) / total, np.float64))
        at["hit_rate"].append(np.asarray(hits[:, :k].any(axis=1), np.float64))
        at["map"].append(np.asarray((precisions * hits)[:, :k].sum(axis=1) / total, np.float64))
    reciprocal = (hits / positions).max(axis=1, initial=0.0)
    return np.stack([*(each for several in at.values() for each in several), reciprocal, lengths == 0], axis=1)


def merged(relevant: Floats, gains: Floats, more: Floats, more_gains: Floats, shown: Floats) -> tuple[Floats, Floats]:
    """Return what is relevant by two accounts, (n, R) each: an item named twice has the higher of its gains.

    So parts may come in any order, and twice. Of more than R items those are kept that were `shown`, (n, L), then those
    with the highest gains.
    """
    width = relevant.shape[1]
    items, values = np.concatenate([relevant, more], axis=1), np.concatenate([gains, more_gains], axis=1)
    order = np.lexsort((values, items), axis=1)
    items, values = np.take_along_axis(items, order, 1), np.take_along_axis(values, order, 1)
    last = np.ones(items.shape, np.bool_)
    last[:, :-1] = items[:, 1:] != items[:, :-1]
    last &= items != 0
    over = np.flatnonzero(last.sum(axis=1) > width)
    if len(over):
        seen = np.zeros((len(over), items.shape[1]), np.bool_)
        for column in shown[over].T:
            seen |= items[over] == column[:, np.newaxis]
        worth = np.where(last[over], -values[over], np.inf)
        order = np.lexsort((items[over], worth, ~(seen & last[over])), axis=1)
        last[over[:, np.newaxis], order[:, width:]] = False
    best = np.lexsort((items, np.where(last, -values, np.inf)), axis=1)[:, :width]
    kept = np.take_along_axis(last, best, 1)
    return tuple(np.where(kept, np.take_along_axis(each, best, 1), 0.0) for each in (items, values))  # type: ignore[return-value]


def gathered(owners: Ints, relevant: Floats, gains: Floats, shown: Floats) -> tuple[Floats, Floats]:
    """Return what is relevant by each account and those of its owner before it, (n, R) each.

    Accounts of one owner follow each other. Neighbours are merged first, then what these come to in the same way
    (a scan: Blelloch 1990), so that n accounts take at most 2 n merges, whoever owns them.
    """
    places = np.arange(len(owners))
    begins = np.append(True, owners[1:] != owners[:-1])[: len(owners)]
    ranks = places - np.maximum.accumulate(np.where(begins, places, 0))
    odd, even = np.flatnonzero(ranks % 2 == 1), np.flatnonzero((ranks % 2 == 0) & (ranks > 0))
    if not len(odd):
        return relevant, gains
    relevant, gains = relevant.copy(), gains.copy()
    pairs = merged(relevant[odd - 1], gains[odd - 1], relevant[odd], gains[odd], shown[odd])
    relevant[odd], gains[odd] = gathered(owners[odd], *pairs, shown[odd])
    relevant[even], gains[even] = merged(relevant[even - 1], gains[even - 1], relevant[even], gains[even], shown[even])
    return relevant, gains
