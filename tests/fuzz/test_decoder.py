from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.__main__ import fuzz
from tests.fuzz.bodies import body
from tests.fuzz.oracle import Oracle

ORACLE = Oracle()


@pytest.mark.parametrize("seed", [1, 2])
def test_random_bodies_are_read_as_the_reference_reads_them(seed: int) -> None:
    defects: dict[str, bytes] = {}
    accepted, refused = fuzz(4000, seed, defects)
    assert defects == {}
    assert min(accepted, refused) > 2000  # both kinds are really tried


@settings(max_examples=300, deadline=None, derandomize=True)
@given(noise=st.binary(max_size=60), seed=st.integers(0, 2**32))
def test_any_bytes_after_events(noise: bytes, seed: int) -> None:
    ORACLE.check(body(Random(seed)) + b"\n" + noise)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(noise=st.binary(max_size=200))
def test_any_bytes(noise: bytes) -> None:
    ORACLE.check(noise)
