"""Thresholds of drift that a profile carries, or that are kept beside the state: starting simulates nothing twice."""

from pathlib import Path

import numpy as np
import pytest

from mlops_exporter.counting.ledger import Layout
from mlops_exporter.judging.drift import Comparison, Comparisons, fitted_thresholds
from mlops_exporter.profile.profile import load, save
from mlops_exporter.service import thresholds as kept
from mlops_exporter.settings.models import DriftSettings
from mlops_exporter.statistics import thresholds
from tests.models import profiles
from tests.unit.test_reload import make


@pytest.mark.slow
@pytest.mark.parametrize("name", ["credit", "price"])
def test_a_profile_carries_its_thresholds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    profile = profiles()[name]
    plain = Comparison(Layout(profile), DriftSettings(), 10)
    digest = profile.digest
    profile.thresholds = fitted_thresholds(profile)
    save(profile, tmp_path / "p.json")
    again = load(tmp_path / "p.json")
    assert again.digest == digest, "they follow from the rest"

    def never(statistics: list[str], *_: object) -> dict[str, object]:
        assert not statistics, "it is known already"
        return {}

    monkeypatch.setattr(thresholds, "coefficients", never)
    layout = Layout(again)
    totals = np.random.default_rng(0).integers(0, 50, (2, layout.size)).astype(float)
    compared, expected = (each.compare(totals) for each in (Comparison(layout, DriftSettings(), 10), plain))
    for statistic, limits in expected.thresholds.items():
        assert np.allclose(compared.thresholds[statistic], limits, rtol=1e-5, equal_nan=True)
    with pytest.raises(AssertionError, match="known already"):
        Comparison(layout, DriftSettings(false_alarm_rate=0.05), 10)


def test_what_a_start_has_simulated_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make(profiles()["credit"], drift={"statistics": ["psi"], "false_alarm_rate": 0.05})
    kept.prepare(Comparisons(), model.reference, tmp_path)
    (file,) = (tmp_path / kept.DIRECTORY).iterdir()
    monkeypatch.setattr(thresholds, "coefficients", lambda statistics, *_: {} if not statistics else 1 / 0)
    kept.prepare(Comparisons(), model.reference, tmp_path)
    file.write_text("damaged")
    with pytest.raises(ZeroDivisionError):
        kept.prepare(Comparisons(), model.reference, tmp_path)


def test_nothing_is_simulated_by_a_scrape_while_the_exporter_starts() -> None:
    model = make(profiles()["credit"])
    comparisons = Comparisons()
    comparisons.starting = True
    assert comparisons.ready(model.reference) is None
    comparisons.of(model.reference)
    assert comparisons.ready(model.reference) is not None
