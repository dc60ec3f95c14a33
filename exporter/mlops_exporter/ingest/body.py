"""A body: what was delivered at one time, from the intake through the journal to the store and back."""

from typing import NamedTuple

import msgspec

from mlops_exporter.sources.base import Origins

ORIGINS = "origins"
"""In the journal, the format of a body of events whose first line tells where they came from."""


class Body(NamedTuple):
    """What a source delivered, which arrived at `arrived` (Unix seconds).

    `position` tells the source where to go on after it, or holds the key of what was pushed. `models` are those that
    its sender may write, None means all.
    `format` names the translator that makes events of the data, None where it holds events.
    `origins` name where its lines came from, one after the other, each with the number of its lines; none where that
    does not matter.
    """

    source: str
    data: bytes
    arrived: float
    position: bytes | None = None
    models: frozenset[str] | None = None
    format: str | None = None
    origins: Origins = ()


def with_origins(body: Body) -> Body:
    """Return a body whose data tells the origins as well, as it is journalled."""
    header = msgspec.json.encode(body.origins)
    return body._replace(data=b"%b\n%b" % (header, body.data), format=ORIGINS, origins=())


def origins_told(body: Body) -> Body:
    """Return the body that `with_origins` was given."""
    header, _, data = body.data.partition(b"\n")
    return body._replace(data=data, format=None, origins=msgspec.json.decode(header, type=Origins))
