"""edge.recovery: after a crash the engine is what it was, and says nothing twice."""

import asyncio
import time
from pathlib import Path

import pytest

from devices.readings import Address
from devices.topics import Lane
from edge.checking import load_rules
from edge.settings import Config
from rules.definitions import RuleSet
from tests.node_world import World, node_world, rows, settled
from tests.waiting import until

P1 = Address("c1/charger/p1")

MINE = """
rules:
  - id: {name}
    kind: charger
    when: temperature >= 30
    for: {delay}
    severity: low
    text: {{en: warm, zh: 热}}
    examples: []
"""


def talk(world: World, first: int, last: int) -> None:
    """Some of everything: plain readings, delays that run, alarms that stand and alarms that end."""
    for number in range(first, last):
        device = number % 7
        world.say(
            f"charger/p{device}/telemetry",
            b'{"temperature": %d, "id": "t%d"}' % (20 + number % 60, number),
            1 + number,
        )
        if number % 5 == 0:
            world.say(
                f"smoke/s{device}/telemetry", b'{"smoke": %s}' % (b"true", b"false")[number % 2], 1 + number
            )
        if number % 11 == 0:
            world.say(f"button/b{device}/event", b'{"action": "emergency"}', 1 + number)


@pytest.mark.parametrize(
    "snapshot", [False, True], ids=["from the journal", "from a snapshot and the journal"]
)
def test_a_crash_changes_nothing_of_what_was_committed(tmp_path: Path, snapshot: bool) -> None:
    async def scene() -> None:
        async with node_world(tmp_path) as world:
            world.connect()
            talk(world, 0, 200)
            await settled(world)
            if snapshot:
                before = snapshot_seq(tmp_path)
                world.node.commits.snapshot_soon()
                world.say("charger/p1/telemetry", b'{"power": 1}', 900)
                await settled(world)
                assert snapshot_seq(tmp_path) > before
            talk(world, 200, 260)
            await settled(world)
            board = dict(world.node.board)
            points = {address: device.points for address, device in world.node.intake.state.devices.items()}
            running = {
                address: {name: each.due for name, each in device.ongoing.items()}
                for address, device in world.node.intake.state.devices.items()
            }
            changes = rows(tmp_path, "SELECT * FROM alarm_changes ORDER BY number")
        async with node_world(tmp_path) as again:
            state = again.node.intake.state
            assert again.node.board == board
            assert {alarm.id: alarm for alarm in state.alarms.values()} == board
            assert {address: device.points for address, device in state.devices.items()} == points
            assert {
                address: {name: each.due for name, each in device.ongoing.items()}
                for address, device in state.devices.items()
            } == running
            again.connect()
            await settled(again)
            assert (
                rows(tmp_path, "SELECT * FROM alarm_changes ORDER BY number") == changes
            )  # nothing is said twice
            if snapshot:
                assert again.node.replayed < 150

    asyncio.run(scene())


def test_what_the_broker_had_not_acknowledged_is_published_after_the_crash(tmp_path: Path) -> None:
    async def scene() -> None:
        async with node_world(tmp_path) as world:
            world.connect()
            world.played[Lane.SAFETY].up = False
            world.say("smoke/s1/telemetry", b'{"smoke": true}', 1)
            await settled(world)
            (alarm,) = world.node.board.values()
            assert world.told() == []
        async with node_world(tmp_path) as again:
            again.connect()
            await until(lambda: again.told() == [alarm.wire()])
            await until(lambda: rows(tmp_path, "SELECT count(*) FROM outbox") == [(0,)])

    asyncio.run(scene())


def test_a_snapshot_is_taken_at_first_after_so_many_readings_and_never_with_an_alarm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.committing.snapshots.SNAPSHOT_READINGS", 50)

    async def scene() -> None:
        async with node_world(tmp_path) as world:
            world.connect()
            await settled(world)
            first = snapshot_seq(tmp_path)  # which rules hold is known from the beginning
            for number in range(49):
                world.say("charger/p1/telemetry", b'{"energy": %d}' % number, 1 + number)
            await settled(world)
            assert snapshot_seq(tmp_path) == first
            world.say("smoke/s1/telemetry", b'{"smoke": true}', 999)
            await settled(world)
            assert snapshot_seq(tmp_path) == first
            world.say("charger/p1/telemetry", b'{"energy": 50}', 51)
            await settled(world)
            assert snapshot_seq(tmp_path) > first

    asyncio.run(scene())


def snapshot_seq(folder: Path) -> int:
    """The batch of the newest snapshot."""
    ((seq,),) = rows(folder, "SELECT seq FROM snapshot")
    assert isinstance(seq, int)
    return seq


def rules_with(folder: Path, name: str, delay: str = "1h") -> RuleSet:
    """The shipped packs and one rule more."""
    file = folder / f"{name}-{delay}.yaml"
    file.write_text(MINE.format(name=name, delay=delay))
    return load_rules(Config(data_dir=folder, rules=(file,)))


def test_under_changed_rules_alarms_stay_delays_begin_anew_and_nothing_is_said_twice(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene() -> None:
        async with node_world(tmp_path / "data", rules=rules_with(tmp_path, "pool-warm")) as world:
            world.connect()
            world.say("smoke/s1/telemetry", b'{"smoke": true}', 1)
            world.say("charger/p1/telemetry", b'{"temperature": 40}', 2)
            await settled(world)
            board = dict(world.node.board)
            due = world.node.intake.state.devices[P1].ongoing["pool-warm"].due
        async with node_world(tmp_path / "data", rules=rules_with(tmp_path, "pool-warm", "2h")) as again:
            assert again.node.board == board
            anew = again.node.intake.state.devices[P1].ongoing["pool-warm"].due
            assert due is not None
            assert anew is not None
            assert anew > due + 3_500_000  # two hours from now, not one from then
            again.connect()
            again.say("smoke/s1/telemetry", b'{"smoke": false}', 3)
            await settled(again)
            (alarm,) = again.node.board.values()
            assert (alarm.id, alarm.state) == (next(iter(board)), "rtn_unacked")
        async with node_world(tmp_path / "data", rules=rules_with(tmp_path, "hot", "0s")) as at_once:
            await settled(at_once)
            assert {alarm.rule for alarm in at_once.node.board.values()} == {"smoke-alarm", "hot"}

    (tmp_path / "data").mkdir()
    asyncio.run(scene())
    assert "the rules have changed" in caplog.text


WINDOWED = """
rules:
  - id: warm-mean
    kind: charger
    when: mean(temperature, '10m') > 45 and count(temperature > 0, '10m') == 3
    severity: low
    text: {en: warm, zh: 热}
"""


def test_a_window_of_a_new_rule_knows_what_was_said_before_the_start(tmp_path: Path) -> None:
    begin = int(time.time() * 1000)

    async def scene() -> None:
        async with node_world(tmp_path / "data") as world:
            world.connect()
            world.say("charger/p1/telemetry", b'{"temperature": 30, "ts": %d}' % (begin - 900), 1)
            world.say("charger/p1/telemetry", b'{"temperature": 50, "ts": %d}' % (begin - 600), 2)
            world.node.commits.snapshot_soon()
            world.say("charger/p1/telemetry", b'{"power": 1}', 3)
            await settled(world)
        file = tmp_path / "windowed.yaml"
        file.write_text(WINDOWED)
        rules = load_rules(Config(data_dir=tmp_path, rules=(file,)))
        async with node_world(tmp_path / "data", rules=rules) as again:
            assert again.node.intake.state.devices[P1].points["mean(temperature, 10m)"] == 40
            again.connect()
            again.say("charger/p1/telemetry", b'{"temperature": 59, "ts": %d}' % (begin - 300), 4)
            await settled(again)
            assert {alarm.rule for alarm in again.node.board.values()} == {"warm-mean"}

    (tmp_path / "data").mkdir()
    asyncio.run(scene())


def test_an_alarm_whose_rule_is_gone_stands_until_a_person_closes_it(tmp_path: Path) -> None:
    async def scene() -> None:
        async with node_world(tmp_path / "data", rules=rules_with(tmp_path, "extra", "0s")) as world:
            world.connect()
            world.say("charger/p1/telemetry", b'{"temperature": 40}', 1)
            await settled(world)
            (alarm_id,) = world.node.board
        async with node_world(tmp_path / "data") as again:
            again.connect()
            again.say("charger/p1/telemetry", b'{"temperature": 10}', 2)
            await settled(again)
            assert list(again.node.board) == [alarm_id]
            closed = await again.node.people.close(alarm_id, "Li", "no such rule any more")
            assert closed is not None
            assert closed.state == "normal"
            assert again.node.board == {}
            await until(lambda: again.told()[-1] == b"")

    (tmp_path / "data").mkdir()
    asyncio.run(scene())


def listening_since(world: World) -> int | None:
    """When it began to hear its devices (Unix ms); None while it does not."""
    return world.node.intake.state.listening_since


def test_silence_does_not_count_while_nobody_listened(tmp_path: Path) -> None:
    async def scene() -> None:
        async with node_world(tmp_path) as world:
            world.connect()
            world.say("charger/p1/telemetry", b'{"power": 1}', 1)
            await settled(world)
            assert listening_since(world) is not None
            world.cut()
            await settled(world)
            assert listening_since(world) is None
            world.connect()
            await settled(world)
        async with node_world(tmp_path) as again:
            assert listening_since(again) is None
            again.connect()
            await settled(again)
            since = listening_since(again)
            assert since is not None
            silence = [due for due, key, *_ in again.node.intake.state.deadlines if "silent" in key]
            assert min(silence) >= since

    asyncio.run(scene())


@pytest.mark.parametrize(("embedded", "believed"), [(True, None), (False, True)])
def test_who_was_online_is_forgotten_with_a_broker_that_keeps_nothing(
    embedded: bool, believed: bool | None, tmp_path: Path
) -> None:
    async def story() -> None:
        async with node_world(tmp_path, embedded=embedded) as world:
            world.connect()
            world.say("charger/p1/telemetry", b'{"power": 5}', 1)
            world.say("charger/p1/status", b"online", 2)
            await until(lambda: any(device.online for device in world.node.intake.state.devices.values()))
            await world.node.saved()
        for _ in range(2):  # also where what was forgotten is replayed
            async with node_world(tmp_path, embedded=embedded) as world:
                known = world.node.intake.state.devices[P1]
                assert known.online is believed
                assert known.points["power"] == 5
                await world.node.saved()
        async with node_world(tmp_path, embedded=embedded) as world:
            world.connect()
            world.say("charger/p1/status", b"online", 3)
            state = world.node.intake.state
            await until(lambda: state.devices[P1].online is True)

    asyncio.run(story())
