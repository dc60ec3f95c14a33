"""Drift of a model's windows against its profile: which cells each statistic compares, and from where it alarms."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mlops_exporter.arrays import Flags, Floats, Ints
from mlops_exporter.counting.ledger import Layout
from mlops_exporter.counting.reference import Reference
from mlops_exporter.counting.version import Version
from mlops_exporter.counting.windows import Window
from mlops_exporter.judging.dependence import Dependence, Measure
from mlops_exporter.judging.hours import Clock, HourlyShares, Traffic
from mlops_exporter.profile.bins import INVALID, NumericVariable, Variable
from mlops_exporter.profile.fitted import DriftThresholds
from mlops_exporter.profile.hours import HourlyReference
from mlops_exporter.profile.profile import Profile
from mlops_exporter.settings.models import DriftSettings, MinSamples
from mlops_exporter.statistics import dependence, discovery, drift, thresholds
from mlops_exporter.statistics.dependence import PaneSums
from mlops_exporter.statistics.drift import Statistic, traits


class Bins(NamedTuple):
    """Bins of several variables, as sums of neighbouring ledger cells, with their reference counts.

    `cells` (C+..,) are the first ledger cells for one summation, `kept` those of its results that are bins, `starts`
    (S,) each variable's first bin.
    """

    cells: Ints
    kept: Ints
    starts: Ints
    reference: Floats
    positions: Floats

    def counts(self, totals: Floats) -> Floats:
        """Sum ledgers, (..., cells), to bins, (..., C)."""
        return np.add.reduceat(totals, self.cells, axis=-1)[..., self.kept]


class Drift(NamedTuple):
    """Value and threshold by statistic, (W, variables) each, and one p-value of all statistics; NaN for none."""

    values: dict[str, Floats]
    thresholds: dict[str, Floats]
    p_values: Floats

    @property
    def by_statistic(self) -> tuple[Floats, Floats]:
        """Values and thresholds, (W, variables, statistics) each."""
        none = [np.empty((*self.p_values.shape, 0))]
        values, thresholds = (
            np.concatenate([*none, *(part[..., np.newaxis] for part in parts.values())], axis=-1)
            for parts in (self.values, self.thresholds)
        )
        return values, thresholds

    @property
    def beyond(self) -> Flags:
        """Which variables have a statistic above its threshold, (W, variables)."""
        ratios = [self.values[name] > self.thresholds[name] for name in self.values]
        return np.logical_or.reduce(ratios) if ratios else np.zeros(self.p_values.shape, np.bool_)

    @property
    def comparable(self) -> Flags:
        """Which variables have a statistic at all, (W, variables)."""
        known = [~np.isnan(value) for value in self.values.values()]
        return np.logical_or.reduce(known) if known else np.zeros(self.p_values.shape, np.bool_)


class Comparison:
    """Compares windows of one model with its profile. `names` are the variables: features, then outcomes."""

    def __init__(
        self, layout: Layout, settings: DriftSettings, min_samples: int, known: DriftThresholds | None = None
    ) -> None:
        profile = layout.profile
        self.layout = layout
        self._settings = settings
        self._min_samples = min_samples
        variables: dict[str, tuple[slice, Variable]] = {
            name: (section, profile.features[name]) for name, section in layout.features.items()
        }
        self.features = len(variables)
        outcomes = {"prediction": (layout.prediction, profile.prediction), "label": (layout.label, profile.label)}
        if profile.score is not None:
            outcomes["prediction"] = (layout.score, profile.score)
        self.outcomes: dict[str, int] = {}
        for name, (section, variable) in outcomes.items():
            if variable is not None:
                self.outcomes[name] = len(variables)
                variables[f"outcome {name}"] = (section, variable)
        self.rated: dict[str, int] = {}
        """Place of each outcome of which the reference knows the distribution."""
        for name, section in layout.rated.items():
            assert profile.rated
            self.rated[name] = len(variables)
            variables[f"rated {name}"] = (section, profile.rated[name])
        self._exported = _bins(list(variables.values()), fine=False)
        numeric = [(section, v) for section, v in variables.values() if isinstance(v, NumericVariable)]
        self._numeric = np.array([isinstance(v, NumericVariable) for _, v in variables.values()], np.bool_)
        self._fine = _bins(numeric, fine=True) if numeric else None
        self._names = list(variables)
        self._predictions = layout.predictions
        self._clock = None if not isinstance(profile.hours, HourlyReference) else Clock(profile.hours)
        self._hourly = _hourly(profile, [*variables.values()], self._exported, fine=False)
        self._hourly_fine = _hourly(profile, numeric, self._fine, fine=True) if self._fine else None
        self._dependence = Dependence(Measure(layout.distributions, self._of_panes, self._evened))
        stored = known or profile.thresholds
        coefficients: dict[Statistic, Floats] = {}
        for bins in (self._exported, self._fine):
            if bins is not None:
                compared = [statistic for statistic in settings.statistics if self._bins_of(statistic) is bins]
                coefficients |= _stored(stored, settings.false_alarm_rate, compared, self._variables_of(bins))
                coefficients |= thresholds.coefficients(
                    [statistic for statistic in compared if statistic not in coefficients],
                    bins.reference,
                    bins.starts,
                    bins.positions,
                    settings.false_alarm_rate,
                )
        self._coefficients = {name: coefficients[name] for name in settings.statistics if name in coefficients}

    def _variables_of(self, bins: Bins) -> list[str]:
        if bins is self._exported:
            return self._names
        return [name for name, numeric in zip(self._names, self._numeric, strict=True) if numeric]

    def _of_panes(self, panes: Floats) -> list[PaneSums]:
        return [dependence.counts(self._exported.counts(panes), self._exported.starts)]

    def _evened(self, panes: Sequence[PaneSums], window: Window, now: float) -> Sequence[PaneSums]:
        if self._clock is None or self._hourly is None or not window.by_clock:
            return panes
        weights = self._clock.of_panes(window, now)
        return [self._hourly.evened(part, weights) for part in panes]

    def fitted(self) -> DriftThresholds:
        """Return what was simulated, to be kept; a homogeneous statistic has one coefficient for any n."""
        found: dict[str, dict[str, list[float | None]]] = {}
        for statistic, coefficients in self._coefficients.items():
            bins = self._bins_of(statistic)
            assert bins is not None
            kept = coefficients[:, :1] if traits(statistic).homogeneous else coefficients
            rows = ([None if np.isnan(each) else float(f"{each:.6g}") for each in row] for row in kept.tolist())
            found[statistic] = dict(zip(self._variables_of(bins), rows, strict=True))
        return DriftThresholds(self._settings.false_alarm_rate, found)

    def _bins_of(self, statistic: str) -> Bins | None:
        return self._fine if traits(statistic).fine else self._exported

    def traffic(self, version: Version, now: float) -> Traffic:
        """Return how the events of a version's windows came."""
        effects = self._dependence.effects(version, now)
        return Traffic(effects, self._clock.of_windows(version, now, self._predictions) if self._clock else None)

    def compare(self, totals: Floats, traffic: Traffic | None = None) -> Drift:
        """Compare sums of ledgers, (W, cells), with the reference, with that of their hours where it knows such.

        Thresholds are those of as many independent values as a window is worth by its `traffic`.
        """
        values: dict[str, Floats] = {}
        limits: dict[str, Floats] = {}
        p_values: list[Floats] = []
        alpha = self._settings.false_alarm_rate
        for statistic, coefficients in self._coefficients.items():
            bins = self._bins_of(statistic)
            assert bins is not None
            counts = bins.counts(totals)
            n = drift.totals(counts, bins.starts)
            enough = n >= self._min_samples
            usual, known = self._usual(bins, n, None if traffic is None else traffic.hours)
            value = np.where(enough, traits(statistic).function(counts, usual, bins.starts, bins.positions), np.nan)
            worth = n if traffic is None else n / self._concentrated(traffic.effects, bins)
            critical = thresholds.critical_value(statistic, coefficients, worth, known)
            limit = np.where(enough, np.maximum(critical, self._settings.min_effect.get(statistic, 0.0)), np.nan)
            values[statistic] = self._among_all(value, bins)
            limits[statistic] = self._among_all(limit, bins)
            p = discovery.p_values(statistic, value / critical, drift.sizes(bins.starts, len(bins.reference)), alpha)
            p_values.append(self._among_all(p, bins))
        tests = np.stack(p_values, axis=-1) if p_values else np.empty((len(totals), len(self._exported.starts), 0))
        return Drift(values, limits, discovery.combined(tests))

    def _usual(self, bins: Bins, n: Floats, hours: Floats | None) -> tuple[Floats, Floats]:
        """Return reference counts for windows of n values, (W, S), and how many values these are known by.

        Those of hours, (W, C), are as many as the window's: a bin that stays empty then is as empty on both sides.
        """
        hourly = self._hourly if bins is self._exported else self._hourly_fine
        if hours is None or hourly is None:
            return bins.reference, drift.totals(bins.reference, bins.starts)
        mixture = hourly.mixed(hours)
        return mixture.shares * np.repeat(n, drift.sizes(bins.starts, len(bins.reference)), axis=-1), mixture.n

    def _concentrated(self, effects: Floats, bins: Bins) -> Floats:
        """Return the design effects for a test of variables that have these bins."""
        mine = effects if bins is self._exported else effects[..., self._numeric]
        exported = drift.sizes(self._exported.starts, len(self._exported.reference))
        dimensions = (exported if bins is self._exported else exported[self._numeric]) - 1
        return dependence.concentrated(mine, dimensions.astype(np.float64), self._settings.false_alarm_rate)

    def significantly_drifted(self, drift: Drift) -> Flags:
        """Tell which features' distance is no false discovery among so many, however small, (W, features)."""
        return discovery.discoveries(drift.p_values[:, : self.features], self._settings.false_alarm_rate)

    def surely_drifted(self, drift: Drift) -> Flags:
        """Tell which features are above a threshold and no false discovery among so many, (W, features)."""
        return drift.beyond[:, : self.features] & self.significantly_drifted(drift)

    def _among_all(self, values: Floats, bins: Bins) -> Floats:
        """Spread what only numeric variables have over all variables."""
        if bins is self._exported:
            return values
        spread = np.full((*values.shape[:-1], len(self._numeric)), np.nan)
        spread[..., self._numeric] = values
        return spread


class Comparisons:
    """The comparison of each reference, made once for all who ask, and of those of `known` that stay as they are."""

    def __init__(self, known: "Comparisons | None" = None) -> None:
        self._known = known._made if known is not None else {}
        self._made: dict[tuple[str, str, int], Comparison] = {}

        self.starting = False
        """Whether comparisons are being made one by one, so that nobody else makes one meanwhile."""

    def of(self, reference: Reference, known: DriftThresholds | None = None) -> Comparison:
        """Return how windows are compared with a reference; made by `known` thresholds if there are such."""
        drift, least = reference.settings.drift, reference.settings.min_samples.drift
        key = self._key(reference)
        if key not in self._made:
            self._made[key] = self._known.get(key) or Comparison(reference.layout, drift, least, known)
        return self._made[key]

    def ready(self, reference: Reference) -> Comparison | None:
        """Return how windows are compared with a reference, None while that is still to be made at a start."""
        return None if self.starting and self._key(reference) not in self._made else self.of(reference)

    def _key(self, reference: Reference) -> tuple[str, str, int]:
        return reference.digest, repr(reference.settings.drift), reference.settings.min_samples.drift


def fitted_thresholds(profile: Profile) -> DriftThresholds:
    """Return the thresholds of a profile for the settings that hold where nothing is configured."""
    return Comparison(Layout(profile), DriftSettings(), MinSamples().drift).fitted()


def _stored(
    known: DriftThresholds | None, rate: float, statistics: Sequence[Statistic], variables: Sequence[str]
) -> dict[Statistic, Floats]:
    """Return the coefficients of statistics that are known of all these variables."""
    if known is None or known.false_alarm_rate != rate:
        return {}
    return {
        statistic: thresholds.at_all_knots(np.array([of[name] for name in variables], np.float64))
        for statistic in statistics
        if (of := known.coefficients.get(statistic)) is not None and of.keys() == set(variables) and variables
    }


def _hourly(
    profile: Profile, variables: Sequence[tuple[slice, Variable]], bins: Bins, *, fine: bool
) -> HourlyShares | None:
    """Return the shares of bins by hour; of what is known by no hour, labels for one, those of the whole reference."""
    hours = profile.hours
    if not isinstance(hours, HourlyReference):
        return None
    known = {id(profile.features[name]): counts for name, counts in hours.features.items()}
    known |= {id(getattr(profile, name)): counts for name, counts in hours.outcomes.items()}
    parts = []
    for _, variable in variables:
        counts = np.array(known.get(id(variable), [variable.counts] * hours.slots), np.float64)
        begins = variable.fine_starts if fine and isinstance(variable, NumericVariable) else variable.exported_starts
        parts.append(np.add.reduceat(counts[:, :INVALID], begins, axis=1))
    return HourlyShares.of(np.concatenate(parts, axis=1), bins.reference, bins.starts) if parts else None


def _bins(variables: Sequence[tuple[slice, Variable]], *, fine: bool) -> Bins:
    """Lay out the bins of variables that lie in ascending order in the ledger; valid values only."""
    cells: list[int] = []
    kept: list[int] = []
    starts: list[int] = []
    reference: list[float] = []
    positions: list[float] = []
    for section, variable in variables:
        starts.append(len(kept))
        begins = variable.fine_starts if fine and isinstance(variable, NumericVariable) else variable.exported_starts
        kept += range(len(cells), len(cells) + len(begins))
        cells += (section.start + begin for begin in begins)
        cells.append(section.stop + INVALID)  # what follows, invalid and missing among it, is summed and dropped
        reference += np.add.reduceat(variable.counts[:INVALID], begins).tolist()
        if isinstance(variable, NumericVariable) and fine:
            scale = variable.standard_deviation or 1.0
            positions += ((position - variable.mean) / scale for position in variable.positions)
    return Bins(
        np.array(cells, np.intp),
        np.array(kept, np.intp),
        np.array(starts, np.intp),
        np.array(reference, np.float64),
        np.array(positions, np.float64),
    )
