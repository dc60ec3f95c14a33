"""Settings that all tests share."""

import pytest
from hypothesis import Phase, settings

settings.register_profile(
    "default", deadline=None, phases=set(Phase) - {Phase.explain}
)  # machines are noisy; the suite has a time limit of its own
settings.load_profile("default")


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """Name tests after the argument where its value is bytes, which may differ from process to process (gzip)."""
    return argname if isinstance(val, bytes) else None
