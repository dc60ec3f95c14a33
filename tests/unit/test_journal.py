import asyncio
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlops_exporter.counting.model import Model
from mlops_exporter.ingest.body import Body
from mlops_exporter.ingest.http import KSERVE, HttpSource
from mlops_exporter.ingest.intake import Intake, Translator
from mlops_exporter.ingest.journal import Faults, Journal
from mlops_exporter.ingest.store import CHECKPOINT, FILE, Store
from mlops_exporter.ingest.trees import PIECE_BYTES
from mlops_exporter.settings.models import Limits, ModelSettings
from mlops_exporter.settings.sources import KServeSettings
from mlops_exporter.sources.base import UnavailableError
from mlops_exporter.sources.kserve import Kind, KServe
from tests.models import NOW, profiles
from tests.support.disk import small_disk
from tests.support.kserve import cloud_event
from tests.unit.test_kserve import BATCHED, V1_REQUEST, V1_RESPONSE


class Numbers:
    """Counts of three pieces of a checkpoint."""

    def __init__(self) -> None:
        self.values = np.arange(PIECE_BYTES // 4, dtype=np.float64)

    def freeze(self) -> None:
        pass

    def thaw(self) -> None:
        pass

    def state(self) -> dict[str, Any]:
        return {"numbers": {"values": self.values}}


@pytest.mark.slow
def test_the_pieces_of_a_failed_checkpoint_are_dropped(tmp_path: Path) -> None:
    async def live() -> None:
        store, numbers, faults = Store(tmp_path), Numbers(), Faults()
        journal = Journal(store, numbers, faults)
        await journal.checkpoint()
        assert journal.last_checkpoint is not None
        before = store.read("numbers")["values"]
        numbers.values += 1
        room, _ = store.room()
        filler = tmp_path / "filler"
        filler.write_bytes(bytes(room - 3 * PIECE_BYTES // 2))  # room for one piece and a half
        await journal.checkpoint()
        assert faults.counts["full"] == 1
        assert [path.name for path in store._files()] == [f"{CHECKPOINT}1"]
        np.testing.assert_array_equal(store.read("numbers")["values"], before)
        filler.unlink()
        await journal.checkpoint()
        np.testing.assert_array_equal(store.read("numbers")["values"], numbers.values)
        assert [path.name for path in store._files()] == [f"{CHECKPOINT}1", f"{CHECKPOINT}3"]
        store.close()

    with small_disk(tmp_path, "64m"):
        asyncio.run(live())


@pytest.mark.slow
def test_a_journal_does_not_fill_the_disk_it_is_alone_on(tmp_path: Path) -> None:
    """Three times the disk goes through the journal, and neither a body nor a checkpoint lacks room."""
    disk_bytes, body = 256 << 20, os.urandom(4 << 20)

    async def live() -> None:
        store, numbers, faults = Store(tmp_path), Numbers(), Faults()
        journal = Journal(store, numbers, faults)
        running = asyncio.create_task(journal.run())
        for _ in range(3 * disk_bytes // len(body)):
            await journal.commit(Body("push", body, NOW), lambda: None)
        assert journal.last_checkpoint is not None
        journal.stop()
        await running
        assert not any(faults.counts.values())

    with small_disk(tmp_path, f"{disk_bytes}"):
        asyncio.run(live())


def test_a_checkpoint_that_failed_is_not_tried_again_at_every_body(tmp_path: Path) -> None:
    async def live() -> None:
        store, faults = Store(tmp_path), Faults()
        journal = Journal(store, Numbers(), faults)
        running = asyncio.create_task(journal.run())
        room, _ = store.room()
        (tmp_path / "filler").write_bytes(bytes(room - 22_000_000))  # less than the journal and a checkpoint
        for size in [500_000] * 17 + [2] * 100:  # more than what is too little to be dropped early, and then a trickle
            await journal.commit(Body("push", bytes(size), NOW), lambda: None)
        assert journal.last_checkpoint is None
        assert faults.counts["full"] == 1
        journal.stop()
        await running
        assert faults.counts["full"] == 2

    with small_disk(tmp_path, "64m"):
        asyncio.run(live())


def test_nothing_is_durable_in_a_file_that_is_gone(tmp_path: Path) -> None:
    async def live() -> None:
        store, faults = Store(tmp_path), Faults()
        journal = Journal(store, Numbers(), faults)
        (tmp_path / FILE).unlink()
        waiting = asyncio.create_task(journal.commit(Body("push", b"{}", NOW), lambda: None))
        await asyncio.sleep(0)
        await journal._commit_waiting()
        with pytest.raises(UnavailableError, match="is gone"):
            await waiting
        assert faults.counts["io"] == 1
        assert store.sequence == 0
        store.close()

    asyncio.run(live())


def test_halves_that_arrive_during_a_checkpoint_are_in_it_or_in_the_journal(tmp_path: Path) -> None:
    """Each half once, be it that the state says so or that the journal is replayed."""

    def made() -> tuple[Intake, HttpSource]:
        kserve = KServe(KServeSettings(), profiles())
        intake = _intake({KSERVE: kserve})
        return intake, HttpSource("push", intake, kserve)

    def batch(kind: Kind, *names: str) -> bytes:
        payload = V1_REQUEST if kind == "request" else V1_RESPONSE
        return json.dumps([cloud_event(kind, payload, name) for name in names]).encode()

    async def live() -> None:
        store, (intake, first) = Store(tmp_path), made()
        journal = Journal(store, intake, Faults())
        intake.keep_in(journal)
        submitted = asyncio.create_task(first.submit(batch("request", "a", "b"), NOW, BATCHED))
        await asyncio.sleep(0)
        await journal._commit_waiting()
        assert (await submitted).accepted == 0
        during = asyncio.create_task(first.submit(batch("response", "a"), NOW, BATCHED))
        await asyncio.sleep(0)
        await journal.checkpoint()
        assert (await during).accepted == 1
        assert store.sequence == 2
        store.close()

        store, (intake, again) = Store(tmp_path), made()
        intake.restore(store.read)
        assert again.kserve.waiting == 2
        assert len(list(store.journal())) == 1
        for body in store.journal():
            intake.replay(body)
        assert (again.kserve.waiting, again.kserve.counts["joined"]) == (1, 2)
        assert intake.sources["push"].accepted == 1
        assert (await again.submit(batch("response", "a", "b"), NOW, BATCHED)).accepted == 1
        store.close()

    asyncio.run(live())


def _intake(translators: Mapping[str, Translator] | None = None) -> Intake:
    settings = ModelSettings.model_validate({"name": "credit", "task": "binary", "profile": "credit.json"})
    return Intake([Model(settings, profiles()["credit"], Limits())], ["push"], Limits(), translators=translators)
