"""Watches the streams of a model version for changes as they happen.

What is kept here is no sum: it belongs to this replica and to the order in which its events came, not to the ledger.
That order is by the events' own time. What comes later than that, or happened before any window begins, is history: it
is counted where it belongs, and says nothing of a change now.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np

from mlops_exporter.arrays import Floats
from mlops_exporter.counting.ledger import Outputs
from mlops_exporter.counting.streams import Stream, values
from mlops_exporter.profile.fitted import StreamReference
from mlops_exporter.profile.profile import Profile
from mlops_exporter.settings.models import ChangeSettings, OutcomeSettings
from mlops_exporter.statistics.sequential import ChangeEvidence

_Z = 3.0902323061678132  # 99.9 % quantile of the standard normal distribution
_MANY = 10**12  # rows by which a mean that was agreed is known
_SLACK = 3.0  # how far evidence may rise above its threshold, so that it can fall again


class StreamMonitor:
    """Evidence of change in one stream. Errors are watched for a rise, scores both ways.

    `binary` tells that its numbers are zeros and ones. A change is one by more than the tolerance, and beyond where the
    mean of the reference's population may lie.
    """

    def __init__(self, reference: StreamReference, settings: ChangeSettings, *, both: bool, binary: bool) -> None:
        low, high = _reference_range(reference)
        high = min(max(high, reference.mean + settings.tolerance), 1.0)
        low = max(min(low, reference.mean - settings.tolerance), 0.0)
        most = math.log(1 / settings.false_alarm_probability) + _SLACK
        self._evidence = [ChangeEvidence(high, "up", most=most, binary=binary)]
        if both:
            self._evidence.append(ChangeEvidence(low, "down", most=most, binary=binary))
        self._parts = {f"evidence {number}": part for number, part in enumerate(self._evidence)}
        self.latest = -math.inf
        """Time of the latest numbers."""

    @property
    def log_evidence(self) -> float:
        """Natural logarithm of the evidence of a change, the mean of both directions' evidence."""
        found = [evidence.log_evidence for evidence in self._evidence]
        return float(np.logaddexp.reduce(found)) - math.log(len(found))

    def update(self, numbers: Floats, time: float) -> None:
        """Read further numbers, of that time."""
        self.latest = max(self.latest, time)
        for part in self._parts.values():
            part.update(numbers)

    def state(self) -> dict[str, Any]:
        """Return what `restore` needs, as a tree of arrays and numbers."""
        return {"latest": self.latest, **{name: part.state() for name, part in self._parts.items()}}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state, as far as it knows the parts."""
        self.latest = state.get("latest", -math.inf)
        for name, part in self._parts.items():
            if name in state:
                part.restore(state[name])


class OutcomeMonitor:
    """Evidence of change in the numbers by which answers are rated, as shares of their range, from worse to better.

    They are watched both ways against the reference's mean; without one for being worse than what is agreed. Where
    there is neither, `of` makes none.
    """

    def __init__(self, outcome: OutcomeSettings, reference: StreamReference, monitor: StreamMonitor) -> None:
        self._low, self._far, self._falls = outcome.low, outcome.high - outcome.low, outcome.better == "higher"
        self.monitor = monitor
        self.rule = f"{self._low!r} {self._far!r} {outcome.better} {reference.mean!r}"
        """What its state rests on."""

    @classmethod
    def of(cls, name: str, outcome: OutcomeSettings, profile: Profile, settings: ChangeSettings) -> "Self | None":
        """Return what watches an outcome, None where nothing says what its mean should be."""
        known = (profile.rated or {}).get(name)
        mean = known.mean if known is not None else outcome.benchmark
        if mean is None:
            return None
        share = (mean - outcome.low) / (outcome.high - outcome.low)
        worse = min(max(1 - share if outcome.better == "higher" else share, 0.0), 1.0)
        rows = sum(known.counts) if known is not None else _MANY
        reference = StreamReference(rows, worse)
        return cls(outcome, reference, StreamMonitor(reference, settings, both=known is not None, binary=False))

    def update(self, values: Floats, time: float) -> None:
        """Read further values, of that time; NaN is none."""
        shares = (values[~np.isnan(values)] - self._low) / self._far
        if len(shares):
            self.monitor.update(1 - shares if self._falls else shares, time)


class ChangeMonitor:
    """The monitors of all streams of a model version; its windows go back so far by the clock (seconds, ascending)."""

    def __init__(
        self,
        profile: Profile,
        settings: ChangeSettings,
        reaches: Sequence[float],
        outcomes: Mapping[str, OutcomeSettings] | None = None,
    ) -> None:
        self._profile = profile
        self._lateness, self._horizon = reaches[0], reaches[-1]
        self._rule = [settings.false_alarm_probability, settings.tolerance]
        self.streams: dict[Stream, StreamMonitor] = {
            name: StreamMonitor(
                reference, settings, both=name == "score", binary=name == "error" and bool(profile.classes)
            )
            for name, reference in profile.streams.items()
        }
        self._places = {name: place for place, name in enumerate(outcomes or {})}
        made = {name: OutcomeMonitor.of(name, each, profile, settings) for name, each in (outcomes or {}).items()}
        self.outcomes = {name: monitor for name, monitor in made.items() if monitor is not None}

    def observe(self, stream: Stream, outputs: Outputs, labels: Floats, time: float, now: float) -> None:
        """Read further outputs of about one time, with their labels where the stream is that of the errors.

        Nothing is read that no window shows `now`, or that is older than the latest by more than the shortest window.
        """
        monitor = self.streams.get(stream)
        if monitor is None or self._is_history(monitor, time, now):
            return
        reference = self._profile.streams[stream]
        monitor.update(values(self._profile, stream, (reference.offset, reference.scale), outputs, labels), time)

    def observe_outcomes(self, values: Floats, time: float, now: float) -> None:
        """Read what answers of about one time are rated by, (n, outcomes), NaN where absent, as `observe`."""
        for outcome in self.outcomes:
            self.observe_outcome(outcome, values[:, self._places[outcome]], time, now)

    def observe_outcome(self, name: str, values: Floats, time: float, now: float) -> None:
        """Read values of one outcome."""
        outcome = self.outcomes.get(name)
        if outcome is not None and not self._is_history(outcome.monitor, time, now):
            outcome.update(values, time)

    def _is_history(self, monitor: StreamMonitor, time: float, now: float) -> bool:
        return time <= now - self._horizon or time < monitor.latest - self._lateness

    def forget_after(self, now: float) -> None:
        """Forget times that a clock which was ahead has made."""
        for monitor in (*self.streams.values(), *(outcome.monitor for outcome in self.outcomes.values())):
            monitor.latest = min(monitor.latest, now)

    def state(self) -> dict[str, Any]:
        """Return what `restore` needs, as a tree of arrays and numbers."""
        outcomes = {f"outcome {name} {each.rule}": each.monitor.state() for name, each in self.outcomes.items()}
        return {"rule": self._rule, **{name: monitor.state() for name, monitor in self.streams.items()}, **outcomes}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state of the same settings: evidence by one rule says nothing by another."""
        if state.get("rule") != self._rule:
            return
        for name, monitor in self.streams.items():
            if name in state:
                monitor.restore(state[name])
        for outcome, each in self.outcomes.items():
            if (kept := state.get(f"outcome {outcome} {each.rule}")) is not None:
                each.monitor.restore(kept)


def _reference_range(reference: StreamReference) -> tuple[float, float]:
    """Return where the mean of the reference's population lies with 99.8 %: Wilson's interval.

    Of all numbers in [0, 1] with that mean, zeros and ones vary most, so that the interval holds for any.
    """
    n, mean = reference.rows, reference.mean
    centre = (mean + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * math.sqrt(mean * (1 - mean) / n + _Z**2 / (4 * n**2))
    return max(centre - half, 0.0), min(centre + half, 1.0)
