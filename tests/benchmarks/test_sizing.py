"""The table of docs/sizing.md is that of what a model version takes today."""

import re
from pathlib import Path

import pytest

from tests.benchmarks import sizing

pytestmark = pytest.mark.benchmark

ROW = re.compile(r"^\| ([\d,]+) \| ([^|]+) \| ([\d.,]+) GiB \| ([\d,]+) \|", re.MULTILINE)


def test_the_page_says_what_a_fleet_needs() -> None:
    page = Path(__file__).parents[2].joinpath("docs", "sizing.md").read_text()
    told, found = (
        {
            (versions, kind): (float(memory.replace(",", "")), int(series.replace(",", "")))
            for versions, kind, memory, series in ROW.findall(text)
        }
        for text in (page, "\n".join(sizing.rows()))
    )
    assert told.keys() == found.keys()
    assert len(told) == 9
    for key, (memory, series) in found.items():
        assert told[key][0] == pytest.approx(memory, rel=0.1, abs=0.1), key
        assert told[key][1] == pytest.approx(series, rel=0.03), key
