"""What an exporter needs of memory, by its limits."""

from mlops_exporter.settings.config import Config

_RECORD_BYTES = 100
"""Of a prediction that waits for its label, or a pair that is remembered: `python -m tests.benchmarks.join`."""

_RESTORING = 1.05
"""What a start needs of that: `python -m tests.benchmarks.restore`."""

_OTHER_BYTES = 300_000_000
"""Everything else, bodies at hand included: the bound in tests/integration/test_amplification.py."""


def most_memory(settings: Config) -> float:
    """Return the bytes that a process needs once all that may wait does, but for ledgers: docs/scaling.md."""
    records = settings.limits.pending_predictions + settings.limits.remembered_labels
    return _RESTORING * _RECORD_BYTES * records * len(settings.models) + _OTHER_BYTES
