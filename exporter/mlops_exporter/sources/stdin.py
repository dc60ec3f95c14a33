"""Standard input: `model-server | mlops-exporter run`."""

import asyncio
import os
import select

from mlops_exporter.events import clock
from mlops_exporter.settings.sources import SourceSettings
from mlops_exporter.sources.base import BATCH_SECONDS, Health, Sink, deliver
from mlops_exporter.sources.lines import MALFORMED, MAX_LINE_BYTES, ndjson

READ_BYTES = 256 * 1024

_POLL_SECONDS = 0.25
_PIPE_BYTES = 32 * 1024  # less than a pipe holds: more than this at a time means that the writer is busy


def make(settings: SourceSettings, _profiles: object) -> "StdinSource":
    """Return the source of a configuration."""
    return StdinSource(settings.name)


class StdinSource:
    """NDJSON from a file descriptor until its end. What was read cannot be read again, so no position is kept."""

    def __init__(self, name: str, descriptor: int = 0) -> None:
        self.name = name
        self.health = Health(True)
        self._descriptor = descriptor

    async def run(self, sink: Sink) -> None:
        """Deliver lines until the end of the input, after which the source is down for good."""
        lines = _Lines()
        while (piece := await asyncio.to_thread(self._read)) != b"":
            if piece is None:
                continue
            if body := ndjson(lines.add(piece)):
                await deliver(sink, self.name, body, clock.now())
            if len(piece) < _PIPE_BYTES:
                await asyncio.sleep(BATCH_SECONDS)
        if rest := ndjson(lines.rest):
            await deliver(sink, self.name, rest, clock.now())
        self.health = Health(False, None, "the input has ended")

    def _read(self) -> bytes | None:
        """Return what there is, None when nothing came for a moment (so that a stop is seen), b"" at the end."""
        ready, _, _ = select.select([self._descriptor], [], [], _POLL_SECONDS)
        return os.read(self._descriptor, READ_BYTES) if ready else None


class _Lines:
    """Cuts a stream into whole lines. `rest` is the beginning of the line that has not ended yet."""

    def __init__(self) -> None:
        self.rest = b""
        self._skipping = False

    def add(self, piece: bytes) -> bytes:
        """Return the lines that `piece` completes; of a line that is too long only a mark remains."""
        end = piece.rfind(b"\n") + 1
        if not end:
            self.rest += b"" if self._skipping else piece
            if len(self.rest) > MAX_LINE_BYTES:
                self.rest, self._skipping = b"", True
                return MALFORMED
            return b""
        start = piece.index(b"\n") + 1 if self._skipping else 0
        whole = self.rest + piece[start:end]
        self.rest, self._skipping = piece[end:], False
        return whole
