"""All benchmarks, one line per number: `python -m tests.benchmarks`, on an otherwise quiet machine."""

from tests.benchmarks import (
    busy,
    compute,
    durability,
    exposition,
    formats,
    ingest,
    join,
    judgement,
    profiling,
    refresh,
    scrape,
)

for benchmark in (
    ingest,
    durability,
    join,
    judgement,
    formats,
    exposition,
    refresh,
    profiling,
    scrape,
    busy,
    compute,
):
    benchmark.main()
