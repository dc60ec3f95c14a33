"""A service in a child process that is forked from here, so that it starts in milliseconds and can be killed often."""

import os
import signal
import time
import urllib.error
import urllib.request
from pathlib import Path

import msgspec

from mlops_exporter.profile.bins import NumericVariable
from mlops_exporter.profile.profile import Profile, Provenance, load, save
from mlops_exporter.service.service import Options, run
from mlops_exporter.settings.config import Config


def small_profile() -> Profile:
    """Return a regression profile with one feature."""
    variable = NumericVariable([0.0, 1.0, 2.0], [0, 1], [0, 50, 50, 0, 0, 0], [0.5, 1.5], 1.0, 0.5)
    origin = Provenance("", "", "1", "", "")
    return Profile(1, "regression", 100, origin, {"x": variable}, prediction=variable, label=variable)


def write_profile(directory: Path) -> Path:
    """Write the small profile into `directory`."""
    path = directory / "m.json"
    save(small_profile(), path)
    return path


class Child:
    """A running service with its state in `directory`."""

    def __init__(self, directory: Path, port: int, **kserve: object) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._log = directory / "log"
        profile = write_profile(directory)
        config = Config.model_validate(
            {
                "state": {"path": str(directory / "state")},
                "models": [
                    {
                        "name": "m",
                        "task": "regression",
                        "profile": str(profile),
                        "windows": ["1h"],
                        "label_delay": "1h",
                        "drift": {"statistics": ["tvd"]},
                    }
                ],
                "sources": [{"name": "push", "http": {"kserve": kserve}}],
            }
        )
        self.pid = os.fork()
        if self.pid == 0:
            self._serve(config, profile, port)

    def _serve(self, config: Config, profile: Path, port: int) -> None:
        status = 70
        try:
            with self._log.open("a") as log:
                os.dup2(log.fileno(), 2)
            run(config, {"m": load(profile)}, Options((f"127.0.0.1:{port}",)))
            status = 0
        except BaseException as error:
            os.write(2, f"{type(error).__name__}: {error}\n".encode())  # not where pytest has put sys.stderr
            status = 1
        finally:
            os._exit(status)

    def get(self, path: str) -> tuple[int, str]:
        """Return status and body of a GET."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def post(
        self, body: bytes, content_type: str = "application/x-ndjson", path: str = "/v1/events"
    ) -> tuple[int, dict[str, int]]:
        """Post a body; returns status and answer. Raises OSError when the service dies meanwhile."""
        request = urllib.request.Request(self.url + path, body, {"Content-Type": content_type}, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, msgspec.json.decode(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, {"error": len(error.read())}

    def wait_for(self, path: str, status: int = 200, seconds: float = 20.0) -> str:
        """Return the body of a GET as soon as it answers with `status`."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                got, body = self.get(path)
            except OSError:
                got, body = 0, ""
            if got == status:
                return body
            if time.monotonic() > deadline:
                raise AssertionError(f"{path} answered {got} {body!r}, not {status}; log: {self._log.read_text()}")
            time.sleep(0.01)

    def value(self, series: str, absent: float | None = None) -> float:
        """Return the value of one series of the exposition, or `absent` where it may be missing and is."""
        for line in self.get("/metrics")[1].splitlines():
            if line.startswith(series + " "):
                return float(line.rsplit(" ", 1)[1])
        assert absent is not None, f"no series {series}"
        return absent

    def kill(self, number: signal.Signals = signal.SIGKILL) -> int:
        """Send a signal and return the exit status, negative for a signal."""
        os.kill(self.pid, number)
        return self.wait()

    def wait(self, seconds: float = 30.0) -> int:
        """Wait for the end and return the exit status, negative for a signal."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.005)
        os.kill(self.pid, signal.SIGABRT)  # faulthandler writes where it hangs
        raise AssertionError(f"still there after {seconds} s; log: {self._log.read_text()}")
