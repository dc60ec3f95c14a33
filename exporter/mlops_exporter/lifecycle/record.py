"""What the receiver remembers: its state in one file, and two logs, of decisions and of dead letters."""

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from mlops_exporter.lifecycle.action import Order
from mlops_exporter.lifecycle.decision import Past
from mlops_exporter.lifecycle.evidence import Alert
from mlops_exporter.profile.parsing import JsonError, parsed
from mlops_exporter.settings.document import ConfigError

LONGEST_LOG = 64 * 1024 * 1024
"""Bytes of a log at which it becomes `….1`, in place of the one before."""

MOST_OUTPUTS = 200
"""Outputs of commands that are kept."""


class State(msgspec.Struct):
    """Everything that must survive a restart. Keys of `alerts` are model and version, joined by a line feed."""

    schema: int = 1
    alerts: dict[str, dict[str, Alert]] = {}
    past: dict[str, Past] = {}
    orders: dict[str, Order] = {}


class Record:
    """The files in the state directory. Raises ConfigError where it cannot be used."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._file = directory / "retraining.json"
        try:
            directory.mkdir(parents=True, exist_ok=True)
            (directory / "output").mkdir(exist_ok=True)
        except OSError as error:
            raise ConfigError([f"{directory}: cannot be made: {error.strerror}"]) from None
        if not os.access(directory, os.W_OK):
            raise ConfigError([f"{directory}: state.path must be writable for the receiver's user"])

    def lock(self) -> None:
        """Keep other receivers from these files until this process ends; raises ConfigError where one has them."""
        lock = os.open(self._directory / "lock", os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            said = "another receiver uses it, and two would start everything twice; give each its own"
            raise ConfigError([f"{self._directory}: {said}"]) from None

    def load(self) -> State:
        """Return the state, an empty one at first."""
        try:
            state: State = parsed(self._file.read_bytes(), State)
        except FileNotFoundError:
            return State()
        except (OSError, JsonError) as error:
            raise ConfigError(
                [f"{self._file}: cannot be read: {error}; move it away to begin anew: then all may start once more"]
            ) from None
        return state

    def save(self, state: State) -> None:
        """Write the state so that a crash leaves the former or the new one."""
        following = self._file.with_suffix(".new")
        with following.open("wb") as file:
            file.write(msgspec.json.encode(state))
            file.flush()
            os.fsync(file.fileno())
        following.replace(self._file)

    def audit(self, line: dict[str, Any]) -> None:
        """Add a decision, or what became of one."""
        self._append("audit.ndjson", line)

    def bury(self, line: dict[str, Any]) -> None:
        """Add an order that was given up, with all that it takes to start it by hand."""
        self._append("dead-letters.ndjson", line)

    def output(self, order: Order) -> Path:
        """Return the file for the output of an order's command; the oldest ones make room."""
        directory = self._directory / "output"
        known = sorted(directory.glob("*.log"), key=lambda file: file.stat().st_mtime)
        for file in known[: -MOST_OUTPUTS + 1]:
            with suppress(OSError):
                file.unlink()
        return directory / f"{order.id}.log"

    def _append(self, name: str, line: dict[str, Any]) -> None:
        file = self._directory / name
        with file.open("ab") as log:
            log.write(msgspec.json.encode(line) + b"\n")
            full = log.tell() > LONGEST_LOG
        if full:
            file.replace(file.with_name(f"{name}.1"))
