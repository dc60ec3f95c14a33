"""Files that are read again when they change."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from mlops_exporter.settings.document import ConfigError

Content = TypeVar("Content")

_log = logging.getLogger(__name__)


def stamp(path: Path) -> tuple[int, ...] | None:
    """Return what differs after a file was written or replaced, None when there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


class Watched(Generic[Content]):
    """What `read` makes of a file. Raises ConfigError at first; later a bad file leaves the former content in force."""

    def __init__(self, path: Path, read: Callable[[Path], Content]) -> None:
        self._path = path
        self._read = read
        self._stamp = stamp(path)
        self._content = read(path)

    def __call__(self) -> Content:
        """Return the content of this moment."""
        now = stamp(self._path)
        if now != self._stamp:
            self._stamp = now
            try:
                self._content = self._read(self._path)
            except ConfigError as error:
                _log.error("%s has changed and is not used, the former content stays in force: %s", self._path, error)
            else:
                _log.info("%s was read again", self._path)
        return self._content
