"""Writes a state file as this version leaves it, to be read by every later one: python -m tests.state_fixture."""

import asyncio
import gzip
import json
import random
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

from mlops_exporter.counting.model import Model
from mlops_exporter.ingest.intake import Intake
from mlops_exporter.ingest.journal import Faults, Journal
from mlops_exporter.ingest.store import FILE, SCHEMA, Store
from mlops_exporter.service import configuration

FIXTURES = Path(__file__).parent / "golden" / "state"
NOW = 1_790_000_000.0
CHECKPOINTED, JOURNALLED = 40, 20


def intake() -> Intake:
    """An empty intake of the fixtures' configuration."""
    config, profiles = configuration.read(FIXTURES / "mlops-exporter.yml")
    models = [Model(settings, profiles[settings.name], config.limits) for settings in config.models]
    return Intake(models, ["push"], config.limits)


def unpacked(schema: str, directory: Path) -> Path:
    """Put the state of a schema into a directory of its own."""
    directory.mkdir()
    if (archive := FIXTURES / f"schema-{schema}.tar.gz").exists():
        with tarfile.open(archive) as files:
            files.extractall(directory, filter="data")
        return directory
    (directory / FILE).write_bytes(gzip.decompress((FIXTURES / f"schema-{schema}.sqlite3.gz").read_bytes()))
    return directory


def _body(first: int, count: int, rng: random.Random) -> bytes:
    return b"\n".join(
        json.dumps(
            {
                "model": "credit",
                "version": "1",
                "id": f"e{number}",
                "ts": NOW + number,
                "features": {"amount": round(rng.uniform(0, 10), 2), "country": rng.choice(["DE", "FR"])},
                "score": round(rng.random(), 3),
                **({"label": rng.randrange(2)} if number % 2 else {}),
            }
        ).encode()
        for number in range(first, first + count)
    )


async def _write(directory: Path) -> None:
    taking, rng = intake(), random.Random(1)
    store = Store(directory)
    journal = Journal(store, taking, Faults())
    taking.keep_in(journal)
    running = asyncio.create_task(journal.run())
    await taking.submit("push", _body(0, CHECKPOINTED, rng), NOW + 100)
    await journal.checkpoint()
    await taking.submit("push", _body(CHECKPOINTED, JOURNALLED, rng), NOW + 101)
    running.cancel()
    store.close()


def main() -> None:
    """Write the fixture of today's schema: all that the directory holds."""
    with TemporaryDirectory() as directory:
        asyncio.run(_write(Path(directory)))
        with tarfile.open(FIXTURES / f"schema-{SCHEMA}.tar.gz", "w:gz") as files:
            for path in sorted(Path(directory).iterdir()):
                files.add(path, path.name)


if __name__ == "__main__":
    main()
