import asyncio
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from mlops_exporter.sources import stdin
from mlops_exporter.sources.lines import MALFORMED
from mlops_exporter.sources.stdin import StdinSource
from tests.sink import RecordingSink, events, running, until


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        with suppress(OSError):  # the story may have closed it
            os.close(end)


def test_lines_are_delivered_as_they_come_and_the_end_shows(pipe: tuple[int, int]) -> None:
    sink, source = RecordingSink(), StdinSource("in", pipe[0])

    async def story() -> None:
        os.write(pipe[1], events(1, 2) + b'{"model":"m",')
        await until(lambda: sink.ids == [1, 2])
        assert source.health.up
        os.write(pipe[1], b'"id":3}\n{"model":"m","id":4}')
        os.close(pipe[1])

    async def whole() -> None:
        await asyncio.wait_for(asyncio.gather(source.run(sink), story()), 10)

    asyncio.run(whole())
    assert sink.ids == [1, 2, 3, 4]  # the last one had no line end
    assert not source.health.up
    assert source.health.error == "the input has ended"
    assert sink.positions == {}


def test_it_stops_while_nothing_comes(pipe: tuple[int, int]) -> None:
    sink = RecordingSink()

    async def story() -> None:
        await asyncio.sleep(0.05)

    asyncio.run(asyncio.wait_for(running(StdinSource("in", pipe[0]), sink, story), 2))
    assert sink.bodies == []


def test_a_full_intake_loses_nothing(pipe: tuple[int, int]) -> None:
    sink = RecordingSink()
    sink.refusals = 3
    os.write(pipe[1], events(*range(50)))
    os.close(pipe[1])
    asyncio.run(asyncio.wait_for(StdinSource("in", pipe[0]).run(sink), 5))
    assert sink.ids == list(range(50))


def test_a_line_without_end_is_refused_once_and_the_next_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stdin, "MAX_LINE_BYTES", 1000)
    monkeypatch.setattr(stdin, "READ_BYTES", 300)
    monkeypatch.setattr(stdin, "BATCH_SECONDS", 0.0)
    sink = RecordingSink()
    (tmp_path / "input").write_bytes(events(1) + b"x" * 5000 + b"\n" + events(2))  # a plain file is an input too
    descriptor = os.open(tmp_path / "input", os.O_RDONLY)
    try:
        asyncio.run(asyncio.wait_for(StdinSource("in", descriptor).run(sink), 5))
    finally:
        os.close(descriptor)
    assert sink.ids == [1, None, 2]
    assert sink.lines[1] == MALFORMED
