"""Steady traffic in three ways at once, with exact books of what was sent.

Every event carries a feature `slot`, which neighbours share: a body that is lost and another that is counted twice fall
into different slots, so that the exporter's own counters, slot by slot, tell the one from the other.
"""

import json
import math
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
from redis import Redis, exceptions

from tests.support.pipeline import Event, Exposition

PERIOD = 0.1
"""Seconds from batch to batch."""

PATIENCE_SECONDS = 60.0
"""How long, once sending is to end, the last batches may take."""

SLOTS = 60
SLOT_EVENTS = 25
LABEL_AFTER = 20
"""Batches after which predictions get their label."""

WITHHELD = 5
"""One batch of so many gets its labels in a burst only."""

AHEAD = 3600.0
"""A `ts` so far ahead is refused."""

_LOST = (httpx.TransportError, OSError)


class Account:
    """Predictions by slot and labels by confusion cell. What is sent is booked before it is on its way."""

    def __init__(self, model: str) -> None:
        self.model = model
        self.predictions: Counter[str] = Counter()
        self.labels: Counter[str] = Counter()
        self.sent = 0
        self.acknowledged = 0
        self.refused = 0

    def difference(self, shown: Exposition) -> tuple[int, int]:
        """Events (lost, counted twice), as a scrape shows."""
        slots = shown.by("bin", "ml_feature_values_total", model=self.model, feature="slot")
        cells = shown.series("ml_model_confusion_total", model=self.model)
        labels = {f"{dict(cell)['predicted']}{dict(cell)['actual']}": count for cell, count in cells.items()}
        pairs = [lost_and_doubled(self.predictions, slots), lost_and_doubled(self.labels, labels)]
        return sum(lost for lost, _ in pairs), sum(doubled for _, doubled in pairs)


def lost_and_doubled(sent: Counter[str], counted: dict[str, float]) -> tuple[int, int]:
    """What is missing from the counts of each name, and what is too much."""
    gaps = [round(sent[name] - counted.get(name, 0)) for name in sent.keys() | counted.keys()]
    return sum(gap for gap in gaps if gap > 0), -sum(gap for gap in gaps if gap < 0)


class Sender(threading.Thread):
    """Sends a batch each PERIOD until stopped. `error` is why it ended early."""

    model = ""
    batch = 20

    def __init__(self) -> None:
        super().__init__(name=self.model)
        self.account = Account(self.model)
        self.leap = 0.0
        """What is added to the time of events; at 0 they carry none."""
        self.error: Exception | None = None
        self._stop_sending = threading.Event()
        self._deadline = math.inf
        self._random = random.Random(self.model)
        self._number = 0

    def run(self) -> None:
        """Send until stopped, then what is held back."""
        try:
            while not self._stop_sending.is_set():
                begin = time.monotonic()
                self.send()
                self._stop_sending.wait(max(0.0, begin + PERIOD - time.monotonic()))
            self.finish()
        except Exception as error:
            self.error = error

    def stop(self) -> None:
        """Let `run` end, once all is sent that is booked."""
        self._deadline = time.monotonic() + PATIENCE_SECONDS
        self._stop_sending.set()

    def pause(self, seconds: float) -> None:
        """Wait before something is sent again; raises TimeoutError when that has been done for too long."""
        if time.monotonic() > self._deadline:
            raise TimeoutError("nobody takes what is left to be sent")
        time.sleep(seconds)

    def send(self) -> None:
        """Send the next batch, however long it takes."""
        raise NotImplementedError

    def finish(self) -> None:
        """Send what is held back."""

    def events(self, count: int) -> Iterator[Event]:
        """The next predictions, without label; `ts` as the leap says."""
        leap, now = self.leap, time.time()
        for _ in range(count):
            score = round(self._random.random(), 3)
            event: Event = {
                "model": self.model,
                "version": "1",
                "features": {
                    "slot": f"s{self._number // SLOT_EVENTS % SLOTS}",
                    "amount": round(self._random.gauss(100, 10), 2),
                    "age": self._number % 80,
                    "country": self._random.choice(("DE", "FR")),
                },
                "score": score,
                "prediction": int(score >= 0.5),
            }
            if leap:
                event["ts"] = now + leap
            self._number += 1
            yield event

    def label(self) -> int:
        """A label."""
        return int(self._random.random() < 0.5)


def ndjson(events: Sequence[Event]) -> bytes:
    """The events, a line each."""
    return b"".join(json.dumps(event, separators=(",", ":")).encode() + b"\n" for event in events)


class Pushed(Sender):
    """Over HTTP, with ids: predictions, later their labels. A body whose answer was lost is sent again."""

    model = "pushed"
    batch = 50

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url
        self._client = httpx.Client(trust_env=False, timeout=15)
        self._waiting: deque[list[tuple[str, int]]] = deque()
        self._withheld: list[tuple[str, int]] = []
        self._batches = 0
        self.burst = threading.Event()
        """Set, it lets all labels that are held back go at once."""

    def send(self) -> None:
        """Send predictions, and the labels that are due."""
        ahead = self.leap >= AHEAD
        predictions = [event | {"id": f"p{self._number}"} for event in self.events(self.batch)]
        if ahead:
            answer = self.post(predictions)
            assert answer["rejected"] == self.batch, f"events from the future were taken: {answer}"
            self.account.refused += self.batch
            return
        self.account.predictions.update(event["features"]["slot"] for event in predictions)
        self._deliver(predictions)
        self._waiting.append([(event["id"], event["prediction"]) for event in predictions])
        self._batches += 1
        if self._batches % WITHHELD == 0:
            self._withheld += self._waiting.pop()
        if len(self._waiting) > LABEL_AFTER:
            self._send_labels(self._waiting.popleft())
        if self.burst.is_set():
            self._release()
            self.burst.clear()

    def finish(self) -> None:
        """Send all labels that are still due."""
        self._withheld += [pair for batch in self._waiting for pair in batch]
        self._release()
        self._client.close()

    def _release(self) -> None:
        withheld, self._withheld = self._withheld, []
        for start in range(0, len(withheld), 5000):
            self._send_labels(withheld[start : start + 5000])

    def _send_labels(self, pairs: Sequence[tuple[str, int]]) -> None:
        labels = [self.label() for _ in pairs]
        self.account.labels.update(f"{prediction}{label}" for (_, prediction), label in zip(pairs, labels, strict=True))
        self._deliver(
            [{"model": self.model, "id": id_, "label": label} for (id_, _), label in zip(pairs, labels, strict=True)]
        )

    def _deliver(self, events: Sequence[Event]) -> None:
        """Send events of which none may be refused."""
        self.account.sent += len(events)
        answer = self.post(events)
        assert answer["rejected"] == 0, f"good events were refused: {answer}"
        self.account.acknowledged += len(events)

    def post(self, events: Sequence[Event]) -> dict[str, int]:
        """Send events until they are answered; returns the answer."""
        body = ndjson(events)
        while True:
            try:
                answer = self._client.post(
                    f"{self._url}/v1/events", content=body, headers={"content-type": "application/x-ndjson"}
                )
            except _LOST:
                self.pause(PERIOD)
                continue
            if answer.status_code in (429, 503):
                self.pause(min(1.0, float(answer.headers["retry-after"])))
                continue
            assert answer.status_code in (202, 400), answer.text  # 400: no event of the body was good
            result: dict[str, int] = answer.json()
            return result


class Pulled(Sender):
    """What the exporter fetches: no ids, by which the intake could tell that an event comes twice."""

    def next_batch(self) -> bytes:
        """Book and return labelled predictions."""
        events = [event | {"label": self.label()} for event in self.events(self.batch)]
        self.account.predictions.update(event["features"]["slot"] for event in events)
        self.account.labels.update(f"{event['prediction']}{event['label']}" for event in events)
        self.account.sent += len(events)
        return ndjson(events)


class Queued(Pulled):
    """A Redis stream. The entry's own id makes it certain that a repeated XADD adds nothing."""

    model = "queued"
    stream = "events"

    def __init__(self, port: int) -> None:
        super().__init__()
        self._client = Redis(port=port, protocol=2, socket_timeout=5)
        self._entry = 0

    def send(self) -> None:
        """Add an entry, again and again while Redis does not answer."""
        body = self.next_batch()
        self._entry += 1
        while True:
            try:
                self._client.xadd(self.stream, {"event": body}, id=f"{self._entry}-1")
            except (exceptions.ConnectionError, exceptions.TimeoutError):
                self.pause(PERIOD)
                continue
            except exceptions.ResponseError as error:
                if "equal or smaller" not in str(error):
                    raise
            self.account.acknowledged += self.batch
            return

    def finish(self) -> None:
        """Close the connection."""
        self._client.close()


class Logged(Pulled):
    """A log file, which is rotated: renamed while the writer still has it open, later compressed, at last deleted."""

    model = "logged"

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._file = path.open("ab", buffering=0)
        self._reopen = threading.Event()

    def send(self) -> None:
        """Append lines."""
        if self._reopen.is_set():
            self._file.close()
            self._file = self._path.open("ab", buffering=0)
            self._reopen.clear()
        self._file.write(self.next_batch())
        self.account.acknowledged += self.batch

    def reopen(self) -> None:
        """Let the writer open its file anew."""
        self._reopen.set()

    def finish(self) -> None:
        """Close the file."""
        self._file.close()
