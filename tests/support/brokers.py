"""Real brokers for tests, each a process of its own on a free port of 127.0.0.1."""

import importlib.util
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from tests.requirements import require_program
from tests.support.prometheus import eventually, free_port


class Broker:
    """A server process, which may be killed and started again with what it has on disk."""

    patience = 15.0
    """Seconds until it accepts connections."""

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
        eventually(self._accepts, self.patience)

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(timeout=15)
            self._process = None

    def kill(self) -> None:
        """End it at once, as a crash does."""
        self.stop(signal.SIGKILL)

    def _accepts(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            pytest.fail((self.directory / "broker.log").read_text())
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
    """Apache Kafka where `make kafka` has put it on the PATH, else Noida: both keep logs and offsets on disk.

    Noida, a package of Python, speaks Kafka's protocol without Java; it writes on a timer and when it is stopped.
    `listener` is how it listens and may be called, in Kafka's own terms; only Apache Kafka has other than PLAINTEXT.
    """

    def __init__(self, directory: Path, listener: str = "PLAINTEXT", **settings: str) -> None:
        super().__init__(directory, free_port())
        self._apache = shutil.which("kafka-broker")
        self._listener = listener
        self._settings = settings
        if self._apache:
            self.patience = 120  # a virtual machine starts, twice
            self._write_properties()
        else:
            # The program itself: the command of this name would start it as a child, which a kill does not reach.
            package = importlib.util.find_spec("noida_db")
            self._noida = require_program(
                str(Path(package.origin).with_name("noida-db")) if package and package.origin else "noida-db"
            )

    def command(self) -> list[str]:
        if self._apache:
            return [self._apache, str(self.directory / "broker.properties")]
        port, data = str(self.port), str(self.directory / "data")
        return [self._noida, "start", "--only", "kafka", "--kafka-port", port, "--data-dir", data]

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def _write_properties(self) -> None:
        controller, name = f"127.0.0.1:{free_port()}", "CLIENT"
        settings = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@{controller}",
            "controller.listener.names": "CONTROLLER",
            "listeners": f"{name}://{self.address},CONTROLLER://{controller}",
            "advertised.listeners": f"{name}://{self.address}",
            "listener.security.protocol.map": f"{name}:{self._listener},CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": name,
            "log.dirs": str(self.directory / "data"),
            "offsets.topic.num.partitions": "1",
            "offsets.topic.replication.factor": "1",
            "group.initial.rebalance.delay.ms": "0",
            **self._settings,
        }
        lines = [f"{key}={value}\n" for key, value in settings.items()]
        (self.directory / "broker.properties").write_text("".join(lines), encoding="utf-8")
