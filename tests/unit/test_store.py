import asyncio
import json
import random
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlops_exporter.ingest.body import Body
from mlops_exporter.ingest.intake import Intake
from mlops_exporter.ingest.journal import Faults, Journal
from mlops_exporter.ingest.store import CHECKPOINT, FILE, MARK, SCHEMA, Store, StoreError
from mlops_exporter.ingest.trees import PIECE_BYTES, pack, unpack
from mlops_exporter.sources.base import UnavailableError
from tests import state_fixture
from tests.support.disk import small_disk

NOW = 1_800_000_000.0


def test_trees_come_back_whatever_the_size_of_their_pieces() -> None:
    tree: dict[str, Any] = {
        "a": np.arange(3 * PIECE_BYTES // 8 + 5.0),
        "b": [np.zeros((0, 2)), np.arange(6, dtype=np.int16).reshape(2, 3), "text", None, b"bytes"],
    }
    for pieces in (list(pack(tree)), [b"".join(pack(tree))]):
        again = unpack(pieces)
        np.testing.assert_array_equal(again["a"], tree["a"])
        np.testing.assert_array_equal(again["b"][1], tree["b"][1])
        assert again["b"][0].shape == (0, 2)
        assert again["b"][2:] == tree["b"][2:]
        again["a"][0] = 1.0
    with pytest.raises(ValueError, match="too early"):
        unpack([b"".join(pack(tree))[:-1]])
    assert unpack([]) is None


def _bodies(count: int) -> list[Body]:
    """Bodies whose data are larger than a page, now and then."""
    return [
        Body(
            "push",
            json.dumps({"id": f"event {n}", "secret": "x" * (n % 7) * 997}).encode(),
            NOW + n,
            f"position {n}".encode() if n % 2 else None,
            frozenset({"a", "b"}) if n % 3 else None,
        )
        for n in range(count)
    ]


def _write(directory: Path, *, polite: bool = False) -> None:
    """A checkpoint of two parts after five bodies, and seven bodies since."""
    store = Store(directory)
    store.begin()
    store.append(_bodies(12)[:5])
    generation = store.begin_checkpoint()
    trees = {"model a": {"cells": np.arange(5000.0)}, "intake": {"seed": 5, "positions": {"push": b"1"}}}
    counts = dict.fromkeys(trees, 0)
    for name, tree in trees.items():
        for number, piece in enumerate(pack(tree)):
            store.write_piece(name, generation, number, piece)
            counts[name] += 1
    store.finish_checkpoint(counts, generation, 5)
    assert not store.drop()
    for body in _bodies(12)[5:]:
        store.append([body])
    if polite:
        store.close()
    else:
        copy = directory.with_name(f"{directory.name} as after a crash")
        shutil.copytree(directory, copy)
        store.close()
        shutil.rmtree(directory)
        copy.rename(directory)


def _read(directory: Path) -> Any:
    """All that a start makes of a state; raises StoreError."""
    store = Store(directory)
    try:
        store.verify()
        parts = {name: store.read(name) for name in sorted(store.parts())}
        cells = parts["model a"]["cells"].tolist() if "model a" in parts else None
        return cells, parts.get("intake"), list(store.journal())
    finally:
        store.close()


@pytest.mark.slow
@pytest.mark.parametrize("polite", [False, True], ids=["after kill -9", "after a stop"])
def test_a_flipped_byte_is_refused_or_does_no_harm(tmp_path: Path, polite: bool) -> None:
    """Bytes of every file and every kind of page: what is read is right, or nothing is, and the files stay."""
    good = tmp_path / "good"
    _write(good, polite=polite)
    right = _read(_copy(good, tmp_path / "right"))
    assert len(right[2]) == 7
    rng = random.Random(14)
    refused = harmless = 0
    for file, place in _places(good, rng, 40):
        for flip in (1 << rng.randrange(8), rng.randrange(1, 256)):
            damaged = _copy(good, tmp_path / "damaged")
            content = bytearray((damaged / file).read_bytes())
            content[place] ^= flip
            (damaged / file).write_bytes(content)
            before = _contents(damaged)
            found, fault = _read_or_fault(damaged)
            if fault is None:
                harmless += 1
                assert found == right, f"{file} byte {place} ^ {flip:#x} is wrong and nobody knows"
            else:
                refused += 1
                assert fault in ("corrupt", "schema"), f"{file} byte {place}"
                assert _contents(damaged).get(f"{FILE}-wal", b"") == before.get(f"{FILE}-wal", b"")
    assert refused > 20
    assert harmless > 10


def _read_or_fault(directory: Path) -> tuple[Any, str | None]:
    try:
        return _read(directory), None
    except StoreError as error:
        return None, error.fault


def _copy(directory: Path, to: Path) -> Path:
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(directory, to)
    return to


def _contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def _places(directory: Path, rng: random.Random, each: int) -> Iterator[tuple[str, int]]:
    """The header of every file, the beginnings of all pages (where cells are pointed to), and places anywhere."""
    for path in sorted(directory.iterdir()):
        size = path.stat().st_size
        if path.name == f"{FILE}-shm" or not size:
            continue
        heads = [*range(min(size, 100)), *(page + n for page in range(0, size, 4096) for n in range(12))]
        inner = [rng.randrange(size) for _ in range(each)]
        yield from ((path.name, place) for place in rng.sample(heads, min(each, len(heads))) + inner if place < size)


def test_a_log_that_lost_its_end_is_noticed(tmp_path: Path) -> None:
    """SQLite takes what a damaged byte leaves of its log for all there is."""
    _write(tmp_path / "state")
    log = tmp_path / "state" / f"{FILE}-wal"
    content = bytearray(log.read_bytes())
    content[len(content) * 3 // 4] ^= 1
    log.write_bytes(content)
    with pytest.raises(StoreError, match=r"bodies that were acknowledged are missing") as caught:
        Store(tmp_path / "state")
    assert caught.value.fault == "corrupt"
    assert log.read_bytes() == content
    (tmp_path / "state" / MARK).unlink()
    assert len(_read(tmp_path / "state")[2]) < 7


def test_a_new_state_has_nothing_to_restore(tmp_path: Path) -> None:
    store = Store(tmp_path / "state")
    store.verify()
    assert (store.read("intake"), store.parts(), list(store.journal())) == (None, set(), [])
    store.close()


def test_nobody_else_reads_the_state_and_what_is_dropped_is_gone(tmp_path: Path) -> None:
    store = Store(tmp_path / "state")
    store.begin()
    store.append([Body("push", b'{"id":"personal"}' * 40_000, NOW), Body("push", b'{"id":"small one"}', NOW)])
    files = [tmp_path / "state" / FILE, tmp_path / "state" / f"{FILE}-wal"]
    assert any(b"personal" in file.read_bytes() for file in files)
    assert all(path.stat().st_mode & 0o077 == 0 for path in (tmp_path / "state").iterdir())
    store.finish_checkpoint({}, store.begin_checkpoint(), 2)
    while store.drop():
        pass
    for file in files:
        content = file.read_bytes()
        assert b"personal" not in content
        assert b"small one" not in content
    store.close()


class Counts:
    def freeze(self) -> None:
        pass

    def thaw(self) -> None:
        pass

    def state(self) -> dict[str, Any]:
        return {"intake": {"seed": 7}}


@pytest.mark.parametrize("how", ["another file", "another directory"])
def test_nothing_is_acknowledged_into_a_state_that_was_swapped(tmp_path: Path, how: str) -> None:
    async def live() -> None:
        place, aside = tmp_path / "state", tmp_path / "aside"
        store, faults = Store(place), Faults()
        journal = Journal(store, Counts(), faults)
        running = asyncio.create_task(journal.run())
        await journal.commit(Body("push", b"{}", NOW), lambda: None)
        place.rename(aside)
        _write(place)
        if how == "another file":
            for file in place.iterdir():
                file.rename(tmp_path / file.name)
            place.rmdir()
            shutil.copytree(aside, place)
        with pytest.raises(UnavailableError, match="another file than the one that was opened"):
            await journal.commit(Body("push", b"{}", NOW), lambda: None)
        assert faults.current is not None
        assert faults.current.fault == "replaced"
        shutil.rmtree(place)
        aside.rename(place)
        await journal.commit(Body("push", b"{}", NOW), lambda: None)
        assert faults.current is None
        journal.stop()
        await running

    asyncio.run(live())


def test_a_directory_that_was_made_again_is_taken_up(tmp_path: Path) -> None:
    async def live() -> None:
        place = tmp_path / "state"
        journal = Journal(Store(place), Counts(), Faults())
        running = asyncio.create_task(journal.run())
        await journal.commit(Body("push", b"{}", NOW), lambda: None)
        shutil.rmtree(place)
        with pytest.raises(UnavailableError, match="is gone"):
            await journal.commit(Body("push", b"{}", NOW), lambda: None)
        assert not place.exists()
        place.mkdir()
        with pytest.raises(UnavailableError, match="is gone"):
            await journal.commit(Body("push", b"{}", NOW), lambda: None)
        await journal.commit(Body("push", b"[]", NOW), lambda: None)
        while journal.last_checkpoint is None:
            await asyncio.sleep(0.01)
        store = journal._store
        assert store.read("intake") == {"seed": 7}
        assert [body.data for body in store.journal()] == [b"[]"]
        journal.stop()
        await running

    asyncio.run(live())


@pytest.mark.slow
@pytest.mark.parametrize("schema", ["1-without-models", *map(str, range(1, SCHEMA + 1))])
def test_the_state_of_every_schema_is_read(tmp_path: Path, schema: str) -> None:
    async def start(directory: Path) -> Intake:
        intake, store = state_fixture.intake(), Store(directory)
        store.verify()
        intake.restore(store.read)
        for body in store.journal():
            intake.replay(body)
        intake.flush()
        Journal(store, intake, Faults())
        store.close()
        return intake

    directory = state_fixture.unpacked(schema, tmp_path / "state")
    named = int(schema[0]) > 1  # before that a model's part had another name: it stays, and the model begins anew
    for _ in range(2):  # as it was left, and as it was brought up to date
        intake = asyncio.run(start(directory))
        (model,) = intake.models.values()
        counted = model.versions["1"].lifetime[model.reference.layout.predictions.start]
        assert (intake.sources["push"].accepted, counted) == (60, 60 if named else 20)
        assert model.waiting == (30 if named else 10)
    with closing(sqlite3.connect(directory / FILE)) as connection:
        connection.execute("ALTER TABLE journal ADD COLUMN unknown TEXT")
    with pytest.raises(StoreError, match="tables are not those of schema") as caught:
        Store(directory)
    assert caught.value.fault == "corrupt"


class Tally:
    """Counts bodies by their data, as exactly as a model counts events."""

    def __init__(self) -> None:
        self.seen: dict[str, int] = {}

    def take(self, data: bytes) -> None:
        self.seen[data.decode()] = self.seen.get(data.decode(), 0) + 1

    def freeze(self) -> None:
        pass

    def thaw(self) -> None:
        pass

    def state(self) -> dict[str, Any]:
        return {"tally": {"seen": dict(self.seen), "weight": np.arange(3e5)}}

    @classmethod
    def started(cls, directory: Path, faults: Faults) -> tuple["Tally", Journal, Store]:
        """Start on a state as the service does; raises StoreError."""
        tally, store = cls(), Store(directory)
        try:
            store.verify()
            if (tree := store.read("tally")) is not None:
                tally.seen = tree["seen"]
                assert tree["weight"].sum() == np.arange(3e5).sum()
            for body in store.journal():
                tally.take(body.data)
        except StoreError:
            store.close()
            raise
        faults.note_damaged(store.damaged, 0)
        return tally, Journal(store, tally, faults), store


async def _post(tally: Tally, journal: Journal, *names: str) -> None:
    for name in names:
        task = asyncio.create_task(
            journal.commit(Body("push", name.encode(), NOW), lambda name=name: tally.take(name.encode()))  # type: ignore[misc]
        )
        await asyncio.sleep(0)
        await journal._commit_waiting()
        await task


def _live(directory: Path, checkpoints: int) -> None:
    """Two bodies before each checkpoint and two after the last, then a crash."""

    async def live() -> None:
        tally, journal, store = Tally.started(directory, Faults())
        for number in range(checkpoints):
            await _post(tally, journal, f"{number}a", f"{number}b")
            await journal.checkpoint()
        await _post(tally, journal, "last a", "last b")
        _copy(directory, directory.with_name("crashed"))
        store.close()

    asyncio.run(live())
    shutil.rmtree(directory)
    directory.with_name("crashed").rename(directory)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)


def _lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"more")


def _zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _make_unreadable(path: Path) -> None:
    """Root reads whatever it may not, but no directory."""
    path.unlink()
    path.mkdir()


def _swap(path: Path) -> None:
    """The file of another state, whole in itself."""
    other = path.parent.with_name("other")
    _live(other, 2)
    shutil.copy(sorted(other.glob(f"{CHECKPOINT}*"))[-1], path)
    shutil.rmtree(other)


DAMAGES = [_cut, _halve, _flip, _lengthen, _zero, _empty, Path.unlink, _make_unreadable, _swap]


@pytest.mark.slow
@pytest.mark.parametrize("checkpoints", [1, 3])
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda it: it.__name__.strip("_"))
def test_a_damaged_checkpoint_loses_nothing(tmp_path: Path, damage: Any, checkpoints: int) -> None:
    """Whichever of the two, and after the next ones again; a state with neither is refused and left as it is."""
    state = tmp_path / "state"
    _live(state, checkpoints)
    files = sorted(state.glob(f"{CHECKPOINT}*"))
    assert len(files) == min(checkpoints, 2)
    everything = {f"{number}{letter}": 1 for number in range(checkpoints) for letter in "ab"}
    everything |= {"last a": 1, "last b": 1}

    async def damaged_once(file: Path) -> None:
        faults = Faults()
        tally, journal, store = Tally.started(state, faults)
        assert tally.seen == everything
        assert list(faults.damaged) == ["checkpoint" if file == files[-1] else "former_checkpoint"]
        assert not store._file_of(store._generation + 1).exists()
        for name in ("new 1", "new 2"):
            await _post(tally, journal, name)
            everything[name] = 1
            await journal.checkpoint()
        assert sum(path.is_file() for path in store._files()) == 2
        store.close()
        after = Faults()
        again, _, store = Tally.started(state, after)
        assert (again.seen, after.damaged) == (everything, {})
        store.close()

    kept = _copy(state, tmp_path / "kept")
    for file in files:
        _copy(kept, state)
        damage(file)
        asyncio.run(damaged_once(file))
        for name in ("new 1", "new 2"):
            del everything[name]
    if len(files) == 2:
        _copy(kept, state)
        for file in files:
            damage(file)
        before = _kept_content(state)
        with pytest.raises(StoreError, match="checkpoint") as caught:
            Tally.started(state, Faults())
        assert caught.value.fault == "corrupt"
        assert _kept_content(state) == before


def _kept_content(directory: Path) -> dict[str, bytes | None]:
    """All but the index of SQLite's log, and what opening moves from the log to the file."""
    return {
        path.name: path.read_bytes() if path.is_file() else None
        for path in directory.iterdir()
        if path.name != FILE and not path.name.endswith("-shm")
    }


@pytest.mark.slow
@pytest.mark.parametrize("damage", [_cut, _halve, _zero, _empty, Path.unlink, _make_unreadable])
@pytest.mark.parametrize("checkpoints", [0, 2])
@pytest.mark.parametrize("polite", [False, True], ids=["after kill -9", "after a stop"])
def test_a_lost_journal_is_refused_or_does_no_harm(tmp_path: Path, damage: Any, checkpoints: int, polite: bool) -> None:
    """A start from nothing would forget what was acknowledged without a word."""
    state = tmp_path / "state"
    _live(state, checkpoints)
    if polite:

        async def stop() -> None:
            _, journal, _ = Tally.started(state, Faults())
            journal.stop()
            await journal.run()

        asyncio.run(stop())
    kept = _copy(state, tmp_path / "kept")
    damage(state / FILE)
    found = None
    try:
        found, _, store = Tally.started(state, Faults())
        store.close()
    except StoreError as error:
        fault = error.fault
    if found is None:
        assert fault in ("corrupt", "io", "read_only")
    else:  # all that matters of it was in SQLite's log
        assert not polite
        assert len(found.seen) == 2 * checkpoints + 2
    _copy(kept, state)
    tally, _, store = Tally.started(state, Faults())
    assert len(tally.seen) == 2 * checkpoints + 2
    store.close()
    for path in state.iterdir():
        path.unlink()
    tally, _, store = Tally.started(state, Faults())
    assert tally.seen == {}
    store.close()


def test_a_stop_leaves_two_checkpoints_and_no_body(tmp_path: Path) -> None:
    _live(tmp_path / "state", 3)

    async def stop() -> None:
        _, journal, store = Tally.started(tmp_path / "state", Faults())
        assert store.holds_bodies
        journal.stop()
        await journal.run()

    asyncio.run(stop())
    store = Store(tmp_path / "state")
    first, second = store._files()
    assert first.read_bytes() == second.read_bytes()
    assert not store.holds_bodies
    assert list(store.journal()) == []
    store.close()
    assert b"last a" not in (tmp_path / "state" / FILE).read_bytes()


def test_a_disk_without_room_for_three_checkpoints_keeps_taking(tmp_path: Path) -> None:
    async def live() -> None:
        faults = Faults()
        tally, journal, store = Tally.started(tmp_path, faults)
        await _post(tally, journal, "first")
        await journal.checkpoint()
        await journal.checkpoint()
        room, _ = store.room()
        filler = tmp_path / "filler"
        filler.write_bytes(bytes(room - 1_500_000))  # a checkpoint has 2.4 MB
        for number in range(5):
            await _post(tally, journal, f"{number}")
            await journal.checkpoint()
        assert not any(faults.counts.values())
        assert len(store._files()) == 2
        store.close()

    with small_disk(tmp_path, "64m"):
        asyncio.run(live())
