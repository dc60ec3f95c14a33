"""Events whose times lie far apart, counted together, beside the same events counted one by one."""

import json

import numpy as np
import pytest

from mlops_exporter.counting.model import Model
from mlops_exporter.events.columns import Columns
from mlops_exporter.events.decoder import Decoder
from tests.support import workload

NOW = 1_800_000_007.0


def _counted(model: Model, lines: list[bytes], together: int, now: float = NOW) -> Model:
    decoder = Decoder(list(model.schemas))
    for start in range(0, len(lines), together):
        decoded = decoder.decode(b"\n".join(lines[start : start + together]), NOW)
        columns = Columns.joined(decoded.parts["credit"])
        model.admit(set(columns.versions), NOW)
        model.count(columns, now)
    return model


@pytest.mark.slow
@pytest.mark.parametrize("spread", [600.0, 86_000.0, 40 * 86_400.0])
@pytest.mark.parametrize("windows", [("15m", "1h", "24h"), ("10m", "15m"), ("7m", "24h")])
def test_counted_together_they_are_in_the_windows_that_they_are_in_alone(
    spread: float, windows: tuple[str, ...]
) -> None:
    rng = np.random.default_rng(2)
    lines = [
        json.dumps(json.loads(line) | {"ts": time}).encode()
        for line, time in zip(workload.events(300, NOW), np.sort(NOW - rng.uniform(0, spread, 300)), strict=True)
    ]
    alone = _counted(workload.model(windows), lines, 1, -np.inf).versions["3"]
    for now in (NOW, -np.inf):
        together = _counted(workload.model(windows), lines, len(lines), now).versions["3"]
        np.testing.assert_array_equal(together.lifetime.round(6), alone.lifetime.round(6))
        for mine, theirs in zip(together.windows, alone.windows, strict=True):
            # A window's pane is that of the middle of the narrowest pane: one pane more or less at its end.
            least, most = (theirs.total(NOW + shift)[0] for shift in (mine.width, -mine.width))
            assert least <= mine.total(NOW)[0] <= max(most, theirs.total(NOW)[0])
        for mine, theirs in zip(together.coverage, alone.coverage, strict=True):
            np.testing.assert_array_equal(mine.total(NOW), theirs.total(NOW))
