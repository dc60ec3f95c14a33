"""Make partial ledgers where the events are, and send them to an exporter.

    counts = LedgerCounter("mlops-exporter.yml", "credit", columns={"ts": "at", "score": "p", "label": "paid"})
    for batch in batches:                       # of Arrow
        counts.add(batch)
    send_ledgers("http://exporter:10042", counts.ledgers(producer="partition-7", epoch="2026-11-28"))

The exporter adds each ledger once by its producer, epoch and pane, so a task that is run again may send again. The
configuration and the profiles are those of the exporter. docs/partial-ledgers.md says what travels like this.
"""

import gzip
import random
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from pydantic import ValidationError

from mlops_exporter.counting.partial import MOST_LEDGERS, PartialLedger, encode
from mlops_exporter.counting.producer import Producer
from mlops_exporter.events.columns import Columns
from mlops_exporter.events.decoder import Decoder
from mlops_exporter.profile.bins import NumericVariable
from mlops_exporter.profile.profiles import Profiles
from mlops_exporter.service.configuration import read
from mlops_exporter.settings.access import AccessSettings
from mlops_exporter.settings.models import Limits, ModelSettings
from mlops_exporter.settings.tables import ColumnSettings
from mlops_exporter.sources.calls import CallError, call

__all__ = ["LedgerCounter", "LedgersNotSentError", "LedgersReceipt", "send_ledgers"]

BODY_BYTES = 4 * 1024 * 1024
_PAUSES = (0.5, 30.0)
_TIMEOUT = 60.0
_PATH = "/v1/ledgers"


@dataclass(frozen=True)
class Recipe:
    """How a model's events are counted, read once: it can be sent to whoever counts.

    `columns` are those of predictions, `late` those of labels that came later, in one row with their predictions.
    """

    settings: ModelSettings
    profiles: Profiles
    limits: Limits
    columns: ColumnSettings
    late: ColumnSettings
    timezone: str
    width: float | None

    @classmethod
    def read(
        cls,
        path: str | Path,
        model: str,
        *,
        columns: Mapping[str, Any] | None = None,
        late: Mapping[str, Any] | None = None,
        timezone: str = "UTC",
        width: float | None = None,
    ) -> "Recipe":
        """Read the configuration at `path`; raises as LedgerCounter does."""
        config, profiles = read(Path(path))
        settings = next((known for known in config.models if known.name == model), None)
        if settings is None:
            raise ValueError(f"no model {model!r} in {path}: there are {', '.join(m.name for m in config.models)}")
        try:
            of_events, of_labels = (ColumnSettings.model_validate(each or {}) for each in (columns, late))
        except ValidationError as error:
            raise ValueError(f"columns: {error}") from None
        return cls(settings, profiles[model], config.limits, of_events, of_labels, timezone, width)

    @property
    def features(self) -> list[str]:
        """The features that some version has."""
        return list(dict.fromkeys(name for each in self.profiles for name in (*each.features, *each.embeddings)))

    @property
    def numeric(self) -> list[str]:
        """Those of them that some version takes as numbers."""
        named = [(name, variable) for each in self.profiles for name, variable in each.features.items()]
        return [name for name, variable in named if isinstance(variable, NumericVariable)]


class LedgerCounter:
    """Counts events of a model as an exporter with the configuration at `path` does.

    `columns` tells which columns of a batch are what of an event, with the keys that a table source has; features are
    those columns that are named like the profile's. Panes are `width` seconds wide, as wide as the model's narrowest
    unless given. Raises ConfigError for a configuration of no use, and ValueError for a model that it lacks.
    """

    def __init__(
        self,
        path: str | Path,
        model: str,
        *,
        columns: Mapping[str, Any] | None = None,
        timezone: str = "UTC",
        width: float | None = None,
    ) -> None:
        self._begin(Recipe.read(path, model, columns=columns, timezone=timezone, width=width))

    @classmethod
    def of(cls, recipe: Recipe) -> "LedgerCounter":
        """Return a counter by a recipe."""
        counter = cls.__new__(cls)
        counter._begin(recipe)
        return counter

    def _begin(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._producer = Producer(recipe.settings, recipe.profiles, recipe.limits, recipe.width)
        self._decoder = Decoder(self._producer.schemas)
        self.accepted = 0
        """Events that were counted."""
        self.refused: Counter[str] = Counter()
        """Events that were not, by reason: those of an exporter, and `label_alone`, for a label without prediction."""

    def add(self, batch: Any) -> None:
        """Count the rows of a batch or table of Arrow, or of a frame (pandas, Polars). Needs pyarrow."""
        import pyarrow as pa

        if hasattr(batch, "to_arrow"):
            batch = batch.to_arrow()
        elif not hasattr(batch, "schema"):
            batch = pa.Table.from_pandas(batch, preserve_index=False)
        for part in batch.to_batches() if isinstance(batch, pa.Table) else [batch]:
            self.add_events(self._events(part, self._recipe.columns))

    def add_late(self, batch: Any) -> None:
        """Count the labels of a batch whose predictions, in the same rows, were counted when they were made."""
        now = time.time()
        predictions = self._decoded(self._events(batch, self._recipe.columns), now)
        labels = self._decoded(self._events(batch, self._recipe.late), now)
        refused = self._producer.take_late(predictions, labels, now)
        self.refused.update(refused)
        self.accepted += sum(map(len, labels)) - refused.total()

    def add_events(self, body: bytes) -> None:
        """Count the events of a body as `POST /v1/events` takes it: NDJSON, JSON, or an Arrow stream of events."""
        now = time.time()
        for columns in self._decoded(body, now):
            refused = self._producer.take(columns, now)
            self.refused.update(refused)
            self.accepted += len(columns) - refused.total()

    def _events(self, batch: Any, columns: ColumnSettings) -> bytes:
        from mlops_exporter.tables.mapping import Mapping as Rows

        recipe = self._recipe
        task = recipe.settings.task
        rows = Rows(self._producer.name, columns, recipe.timezone, recipe.features, recipe.numeric, task)
        return rows.events(batch)

    def _decoded(self, body: bytes, now: float) -> list[Columns]:
        decoded = self._decoder.decode(body, now)
        self.refused.update(decoded.refused.counts)
        return decoded.parts.get(self._producer.name, [])

    @property
    def panes(self) -> int:
        """Of how many panes there is a ledger."""
        return self._producer.panes

    def ledgers(self, producer: str, epoch: str) -> Iterator[PartialLedger]:
        """Yield the ledgers of what was counted.

        `producer` names whoever counts, the same when it counts the same rows again, such as a partition; `epoch` the
        stretch of work, such as a day, a batch or a run.
        """
        return self._producer.ledgers(producer, epoch)

    def drain(self, producer: str, epoch: str) -> Iterator[PartialLedger]:
        """Yield the ledgers of what was counted, and forget it."""
        yield from self.ledgers(producer, epoch)
        self._producer.clear()


@dataclass
class LedgersReceipt:
    """What became of ledgers: those added, those `repeated`, which had been added before, and those refused, by reason.

    Of the `repeated` the `changed` ones had other cells then. `errors` tells the first refusals in words.
    """

    accepted: int = 0
    repeated: int = 0
    changed: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)


class LedgersNotSentError(Exception):
    """Ledgers could not be sent, or were refused; the message says why, `receipt` what came of all."""

    def __init__(self, message: str, receipt: LedgersReceipt) -> None:
        super().__init__(message)
        self.receipt = receipt


def send_ledgers(
    url: str,
    ledgers: Iterable[PartialLedger],
    *,
    token_file: str | Path | None = None,
    access: AccessSettings | None = None,
    wait_seconds: float = 600.0,
) -> LedgersReceipt:
    """Send ledgers to the exporter at `url`, wait until it has made them durable, and return what became of them.

    While the exporter is full or away it is tried again, for up to `wait_seconds` a body. Raises LedgersNotSentError
    when a ledger was refused or could not be sent: whoever sends all of them again counts none twice.
    """
    if access is None:
        access = AccessSettings(token_file=None if token_file is None else Path(token_file))
    receipt = LedgersReceipt()
    for body in _bodies(ledgers):
        _send(url.rstrip("/") + _PATH, body, access, wait_seconds, receipt)
    if receipt.refused:
        raise LedgersNotSentError(f"{receipt.refused.total()} ledgers were refused: {receipt.errors[0]}", receipt)
    return receipt


def _bodies(ledgers: Iterable[PartialLedger]) -> Iterator[bytes]:
    waiting: list[PartialLedger] = []
    size = 0
    for ledger in ledgers:
        if waiting and (len(waiting) == MOST_LEDGERS or size + len(ledger.cells) > BODY_BYTES):
            yield encode(waiting)
            waiting, size = [], 0
        waiting.append(ledger)
        size += len(ledger.cells)
    if waiting:
        yield encode(waiting)


class _Error(msgspec.Struct):
    ledger: int
    reason: str
    detail: str


class _Answer(msgspec.Struct):
    accepted: int
    repeated: int
    changed: int
    refused: dict[str, int]
    errors: list[_Error]


def _send(url: str, body: bytes, access: AccessSettings, wait_seconds: float, receipt: LedgersReceipt) -> None:
    headers = {"Content-Type": "application/vnd.msgpack", "Content-Encoding": "gzip"}
    compressed = gzip.compress(body, 1)
    deadline, (pause, longest) = time.monotonic() + wait_seconds, _PAUSES
    while True:
        try:
            found = call("POST", url, access, body=compressed, headers=headers, timeout=_TIMEOUT).body
            break
        except CallError as error:
            if error.status is not None and 400 <= error.status < 500 and error.status not in (408, 429):
                raise LedgersNotSentError(str(error), receipt) from error
            if time.monotonic() + pause > deadline:
                raise LedgersNotSentError(f"tried for {wait_seconds:g} s: {error}", receipt) from error
        time.sleep(pause * random.uniform(0.5, 1.0))  # nosec B311: so that not all tasks come back at once
        pause = min(2 * pause, longest)
    try:
        answer = msgspec.json.decode(found, type=_Answer)
    except msgspec.MsgspecError as error:
        raise LedgersNotSentError(f"{url} is no exporter: {error}", receipt) from error
    receipt.accepted += answer.accepted
    receipt.repeated += answer.repeated
    receipt.changed += answer.changed
    receipt.refused.update(answer.refused)
    receipt.errors += [f"{error.reason}: {error.detail}" for error in answer.errors]
