"""What time it is, as far as one reading of the system's clock can be trusted.

A clock that leaps for a few seconds must not empty windows, give up what waits or refuse events, for that cannot be
undone. So the time goes on by a clock that nobody sets, and follows the system's once it has stood by a leap for
minutes.
"""

import logging
import time
from collections.abc import Callable

LEAP_SECONDS = 60.0
"""By how much the system's clock must differ to be doubted; less than that is followed at once."""

LASTING_SECONDS = 120.0
"""How long it must differ to be believed."""

_log = logging.getLogger(__name__)


def elapsed() -> float:
    """Return seconds that nobody sets, those in which the machine slept included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class Clock:
    """The time by two clocks: `wall` may be set (Unix seconds), `steady` never is (seconds)."""

    def __init__(self, wall: Callable[[], float] = time.time, steady: Callable[[], float] = elapsed) -> None:
        self._wall = wall
        self._steady = steady
        self._offset = wall() - steady()
        self._leapt: tuple[float, float] | None = None
        """The offset to which the system's clock has leapt, and since when (by `steady`)."""

    def now(self) -> float:
        """Return Unix seconds."""
        steady = self._steady()
        offset = self._wall() - steady
        if abs(offset - self._offset) <= LEAP_SECONDS:
            self._offset, self._leapt = offset, None
        elif self._leapt is None or abs(offset - self._leapt[0]) > LEAP_SECONDS:
            self._leapt = offset, steady
            _log.warning(
                "the system's clock has leapt by %.0f s: it is believed if it stands by that for %.0f s",
                offset - self._offset,
                LASTING_SECONDS,
            )
        elif steady - self._leapt[1] >= LASTING_SECONDS:
            _log.warning("the system's clock stands by its leap of %.0f s, and is believed", offset - self._offset)
            self._offset, self._leapt = offset, None
        return steady + self._offset


now = Clock().now
"""The time that events arrive by, and by which windows move on and what waits is given up (Unix seconds)."""
