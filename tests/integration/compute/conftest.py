from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fake_gpu import Machine, build_library


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """A machine with the fake NVML installed and no state yet."""
    build_library(tmp_path)
    machine = Machine(tmp_path)
    yield machine
    machine.close()


@pytest.fixture
def machine_without_driver(tmp_path: Path) -> Iterator[Machine]:
    """A machine on which no NVML is installed (yet)."""
    machine = Machine(tmp_path)
    yield machine
    machine.close()
