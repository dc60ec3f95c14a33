"""A table beside other programs, on the same file in one run: `python -m tests.benchmarks.peers [ROWS]`.

20 numeric and 5 categorical features of 500,000 rows of Parquet. Each runs in a process of its own, one after the
other, in several rounds, of which the best counts. `tests/setup-peers.sh python3 .peers` installs the others.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from mlops_exporter.judging.drift import fitted_thresholds
from tests.benchmarks import tables

ENVIRONMENT = Path(__file__).parents[2] / ".peers"
ROUNDS = 3
PEERS = {
    "pandas: exact quantiles and counts": ("pandas", ENVIRONMENT),
    "DuckDB: exact quantiles and counts": ("duckdb", ENVIRONMENT),
    "Evidently: summary of data": ("evidently_summary", ENVIRONMENT / "evidently"),
    "Evidently: drift of every feature": ("evidently_drift", ENVIRONMENT / "evidently"),
    "whylogs: profile": ("whylogs", ENVIRONMENT / "whylogs"),
}
OWN = {
    "mlops-exporter: profile build, all of it": "built",
    "mlops-exporter: table source, all of it": "counted",
}
"""What of this is run: with labels, scores, calibration, multivariate sums and the join of labels."""


def _own(what: str, directory: Path) -> dict[str, float]:
    """Run in this process what `main` starts in another."""
    profile = tables.built(directory / "train.parquet") if what == "counted" else None
    if profile is not None:
        profile.thresholds = fitted_thresholds(profile)
    start, cpu = time.perf_counter(), time.process_time()
    if profile is None:
        tables.built(directory / "train.parquet")
    else:
        tables.counted(directory, profile)
    found = {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - start}
    return {**found, "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


def measured(directory: Path, rounds: int = ROUNDS) -> dict[str, dict[str, float]]:
    """Return seconds of CPU and of the clock and bytes of memory of each program, the best of some rounds."""
    script = str(Path(__file__).with_name("peer.py"))
    commands = {
        name: [sys.executable, "-m", "tests.benchmarks.peers", what, str(directory)] for name, what in OWN.items()
    }
    for name, (program, environment) in PEERS.items():
        if (python := environment / "bin" / "python").exists():
            commands[name] = [str(python), script, program, str(directory / "train.parquet")]
    found: dict[str, dict[str, float]] = {}
    for _ in range(rounds):
        for name, command in commands.items():
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, env={**os.environ, "DO_NOT_TRACK": "1"}
            )
            if done.returncode:
                print(f"peers: {name}: left out: {done.stderr.strip().splitlines()[-1:]}", flush=True)
                continue
            this = json.loads(done.stdout.splitlines()[-1])
            before = found.get(name, this)
            found[name] = {key: min(before[key], value) for key, value in this.items()}
    return found


def main(rows: int = tables.ROWS) -> None:
    """Print the rates."""
    if not (ENVIRONMENT / "bin" / "python").exists():
        pytest.skip(f"tests/setup-peers.sh {Path(sys.executable).name} .peers installs what is compared")
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        tables.write(directory, rows)
        for program, cost in sorted(measured(directory).items(), key=lambda item: item[1]["cpu"]):
            print(
                f"peers: {program}: {rows / cost['cpu'] / 1e3:,.0f} k rows/s of CPU, "
                f"{rows / cost['wall'] / 1e3:,.0f} k rows/s by the clock, {cost['memory'] / 2**20:,.0f} MiB",
                flush=True,
            )


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(json.dumps(_own(sys.argv[1], Path(sys.argv[2]))))
    else:
        main(*map(int, sys.argv[1:]))
