"""Bins cut from a reference, and the cells that values fall into."""

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mlops_exporter.profile.bins import CategoricalVariable, NumericVariable, count_numeric, encode, quantile_edges
from mlops_exporter.profile.values import INVALID

Floats = NDArray[np.float64]


def numeric(sample: Floats, bins: int = 10) -> NumericVariable:
    """A variable with the bins of `sample`, counted."""
    edges, exported = quantile_edges(np.sort(sample), sample.min(), sample.max(), bins)
    variable = NumericVariable(edges, exported, [0] * (len(edges) + 3), [0.0] * (len(edges) - 1), 0.0, 1.0)
    variable.counts = count_numeric(sample, variable.boundaries).tolist()
    variable.validate("x")
    return variable


def exported_counts(variable: NumericVariable) -> list[int]:
    counts: list[int] = np.add.reduceat(variable.counts[:-2], variable.exported_starts).tolist()
    return counts


def test_continuous_values_fill_the_exported_bins_evenly() -> None:
    counts = exported_counts(numeric(np.random.default_rng(0).normal(size=10_000)))
    assert len(counts) == 10
    assert min(counts) >= 990
    assert max(counts) <= 1010


def test_the_reference_itself_is_never_out_of_range() -> None:
    variable = numeric(np.random.default_rng(0).lognormal(size=1000))
    underflow, overflow = variable.counts[0], variable.counts[-3]
    assert (underflow, overflow) == (0, 0)


def test_discrete_values_have_a_bin_each() -> None:
    variable = numeric(np.repeat([3.0, 4.0, 6.0, 8.0], [10, 200, 100, 90]))
    assert variable.edges[:-1] == [3.0, 4.0, 6.0, 8.0]
    assert variable.counts == [0, 10, 200, 100, 90, 0, 0, 0]


def test_a_point_mass_is_told_apart_from_what_lies_beside_it() -> None:
    random = np.random.default_rng(1)
    sample = np.concatenate([np.zeros(6000), random.exponential(size=4000)])
    variable = numeric(sample)
    cell = int(count_numeric(np.array([0.0]), variable.boundaries).argmax())
    assert variable.counts[cell] == 6000
    beside = int(count_numeric(np.array([np.nextafter(0.0, 1.0)]), variable.boundaries).argmax())
    assert beside != cell


def test_what_differs_from_a_constant_is_out_of_range_and_in_another_bin() -> None:
    variable = numeric(np.full(50, 7.0))
    assert exported_counts(variable) == [0, 50, 0]
    labels = [("01", "(-inf,7)"), ("02", "[7,7]"), ("03", "(7,+inf)"), ("invalid", ""), ("missing", "")]
    assert variable.exported_labels == labels
    counts = count_numeric(np.array([6.9, 7.0, 7.1, np.inf, np.nan]), variable.boundaries)
    assert counts.tolist() == [1, 0, 1, 0, 1, 1, 1]
    assert np.add.reduceat(counts[:-2], variable.exported_starts).tolist() == [1, 1, 1]


def test_labels_say_the_ranges() -> None:
    variable = NumericVariable([0.0, 1.0, 2.5, 4.0], [0, 2], [0] * 7, [0.5, 1.5, 3.0], 0.0, 1.0)
    assert variable.exported_labels == [
        ("01", "(-inf,2.5)"),
        ("02", "[2.5,+inf)"),
        ("invalid", ""),
        ("missing", ""),
    ]
    assert variable.fine_starts == [0, 2, 3]
    assert variable.exported_starts == [0, 3]


finite = st.floats(allow_nan=False, allow_infinity=False, width=32)


@given(
    st.lists(finite, min_size=1, max_size=400),
    st.lists(st.one_of(finite, st.just(math.inf), st.just(math.nan)), max_size=200),
    st.integers(2, 12),
)
def test_each_value_falls_into_the_one_cell_whose_range_holds_it(
    reference: list[float], values: list[float], bins: int
) -> None:
    variable = numeric(np.array(reference), bins)
    edges = variable.edges
    beside = [np.nextafter(reference[0], -np.inf)] if len(set(reference)) == 1 else []
    assert edges[0] == min([*reference, *beside])
    assert edges[-2 - len(beside)] <= max(reference) < edges[-1]
    assert sum(variable.counts) == len(reference)
    expected = [0] * variable.cells
    for value in values:
        if math.isnan(value):
            expected[-1] += 1
        elif math.isinf(value):
            expected[-2] += 1
        else:
            expected[sum(edge <= value for edge in edges)] += 1
    assert count_numeric(np.array(values), variable.boundaries).tolist() == expected


@given(st.lists(st.floats(-1e30, 1e30), min_size=1, max_size=20), st.integers(2, 12))
@example([*range(9), 0.5, -7.42977699521233e17], 2)  # the least value rounds down
def test_in_single_precision_a_value_is_in_one_cell_before_and_after_it_is_rounded(
    reference: list[float], bins: int
) -> None:
    sample = np.sort(reference)
    edges, exported = quantile_edges(sample, sample[0], sample[-1], bins, "single")
    counts, positions = [0] * (len(edges) + 3), [0.0] * (len(edges) - 1)
    variable = NumericVariable(edges, exported, counts, positions, 0.0, 1.0, "single")
    inner = np.array(edges)  # halfway between two single floats
    values = np.concatenate([sample, inner, np.nextafter(inner, np.inf), np.nextafter(inner, -np.inf)])
    for value in values:
        rounded = np.float64(np.float32(value))
        cell = int(count_numeric(np.array([value]), variable.boundaries).argmax())
        assert cell == int(count_numeric(np.array([rounded]), variable.boundaries).argmax())
        if value not in edges and sample[0] < sample[-1]:
            assert cell == np.count_nonzero(inner < value)
    odd = np.array([-1e39, 1e39, np.inf, np.nan])  # the first two are beyond single precision
    assert [int(count_numeric(np.array([each]), variable.boundaries).argmax()) for each in odd] == [
        0,
        variable.cells - 3,
        variable.cells - 2,
        variable.cells - 1,
    ]


@given(st.lists(finite, min_size=1, max_size=400), st.integers(2, 12))
def test_exported_bins_are_groups_of_neighbouring_fine_bins(reference: list[float], bins: int) -> None:
    variable = numeric(np.array(reference), bins)
    assert sum(exported_counts(variable)) == len(reference)
    assert len(variable.exported) <= (bins if len(set(reference)) > 1 else 3)
    assert len(variable.exported_labels) == len(variable.exported) + 2


def test_categories_and_what_is_none_of_them() -> None:
    variable = CategoricalVariable(["a", "b"], [0] * 5)
    assert encode(["b", "a", "c", INVALID, None], variable.codes).tolist() == [1, 0, 2, 3, 4]
    assert variable.exported_labels == [
        ("a", "a"),
        ("b", "b"),
        ("other", ""),
        ("invalid", ""),
        ("missing", ""),
    ]


def test_a_category_named_like_a_special_bin_keeps_a_series_of_its_own() -> None:
    variable = CategoricalVariable(["missing", "other"], [0] * 5)
    assert len(set(variable.exported_labels)) == 5


@pytest.mark.parametrize(
    ("variable", "message"),
    [
        (NumericVariable([1.0], [0], [0] * 4, [], 0, 1), "at least two finite ascending numbers"),
        (NumericVariable([1.0, 1.0], [0], [0] * 5, [1.0], 0, 1), "at least two finite ascending numbers"),
        (NumericVariable([1.0, 2.0], [0], [0] * 4, [1.0], 0, 1), "1 fine bins need 5 counts"),
        (NumericVariable([1.0, 2.0], [0], [-1, 0, 0, 0, 0], [1.0], 0, 1), "0 or more"),
        (NumericVariable([1.0, 2.0], [1], [0] * 5, [1.0], 0, 1), "exported must ascend from 0"),
        (NumericVariable([1.0, 2.0], [0, 1], [0] * 5, [1.0], 0, 1), "stay below 1"),
        (CategoricalVariable(["a", "a"], [0] * 5), "must differ"),
        (CategoricalVariable(["a"], [0] * 5), "1 categories need 4 counts"),
    ],
)
def test_parts_that_do_not_fit_are_refused(variable: NumericVariable | CategoricalVariable, message: str) -> None:
    with pytest.raises(ValueError, match=f"^x: .*{message}"):
        variable.validate("x")
