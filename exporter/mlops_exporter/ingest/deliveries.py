"""Bodies that came with a key, so that one which is sent again, by whoever does not know how it ended, counts once.

A key travels with its body through the journal, as the body's position, and what became of it with the checkpoint.
"""

import asyncio
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec
import xxhash

from mlops_exporter.events.reasons import Reason

REMEMBERED = 100_000
"""Keys that are known, the latest ones."""

_MARK = b"\0key"
_DIGEST_BYTES = 16


class Outcome(NamedTuple):
    """What became of a body: events accepted, refused by reason, and a digest of its bytes, or of the whole's."""

    accepted: int
    refused: dict[Reason, int]
    digest: int


def digest_of(body: bytes) -> int:
    """Return the digest by which a body is known to be the one that came with its key before."""
    return xxhash.xxh3_64_intdigest(body)


def position_of(source: str, models: Iterable[str] | None, key: str, digest: int) -> bytes:
    """Return the position of a body with a key. Senders who may write other models have keys of their own."""
    named = msgspec.json.encode([source, None if models is None else sorted(models), key])
    return _MARK + xxhash.xxh3_128_digest(named) + digest.to_bytes(8)


def is_key(position: bytes | None) -> bool:
    """Whether a position is that of a body with a key."""
    return position is not None and position.startswith(_MARK)


class Deliveries:
    """What became of the bodies with a key. For the event loop alone."""

    def __init__(self) -> None:
        self._outcomes: dict[bytes, Outcome] = {}
        self._begun: dict[bytes, asyncio.Future[None]] = {}

    async def begin(self, position: bytes) -> tuple[Outcome, bool] | None:
        """Return what became of a body with this key, and whether it had these bytes; None where it is to be taken.

        It waits for one that is being taken. Whoever gets None must `end` it.
        """
        key, digest = _parts(position)
        while (begun := self._begun.get(key)) is not None:
            await asyncio.shield(begun)
        if (outcome := self._outcomes.get(key)) is not None:
            return outcome, outcome.digest == digest
        self._begun[key] = asyncio.get_running_loop().create_future()
        return None

    def end(self, position: bytes) -> None:
        """Let others that wait for a body with this key go on."""
        self._begun.pop(_parts(position)[0]).set_result(None)

    def note(self, position: bytes, accepted: int, refused: dict[Reason, int]) -> None:
        """Remember what became of a body."""
        key, digest = _parts(position)
        self._outcomes[key] = Outcome(accepted, refused, digest)
        while len(self._outcomes) > REMEMBERED:
            del self._outcomes[next(iter(self._outcomes))]

    def state(self) -> bytes:
        """Return what `restore` needs."""
        return msgspec.msgpack.encode(list(self._outcomes.items()))

    def restore(self, state: bytes) -> None:
        """Go on from a state."""
        self._outcomes = dict(msgspec.msgpack.decode(state, type=list[tuple[bytes, Outcome]]))


def _parts(position: Any) -> tuple[bytes, int]:
    found = position[len(_MARK) :]
    return found[:_DIGEST_BYTES], int.from_bytes(found[_DIGEST_BYTES:])
