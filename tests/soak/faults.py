"""What goes wrong in the lives of exporters, one function each; all leave things as they should be again."""

import errno
import gzip
import json
import os
import shutil
import signal
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass

import httpx

from mlops_exporter.ingest.store import CHECKPOINT
from tests.soak.subject import FLOODED, LOG, Subject
from tests.soak.traffic import AHEAD, Logged, Pushed, Queued
from tests.support.brokers import RedisServer
from tests.support.prometheus import eventually

KEPT_LOGS = 3
RELOAD_SECONDS = 60.0
REFUSED_SECONDS = 10.0  # on a loaded machine; a test beside the loader holds it to one second of processor time
LARGE_BODIES = 40
SLOW_CONNECTIONS = 40
FLOOD_VERSIONS = 40
LEAPS = (60.0, -6 * 3600.0, -20 * 86400.0)
"""A little ahead, back within the longest window, and back beyond it."""


@dataclass
class World:
    """All that takes part."""

    subject: Subject
    redis: RedisServer
    pushed: Pushed
    queued: Queued
    logged: Logged
    rotations: int = 0
    floor: float = 0.5
    damages: int = 0
    floods: int = 0
    disk_was_full: bool = False

    @property
    def senders(self) -> tuple[Pushed, Queued, Logged]:
        """All who send."""
        return self.pushed, self.queued, self.logged


def kill(world: World) -> None:
    """The process is killed (SIGKILL) and started again."""
    world.subject.restart(signal.SIGKILL)


def restart(world: World) -> None:
    """The process is asked to stop (SIGTERM), and started again."""
    world.subject.restart(signal.SIGTERM)


def restart_redis(world: World) -> None:
    """Redis is killed, and is back after two seconds."""
    world.redis.kill()
    time.sleep(2)
    world.redis.start()


def rotate(world: World) -> None:
    """The log is renamed while its writer has it open, its predecessor compressed, the oldest one deleted."""
    directory = world.subject.directory
    world.rotations += 1
    (directory / LOG).rename(directory / f"{LOG}.{world.rotations}")
    time.sleep(0.5)
    world.logged.reopen()
    previous = directory / f"{LOG}.{world.rotations - 1}"
    if previous.exists():
        with previous.open("rb") as plain, gzip.open(f"{previous}.gz", "wb", 1) as compressed:
            shutil.copyfileobj(plain, compressed)
        previous.unlink()
    (directory / f"{LOG}.{world.rotations - KEPT_LOGS}.gz").unlink(missing_ok=True)


def damage(world: World) -> None:
    """The process is killed, its newest checkpoint loses a byte, has another, or is gone, and it is started again."""
    state = world.subject.directory / "state"

    def spoil() -> None:
        newest = max(state.glob(f"{CHECKPOINT}*"), key=lambda path: int(path.name.rpartition("-")[2]))
        content = bytearray(newest.read_bytes())
        world.damages += 1
        if world.damages % 3 == 0:
            newest.unlink()
        elif world.damages % 3 == 1:
            content[len(content) // 2] ^= 1
            newest.write_bytes(content)
        else:
            newest.write_bytes(content[:-1])

    reload(world)  # it leaves two checkpoints
    world.subject.restart(signal.SIGKILL, between=spoil)
    exporter = world.subject.exporter
    assert exporter.value("ml_exporter_state_damaged_timestamp_seconds", file="checkpoint"), "nobody was told"


def drip(world: World) -> None:
    """Some send a body byte by byte, others say nothing at all: all others are served as ever."""
    head = b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\nContent-Length: 41000\r\n\r\n"
    address = ("127.0.0.1", int(world.subject.exporter.url.rpartition(":")[2]))
    with ExitStack() as stack:
        slow = [stack.enter_context(socket.create_connection(address)) for _ in range(SLOW_CONNECTIONS)]
        for connection in slow[::2]:
            connection.sendall(head)
        for _ in range(6):
            for connection in slow[::2]:
                with suppress(OSError):  # the slowest makes room for others
                    connection.sendall(b"{")
            for path in ("/metrics", "/-/healthy"):
                assert httpx.get(f"{world.subject.exporter.url}{path}", trust_env=False, timeout=10).status_code == 200
            time.sleep(0.5)


def flood(world: World) -> None:
    """More versions than there are places wait for labels of weeks ago: a release is taken all the same."""
    world.floods += 1
    for number in range(FLOOD_VERSIONS):
        version = {"model": FLOODED, "version": f"{world.floods}-{number}", "ts": time.time() - 20 * 86400}
        events = [version | {"id": f"{world.floods}-{number}-{row}", "prediction": row % 2} for row in range(20)]
        assert world.pushed.post(events)["rejected"] == 0, "a flood was refused"
    release = {"model": FLOODED, "version": "release", "prediction": 1}
    assert world.pushed.post([release])["rejected"] == 0, "a release was refused"
    exporter = world.subject.exporter

    def shown() -> float | None:
        return exporter.value("ml_model_predictions_total", model=FLOODED, version="release")

    eventually(lambda: shown() == world.floods, 10)


def burst(world: World) -> None:
    """All labels that were held back come at once."""
    world.pushed.burst.set()
    eventually(lambda: not world.pushed.burst.is_set(), 30)


def leap(world: World) -> None:
    """The times of events leap: ahead, hours back, weeks back, and too far ahead, which is refused."""
    for seconds in LEAPS:
        for sender in world.senders:
            sender.leap = seconds
        time.sleep(0.7)
    for sender in world.senders:
        sender.leap = 0.0
    world.pushed.leap = AHEAD
    time.sleep(0.7)
    world.pushed.leap = 0.0


def shift_clock(world: World) -> None:
    """The system's clock jumps an hour ahead, then an hour back, then is right again: the exporter believes neither.

    Only this life of the process has libfaketime, which makes it slow, and a polite stop very slow.
    """
    subject = world.subject
    subject.restart(signal.SIGTERM, false_clock=True)
    for seconds in (3600, -3600, 0):
        subject.set_clock(seconds)
        time.sleep(2)
        assert abs(subject.clock_error()) < 60, f"a leap of {seconds} s was believed at once"
    subject.restart(signal.SIGKILL)


def fill_disk(world: World) -> None:
    """The disk of the state fills up for three seconds: senders are told to wait, nobody is told a lie."""
    filler = world.subject.directory / "state" / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            _fill(file.fileno())
            noticed = any(_has_no_room(world.subject, number) for number in range(LARGE_BODIES))
            assert noticed or world.disk_was_full, "events were taken on a full disk"
            world.disk_was_full |= noticed
            time.sleep(3)
        finally:
            filler.unlink()


def reload(world: World) -> None:
    """The configuration changes and is read again, by signal and by request."""
    for ask in (_by_signal, _by_request):
        world.floor = 0.4 if world.floor == 0.5 else 0.5
        world.subject.configure(world.floor)
        ask(world)
        eventually(lambda: _floor(world) == world.floor, RELOAD_SECONDS)


def overload_configuration(world: World) -> None:
    """The configuration says too much, a billion times over by aliases: it is refused, and all goes on as before."""
    levels = [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 10)]
    (world.subject.directory / "mlops-exporter.yml").write_text("\n".join(["l0: &l0 [x]", *levels, "models: *l9"]))
    try:
        begin = time.monotonic()
        answer = httpx.post(f"{world.subject.exporter.url}/-/reload", trust_env=False, timeout=RELOAD_SECONDS)
        assert answer.status_code == 500, answer.text
        assert time.monotonic() - begin < REFUSED_SECONDS
        assert world.subject.exporter.value("ml_exporter_config_last_reload_successful") == 0
    finally:
        world.subject.configure(world.floor)
        _by_request(world)


FAULTS: dict[str, Callable[[World], None]] = {
    "kill -9 and start": kill,
    "stop and start": restart,
    "Redis killed and started": restart_redis,
    "log file rotated": rotate,
    "burst of labels": burst,
    "event times leap": leap,
    "clock jumps": shift_clock,
    "disk full": fill_disk,
    "configuration reloaded": reload,
    "checkpoint damaged": damage,
    "slow connections": drip,
    "flood of versions": flood,
    "configuration that says too much": overload_configuration,
}
ENDING = ("kill -9 and start", "stop and start", "clock jumps", "checkpoint damaged")
"""Those after which memory begins anew."""


def _fill(file: int) -> None:
    """Write until the disk is full."""
    for size in (1 << 20, 1 << 12, 1):
        try:
            while True:
                os.write(file, bytes(size))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise


def _has_no_room(subject: Subject, number: int) -> bool:
    """Send a large body, since small ones may long fit into what SQLite has laid by from earlier times.

    It holds a label that meets no prediction, so that it is taken and yet changes nothing in the books.
    """
    event = {"model": Pushed.model, "id": f"nobody {number}", "label": 1, "padding": "x" * (1 << 20)}
    answer = httpx.post(
        f"{subject.exporter.url}/v1/events",
        content=json.dumps(event),
        headers={"content-type": "application/x-ndjson"},
        trust_env=False,
        timeout=30,
    )
    assert answer.status_code in (202, 503), answer.text
    return answer.status_code == 503 and "make room" in answer.text


def _by_signal(world: World) -> None:
    world.subject.exporter.process.send_signal(signal.SIGHUP)


def _by_request(world: World) -> None:
    answer = httpx.post(f"{world.subject.exporter.url}/-/reload", trust_env=False, timeout=RELOAD_SECONDS)
    assert answer.status_code == 200, answer.text


def _floor(world: World) -> float | None:
    return world.subject.exporter.value("ml_model_benchmark_min", model=Pushed.model, metric="accuracy")
