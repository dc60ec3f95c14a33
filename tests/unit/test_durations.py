import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from mlops_exporter.settings.durations import Duration, format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("0s", 0.0),
        ("500ms", 0.5),
        ("1s", 1.0),
        ("15m", 900.0),
        ("1h30m", 5400.0),
        ("7d", 604_800.0),
        ("2w", 1_209_600.0),
        ("1y", 31_536_000.0),
        ("1y2w3d4h5m6s7ms", 31_536_000 + 1_209_600 + 259_200 + 14_400 + 300 + 6.007),
        ("90m", 5400.0),
    ],
)
def test_parses_what_prometheus_parses(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "1", "s", "-1s", "1.5h", "1m1h", "1h 30m", "15min", " 1s", "1s\n", "1S", "١s"])
def test_refuses_what_prometheus_refuses(text: str) -> None:
    with pytest.raises(ValueError, match="largest first"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.5, "500ms"),
        (900, "15m"),
        (5400, "1h30m"),
        (86_400, "1d"),
        (604_800, "1w"),
        (8 * 86_400, "8d"),
        (30 * 86_400, "30d"),
        (31_536_000, "1y"),
        (1.25, "1s250ms"),
    ],
)
def test_formats_as_prometheus_prints(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.integers(min_value=0, max_value=10**13))
def test_format_is_undone_by_parse(milliseconds: int) -> None:
    assert parse_duration(format_duration(milliseconds / 1000)) == milliseconds / 1000


@pytest.mark.parametrize("seconds", [-1.0, float("inf"), float("nan")])
def test_refuses_to_format_what_is_no_duration(seconds: float) -> None:
    with pytest.raises(ValueError, match="finite and not negative"):
        format_duration(seconds)


class Windowed(BaseModel):
    window: Duration = 60.0


def test_configuration_holds_seconds_and_writes_durations() -> None:
    assert Windowed.model_validate({"window": "15m"}).window == 900.0
    assert Windowed(window="1h").model_dump_json() == '{"window":"1h"}'  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [15, 1.5, True, None])
def test_configuration_refuses_numbers_without_unit(value: object) -> None:
    with pytest.raises(ValidationError, match="unit"):
        Windowed.model_validate({"window": value})
