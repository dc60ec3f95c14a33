"""Drift of a model's windows against its profile: which cells each statistic compares, and from where it alarms."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mlops_exporter.arrays import Flags, Floats, Ints
from mlops_exporter.counting.ledger import Layout
from mlops_exporter.counting.reference import Reference
from mlops_exporter.profile.bins import INVALID, NumericVariable, Variable
from mlops_exporter.profile.fitted import DriftThresholds
from mlops_exporter.profile.profile import Profile
from mlops_exporter.settings.models import DriftSettings, MinSamples
from mlops_exporter.statistics import discovery, drift, thresholds
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
        self._exported = _bins(list(variables.values()), fine=False)
        numeric = [(section, v) for section, v in variables.values() if isinstance(v, NumericVariable)]
        self._numeric = np.array([isinstance(v, NumericVariable) for _, v in variables.values()], np.bool_)
        self._fine = _bins(numeric, fine=True) if numeric else None
        self._names = list(variables)
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

    def compare(self, totals: Floats) -> Drift:
        """Compare sums of ledgers, (W, cells), with the reference."""
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
            value = np.where(
                enough, traits(statistic).function(counts, bins.reference, bins.starts, bins.positions), np.nan
            )
            critical = thresholds.critical_value(statistic, coefficients, n, drift.totals(bins.reference, bins.starts))
            limit = np.where(enough, np.maximum(critical, self._settings.min_effect.get(statistic, 0.0)), np.nan)
            values[statistic] = self._among_all(value, bins)
            limits[statistic] = self._among_all(limit, bins)
            p = discovery.p_values(statistic, value / critical, drift.sizes(bins.starts, len(bins.reference)), alpha)
            p_values.append(self._among_all(p, bins))
        return Drift(values, limits, discovery.combined(np.stack(p_values, axis=-1)))

    def surely_drifted(self, drift: Drift) -> Flags:
        """Tell which features are above a threshold and no false discovery among so many, (W, features)."""
        found = discovery.discoveries(drift.p_values[:, : self.features], self._settings.false_alarm_rate)
        return drift.beyond[:, : self.features] & found

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
