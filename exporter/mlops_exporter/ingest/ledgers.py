"""Which partial ledgers were counted, so that one that comes again, by whoever does not know how it ended, counts once.

What is known of a ledger is kept for as long as one of its pane would be taken, and never dropped to make room: where
there is no more room, further ledgers are refused. It is part of the checkpoint.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import msgspec

from mlops_exporter.counting.model import Model
from mlops_exporter.counting.partial import PartialLedger, examine
from mlops_exporter.events.reasons import Reason, Refused
from mlops_exporter.ingest.body import Body
from mlops_exporter.settings.models import Limits

LEDGERS = "ledgers"
"""In the journal, the format of a body of ledgers."""

FORGET_SECONDS = 60.0
"""How often those are looked for whose panes have become too old."""


@dataclass(slots=True)
class LedgersResult:
    """What became of the ledgers of a body, which are numbered from 1.

    Of those `repeated`, which were counted before, the `changed` ones had other cells then.
    """

    accepted: int = 0
    repeated: int = 0
    changed: int = 0
    refused: list[tuple[int, Refused]] = field(default_factory=list)

    @property
    def reasons(self) -> list[Reason]:
        """Why ledgers were refused, each reason as often as it was one."""
        return [refused.reason for _, refused in self.refused]


class Ledgers:
    """Tells which ledgers are to be counted. For the event loop alone."""

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[float, bytes]] = {}
        """The end of its pane and the digest of its cells, by the key of a ledger."""
        self._forgotten = 0.0
        """The end of the newest pane of which something was forgotten: whatever clock has said so, it stays too old."""
        self._looked = 0.0

    def __len__(self) -> int:
        return len(self._known)

    def screen(
        self, parts: list[PartialLedger | Refused], body: Body, models: Mapping[str, Model], limits: Limits
    ) -> Iterator[tuple[int, PartialLedger | Refused | None]]:
        """Yield the ledgers of a body by number: those to be counted, why one is refused, None for a repeated one.

        One that was yielded must be `note`d before the next if it is counted.
        """
        for number, part in enumerate(parts, 1):
            try:
                yield number, part if isinstance(part, Refused) else self._screened(part, body, models, limits)
            except Refused as refused:
                yield number, refused

    def _screened(
        self, ledger: PartialLedger, body: Body, models: Mapping[str, Model], limits: Limits
    ) -> PartialLedger | None:
        if body.models is not None and ledger.model not in body.models:
            raise Refused("forbidden_model")
        model = models.get(ledger.model)
        if model is None:
            raise Refused("unknown_model", f"there is no model {ledger.model[:64]!r}")
        if ledger.key in self._known:
            return None
        oldest = max(body.arrived - limits.ledger_age, self._forgotten)
        examine(ledger, model.reference_of(ledger.version), body.arrived, oldest)
        if len(self._known) >= limits.remembered_ledgers:
            raise Refused(
                "too_many_ledgers",
                f"{len(self._known)} are remembered (limits.remembered_ledgers), each for limits.ledger_age",
            )
        return ledger

    def is_changed(self, ledger: PartialLedger) -> bool:
        """Whether a repeated ledger has other cells than the one that was counted."""
        return self._known[ledger.key][1] != ledger.digest

    def note(self, ledger: PartialLedger) -> None:
        """Remember a ledger that is counted."""
        self._known[ledger.key] = ledger.pane.end, ledger.digest

    def forget(self, arrived: float, age: float) -> None:
        """Forget those whose panes are too old, once in a while."""
        if abs(arrived - self._looked) < FORGET_SECONDS:
            return
        self._looked = arrived
        old = [key for key, (end, _) in self._known.items() if end <= arrived - age]
        for key in old:
            end, _ = self._known.pop(key)
            self._forgotten = max(self._forgotten, end)

    def state(self) -> bytes:
        """Return what `restore` needs."""
        return msgspec.msgpack.encode((self._forgotten, self._looked, list(self._known.items())))

    def restore(self, state: bytes) -> None:
        """Go on from a state."""
        self._forgotten, self._looked, known = msgspec.msgpack.decode(
            state, type=tuple[float, float, list[tuple[bytes, tuple[float, bytes]]]]
        )
        self._known = dict(known)
