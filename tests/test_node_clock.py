"""The node under a wall clock that the test moves: what is told, kept, corrected and sent."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from devices.documents import parse_yaml
from devices.readings import Flag
from devices.topics import Lane
from edge import RELEASED_MS
from edge.clock import Clock
from edge.health import Code
from edge.store.reader import JournalReader
from edge.store.records import Batch, Committed, GapReason, OrderStatus
from edge.store.schema import FILE
from edge.store.writer import Writer
from rules.alarms import rfc3339
from rules.decisions import ClockStepped, ClockUntrusted
from rules.definitions import RuleSet
from rules.engine import Engine
from rules.files import parse
from tests.node_world import World, caught_up, node_world, rows, settled
from tests.waiting import until

HOUR = 3_600_000
DAY = 24 * HOUR
NOW = RELEASED_MS + 100 * DAY

HOT = """
rules:
  - id: hot
    kind: charger
    when: temperature >= 65
    for: 10s
    severity: high
    text: {en: hot, zh: 热}
  - id: cut
    kind: charger
    when: temperature >= 90
    severity: critical
    text: {en: cut, zh: 断}
    actions: [{command: cut_power, expires: 30s}]
"""

AT_NIGHT = """
rules:
  - id: hot
    kind: charger
    when: temperature >= 65
    active: {hours: "02:00-06:00"}
    severity: high
    text: {en: hot, zh: 热}
"""


class Hands:
    """A wall clock and a monotonic one; time passes only when the test says so."""

    def __init__(self, wall: int) -> None:
        self.wall = wall
        self.passed = 0
        self.boot = 0
        """Unknown: a start of the gateway may be one of the computer."""

    def clock(self) -> Clock:
        return Clock(
            lambda: self.wall,
            lambda: self.passed,
            asleep=lambda: 0,
            synchronised=lambda: False,
            boot=lambda: self.boot,
        )

    def pass_(self, ms: int) -> None:
        self.wall += ms
        self.passed += ms


def press(world: World, device: str, packet_id: int = 1) -> None:
    world.say(f"button/{device}/event", b'{"action": "emergency"}', packet_id)


def told(world: World) -> list[dict[str, Any]]:
    return [json.loads(payload) for payload in world.told() if payload]


def codes(world: World) -> set[Code]:
    return {reason.code for reason in world.node.troubles.reasons()}


def clock_inputs(folder: Path) -> Sequence[ClockStepped | ClockUntrusted]:
    with JournalReader(folder / FILE) as reader:
        return [
            given
            for batch in reader.batches_after(0, 10**6)
            for given in batch.inputs
            if isinstance(given, ClockStepped | ClockUntrusted)
        ]


def test_an_alarm_of_1970_is_corrected_on_the_wire_and_in_the_store_when_the_time_is_known(
    tmp_path: Path,
) -> None:
    async def scene() -> None:
        hands = Hands(wall=20_000)
        async with node_world(tmp_path, clock=hands.clock()) as world:
            world.connect()
            assert codes(world) == {Code.CLOCK_UNTRUSTED}
            hands.pass_(5_000)
            press(world, "b1")
            world.say("smoke/s1/telemetry", b'{"smoke": true}', 2)
            world.say("smoke/s1/telemetry", b'{"smoke": false}', 3)
            world.node.lost(
                "bulk", 3, RELEASED_MS - HOUR, world.node.clock.now_ms(), GapReason.BROKER_DROPPED
            )
            await settled(world)
            first = (await until(lambda: told(world)))[0]
            assert (first["version"], first["provisional"]) == (1, True)
            assert first["raised_at"] == rfc3339(RELEASED_MS + 5_000)
            hands.pass_(1_000)
            hands.wall = NOW + 6_000
            world.node.waking.look_at_clock()
            await settled(world)
            await until(lambda: not told(world)[-1]["provisional"])
            last = [each for each in told(world) if each["id"] == first["id"]][-1]
            assert (last["version"], last["provisional"], last["state"]) == (2, False, "unacked")
            assert last["raised_at"] == last["first_raised_at"] == rfc3339(NOW + 5_000)
            assert last["received_at"] == last["source_time"] == NOW + 5_000
            assert codes(world) == set()
            press(world, "b2", 9)
            await settled(world)
            await until(lambda: told(world)[-1]["raised_at"] == rfc3339(NOW + 6_000))
        with JournalReader(tmp_path / FILE) as reader:
            changes = reader.changes_after(0, 100)
            assert [change.at for _, change in changes[:3]] == [NOW + 5_000] * 3
            assert not any(change.alarm.provisional for _, change in changes)
            ids = {change.alarm.id for _, change in changes}
            assert all(not alarm.provisional for each in ids if (alarm := reader.alarm(each)))
            assert {alarm.raised_at for each in ids if (alarm := reader.alarm(each))} == {
                NOW + 5_000,
                NOW + 6_000,
            }
            [(_, gap)] = reader.gaps_after(0, 10)
            assert (gap.at, gap.from_ms, gap.to_ms) == (NOW + 5_000, RELEASED_MS - HOUR, NOW + 5_000)
            assert reader.last_now() == NOW + 6_000
        async with node_world(tmp_path, clock=hands.clock()) as again:
            assert again.node.board.keys() == {alarm["id"] for alarm in told_standing(again)}
            assert codes(again) == set()

    asyncio.run(scene())


def told_standing(world: World) -> list[dict[str, Any]]:
    return [json.loads(alarm.wire()) for alarm in world.node.intake.state.alarms.values()]


def test_without_ever_learning_the_time_a_restart_goes_on_and_both_lives_are_corrected(
    tmp_path: Path,
) -> None:
    async def scene() -> None:
        hands = Hands(wall=20_000)
        async with node_world(tmp_path, clock=hands.clock()) as world:
            world.connect()
            hands.pass_(5_000)
            press(world, "b1")
            await settled(world)
        hands.wall = 30_000
        async with node_world(tmp_path, clock=hands.clock()) as again:
            again.connect()
            assert codes(again) == {Code.CLOCK_UNTRUSTED}
            assert again.node.clock.now_ms() == RELEASED_MS + 5_001
            hands.pass_(2_000)
            press(again, "b2")
            await settled(again)
        hands.wall = NOW
        async with node_world(tmp_path, clock=hands.clock()) as third:
            assert codes(third) == set()
            third.connect()
            await settled(third)
            raised = {alarm.device: alarm.raised_at for alarm in third.node.board.values()}
            # The first life is right but for the time that the gateway was off, which nobody knows.
            assert raised == {"b1": NOW - 2_002, "b2": NOW - 1}
            assert not any(alarm.provisional for alarm in third.node.board.values())
        assert [type(each) for each in clock_inputs(tmp_path)] == [ClockUntrusted, ClockStepped]

    asyncio.run(scene())


@asynccontextmanager
async def hot_port(folder: Path, hands: Hands, rules: RuleSet) -> AsyncIterator[World]:
    """A node that is up, and has heard of a port that is at 70 °C."""
    async with node_world(folder, clock=hands.clock(), rules=rules) as world:
        world.connect()
        await caught_up(world)
        world.say("charger/p1/telemetry", b'{"temperature": 70}', 1)
        yield world


def test_a_step_raises_nothing_and_a_delay_runs_for_what_was_left_of_it(tmp_path: Path) -> None:
    rules = parse([("rules.yaml", parse_yaml(HOT, "rules.yaml"))])

    async def scene(by: int, folder: Path) -> None:
        hands = Hands(wall=NOW)
        async with hot_port(folder, hands, rules) as world:
            hands.pass_(4_000)
            hands.wall += by
            world.node.waking.look_at_clock()
            await settled(world)
            assert told(world) == []
            assert codes(world) == set()
        async with node_world(folder, clock=hands.clock(), rules=rules) as again:  # replay crosses the step
            again.connect()
            await caught_up(again)
            hands.pass_(5_999)
            again.node.intake.tick(again.node.clock.now_ms())
            assert not again.node.intake.state.alarms
            hands.pass_(1)
            again.node.intake.tick(again.node.clock.now_ms())
            [alarm] = again.node.intake.state.alarms.values()
            assert alarm.raised_at == NOW + 10_000 + by
            await settled(again)
        assert clock_inputs(folder) == [ClockStepped(by, NOW + 4_000)]

    for name, by in (("forward", HOUR), ("back", -HOUR)):
        asyncio.run(scene(by, tmp_path / name))


def test_hours_that_begin_soon_after_a_step_wake_the_node_by_the_new_time(tmp_path: Path) -> None:
    rules = parse([("rules.yaml", parse_yaml(AT_NIGHT, "rules.yaml"))])

    async def scene() -> None:
        hands = Hands(wall=NOW)
        async with hot_port(tmp_path, hands, rules) as world:
            await settled(world)
            assert Engine.next_deadline(world.node.intake.state) == NOW + 2 * HOUR
            hands.wall += 2 * HOUR - 100
            world.node.waking.look_at_clock()
            hands.pass_(100)
            await until(lambda: told(world))
            assert world.node.clock.now_ms() == NOW + 2 * HOUR

    asyncio.run(scene())


def test_what_is_due_in_hours_is_not_missed_where_the_clock_runs_faster_than_the_timer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is slewed after the time server: in a day that may be more than a deadline may be late."""
    monkeypatch.setattr("edge.waking.WAIT_S", 0.05)
    rules = parse([("rules.yaml", parse_yaml(AT_NIGHT, "rules.yaml"))])

    async def scene() -> None:
        hands = Hands(wall=NOW)
        async with hot_port(tmp_path, hands, rules) as world:
            await settled(world)
            hands.pass_(2 * HOUR)
            await until(lambda: told(world))

    asyncio.run(scene())


def test_what_was_due_in_the_moment_of_the_step_is_raised_by_the_time_before_and_corrected(
    tmp_path: Path,
) -> None:
    rules = parse([("rules.yaml", parse_yaml(HOT, "rules.yaml"))])

    async def scene() -> None:
        hands = Hands(wall=20_000)
        async with hot_port(tmp_path, hands, rules) as world:
            hands.pass_(11_000)
            hands.wall = NOW
            world.node.waking.look_at_clock()
            await settled(world)
            [alarm] = world.node.board.values()
            assert (alarm.raised_at, alarm.provisional) == (NOW - 1_000, False)
        with JournalReader(tmp_path / FILE) as reader:
            changes = [change for _, change in reader.changes_after(0, 10)]
            assert [(change.alarm.provisional, change.at) for change in changes] == [
                (False, NOW - 1_000),
                (False, NOW),
            ]

    asyncio.run(scene())


def test_an_order_that_waits_keeps_what_is_left_of_its_time(tmp_path: Path) -> None:
    rules = parse([("rules.yaml", parse_yaml(HOT, "rules.yaml"))])

    def orders(world: World) -> list[dict[str, Any]]:
        return [json.loads(body) for topic, body in world.played[Lane.SAFETY].published if "command" in topic]

    async def scene(by: int, folder: Path, left: int) -> None:
        hands = Hands(wall=NOW)
        async with node_world(folder, clock=hands.clock(), rules=rules) as world:
            world.connect()
            world.played[Lane.SAFETY].up = False
            world.say("charger/p1/telemetry", b'{"temperature": 95}', 1)
            await settled(world)
            hands.pass_(5_000)
            hands.wall += by
            world.node.waking.look_at_clock()
            hands.wall += by
            world.node.waking.look_at_clock()
            await settled(world)
            assert rows(folder, "SELECT expires_at FROM outbox WHERE expires_at") == [
                (NOW + 30_000 + 2 * by,)
            ]
        hands.pass_(left)
        async with node_world(folder, clock=hands.clock(), rules=rules) as again:
            again.connect()
            await until(lambda: rows(folder, "SELECT count(*) FROM outbox") == [(0,)])
            await settled(again)
            sent = left < 25_000
            assert [order["expires_at"] for order in orders(again)] == [NOW + 30_000 + 2 * by] * sent
            [(status, expires_at)] = rows(folder, "SELECT status, expires_at FROM orders")
            assert (status, expires_at) == (
                OrderStatus.SENT if sent else OrderStatus.EXPIRED,
                NOW + 30_000 + 2 * by,
            )

    for number, (by, left) in enumerate(((HOUR, 24_000), (HOUR, 26_000), (-HOUR, 24_000), (-HOUR, 26_000))):
        asyncio.run(scene(by, tmp_path / str(number), left))


def test_an_order_in_the_memory_of_the_node_keeps_it_too(tmp_path: Path) -> None:
    rules = parse([("rules.yaml", parse_yaml(HOT, "rules.yaml"))])

    async def scene() -> None:
        hands = Hands(wall=NOW)
        async with node_world(tmp_path, clock=hands.clock(), rules=rules) as world:
            world.connect()
            world.played[Lane.SAFETY].up = False
            world.say("charger/p1/telemetry", b'{"temperature": 95}', 1)  # on its way to the disk
            world.say("charger/p2/telemetry", b'{"temperature": 95}', 2)  # in the open batch
            hands.wall += HOUR
            world.node.waking.look_at_clock()
            await settled(world)
            hands.wall += HOUR
            world.node.waking.look_at_clock()  # now in the outbox
            world.played[Lane.SAFETY].up = True
            world.connect()
            await until(lambda: rows(tmp_path, "SELECT count(*) FROM outbox") == [(0,)])
            sent = [
                json.loads(body)["expires_at"]
                for topic, body in world.played[Lane.SAFETY].published
                if "command" in topic
            ]
            assert sent == [NOW + 30_000 + 2 * HOUR] * 2

    asyncio.run(scene())


@pytest.mark.parametrize("start", [NOW, 20_000], ids=["set", "known at last"])
def test_a_step_whose_commit_failed_is_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: int
) -> None:
    commit = Writer.commit
    failed: list[Batch] = []

    def failing_once(writer: Writer, batch: Batch) -> Committed:
        if batch.clock_sets and not failed:
            failed.append(batch)
            raise sqlite3.OperationalError("disk I/O error")
        return commit(writer, batch)

    monkeypatch.setattr(Writer, "commit", failing_once)

    async def scene() -> None:
        hands = Hands(wall=start)
        async with node_world(tmp_path, clock=hands.clock()) as world:
            world.connect()
            press(world, "b1")
            await settled(world)
            hands.wall = NOW + DAY
            world.node.waking.look_at_clock()
            await until(lambda: failed and world.node.store_error is None)
            await settled(world)
            assert world.node.clock.now_ms() == NOW + DAY
            world.connect()
            press(world, "b2")
            await settled(world)
            raised = {alarm.device: alarm.raised_at for alarm in world.node.board.values()}
            assert raised == {"b1": NOW if start == NOW else NOW + DAY, "b2": NOW + DAY}
        [step] = [each for each in clock_inputs(tmp_path) if isinstance(each, ClockStepped)]
        assert step.by_ms == DAY if start == NOW else step.by_ms > DAY

    asyncio.run(scene())


def test_readings_say_that_the_time_was_not_known(tmp_path: Path) -> None:
    async def scene() -> None:
        hands = Hands(wall=20_000)
        async with node_world(tmp_path, clock=hands.clock()) as world:
            world.connect()
            world.say("smoke/s1/telemetry", b'{"battery": 50}', 1)
            hands.wall = NOW
            world.node.waking.look_at_clock()
            world.say("smoke/s1/telemetry", b'{"battery": 49}', 2)
            await settled(world)
            flags = [reading.flags & Flag.PROVISIONAL for reading in world.readings()]
            assert flags == [Flag.PROVISIONAL, 0]

    asyncio.run(scene())


def test_a_clock_that_was_set_back_leaves_the_newest_batch_the_newest(tmp_path: Path) -> None:
    async def scene() -> None:
        hands = Hands(wall=NOW)
        async with node_world(tmp_path, clock=hands.clock()) as world:
            world.connect()
            world.say("smoke/s1/telemetry", b'{"battery": 50, "id": "m1"}', 1)
            world.node.commits.snapshot_soon()
            await settled(world)
            hands.pass_(1_000)
            hands.wall -= DAY
            world.node.waking.look_at_clock()
            world.say("smoke/s1/telemetry", b'{"battery": 50, "id": "m1"}', 2)  # said twice
            world.say("smoke/s1/telemetry", b'{"battery": 49, "id": "m2"}', 3)
            await settled(world)
            assert world.node.intake.counts["duplicates"] == 1
        with JournalReader(tmp_path / FILE) as reader:
            assert reader.last_now() == NOW + 1_000 - DAY
        async with node_world(tmp_path, clock=hands.clock()) as again:
            assert codes(again) == set()
            assert again.node.clock.now_ms() == NOW + 1_001 - DAY
            again.connect()
            again.say("smoke/s1/telemetry", b'{"battery": 50, "id": "m1"}', 4)
            again.say("smoke/s1/telemetry", b'{"battery": 49, "id": "m2"}', 5)
            assert again.node.intake.counts["duplicates"] == 2
            hands.pass_(302_000)
            again.say("smoke/s1/telemetry", b'{"battery": 50, "id": "m1"}', 6)  # forgotten at last
            assert again.node.intake.counts["duplicates"] == 2

    asyncio.run(scene())


def test_a_message_is_known_as_said_before_after_a_step_of_the_clock_and_a_restart(tmp_path: Path) -> None:
    hands = Hands(wall=NOW)
    said = b'{"smoke": true, "id": "m1"}'

    async def before() -> None:
        async with node_world(tmp_path, clock=hands.clock()) as world:
            world.connect()
            world.say("smoke/sm1/telemetry", said, 1)
            await settled(world)
            hands.pass_(10_000)
            hands.wall += HOUR
            world.node.waking.look_at_clock()
            world.say("smoke/sm2/telemetry", b'{"smoke": false}', 2)
            await settled(world)

    async def after() -> None:
        hands.pass_(10_000)
        async with node_world(tmp_path, clock=hands.clock()) as world:
            world.connect()
            world.say("smoke/sm1/telemetry", said, 3)
            await settled(world)
            assert world.node.intake.counts["duplicates"] == 1
            assert len([each for each in world.readings() if each.id == "m1"]) == 1

    asyncio.run(before())
    asyncio.run(after())
