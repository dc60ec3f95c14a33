"""Error rates by simulation: sequential."""

import math

import numpy as np
import pytest

from mlops_exporter.statistics.sequential import ChangeEvidence


@pytest.mark.simulation
def test_evidence_stays_below_its_threshold_over_all_time() -> None:
    alpha, streams, steps = 0.05, 300, 10_000
    rng = np.random.default_rng(5)
    crossed = {"errors": 0, "scores": 0}
    for _ in range(streams):
        errors = (rng.random(steps) < 0.1).astype(np.float64)
        for name, values in {"errors": errors, "scores": rng.beta(0.4, 3.6, steps)}.items():
            evidence = ChangeEvidence(0.1)
            highest = -math.inf
            for start in range(0, steps, 100):
                evidence.update(values[start : start + 100])
                highest = max(highest, evidence.log_evidence)
            crossed[name] += highest >= math.log(1 / alpha)
    for count in crossed.values():
        assert count / streams <= alpha + 2 * math.sqrt(alpha * (1 - alpha) / streams)
