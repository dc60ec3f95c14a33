"""The scene in a real Prometheus: `with standing(directory) as server`, or `python -m tests.scene.fleet`."""

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import yaml

from tests.requirements import require_program
from tests.scene import kinds, machines, rules
from tests.scene.machines import CPU_HOST, GPU_HOST, STAGING, STEP, Machine
from tests.scene.shares import BEGIN, END, Share
from tests.scene.traffic import FEATURES, INTENTS, OLD, live, train
from tests.support.prometheus import Prometheus, running_prometheus

_SHARES: dict[Machine, list[Share]] = {
    GPU_HOST: [Share("credit", 1.0, 11, canary=0.4), Share("rent", 0.4, 12), Share("intent", 0.4, 13)],
    CPU_HOST: [
        Share("credit", 0.8, 21, canary=0.4),
        Share("rent", 0.4, 22),
        Share("intent", 0.3, 23),
        Share("topics", 0.4, 24),
        Share("demand", 0.5, 25),
        Share("shop", 0.4, 26),
        Share("chat", 0.4, 27),
    ],
    STAGING: [Share("credit", 0.5, 31, canary=1.0), Share("rent", 0.4, 32, noise=2.5)],
}
_PROFILES = {
    "credit": ["--model-version=2026.10", "--task=binary", "--label=label", "--prediction=prediction", "--positive=1",
               "--score=score", "--groups=sex,region", "--segments=region,sex",
               f"--features={','.join(FEATURES)}"],
    "rent": ["--model-version=1", "--task=regression", "--label=label", "--prediction=prediction", "--groups=region"],
    "intent": ["--model-version=007", "--task=multiclass", "--label=label", "--prediction=prediction",
               "--scores=" + ",".join(f"{name}=score_{name}" for name in INTENTS)],
    **kinds.PROFILES,
}  # fmt: skip
_SETTINGS = {
    "credit": {
        "task": "binary",
        "positive": "1",
        "benchmarks": {"accuracy": {"min": 0.78}, "roc_auc": {"min": 0.8}},
        "segments": ["region", "sex"],
        "fairness": {
            "attributes": ["region", "sex"],
            "favourable": "1",
            "benchmarks": {
                "demographic_parity_ratio": {"min": 0.8},
                "equal_opportunity_difference": {"max": 0.1},
            },
        },
    },
    "rent": {
        "task": "regression",
        "cadence": "10m",
        "benchmarks": {"mae": {"max": 3.2}},
        "segments": {"attributes": [{"name": "age", "edges": [20, OLD]}]},
        "fairness": {"attributes": ["region"], "benchmarks": {"mae_difference": {"max": 1.0}}},
    },
    "intent": {"task": "multiclass", "benchmarks": {"accuracy": {"min": 0.6}}, "label_delay": "5m"},
    **kinds.SETTINGS,
}


def build(directory: Path) -> None:
    """Write the scene's blocks into DIRECTORY/data."""
    train(directory)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda model: _profile(directory, model), _PROFILES))
        list(pool.map(lambda machine: write_blocks(directory, _history(directory, machine)), machines.MACHINES))
        write_blocks(directory, _receiver(directory))
        for level in rules.levels(rules.shipped()):
            file = directory / "rules.om"
            with asked(directory) as server, file.open("w") as output:
                answers = pool.map(lambda rule: rules.answer(server, rule, BEGIN + STEP, END, STEP), level)
                for rule, answer in zip(level, answers, strict=True):
                    output.writelines(rules.evaluated(rule, answer, END, STEP))
                output.write("# EOF\n")
            write_blocks(directory, file)


def _profile(directory: Path, model: str) -> None:
    (table,) = (path for path in directory.glob(f"{model}.*") if path.suffix in (".csv", ".ndjson"))
    _command("profile", "build", f"--data={table}", *_PROFILES[model], f"--output={directory / model}.json")


def _history(directory: Path, machine: Machine) -> Path:
    """Write what the scrapes of one machine showed."""
    own = directory / machine.instance.partition(":")[0]
    own.mkdir()
    shares = _SHARES.get(machine, [])
    history = own / "history.om"
    with history.open("w") as output:
        if shares:
            for share in shares:
                live(share, own / f"{share.model}.ndjson")
            models = [
                {"name": share.model, "profile": str(directory / f"{share.model}.json"),
                 "windows": ["15m", "1h"], **_SETTINGS[share.model]}
                for share in shares
            ]  # fmt: skip
            (own / "config.yml").write_text(yaml.safe_dump({"models": models}))
            labels = [f"--label={name}={value}" for name, value in machine.labels.items()]
            events = [str(own / f"{share.model}.ndjson") for share in shares]
            _command(
                *("replay", f"--config.file={own / 'config.yml'}", f"--output={own / 'models.om'}"),
                *(*labels, f"--step={STEP}s", "--events", *events),
            )
            with (own / "models.om").open() as lines:
                output.writelines(line for line in lines if not line.startswith("#"))
        output.writelines(machines.lines(machine))
        output.write("# EOF\n")
    return history


def _receiver(directory: Path) -> Path:
    """Write what the scrapes of the receiver of retraining showed."""
    file = directory / "receiver.om"
    file.write_text("".join([*machines.receiver_lines(), "# EOF\n"]))
    return file


def _command(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", "mlops_exporter", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, f"{arguments[:2]}: {done.stderr}"


def write_blocks(directory: Path, history: Path) -> None:
    """Add samples to DIRECTORY/data."""
    command = [require_program("promtool"), "tsdb", "create-blocks-from", "openmetrics", "--quiet"]
    done = subprocess.run(
        [*command, "--max-block-duration=24h", history, directory / "data"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@contextmanager
def asked(directory: Path) -> Iterator[Prometheus]:
    """Run a Prometheus over DIRECTORY/data that neither scrapes nor evaluates."""
    with running_prometheus({"scrape_configs": []}, directory, "--storage.tsdb.retention.time=100y") as server:
        yield server


@contextmanager
def standing(directory: Path) -> Iterator[Prometheus]:
    """Build the scene in `directory` unless it is there, and run a Prometheus over it."""
    if not (directory / "done").exists():
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        build(directory)
        (directory / "done").touch()
    with asked(directory) as server:
        yield server


def main() -> None:
    """Build the scene in a directory (its argument, or a temporary one) and keep it there to look at."""
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(temporary) / "scene"
        began = time.monotonic()
        with standing(directory) as server:
            print(f"{server.url} after {time.monotonic() - began:.0f} s; the scene's last moment is {END}", flush=True)
            while True:
                time.sleep(1)


if __name__ == "__main__":
    main()
