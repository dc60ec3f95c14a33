"""Detectors of change that read a stream of numbers in [0, 1] as it comes, and may be looked at after every number.

They are no sums: their state is their own, taken and given back by `state` and `restore`.
"""

import math
from itertools import count
from operator import add
from typing import Any, Literal, NamedTuple, Protocol

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


_ORDINALS = np.arange(1, 2049)  # of numbers read at once


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
        self._fading = alpha**_ORDINALS
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
            start += self._read(values[start : start + len(_ORDINALS)])

    def _read(self, values: F64) -> int:
        """Read up to and including the first change; returns how many numbers that were."""
        n = self._n + _ORDINALS[: len(values)]
        totals = self._total + np.cumsum(values)
        deviation = values - totals / n
        fading = self._fading[: len(values)]
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


class _Level(NamedTuple):
    """Buckets of one size, oldest first: their totals, and squared deviations from their own means."""

    totals: list[float]
    squares: list[float]


class Adwin:
    """Adaptive windowing (Bifet and Gavaldà 2007, SDM): the longest recent window whose two parts have equal means.

    The window is a histogram of buckets whose sizes are `block` times powers of two, at most `max_buckets` of each. A
    change is where the means before and after some boundary differ by more than Bernstein's bound for `delta`; what
    lies before the clearest such boundary is forgotten at once, so that one change is one alarm (the paper forgets one
    bucket at a time, River everything). Boundaries are examined every 32 numbers, in longer windows every 1/16 of their
    length up to every 2048. With `block` 1 and `clock` 32 a first change is found when River's `ADWIN` finds it.
    """

    def __init__(
        self, delta: float = 0.002, *, block: int = 32, clock: int | None = None, max_buckets: int = 5
    ) -> None:
        self._delta = delta
        self._block = block
        self._clock = clock
        self._max_buckets = max_buckets
        self.changes = 0
        self._levels: list[_Level] = []  # of buckets of `block`, twice as many, … numbers
        self._since = 0
        self._partial = np.empty(0)

    @property
    def width(self) -> int:
        """Number of values in the window."""
        return sum(len(level.totals) << number for number, level in enumerate(self._levels)) * self._block

    def update(self, values: F64) -> None:
        """Read further numbers, (n,)."""
        values = np.concatenate([self._partial, values])
        blocks = len(values) // self._block
        self._partial = values[blocks * self._block :]
        table = values[: blocks * self._block].reshape(blocks, self._block)
        totals = table.sum(axis=1)
        squares = np.square(table - totals[:, np.newaxis] / self._block).sum(axis=1)
        width, start = self.width, 0
        while start < blocks:
            wanted = max(math.ceil((self._pause(width) - self._since) / self._block), 1)
            stop = min(start + wanted, blocks)
            self._insert(totals[start:stop].tolist(), squares[start:stop].tolist())
            width += (stop - start) * self._block
            self._since += (stop - start) * self._block
            start = stop
            if self._since >= self._pause(width):
                self._since = 0
                self._examine()
                width = self.width

    def _pause(self, width: int) -> float:
        """Return how many numbers to read between two looks at a window of that many."""
        return self._clock or min(max(width / 16, 32), 2048)

    def _insert(self, totals: list[float], squares: list[float]) -> None:
        """Append blocks, and merge the oldest two buckets of a size, from the smallest on, while there are too many."""
        size = self._block
        for number in count():
            if number == len(self._levels):
                self._levels.append(_Level([], []))
            level = self._levels[number]
            level.totals.extend(totals)
            level.squares.extend(squares)
            merged = 2 * max((len(level.totals) - self._max_buckets + 1) // 2, 0)
            if not merged:
                return
            left, right = level.totals[:merged:2], level.totals[1:merged:2]
            squares = [
                a + b + (x - y) ** 2 / (2 * size)
                for a, b, x, y in zip(level.squares[:merged:2], level.squares[1:merged:2], left, right, strict=True)
            ]
            totals = list(map(add, left, right))
            del level.totals[:merged], level.squares[:merged]
            size *= 2

    def _examine(self) -> None:
        """Forget what lies before the clearest change, as long as there is one."""
        changed = False
        while (boundary := self._clearest_change()) > 0:
            for level in reversed(self._levels):
                forgotten = min(boundary, len(level.totals))
                del level.totals[:forgotten], level.squares[:forgotten]
                boundary -= forgotten
            changed = True
        self.changes += changed

    def _buckets(self) -> tuple[F64, F64, F64]:
        """Return size, total and squared deviations of every bucket, oldest first."""
        levels = list(enumerate(self._levels))[::-1]
        sizes = np.repeat([float(self._block << n) for n, _ in levels], [len(level.totals) for _, level in levels])
        totals = np.array([total for _, level in levels for total in level.totals])
        return sizes, totals, np.array([square for _, level in levels for square in level.squares])

    def _clearest_change(self) -> int:
        """Return the number of buckets before the boundary whose sides differ most beyond the bound, 0 for none."""
        sizes, totals, squares = self._buckets()
        if len(sizes) < 2:
            return 0
        before, total_before = np.cumsum(sizes)[:-1], np.cumsum(totals)[:-1]
        n, total = sizes.sum(), totals.sum()
        after = n - before
        variance = (squares.sum() + np.square(totals - total / n * sizes) @ (1 / sizes)) / n
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
            **dict(zip(("sizes", "totals", "squares"), self._buckets(), strict=True)),
            "since": self._since,
            "partial": self._partial.copy(),
        }

    def restore(self, state: State) -> None:
        """Go on from a state."""
        self.changes, self._since = int(state["changes"]), int(state["since"])
        self._levels = []
        buckets = np.stack([state[name] for name in ("sizes", "totals", "squares")], axis=1)
        for size, total, square in buckets.tolist():
            number = round(math.log2(size / self._block))
            self._levels += [_Level([], []) for _ in range(number + 1 - len(self._levels))]
            self._levels[number].totals.append(total)
            self._levels[number].squares.append(square)
        self._partial = np.array(state["partial"], np.float64)


_LEAST_PART = 5
