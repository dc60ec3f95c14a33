"""Classes and categories are strings, whichever file or event they come from."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_exporter.profile.values import INVALID, OTHER_TEXT, Codes, as_category, canonical


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("1", "1"),
        (1, "1"),
        (1.0, "1"),
        ("1.0", "1"),
        ("1.000", "1"),
        ("-3.0", "-3"),
        (-3, "-3"),
        (0.5, "0.5"),
        ("0.5", "0.5"),
        (True, "true"),
        (False, "false"),
        ("true", "true"),
        ("", ""),
        ("007", "007"),
        ("1.0.0", "1.0.0"),
        ("DE", "DE"),
        (1e300, str(int(1e300))),
        (None, None),
        (math.nan, None),
    ],
)
def test_one_meaning_has_one_name(value: object, name: str | None) -> None:
    assert canonical(value) == name


@pytest.mark.parametrize("value", [[], {}, (1,), b"1"])
def test_what_is_no_single_value_is_a_type_error(value: object) -> None:
    with pytest.raises(TypeError, match="a string, a number or a boolean"):
        canonical(value)


@pytest.mark.parametrize(
    ("cell", "name"),
    [("", None), ("NA", "NA"), ("none", "none"), ("True", "true"), ("FALSE", "false"), ("1.0", "1")],
)
def test_texts_know_booleans_and_only_the_empty_one_is_missing(cell: str, name: str | None) -> None:
    assert as_category(cell) == name


def test_what_is_missing_can_be_said() -> None:
    assert [as_category(cell, ("NA", "-")) for cell in ("NA", "-", "")] == [None, None, ""]


@given(st.one_of(st.text(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.booleans()))
def test_naming_is_idempotent(value: object) -> None:
    name = canonical(value)
    assert name is not None
    assert canonical(name) == name


CATEGORIES = ["1", "2.5", "DE", "true"]


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("1", 0),
        (1, 0),
        (1.0, 0),
        ("1.0", 0),
        (2.5, 1),
        ("2.5", 1),
        ("DE", 2),
        ("true", 3),
        ("FR", 10),
        (7, 10),
        (None, 12),
        (math.nan, 12),
        (INVALID, 11),
    ],
)
def test_codes_take_any_value_that_means_a_category(value: object, code: int) -> None:
    codes = Codes(CATEGORIES, other=10, invalid=11, missing=12)
    assert codes[value] == code


def test_codes_of_booleans_take_booleans() -> None:
    codes = Codes(["false", "true"], other=2, invalid=3, missing=4)
    assert codes.holds_booleans
    assert [codes[value] for value in (False, True, "true", "false", "1", None)] == [0, 1, 1, 0, 2, 4]
    assert not Codes(["false", "true", "1"], other=3, invalid=4, missing=5).holds_booleans


def test_codes_never_grow() -> None:
    codes = Codes(CATEGORIES, other=10, invalid=11, missing=12)
    size = len(codes)
    for number in range(1000):
        assert codes[f"hostile {number}"] == 10
    assert len(codes) == size


@given(st.lists(st.text(max_size=5).map(canonical), unique=True), st.one_of(st.text(max_size=5), st.integers()))
def test_codes_agree_with_the_names(categories: list[str], value: object) -> None:
    codes = Codes(categories, other=-1, invalid=-2, missing=-3)
    name = canonical(value)
    unknown = -3 if name == "" else -1
    assert codes[value] == (categories.index(name) if name in categories else unknown)


def test_a_category_may_have_any_name() -> None:
    assert Codes(["red", "blue"], other=2, invalid=3, missing=4).only_texts
    for name in (OTHER_TEXT, "7", "2.5"):
        assert not Codes(["red", name], other=2, invalid=3, missing=4).only_texts
