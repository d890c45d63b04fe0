"""The node's side of the history: it is written beside the alarms, told of, and disturbs nothing."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from devices.readings import Reading
from edge.control_client import Health
from edge.health import Code
from edge.historian import Historian
from edge.history.catalogue import folder_of, parts_in, publish, taken
from edge.history.settings import HistorySettings
from edge.settings import History
from edge.shell.reports import StatusReport, status_lines
from edge.store.reader import JournalReader
from edge.store.records import Snapshot
from edge.store.schema import FILE
from edge.store.writer import HISTORY, Pressure
from tests.history_world import Told, given_back, spoken
from tests.node_world import World, node_world
from tests.waiting import until


@asynccontextmanager
async def keeping(world: World, folder: Path, every_s: int = 1) -> AsyncIterator[Historian]:
    settings = HistorySettings.of(folder, History(every_s=every_s))
    historian = Historian(settings, world.node)
    running = asyncio.create_task(historian.run())
    try:
        yield historian
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


def say(world: World, number: int) -> None:
    world.say(f"smoke/sm{number}/telemetry", b'{"smoke": false, "battery": 93}', number)


def heard(folder: Path) -> list[Reading]:
    return [each for each in given_back(folder) if "/smoke/" in each.address]


def test_what_is_said_becomes_history_and_its_position_is_in_the_journal(tmp_path: Path) -> None:
    async def story() -> None:
        async with node_world(tmp_path) as world, keeping(world, tmp_path) as historian:
            assert historian.told() is None
            world.connect()
            for number in range(1, 6):
                say(world, number)
            await until(lambda: len(world.readings()) == 5)
            await until(lambda: historian.report is not None and historian.report.readings >= 5)
            position = taken(folder_of(tmp_path))
            say(world, 6)  # positions ride on other commits
            await until(lambda: world.node.positions.get(HISTORY, 0) >= position)
            with JournalReader(tmp_path / FILE) as reader:
                assert reader.positions()[HISTORY] >= position
            told = historian.told()
            assert told is not None
            assert (told["error"], told["missed"]) == (None, 0)
            health = Health(status="ok", history=told)
            lines = status_lines(StatusReport(health, [], []), "en", "Asia/Shanghai")
            assert any(line.startswith("history: ") and "0 behind" in line for line in lines)
        assert len(heard(tmp_path)) == 6

    asyncio.run(story())


def test_a_history_that_fails_is_a_reason_until_a_run_is_good_again(tmp_path: Path) -> None:
    async def story() -> None:
        folder_of(tmp_path).write_text("in the way")
        async with node_world(tmp_path) as world, keeping(world, tmp_path) as historian:
            world.connect()
            say(world, 1)

            def reasons() -> set[Code]:
                return {each.code for each in world.node.troubles.reasons()}

            await until(lambda: Code.HISTORY_FAILING in reasons())
            assert world.node.troubles.failures["history"]
            assert historian.error is not None
            assert "history" in historian.error
            folder_of(tmp_path).unlink()
            await until(lambda: Code.HISTORY_FAILING not in reasons())
            assert historian.report is not None

    asyncio.run(story())


def test_numbers_that_are_history_are_never_given_to_other_readings(tmp_path: Path) -> None:
    """As after a damaged journal was begun anew without its last batches, or was lost."""

    async def story() -> None:
        folder = folder_of(tmp_path)
        folder.mkdir()
        (folder / "x").touch()
        publish(folder / "x", "000000000001-000000005000-0-1-0.parquet")
        async with node_world(tmp_path) as world:
            world.connect()
            say(world, 1)
            await until(lambda: len(world.readings()) == 1)
            with JournalReader(tmp_path / FILE) as reader:
                assert reader.batches_after(0, 1)[0].seq > 5_000

    asyncio.run(story())


def test_the_byte_bound_waits_a_little_for_the_history_and_counts_what_it_could_not_wait_for(
    tmp_path: Path,
) -> None:
    told = Told(tmp_path, max_bytes=300_000, history=True)
    waited = False
    for seq in range(1, 200):
        told.commit(spoken(seq, 200), snapshot=Snapshot("rules", b"", []) if seq % 10 == 0 else None)
        told.writer.keep_house(Pressure.BATCHES)
        waited = waited or told.writer.figures.history_waited_for
        if waited:
            break
    figures = told.writer.figures
    assert waited
    assert figures.removed == figures.missed == 0
    told.commit(spoken(told.seq + 1, 200), snapshot=Snapshot("rules", b"", []), positions={HISTORY: told.seq})
    for _ in range(60):
        told.commit(spoken(told.seq + 1, 200), snapshot=Snapshot("rules", b"", []))
        told.writer.keep_house(Pressure.BATCHES)
    assert figures.removed
    assert figures.missed == 0
    for _ in range(300):
        told.commit(spoken(told.seq + 1, 200), snapshot=Snapshot("rules", b"", []))
        told.writer.keep_house(Pressure.BATCHES)
    assert figures.missed
    assert (
        sum(each.stat().st_size for each in tmp_path.glob("journal.db*") if each.suffix != ".db-shm")
        <= 300_000
    )
    told.writer.close()


def test_parts_are_found_by_their_names_alone(tmp_path: Path) -> None:
    names = {
        "000000000001-000000000004-5-9-3.parquet": True,
        "000000000001-000000000002-5-6-1.parquet": False,  # part of the one above
        "000000000005-000000000009-7-12-2.parquet": True,
        "_damaged-000000000010-000000000011-7-12-2.parquet": False,
        "_unfinished-10-11": False,
        "notes.txt": False,
    }
    for name in names:
        (tmp_path / name).touch()
    assert [part.path.name for part in parts_in(tmp_path)] == [
        name for name, counts in names.items() if counts
    ]
    assert taken(tmp_path) == 9
    first, second = parts_in(tmp_path)
    assert (first.touches(9, 20), first.touches(10, 20), second.touches(0, 7)) == (True, False, False)
