"""What a profile knows of forecasts: how far ahead they look, which quantiles they announce, how naive ones err."""

import math

import msgspec

from mlops_exporter.profile.values import canonical

MAX_HORIZONS = 64
"""Horizons of a profile: each has a series for every window and metric."""

MAX_QUANTILES = 32


class ForecastReference(msgspec.Struct, forbid_unknown_fields=True):
    """What predictions say beside one number.

    `horizons` are the names by which events tell how far ahead they look (of a regression none), `quantiles` the levels
    that are announced, ascending. `naive_absolute` and `naive_squared` are the mean absolute and mean squared error of
    the reference's naive forecast, None where it has none.
    """

    horizons: list[str] = []
    quantiles: list[float] = []
    naive_absolute: float | None = None
    naive_squared: float | None = None

    def validate(self, *, ahead: bool) -> None:
        """Raise ValueError where it is impossible; a forecast looks `ahead`, a regression does not."""
        if bool(self.horizons) != ahead:
            raise ValueError("a forecast needs horizons" if ahead else "a regression has no horizons")
        if len(set(self.horizons)) < len(self.horizons) or len(self.horizons) > MAX_HORIZONS:
            raise ValueError(f"horizons differ from each other, and are {MAX_HORIZONS} at most")
        if [canonical(name) for name in self.horizons] != self.horizons:
            raise ValueError("horizons are texts as events have them")
        levels = self.quantiles
        if levels != sorted(set(levels)) or not all(0 < level < 1 for level in levels) or len(levels) > MAX_QUANTILES:
            raise ValueError(f"quantiles ascend between 0 and 1, and are {MAX_QUANTILES} at most")
        for error in (self.naive_absolute, self.naive_squared):
            if error is not None and not 0 <= error < math.inf:
                raise ValueError("errors of the naive forecast are no less than 0")


def level_name(level: float) -> str:
    """Return how a quantile is named in events and series: the shortest way to write its level."""
    return f"{level:g}" if float(f"{level:g}") == level else repr(level)
