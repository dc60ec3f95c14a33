import gzip as gzip_module
import math
import re
import struct
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from mlops_exporter.exposition import catalogue
from mlops_exporter.exposition.catalogue import Metric
from mlops_exporter.exposition.samples import Rows, Samples
from mlops_exporter.exposition.text import format_numbers, gzip, render
from mlops_exporter.logs import escaped
from tests.support.exposition import bins_and_drift

GAUGE = Metric("ml_gauge", "gauge", "model", 'A gauge: \\ and "quotes"\nand a second line.', ("a", "b"))
COUNTER = Metric("ml_things_total", "counter", "model", "Things.", ("a",))
PLAIN = Metric("ml_plain", "gauge", "model", "A gauge without labels.")
HISTOGRAM = Metric("ml_delay_seconds", "histogram", "model", "Delays.", ("a",), (0.1, 1.0, 2.5e-7))
FORMATS = pytest.mark.parametrize("openmetrics", [False, True], ids=["text", "openmetrics"])

Series = tuple[str, tuple[tuple[str, str], ...]]


def samples(metric: Metric, rows: Sequence[Sequence[str]], values: Sequence[float]) -> Samples:
    return Samples(Rows(metric, rows), np.array(values, dtype=float))


def parse(body: bytes, openmetrics: bool) -> dict[Series, float]:
    families = (parse_openmetrics if openmetrics else parse_text)(body.decode())
    found: dict[Series, float] = {}
    for family in families:
        for sample in family.samples:
            series = (sample.name, tuple(sorted(sample.labels.items())))
            assert series not in found
            found[series] = sample.value
    return found


def test_text_format() -> None:
    body = render(
        [
            samples(COUNTER, [["x"]], [3]),
            samples(HISTOGRAM, [["x"]], [1, 2, 2, 4, 0.5, 4]),
            samples(PLAIN, [[]], [math.inf]),
            samples(COUNTER, [['"q"']], [0.1]),
        ],
        openmetrics=False,
    )
    assert body.decode() == (
        "# HELP ml_delay_seconds Delays.\n"
        "# TYPE ml_delay_seconds histogram\n"
        'ml_delay_seconds_bucket{a="x",le="0.1"} 1.0\n'
        'ml_delay_seconds_bucket{a="x",le="1.0"} 2.0\n'
        'ml_delay_seconds_bucket{a="x",le="2.5e-07"} 2.0\n'
        'ml_delay_seconds_bucket{a="x",le="+Inf"} 4.0\n'
        'ml_delay_seconds_sum{a="x"} 0.5\n'
        'ml_delay_seconds_count{a="x"} 4.0\n'
        "# HELP ml_plain A gauge without labels.\n"
        "# TYPE ml_plain gauge\n"
        "ml_plain +Inf\n"
        "# HELP ml_things_total Things.\n"
        "# TYPE ml_things_total counter\n"
        'ml_things_total{a="x"} 3.0\n'
        'ml_things_total{a="\\"q\\""} 0.1\n'
    )


def test_openmetrics_names_a_counter_family_without_total_and_ends_with_eof() -> None:
    body = render([samples(COUNTER, [["x"]], [3]), samples(GAUGE, [["1", "2"]], [-math.inf])], openmetrics=True)
    assert body.decode() == (
        '# HELP ml_gauge A gauge: \\\\ and \\"quotes\\"\\nand a second line.\n'
        "# TYPE ml_gauge gauge\n"
        'ml_gauge{a="1",b="2"} -Inf\n'
        "# HELP ml_things Things.\n"
        "# TYPE ml_things counter\n"
        'ml_things_total{a="x"} 3.0\n'
        "# EOF\n"
    )


def test_families_come_in_catalogue_order_and_whole() -> None:
    duration, success = catalogue.EXPORTER_COLLECTOR_DURATION, catalogue.EXPORTER_COLLECTOR_SUCCESS
    mixed = [
        samples(success, [["b"]], [1]),
        samples(duration, [["b"]], [2]),
        samples(success, [["a"]], [3]),
        samples(duration, [["a"]], [4]),
    ]
    lines = render(mixed, openmetrics=False).decode().splitlines()
    assert [line for line in lines if not line.startswith("# HELP")] == [
        f"# TYPE {duration.name} gauge",
        f'{duration.name}{{collector="b"}} 2.0',
        f'{duration.name}{{collector="a"}} 4.0',
        f"# TYPE {success.name} gauge",
        f'{success.name}{{collector="b"}} 1.0',
        f'{success.name}{{collector="a"}} 3.0',
    ]


@FORMATS
def test_nan_is_absent_and_so_is_a_family_without_series(openmetrics: bool) -> None:
    body = render(
        [
            samples(GAUGE, [["1", ""], ["2", ""]], [math.nan, math.nan]),
            samples(GAUGE, [["3", ""], ["4", ""]], [math.nan, 7]),
            samples(PLAIN, [[]], [math.nan]),
            samples(COUNTER, [], []),
        ],
        openmetrics,
    )
    assert parse(body, openmetrics) == {("ml_gauge", (("a", "4"), ("b", ""))): 7}
    assert body.count(b"# TYPE") == 1


@pytest.mark.parametrize("group", [[], [samples(PLAIN, [[]], [math.nan])], [samples(COUNTER, [], [])]])
def test_nothing_to_expose(group: list[Samples]) -> None:
    assert render(group, openmetrics=False) == b""
    assert render(group, openmetrics=True) == b"# EOF\n"


def test_a_lone_surrogate_costs_no_other_series() -> None:
    body = render([samples(COUNTER, [["/proc/\udc80"], ["y"]], [1, 2])], openmetrics=True)
    assert parse(body, openmetrics=True) == {
        ("ml_things_total", (("a", "/proc/\\udc80"),)): 1,
        ("ml_things_total", (("a", "y"),)): 2,
    }


hostile = st.text(alphabet=st.one_of(st.sampled_from('\\"\n\r\t{}=, #\0 '), st.characters(exclude_categories=["Cs"])))
numbers = st.floats(allow_nan=True, allow_infinity=True)


def seen(name: str) -> str:
    """What a reader of a label value gets: the name, but for characters that control, turn or hide."""
    return "\n".join(escaped(re.sub(r"\\(?=u[0-9a-f]{4})", r"\\u005c", line)) for line in name.split("\n"))


@pytest.mark.slow
@FORMATS
@given(st.dictionaries(st.tuples(hostile, hostile), numbers, max_size=12))
def test_parsers_read_back_what_was_written(openmetrics: bool, series: dict[tuple[str, str], float]) -> None:
    body = render([samples(GAUGE, list(series), list(series.values()))], openmetrics)
    expected = {
        ("ml_gauge", (("a", seen(a)), ("b", seen(b)))): value
        for (a, b), value in series.items()
        if not math.isnan(value)
    }
    assert parse(body, openmetrics) == expected


@given(st.lists(st.floats(allow_nan=False), max_size=50))
def test_numbers_read_back_bit_for_bit(values: list[float]) -> None:
    texts = format_numbers(np.array(values, dtype=float))
    assert [struct.pack("d", float(text)) for text in texts] == [struct.pack("d", value) for value in values]


def test_numbers_are_as_short_as_they_can_be() -> None:
    values = [0.1, 1.0, -0.0, 12345.0, 1e300, 5e-324, 1 / 3, math.inf, -math.inf]
    texts = format_numbers(np.array(values))
    assert texts[:4] == ["0.1", "1.0", "-0.0", "12345.0"]
    assert texts[-2:] == ["+Inf", "-Inf"]
    digits = [len(repr(value)) for value in values[:-2]]
    assert all(len(text) <= length for text, length in zip(texts[:-2], digits, strict=True))


def test_gzip_is_read_by_others() -> None:
    body = render(bins_and_drift(1000), openmetrics=False)
    compressed = gzip(body)
    assert gzip_module.decompress(compressed) == body
    assert len(compressed) < len(body) / 5
