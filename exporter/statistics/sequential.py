"""Detectors of change that read a stream of numbers in [0, 1] as it comes, and may be looked at after every number.

They are no sums: their state is their own, taken and given back by `state` and `restore`.
"""

import math
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
Direction = Literal["up", "down"]
State = dict[str, Any]


class Detector(Protocol):
    """What reads a stream, in batches and in order, and can stop and go on."""

    def update(self, values: F64) -> None:
        """Read further numbers, (n,)."""
        ...

    def state(self) -> State:
        """Return what `restore` needs: numbers and arrays."""
        ...

    def restore(self, state: State) -> None:
        """Go on from a state."""
        ...


class ChangeEvidence:
    """Anytime-valid evidence that a stream's mean has risen above (fallen below) `mean`: an e-process.

    A gambler bets on every block of numbers that it lies beyond the mean. Unless the mean truly moves, no stake gains
    in expectation, so that the wealth exceeds 1/α with probability at most α, *ever*, however often one looks (Ville
    1939; betting on means: Waudby-Smith and Ramdas 2024, J. R. Stat. Soc. B 86(1)). So that a change after a long calm
    is seen soon, the initial wealth is spread over all times t of a first bet (Shin, Ramdas and Rinaldo 2023,
    e-detectors): a share ln 2 / ln (t + 2) is still unspent after t bets. And it is spread over several stakes, since
    the size of the change is unknown.
    Wealth beyond e^`most` is thrown away, so that the evidence can go when the change does.
    """

    def __init__(self, mean: float, direction: Direction = "up", *, most: float = 25.0) -> None:
        if not 0 <= mean <= 1:
            raise ValueError(f"the mean of numbers in [0, 1] lies there too, not at {mean}")
        self._mean = min(max(mean, _MARGIN), 1 - _MARGIN)
        self._sign = 1.0 if direction == "up" else -1.0
        largest = 0.9 / (self._mean if direction == "up" else 1 - self._mean)  # keeps the wealth positive
        self._stakes = self._sign * largest * 4.0 ** -np.arange(_STAKES)[:, np.newaxis]
        self._most = most
        self._steps = 0
        self._log_wealth = np.full(_STAKES, -np.inf)  # of what has been bet so far
        self._partial = np.empty(0)

    @property
    def log_evidence(self) -> float:
        """Natural logarithm of the wealth, about 0 at the start; ln(1/α) is reached with probability α at most."""
        waiting = math.log(math.log(2) / math.log(self._steps + 2))
        return float(np.logaddexp(np.logaddexp.reduce(self._log_wealth) - math.log(_STAKES), waiting))

    def update(self, values: F64) -> None:
        """Read further numbers, (n,)."""
        values = np.concatenate([self._partial, values])
        blocks = len(values) // _BET_BLOCK
        self._partial = values[blocks * _BET_BLOCK :]
        means = values[: blocks * _BET_BLOCK].reshape(blocks, _BET_BLOCK).mean(axis=1)
        for start in range(0, blocks, _CHUNK):
            self._bet(means[start : start + _CHUNK])

    def _bet(self, values: F64) -> None:
        gains = np.cumsum(np.log1p(self._stakes * (values - self._mean)), axis=1)
        unspent = math.log(2) / np.log(self._steps + np.arange(2, len(values) + 3))
        # Whoever begins with bet s has what all bets from s on gained: the sum of all but those before s.
        starts = np.concatenate([np.zeros((_STAKES, 1)), gains[:, :-1]], axis=1)
        begun = np.logaddexp.reduce(np.log(-np.diff(unspent)) - starts, axis=1)
        self._log_wealth = np.minimum(gains[:, -1] + np.logaddexp(self._log_wealth, begun), self._most)
        self._steps += len(values)

    def state(self) -> State:
        """Return what `restore` needs."""
        return {"steps": self._steps, "log_wealth": self._log_wealth.copy(), "partial": self._partial.copy()}

    def restore(self, state: State) -> None:
        """Go on from a state."""
        self._steps = int(state["steps"])
        self._log_wealth = np.array(state["log_wealth"], np.float64)
        self._partial = np.array(state["partial"], np.float64)


_MARGIN = 1e-4
_STAKES = 4
_BET_BLOCK = 8  # numbers per bet
_CHUNK = 512


class PageHinkley:
    """Page–Hinkley test (Page 1954, Biometrika 41; Hinkley 1971): a cumulative sum of deviations from the mean so far.

    A change is where that sum, forgetting at the rate `alpha`, has risen (fallen) from its least (greatest) value by
    more than `threshold`; deviations up to `delta` are allowed for. The test begins anew after a change. Its
    false-alarm rate is not controlled. Equal to River's `PageHinkley`.
    """

    def __init__(
        self,
        direction: Direction | Literal["both"] = "both",
        *,
        delta: float = 0.005,
        threshold: float = 50.0,
        alpha: float = 0.9999,
        min_instances: int = 30,
    ) -> None:
        self._up, self._down = direction in ("up", "both"), direction in ("down", "both")
        self._delta, self._threshold, self._alpha = delta, threshold, alpha
        self._min_instances = min_instances
        self.changes = 0
        self._reset()

    def _reset(self) -> None:
        self._n, self._total = 0, 0.0
        self._rise, self._fall = 0.0, 0.0
        self._least, self._greatest = math.inf, -1.0

    def update(self, values: F64) -> None:
        """Read further numbers, (n,)."""
        start = 0
        while start < len(values):
            start += self._read(values[start : start + _CHUNK])

    def _read(self, values: F64) -> int:
        """Read up to and including the first change; returns how many numbers that were."""
        n = self._n + np.arange(1, len(values) + 1)
        totals = self._total + np.cumsum(values)
        deviation = values - totals / n
        fading = self._alpha ** np.arange(1, len(values) + 1)
        rise = fading * (self._rise + np.cumsum((deviation - self._delta) / fading))
        fall = fading * (self._fall + np.cumsum((deviation + self._delta) / fading))
        least = np.minimum(np.minimum.accumulate(rise), self._least)
        greatest = np.maximum(np.maximum.accumulate(fall), self._greatest)
        beyond = np.zeros(len(values), np.bool_)
        if self._up:
            beyond |= rise - least > self._threshold
        if self._down:
            beyond |= greatest - fall > self._threshold
        beyond &= n >= self._min_instances
        if beyond.any():
            self.changes += 1
            self._reset()
            return int(beyond.argmax()) + 1
        self._n, self._total = int(n[-1]), float(totals[-1])
        self._rise, self._fall = float(rise[-1]), float(fall[-1])
        self._least, self._greatest = float(least[-1]), float(greatest[-1])
        return len(values)

    def state(self) -> State:
        """Return what `restore` needs."""
        return {name: getattr(self, name) for name in _PAGE_HINKLEY}

    def restore(self, state: State) -> None:
        """Go on from a state."""
        for name in _PAGE_HINKLEY:
            setattr(self, name, state[name])


_PAGE_HINKLEY = ("changes", "_n", "_total", "_rise", "_fall", "_least", "_greatest")


class Adwin:
    """Adaptive windowing (Bifet and Gavaldà 2007, SDM): the longest recent window whose two parts have equal means.

    The window is a histogram of buckets whose sizes are `block` times powers of two, at most `max_buckets` of each. A
    change is where the means before and after some boundary differ by more than Bernstein's bound for `delta`; what
    lies before the clearest such boundary is forgotten at once, so that one change is one alarm (the paper forgets one
    bucket at a time, River everything). Boundaries are examined every 32 numbers, in longer windows every 1/16 of their
    length up to every 512. With `block` 1 and `clock` 32 a first change is found when River's `ADWIN` finds it.
    """

    def __init__(
        self, delta: float = 0.002, *, block: int = 32, clock: int | None = None, max_buckets: int = 5
    ) -> None:
        self._delta = delta
        self._block = block
        self._clock = clock
        self._max_buckets = max_buckets
        self.changes = 0
        self._sizes: list[int] = []  # oldest first
        self._totals: list[float] = []
        self._squares: list[float] = []  # squared deviations from the bucket's own mean
        self._since = 0
        self._partial = np.empty(0)

    @property
    def width(self) -> int:
        """Number of values in the window."""
        return sum(self._sizes)

    def update(self, values: F64) -> None:
        """Read further numbers, (n,)."""
        values = np.concatenate([self._partial, values])
        blocks = len(values) // self._block
        self._partial = values[blocks * self._block :]
        table = values[: blocks * self._block].reshape(blocks, self._block)
        totals = table.sum(axis=1)
        squares = np.square(table - totals[:, np.newaxis] / self._block).sum(axis=1)
        for total, square in zip(totals.tolist(), squares.tolist(), strict=True):
            self._insert(total, square)
            self._since += self._block
            if self._since >= (self._clock or min(max(self.width / 16, 32), 512)):
                self._since = 0
                self._examine()

    def _insert(self, total: float, square: float) -> None:
        sizes, totals, squares = self._sizes, self._totals, self._squares
        sizes.append(self._block)
        totals.append(total)
        squares.append(square)
        end, size = len(sizes), self._block
        while True:
            start = end
            while start and sizes[start - 1] == size:
                start -= 1
            if end - start <= self._max_buckets:
                return
            left, right = totals[start], totals[start + 1]
            squares[start] += squares[start + 1] + (left - right) ** 2 / (2 * size)
            totals[start] = left + right
            sizes[start] = 2 * size
            del sizes[start + 1], totals[start + 1], squares[start + 1]
            end, size = start + 1, 2 * size

    def _examine(self) -> None:
        """Forget what lies before the clearest change, as long as there is one."""
        changed = False
        while (boundary := self._clearest_change()) > 0:
            del self._sizes[:boundary], self._totals[:boundary], self._squares[:boundary]
            changed = True
        self.changes += changed

    def _clearest_change(self) -> int:
        """Return the number of buckets before the boundary whose sides differ most beyond the bound, 0 for none."""
        if len(self._sizes) < 2:
            return 0
        sizes = np.array(self._sizes, np.float64)
        totals = np.array(self._totals)
        before, total_before = np.cumsum(sizes)[:-1], np.cumsum(totals)[:-1]
        n, total = sizes.sum(), totals.sum()
        after = n - before
        variance = (sum(self._squares) + np.square(totals - total / n * sizes) @ (1 / sizes)) / n
        logarithm = math.log(2 * math.log(n) / self._delta)
        spread = 1 / np.maximum(before - _LEAST_PART + 1, 1) + 1 / np.maximum(after - _LEAST_PART + 1, 1)
        bound = np.sqrt(2 * spread * variance * logarithm) + 2 / 3 * spread * logarithm
        beyond = np.abs(total_before / before - (total - total_before) / after) / bound
        beyond[(before < _LEAST_PART) | (after < _LEAST_PART)] = 0.0
        clearest = int(beyond.argmax())
        return clearest + 1 if beyond[clearest] > 1 else 0

    def state(self) -> State:
        """Return what `restore` needs."""
        return {
            "changes": self.changes,
            "sizes": np.array(self._sizes, np.int64),
            "totals": np.array(self._totals, np.float64),
            "squares": np.array(self._squares, np.float64),
            "since": self._since,
            "partial": self._partial.copy(),
        }

    def restore(self, state: State) -> None:
        """Go on from a state."""
        self.changes, self._since = int(state["changes"]), int(state["since"])
        self._sizes, self._totals, self._squares = (
            np.array(state[name]).tolist() for name in ("sizes", "totals", "squares")
        )
        self._partial = np.array(state["partial"], np.float64)


_LEAST_PART = 5
