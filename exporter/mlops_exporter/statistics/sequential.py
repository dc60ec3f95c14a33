"""Detectors of change that read a stream of numbers in [0, 1] as it comes, and may be looked at after every number.

They are no sums: their state is their own, taken and given back by `state` and `restore`.
"""

import math
from typing import Any, Literal

import numpy as np

from mlops_exporter.arrays import Floats, Ints

Direction = Literal["up", "down"]
State = dict[str, Any]


class ChangeEvidence:
    """Anytime-valid evidence that a stream's mean has risen above (fallen below) `mean`: an e-process.

    A gambler bets on every block of numbers that it lies beyond the mean. Unless the mean truly moves, no stake gains
    in expectation, so that the wealth exceeds 1/α with probability at most α, *ever*, however often one looks (Ville
    1939; betting on means: Waudby-Smith and Ramdas 2024, J. R. Stat. Soc. B 86(1)). So that a change after a long calm
    is seen soon, the initial wealth is spread over all times of a first bet (Shin, Ramdas and Rinaldo 2023,
    e-detectors): a fifth is bet at once, and of the rest 1 / (1 + ln (1 + t / T)) is still unspent after t bets. With
    T = 2500 bets, 20,000 numbers, that costs next to nothing in the first weeks, and ln t later on, which no bound for
    all time can do without. And the wealth is spread over several stakes, since the size of the change is unknown.

    Zeros and ones, `binary`, are bet on one by one: a stake is then the likelihood ratio of a mean, and makes the most
    of each (Kelly 1956, Bell Syst. Tech. J. 35(4)). Of other numbers, whose variance may be far smaller, the mean of
    each block is bet on.
    Wealth beyond e^`most` is thrown away, so that the evidence can go when the change does.
    """

    def __init__(self, mean: float, direction: Direction = "up", *, most: float = 25.0, binary: bool = False) -> None:
        if not 0 <= mean <= 1:
            raise ValueError(f"the mean of numbers in [0, 1] lies there too, not at {mean}")
        self._mean = min(max(mean, _MARGIN), 1 - _MARGIN)
        sign = 1.0 if direction == "up" else -1.0
        largest = 0.9 / (self._mean if direction == "up" else 1 - self._mean)  # keeps the wealth positive
        self._binary = binary
        self._stakes = sign * largest * 4.0 ** -np.arange(_STAKES)[:, np.newaxis]
        odds = self._mean / (1 - self._mean) * _ODDS_RATIOS[:, np.newaxis] ** sign
        self._of_one = np.log(odds / (1 + odds) / self._mean)
        self._of_zero = -np.log((1 + odds) * (1 - self._mean))
        self._most = most
        self._steps = 0
        self._log_wealth = np.full(_STAKES, -np.inf)  # of what has been bet so far
        self._partial = np.empty(0)
        self._share = 1.0  # of what is unspent, that which a state of an older rule had left

    @property
    def log_evidence(self) -> float:
        """Natural logarithm of the wealth, 0 at the start; ln(1/α) is reached with probability α at most."""
        waiting = math.log(self._share * float(_unspent(np.array(self._steps))))
        return float(np.logaddexp(np.logaddexp.reduce(self._log_wealth) - math.log(_STAKES), waiting))

    def update(self, values: Floats) -> None:
        """Read further numbers, (n,)."""
        values = np.concatenate([self._partial, values])
        blocks = len(values) // _BET_BLOCK
        self._partial = values[blocks * _BET_BLOCK :]
        means = values[: blocks * _BET_BLOCK].reshape(blocks, _BET_BLOCK).mean(axis=1)
        for start in range(0, blocks, _CHUNK):
            self._bet(means[start : start + _CHUNK])

    def _log_gains(self, means: Floats) -> Floats:
        """Return the logarithm of what each stake makes of each block, (stakes, blocks).

        Numbers between 0 and 1 would gain at least as much as their share of zeros and ones (Jensen).
        """
        if self._binary:
            return _BET_BLOCK * (means * self._of_one + (1 - means) * self._of_zero)
        return np.log1p(self._stakes * (means - self._mean))

    def _bet(self, means: Floats) -> None:
        gains = np.cumsum(self._log_gains(means), axis=1)
        unspent = self._share * _unspent(np.arange(self._steps, self._steps + len(means) + 1))
        # Whoever begins with bet s has what all bets from s on gained: the sum of all but those before s.
        starts = np.concatenate([np.zeros((_STAKES, 1)), gains[:, :-1]], axis=1)
        begun = np.logaddexp.reduce(np.log(-np.diff(unspent)) - starts, axis=1)
        self._log_wealth = np.minimum(gains[:, -1] + np.logaddexp(self._log_wealth, begun), self._most)
        self._steps += len(means)

    def state(self) -> State:
        """Return what `restore` needs."""
        return {
            "steps": self._steps,
            "log_wealth": self._log_wealth.copy(),
            "partial": self._partial.copy(),
            "share": self._share,
        }

    def restore(self, state: State) -> None:
        """Go on from a state; one without `share` is of an older rule, which spent more at first, on other stakes.

        A gambler may deal his wealth anew whenever he likes: what was bet goes to all stakes alike.
        """
        self._steps = int(state["steps"])
        self._log_wealth = np.array(state["log_wealth"], np.float64)
        self._partial = np.array(state["partial"], np.float64)
        if "share" in state:
            self._share = float(state["share"])
        else:
            unspent = math.log(2) / math.log(self._steps + 2)
            self._share = min(unspent / float(_unspent(np.array(self._steps))), 1.0)
            self._log_wealth[:] = np.logaddexp.reduce(self._log_wealth) - math.log(_STAKES)


def _unspent(bets: Ints) -> Floats:
    """Return the share of the initial wealth that is not yet spent after so many bets."""
    found: Floats = np.where(bets > 0, (1 - _AT_ONCE) / (1 + np.log1p(bets / _CALM)), 1.0)
    return found


_MARGIN = 1e-4
_STAKES = 4
_ODDS_RATIOS = np.array([1.15, 1.35, 1.8, 3.5])
_BET_BLOCK = 8  # numbers per bet
_AT_ONCE = 0.2
_CALM = 2500.0
_CHUNK = 512
