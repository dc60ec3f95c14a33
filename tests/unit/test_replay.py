"""Logs as one stream in the order of time, and samples as OpenMetrics."""

import gzip
import io
import json
import math
import random
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from mlops_exporter.exposition import catalogue
from mlops_exporter.exposition.samples import Rows, Samples
from mlops_exporter.replay import log, spool
from mlops_exporter.replay.log import Merge
from mlops_exporter.replay.spool import Spool

NOW = 10_000.0


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a few lines be several chunks, blocks and segments."""
    monkeypatch.setattr(log, "CHUNK_BYTES", 200)
    monkeypatch.setattr(spool, "BUFFER_BYTES", 300)
    monkeypatch.setattr(spool, "BLOCK_BYTES", 500)


def write(path: Path, times: Iterable[float]) -> Path:
    text = "".join(json.dumps({"ts": time, "id": f"{time:g}"}) + "\n" for time in times)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def times_of(lines: Iterable[bytes]) -> list[float]:
    return [json.loads(line)["ts"] for line in lines]


def test_several_logs_are_merged_in_the_order_of_time(tmp_path: Path) -> None:
    shuffled = list(np.arange(0.5, 500.5, 0.5))
    for begin in range(0, 1000, 20):  # ten seconds out of order
        part = shuffled[begin : begin + 20]
        random.Random(begin).shuffle(part)
        shuffled[begin : begin + 20] = part
    paths = [
        write(tmp_path / "a.ndjson", shuffled),
        write(tmp_path / "b.ndjson.gz", np.arange(100.25, 300.0, 1.0)),
        write(tmp_path / "c.ndjson", np.arange(600.0, 700.0)),
        write(tmp_path / "empty.ndjson", []),
    ]
    merge = Merge(paths, 10.0, NOW)
    assert merge.next < 10
    taken: list[float] = []
    for until in range(7, 800, 7):
        part = times_of(merge.take(until))
        assert all(until - 7 < time <= until for time in part)
        taken += part
    assert taken == sorted([*np.arange(0.5, 500.5, 0.5), *np.arange(100.25, 300), *np.arange(600, 700)])
    assert merge.next == math.inf
    assert merge.late == 0


def test_what_is_later_than_allowed_is_taken_late_and_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "a", [*range(100, 200), *range(50, 60), *range(200, 210)])
    merge = Merge([path], 20.0, NOW)
    taken = [times_of(merge.take(until)) for until in range(110, 230, 10)]
    assert sorted(chain.from_iterable(taken)) == [*range(50, 60), *range(100, 210)]
    assert merge.late == 10
    everything = Merge([path], 1000.0, NOW)
    assert times_of(everything.take(105.0)) == [*range(50, 60), *range(100, 106)]
    assert everything.late == 0


def test_what_has_no_usable_time_is_refused_with_its_reason(tmp_path: Path) -> None:
    path = tmp_path / "a.ndjson"
    lines = [
        '{"ts":"1970-01-01T00:00:02Z","x":NaN}', '{"ts":1}', "", '[{"ts":3},{"ts":4}]', "{no", "7", '{"id":"a"}',
        '{"ts":"yesterday"}', '{"ts":"1970-01-01T00:00:02"}', '{"ts":true}', '{"ts":1e13}', '{"ts":5}',
    ]  # fmt: skip
    path.write_text("\n".join(lines))
    merge = Merge([path], 0.0, NOW)
    taken = merge.take(100.0)
    assert [json.loads(line)["ts"] for line in taken] == [1, "1970-01-01T00:00:02Z", 3, 4, 5]
    assert merge.refused == {"malformed_json": 1, "not_an_object": 1, "bad_timestamp": 4, "future_timestamp": 1}
    assert merge.next == math.inf


def test_samples_of_many_moments_become_openmetrics(tmp_path: Path) -> None:
    labels = catalogue.LABEL_DELAY.labels
    histogram = Rows(catalogue.LABEL_DELAY, [["a"] * len(labels), ["b"] * len(labels)])
    counter = Rows(catalogue.PREDICTIONS, [[f'v"{n}'] * len(catalogue.PREDICTIONS.labels) for n in range(30)])
    gauge = Rows(catalogue.QUEUE_EVENTS, [[]])
    spooled = Spool(tmp_path, {"job": 'a"b', "instance": "i"})
    moments = 7
    width = len(catalogue.LABEL_DELAY.buckets) + 3
    for moment in range(moments):
        values = np.arange(30.0) + 100 * moment
        values[3] = np.nan if moment != 2 else 5.0
        values[4] = np.nan
        spooled.add(Samples(counter, values), 600.0 + 60.0 * moment)
        spooled.add(Samples(histogram, np.full(2 * width, float(moment))), 600.0 + 60.0 * moment)
        spooled.add(Samples(gauge, np.array([math.inf])), 60.5 + moment)
    output = io.BytesIO()
    series, samples = spooled.write(output)
    assert series == 29 + 2 * width + 1
    assert samples == 28 * moments + 1 + 2 * width * moments + moments

    text = output.getvalue().decode()
    begin = text.index("# HELP ml_model_label_delay_seconds")
    end = text.index("# HELP", begin + 1)
    parsed: Any = text_string_to_metric_families(text[:begin] + text[end:])  # type: ignore[no-untyped-call]
    families = {family.name: family for family in parsed}  # it is strict, but knows no histograms of several moments
    assert set(families) == {"ml_model_predictions", "ml_exporter_queue_events"}
    points = [line.split() for line in text[begin:end].splitlines()[2:]]
    assert [point[1:] for point in points] == 2 * [
        [f"{moment:.1f}", f"{600 + 60 * moment}"] for moment in range(moments) for _ in range(width)
    ]
    assert [point[0] for point in points[:width]] == [point[0] for point in points[width : 2 * width]]
    assert points[width - 3][0].endswith('le="+Inf"}')
    found = families["ml_model_predictions"].samples
    assert all(sample.labels["job"] == 'a"b' and sample.labels["instance"] == "i" for sample in found)
    assert [s.value for s in found if s.labels["model"] == 'v"7'] == [7.0 + 100 * moment for moment in range(moments)]
    assert [(s.value, float(s.timestamp)) for s in found if s.labels["model"] == 'v"3'] == [(5.0, 720.0)]
    assert 'ml_exporter_queue_events{job="a\\"b",instance="i"} +Inf 61.5\n' in text
    assert text.endswith("# EOF\n")


def test_the_same_series_from_two_collectors_is_a_fault(tmp_path: Path) -> None:
    spooled = Spool(tmp_path, {})
    for _ in range(2):
        rows = Rows(catalogue.QUEUE_EVENTS, [[]])
        spooled.add(Samples(rows, np.ones(1)), 1.0)
    with pytest.raises(ValueError, match="ml_exporter_queue_events was collected twice"):
        spooled.write(io.BytesIO())


def test_a_series_goes_on_when_others_come_and_go_beside_it(tmp_path: Path) -> None:
    """As versions do: then all of them have new rows together."""
    spooled = Spool(tmp_path, {})
    present = [("c",), ("a",), ("a", "b"), ("b", "c", "a"), ("c",)]
    for stage, models in enumerate(present):
        rows = Rows(catalogue.PENDING_LABELS, [[model] for model in models])
        for moment in range(10 * stage, 10 * stage + 10):
            spooled.add(Samples(rows, np.array([1000.0 * ord(model) + moment for model in models])), float(moment))
    output = io.BytesIO()
    assert spooled.write(output) == (3, 80)
    (family,) = text_string_to_metric_families(output.getvalue().decode())  # type: ignore[no-untyped-call]
    found: dict[str, list[tuple[float, float]]] = {}
    for sample in family.samples:
        found.setdefault(sample.labels["model"], []).append((float(sample.timestamp), sample.value))
    assert found == {
        model: [(float(moment), 1000.0 * ord(model) + moment) for moment in range(50) if model in present[moment // 10]]
        for model in "abc"
    }
