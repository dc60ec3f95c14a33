"""Whether two trees of numbers and texts are alike."""

from typing import Any

import pytest


def assert_alike(found: Any, expected: Any, place: str) -> None:
    """Whole numbers and texts are equal; fractions are, but for the order in which they were added."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), place
        for name, each in expected.items():
            if name != "created":
                assert_alike(found[name], each, f"{place}.{name}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), place
        for number, each in enumerate(expected):
            assert_alike(found[number], each, f"{place}[{number}]")
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-6, abs=1e-7), place
    else:
        assert found == expected, place
