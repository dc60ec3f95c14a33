"""Where events should come from: whether it is there, can be read, and holds events that would be taken.

A few waiting events are decoded as the exporter would, and thrown away; nothing is acknowledged or committed.
"""

import asyncio
import glob
import gzip
import logging
import os
import re
import time
import zlib
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

from mlops_exporter.counting.model import Model
from mlops_exporter.doctor.findings import Finding, ok, problem, warning
from mlops_exporter.doctor.remedies import refusal
from mlops_exporter.events.decoder import Decoder
from mlops_exporter.ingest.members import MemberSet, Part, here
from mlops_exporter.profile.profiles import Profiles
from mlops_exporter.settings.config import Config
from mlops_exporter.settings.durations import format_duration
from mlops_exporter.settings.sources import (
    FileSettings,
    KafkaSettings,
    MembersSettings,
    RedisSettings,
    SourceSettings,
)
from mlops_exporter.settings.tables import TableSettings
from mlops_exporter.sources.base import QueueFullError
from mlops_exporter.sources.lines import lines_of, ndjson
from mlops_exporter.tables.errors import TableError
from mlops_exporter.tables.files import find

AREA = "sources"
SAMPLE_BYTES = 256 * 1024
SAMPLE_ENTRIES = 20
SILENT_SECONDS = 86_400.0
TIMEOUT_SECONDS = 5.0

_log = logging.getLogger(__name__)

_LOCALHOST = "in a container, localhost is the container itself"

Try = Callable[[bytes], Iterator[Finding]]
"""Says what would become of a body."""


def check(source: SourceSettings, settings: Config, profiles: dict[str, Profiles]) -> Iterator[Finding]:
    """Yield how one source is."""

    def attempt(body: bytes) -> Iterator[Finding]:
        return trial(source.name, body, settings, profiles)

    if source.file is not None:
        yield from _file(source.name, source.file, attempt)
    elif source.redis is not None:
        yield from _redis(source.name, source.redis, attempt)
    elif source.kafka is not None:
        yield from _kafka(source.name, source.kafka, _label_ttl(settings))
    elif source.table is not None:
        yield from _table(source.name, source.table)
    elif source.sql is not None:
        yield ok(AREA, f"{source.name}: rows of a query every {format_duration(source.sql.interval)}")
    elif source.replicas is not None:
        every = format_duration(source.replicas.interval)
        yield ok(AREA, f"{source.name}: {len(source.replicas.urls)} exporters are added up every {every}")
    elif source.stdin is not None:
        yield ok(AREA, f"{source.name}: standard input, which ends when what feeds it ends")
    elif source.http is not None:
        tokens = f", with one of {len(source.http.tokens)} tokens" if source.http.tokens else ""
        yield ok(AREA, f"{source.name}: events are posted to /v1/events{tokens}")
        if source.http.members is not None:
            yield from _members(source.name, source.http.members)


def _members(name: str, settings: MembersSettings) -> Iterator[Finding]:
    """Yield which members do not take what others would pass to them; the body that is passed is empty."""
    members = MemberSet(settings, here(settings) or settings.urls[0])
    for link in members.links.values():
        try:
            asyncio.run(link.send(Part(), None, None))
        except QueueFullError as fault:
            yield problem(
                AREA, f"{name}: {fault}", "start that member, and give all the same sources.http.members.urls"
            )
        else:
            yield ok(AREA, f"{name}: {link.url} takes what falls to it")


def _table(name: str, table: TableSettings) -> Iterator[Finding]:
    try:
        files = find([table.path])
    except TableError as error:
        yield problem(AREA, f"{name}: {error}", "correct sources.table.path, or wait for the first file")
    else:
        yield ok(AREA, f"{name}: {table.path} has {len(files)} files")


def trial(name: str, body: bytes, settings: Config, profiles: dict[str, Profiles]) -> Iterator[Finding]:
    """Yield what would become of the events in a body, and whether they carry the features of their models."""
    models = [Model(model, profiles[model.name], settings.limits) for model in settings.models]
    decoded = Decoder([schema for model in models for schema in model.schemas]).decode(body, time.time())
    total = decoded.accepted + decoded.refused.total
    if not total:
        return
    for reason, count in decoded.refused.counts.most_common(3):
        share = f"{name}: {count} of {total} events looked at would be refused as {reason}"
        found = problem if not decoded.accepted else warning
        yield found(AREA, share, refusal(reason, settings))
    if decoded.accepted:
        yield ok(AREA, f"{name}: {decoded.accepted} of {total} events looked at would be taken")


def _file(name: str, settings: FileSettings, attempt: Try) -> Iterator[Finding]:
    pattern = str(settings.path)
    found = [Path(path) for path in glob.iglob(pattern, recursive=True)]  # noqa: PTH207 - as the source does
    files = [path for path in found if path.is_file()]
    if not files:
        yield _no_file(name, pattern)
        return
    unreadable = [path for path in files if not os.access(path, os.R_OK)]
    if unreadable:
        remedy = f"let user {os.geteuid()} read it, or run doctor as the exporter's user"
        yield problem(AREA, f"{name}: {unreadable[0]} cannot be read ({len(unreadable)} of {len(files)})", remedy)
    newest = max(
        (path for path in files if path not in unreadable), key=lambda path: path.stat().st_mtime, default=None
    )
    if newest is None:
        return
    status = newest.stat()
    age = max(0.0, time.time() - status.st_mtime)
    what = f"{name}: {len(files)} files match, {newest} was written {format_duration(round(age))} ago"
    if not status.st_size:
        yield warning(AREA, f"{what} and is empty", "see whether the model server writes there")
    elif age > SILENT_SECONDS:
        yield warning(AREA, what, "see whether the model server still writes there")
    else:
        yield ok(AREA, what)
    yield from attempt(_last_lines(newest))


def _no_file(name: str, pattern: str) -> Finding:
    fixed = re.split(r"[*?[]", pattern, maxsplit=1)[0]
    directory = Path(fixed[: fixed.rfind("/") + 1] or ".")
    if not directory.is_dir():
        remedy = (
            "correct sources.file.path (a relative one starts beside the configuration file); in a container, mount it"
        )
        return problem(AREA, f"{name}: {directory} is no directory, so no file can match {pattern}", remedy)
    if not os.access(directory, os.R_OK | os.X_OK):
        remedy = f"let user {os.geteuid()} list it, or run doctor as the exporter's user"
        return problem(AREA, f"{name}: {directory} cannot be listed", remedy)
    there = sorted(path.name for path in directory.iterdir())
    listed = f"{', '.join(there[:3])}{', …' if len(there) > 3 else ''}" if there else "nothing"
    remedy = f"{directory} holds {listed}: correct the pattern, or wait for the model server to write"
    return warning(AREA, f"{name}: no file matches {pattern}", remedy)


def _last_lines(path: Path) -> bytes:
    """Return the last whole lines of a file, the first ones of a compressed file."""
    if path.suffix == ".gz":
        try:
            with gzip.open(path) as compressed:
                data = compressed.read(SAMPLE_BYTES)
        except (EOFError, OSError, zlib.error):
            return b""
        return ndjson(data[: data.rfind(b"\n") + 1])
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - SAMPLE_BYTES))
        data = file.read()
    if size > SAMPLE_BYTES:
        data = data[data.find(b"\n") + 1 :]
    return ndjson(data[: data.rfind(b"\n") + 1])


def _redis(name: str, settings: RedisSettings, attempt: Try) -> Iterator[Finding]:
    from redis import Redis
    from redis.exceptions import AuthenticationError, RedisError, ResponseError

    secret: dict[str, Any] = {}
    try:
        if settings.password_file is not None:
            secret["password"] = settings.password_file.read_text(encoding="utf-8").strip()
        times = {"socket_timeout": TIMEOUT_SECONDS, "socket_connect_timeout": TIMEOUT_SECONDS}
        with Redis.from_url(settings.url, **secret, **times, protocol=2) as client:
            client.ping()
            yield from _stream(name, settings, client, attempt)
    except AuthenticationError as error:
        remedy = "put the password into a file and name it with password_file, the user into the url: redis://USER@HOST"
        yield problem(AREA, f"{name}: Redis refuses: {error}", remedy)
    except ResponseError as error:
        remedy = "grant the user PING, XINFO, XREADGROUP, XACK, XAUTOCLAIM and XGROUP on the stream"
        yield problem(AREA, f"{name}: Redis refuses: {error}", remedy)
    except (RedisError, OSError) as error:
        remedy = f"see whether host and port are right, Redis runs, and the network lets through; {_LOCALHOST}"
        yield problem(AREA, f"{name}: {settings.url} does not answer: {error}", remedy)


def _stream(name: str, settings: RedisSettings, client: Any, attempt: Try) -> Iterator[Finding]:
    stream = settings.stream
    kind = client.type(stream).decode()
    if kind == "none":
        add = f"""XADD {stream} '*' {settings.field} '{{"model":…}}'"""
        yield warning(AREA, f"{name}: there is no stream {stream} yet", f"the exporter makes it; senders write {add}")
        return
    if kind != "stream":
        yield problem(
            AREA, f"{name}: {stream} is a {kind}, not a stream", "name the stream that senders write with XADD"
        )
        return
    length = client.xlen(stream)
    groups = {group["name"].decode(): group for group in client.xinfo_groups(stream)}
    group = groups.get(settings.group)
    if group is None:
        others = f" (there are {', '.join(groups)})" if groups else ""
        yield ok(
            AREA, f"{name}: {stream} holds {length} entries; the exporter will make its group {settings.group}{others}"
        )
    else:
        lag = group.get("lag")
        waiting = "an unknown number" if lag is None else lag
        said = f"{waiting} entries wait for group {settings.group}, {group['pending']} are not acknowledged"
        yield ok(AREA, f"{name}: {stream} holds {length} entries; {said}")
    entries = [fields for _, fields in client.xrevrange(stream, count=SAMPLE_ENTRIES)]
    if not entries:
        yield warning(AREA, f"{name}: {stream} is empty", "see whether the model server writes there")
        return
    values = [fields[settings.field.encode()] for fields in entries if settings.field.encode() in fields]
    if len(values) < len(entries):
        known = ", ".join(sorted({key.decode(errors="replace") for fields in entries for key in fields}))
        what = f"{name}: {len(entries) - len(values)} of the last {len(entries)} entries have no field {settings.field}"
        found = problem if not values else warning
        yield found(AREA, f"{what}, but {known}", "name the field that holds the event with sources.redis.field")
    if values:
        yield from attempt(b"\n".join(line for value in values for line in lines_of(value)))


def _label_ttl(settings: Config) -> float:
    """Return for how many seconds a topic is read again when partitions move, 0 where it is not."""
    if settings.state is None:
        return 0.0
    return max((model.label_ttl for model in settings.models), default=0.0)


def _kafka(name: str, settings: KafkaSettings, label_ttl: float) -> Iterator[Finding]:
    from confluent_kafka import Consumer, KafkaException

    from mlops_exporter.sources.kafka import client_settings

    faults: list[str] = []
    try:
        consumer = Consumer(
            client_settings(settings) | {"logger": _log, "error_cb": lambda error: faults.append(error.str())}
        )
    except OSError as error:
        yield problem(AREA, f"{name}: {error}", "correct sources.kafka.settings")
        return
    try:
        topics = consumer.list_topics(timeout=TIMEOUT_SECONDS).topics
        for topic in settings.topics:
            yield from _topic(name, settings, topic, topics, consumer)
        if settings.refill and label_ttl:
            yield from _retention(name, settings, topics.keys() & set(settings.topics), label_ttl)
    except KafkaException as error:
        consumer.poll(0)  # brings what went wrong beneath
        said = f"{error.args[0].str()}{f' ({faults[-1]})' if faults else ''}"
        remedy = "see whether the brokers are reachable, also under the addresses that they advertise; "
        remedy += f"security.protocol and sasl.* go under settings; {_LOCALHOST}"
        yield problem(AREA, f"{name}: {settings.bootstrap_servers} does not answer: {said}", remedy)
    finally:
        consumer.close()


def _retention(name: str, settings: KafkaSettings, topics: Collection[str], label_ttl: float) -> Iterator[Finding]:
    """Yield which topics forget messages sooner than anything waits for its label."""
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient
    from confluent_kafka.admin._config import ConfigResource  # `admin` has it, too, and does not export it in its types

    from mlops_exporter.sources.kafka import broker_settings

    asked = [ConfigResource(ConfigResource.Type.TOPIC, topic) for topic in sorted(topics)]
    client = AdminClient(broker_settings(settings) | {"logger": _log})
    for resource, answer in client.describe_configs(asked, request_timeout=TIMEOUT_SECONDS).items() if asked else ():
        try:
            found = answer.result(TIMEOUT_SECONDS)
            kept = float(found["retention.ms"].value) / 1000
        except (KafkaException, TimeoutError, KeyError) as error:
            said = error.args[0].str() if isinstance(error, KafkaException) else str(error)
            remedy = f"allow the user to describe it, or see for yourself that it keeps {format_duration(label_ttl)}"
            yield warning(AREA, f"{name}: how long topic {resource.name} keeps messages is not told: {said}", remedy)
            continue
        if 0 <= kept < label_ttl:
            what = f"{name}: topic {resource.name} keeps messages for {format_duration(kept)}, and predictions wait "
            what += f"{format_duration(label_ttl)} for their label: when a partition moves, those before are lost to it"
            remedy = f"set its retention.ms to {round(label_ttl * 1000)} or more, or a shorter label_ttl; a single "
            yield warning(AREA, what, f"{remedy}exporter that never loses its state may go without: refill: false")


def _topic(name: str, settings: KafkaSettings, topic: str, topics: dict[str, Any], consumer: Any) -> Iterator[Finding]:
    from confluent_kafka import TopicPartition

    found = topics.get(topic)
    if found is None or found.error is not None:
        others = sorted(other for other in topics if not other.startswith("__"))
        listed = f"there are {', '.join(others[:5])}{', …' if len(others) > 5 else ''}" if others else "there is none"
        error = "does not exist" if found is None else str(found.error)
        yield problem(
            AREA, f"{name}: topic {topic} {error}", f"make it, correct topics, or allow the user to read it: {listed}"
        )
        return
    places = [TopicPartition(topic, number) for number in found.partitions]
    waiting = held = 0
    for place in consumer.committed(places, timeout=TIMEOUT_SECONDS):
        begin, end = consumer.get_watermark_offsets(TopicPartition(topic, place.partition), timeout=TIMEOUT_SECONDS)
        held += end - begin
        waiting += end - (place.offset if place.offset >= 0 else begin)
    what = f"{name}: topic {topic} has {len(places)} partitions with {held} messages"
    what += f", of which {waiting} wait for group {settings.group}"
    if held:
        yield ok(AREA, what)
    else:
        yield warning(AREA, what, "see whether the model server writes there")
