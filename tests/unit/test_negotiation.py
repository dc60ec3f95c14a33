import pytest

from mlops_exporter.web.negotiation import MOST_CHARACTERS, accepts_gzip, wants_openmetrics

PROMETHEUS_2_42 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
PROMETHEUS_3_NATIVE_HISTOGRAMS = (
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;"
    "escaping=allow-utf-8;q=0.7," + PROMETHEUS_3
)
PROMETHEUS_3_TEXT_FIRST = (
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.5,"
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.4,*/*;q=0.2"
)
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@pytest.mark.parametrize(
    "accept",
    [
        PROMETHEUS_2_42,
        PROMETHEUS_3,
        PROMETHEUS_3_NATIVE_HISTOGRAMS,
        "application/openmetrics-text",
        "application/openmetrics-text; version=1.0.0; charset=utf-8",
        'Application/OpenMetrics-Text; Version="1.0.0"',
        "application/*",
        "application/openmetrics-text, */*",
        "application/openmetrics-text;version=2.0.0,application/openmetrics-text;version=1.0.0;q=0.9,text/plain;q=0.8",
        "text/plain;q=0, */*",
        "text/plain;q=0.4,application/openmetrics-text;q=0.5",
        "*/*;q=0.9,text/plain;q=0.1",
        "application/openmetrics-text;q=1.000,text/plain;q=0.999",
        "application/openmetrics-text,text/plain",
        "nonsense,application/openmetrics-text,text/plain;q=0.5",
    ],
)
def test_openmetrics(accept: str) -> None:
    assert wants_openmetrics(accept)


@pytest.mark.parametrize(
    "accept",
    [
        "",
        "*/*",
        "text/*",
        BROWSER,
        PROMETHEUS_3_TEXT_FIRST,
        "text/plain;version=0.0.4",
        "text/plain,application/openmetrics-text",
        "application/openmetrics-text;version=0.0.1,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
        "application/openmetrics-text;version=2.0.0",
        "application/openmetrics-text;q=0",
        "application/openmetrics-text;q=0,*/*",
        "application/openmetrics-text;q=0.1,application/*;q=1,text/plain;q=0.2",
        "application/openmetrics-text;q=0.00,text/plain;q=0.001",
        "application/openmetrics-text;q=1.5,*/*;q=0.1",
        "application/openmetrics-text;q=nan",
        "application/openmetrics-text;q=-1",
        "application/openmetrics-text;q=",
        "application/openmetrics-text/more",
        "image/png",
        "text/plain;q=0",
        ";;;,,,=;q=1",
        "application/openmetrics-text extra",
        "\x00\xff",
    ],
)
def test_text(accept: str) -> None:
    assert not wants_openmetrics(accept)


@pytest.mark.parametrize(
    ("accept_encoding", "gzip"),
    [
        ("", False),
        ("gzip", True),
        ("x-gzip", True),
        ("GZIP", True),
        ("gzip, deflate, br, zstd", True),
        ("deflate, gzip;q=0.5", True),
        ("*", True),
        ("gzip;q=0, *", False),
        ("gzip;q=0", False),
        ("*;q=0", False),
        ("identity", False),
        ("identity;q=1, gzip;q=0.5", False),
        ("identity;q=0.5, gzip;q=0.5", True),
        ("br;q=1", False),
        ("gzip;q=high", False),
        (";,", False),
    ],
)
def test_gzip(accept_encoding: str, gzip: bool) -> None:
    assert accepts_gzip(accept_encoding) is gzip


def test_of_an_endless_header_the_beginning_counts() -> None:
    wanted = "application/openmetrics-text"
    assert wants_openmetrics(wanted + "," * 60_000)
    assert not wants_openmetrics("," * MOST_CHARACTERS + wanted)
    assert not wants_openmetrics("a" * (MOST_CHARACTERS - 10) + "," + wanted), "the cut one is none"
    assert accepts_gzip("gzip" + ";" * 60_000 + ",") is False
