"""How a body is shared among members: together its parts say what the whole says, wherever it was sent."""

import asyncio
import json
import socket
import time
from collections import Counter
from collections.abc import Generator
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from mlops_exporter.events.addresses import Addressed, addresses
from mlops_exporter.events.arrow_rows import Stream
from mlops_exporter.events.arrow_rows import read as read_stream
from mlops_exporter.events.decoder import Decoder
from mlops_exporter.events.reasons import TooManyEventsError
from mlops_exporter.events.schema import Schema
from mlops_exporter.ingest.http import HttpSource
from mlops_exporter.ingest.intake import Intake
from mlops_exporter.ingest.members import (
    CONNECTIONS,
    HELD_BYTES,
    Key,
    Link,
    MemberSet,
    Part,
    combined,
    here,
    numbered,
    passed_of,
)
from mlops_exporter.settings.models import Limits
from mlops_exporter.settings.sources import KServeSettings, MembersSettings
from mlops_exporter.sources.base import Content, IntakeResult, Passed, QueueFullError, UnavailableError
from mlops_exporter.sources.calls import Answer
from mlops_exporter.sources.kserve import KServe
from tests.models import NOW, profiles
from tests.support.members import SETTINGS, URLS, assert_shared_whole, members, read, split

DECODER = Decoder([Schema(name, profile) for name, profile in profiles().items()])


def test_an_object_and_an_array_over_several_lines() -> None:
    event = {"model": "price", "id": "a", "prediction": 1.0}
    for body in (json.dumps(event, indent=2), json.dumps([event, {**event, "id": 7}], indent=2), "\n\n[]\n", ""):
        assert_shared_whole(DECODER, body.encode())


def test_forms_of_an_id_fall_to_one_member() -> None:
    forms = [125, 125.0, "125", "125.0"]
    lines = "\n".join(json.dumps({"model": "price", "id": form, "label": 1}) for form in forms)
    assert len(split(lines.encode()).parts) == 1
    stream = pa.table({"model": ["price"], "id": [125.0], "label": [1.0]})
    (owner,) = split(arrow(stream)).parts
    assert [owner] == list(split(lines.encode()).parts)


def arrow(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=40)
    data: bytes = sink.getvalue().to_pybytes()
    return data


@pytest.mark.parametrize("kind", [pa.string(), pa.int64(), pa.float64(), pa.dictionary(pa.int8(), pa.string())])
def test_rows_of_arrow(kind: pa.DataType) -> None:
    ids = [None if number % 7 == 0 else str(number) for number in range(100)]
    column = pa.array(ids).cast(pa.int64() if pa.types.is_floating(kind) else kind).cast(kind)
    table = pa.table({"model": ["price"] * 100, "id": column, "prediction": np.arange(100.0)})
    body = arrow(table)
    found = split(body)
    assert len(found.parts) == 3
    assert found.unread is None
    whole, _ = read(DECODER, body)
    assert sum((read(DECODER, part.data)[0] for part in found.parts.values()), Counter()) == whole
    numbers = sorted(number for part in found.parts.values() for number in part.numbers)
    assert numbers == list(range(1, 101))
    for owner, part in found.parts.items():
        with pa.ipc.open_stream(part.data) as stream:
            predictions = stream.read_all()["prediction"].to_pylist()
        assert predictions == [number - 1.0 for number in part.numbers]
        named = [ids[number - 1] for number in part.numbers if ids[number - 1] is not None]
        assert set(members().owners([id_ for id_ in named if id_])) == {owner}


def test_rows_before_the_end_of_a_stream_that_is_cut_are_shared() -> None:
    body = arrow(pa.table({"model": ["price"] * 100, "id": [str(n) for n in range(100)], "label": np.arange(100.0)}))
    found = split(body[: len(body) // 2])
    rows = sum(len(part.numbers) for part in found.parts.values())
    assert 0 < rows < 100
    assert found.unread is not None
    assert found.unread[0] == rows + 1
    assert "cut short" in found.unread[1] or "bytes" in found.unread[1]


def test_what_a_series_and_a_time_stand_for_falls_to_one_member() -> None:
    events = [{"model": "demand", "series": 7, "target_ts": 0, "horizon": "1d", "prediction": 1}]
    events += [{"model": "demand", "series": "7", "target_ts": time, "label": 2} for time in range(9)]
    (owner,) = split("\n".join(map(json.dumps, events)).encode()).parts
    rows = pa.table({"model": ["demand"] * 9, "series": [7.0] * 9, "target_ts": range(9), "label": [2.0] * 9})
    assert list(split(arrow(rows)).parts) == [owner] == members().owners(["7"])


def test_with_a_key_a_body_is_split_alike_wherever_it_is_sent() -> None:
    lines = b'{"model":"price","prediction":1}\n{"model":"price","id":"a","prediction":1}\nnonsense'
    assert split(lines, "k", 0).parts == split(lines, "k", 1).parts == split(lines, "k", 2).parts
    kept = {this: split(lines, "", this).parts[this].numbers for this in range(3)}
    assert all({1, 3} <= set(numbers) for numbers in kept.values()), "what has no id stays where it is"


@pytest.mark.parametrize("body", [b'{"id":1}\n' * 5, b"[" + b",".join([b"{}"] * 5) + b"]"])
def test_more_events_than_a_body_may_have(body: bytes) -> None:
    with pytest.raises(TooManyEventsError):
        split(body, limit=4)
    split(body, limit=5)


def test_ids_are_shared_evenly_and_few_move_when_a_member_comes() -> None:
    ids = [f"{number}" for number in range(30_000)]
    before = members().owners(ids)
    assert np.bincount(before).min() > 0.95 * 10_000
    more = [*URLS, "http://10.0.0.4:10042"]
    after = MemberSet(MembersSettings(urls=more), URLS[0]).owners(ids)
    moved = [new for old, new in zip(before, after, strict=True) if sorted(URLS)[old] != sorted(more)[new]]
    assert {sorted(more)[new] for new in moved} == {more[-1]}, "none moves between those that stay"
    assert len(moved) == pytest.approx(7_500, rel=0.05)


def test_results_are_put_together() -> None:
    one = numbered(IntakeResult(2, 1, [(2, "bad_id")], {"bad_id": 1}, details=["why"]), [4, 9, 11])
    other = numbered(IntakeResult(1, 1, [(1, "bad_label")], {"bad_label": 1}), [3, 5])
    whole = combined([one, other])
    assert (whole.accepted, whole.rejected, whole.repeated) == (3, 2, None)
    assert whole.errors == [(3, "bad_label"), (9, "bad_id")]
    assert whole.details == ["", "why"]
    assert whole.refused == {"bad_id": 1, "bad_label": 1}
    same, changed = IntakeResult(1, repeated="same"), IntakeResult(1, repeated="changed")
    assert combined([same, same]).repeated == "same"
    assert combined([same, changed]).repeated == "changed"
    assert combined([same, IntakeResult(1)]).repeated is None
    assert combined([changed, IntakeResult(1)]).repeated == "changed"
    assert combined([]) == IntakeResult(0, 0, [], Counter(), None, {}, [])


def test_which_member_is_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "exporter-1")
    monkeypatch.setattr("socket.getfqdn", lambda: "exporter-1")
    pods = MembersSettings(urls=[f"http://exporter-{n}.exporter.ml.svc:10042" for n in range(3)])
    assert here(pods) == "http://exporter-1.exporter.ml.svc:10042"
    assert here(SETTINGS) is None
    assert here(MembersSettings(urls=URLS, this=URLS[2] + "/")) == URLS[2]


def test_what_is_passed_says_by_whom_and_for_whom() -> None:
    assert passed_of('["digest", "to", null, 0]') == Passed("digest", "to", None)
    assert passed_of('["digest", "to", ["credit"], 7]') == Passed("digest", "to", frozenset({"credit"}), 7)
    numbers = ('["digest", "to", null]', '["digest", "to", null, -1]', f'["digest", "to", null, {2**64}]')
    for nonsense in (*numbers, "", "digest", "[]", '["digest"]', '["digest", "to"]', '["digest", "to", 1]', "\xff"):
        assert passed_of(nonsense) is None


def test_members_that_know_of_others_are_turned_away_and_cloud_events_refused() -> None:
    intake = Intake([], ["push"], Limits())
    source = HttpSource("push", intake, KServe(KServeSettings(), {}), members=members())

    def submit(content: Content) -> IntakeResult:
        return asyncio.run(source.submit(b"", NOW, content))

    with pytest.raises(UnavailableError, match="must be the same in each"):
        submit(Content(passed=Passed("other", URLS[0])))
    with pytest.raises(UnavailableError, match=r"10\.0\.0\.1:10042 and not .*2:10042.*this must say"):
        submit(Content(passed=Passed(members().digest, URLS[1])))
    assert submit(Content(passed=Passed(members().digest, URLS[0]))).accepted == 0
    refused = asyncio.run(source.submit(b"{}", NOW, Content("application/cloudevents+json")))
    assert refused.refused == {"unsupported_type": 1}
    assert "exporter of its own" in refused.details[0]
    source.members = None
    with pytest.raises(UnavailableError, match="no member"):
        submit(Content(passed=Passed(members().digest, URLS[0])))


EVENT = '{"model":"price","id":"a","prediction":1.0}'


@pytest.mark.parametrize(
    "body",
    [
        f"[[{EVENT},{EVENT}]]",
        f"[[{EVENT}]]\n{EVENT}",
        f"{EVENT}\n{json.dumps(json.loads(EVENT), indent=1)}",
        f"{EVENT}\n[\n{EVENT}\n]",
        f"[{EVENT}\n{EVENT}",
        "1\n[]\n{}",
        EVENT.encode("utf-16").decode("latin-1"),
    ],
)
def test_what_is_no_event_becomes_none_in_a_part(body: str) -> None:
    assert_shared_whole(DECODER, body.encode("latin-1"))


FORMS = {
    "text": pa.array(["7", "0.5", "b"]),
    "large text": pa.array(["7", "0.5", "b"], pa.large_string()),
    "view": pa.array(["7", "0.5", "b"]).cast(pa.string_view()),
    "bytes": pa.array([b"7", b"0.5", b"b"]),
    "large bytes": pa.array([b"7", b"0.5", b"b"], pa.large_binary()),
    "bytes of one length": pa.array([b"7__", b"0.5", b"b__"], pa.binary(3)),
    "codes": pa.array(["7", "0.5", "b"]).dictionary_encode(),
    "runs": pc.run_end_encode(pa.array(["7", "0.5", "b"])),
    "whole numbers": pa.array([7, 8, 2**53 + 1]),
    "decimals": pa.array([Decimal("7"), Decimal("8.0"), Decimal("0.5")], pa.decimal128(5, 1)),
    "numbers": pa.array([7.0, 0.5, 1e20]),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["id", "series"])
def test_arrow_is_found_by_what_json_is_found_by(form: str, name: str) -> None:
    values = [value.decode() if isinstance(value, bytes) else value for value in FORMS[form].to_pylist()]
    table = pa.table({name: FORMS[form], "unused": FORMS["runs"]})
    stream = finished(read_stream(arrow(table), None))
    assert stream.fault is None
    found = Addressed()
    lines = [json.dumps({name: float(value) if isinstance(value, Decimal) else value}) for value in values]
    for _ in addresses("\n".join(lines).encode(), found):
        pass
    assert stream.addresses == found.addresses
    assert any(each is not None for each in found.addresses)
    with pa.ipc.open_stream(stream.of(np.array([2, 0]))) as rows:
        assert rows.read_all().num_rows == 2


def test_a_stream_without_rows_is_no_fault() -> None:
    found = split(arrow(pa.table({"id": pa.array([], pa.string())})))
    assert (found.parts, found.unread) == ({}, None)
    assert split(arrow(pa.table({"id": ["a"]}))[:40]).unread is not None


def finished(work: Generator[None, None, Stream]) -> Stream:
    while True:
        try:
            next(work)
        except StopIteration as end:
            found: Stream = end.value
            return found


async def sent(link: Link, count: int) -> list[str]:
    """What as many senders hear who pass a part on at once."""
    results = await asyncio.gather(
        *(link.send(Part([1], [b"{}"]), None, None) for _ in range(count)), return_exceptions=True
    )
    return [str(result) for result in results]


def test_nobody_waits_for_a_member_that_does_not_answer_or_cannot_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(50)
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        link = Link(url, MembersSettings.model_validate({"urls": [*URLS, url], "timeout": "500ms"}), "digest")
        began = time.monotonic()
        heard = asyncio.run(sent(link, 600))
        assert {words.partition(": ")[2] for words in heard} == {f"{url}/v1/events: no answer within 0.5 s"}
        assert time.monotonic() - began < 5
        began = time.monotonic()
        assert len(asyncio.run(sent(link, 600))) == 600
        assert time.monotonic() - began < 1.5, "one of them tries it, and the others do not wait"

    async def no_thread(_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("mlops_exporter.ingest.members.in_thread", no_thread)
    link = Link(URLS[1], SETTINGS, "digest")
    assert all("could not be asked" in words for words in asyncio.run(sent(link, 200)))


def test_a_part_that_comes_as_all_tasks_end_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = b'{"accepted":1,"rejected":0}'

    async def at_once(_: object) -> Answer:
        await asyncio.sleep(0)
        return Answer(taken, {})

    monkeypatch.setattr("mlops_exporter.ingest.members.in_thread", at_once)
    link = Link(URLS[1], SETTINGS, "digest")

    async def sender(parts: int) -> None:
        for _ in range(parts):
            assert (await link.send(Part([1], [b"{}"]), None, Key("key", 1))).accepted == 1

    async def senders() -> None:
        await asyncio.wait_for(asyncio.gather(sender(2), *(sender(1) for _ in range(1, CONNECTIONS))), 5)

    asyncio.run(senders())
    assert link.passed == 1 + CONNECTIONS


def test_bodies_that_are_held_are_bounded() -> None:
    several = members()
    with several.holding(HELD_BYTES), pytest.raises(QueueFullError), several.holding(1):
        pass
    with several.holding(1):
        pass
