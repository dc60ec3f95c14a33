"""Real brokers for tests, each a process of its own on a free port of 127.0.0.1."""

import importlib.util
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from tests.integration.prometheus import eventually, free_port
from tests.requirements import require_program


class Broker:
    """A server process, which may be killed and started again with what it has on disk."""

    def __init__(self, directory: Path, port: int) -> None:
        self.directory = directory
        self.port = port
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        raise NotImplementedError

    def start(self) -> None:
        log = self.directory / "broker.log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(self.command(), stdout=output, stderr=output, cwd=self.directory)
        process = self._process
        eventually(lambda: self._accepts() or (process.poll() is not None and pytest.fail(log.read_text())), 15)

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(timeout=15)
            self._process = None

    def kill(self) -> None:
        """End it at once, as a crash does."""
        self.stop(signal.SIGKILL)

    def _accepts(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return True
        except OSError:
            return False


class RedisServer(Broker):
    """Redis that writes every command to disk, so that a kill loses nothing that it has answered."""

    def __init__(self, directory: Path, password: str | None = None) -> None:
        super().__init__(directory, free_port())
        self._program = require_program("redis-server")
        self._password = password

    def command(self) -> list[str]:
        durable = ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
        secret = ["--requirepass", self._password] if self._password else []
        place = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.directory)]
        return [self._program, *place, *durable, *secret]

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"


class KafkaBroker(Broker):
    """Noida, which speaks Kafka's protocol and keeps logs and offsets on disk (on a timer, and when it is stopped)."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, free_port())
        # The program itself: the command of this name would start it as a child, which a kill does not reach.
        package = importlib.util.find_spec("noida_db")
        self._program = require_program(
            str(Path(package.origin).with_name("noida-db")) if package and package.origin else "noida-db"
        )

    def command(self) -> list[str]:
        port, data = str(self.port), str(self.directory / "data")
        return [self._program, "start", "--only", "kafka", "--kafka-port", port, "--data-dir", data]

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"
