"""Settings that all tests share."""

import logging
import os
from collections.abc import Iterator

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as the product has it, before anything loads NumPy

import pytest
from httpx._config import DEFAULT_TIMEOUT_CONFIG
from hypothesis import Phase, settings

settings.register_profile(
    "default", deadline=None, phases=set(Phase) - {Phase.explain}
)  # machines are noisy; the suite has a time limit of its own
settings.load_profile("default")
# A busy machine answers late. What must be quick is measured by benchmarks.
DEFAULT_TIMEOUT_CONFIG.connect = DEFAULT_TIMEOUT_CONFIG.read = DEFAULT_TIMEOUT_CONFIG.write = 60.0


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """Name tests after the argument where its value is bytes, which may differ from process to process (gzip)."""
    return argname if isinstance(val, bytes) else None


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """Leave the log as it was: a command that ran in this process has set it up for an output that is gone."""
    root, product = logging.getLogger(), logging.getLogger("mlops_exporter")
    before = root.handlers[:], root.level, product.handlers[:], product.level
    yield
    root.handlers[:], root.level, product.handlers[:], product.level = before
