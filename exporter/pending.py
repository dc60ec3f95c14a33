"""Predictions that wait for their label, by id."""

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

    def add(self, identifier: str, prediction: Prediction) -> list[Prediction]:
        """Add a prediction; returns those that no longer wait: one of the same id, or the oldest beyond the limit."""
        replaced = self._waiting.pop(identifier, None)
        self._waiting[identifier] = prediction
        if replaced is not None:
            return [replaced]
        return [self._pop_oldest()] if len(self._waiting) > self._limit else []

    def take(self, identifier: str | None) -> Prediction | None:
        """Remove and return the waiting prediction of that id, if there is one."""
        return None if identifier is None else self._waiting.pop(identifier, None)

    def expire(self, now: float) -> list[Prediction]:
        """Remove and return the predictions that have waited longer than the time to live."""
        expired = []
        while self._waiting and next(iter(self._waiting.values())).time + self._time_to_live < now:
            expired.append(self._pop_oldest())
        return expired

    def _pop_oldest(self) -> Prediction:
        return self._waiting.pop(next(iter(self._waiting)))
