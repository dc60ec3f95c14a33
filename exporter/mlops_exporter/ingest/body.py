"""A body: what was delivered at one time, from the intake through the journal to the store and back."""

from typing import NamedTuple


class Body(NamedTuple):
    """What a source delivered, which arrived at `arrived` (Unix seconds).

    `position` tells the source where to go on after it, or holds the key of what was pushed. `models` are those that
    its sender may write, None means all.
    `format` names the translator that makes events of the data, None where it holds events.
    """

    source: str
    data: bytes
    arrived: float
    position: bytes | None = None
    models: frozenset[str] | None = None
    format: str | None = None
