"""What starting costs: CPU time of a process until it is ready, by models and features, with fitted profiles."""

import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from msgspec.structs import replace

from mlops_exporter.judging.drift import fitted_thresholds
from mlops_exporter.profile.bins import NumericVariable
from mlops_exporter.profile.profile import SCHEMA, Profile, Provenance, save
from tests.support.prometheus import free_port

BOUNDS = {(50, 25): 3.0, (10, 400): 6.0, (200, 25): 10.0}
"""CPU seconds by models and features."""


def _profile(features: int) -> Profile:
    rng = np.random.default_rng(features)

    def variable() -> NumericVariable:
        edges = np.sort(rng.normal(size=11)).tolist()
        counts = [0, *rng.integers(900, 1100, 10).tolist(), 0, 0, 0]
        positions = ((np.array(edges[1:]) + np.array(edges[:-1])) / 2).tolist()
        return NumericVariable(edges, list(range(10)), counts, positions, 0.0, 1.0)

    profile = Profile(
        schema=SCHEMA,
        task="regression",
        rows=10_000,
        provenance=Provenance("2026-01-01T00:00:00+00:00", "0", "1", "bench", ""),
        features={f"feature_{number}": variable() for number in range(features)},
        prediction=variable(),
        label=variable(),
    )
    profile.thresholds = fitted_thresholds(profile)
    return profile


def seconds_to_ready(models: int, features: int, directory: Path) -> float:
    """Return the CPU seconds that a start takes until `/-/ready` answers 200, each model with a profile of its own."""
    profile, names = _profile(features), ""
    for number in range(models):
        provenance = replace(profile.provenance, model_version=str(number))
        save(replace(profile, provenance=provenance), directory / f"{number}.json")
        names += f"  - {{name: m{number}, task: regression, profile: {number}.json}}\n"
    file = directory / "mlops-exporter.yml"
    file.write_text(f"models:\n{names}sources: [{{name: push, http: {{}}}}]\n")
    port = free_port()
    command = [sys.executable, "-m", "mlops_exporter", "run", f"--config.file={file}"]
    listen = f"--web.listen-address=127.0.0.1:{port}"
    process = subprocess.Popen([*command, listen], stderr=subprocess.DEVNULL)
    try:
        while process.poll() is None and not _is_ready(f"http://127.0.0.1:{port}/-/ready"):
            time.sleep(0.1)
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    finally:
        process.terminate()
        process.wait()


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def main() -> None:
    """Print the CPU time of each size beside its bound."""
    for (models, features), bound in BOUNDS.items():
        with TemporaryDirectory() as directory:
            seconds = seconds_to_ready(models, features, Path(directory))
        print(f"start: {models} models of {features} features: {seconds:.1f} s of CPU to ready (bound {bound:g} s)")


if __name__ == "__main__":
    main()
