"""Print the tables of docs/statistics.md: `python -m tests.simulations`."""

from collections.abc import Mapping, Sequence

import numpy as np

from tests.simulations import coverage, false_alarms
from tests.simulations.false_alarms import COARSE, FINE, SKEWED, References

WINDOWS = (50, 100, 300, 1_000, 3_000, 10_000, 100_000)
ALPHAS = (0.01, 0.05)


def false_alarm_table(title: str, coarse: References, fine: References | None) -> None:
    """Share of windows without drift over the critical value; a star marks what leaves [α/2, 2α]."""
    rng = np.random.default_rng(1)
    statistics = COARSE if fine is None else COARSE + FINE
    rates = false_alarms.rates(rng, coarse, COARSE, WINDOWS, ALPHAS, windows=20)
    if fine is not None:
        rates |= false_alarms.rates(rng, fine, FINE, WINDOWS, ALPHAS, windows=20)
    print(f"\n{title}\n")
    print("| statistic | α |" + "".join(f" n = {n} |" for n in WINDOWS))
    print("|---|---|" + "---|" * len(WINDOWS))
    for statistic in statistics:
        for alpha in ALPHAS:
            cells = [rates[statistic, n, alpha] for n in WINDOWS]
            text = (f" {rate:.3f}{'' if alpha / 2 <= rate <= 2 * alpha else '*'} |" for rate in cells)
            print(f"| {statistic} | {alpha} |" + "".join(text))


def coverage_table(sizes: Sequence[int], rows: Mapping[str, Sequence[float]]) -> None:
    """Coverage of the 95 % intervals."""
    print("\n95 % intervals: share that covers\n")
    print("| metric |" + "".join(f" n = {n} |" for n in sizes))
    print("|---|" + "---|" * len(sizes))
    for name, shares in rows.items():
        print(f"| {name} |" + "".join(f" {share:.3f} |" for share in shares))


def _coverage(n: int) -> dict[str, float]:
    rng = np.random.default_rng(n)
    windows = 4_000
    rows = coverage.confusion(rng, n, windows) | coverage.scores(rng, n, windows)
    for excess in (0.0, 0.02, 0.05, 0.1):
        rows[f"expected_calibration_error, truly {excess}"] = coverage.calibration(rng, n, windows, excess)
    for tails in ("normal", "t5"):
        rows |= {f"{name}, {tails} errors": share for name, share in coverage.errors(rng, n, windows, tails).items()}
    return rows


def main() -> None:
    """Print all tables."""
    rng = np.random.default_rng(0)
    for data in ("normal", "log-normal"):
        false_alarm_table(
            f"Numeric, {data}, N = 20 000; 10 quantile bins, ks and wasserstein 50",
            false_alarms.numeric(rng, data, 20_000, 10, 1_000),
            false_alarms.numeric(rng, data, 20_000, 50, 500),
        )
    for size, bins in ((1_000, 10), (150, 5)):
        false_alarm_table(
            f"Numeric, normal, N = {size}; {bins} quantile bins",
            false_alarms.numeric(rng, "normal", size, bins, 2_000),
            false_alarms.numeric(rng, "normal", size, bins, 1_000),
        )
    for size in (20_000, 150):
        false_alarm_table(
            f"Categorical, shares {', '.join(map(str, SKEWED))}, N = {size}",
            false_alarms.categorical(rng, SKEWED, size, 300),
            None,
        )
    sizes = (50, 200, 2_000)
    columns = [_coverage(n) for n in sizes]
    coverage_table(sizes, {name: [column[name] for column in columns] for name in columns[0]})


if __name__ == "__main__":
    main()
