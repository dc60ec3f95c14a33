"""Thresholds of drift that are simulated at a start, kept beside the state: a profile that knows its own needs none."""

import hashlib
from contextlib import suppress
from pathlib import Path

import msgspec

from mlops_exporter.counting.reference import Reference
from mlops_exporter.judging.drift import Comparisons
from mlops_exporter.profile.fitted import DriftThresholds
from mlops_exporter.profile.parsing import JsonError, parsed

DIRECTORY = "thresholds"


def prepare(comparisons: Comparisons, reference: Reference, state: Path | None) -> None:
    """Make the comparison of a reference, by what an earlier start has kept if there is such, and keep it."""
    file = None if state is None else state / DIRECTORY / f"{_name(reference)}.json"
    kept = _read(file)
    made = comparisons.of(reference, kept)
    fitted = made.fitted()
    if file is not None and kept is None and fitted != reference.profile.thresholds:
        _write(file, fitted)


def _name(reference: Reference) -> str:
    """Return what changes with anything that the thresholds follow from."""
    drift = reference.settings.drift
    settings = f"{sorted(drift.statistics)} {drift.false_alarm_rate!r}"
    return f"{reference.digest}-{hashlib.sha256(settings.encode()).hexdigest()[:8]}"


def _read(file: Path | None) -> DriftThresholds | None:
    try:
        return None if file is None else parsed(file.read_bytes(), DriftThresholds)
    except (OSError, JsonError):  # it is not there yet, or will be written anew
        return None


def _write(file: Path, thresholds: DriftThresholds) -> None:
    unfinished = file.with_suffix(".unfinished")
    try:
        file.parent.mkdir(exist_ok=True)
        unfinished.write_bytes(msgspec.json.encode(thresholds))
        unfinished.replace(file)
    except OSError:  # the next start simulates them again
        with suppress(OSError):
            unfinished.unlink()
