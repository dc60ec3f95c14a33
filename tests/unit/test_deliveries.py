"""Bodies with a key: counted once, also while the first of them is being taken, and after a restart."""

import asyncio
from collections.abc import Callable

import numpy as np

from mlops_exporter.ingest.body import Body
from mlops_exporter.ingest.deliveries import Deliveries, digest_of, position_of
from mlops_exporter.ingest.intake import Intake
from mlops_exporter.settings.models import Limits
from tests.support import workload

NOW = 1_800_000_000.0
LINES = workload.events(100, NOW)


def _body(key: str, lines: list[bytes] = LINES, models: frozenset[str] | None = None) -> Body:
    data = b"\n".join(lines)
    return Body("push", data, NOW, position_of("push", models, key, digest_of(data)), models)


def _intake() -> Intake:
    return Intake([workload.model()], ["push"], Limits())


def test_a_known_key_counts_nothing_and_tells_what_became_of_the_first() -> None:
    async def story() -> None:
        intake = _intake()
        first = await intake.take(_body("run/0", [*LINES, b'{"model":"credit"}', b"{"]))
        assert first.repeated is None
        again = await intake.take(_body("run/0", [*LINES, b'{"model":"credit"}', b"{"]))
        assert (again.accepted, again.rejected, again.refused) == (first.accepted, 2, first.refused)
        assert again.repeated == "same"
        assert (await intake.take(_body("run/0", LINES[:5]))).repeated == "changed"
        assert (await intake.take(_body("run/1"))).repeated is None
        assert (await intake.take(_body("run/0", models=frozenset({"credit"})))).repeated is None
        assert intake.sources["push"].accepted == 3 * len(LINES)

    asyncio.run(story())


def test_of_two_at_once_one_counts() -> None:
    async def story() -> None:
        intake = _intake()
        results = await asyncio.gather(*(intake.take(_body("run/0")) for _ in range(5)))
        assert sorted(str(result.repeated) for result in results) == ["None", *["same"] * 4]
        assert {result.accepted for result in results} == {len(LINES)}
        assert intake.sources["push"].accepted == len(LINES)

    asyncio.run(story())


class Later:
    """A journal in which a checkpoint is being written: bodies are durable at once, and counted afterwards."""

    def __init__(self) -> None:
        self.deferred: list[Callable[[], None]] = []

    async def commit(self, _body: Body, count: Callable[[], None]) -> None:
        self.deferred.append(count)


def test_a_body_that_comes_again_while_a_checkpoint_is_written_counts_once() -> None:
    async def story() -> None:
        intake, journal = _intake(), Later()
        intake.keep_in(journal)  # type: ignore[arg-type]
        lines = [*LINES, b"{"]
        first, again = [await intake.take(_body("run/0", lines)) for _ in range(2)]
        assert (first.repeated, again.repeated) == (None, "same")
        assert (again.accepted, again.refused) == (first.accepted, first.refused)
        for count in journal.deferred:
            count()
        assert intake.sources["push"].accepted == len(LINES)

    asyncio.run(story())


def test_keys_are_part_of_the_state() -> None:
    async def story() -> None:
        intake = _intake()
        await intake.take(_body("run/0"))
        intake.flush()
        following = _intake()
        following.restore(intake.state().get)
        assert (await following.take(_body("run/0"))).repeated == "same"
        replayed = _intake()
        replayed.replay(_body("run/0"))  # as from the journal
        assert (await replayed.take(_body("run/0"))).repeated == "same"
        assert np.isclose(replayed.sources["push"].accepted, len(LINES))

    asyncio.run(story())


def test_the_oldest_are_forgotten() -> None:
    deliveries = Deliveries()
    positions = [position_of("push", None, str(number), 0) for number in range(100_003)]
    for position in positions:
        deliveries.note(position, 1, {})

    async def known(position: bytes) -> bool:
        return await deliveries.begin(position) is not None

    assert [asyncio.run(known(position)) for position in (positions[2], positions[3])] == [False, True]
