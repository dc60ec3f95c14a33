"""Notifications in, decisions, and what follows from them: the receiver without its HTTP."""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, Literal

from mlops_exporter.lifecycle.action import ActionError, Order, perform
from mlops_exporter.lifecycle.decision import DECISIONS, Decision, Past, decide
from mlops_exporter.lifecycle.evidence import Alert, Evidence, Key, UnreadableError, as_json, read
from mlops_exporter.lifecycle.record import Record, State
from mlops_exporter.settings.retraining import ModelRetraining, RetrainingConfig

LONGEST_PAUSE = 86400.0
"""Seconds between two tries, at most."""

LOOK_SECONDS = 1.0
"""How often what is due is looked for: tries, and decisions that only the time changes."""

Outcome = Literal["accepted", "unauthorized", "unreadable"]

_log = logging.getLogger(__name__)


class Counts:
    """What has happened since the start, by model."""

    def __init__(self, models: Iterable[str]) -> None:
        self.decisions: dict[str, dict[Decision, int]] = {}
        self.triggered: dict[str, int] = {}
        self.failures: dict[str, int] = {}
        self.dead_letters: dict[str, int] = {}
        self.notifications: dict[Outcome, int] = {"accepted": 0, "unauthorized": 0, "unreadable": 0}
        for model in models:
            self.know(model)

    def know(self, model: str) -> None:
        """Let the counts of a model be there, at zero."""
        self.decisions.setdefault(model, dict.fromkeys(DECISIONS, 0))
        for counts in (self.triggered, self.failures, self.dead_letters):
            counts.setdefault(model, 0)


class Retrainer:
    """Decides on every notification and starts what is configured, at most one retraining of a model at a time."""

    def __init__(self, config: RetrainingConfig, record: Record, now: Callable[[], float] = time.time) -> None:
        self._config = config
        self._record = record
        self._now = now
        self._settings = {settings.model: settings for settings in config.models}
        state = record.load()
        self.evidence = Evidence({_key(name): alerts for name, alerts in state.alerts.items()})
        self.past = state.past
        self.orders = state.orders
        self._last: dict[Key, Decision] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._disk_fault = ""
        self.counts = Counts([*(name for name in self._settings if name != "*"), *self.past])

    def settings_of(self, model: str) -> ModelRetraining | None:
        """Return what is configured for a model."""
        return self._settings.get(model, self._settings.get("*"))

    def dry(self, model: str) -> bool:
        """Whether nothing is started for a model."""
        settings = self.settings_of(model)
        return self._config.dry_run or (settings is not None and settings.dry_run)

    def notify(self, body: bytes) -> int:
        """Take a notification of Alertmanager, durably; returns of how many alerts. Raises UnreadableError."""
        now = self._now()
        try:
            notified = read(body, now)
        except UnreadableError:
            self.counts.notifications["unreadable"] += 1
            raise
        self.counts.notifications["accepted"] += 1
        for each in notified:
            self.evidence.note(each)
        for key in dict.fromkeys(each.key for each in notified):
            self._consider(key, now, always=True)
        self._save()
        return len(notified)

    def look(self) -> None:
        """Forget what is no longer repeated, and decide anew where the time alone may have changed something."""
        now = self._now()
        before = set(self.evidence.alerts)
        self.evidence.forget(now - self._config.forget)
        changed = before != set(self.evidence.alerts)
        for key in [*self.evidence.alerts]:
            if self._last.get(key) in ("cool_down", "running", None):
                changed |= self._consider(key, now, always=False)
        for key in before - set(self.evidence.alerts):
            self._consider(key, now, always=False)
        if changed:
            self._save()
        for model in [model for model, task in self._tasks.items() if task.done()]:
            if (fault := self._tasks.pop(model).exception()) is not None:
                _log.error("retraining of model %s: internal error", model, exc_info=fault)
        for model, order in self.orders.items():
            waits = 0.0 < order.due - now <= LONGEST_PAUSE  # beyond that a clock was wrong
            if model not in self._tasks and not waits:
                self._tasks[model] = asyncio.create_task(self._attempt(order))

    async def run(self) -> None:
        """Look every second until cancelled; what runs then is stopped."""
        try:
            while True:
                try:
                    self.look()
                except OSError as error:
                    self._tell_of_disk(error)
                else:
                    self._disk_fault = ""
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _tell_of_disk(self, error: OSError) -> None:
        if self._disk_fault != str(error):
            _log.error("the state cannot be written, so nothing is started: %s", error)
        self._disk_fault = str(error)

    def _consider(self, key: Key, now: float, *, always: bool) -> bool:
        """Decide on a version; returns whether the decision is another than before.

        It is written down `always` when somebody has notified, otherwise when something starts.
        """
        model, version = key
        settings = self.settings_of(model)
        if settings is None:
            return False
        self.counts.know(model)
        past = self.past.setdefault(model, Past())
        alerts = self.evidence.of(key)
        if not alerts:
            self._last.pop(key, None)
            if version in past.versions:  # over: what comes after is another episode
                past.versions.remove(version)
            return True
        verdict = decide(settings, version, alerts, past, model in self.orders, self._config.dry_run, now)
        changed = verdict != self._last.get(key)
        self._last[key] = verdict
        if not always and verdict not in ("started", "dry_run"):
            return False
        self.counts.decisions[model][verdict] += 1
        order = None
        if verdict in ("started", "dry_run"):
            past.versions.append(version)
            past.started = now
            order = Order(_identifier(model, now), model, version, _reasons(alerts), alerts)
            if verdict == "started":
                self.orders[model] = order
                self.counts.triggered[model] += 1
        self._write(verdict, model, version, alerts, id=order.id if order else None)
        return changed

    def _write(self, what: str, model: str, version: str, alerts: list[Alert], **more: Any) -> None:
        reasons = _reasons(alerts)
        self._record.audit(
            {
                "time": datetime.fromtimestamp(self._now(), UTC).isoformat(timespec="milliseconds"),
                "decision": what,
                "model": model,
                "version": version,
                "reasons": reasons,
                **{name: value for name, value in more.items() if value is not None},
                "evidence": as_json(alerts),
            }
        )
        _log.info("retraining of model %s version %s: %s (%s)", model, version, what, ", ".join(reasons))

    async def _attempt(self, order: Order) -> None:
        """Try an order once, and see to what follows."""
        settings = self.settings_of(order.model)
        if settings is None:  # no longer configured
            del self.orders[order.model]
            self._save()
            return
        if order.running:
            self._failed(order, settings, "the receiver was stopped meanwhile")
            return
        order.tries += 1
        order.running = True
        try:
            self._save()
        except OSError as error:  # what is not written down is not begun
            order.tries -= 1
            order.running = False
            self._tell_of_disk(error)
            return
        try:
            await perform(settings, order, self._record.output(order))
        except ActionError as error:
            self._failed(order, settings, str(error))
        else:
            self._end(order, good=True)

    def _failed(self, order: Order, settings: ModelRetraining, error: str) -> None:
        self.counts.failures[order.model] += 1
        order.error, order.running = error, False
        _log.warning("retraining %s failed in try %d of %d: %s", order.id, order.tries, settings.tries, error)
        if order.tries < settings.tries:
            order.due = self._now() + min(LONGEST_PAUSE, settings.retry_after * 2 ** (order.tries - 1))
            self._save()
            self._write("failed", order.model, order.version, order.evidence, id=order.id, error=error)
            return
        self.counts.dead_letters[order.model] += 1
        when = datetime.fromtimestamp(self._now(), UTC).isoformat(timespec="milliseconds")
        self._record.bury({"time": when, "tries": order.tries, "error": error, **order.content()})
        self._end(order, good=False)

    def _end(self, order: Order, *, good: bool) -> None:
        past = self.past.setdefault(order.model, Past())
        past.ended, past.good = self._now(), good
        self.orders.pop(order.model, None)
        what = "done" if good else "given_up"
        self._save()
        self._write(what, order.model, order.version, order.evidence, id=order.id, error=order.error or None)

    def _save(self) -> None:
        alerts = {"\n".join(key): known for key, known in self.evidence.alerts.items()}
        self._record.save(State(alerts=alerts, past=self.past, orders=self.orders))


def _key(name: str) -> Key:
    model, _, version = name.partition("\n")
    return model, version


def _reasons(alerts: Iterable[Alert]) -> list[str]:
    return sorted({alert.reason for alert in alerts})


def _identifier(model: str, now: float) -> str:
    """Return an id that names model and time, and may stand in a path, a label and a Kubernetes name."""
    plain = "".join(letter if letter.isalnum() else "-" for letter in model.lower())[:30].strip("-")
    return f"{plain}-{datetime.fromtimestamp(now, UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
