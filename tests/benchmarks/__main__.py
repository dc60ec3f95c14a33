"""All benchmarks, one line per number: `python -m tests.benchmarks`, on an otherwise quiet machine."""

from tests.benchmarks import busy, exposition, ingest, profiling, refresh, scrape

for benchmark in (ingest, exposition, refresh, profiling, scrape, busy):
    benchmark.main()
