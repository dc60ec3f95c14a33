"""Numbers for the origins of events: what is kept of one in the joins must not take the room of a name."""

from collections.abc import Collection
from itertools import chain

import numpy as np

from mlops_exporter.events.columns import Decoded, Origins
from mlops_exporter.ingest.body import Body


class OriginCodes:
    """A number from 1 for every origin that was ever seen, by source and name."""

    def __init__(self) -> None:
        self._codes: dict[tuple[str, str], int] = {}

    def mark(self, decoded: Decoded, body: Body) -> None:
        """Note with the decoded events of a body where each came from, if the body tells."""
        if not body.origins:
            return
        codes = np.array([self._code(body.source, name) for name, _ in body.origins], np.int16)
        last_lines = np.cumsum([lines for _, lines in body.origins])
        for columns in chain.from_iterable(decoded.parts.values()):
            columns.origins = codes[np.searchsorted(last_lines, np.asarray(columns.lines))]

    def others(self, source: str, kept: Collection[str]) -> Origins:
        """Return the numbers of the origins of a source that are not `kept`."""
        codes = [code for (owner, name), code in self._codes.items() if owner == source and name not in kept]
        return np.array(codes, np.int16)

    def state(self) -> list[list[str]]:
        """Return what `restore` needs."""
        return [list(key) for key in self._codes]

    def restore(self, state: list[list[str]]) -> None:
        """Take over a state."""
        self._codes = {(source, name): code for code, (source, name) in enumerate(state, 1)}

    def _code(self, source: str, name: str) -> int:
        return self._codes.setdefault((source, name), len(self._codes) + 1)
