"""Any body is shared among members without loss: its parts say what the whole says."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_exporter.events.decoder import Decoder
from mlops_exporter.events.schema import Schema
from tests.fuzz.bodies import body as random_body
from tests.fuzz.oracle import fuzzed_profiles
from tests.support.members import assert_shared_whole

DECODER = Decoder([Schema(name, profile) for name, profile in fuzzed_profiles().items()])


@pytest.mark.parametrize("seed", range(300))
def test_parts_say_what_the_whole_says(seed: int) -> None:
    assert_shared_whole(DECODER, random_body(Random(seed)))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(noise=st.binary(max_size=60), seed=st.integers(0, 2**32))
def test_any_bytes_after_events(noise: bytes, seed: int) -> None:
    assert_shared_whole(DECODER, random_body(Random(seed)) + b"\n" + noise)
