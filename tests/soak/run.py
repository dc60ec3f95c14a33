"""The soak itself: traffic, faults one after the other in a random order, and at the end the books."""

import random
import signal
import time
from collections.abc import Callable, Collection
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.soak.faults import ENDING, FAULTS, World
from tests.soak.report import Book, Incident, Report
from tests.soak.subject import FAKETIME, LOG, Subject, knows_reload
from tests.soak.traffic import Account, Logged, Pushed, Queued
from tests.soak.watch import Watch
from tests.support.brokers import RedisServer
from tests.support.disk import small_disk
from tests.support.prometheus import eventually

STATE_SIZE = "512m"
CATCH_UP_SECONDS = 60.0
PAUSE_SECONDS = 4.0

Progress = Callable[[str], None]


def soak(
    directory: Path,
    seconds: float,
    progress: Progress,
    *,
    faults: Collection[str] = tuple(FAULTS),
    durable: bool = True,
    seed: int = 1,
) -> Report:
    """Let an exporter live through every fault at least once, and for so many seconds at least.

    Processes are killed and stopped in the first half only: in the second, memory is that of one process.
    """
    report = Report(left_out=_impossible())
    with ExitStack() as stack:
        if durable:
            try:
                stack.enter_context(small_disk(directory / "state", STATE_SIZE))
            except pytest.skip.Exception as reason:
                report.left_out["disk full"] = str(reason)
        (directory / "redis").mkdir()
        redis = RedisServer(directory / "redis")
        redis.start()
        stack.callback(redis.stop)
        subject = Subject(directory, redis.url, durable)
        stack.callback(subject.end)
        world = World(subject, redis, Pushed(subject.exporter.url), Queued(redis.port), Logged(directory / LOG))
        watch = Watch(subject, {sender.model: sender.account for sender in world.senders})
        for sender in world.senders:
            sender.start()
        watch.start()
        try:
            _live(
                world, watch, report, seconds, [name for name in faults if name not in report.left_out], seed, progress
            )
        except Exception as error:
            lines = subject.exporter.log.read_text().splitlines()[-5:]
            report.faults.append("\n".join([f"{type(error).__name__}: {error}; the log's last lines:", *lines]))
        finally:
            for sender in world.senders:
                sender.stop()
            for sender in world.senders:
                sender.join()
            watch.stop()
        _close_books(world, watch, report)
    return report


def _impossible() -> dict[str, str]:
    """Return the faults that cannot be tried here, and why."""
    reasons = {}
    if FAKETIME is None:
        reasons["clock jumps"] = "libfaketime is not installed"
    if not knows_reload():
        reasons |= dict.fromkeys(("configuration reloaded", "checkpoint damaged"), "this version cannot")
    return reasons


def _live(
    world: World, watch: Watch, report: Report, seconds: float, faults: list[str], seed: int, progress: Progress
) -> None:
    rng = random.Random(seed)
    begin = time.monotonic()
    time.sleep(PAUSE_SECONDS)
    round_ = 0
    while round_ == 0 or time.monotonic() < begin + seconds:
        calm = round_ > 0 and time.monotonic() > begin + seconds / 2
        order = [name for name in faults if not (calm and name in ENDING)]
        for name in rng.sample(order, len(order)):
            if round_ > 0 and time.monotonic() > begin + seconds:
                return
            try:
                incident = _incident(name, world, watch)
            except Exception as error:
                raise RuntimeError(f"{name}: {type(error).__name__}: {error}") from error
            report.incidents.append(incident)
            progress(
                f"{(time.monotonic() - begin) / 60:5.1f} min  {name}: {incident.seconds:.1f} s, "
                f"all counted after {incident.recovery:.1f} s"
            )
            time.sleep(rng.uniform(0, PAUSE_SECONDS))
        round_ += 1


def _incident(name: str, world: World, watch: Watch) -> Incident:
    began, start = time.time(), time.monotonic()
    FAULTS[name](world)
    over = time.monotonic()
    sent = {sender.model: sender.account.predictions.total() for sender in world.senders}
    eventually(lambda: all(watch.predictions.get(model, 0) >= count for model, count in sent.items()), CATCH_UP_SECONDS)
    eventually(world.subject.exporter.is_ready, CATCH_UP_SECONDS)
    return Incident(name, began, over - start, time.monotonic() - over)


def _close_books(world: World, watch: Watch, report: Report) -> None:
    """Wait until all is counted, stop and start once more, and compare."""
    report.looks = watch.looks
    report.faults += watch.faults
    report.faults += [f"{sender.model}: {sender.error!r}" for sender in world.senders if sender.error is not None]
    try:
        _await_all(world)
        world.subject.restart(signal.SIGTERM)
    except Exception as error:
        report.faults.append(f"at the end: {type(error).__name__}: {error}")
    shown = world.subject.exporter.scrape()
    for sender in world.senders:
        account = sender.account
        counted = round(shown.value("ml_model_predictions_total", model=sender.model) or 0)
        lost, doubled = account.difference(shown)
        report.books.append(
            Book(sender.model, account.sent, account.acknowledged, account.refused, counted, lost, doubled)
        )
    if waiting := shown.value("ml_model_pending_predictions", model=Pushed.model):
        report.faults.append(f"{waiting:g} predictions wait for a label, though all were sent")
    if "Traceback" in (log := world.subject.exporter.log.read_text()):
        report.faults.append(f"the log has a traceback: {log[log.index('Traceback') :][:2000]}")
    world.subject.stop()


def _await_all(world: World) -> None:
    """Wait until the counters show everything, or more."""
    for sender in world.senders:
        eventually(lambda account=sender.account: _is_counted(world, account), CATCH_UP_SECONDS)  # type: ignore[misc]


def _is_counted(world: World, account: Account) -> bool:
    shown = world.subject.exporter.scrape()
    predictions = shown.value("ml_model_predictions_total", model=account.model) or 0
    labels = shown.value("ml_model_labels_total", model=account.model) or 0
    return predictions >= account.predictions.total() and labels >= account.labels.total()
