"""Error rates by simulation: discovery."""

import numpy as np
import pytest

from mlops_exporter.statistics import discovery, drift, thresholds

FEATURES, BINS, ALPHA = 200, 10, 0.01


def _p_values(counts: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return p-values from psi of windows (W, features, bins), and which exceed their own critical value."""
    starts = np.arange(0, FEATURES * BINS, BINS)
    flat = counts.reshape(len(counts), -1).astype(np.float64)
    coefficients = thresholds.coefficients(["psi"], reference, starts, None, ALPHA)["psi"]
    value = drift.psi(flat, reference, starts)
    critical = thresholds.critical_value(
        "psi", coefficients, drift.totals(flat, starts), drift.totals(reference, starts)
    )
    return discovery.p_values("psi", value / critical, np.full(FEATURES, BINS), ALPHA), value > critical


@pytest.mark.simulation
def test_two_hundred_features_without_drift_do_not_page_every_day() -> None:
    rng = np.random.default_rng(1)
    windows = 400
    shares = np.full(BINS, 1 / BINS)
    reference = rng.multinomial(20_000, shares, FEATURES).ravel().astype(np.float64)
    p, exceeds = _p_values(rng.multinomial(1000, shares, (windows, FEATURES)), reference)
    assert (exceeds.any(axis=1)).mean() > 0.7, "uncontrolled, most windows alarm"
    assert discovery.discoveries(p, ALPHA).any(axis=1).mean() <= 0.03

    shifted = np.full((FEATURES, BINS), 1 / BINS)
    shifted[:10, 0] += 0.06
    shifted[:10, 9] -= 0.06
    p, _ = _p_values(
        np.stack([rng.multinomial(1000, shares) for _ in range(50) for shares in shifted]).reshape(50, FEATURES, BINS),
        reference,
    )
    found = discovery.discoveries(p, 0.05)
    assert found[:, :10].mean() > 0.9
    false = found[:, 10:].sum(1) / np.maximum(found.sum(1), 1)
    assert false.mean() <= 0.08
