"""Detectors of change that read a stream of numbers in [0, 1] as it comes, and may be looked at after every number.

They are no sums: their state is their own, taken and given back by `state` and `restore`.
"""

import math
from typing import Any, Literal

import numpy as np

from mlops_exporter.arrays import Floats

Direction = Literal["up", "down"]
State = dict[str, Any]


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

    def update(self, values: Floats) -> None:
        """Read further numbers, (n,)."""
        values = np.concatenate([self._partial, values])
        blocks = len(values) // _BET_BLOCK
        self._partial = values[blocks * _BET_BLOCK :]
        means = values[: blocks * _BET_BLOCK].reshape(blocks, _BET_BLOCK).mean(axis=1)
        for start in range(0, blocks, _CHUNK):
            self._bet(means[start : start + _CHUNK])

    def _bet(self, values: Floats) -> None:
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
