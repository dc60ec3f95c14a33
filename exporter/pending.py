"""Predictions that wait for their label, by id."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Prediction(NamedTuple):
    """What must be kept of a prediction until its label comes; `outputs` are its class code or number, and scores."""

    time: float
    version: str
    outputs: tuple[float, ...]


class Pending:
    """Waiting predictions of one model, oldest first; the oldest give way when there are more than `limit`."""

    def __init__(self, time_to_live: float, limit: int) -> None:
        self._time_to_live = time_to_live
        self._limit = limit
        self._waiting: dict[str, Prediction] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, ids: Iterable[str], predictions: Iterable[Prediction]) -> list[Prediction]:
        """Add predictions; returns those that had to give way. A repeated id replaces the earlier prediction."""
        self._waiting.update(zip(ids, predictions, strict=True))
        return [self._pop_oldest() for _ in range(len(self._waiting) - self._limit)]

    def take(self, ids: Sequence[str]) -> list[Prediction | None]:
        """Remove and return the prediction of each id, None where none waits."""
        return [self._waiting.pop(identifier, None) for identifier in ids]

    def expire(self, now: float) -> list[Prediction]:
        """Remove and return the predictions that have waited longer than the time to live."""
        expired = []
        while self._waiting and next(iter(self._waiting.values())).time + self._time_to_live < now:
            expired.append(self._pop_oldest())
        return expired

    def _pop_oldest(self) -> Prediction:
        return self._waiting.pop(next(iter(self._waiting)))
