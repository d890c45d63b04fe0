"""The wall clock is set, the store cannot be written, the gateway is killed: in every order.

What was acknowledged is known again for five minutes of real time, what runs keeps what is left of it, and the
next start knows the time.
"""

import asyncio
from pathlib import Path

import pytest

from devices.documents import parse_yaml
from devices.topics import Lane
from edge.committing.storing import Storing
from edge.health import Code
from edge.store.errors import ReadFailed
from edge.store.reader import JournalReader
from edge.store.schema import FILE
from rules.decisions import ClockStepped
from rules.files import parse
from tests.node_world import FailingDisk, World, caught_up, climb, hung, node_world, rows, settled
from tests.test_node_clock import HOT, HOUR, NOW, Hands, clock_inputs, codes, press, told
from tests.waiting import until

ALWAYS = 10**9
SAID = b'{"smoke": false, "id": "m1"}'
PRESS = b'{"action": "emergency", "id": "p1"}'
RULES = parse([("rules.yaml", parse_yaml(HOT, "rules.yaml"))])


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    climb(monkeypatch)


async def said_once(world: World) -> None:
    world.connect()
    world.say("smoke/s1/telemetry", SAID, 1)
    world.say("button/b9/event", PRESS, 2)
    await settled(world)


async def said_while_a_delay_runs(world: World) -> None:
    world.connect()
    await caught_up(world)
    world.say("charger/p1/telemetry", b'{"temperature": 70}', 1)
    world.say("smoke/s1/telemetry", SAID, 2)
    await settled(world)


async def only_alarms(world: World, disk: FailingDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store has failed and takes alarms again; one is in it."""
    monkeypatch.setattr(world.journal, "has_room", lambda: False)
    disk.fails = ALWAYS
    press(world, "b1", 11)
    await until(lambda: world.node.commits.storing is Storing.NONE)
    disk.fails = 0
    await until(lambda: world.node.commits.storing is Storing.ALARMS)
    press(world, "b2", 12)
    assert await world.node.saved()


def set_(world: World, hands: Hands, by_ms: int) -> None:
    hands.wall += by_ms
    world.node.waking.look_at_clock()


async def said_again_is_known(folder: Path, hands: Hands) -> None:
    """Whatever has happened: the next start knows the time, and what was acknowledged."""
    hands.pass_(10_000)
    async with node_world(folder, clock=hands.clock()) as again:
        assert codes(again) <= {Code.STORE_REDUCED}
        assert again.node.clock.now_ms() == hands.wall
        assert hands.wall - 20_000 <= again.node.intake.state.now <= hands.wall
        again.connect()
        again.say("smoke/s1/telemetry", SAID, 21)
        again.say("button/b9/event", PRESS, 22)
        assert again.node.intake.counts["duplicates"] == 2
        assert await again.node.saved()
        [pressed] = [alarm for alarm in again.node.board.values() if alarm.device == "b9"]
        assert pressed.occurrences == 1
    assert rows(folder, "SELECT count(*) FROM orders WHERE address LIKE '%b9'") == [(1,)]


@pytest.mark.parametrize("by_ms", [HOUR, -HOUR], ids=["forward and back", "back and forward"])
def test_after_two_steps_and_a_store_that_takes_alarms_only_a_restart_knows_the_time_and_what_was_said(
    tmp_path: Path, disk: FailingDisk, monkeypatch: pytest.MonkeyPatch, by_ms: int
) -> None:
    hands = Hands(wall=NOW)

    async def scene() -> None:
        async with node_world(tmp_path, clock=hands.clock()) as world:
            await said_once(world)
            for each in (by_ms, -by_ms):
                hands.pass_(10_000)
                set_(world, hands, each)
                await settled(world)
            await only_alarms(world, disk, monkeypatch)
            assert world.node.commits.storing is Storing.ALARMS
        await said_again_is_known(tmp_path, hands)

    asyncio.run(scene())


@pytest.mark.parametrize("by_ms", [HOUR, -HOUR], ids=["forward", "back"])
def test_a_step_that_is_stored_without_its_readings_is_a_step_for_the_next_start(
    tmp_path: Path, disk: FailingDisk, monkeypatch: pytest.MonkeyPatch, by_ms: int
) -> None:
    hands = Hands(wall=NOW)

    async def scene() -> None:
        async with node_world(tmp_path, clock=hands.clock()) as world:
            await said_once(world)
            hands.pass_(10_000)
            await hung(world, disk, "button/b0/event", b'{"action": "emergency"}', 10)
            set_(world, hands, by_ms)  # into the open batch, while the store hangs
            await until(lambda: world.node.commits.storing is Storing.NONE)
            disk.answers.set()
            monkeypatch.setattr(world.journal, "has_room", lambda: False)
            await until(lambda: world.node.commits.storing is Storing.ALARMS)
            press(world, "b2", 12)
            assert await world.node.saved()
            assert world.node.commits.storing is Storing.ALARMS
        with JournalReader(tmp_path / FILE) as reader:
            assert hands.wall - 20_000 <= reader.last_now() <= hands.wall
        await said_again_is_known(tmp_path, hands)

    asyncio.run(scene())


def test_a_delay_keeps_what_is_left_of_it_when_the_commit_with_the_step_fails(
    tmp_path: Path, disk: FailingDisk
) -> None:
    hands = Hands(wall=NOW)

    async def scene() -> None:
        async with node_world(tmp_path, clock=hands.clock(), rules=RULES) as world:
            await said_while_a_delay_runs(world)
            hands.pass_(4_000)
            disk.fails = 1
            set_(world, hands, HOUR)
            await until(lambda: world.played[Lane.SAFETY].reconnects)
            world.connect()
            await settled(world)
            assert world.node.intake.state.now >= NOW + HOUR
            await caught_up(world)
            hands.pass_(5_999)
            world.node.intake.tick(world.node.clock.now_ms())
            assert told(world) == []
            hands.pass_(1)
            world.node.intake.tick(world.node.clock.now_ms())
            assert len(world.node.intake.state.alarms) == 1
            world.say("smoke/s1/telemetry", SAID, 3)
            assert world.node.intake.counts["duplicates"] == 1
            await settled(world)
        assert [each.by_ms for each in clock_inputs(tmp_path) if isinstance(each, ClockStepped)] == [HOUR]

    asyncio.run(scene())


def test_a_step_counts_once_where_its_commit_fails_and_the_store_cannot_be_read_for_the_rebuild(
    tmp_path: Path, disk: FailingDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    hands = Hands(wall=NOW)

    def unreadable(_: int) -> None:
        raise ReadFailed("the disk says no")

    async def scene() -> None:
        async with node_world(tmp_path, clock=hands.clock(), rules=RULES) as world:
            await said_while_a_delay_runs(world)
            hands.pass_(4_000)
            with monkeypatch.context() as patch:
                patch.setattr(world.journal, "recent_ids", unreadable)
                disk.fails = 1
                set_(world, hands, HOUR)
                await until(lambda: world.node.commits.storing is Storing.NONE)
            assert world.node.clock.now_ms() == hands.wall
            await until(lambda: world.node.commits.storing is Storing.ALL)
            world.node.waking.look_at_clock()
            assert world.node.intake.state.now <= world.node.clock.now_ms() == hands.wall
            hands.pass_(6_000)
            world.node.intake.tick(world.node.clock.now_ms())
            assert len(world.node.intake.state.alarms) == 1
            await settled(world)
        assert [each.by_ms for each in clock_inputs(tmp_path) if isinstance(each, ClockStepped)] == [HOUR]

    asyncio.run(scene())


@pytest.mark.parametrize("by_ms", [HOUR, -HOUR], ids=["forward", "back"])
@pytest.mark.parametrize("seen", [True, False], ids=["stored", "lost"])
@pytest.mark.parametrize("undone", [True, False], ids=["and undone", "and left"])
def test_a_start_of_the_same_boot_takes_what_was_done_to_the_clock_as_the_steps_that_it_was(
    tmp_path: Path, by_ms: int, seen: bool, undone: bool
) -> None:
    hands = Hands(wall=NOW)
    hands.boot = 7

    async def scene() -> None:
        async with node_world(tmp_path, clock=hands.clock(), rules=RULES) as world:
            await said_while_a_delay_runs(world)
            hands.pass_(1_000)
            hands.wall += by_ms
            if seen:
                world.node.waking.look_at_clock()
                await settled(world)
        hands.pass_(2_000)
        hands.wall -= by_ms * undone
        async with node_world(tmp_path, clock=hands.clock(), rules=RULES) as again:
            assert codes(again) == set()
            assert again.node.clock.now_ms() == hands.wall
            again.connect()
            await caught_up(again)
            hands.pass_(6_999)
            again.node.intake.tick(again.node.clock.now_ms())
            assert told(again) == []
            hands.pass_(1)
            again.node.intake.tick(again.node.clock.now_ms())
            [alarm] = again.node.intake.state.alarms.values()
            assert alarm.raised_at == hands.wall
            again.say("smoke/s1/telemetry", SAID, 3)
            assert again.node.intake.counts["duplicates"] == 1
            hands.pass_(291_000)
            again.say("smoke/s1/telemetry", SAID, 4)  # five minutes of real time
            assert again.node.intake.counts["duplicates"] == 1
            await settled(again)
        steps = [each.by_ms for each in clock_inputs(tmp_path) if isinstance(each, ClockStepped)]
        assert sum(steps) == (0 if undone else by_ms)

    asyncio.run(scene())


@pytest.mark.parametrize("reduced", [True, False], ids=["without readings", "as it was"])
def test_a_step_is_taken_once_where_the_commit_that_failed_is_on_disk_all_the_same(
    tmp_path: Path, disk: FailingDisk, monkeypatch: pytest.MonkeyPatch, reduced: bool
) -> None:
    hands = Hands(wall=NOW)

    async def scene() -> None:
        async with node_world(tmp_path, clock=hands.clock(), rules=RULES) as world:
            world.connect()
            world.played[Lane.SAFETY].up = False
            world.say("charger/p1/telemetry", b'{"temperature": 95}', 1)
            await settled(world)
            if reduced:
                monkeypatch.setattr(world.node.commits.ladder, "_patient", False)
            disk.fails, disk.after = 1, True
            set_(world, hands, HOUR)
            world.say("charger/p2/telemetry", b'{"temperature": 95}', 2)
            await settled(world)
            assert not disk.fails
            orders = rows(tmp_path, "SELECT address, expires_at FROM orders ORDER BY address")
            assert orders == [("c1/charger/p1", NOW + HOUR + 30_000), ("c1/charger/p2", NOW + HOUR + 30_000)]
        assert [each.by_ms for each in clock_inputs(tmp_path) if isinstance(each, ClockStepped)] == [HOUR]

    asyncio.run(scene())
