"""Holds the metrics of ranked lists against ranx, in an environment of its own: `make ranx`."""

import numpy as np
from ranx import Qrels, Run, evaluate

from mlops_exporter.statistics import ranking

LISTS, ITEMS, CUTOFFS = 400, 30, [1, 3, 5, 10, 20]


def main() -> None:
    """Compare all metrics of random lists of any length, with graded relevance, and items that were not shown."""
    rng = np.random.default_rng(1)
    shown, relevant, gains = (np.zeros((LISTS, 20)) for _ in range(3))
    truth: dict[str, dict[str, int]] = {}
    said: dict[str, dict[str, float]] = {}
    lengths = rng.integers(1, 21, LISTS)
    for row, n in enumerate(lengths.tolist()):
        items = rng.permutation(ITEMS)[:n] + 1
        wanted = rng.permutation(ITEMS)[: rng.integers(1, 9)] + 1
        worth = rng.integers(1, 4, len(wanted))
        shown[row, :n], relevant[row, : len(wanted)], gains[row, : len(wanted)] = items, wanted, worth
        truth[f"q{row}"] = {f"i{item}": int(gain) for item, gain in zip(wanted, worth, strict=True)}
        said[f"q{row}"] = {f"i{item}": float(n - place) for place, item in enumerate(items)}
    found = ranking.measures(lengths.astype(np.float64), ranking.by_position(shown, relevant, gains), gains, CUTOFFS)
    ours = dict(zip(ranking.names(CUTOFFS), found.mean(axis=0), strict=True))
    del ours[ranking.EMPTY]
    theirs = evaluate(Qrels(truth), Run(said), list(ours))
    worst = max(abs(ours[name] - theirs[name]) for name in ours)
    for name, value in ours.items():
        print(f"{name:14} {value:.6f} ranx {theirs[name]:.6f}")
    print(f"{len(ours)} metrics of {LISTS} lists differ by {worst:.1e} at most")
    assert worst < 1e-9


if __name__ == "__main__":
    main()
