"""Send predictions and labels to an mlops-exporter from a model server, without ever getting in its way.

    monitor = Monitor("http://127.0.0.1:10042", model="credit", version="3")
    monitor.predict(id="a1", features={"amount": 12.5, "country": "DE"}, score=0.83)
    monitor.label("a1", 0)

Events are gathered and sent by a thread in the background. No call blocks, and none raises for what it is given or for
what happens to it: an event that cannot be sent is counted in `dropped`, and a member of one that cannot be understood
in `left_out`. `watch(estimator, monitor)` sends what a model is asked, and `PredictionMiddleware` what a web service
is. `send_table` is for batch jobs: it waits, and returns what became of every row. This file needs Python's standard
library alone (`send_table` pyarrow, too), so it may be copied into a project as it is.
"""

from __future__ import annotations  # model servers may be older than the exporter

import atexit
import base64
import copy
import gzip
import hashlib
import http.client
import importlib
import json
import logging
import os
import random
import ssl
import threading
import time
import weakref
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from typing import Any
from urllib.parse import unquote, urlsplit

__all__ = ["Monitor", "PredictionMiddleware", "Receipt", "TableNotSentError", "watch"]

_PATH = "/v1/events"
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0  # seconds between tries, doubling
_COMPRESSED_FROM = 1024  # bytes
_BODY_BYTES = 1024 * 1024
_WARNING_SECONDS = 60.0
_DIMENSIONS = 4  # of an array that may hold a single value
_READ_BYTES = 1024 * 1024  # of a request or response that a middleware reads
_CHUNK_ROWS = 8192  # of a table, sent at once
_TOLD_ERRORS = 20  # refused rows that a receipt names
_LONGEST_REFUSAL = 8 * 1024  # bytes of an answer that tells why a table cannot be sent

_log = logging.getLogger("mlops_exporter.client")


class Monitor:
    """A connection to an exporter at `url` (`http[s]://[user:password@]host:port[/prefix]`).

    `model` and `version` are those of events that name none. `features`, `classes` and `groups` name, in their order,
    the values of features, scores and groups that come without names, as in an array. `token` is sent as a bearer
    token, `headers` with every request; `ca_file` (PEM) holds the authorities that vouch for the exporter, `cert_file`
    and `key_file` what it wants to see of a client. `timeout` bounds each request in seconds. A batch is sent when it
    has `batch_events` events or is `batch_seconds` old; at most `queue_events` wait, and further ones are dropped. At
    exit, up to `exit_seconds` are spent on sending what waits.

    `sent` counts the events that the exporter took, `rejected` those that it refused (its answer says why: see the log
    and `last_errors`), `dropped` those that never reached it, `left_out` members of events that could not be
    understood, and so were not sent; the log says which. Raises ValueError when `url` is none.

    Safe to use from many threads, and across os.fork(): a child has an empty queue and counters of its own.
    """

    _deadline: float | None  # until when to go on sending; None before close()

    def __init__(
        self,
        url: str,
        *,
        model: str | None = None,
        version: str | None = None,
        features: Sequence[str] | None = None,
        classes: Sequence[Any] | None = None,
        groups: Sequence[str] | None = None,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
        ca_file: str | None = None,
        cert_file: str | None = None,
        key_file: str | None = None,
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
        self._tls = (ca_file, cert_file, key_file)
        self.feature_names = None if features is None else [_name(name) for name in features]
        self.class_names = None if classes is None else [_name(name) for name in classes]
        self._group_names = None if groups is None else [_name(name) for name in groups]
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
        id: Any = None,  # noqa: A002 - the event's own name for it
        features: Any = None,
        prediction: Any = None,
        score: Any = None,
        scores: Any = None,
        label: Any = None,
        groups: Any = None,
        outcomes: Mapping[str, Any] | None = None,
        horizon: Any = None,
        quantiles: Mapping[Any, Any] | None = None,
        naive: Any = None,
        series: Any = None,
        target_ts: Any = None,
        categories: Any = None,
        latency_seconds: Any = None,
        error: Any = None,
        model: str | None = None,
        version: Any = None,
        ts: Any = None,
    ) -> None:
        """Send a prediction: members as in the event format. With an `id`, a label may follow later.

        `features` are a mapping, a Series, a frame of one row, or values in the order of the names in `features` of
        the monitor; `scores` are a mapping, or a row of `predict_proba` in the order of `classes`. Of two scores
        without names, the second is that of the positive class. `outcomes` are numbers that say how good the answer
        was, by the names that the exporter is configured with. A model that ranks predicts the list of items that was
        shown, an array or a list; `scores` and `categories` are then those of the items, in the same order.

        A forecast has a `horizon`, and may have announced `quantiles` by their levels and what a `naive` forecast says.
        Its `series` and `target_ts` may stand for an id: `actual` is then the label of all forecasts of them.
        """
        try:
            ranked = self._ranked(prediction, scores, categories)
            if ranked:
                prediction = scores = None
            event = {
                "model": model,
                "version": _scalar(version),
                "id": _scalar(id),
                "ts": _scalar(ts),
                "features": self._named("features", features, self.feature_names),
                "prediction": self._outcome("prediction", prediction),
                "score": self._single("score", score),
                "label": self._outcome("label", label),
                "groups": self._named("groups", groups, self._group_names),
                "outcomes": self._named("outcomes", outcomes, None),
                "horizon": self._single("horizon", horizon),
                "quantiles": self._named("quantiles", quantiles, None),
                "naive": self._single("naive", naive),
                "series": self._single("series", series),
                "target_ts": _scalar(target_ts),
                "latency_seconds": self._single("latency_seconds", latency_seconds),
                "error": None if error is None else str(error),
            }
            event |= self._scores(scores)
            event |= ranked
        except Exception as problem:
            self._give_up(1, f"an event cannot be read: {problem!r}")
            return
        self._put(event)

    def label(
        self,
        id: Any,  # noqa: A002
        label: Any,
        *,
        model: str | None = None,
        ts: Any = None,
    ) -> None:
        """Send the true outcome of the prediction with that `id`."""
        try:
            event = {"model": model, "id": _scalar(id), "label": self._outcome("label", label), "ts": _scalar(ts)}
        except Exception as problem:
            self._give_up(1, f"a label cannot be read: {problem!r}")
            return
        self._put(event)

    def actual(
        self,
        series: Any,
        target_ts: Any,
        label: Any,
        *,
        model: str | None = None,
        ts: Any = None,
    ) -> None:
        """Send the actual value of a series at a time: the label of all forecasts that were made of it."""
        try:
            target = {"series": self._single("series", series), "target_ts": _scalar(target_ts)}
            event = {"model": model, **target, "label": self._outcome("label", label), "ts": _scalar(ts)}
        except Exception as problem:
            self._give_up(1, f"an actual value cannot be read: {problem!r}")
            return
        self._put(event)

    def rate(
        self,
        id: Any,  # noqa: A002
        outcomes: Mapping[str, Any],
        *,
        model: str | None = None,
        ts: Any = None,
    ) -> None:
        """Send how good the answer with that `id` was, as a rating that comes later: numbers as in `predict`."""
        try:
            event = {
                "model": model,
                "id": _scalar(id),
                "outcomes": self._named("outcomes", outcomes, None),
                "ts": _scalar(ts),
            }
        except Exception as problem:
            self._give_up(1, f"an outcome cannot be read: {problem!r}")
            return
        self._put(event)

    def send_table(
        self,
        table: Any,
        labels: Any = None,
        *,
        columns: Mapping[str, Any] | None = None,
        model: str | None = None,
        version: Any = None,
        run: str | None = None,
        timezone: str = "UTC",
        untyped: bool = False,
        wait_seconds: float = 3600.0,
        told: Callable[[int], None] | None = None,
    ) -> Receipt:
        """Send the rows of a table as events, wait until the exporter has taken them, and return what became of them.

            receipt = monitor.send_table("scored.parquet", columns={"id": "request_id", "score": "p"})

        `table` is a frame (pandas, Polars), a table or dataset of Arrow, or the path of a file or directory: Parquet,
        Arrow or CSV. `columns` says which columns are what of an event: `id`, `ts`, `version`, `prediction`, `score`,
        `scores` ({class: column}), `label`, `latency_seconds`, `error`, `groups` ([column] or {attribute: column}),
        `outcomes` and `features` (likewise); by default those of that name, and as features all others. Of forecasts
        also `horizon`, `naive`, `series`, `target_ts` and `quantiles` ({level: column}), where named; of ranked lists
        `categories` and `scores` (each a column of lists). `labels` are
        what became true: one value for each row of a frame or table, or another table with `id`, `label` and perhaps
        `ts`. `model` and `version` are those of the monitor unless given; `timezone` is that of times which name none.
        `untyped` says that texts may be numbers, which is known of CSV.

        The rows go in chunks, one after the other, so that memory is bounded by one; when the exporter is full or away
        it is tried again, for up to `wait_seconds` a chunk. Each chunk has a key of the run and its number: a job that
        is run again under the same name counts once, wherever it was interrupted. Without a name, `run` is a digest of
        the content, so that the same rows count once; name it where the same rows are meant to count again.

        `told` hears of each chunk how many rows it had. Raises TableNotSentError, with the receipt so far, and
        ValueError for a table or a certificate that cannot be read. Needs pyarrow.
        """
        self._check_certificates()
        common = {**self._common, **({} if model is None else {"model": model})}
        if version is not None:
            common["version"] = _name(version)
        if "model" not in common:
            raise ValueError("no model: give Monitor(model=…) or send_table(model=…)")
        parts = [_Part("", table, columns or {}, common, timezone, untyped)]
        if labels is not None:
            if _is_tabular(labels):
                ids = ("series", "target_ts") if "series" in (columns or {}) else ("id",)
                wanted = {name: (columns or {}).get(name, name) for name in (*ids, "label")}
                times = (columns or {}).get("ts", "ts")
                parts.append(
                    _Part("labels ", labels, {**wanted, "ts": times, "features": {}}, common, timezone, untyped)
                )
            else:
                parts[0].add_labels(labels)
        for part in parts:
            part.open()
        if run is None:
            digest = hashlib.sha256()
            for part in parts:
                for _, body in part.bodies(_CHUNK_ROWS):
                    digest.update(body)
            run = digest.hexdigest()[:32]
        return _Sending(self, Receipt(run), wait_seconds, told).send(parts)

    def room(self) -> int:
        """Return how many further events could wait now."""
        return max(self._queue_events - len(self._queue), 0)

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

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _reset(self) -> None:
        self.sent = self.rejected = self.dropped = self.left_out = 0
        self.last_errors: Sequence[Any] = ()
        self._queue: deque[dict[str, Any]] = deque()
        self._changed = threading.Condition()  # reentrant: a signal handler may send events too
        self._thread: threading.Thread | None = None
        self._connection: http.client.HTTPConnection | None = None
        self._sending = 0
        self._hurry = False
        self._deadline = None
        self._warned = -_WARNING_SECONDS
        self._explained: set[str] = set()

    def _named(self, what: str, values: Any, names: Sequence[str] | None) -> dict[str, Any] | None:
        """Return named values of one row, None where there are none that could be understood."""
        if values is None:
            return None
        try:
            named = _mapping(values)
            if named is None:
                row = _row(values)
                if names is None or len(row) != len(names):
                    known = "no names are" if names is None else f"{len(names)} names are"
                    raise ValueError(f"{len(row)} values without names, and {known} configured: Monitor({what}=[…])")
                named = dict(zip(names, row))  # noqa: B905 - of one length; `strict` is younger than some servers
        except Exception as problem:
            self._leave_out(what, values, problem)
            return None
        return named

    def _scores(self, scores: Any) -> dict[str, Any]:
        """Return the members of an event that hold the probabilities of all classes."""
        if scores is None:
            return {}
        try:
            named = _mapping(scores)
            if named is not None:
                return {"scores": named}
            row = _row(scores)
            if self.class_names is not None and len(row) == len(self.class_names):
                return {"scores": dict(zip(self.class_names, row))}  # noqa: B905
            if self.class_names is None and len(row) == 2:
                return {"score": row[1]}
            raise ValueError(f"{len(row)} scores, and not as many classes are configured: Monitor(classes=[…])")
        except Exception as problem:
            self._leave_out("scores", scores, problem)
            return {}

    def _ranked(self, shown: Any, scores: Any, categories: Any) -> dict[str, Any]:
        """Return the members of an event that hold a list of items: with categories, or with as many scores as items.

        Nothing where classes have scores, or where it is no list.
        """
        is_list = isinstance(shown, (list, tuple)) or getattr(shown, "ndim", 0) == 1
        scored = scores is not None and self.class_names is None and _mapping(scores) is None
        if not is_list or not (categories is not None or (scored and len(scores) == len(shown))):
            return {}
        members = {"prediction": shown, "scores": scores, "categories": categories}
        return {name: [_scalar(each) for each in values] for name, values in members.items() if values is not None}

    def _outcome(self, what: str, value: Any) -> Any:
        """Return a class or a number; of a set, or of a list of several (or of no) texts, the classes.

        Of a mapping, as the gains of what was relevant in a list, return it with names as texts.
        """
        if what == "label" and isinstance(value, Mapping):
            return {str(_scalar(name)): _scalar(gain) for name, gain in value.items()}
        several = isinstance(value, (list, tuple)) and len(value) != 1 and all(isinstance(m, str) for m in value)
        if several or isinstance(value, (set, frozenset)):
            members = [self._single(what, member) for member in value]
            return None if None in members else members
        return self._single(what, value)

    def _single(self, what: str, value: Any) -> Any:
        """Return a single value, also out of an array of one; None where there are several."""
        if isinstance(value, str):
            return value
        try:
            single = _scalar(value)
            if isinstance(single, Mapping):
                raise ValueError("it is no single value")
        except Exception as problem:
            self._leave_out(what, value, problem)
            return None
        return single

    def _leave_out(self, what: str, value: Any, why: Exception) -> None:
        """Count a member of an event that cannot be understood, and say once of each kind why."""
        with self._changed:
            self.left_out += 1
            new = what not in self._explained
            self._explained.add(what)
        if new:
            _log.warning("events are sent without %s, a %s: %s", what, type(value).__name__, why)

    def _put(self, event: dict[str, Any]) -> None:
        try:
            if event["ts"] is None:
                event["ts"] = time.time()
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

    def _twin(self, content_type: str) -> Monitor:
        """Return another with connection and headers of its own, for whoever sends and waits."""
        twin = copy.copy(self)
        twin._connection = None
        twin._headers = {**self._headers, "Content-Type": content_type}
        return twin

    def _check_certificates(self) -> None:
        """Raise ValueError for a file that no later try would read."""
        try:
            self._connect()
        except OSError as problem:
            files = ", ".join(str(file) for file in self._tls if file is not None)
            raise ValueError(f"{files}: not readable as PEM: {problem.strerror or problem}") from problem

    def _connect(self) -> http.client.HTTPConnection:
        if self._scheme == "http":
            return http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)
        ca_file, cert_file, key_file = self._tls
        context = ssl.create_default_context(cafile=ca_file)  # read anew, so that a renewed certificate is used
        if cert_file is not None:
            context.load_cert_chain(cert_file, key_file)
        return http.client.HTTPSConnection(self._host, self._port, timeout=self._timeout, context=context)

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


def _mapping(values: Any) -> dict[str, Any] | None:
    """Return the named values of one row as a new mapping; None of what has no names. Raises ValueError."""
    if isinstance(values, Mapping):
        return {_name(name): value for name, value in values.items()}
    if hasattr(values, "columns") and hasattr(values, "iloc"):  # a frame of pandas
        if len(values) != 1:
            raise ValueError(f"a frame of {len(values)} rows is not one event")
        return {_name(name): values[name].iloc[0] for name in values.columns}
    if hasattr(values, "to_dicts"):  # one of Polars
        rows = values.to_dicts()
    elif hasattr(values, "to_pylist") and hasattr(values, "schema"):  # one of Arrow
        rows = values.to_pylist()
    elif hasattr(values, "index") and hasattr(values, "to_dict"):  # a Series
        return {_name(name): value for name, value in values.to_dict().items()}
    elif hasattr(values, "_asdict"):  # a named tuple
        return {_name(name): value for name, value in values._asdict().items()}
    elif hasattr(values, "model_dump"):  # a model of Pydantic
        return {_name(name): value for name, value in values.model_dump().items()}
    else:
        return None
    if len(rows) != 1:
        raise ValueError(f"a frame of {len(rows)} rows is not one event")
    return {_name(name): value for name, value in rows[0].items()}


def _row(values: Any) -> list[Any]:
    """Return the values of one row, also of an array of one row. Raises ValueError."""
    if isinstance(values, (str, bytes)):
        return [values]
    if hasattr(values, "toarray"):  # a sparse matrix of SciPy
        values = values.toarray()
    row = values.tolist() if hasattr(values, "tolist") else values
    if not isinstance(row, (list, tuple, range)):
        if not isinstance(row, Iterable):
            return [row]
        row = list(row)
    if len(row) == 1 and hasattr(row[0], "tolist"):
        row = [row[0].tolist()]
    if len(row) == 1 and isinstance(row[0], (list, tuple)):
        return list(row[0])
    if getattr(values, "ndim", 1) > 1:
        raise ValueError(f"{len(row)} rows are not one event")
    return list(row)


def _scalar(value: Any) -> Any:
    """Return a value, or the only one of an array or list. Raises ValueError where there are several."""
    if hasattr(value, "to_list") and not hasattr(value, "tolist"):
        value = value.to_list()
    elif hasattr(value, "tolist"):
        value = value.tolist()
    for _ in range(_DIMENSIONS):
        if not isinstance(value, (list, tuple)):
            return value
        if len(value) != 1:
            raise ValueError(f"{len(value)} values are not one")
        value = value[0]
    raise ValueError("lists in lists are not one value")


def _name(name: Any) -> str:
    """Return the name of a feature or class as the exporter compares it."""
    name = name.item() if hasattr(name, "item") else name
    if isinstance(name, bool):
        return "true" if name else "false"
    return str(int(name)) if isinstance(name, float) and name.is_integer() else str(name)


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
    if isinstance(value, Decimal):
        return _without_nan(float(value))
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, (set, frozenset)):
        return list(value)
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def watch(
    estimator: Any,
    monitor: Monitor,
    *,
    methods: Sequence[str] = ("predict", "predict_proba"),
    ids: Callable[[Any], Iterable[Any]] | None = None,
    groups: Callable[[Any], Iterable[Any]] | None = None,
) -> Any:
    """Return the estimator, but that every row it is asked about is sent to a monitor, with the answer.

        model = watch(joblib.load("credit.joblib"), monitor)

    `methods` are those that are watched: where both are called for one row, name one. `ids` and `groups` return, for
    the rows that a method was given, an id and a mapping of groups each. Names of features and classes are those of
    the frame, of the monitor, or of the estimator (`feature_names_in_`, `classes_`). It answers as it would without.
    """
    return _Watched(estimator, monitor, frozenset(methods), ids, groups)


class _Watched:
    """An estimator of which all but the watched methods is its own."""

    def __init__(
        self,
        estimator: Any,
        monitor: Monitor,
        methods: frozenset[str],
        ids: Callable[[Any], Iterable[Any]] | None,
        groups: Callable[[Any], Iterable[Any]] | None,
    ) -> None:
        self.__dict__.update(_estimator=estimator, _monitor=monitor, _methods=methods, _ids=ids, _groups=groups)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "_estimator" not in self.__dict__:  # being copied or unpickled
            raise AttributeError(name)
        found = getattr(self._estimator, name)
        return self._watched(name, found) if name in self._methods and callable(found) else found

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._estimator, name, value)

    def __dir__(self) -> Iterable[str]:
        return dir(self._estimator)

    def __repr__(self) -> str:
        return f"watch({self._estimator!r})"

    def _watched(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(rows: Any, *arguments: Any, **options: Any) -> Any:
            begin = time.perf_counter()
            try:
                answer = method(rows, *arguments, **options)
            except Exception as problem:
                self._send(name, rows, None, time.perf_counter() - begin, type(problem).__name__)
                raise
            self._send(name, rows, answer, time.perf_counter() - begin, None)
            return answer

        return call

    def _send(self, name: str, rows: Any, answer: Any, seconds: float, error: str | None) -> None:
        monitor = self._monitor
        try:
            names = monitor.feature_names or _names_of(self._estimator, "feature_names_in_")
            features = _rows(rows, monitor.room(), names)
            answers = [None] * len(features) if answer is None else _first(answer, len(features))
            ids = [None] * len(features) if self._ids is None else _first(self._ids(rows), len(features))
            groups = [None] * len(features) if self._groups is None else _first(self._groups(rows), len(features))
            classes = monitor.class_names or _names_of(self._estimator, "classes_")
            for each, said, identifier, group in zip(features, answers, ids, groups):  # noqa: B905
                outcome: dict[str, Any] = {"prediction": said}
                if name == "predict_proba" and said is not None:
                    named = classes is not None and len(classes) == len(said)
                    outcome = {"scores": dict(zip(classes or (), said)) if named else said}  # noqa: B905
                monitor.predict(
                    id=identifier, features=each, groups=group, latency_seconds=seconds, error=error, **outcome
                )
            if (unsent := _length(rows) - len(features)) > 0:
                monitor._give_up(unsent, "more rows than may wait were predicted at once")
        except Exception as problem:
            monitor._give_up(1, f"what {name} was asked cannot be read: {problem!r}")


def _names_of(estimator: Any, attribute: str) -> list[str] | None:
    try:
        names = getattr(estimator, attribute, None)
        return None if names is None else [_name(name) for name in names]
    except Exception:  # a property of an estimator that is not fitted
        return None


def _length(rows: Any) -> int:
    return int(rows.shape[0]) if hasattr(rows, "shape") else len(rows)


def _first(values: Any, count: int) -> list[Any]:
    """Return the first values of an array, Series or other sequence."""
    values = values[:count] if hasattr(values, "__getitem__") else list(values)[:count]
    return list(values.tolist() if hasattr(values, "tolist") else values)


def _rows(rows: Any, limit: int, names: Sequence[str] | None) -> list[Any]:
    """Return the first `limit` rows of what an estimator was given, with names where there are some."""
    if hasattr(rows, "columns") and hasattr(rows, "iloc"):
        head = rows.iloc[:limit]
        columns = [head[name].tolist() for name in head.columns]
        return [dict(zip(map(_name, head.columns), row)) for row in zip(*columns)]  # noqa: B905
    if hasattr(rows, "to_dicts"):
        return list(rows.head(limit).to_dicts())
    head = rows[:limit]
    if hasattr(head, "toarray"):
        head = head.toarray()
    values = head.tolist() if hasattr(head, "tolist") else list(head)
    if names is None:
        return values
    return [dict(zip(names, row)) if _fits(row, names) else row for row in values]  # noqa: B905


def _fits(row: Any, names: Sequence[str]) -> bool:
    return isinstance(row, (list, tuple)) and len(row) == len(names)


_Scope = dict[str, Any]
_Receive = Callable[[], Awaitable[dict[str, Any]]]
_Send = Callable[[dict[str, Any]], Awaitable[None]]


class PredictionMiddleware:
    """ASGI middleware (FastAPI, Starlette, …) that sends what a prediction service is asked, and answers, to a monitor.

        app.add_middleware(PredictionMiddleware, monitor=monitor, path="/predict")

    A POST to `path` whose bodies are JSON becomes an event by `read(request, response)`, which returns the arguments
    of `Monitor.predict`, a list of them, or None. Without `read`, the request is the features, or has them as its
    member `features` beside `id` and `groups`, and the response has `prediction`, `score` or `scores`. The header
    `X-Request-ID` is the id where there is no other. An answer of 500 or more is a failed prediction; one of 400 to
    499 is none. The service answers as it would without, and bodies over 1 MiB are passed on unread.
    """

    def __init__(
        self,
        app: Callable[[_Scope, _Receive, _Send], Awaitable[None]],
        monitor: Monitor,
        path: str = "/predict",
        read: Callable[[Any, Any], Any] | None = None,
    ) -> None:
        self._app = app
        self._monitor = monitor
        self._path = path
        self._read = read or _as_usual

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        """Pass a request on, and what is asked and answered to the monitor."""
        if scope["type"] != "http" or scope.get("method") != "POST" or scope.get("path") != self._path:
            await self._app(scope, receive, send)
            return
        asked, answered = _Body(), _Body()
        status = 500

        async def receive_and_note() -> dict[str, Any]:
            message = await receive()
            if message["type"] == "http.request":
                asked.add(message.get("body", b""))
            return message

        async def send_and_note(message: dict[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            elif message["type"] == "http.response.body":
                answered.add(message.get("body", b""))
            await send(message)

        begin = time.perf_counter()
        error = None
        try:
            await self._app(scope, receive_and_note, send_and_note)
        except Exception as problem:
            error = type(problem).__name__
            raise
        finally:
            self._tell(scope, asked, answered, status, time.perf_counter() - begin, error)

    def _tell(
        self, scope: _Scope, asked: _Body, answered: _Body, status: int, seconds: float, error: str | None
    ) -> None:
        if error is None and 400 <= status < 500:
            return
        failed = error or (f"status {status}" if status >= 500 else None)
        try:
            events = self._read(asked.json(), None if failed else answered.json())
            if events is None:
                return
            headers = {name.lower(): value.decode("latin-1") for name, value in scope.get("headers", ())}
            several = isinstance(events, (list, tuple))
            common = {"latency_seconds": seconds, "error": failed}
            if not several and b"x-request-id" in headers:
                common["id"] = headers[b"x-request-id"]
            each: Any
            for each in events if several else [events]:
                given = {name: value for name, value in each.items() if value is not None}
                self._monitor.predict(**{**common, **given})
        except Exception as problem:
            self._monitor._give_up(1, f"what {self._path} was asked cannot be read: {problem!r}")


class _Body:
    """The body of a request or response, while it is not too long."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def add(self, part: bytes) -> None:
        self._size += len(part)
        if self._size <= _READ_BYTES:
            self._parts.append(part)

    def json(self) -> Any:
        """Return the value; raises ValueError."""
        if self._size > _READ_BYTES:
            raise ValueError("a body of more than 1 MiB is not read")
        return json.loads(b"".join(self._parts))


def _as_usual(request: Any, response: Any) -> dict[str, Any]:
    """Return the event of a request and its response, None where it failed, in the usual form."""
    asked = request if isinstance(request, dict) else {"features": request}
    event = {name: asked.get(name) for name in ("id", "groups")} if "features" in asked else {}
    event["features"] = asked.get("features", asked)
    if isinstance(response, dict):
        event.update({name: response.get(name) for name in ("prediction", "score", "scores")})
        event["id"] = event.get("id") or response.get("id")
    elif response is not None:
        event["prediction"] = response
    return event


@dataclass
class Receipt:
    """What became of the rows of a table that was sent as `run`.

    `accepted` rows are counted, `refused` ones by reason, `errors` some of them: (row, reason), rows count from 1.
    `repeated` rows are among these, but the exporter had them already from a run of the same name; of `changed` ones it
    had others then, which it keeps. `complete` is False where the rest could not be sent.
    """

    run: str
    rows: int = 0
    accepted: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    repeated: int = 0
    changed: int = 0
    chunks: int = 0
    seconds: float = 0.0
    complete: bool = False
    errors: list[tuple[int, str]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return it as what JSON can write."""
        return asdict(self)


class TableNotSentError(Exception):
    """A table could not be sent to its end; the message says why, `receipt` what came of the part before."""

    def __init__(self, message: str, receipt: Receipt) -> None:
        super().__init__(message)
        self.receipt = receipt


_SINGLE = ("id", "ts", "version", "prediction", "score", "label", "latency_seconds", "error")
_NAMED = ("horizon", "naive", "series", "target_ts", "categories")  # where they are: other tables' features are so, too
_NESTED = ("scores", "groups", "outcomes", "quantiles", "features")
_ARROW = "application/vnd.apache.arrow.stream"


def _is_tabular(value: Any) -> bool:
    return isinstance(value, (str, os.PathLike)) or any(
        hasattr(value, name) for name in ("to_batches", "columns", "to_arrow")
    )


def _arrow(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ImportError("send_table needs pyarrow: pip install pyarrow") from None


class _Part:
    """Rows to be sent, and what their columns mean."""

    def __init__(
        self,
        name: str,
        table: Any,
        columns: Mapping[str, Any],
        common: Mapping[str, str],
        timezone: str,
        untyped: bool,
    ) -> None:
        self.name = name
        self._labels_alone = bool(name)
        known = (*_SINGLE, *_NAMED, *_NESTED)
        if unknown := set(columns) - {*known}:
            raise ValueError(f"columns: {', '.join(sorted(unknown))}: there are {', '.join(known)}")
        listed = ("scores",) if isinstance(columns.get("scores"), str) else ()
        single, nested = (*_SINGLE, *_NAMED, *listed), (name for name in _NESTED if name not in listed)
        self._single = {name: str(columns[name]) for name in single if columns.get(name) is not None}
        self._nested = {name: _pairs(columns[name]) for name in nested if columns.get(name) is not None}
        self._common = common
        self._timezone = timezone
        self._untyped = untyped
        self._table = table
        self._labels: Any = None

    def add_labels(self, labels: Any) -> None:
        """Let each row have its label; raises ValueError where these are not as many."""
        self._labels = list(labels.tolist() if hasattr(labels, "tolist") else labels)

    def open(self) -> None:
        """Look at the table; raises ValueError."""
        pa = _arrow("pyarrow")
        if isinstance(self._table, (str, os.PathLike)):
            self._table, untyped = _dataset(os.fspath(self._table))
            self._untyped = self._untyped or untyped
        elif hasattr(self._table, "to_arrow"):
            self._table = self._table.to_arrow()
        elif not hasattr(self._table, "to_batches"):
            self._table = pa.Table.from_pandas(self._table, preserve_index=False)
        if self._labels is not None:
            rows = getattr(self._table, "num_rows", None)
            if rows != len(self._labels):
                raise ValueError(f"{len(self._labels)} labels for {rows} rows: give one for each, or a table with ids")
            self._single["label"] = "label"
            self._table = self._table.drop_columns([n for n in self._table.column_names if n == "label"])
            self._table = self._table.append_column("label", pa.array(self._labels))

    def bodies(self, rows: int) -> Iterator[tuple[int, bytes]]:
        """Yield so many rows each, and how many, as Arrow streams of events; the same whatever the batches were."""
        pa = _arrow("pyarrow")
        waiting: list[Any] = []
        count, first = 0, 1
        for batch in self._batches():
            start = 0
            while start < batch.num_rows:
                piece = batch.slice(start, rows - count)
                start += piece.num_rows
                waiting.append(piece)
                count += piece.num_rows
                if count == rows:
                    yield count, self._body(pa.Table.from_batches(waiting), first)
                    waiting, count, first = [], 0, first + count
        if count:
            yield count, self._body(pa.Table.from_batches(waiting), first)

    def _batches(self) -> Iterator[Any]:
        if hasattr(self._table, "scanner"):  # a dataset, which would read far ahead
            ahead = {"batch_size": _CHUNK_ROWS, "batch_readahead": 2, "fragment_readahead": 1}
            return iter(self._table.to_batches(**ahead))
        return iter(self._table.to_batches())

    def halves(self, body: bytes) -> list[tuple[int, bytes]]:
        """Return a body that is too large as two."""
        pa = _arrow("pyarrow")
        with pa.ipc.open_stream(body) as stream:
            table = stream.read_all()
        half = table.num_rows // 2
        parts = [table.slice(0, half), table.slice(half)]
        return [(part.num_rows, _stream(part)) for part in parts if part.num_rows]

    def _body(self, table: Any, first: int) -> bytes:
        """Return rows, numbered from `first`, as an Arrow stream of events; raises ValueError."""
        pa = _arrow("pyarrow")
        found: dict[str, Any] = {}
        for name in _SINGLE:
            column = self._single.get(name, name)
            if column in table.column_names and (name in self._single or not self._labels_alone):
                found[name] = _plain_column(table.column(column))
            elif name in self._single and not (self._labels_alone and name == "ts"):
                raise ValueError(f"no column {column!r} for {name}; there are {', '.join(table.column_names)}")
        for name in (*_NAMED, "scores"):
            if name in self._single:
                if self._single[name] not in table.column_names:
                    there = ", ".join(table.column_names)
                    raise ValueError(f"no column {self._single[name]!r} for {name}; there are {there}")
                found[name] = _plain_column(table.column(self._single[name]))
        for name in {"ts", "target_ts"} & found.keys():
            try:
                found[name] = _times(found[name], self._timezone)
            except _NoTimeError as odd:
                raise ValueError(
                    f"row {first + odd.place}, column {self._single.get(name, name)!r}: {odd.text!r} is no time: write "
                    "all as 2026-11-01T12:00:00Z, all without a zone, or all as Unix seconds"
                ) from None
        used = {self._single.get(name, name) for name in found}
        for name in _NESTED:
            if name in self._nested:
                if missing := [each for each in self._nested[name].values() if each not in table.column_names]:
                    raise ValueError(f"no column {missing[0]!r} for {name}; there are {', '.join(table.column_names)}")
                members = {key: _plain_column(table.column(each)) for key, each in self._nested[name].items()}
                if members:
                    found[name] = pa.StructArray.from_arrays(list(members.values()), list(members))
                used |= set(self._nested[name].values()) if name != "groups" else set()
        if "features" not in self._nested:
            others = {name: table.column(name) for name in table.column_names if name not in used}
            if "features" in others and pa.types.is_struct(others["features"].type):
                found["features"] = _plain_column(others["features"])
            elif others:
                members = {name: _plain_column(column) for name, column in others.items()}
                found["features"] = pa.StructArray.from_arrays(list(members.values()), list(members))
        events = pa.table(found)
        return _stream(events.replace_schema_metadata({**self._common, **({"untyped": "1"} if self._untyped else {})}))


def _pairs(names: Any) -> dict[str, str]:
    """Return columns by what they are called in events."""
    pairs = names.items() if isinstance(names, Mapping) else ((name, name) for name in names)
    return {_name(key): str(value) for key, value in pairs}


def _stream(table: Any) -> bytes:
    pa = _arrow("pyarrow")
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    body: bytes = sink.getvalue().to_pybytes()
    return body


def _plain_column(column: Any) -> Any:
    """Return a column as one array of a type that events have."""
    pa = _arrow("pyarrow")
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
        if isinstance(column, pa.ChunkedArray):
            column = column.chunk(0) if column.num_chunks else pa.array([], column.type)
    if isinstance(column.type, pa.BaseExtensionType):
        column = column.storage
    if pa.types.is_decimal(column.type):
        return column.cast(pa.string()).cast(pa.float64())  # Arrow's own cast is off by one place now and then
    return column


class _NoTimeError(Exception):
    """A text at some place is no time, or none like those before."""

    def __init__(self, place: int, text: str) -> None:
        super().__init__(place, text)
        self.place, self.text = place, text


def _times(column: Any, timezone: str) -> Any:
    """Return times with a zone; numbers, which are Unix seconds, as they are. Raises _NoTimeError."""
    pa, pc = _arrow("pyarrow"), _arrow("pyarrow.compute")
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        finest = [pa.timestamp(unit, zone) for unit in ("us", "ns") for zone in ("UTC", None)]
        kinds, texts = (*finest, pa.float64()), column
        column = next((found for kind in kinds if (found := _cast(texts, kind)) is not None), None)
        if column is None:
            place = max(_first_unlike(texts, kind) for kind in kinds)
            raise _NoTimeError(place, texts[place].as_py())
    if pa.types.is_date(column.type):
        column = column.cast(pa.timestamp("us"))
    if pa.types.is_timestamp(column.type) and column.type.tz is None:
        column = pc.assume_timezone(column, timezone, ambiguous="earliest", nonexistent="earliest")
    return column


def _cast(texts: Any, kind: Any) -> Any:
    try:
        return texts.cast(kind)
    except _arrow("pyarrow").ArrowInvalid:
        return None


def _first_unlike(texts: Any, kind: Any) -> int:
    """Return the place of the first text that is none of a kind, which not all are."""
    low, high = 0, len(texts)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _cast(texts.slice(low, middle - low), kind) is None else (middle, high)
    return low


def _dataset(path: str) -> tuple[Any, bool]:
    """Return the table at a path, and whether its cells have no types. Raises ValueError."""
    pa = _arrow("pyarrow")
    dataset, csv = _arrow("pyarrow.dataset"), _arrow("pyarrow.csv")
    kinds = {".parquet": "parquet", ".pq": "parquet", ".arrow": "feather", ".feather": "feather", ".ipc": "feather"}
    kind = kinds.get("." + path.lower().rpartition(".")[2], "parquet")  # a directory is of Parquet
    try:
        if path.lower().endswith((".csv", ".csv.gz")):
            names = csv.open_csv(path).schema.names
            options = csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=True)
            return dataset.dataset(path, format=dataset.CsvFileFormat(convert_options=options)), True
        return dataset.dataset(path, format=kind, partitioning="hive"), False
    except (pa.ArrowException, OSError, TypeError) as problem:
        raise ValueError(f"{path}: not a readable table: {str(problem).splitlines()[0]}") from problem


class _Sending:
    """Sends bodies one after the other until each is taken, and keeps the receipt."""

    def __init__(
        self, monitor: Monitor, receipt: Receipt, wait_seconds: float, told: Callable[[int], None] | None
    ) -> None:
        self._monitor = monitor._twin(_ARROW)
        self._receipt = receipt
        self._wait_seconds = wait_seconds
        self._told = told
        self._begin = time.monotonic()

    def send(self, parts: Iterable[_Part]) -> Receipt:
        """Send everything. Raises TableNotSentError."""
        try:
            for part in parts:
                for number, (rows, body) in enumerate(part.bodies(_CHUNK_ROWS)):
                    self._send(part, f"{part.name}{number}", rows, body)
                    if self._told is not None:
                        self._told(rows)
        finally:
            self._receipt.seconds = time.monotonic() - self._begin
            self._monitor._disconnect()
        self._receipt.complete = True
        return self._receipt

    def _send(self, part: _Part, chunk: str, rows: int, body: bytes) -> None:
        headers = {**self._monitor._headers, "Idempotency-Key": f"{self._receipt.run}/{chunk}"}
        pause, deadline = _FIRST_PAUSE, time.monotonic() + self._wait_seconds
        while True:
            after = None
            try:
                status, after, answer = self._monitor._post(body, headers)
            except (OSError, http.client.HTTPException) as problem:
                self._monitor._disconnect()
                status, what = 0, repr(problem)
            else:
                if status in (200, 202, 400, 403, 422) and self._note(rows, answer):
                    return
                if status == 413 and rows > 1:
                    for number, (fewer, half) in enumerate(part.halves(body)):
                        self._send(part, f"{chunk}.{number}", fewer, half)
                    return
                what = f"answer {status}: {answer[:_LONGEST_REFUSAL].decode(errors='replace').strip()}"
                if 400 <= status < 500 and status not in (408, 429):
                    raise TableNotSentError(what, self._receipt)
            jittered = pause * random.uniform(0.5, 1.0)  # nosec B311: so that not all clients come back at once
            seconds = jittered if after is None else after
            if time.monotonic() + seconds > deadline:
                raise TableNotSentError(f"tried for {self._wait_seconds:g} s: {what}", self._receipt)
            time.sleep(seconds)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _note(self, rows: int, answer: bytes) -> bool:
        """Add an answer to the receipt; False when it is none of the exporter."""
        try:
            value = json.loads(answer)
            accepted, repeated = int(value["accepted"]), value.get("repeated")
            refused = {str(reason): int(count) for reason, count in value.get("refused", {}).items()}
            errors = [(int(each["line"]), str(each["reason"])) for each in value["errors"]]
        except (ValueError, KeyError, TypeError, AttributeError):
            return False
        receipt = self._receipt
        for reason, count in refused.items():
            receipt.refused[reason] = receipt.refused.get(reason, 0) + count
        receipt.errors += [
            (receipt.rows + line, reason) for line, reason in errors[: _TOLD_ERRORS - len(receipt.errors)]
        ]
        receipt.rows += rows
        receipt.accepted += accepted
        receipt.chunks += 1
        if repeated:
            receipt.repeated += rows
            receipt.changed += rows if repeated == "changed" else 0
        return True


_monitors: weakref.WeakSet[Monitor] = weakref.WeakSet()


def _close_all() -> None:
    for monitor in list(_monitors):
        monitor.close()


def _forget_parent() -> None:
    for monitor in list(_monitors):
        monitor._reset()


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parent)
