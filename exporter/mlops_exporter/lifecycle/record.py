"""What the receiver remembers: its state in one file, and two logs that only grow, of decisions and of dead letters."""

import os
from pathlib import Path
from typing import Any

import msgspec

from mlops_exporter.lifecycle.action import Order
from mlops_exporter.lifecycle.decision import Past
from mlops_exporter.lifecycle.evidence import Alert
from mlops_exporter.settings.document import ConfigError


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

    def load(self) -> State:
        """Return the state, an empty one at first."""
        try:
            state = msgspec.json.decode(self._file.read_bytes(), type=State)
        except FileNotFoundError:
            return State()
        except (OSError, msgspec.MsgspecError) as error:
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
        """Return the file for the output of an order's command."""
        return self._directory / "output" / f"{order.id}.log"

    def _append(self, name: str, line: dict[str, Any]) -> None:
        with (self._directory / name).open("ab") as file:
            file.write(msgspec.json.encode(line) + b"\n")
