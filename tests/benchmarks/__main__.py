"""All benchmarks, one line per number: `python -m tests.benchmarks`, on an otherwise quiet machine.

One that cannot run here is named with the reason, and does not end the rest.
"""

import sys
from importlib import import_module

import pytest

BENCHMARKS = (
    "ingest",
    "panes",
    "durability",
    "join",
    "restore",
    "judgement",
    "formats",
    "exposition",
    "refresh",
    "profiling",
    "tables",
    "peers",
    "ledgers",
    "members",
    "start",
    "scrape",
    "busy",
    "compute",
)


def main() -> int:
    """Run all; returns 1 when one failed, not where one only lacks what it needs."""
    failed = []
    for name in BENCHMARKS:
        try:
            import_module(f"tests.benchmarks.{name}").main()
        except pytest.skip.Exception as reason:
            print(f"{name}: left out: {reason}", flush=True)
        except Exception as error:
            failed.append(name)
            print(f"{name}: FAILED: {type(error).__name__}: {error}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
