"""A canary at a tenth of the traffic, with a profile of its own, fires nothing for a simulated week."""

from pathlib import Path

import numpy as np
import pytest

from mlops_exporter.counting.model import Model
from mlops_exporter.profile.profiles import Profiles
from mlops_exporter.settings.models import ModelSettings
from prometheus.source.render import ALERTS
from tests.simulations import scrapes
from tests.simulations.scrapes import DAY, START, Exporter, asked, firings, record
from tests.simulations.streams import Events, Stream, Trouble

DAYS, STEP = 7, 1800
SHARE = 0.1


class Retrained(Stream):
    """The next version, which is asked other things than the first: its reference has other bins."""

    def _events(self, n: int, shift: float, wrong: float) -> Events:
        return super()._events(n, shift + 1.0, wrong)


class Release:
    """One model, nine tenths of whose events are the old version's."""

    def __init__(self, directory: Path, *, own: bool) -> None:
        self.name = "credit"
        old = Stream(self.name, "binary", 1, directory, own=own)
        (directory / "new").mkdir()
        new = Retrained(self.name, "binary", 2, directory / "new", version="2", own=own)
        self._versions = [(old, 1 - SHARE), (new, SHARE)]
        by_version = {stream.version: stream.profile for stream, _ in self._versions}
        self.profile = Profiles(by_version=by_version) if own else Profiles(old.profile)
        places = {"profile": None, "profiles": str(directory)} if own else {}
        self.settings: ModelSettings = old.settings.model_copy(update=places)

    def live(self, model: Model, start: float, seconds: int) -> None:
        for stream, share in self._versions:
            model.admit({stream.version}, start)
            times = np.linspace(start, start + seconds, round(seconds * share), endpoint=False, dtype=np.float64)
            stream.deliver(model, times, start + seconds, Trouble(0))


def fired(directory: Path, days: int, *, own: bool) -> set[tuple[str, str]]:
    """Return which alerts fire, of which version."""
    end = START + days * DAY
    release = Release(directory, own=own)
    record(Exporter([release], "a:10042"), directory, START, end, STEP)  # type: ignore[list-item]
    with asked(directory) as prometheus:
        return {
            (labels.get("version", ""), alert.name)
            for alert in ALERTS
            if alert.category != "watchdog"
            for _, labels in firings(prometheus, alert, START + STEP, end, STEP)
        }


@pytest.mark.releases
@pytest.mark.parametrize(("days", "own"), [(DAYS, True), (1, False)], ids=["own", "shared"])
def test_a_canary_week(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: int, own: bool) -> None:
    """Judged by the old version's profile the same canary drifts, so that the silence says something."""
    monkeypatch.setattr(scrapes, "_is_read", lambda prefix: "statistic=" not in prefix or '"psi"' in prefix)
    found = fired(tmp_path, days, own=own)
    if own:
        assert not found
    else:
        assert {version for version, _ in found} == {"2"}
        assert "MLFeatureDrift" in {name for _, name in found}
