"""Bodies that are shared among members, and what decoders make of their parts."""

from collections import Counter
from typing import Any

from mlops_exporter.events.decoder import Decoder
from mlops_exporter.ingest.members import MemberSet, Split
from mlops_exporter.profile.values import canonical
from mlops_exporter.settings.sources import MembersSettings
from tests.models import NOW

URLS = [f"http://10.0.0.{number}:10042" for number in range(1, 4)]
SETTINGS = MembersSettings(urls=URLS)


def members(this: int = 0) -> MemberSet:
    """The set, as seen by one of them."""
    return MemberSet(SETTINGS, URLS[this])


def split(body: bytes, key: str = "", this: int = 0, limit: int | None = None) -> Split:
    """A body by members."""
    found = Split()
    for _ in members(this).split(body, key, limit, found):
        pass
    return found


def read(decoder: Decoder, body: bytes) -> tuple[Counter[tuple[str, Any]], list[tuple[int, str]]]:
    """What the decoder makes of a body: how many events of each model have each id, and what it refuses."""
    decoded = decoder.decode(body, NOW)
    taken = Counter[tuple[str, Any]]()
    for model, parts in decoded.parts.items():
        for columns in parts:
            taken.update((model, canonical(id_)) for id_ in columns.ids)
    return taken, list(decoded.refused)


def assert_shared_whole(decoder: Decoder, body: bytes) -> None:
    """Together, the parts of a body must say what the whole says, and each id must be in one of them."""
    whole_taken, whole_refused = read(decoder, body)
    found = split(body)
    owners: dict[str, int] = {}
    taken, refused = Counter[tuple[str, Any]](), list[tuple[int, str]]()
    for owner, part in found.parts.items():
        some_taken, some_refused = read(decoder, part.data)
        taken += some_taken
        refused += [(part.numbers[line - 1], reason) for line, reason in some_refused]
        for _, id_ in some_taken:
            if id_ is not None:
                assert owners.setdefault(id_, owner) == owner == members().owners([id_])[0]
    assert taken == whole_taken
    assert len(whole_refused) == 100 or sorted(refused) == sorted(whole_refused)
