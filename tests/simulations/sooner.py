"""How many labels until a rise of the error is told, beside River's detectors: the table of docs/judgement.md.

    python -m tests.simulations.sooner

River is no dependency: `make river` installs it in an environment of its own, elsewhere its columns are left out.
"""

import math
from collections.abc import Callable, Iterator
from importlib.util import find_spec

import numpy as np

from mlops_exporter.arrays import Floats
from mlops_exporter.counting.change import StreamMonitor
from mlops_exporter.profile.fitted import StreamReference
from mlops_exporter.settings.models import ChangeSettings

BEFORE, AFTER = 0.15, 0.20
CALMS = (5_000, 20_000)
STREAMS, HEALTHY, LONGEST = 30, 20, 100_000

Told = Callable[[Floats], int | None]
"""After how many labels a detector tells of a change, None for not at all."""


def evidence(errors: Floats) -> int | None:
    """Watch as the exporter does, in batches of ten."""
    watched = StreamMonitor(StreamReference(20_000, BEFORE), ChangeSettings(), both=False, binary=True)
    alarm = math.log(1 / ChangeSettings().false_alarm_probability)
    for start in range(0, len(errors), 10):
        watched.update(errors[start : start + 10], 0.0)
        if watched.log_evidence >= alarm:
            return start + 10
    return None


def of_river(name: str) -> Told:
    """Return one of River's detectors at its defaults."""
    from river import drift  # type: ignore[import-not-found]

    def told(errors: Floats) -> int | None:
        detector = getattr(drift, name)()
        for number, error in enumerate(errors.tolist(), 1):
            detector.update(error)
            if detector.drift_detected:
                return number
        return None

    return told


def delays(told: Told, calm: int) -> Iterator[float]:
    """Yield labels from the rise on; NaN for an alarm before it, infinity for none."""
    for seed in range(STREAMS):
        rng = np.random.default_rng(seed)
        errors = np.concatenate([rng.random(calm) < BEFORE, rng.random(10_000) < AFTER]).astype(float)
        found = told(errors)
        yield math.inf if found is None else math.nan if found <= calm else found - calm


def main() -> None:
    """Print the table."""
    detectors: dict[str, Told] = {"this evidence": evidence}
    if find_spec("river"):
        detectors |= {name: of_river(name) for name in ("ADWIN", "PageHinkley")}
    print(f"| after a calm of | {' | '.join(detectors)} |")
    for calm in CALMS:
        cells = []
        for told in detectors.values():
            found = np.array([*delays(told, calm)])
            early = int(np.isnan(found).sum())
            cells.append(f"{np.nanmedian(found) if early < STREAMS else math.nan:,.0f} ({early} of {STREAMS} before)")
        print(f"| {calm:,} labels | {' | '.join(cells)} |", flush=True)
    alarms = []
    for told in detectors.values():
        healthy = ((np.random.default_rng(1_000 + seed).random(LONGEST) < BEFORE) for seed in range(HEALTHY))
        alarms.append(f"{sum(told(errors.astype(float)) is not None for errors in healthy)} of {HEALTHY}")
    print(f"| {LONGEST:,} healthy labels | {' | '.join(alarms)} |")


if __name__ == "__main__":
    main()
