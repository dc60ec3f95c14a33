"""Blocks kept on disk between two passes over a table, so that the second one need not read and parse them again."""

import tempfile
from collections.abc import Iterator
from typing import IO, Any

import pyarrow as pa

SPOOL_BYTES = 512 * 1024 * 1024
"""Size of what is kept; the rest of a larger table is read again."""


class Spool:
    """The first blocks of a table. Use it as a context: it has a temporary file."""

    def __init__(self) -> None:
        self._places: list[tuple[int, int]] = []
        self._full = False
        try:
            self._file: IO[bytes] | None = tempfile.TemporaryFile()  # noqa: SIM115 - closed at the context's end
        except OSError:  # nowhere to write
            self._file = None

    def __enter__(self) -> "Spool":
        return self

    def __exit__(self, *exception: object) -> None:
        if self._file is not None:
            self._file.close()

    def __len__(self) -> int:
        return len(self._places)

    def clear(self) -> None:
        """Forget what was kept."""
        self._places, self._full = [], False
        if self._file is not None:
            self._file.seek(0)
            self._file.truncate()

    def keep(self, block: Any) -> None:
        """Keep the next block, if there is room."""
        if self._file is None or self._full:
            return
        start = self._file.tell()
        try:
            with pa.ipc.new_stream(self._file, block.schema) as writer:
                writer.write_table(block)
            self._file.flush()
        except OSError:  # the disk is full
            self._full = True
            return
        end = self._file.tell()
        self._places.append((start, end - start))
        self._full = end >= SPOOL_BYTES

    def blocks(self) -> Iterator[Any]:
        """Yield what was kept."""
        for start, length in self._places:
            assert self._file is not None
            self._file.seek(start)
            yield pa.ipc.open_stream(self._file.read(length)).read_all()
