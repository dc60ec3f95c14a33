"""The first pass over a table: what it keeps of the rows."""

import tracemalloc
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest

from mlops_exporter.profiling import survey
from mlops_exporter.profiling.survey import joined

ROWS = 5000


def _blocks(count: int) -> Iterator[pa.Table]:
    random = np.random.default_rng(1)
    for number in range(count):
        sometimes = random.normal(size=ROWS) if number == 0 else np.full(ROWS, np.nan)
        yield pa.table({"text": ["a", "b"] * (ROWS // 2), "number": random.normal(size=ROWS), "early": sometimes})


def _read(blocks: Iterator[pa.Table]) -> dict[str, survey.Column]:
    return survey.survey(blocks, (), lambda _: None, typed=True)


def test_what_is_kept_of_a_table_does_not_grow_with_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey, "SAMPLE_ROWS", 100)
    _read(_blocks(2))
    tracemalloc.start()
    try:
        found = _read(_blocks(60))
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found["number"].rows == 60 * ROWS
    assert kept < 60 * ROWS, "less than a byte for each row"


def test_a_sample_is_the_same_however_the_rows_are_parted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey, "SAMPLE_ROWS", 300)
    random = np.random.default_rng(2)
    x, y = random.normal(size=(2, 4000))
    y[random.random(4000) < 0.3] = np.nan
    y[1000:2500] = np.nan
    table = pa.table({"x": x, "text": ["a", "b"] * 2000, "y": y, "z": x + 1})

    def sampled(start: int, stop: int, size: int) -> dict[str, survey.Column]:
        blocks = (table.slice(at, min(size, stop - at)) for at in range(start, stop, size))
        return survey.survey(blocks, (), lambda _: None, typed=True, start=start)

    whole = sampled(0, 4000, 4000)
    parted = [sampled(0, 4000, 7), sampled(0, 4000, 999), joined([sampled(0, 1100, 50), sampled(1100, 4000, 333)])]
    for other in parted:
        for name in "xyz":
            np.testing.assert_array_equal(other[name].sample, whole[name].sample)
    assert len(whole["y"].sample) == 300
