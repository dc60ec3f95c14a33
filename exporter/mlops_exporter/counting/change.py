"""Watches the streams of a model version for changes as they happen.

What is kept here is no sum: it belongs to this replica and to the order in which its events came, not to the ledger.
That order is by the events' own time. What comes later than that, or happened before any window begins, is history: it
is counted where it belongs, and says nothing of a change now.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from mlops_exporter.arrays import Floats
from mlops_exporter.counting.ledger import Outputs
from mlops_exporter.counting.streams import Stream, values
from mlops_exporter.profile.fitted import StreamReference
from mlops_exporter.profile.profile import Profile
from mlops_exporter.settings.models import ChangeSettings
from mlops_exporter.statistics.sequential import ChangeEvidence

_Z = 3.0902323061678132  # 99.9 % quantile of the standard normal distribution
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


class ChangeMonitor:
    """The monitors of all streams of a model version; its windows go back so far by the clock (seconds, ascending)."""

    def __init__(self, profile: Profile, settings: ChangeSettings, reaches: Sequence[float]) -> None:
        self._profile = profile
        self._lateness, self._horizon = reaches[0], reaches[-1]
        self._rule = [settings.false_alarm_probability, settings.tolerance]
        self.streams: dict[Stream, StreamMonitor] = {
            name: StreamMonitor(
                reference, settings, both=name == "score", binary=name == "error" and bool(profile.classes)
            )
            for name, reference in profile.streams.items()
        }

    def observe(self, stream: Stream, outputs: Outputs, labels: Floats, time: float, now: float) -> None:
        """Read further outputs of about one time, with their labels where the stream is that of the errors.

        Nothing is read that no window shows `now`, or that is older than the latest by more than the shortest window.
        """
        monitor = self.streams.get(stream)
        if monitor is None or time <= now - self._horizon or time < monitor.latest - self._lateness:
            return
        reference = self._profile.streams[stream]
        monitor.update(values(self._profile, stream, (reference.offset, reference.scale), outputs, labels), time)

    def forget_after(self, now: float) -> None:
        """Forget times that a clock which was ahead has made."""
        for monitor in self.streams.values():
            monitor.latest = min(monitor.latest, now)

    def state(self) -> dict[str, Any]:
        """Return what `restore` needs, as a tree of arrays and numbers."""
        return {"rule": self._rule, **{name: monitor.state() for name, monitor in self.streams.items()}}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state of the same settings: evidence by one rule says nothing by another."""
        if state.get("rule") != self._rule:
            return
        for name, monitor in self.streams.items():
            if name in state:
                monitor.restore(state[name])


def _reference_range(reference: StreamReference) -> tuple[float, float]:
    """Return where the mean of the reference's population lies with 99.8 %: Wilson's interval.

    Of all numbers in [0, 1] with that mean, zeros and ones vary most, so that the interval holds for any.
    """
    n, mean = reference.rows, reference.mean
    centre = (mean + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * math.sqrt(mean * (1 - mean) / n + _Z**2 / (4 * n**2))
    return max(centre - half, 0.0), min(centre + half, 1.0)
