"""Count on Spark: executors make partial ledgers where the rows are, and an exporter adds them, each exactly once.

    from mlops_exporter import spark

    frame = session.read.parquet("s3a://logs/day=2026-11-28")
    spark.batch(frame, to="http://exporter:10042", config="mlops-exporter.yml", model="credit",
                columns={"ts": "at", "score": "p", "label": "paid"}, epoch="2026-11-28")

A ledger holds all rows of one pane and version, so what is in it does not depend on how Spark has cut the rows into
tasks, and whatever runs twice sends what is known already. docs/spark.md says what a driver and executors need.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from functools import reduce
from itertools import accumulate
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from mlops_exporter.counting.partial import PartialLedger
from mlops_exporter.ledgers import LedgerCounter, LedgersNotSentError, LedgersReceipt, Recipe, send_ledgers
from mlops_exporter.profile.profile import Profile
from mlops_exporter.profiling.build import NEIGHBOURS, BuildRequest, Counting, Surveyed, build, sha256_of, survey_of
from mlops_exporter.profiling.errors import BuildError
from mlops_exporter.settings.access import AccessSettings
from mlops_exporter.tables.errors import TableError
from mlops_exporter.tables.files import File
from mlops_exporter.tables.readers import batches, rows_of
from mlops_exporter.tables.table import Table

if TYPE_CHECKING:
    from pyspark.sql import DataFrame
    from pyspark.sql.streaming.query import StreamingQuery

__all__ = ["Sent", "batch", "build_profile", "stream"]

_T = TypeVar("_T")

_PANES_AT_ONCE = 2048
"""Ledgers that a task holds before it hands them on: beyond it rows come in no order of time."""

_LATE = "__late"
"""Column that tells the labels which came later, in the rows of their predictions."""

_COUNTED = "version string, pane long, task int, ledger binary, accepted long, refused string"
_HANDED_ON = ("ledger", "accepted", "refused")
_SENT = "receipt binary"
_NO_LEDGER = ("", -1)


class Sent(msgspec.Struct):
    """What became of rows: how many were `counted` and how many not, by reason; and of their ledgers."""

    counted: int = 0
    refused: dict[str, int] = msgspec.field(default_factory=dict)
    ledgers: int = 0
    repeated: int = 0
    changed: int = 0
    refused_ledgers: dict[str, int] = msgspec.field(default_factory=dict)
    errors: list[str] = msgspec.field(default_factory=list)

    def plus(self, other: "Sent") -> "Sent":
        """Return the sum of both."""
        return Sent(
            self.counted + other.counted,
            dict(Counter(self.refused) + Counter(other.refused)),
            self.ledgers + other.ledgers,
            self.repeated + other.repeated,
            self.changed + other.changed,
            dict(Counter(self.refused_ledgers) + Counter(other.refused_ledgers)),
            (self.errors + other.errors)[:10],
        )


def batch(
    frame: "DataFrame",
    *,
    to: str,
    config: str | Path,
    model: str,
    epoch: str,
    producer: str = "spark",
    columns: Mapping[str, Any] | None = None,
    timezone: str = "UTC",
    width: float | None = None,
    access: AccessSettings | None = None,
    wait_seconds: float = 600.0,
) -> Sent:
    """Count the rows of a frame on the executors, and add them to the exporter at `to`; returns what came of it.

    `columns` are those of a table source, and `width` that of the panes, in seconds. `producer` and `epoch` name these
    rows: a run that repeats them adds nothing. Files that `access` names are the executors'. Raises ValueError for
    columns that the frame lacks, and LedgersNotSentError where ledgers were refused or the exporter stayed away.
    """
    recipe = Recipe.read(config, model, columns=columns, timezone=timezone, width=width)
    return _count_and_send(_narrow(frame, recipe), recipe, to, producer, epoch, access, wait_seconds)


def stream(
    predictions: "DataFrame",
    labels: "DataFrame",
    *,
    to: str,
    config: str | Path,
    model: str,
    checkpoint: str,
    producer: str = "spark",
    columns: Mapping[str, Any] | None = None,
    label_columns: Mapping[str, Any] | None = None,
    watermark: str | None = None,
    distinct: bool = False,
    trigger: Mapping[str, Any] | None = None,
    access: AccessSettings | None = None,
    wait_seconds: float = 600.0,
) -> "StreamingQuery":
    """Start a streaming query that counts predictions when they come, and labels when they come; returns it.

    Spark joins both streams by their ids, and keeps a prediction until no label of the last `label_ttl` can come any
    more, by a watermark that is as long behind unless given, such as "1 hour". `columns` name at least `id` and `ts` of
    predictions, `label_columns` `id`, `ts` and `label`; both `ts` are timestamps. Where events may come twice,
    `distinct` takes the first prediction and the first label of an id. What was counted is known by the query's id,
    which is in its `checkpoint`, and the number of the micro-batch.
    """
    from pyspark.sql import functions as F  # noqa: N812 - as everybody calls it

    late = {"id": _LATE + "_id", "ts": _LATE + "_ts", "label": _LATE}
    recipe = Recipe.read(config, model, columns=columns, late=late)
    names, of_labels = recipe.columns, dict(label_columns or {})
    for flag, given, needed in (
        ("columns", names.model_dump(), ("id", "ts")),
        ("label_columns", of_labels, ("id", "ts", "label")),
    ):
        if lacking := [key for key in needed if not given.get(key)]:
            raise ValueError(f"{flag}: name the columns of {', '.join(lacking)} too, by which labels are joined")
    if other := sorted(of_labels.keys() - late.keys()):
        raise ValueError(f"label_columns: {', '.join(other)} cannot come later here: labels have id, ts and label")
    if recipe.settings.task == "ranking":
        raise ValueError(
            f"{model} has the task ranking, whose feedback comes in parts until label_ttl is over: post its events to "
            "the exporter, or count rows of a list with all of its feedback by spark.batch"
        )
    if names.label is not None:
        raise ValueError("columns: label belongs to label_columns; count rows that have both by spark.batch")
    ttl = f"{recipe.settings.label_ttl:g} seconds"
    made = _narrow(predictions, recipe)
    known = _renamed(labels, of_labels, late)
    made, known = (
        frame.withWatermark(str(of), watermark or ttl) for frame, of in ((made, names.ts), (known, late["ts"]))
    )
    if distinct:
        made, known = (
            frame.dropDuplicatesWithinWatermark([str(of)]) for frame, of in ((made, names.id), (known, late["id"]))
        )
    ts, label_ts = F.col(str(names.ts)), F.col(late["ts"])
    span = F.expr(f"INTERVAL {ttl}")
    together = (F.col(str(names.id)) == F.col(late["id"])) & (label_ts <= ts + span) & (label_ts >= ts - span)
    rows = made.unionByName(made.join(known, together), allowMissingColumns=True)

    def count(part: "DataFrame", number: int) -> None:
        query = part.sparkSession.sparkContext.getLocalProperty("sql.streaming.queryId")
        _count_and_send(part, recipe, to, producer, f"{query}/{number}", access, wait_seconds)

    writer = rows.writeStream.foreachBatch(count).option("checkpointLocation", checkpoint).queryName(producer)
    return (writer.trigger(**trigger) if trigger else writer).start()


def _renamed(labels: "DataFrame", given: Mapping[str, Any], names: Mapping[str, str]) -> "DataFrame":
    from pyspark.sql import functions as F  # noqa: N812

    _need(labels, given.values())
    return labels.select(*(F.col(given[key]).alias(name) for key, name in names.items()))


def _narrow(frame: "DataFrame", recipe: Recipe) -> "DataFrame":
    """Return the columns of a frame that are counted."""
    _need(frame, recipe.columns.named)
    wanted = recipe.columns.named
    if recipe.columns.features is None:
        wanted |= set(recipe.features)
    return frame.select(*(f"`{name}`" for name in frame.columns if name in wanted))


def _need(frame: "DataFrame", names: Iterable[str]) -> None:
    if lacking := sorted(set(names) - set(frame.columns)):
        raise ValueError(f"no column {', '.join(lacking)} in the frame; there are {', '.join(frame.columns)}")


def _count_and_send(
    frame: "DataFrame",
    recipe: Recipe,
    to: str,
    producer: str,
    epoch: str,
    access: AccessSettings | None,
    wait_seconds: float,
) -> Sent:
    def count(batches: Iterator[Any]) -> Iterator[Any]:
        return _count(batches, recipe, producer, epoch)

    def send(batches: Iterator[Any]) -> Iterator[Any]:
        return _send(batches, to, access, wait_seconds)

    counted = frame.mapInArrow(count, _COUNTED)
    gathered = counted.repartition("version", "pane").sortWithinPartitions("version", "pane", "task")
    sent = Sent()
    for row in gathered.mapInArrow(send, _SENT).collect():
        sent = sent.plus(msgspec.msgpack.decode(row.receipt, type=Sent))
    if sent.errors:
        receipt = LedgersReceipt(sent.ledgers, sent.repeated, sent.changed, Counter(sent.refused_ledgers), sent.errors)
        raise LedgersNotSentError(sent.errors[0], receipt)
    return sent


def _count(batches: Iterator[Any], recipe: Recipe, producer: str, epoch: str) -> Iterator[Any]:
    """Yield the ledgers of the rows of one task, and what was counted."""
    from pyspark import TaskContext

    context = TaskContext.get()
    task = context.partitionId() if context is not None else 0
    counter = LedgerCounter.of(recipe)
    for rows in batches:
        if _LATE in rows.schema.names:
            late = pc.is_valid(rows.column(_LATE))
            if late.true_count:
                counter.add_late(rows.filter(late))
            rows = rows.filter(pc.invert(late))
        if rows.num_rows:
            counter.add(rows)
        if counter.panes > _PANES_AT_ONCE:
            yield _rows_of(counter.drain(producer, epoch), task)
    yield _rows_of(counter.drain(producer, epoch), task)
    refused = msgspec.json.encode(counter.refused).decode()
    yield _as_batch([(*_NO_LEDGER, task, None, counter.accepted, refused)])


def _rows_of(ledgers: Iterable[PartialLedger], task: int) -> Any:
    encode = msgspec.msgpack.encode
    return _as_batch([(each.version, each.pane.number, task, encode(each), 0, None) for each in ledgers])


def _as_batch(rows: list[tuple[Any, ...]]) -> Any:
    names = ("version", "pane", "task", "ledger", "accepted", "refused")
    types = (pa.string(), pa.int64(), pa.int32(), pa.binary(), pa.int64(), pa.string())
    columns = list(zip(*rows, strict=True)) or [()] * len(names)
    arrays = [pa.array(column, type_) for column, type_ in zip(columns, types, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, list(names))


def _send(batches: Iterator[Any], to: str, access: AccessSettings | None, wait_seconds: float) -> Iterator[Any]:
    """Send the ledgers that a task has got, in the order of their panes, and yield what came of it."""
    sent = Sent()

    def ledgers() -> Iterator[PartialLedger]:
        for rows in batches:
            for ledger, accepted, refused in zip(*(rows.column(name) for name in _HANDED_ON), strict=True):
                if ledger.is_valid:
                    yield msgspec.msgpack.decode(ledger.as_py(), type=PartialLedger)
                else:
                    sent.counted += accepted.as_py()
                    sent.refused = dict(Counter(sent.refused) + Counter(msgspec.json.decode(refused.as_py())))

    try:
        receipt = send_ledgers(to, _added_up(ledgers()), access=access, wait_seconds=wait_seconds)
    except LedgersNotSentError as error:
        receipt = error.receipt
        sent.errors.append(str(error))
    sent.ledgers, sent.repeated, sent.changed = receipt.accepted, receipt.repeated, receipt.changed
    sent.refused_ledgers = dict(receipt.refused)
    yield pa.RecordBatch.from_arrays([pa.array([msgspec.msgpack.encode(sent)], pa.binary())], ["receipt"])


def _added_up(ledgers: Iterable[PartialLedger]) -> Iterator[PartialLedger]:
    """Yield one ledger for each version and pane, whose ledgers come one after the other."""
    sum_: PartialLedger | None = None
    for ledger in ledgers:
        if sum_ is not None and sum_.key == ledger.key:
            sum_ = sum_.plus(ledger)
            continue
        if sum_ is not None:
            yield sum_
        sum_ = ledger
    if sum_ is not None:
        yield sum_


def build_profile(request: BuildRequest) -> tuple[Profile, list[str]]:
    """Build a profile on Spark, the same as `build` does in one process; returns it and notes for the user.

    The files are read by the executors, a task for each part of the table. Raises BuildError or TableError.
    """
    from pyspark.sql import SparkSession

    session = SparkSession.builder.appName("mlops-exporter profile build").getOrCreate()
    return build(
        request, passes=_Tasks(session.sparkContext, Table.at(request.places, reading=request.reading_of_named))
    )


class _Failure(NamedTuple):
    """What a task has found wrong with the table."""

    error: BuildError | TableError


class _Part(NamedTuple):
    """A part of the table, and the number of its first row."""

    start: int
    table: Table


class _Tasks:
    """Both passes over a table, in tasks of a part each, whose results add up in the order of their rows."""

    def __init__(self, context: Any, table: Table) -> None:
        self.table = table
        self._context = context
        self._parts = self._cut(self._rows())

    def _rows(self) -> list[int]:
        """Return how many rows each file has; where it does not say, it is read."""
        reading = self.table.reading

        def count(file: File) -> int:
            known = rows_of(file)
            return sum(batch.num_rows for batch in batches(file, reading)) if known is None else known

        return self._of_each_file(count)

    def _of_each_file(self, work: Callable[[File], Any]) -> list[Any]:
        files = self.table.files
        found = self._context.parallelize(files, len(files)).map(_or_failure(work)).collect()
        return [_raised(each) for each in found]

    def _cut(self, rows: list[int]) -> list[_Part]:
        tables = self.table.parts_of(rows)
        ends = [0, *accumulate(rows)]
        files = [0, *accumulate(len(table.files) for table in tables)]
        return [_Part(ends[file], table) for file, table in zip(files, tables, strict=False)]

    def survey(self, request: BuildRequest, named: set[str]) -> Surveyed:
        """Return what the columns hold."""
        typed = self.table.typed

        def work(part: _Part) -> Surveyed:
            return survey_of(request, part.table.blocks(), named, typed=typed, start=part.start)

        return self._summed(work, Surveyed.plus)

    def count(self, counting: Counting) -> Counting:
        """Count every row."""

        def work(part: _Part) -> Counting:
            mine = deepcopy(counting)
            start = part.start
            for block in part.table.blocks():
                mine.add(block, start)
                start += block.num_rows
            return mine

        return self._summed(work, Counting.plus)

    def digest(self) -> str:
        """Return the digest of the files, which the executors take."""
        files = self.table.files
        return sha256_of(files, self._of_each_file(File.digest) if all(file.is_local for file in files) else [])

    def _summed(self, work: Callable[[_Part], _T], plus: Callable[[_T, _T], _T]) -> _T:
        """Return the sum of what tasks make of the parts: first of neighbours, in tasks, and then of these sums here.

        So there is never more than one of them in the driver, beside their sum.
        """
        numbered = list(enumerate(self._parts))
        groups = ceil(len(numbered) / NEIGHBOURS)

        def add(one: Any, other: Any) -> Any:
            return next((each for each in (one, other) if isinstance(each, _Failure)), None) or plus(one, other)

        def of_group(found: Iterable[tuple[int, Any]]) -> Iterator[Any]:
            yield reduce(add, (each for _, each in found))

        done = self._context.parallelize(numbered, len(numbered)).mapValues(_or_failure(work))
        near = done.repartitionAndSortWithinPartitions(groups, lambda number: number // NEIGHBOURS)
        sums: Iterator[_T] = map(_raised, near.mapPartitions(of_group).toLocalIterator())
        return reduce(plus, sums)


def _or_failure(work: Callable[[Any], _T]) -> Callable[[Any], "_T | _Failure"]:
    """Return work that returns what is wrong with a table, where running it again would find the same."""

    def safely(of: Any) -> "_T | _Failure":
        try:
            return work(of)
        except (BuildError, TableError) as error:
            return _Failure(error)

    return safely


def _raised(found: Any) -> Any:
    if isinstance(found, _Failure):
        raise found.error
    return found
