"""Send predictions and labels to an mlops-exporter from a model server, without ever getting in its way.

    monitor = Monitor("http://127.0.0.1:10042", model="credit", version="3")
    monitor.predict(id="a1", features={"amount": 12.5, "country": "DE"}, score=0.83)
    monitor.label("a1", 0)

Events are gathered and sent by a thread in the background. No call blocks, and none raises for what it is given or for
what happens to it: an event that cannot be sent is counted in `dropped`. This file needs Python's standard library
alone, so it may be copied into a project as it is.
"""

import atexit
import base64
import gzip
import http.client
import json
import logging
import os
import random
import threading
import time
import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

__all__ = ["Monitor"]

_PATH = "/v1/events"
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0  # seconds between tries, doubling
_COMPRESSED_FROM = 1024  # bytes
_BODY_BYTES = 1024 * 1024
_WARNING_SECONDS = 60.0

_log = logging.getLogger("mlops_exporter.client")


class Monitor:
    """A connection to an exporter at `url` (`http[s]://[user:password@]host:port[/prefix]`).

    `model` and `version` are those of events that name none. `token` is sent as a bearer token, `headers` with every
    request. `timeout` bounds each request in seconds. A batch is sent when it has `batch_events` events or is
    `batch_seconds` old; at most `queue_events` wait, and further ones are dropped. At exit, up to `exit_seconds` are
    spent on sending what waits.

    `sent` counts the events that the exporter took, `rejected` those that it refused (its answer says why: see the log
    and `last_errors`), `dropped` those that never reached it. Raises ValueError when `url` is none.

    Safe to use from many threads, and across os.fork(): a child has an empty queue and counters of its own.
    """

    _deadline: float | None  # until when to go on sending; None before close()

    def __init__(
        self,
        url: str,
        *,
        model: str | None = None,
        version: str | None = None,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 5.0,
        batch_events: int = 500,
        batch_seconds: float = 1.0,
        queue_events: int = 10_000,
        exit_seconds: float = 3.0,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is not the URL of an exporter: write http://host:10042")
        self._scheme, self._host, self._port = parts.scheme, parts.hostname, parts.port
        self._timeout = timeout
        self._path = parts.path.rstrip("/").removesuffix(_PATH) + _PATH
        self._headers = {"Content-Type": "application/x-ndjson", **(headers or {})}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"
        elif parts.username:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self._headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        self._common = {name: value for name, value in (("model", model), ("version", version)) if value is not None}
        self._batch_events = batch_events
        self._batch_seconds = batch_seconds
        self._queue_events = queue_events
        self._exit_seconds = exit_seconds
        self._reset()
        _monitors.add(self)

    def predict(
        self,
        *,
        id: str | int | None = None,  # noqa: A002 - the event's own name for it
        features: Mapping[Any, Any] | None = None,
        prediction: Any = None,
        score: Any = None,
        scores: Mapping[str, Any] | None = None,
        label: Any = None,
        groups: Mapping[str, Any] | None = None,
        latency_seconds: Any = None,
        error: str | None = None,
        model: str | None = None,
        version: str | None = None,
        ts: Any = None,
    ) -> None:
        """Send a prediction: members as in the event format. With an `id`, a label may follow later."""
        self._put(
            {
                "model": model,
                "version": version,
                "id": id,
                "ts": ts,
                "features": None if features is None else dict(features),
                "prediction": prediction,
                "score": score,
                "scores": None if scores is None else dict(scores),
                "label": label,
                "groups": None if groups is None else dict(groups),
                "latency_seconds": latency_seconds,
                "error": error,
            }
        )

    def label(
        self,
        id: str | int,  # noqa: A002
        label: Any,
        *,
        model: str | None = None,
        ts: Any = None,
    ) -> None:
        """Send the true outcome of the prediction with that `id`."""
        self._put({"model": model, "id": id, "label": label, "ts": ts, "version": None})

    def flush(self, timeout: float = 5.0) -> bool:
        """Send what waits now, at once; returns whether all of it was sent or given up within `timeout` seconds."""
        with self._changed:
            self._hurry = True
            self._changed.notify_all()
            return self._changed.wait_for(lambda: not self._queue and not self._sending, timeout)

    def close(self, timeout: float | None = None) -> None:
        """Send what waits for up to `timeout` seconds (default `exit_seconds`), drop the rest, and take no more."""
        seconds = self._exit_seconds if timeout is None else timeout
        with self._changed:
            self._deadline = time.monotonic() + seconds
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join(seconds + 0.05)
        with self._changed:
            self.dropped += len(self._queue)
            self._queue.clear()
        _monitors.discard(self)

    def __enter__(self) -> "Monitor":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _reset(self) -> None:
        self.sent = self.rejected = self.dropped = 0
        self.last_errors: Sequence[Any] = ()
        self._queue: deque[dict[str, Any]] = deque()
        self._changed = threading.Condition()  # reentrant: a signal handler may send events too
        self._thread: threading.Thread | None = None
        self._connection: http.client.HTTPConnection | None = None
        self._sending = 0
        self._hurry = False
        self._deadline = None
        self._warned = -_WARNING_SECONDS

    def _put(self, event: dict[str, Any]) -> None:
        if event["ts"] is None:
            event["ts"] = time.time()
        try:
            with self._changed:
                if len(self._queue) >= self._queue_events or self._deadline is not None:
                    self.dropped += 1
                    return
                if self._thread is None:
                    thread = threading.Thread(target=self._run, name="mlops-exporter-client", daemon=True)
                    thread.start()
                    self._thread = thread
                self._queue.append(event)
                if len(self._queue) in (1, self._batch_events):
                    self._changed.notify_all()
        except Exception as problem:
            self._give_up(1, f"no thread could be started: {problem}")

    def _run(self) -> None:
        while batch := self._next_batch():
            try:
                self._send_batch(batch)
            except Exception as problem:
                self._give_up(len(batch), repr(problem))
            with self._changed:
                self._sending = 0
                self._changed.notify_all()
        self._disconnect()

    def _next_batch(self) -> list[dict[str, Any]]:
        """Wait for events and return some; none when closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._deadline is not None)
            self._changed.wait_for(
                lambda: len(self._queue) >= self._batch_events or self._hurry or self._deadline is not None,
                self._batch_seconds,
            )
            batch = [self._queue.popleft() for _ in range(min(len(self._queue), self._batch_events))]
            self._sending = len(batch)
            self._hurry = self._hurry and bool(self._queue)
            return batch

    def _send_batch(self, batch: Sequence[dict[str, Any]]) -> None:
        lines: list[bytes] = []
        size = 0
        for event in batch:
            try:
                line = _encode({**self._common, **{name: each for name, each in event.items() if each is not None}})
            except Exception as problem:
                self._give_up(1, f"an event is not JSON: {problem}")
                continue
            if lines and size + len(line) > _BODY_BYTES:
                self._send(lines)
                lines, size = [], 0
            lines.append(line)
            size += len(line)
        if lines:
            self._send(lines)

    def _send(self, lines: Sequence[bytes]) -> None:
        """Post lines until they are taken, refused, or out of time."""
        body, headers = b"".join(lines), self._headers
        if len(body) >= _COMPRESSED_FROM:
            body, headers = gzip.compress(body, 1), {**headers, "Content-Encoding": "gzip"}
        pause = _FIRST_PAUSE
        while True:
            try:
                status, retry_after, answer = self._post(body, headers)
            except (OSError, http.client.HTTPException) as problem:
                self._disconnect()
                status, retry_after, what = 0, None, repr(problem)
            else:
                if status in (200, 202, 400) and self._take_answer(answer):
                    return
                what = f"answer {status}: {answer[:200].decode(errors='replace').strip()}"
                if status not in (408, 429) and status < 500:
                    self._give_up(len(lines), what)
                    return
            jittered = pause * random.uniform(0.5, 1.0)  # nosec B311: so that not all clients come back at once
            if not self._pause(jittered if retry_after is None else retry_after, what):
                self._give_up(len(lines), what)
                return
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _connect(self) -> http.client.HTTPConnection:
        make = http.client.HTTPSConnection if self._scheme == "https" else http.client.HTTPConnection
        return make(self._host, self._port, timeout=self._timeout)

    def _post(self, body: bytes, headers: Mapping[str, str]) -> tuple[int, float | None, bytes]:
        """Return status, Retry-After in seconds, and body of the answer."""
        if self._connection is None:
            self._connection = self._connect()
        try:
            self._connection.request("POST", self._path, body, dict(headers))
            response = self._connection.getresponse()
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            # Servers close connections that idled; a new one tells whether it was that.
            self._disconnect()
            self._connection = self._connect()
            self._connection.request("POST", self._path, body, dict(headers))
            response = self._connection.getresponse()
        answer = response.read()
        after = response.getheader("Retry-After", "")
        return response.status, min(float(after), 300.0) if after.isdecimal() else None, answer

    def _take_answer(self, answer: bytes) -> bool:
        """Count what the exporter says it took and refused; False when that is not its answer."""
        try:
            value = json.loads(answer)
            accepted, rejected, errors = int(value["accepted"]), int(value["rejected"]), list(value["errors"])
        except (ValueError, KeyError, TypeError):
            return False
        with self._changed:
            self.sent += accepted
            self.rejected += rejected
            self.last_errors = errors or self.last_errors
        if rejected:
            self._warn(f"{rejected} events were refused: {errors[:3]}")
        return True

    def _pause(self, seconds: float, why: str) -> bool:
        """Wait before another try; False when closing leaves no time for one."""
        self._warn(f"events wait: {why}")
        until = time.monotonic() + seconds
        with self._changed:
            while (now := time.monotonic()) < until:
                if self._deadline is not None and self._deadline <= until:
                    return False
                self._changed.wait(until - now)
        return True

    def _give_up(self, events: int, why: str) -> None:
        with self._changed:
            self.dropped += events
        self._warn(f"events are dropped: {why}")

    def _warn(self, message: str) -> None:
        now = time.monotonic()
        if now >= self._warned + _WARNING_SECONDS:
            self._warned = now
            _log.warning("%s (sent %d, rejected %d, dropped %d)", message, self.sent, self.rejected, self.dropped)

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _encode(event: Mapping[str, Any]) -> bytes:
    plain = {name: _without_nan(value) for name, value in event.items()}
    return json.dumps(plain, separators=(",", ":"), default=_plain).encode() + b"\n"


def _without_nan(value: Any) -> Any:
    """Return a value with null for NaN, also in a mapping: JSON has no NaN, and the exporter counts null as missing."""
    if isinstance(value, dict):
        return {name: _without_nan(each) for name, each in value.items()}
    return None if isinstance(value, float) and value != value else value


def _plain(value: Any) -> Any:
    """Return what json can write for numbers, arrays and times of NumPy and pandas; text for anything else."""
    if hasattr(value, "tolist"):
        return _without_nan(value.tolist())
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


_monitors: "weakref.WeakSet[Monitor]" = weakref.WeakSet()


def _close_all() -> None:
    for monitor in list(_monitors):
        monitor.close()


def _forget_parent() -> None:
    for monitor in list(_monitors):
        monitor._reset()


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parent)
