"""The ladder of a store that goes on failing (docs/adr/0008): alarms always, readings when it can, nothing twice."""

import asyncio
import json
import os
import time
from pathlib import Path

import pytest
from msgspec.structs import replace

from devices.topics import Lane
from edge.committing.need import ALL_KNOWN, UNSTORED_SINCE
from edge.committing.owed import CHANGES_MOST, LETTERS_MOST, ORDERS_MOST, Owed
from edge.committing.storing import Storing
from edge.store.ballast import FILE as BALLAST_FILE
from edge.store.records import Batch, DeadLetter, Gap, GapReason, OrderResult, OrderStatus
from rules.alarms import Alarm, AlarmChange, Transition
from tests.node_world import FailingDisk, FullDisk, World, climb, hung, node_world, rows
from tests.store_samples import alarm as sample
from tests.waiting import until

PRESS = b'{"action": "emergency"}'
SMOKE = b'{"smoke": true}'
CLEAR = b'{"smoke": false}'
ALWAYS = 10**9


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    climb(monkeypatch)


def gap_of_readings(folder: Path) -> int:
    """Readings that are known to be lost."""
    ((count,),) = rows(folder, "SELECT ifnull(sum(count), 0) FROM gaps WHERE lane = 'readings'")
    assert isinstance(count, int)
    return count


def told_of(world: World, device: str) -> list[tuple[int, bool, str]]:
    """Version, durability and state of every telling about a device."""
    found = [json.loads(payload) for payload in world.told() if payload]
    return [(each["version"], each["durable"], each["state"]) for each in found if each["device"] == device]


def acknowledged(world: World) -> int:
    return sum(len(link.acknowledged) for link in world.played.values())


async def works_again(world: World) -> None:
    await until(lambda: world.node.commits.storing is Storing.ALL)
    assert await world.node.saved()
    await until(lambda: len(world.node.outbox) == 0)


def consistent(world: World, folder: Path) -> None:
    """Stored and lost are what was acknowledged; the broker, the board and the disk agree."""
    assert len(world.readings()) + gap_of_readings(folder) == acknowledged(world)
    board = world.node.board
    assert all(alarm.durable for alarm in board.values())
    retained = world.played[Lane.SAFETY].retained
    alarms = [json.loads(payload) for topic, payload in retained.items() if "/alarm/" in topic]
    held = {each["id"]: each for each in alarms}
    assert held == {alarm.id: json.loads(alarm.wire()) for alarm in board.values()}
    stands = {str(row[0]) for row in rows(folder, "SELECT id FROM alarms WHERE on_board")}
    assert stands == board.keys()
    changes = rows(folder, "SELECT alarm_id, version FROM alarm_changes")
    assert len(set(changes)) == len(changes)
    assert rows(folder, "SELECT seq FROM positions WHERE name = 'unstored_since'") in ([], [(0,)])


async def the_same_after_a_crash(folder: Path, board: dict[str, Alarm]) -> None:
    async with node_world(folder) as again:
        assert again.node.board == board
        again.connect()
        await again.node.saved()
        assert again.node.board == board


def test_on_a_full_disk_alarms_are_stored_readings_are_counted_and_it_ends_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = FullDisk(monkeypatch)

    async def scene() -> None:
        async with node_world(tmp_path) as world:
            world.connect()
            node = world.node
            await until((tmp_path / BALLAST_FILE).exists)
            room = world.journal.has_room
            monkeypatch.setattr(world.journal, "has_room", lambda: not disk.full and room())
            world.say("charger/p1/telemetry", b'{"energy": 1}', 1)
            await node.saved()
            disk.full = True
            for number in range(300):  # a batch that needs pages
                world.say(
                    "charger/p1/telemetry",
                    b'{"energy": %d, "x": "%s"}' % (number, os.urandom(40).hex().encode()),
                    2 + number,
                )
            await until(lambda: node.commits.storing is Storing.ALARMS)
            assert node.store_error is None
            assert [each.code for each in node.troubles.reasons()] == ["store_reduced"]
            await until(lambda: not (tmp_path / BALLAST_FILE).exists())
            disk.full = False
            monkeypatch.setattr(
                world.journal, "has_room", lambda: False
            )  # room enough for alarms, by the ballast
            world.say("smoke/sm1/telemetry", SMOKE, 1_000)
            await until(lambda: told_of(world, "sm1"))
            assert told_of(world, "sm1") == [(1, True, "unacked")]
            for number in range(100):
                world.say("charger/p1/telemetry", b'{"energy": %d}' % number, 2_000 + number)
            await until(lambda: acknowledged(world) == 402)
            assert node.commits.storing is Storing.ALARMS
            assert len(world.readings()) == 1
            monkeypatch.setattr(world.journal, "has_room", room)
            await works_again(world)
            assert node.troubles.reasons() == []
            await until((tmp_path / BALLAST_FILE).exists)
            world.say("charger/p1/telemetry", b'{"energy": 9}', 3_000)
            await node.saved()
            assert gap_of_readings(tmp_path) == 401
            consistent(world, tmp_path)
            assert world.played[Lane.SAFETY].reconnects == []
            board = dict(node.board)
        await the_same_after_a_crash(tmp_path, board)

    asyncio.run(scene())


def test_without_a_store_alarms_are_told_people_act_and_all_of_it_is_stored_later(
    tmp_path: Path, disk: FailingDisk
) -> None:
    async def scene() -> None:
        async with node_world(tmp_path) as world:
            world.connect()
            node = world.node
            world.say("smoke/before/telemetry", SMOKE, 1)
            world.say("smoke/gone/telemetry", b'{"battery_low": true}', 2)
            await until(lambda: len(node.board) == 2)
            await node.saved()
            disk.fails = ALWAYS
            world.say("charger/p1/telemetry", b'{"energy": 1}', 3)
            await until(lambda: world.played[Lane.SAFETY].reconnects)  # the single failure
            world.say("charger/p1/telemetry", b'{"energy": 1}', 3, dup=True)
            await until(lambda: node.commits.storing is Storing.NONE)
            assert "disk I/O error" in str(node.store_error)
            for number in range(50):
                world.say("charger/p1/telemetry", b'{"energy": %d}' % number, 100 + number)
            world.say("button/b1/event", PRESS, 200)
            await until(lambda: told_of(world, "b1"))
            assert told_of(world, "b1") == [(1, False, "unacked")]
            await until(lambda: acknowledged(world) == 54)
            (press,) = (alarm for alarm in node.board.values() if alarm.device == "b1")
            acked = await node.people.acknowledge(press.id, "Li", "on my way")
            assert acked is not None
            assert (acked.acked_by, acked.durable) == ("Li", False)
            await until(lambda: told_of(world, "b1")[-1] == (2, False, "acked"))
            world.say("smoke/gone/telemetry", b'{"battery_low": false}', 201)  # ends what is on the disk
            world.say("smoke/short/telemetry", b'{"battery_low": true}', 202)
            world.say("smoke/short/telemetry", b'{"battery_low": false}', 203)
            node.intake.batch.dead_letters.append(DeadLetter(1, "readings", "line", 400, "no"))
            node.feel({"uptime": 5})
            await until(lambda: not any(alarm.device == "gone" for alarm in node.board.values()))
            await until(lambda: acknowledged(world) == 57)
            disk.fails = 0
            await works_again(world)
            assert node.store_error is None
            assert told_of(world, "b1")[-1] == (2, True, "acked")
            assert rows(tmp_path, "SELECT line FROM dead_letters") == [("line",)]
            assert gap_of_readings(tmp_path) == 56  # one of them is the gateway's own
            assert len(world.readings()) + gap_of_readings(tmp_path) == acknowledged(world) + 1
            assert rows(tmp_path, "SELECT alarm_id FROM alarm_changes WHERE transition = 'acked'") == [
                (press.id,)
            ]
            assert world.journal.failures > 3
            board = dict(node.board)
            assert {alarm.device for alarm in board.values()} == {"before", "b1"}
            stands = {str(row[0]) for row in rows(tmp_path, "SELECT id FROM alarms WHERE on_board")}
            assert stands == board.keys()
        await the_same_after_a_crash(tmp_path, board)

    asyncio.run(scene())


def test_what_was_heard_without_a_store_is_known_again_after_a_crash_once_the_store_was_back(
    tmp_path: Path, disk: FailingDisk
) -> None:
    said_at = time.time_ns() // 1_000_000_000 * 1_000 - 123
    presses = (b'{"action": "emergency", "id": "p1"}', b'{"action": "emergency", "ts": %d}' % said_at)

    async def scene() -> None:
        async with node_world(tmp_path) as world:
            world.connect()
            disk.fails = ALWAYS
            world.say("charger/p1/telemetry", b'{"energy": 1}', 1)
            await until(lambda: world.played[Lane.SAFETY].reconnects)
            world.say("charger/p1/telemetry", b'{"energy": 1}', 1, dup=True)
            await until(lambda: world.node.commits.storing is Storing.NONE)
            for number, press in enumerate(presses):
                world.say(f"button/b{number}/event", press, 10 + number)
            await until(lambda: len(world.node.board) == len(presses))
            disk.fails = 0
            await works_again(world)
            assert world.readings() == []  # they are in no batch
        async with node_world(tmp_path) as again:
            again.connect()
            for number, press in enumerate(presses):
                again.say(f"button/b{number}/event", press, 70 + number)
            await again.node.saved()
            assert [alarm.occurrences for alarm in again.node.board.values()] == [1, 1]

    asyncio.run(scene())


def test_an_alarm_that_comes_into_a_batch_of_which_another_was_told_early_stands_as_well(
    tmp_path: Path, disk: FailingDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    climb(monkeypatch, hung_s=60.0, again_s=2.0)  # looked at rarely, and not given up

    async def scene() -> None:
        async with node_world(tmp_path) as world:
            world.connect()
            await world.node.saved()
            await hung(world, disk, "button/b1/event", PRESS, 1)
            world.say("button/b2/event", PRESS, 2)
            await until(lambda: told_of(world, "b1") and told_of(world, "b2"))
            world.say("button/b3/event", PRESS, 3)  # into the batch of which b2 was told
            disk.answers.set()
            await until(lambda: acknowledged(world) == 3)
            assert await world.node.saved()
            await until(lambda: len(world.node.outbox) == 0)
            assert told_of(world, "b2") == [(1, False, "unacked"), (1, True, "unacked")]
            assert told_of(world, "b3") == [(1, True, "unacked")]
            assert {alarm.device for alarm in world.node.board.values()} == {"b1", "b2", "b3"}
            consistent(world, tmp_path)

    asyncio.run(scene())


@pytest.mark.parametrize("landed", [True, False], ids=["and writes it", "and fails"])
def test_a_commit_that_hangs_keeps_nobody_waiting_and_may_end_either_way(
    tmp_path: Path, disk: FailingDisk, landed: bool
) -> None:
    async def scene() -> None:
        async with node_world(tmp_path) as world:
            world.connect()
            node = world.node
            await node.saved()
            disk.answers.clear()
            world.say("button/b1/event", PRESS, 1)
            await until(
                lambda: told_of(world, "b1") == [(1, False, "unacked")]
            )  # before anything is given up
            assert acknowledged(world) == 0
            world.say("charger/p1/telemetry", b'{"energy": 1}', 2)
            await until(lambda: node.commits.storing is Storing.NONE)
            await until(lambda: acknowledged(world) == 2)
            world.say("button/b1/event", PRESS, 3)
            await until(lambda: told_of(world, "b1")[-1] == (2, False, "unacked"))
            disk.fails = 0 if landed else 1
            disk.answers.set()
            await works_again(world)
            assert told_of(world, "b1")[-1] == (2, True, "unacked")
            versions = [version for version, _, _ in told_of(world, "b1")]
            assert versions == sorted(versions)
            assert gap_of_readings(tmp_path) == (2 if landed else 3)
            consistent(world, tmp_path)
            assert rows(tmp_path, "SELECT * FROM outbox") == []
            board = dict(node.board)
        await the_same_after_a_crash(tmp_path, board)

    asyncio.run(scene())


@pytest.mark.parametrize("reduced", [True, False], ids=["without readings", "as it was"])
def test_a_commit_that_failed_and_is_on_disk_all_the_same_is_written_once(
    tmp_path: Path, disk: FailingDisk, monkeypatch: pytest.MonkeyPatch, reduced: bool
) -> None:
    async def scene() -> None:
        async with node_world(tmp_path) as world:
            world.connect()
            await world.node.saved()
            if reduced:
                monkeypatch.setattr(world.node.commits.ladder, "_patient", False)
            disk.fails, disk.after = 1, True
            world.say("button/b1/event", PRESS, 1)
            world.say("charger/p1/telemetry", b'{"energy": 1}', 2)
            await until(lambda: world.journal.failures == 1)
            disk.after = False
            await until(lambda: acknowledged(world) == 2)
            await until(
                lambda: len(world.readings()) + gap_of_readings(tmp_path) == 2
            )  # it is down, and up again
            await works_again(world)
            consistent(world, tmp_path)
            board = dict(world.node.board)
        await the_same_after_a_crash(tmp_path, board)

    asyncio.run(scene())


def test_where_the_engine_cannot_be_rebuilt_the_one_that_is_there_goes_on(
    tmp_path: Path, disk: FailingDisk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> None:
        raise RuntimeError("a mistake of ours")

    async def scene() -> None:
        async with node_world(tmp_path) as world:
            world.connect()
            world.say("smoke/sm1/telemetry", SMOKE, 1)
            await until(world.told)
            await world.node.saved()
            with monkeypatch.context() as patch:
                patch.setattr(world.journal, "recover", broken)
                disk.fails = 1
                world.say("charger/p1/telemetry", b'{"energy": 1}', 2)
                await until(lambda: acknowledged(world) == 2)
            await works_again(world)
            consistent(world, tmp_path)
            assert len(world.node.board) == 1
            assert world.played[Lane.SAFETY].reconnects == []

    asyncio.run(scene())
    assert "could not be rebuilt" in caplog.text


def test_alarms_of_a_run_that_died_without_a_store_come_back_from_the_broker(
    tmp_path: Path, disk: FailingDisk
) -> None:
    async def scene() -> None:
        retained: dict[str, bytes] = {}
        async with node_world(tmp_path) as world:
            world.connect()
            world.say("smoke/sm1/telemetry", SMOKE, 1)
            await until(world.told)
            await world.node.saved()
            (first,) = world.node.board
            world.node.commits.ladder.begin_without("no disk")
            disk.fails = ALWAYS
            await world.node.people.acknowledge(first, "Li", "")
            world.say("button/b1/event", PRESS, 2)
            await until(lambda: told_of(world, "b1") and told_of(world, "sm1")[-1][2] == "acked")
            held = world.played[Lane.SAFETY].retained
            retained = {topic: payload for topic, payload in held.items() if "/alarm/" in topic}
        disk.fails = 0
        foreign = json.loads(next(each for each in retained.values() if b"b1" in each))
        odd = {**foreign, "id": "X", "key": "gone:c1/button/b9", "rule": "gone", "device": "b9"}
        retained["community/c1/alarm/X"] = json.dumps(odd, separators=(",", ":")).encode()
        async with node_world(tmp_path) as again:
            again.played[Lane.SAFETY].retained |= retained
            again.connect()
            await until(lambda: len(again.node.board) == 2)
            await until(lambda: told_of(again, "sm1") and told_of(again, "b1"))
            await until(lambda: all(alarm.durable for alarm in again.node.board.values()))
            board = dict(again.node.board)
            assert {(alarm.device, alarm.state, alarm.version, alarm.durable) for alarm in board.values()} == {
                ("sm1", "acked", 3, True), ("b1", "unacked", 2, True),
            }  # fmt: skip
            assert first in board
            assert json.loads(again.played[Lane.SAFETY].retained["community/c1/alarm/X"])["id"] == "X"
            again.say("smoke/sm1/telemetry", CLEAR, 3)  # its condition goes on where it was
            await until(lambda: len(again.node.board) == 1)
        async with node_world(tmp_path) as third:
            assert [alarm.device for alarm in third.node.board.values()] == ["b1"]

    asyncio.run(scene())


@pytest.mark.parametrize("died", [True, False], ids=["died", "ended in good order"])
def test_a_run_that_ended_without_room_leaves_a_gap_and_the_next_begins_carefully(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, died: bool
) -> None:
    def marker() -> object:
        found = rows(tmp_path, "SELECT name, seq FROM positions")
        return next(seq for name, seq in found if name == UNSTORED_SINCE)

    async def scene() -> None:
        async with node_world(tmp_path) as world:
            world.connect()
            world.node.commits.ladder.begin_reduced("no room")
            monkeypatch.setattr("edge.store.journal.Journal.has_room", lambda _: False)
            world.say("charger/p1/telemetry", b'{"energy": 1}', 1)
            await until(lambda: acknowledged(world) == 1)
            assert marker() not in (0, ALL_KNOWN)  # before anything was let go
            if not died:
                world.node.stop()
                await until(lambda: marker() == ALL_KNOWN)
        async with node_world(tmp_path) as again:
            await until(lambda: again.node.commits.storing is Storing.ALARMS)
            monkeypatch.setattr("edge.store.journal.Journal.has_room", lambda _: True)
            await works_again(again)
            count = 0 if died else 1  # nobody can know it, or it was written at the end
            assert rows(tmp_path, "SELECT lane, count, reason FROM gaps") == [
                ("readings", count, "store_failed")
            ]

    asyncio.run(scene())


def test_what_is_owed_is_bounded_and_no_standing_alarm_is_dropped() -> None:
    owed = Owed()
    stands = sample(0)
    owed.add(batch_of(AlarmChange(Transition.RAISED, stands, 1)))
    for number in range(1, 3 * CHANGES_MOST):
        each = sample(number)
        owed.add(batch_of(AlarmChange(Transition.RAISED, each, number)))
        gone = replace(each, closed=True, version=2)
        owed.add(batch_of(AlarmChange(Transition.CLOSED, gone, number)))
    dropped = owed.alarms.count
    kept = owed.take().changes
    assert len(kept) <= CHANGES_MOST
    assert len(kept) + dropped == 1 + 2 * (3 * CHANGES_MOST - 1)
    assert kept[0].alarm == stands


def test_of_gaps_and_order_results_that_are_owed_too_many_none_is_forgotten() -> None:
    owed = Owed()
    many = 3 * LETTERS_MOST
    unknown = Gap(many, "safety", 0, many, many + 5, GapReason.SESSION_LOST)
    dropped = Gap(many, "any", 2, many, many + 5, GapReason.BROKER_DROPPED)
    for at in range(1, many + 1):
        both = [replace(gap, at=at, from_ms=at, to_ms=at + 5) for gap in (unknown, dropped)]
        owed.add(Batch(0, now=at, gaps=both))
    gaps = owed.take().gaps
    assert len(gaps) <= LETTERS_MOST
    assert gaps[-1] == dropped
    for like in (unknown, dropped):
        of = [gap for gap in gaps if gap.reason == like.reason]
        assert {gap.lane for gap in of} == {like.lane}
        assert {gap.count == 0 for gap in of} == {like.count == 0}
        assert sum(gap.count for gap in of) == many * like.count
        assert (min(gap.from_ms for gap in of), max(gap.to_ms for gap in of)) == (1, many + 5)
    results = [OrderResult(str(at), OrderStatus.DONE, None, at) for at in range(1, ORDERS_MOST + 11)]
    owed.add(Batch(0, order_results=results))
    assert (owed.alarms.count, owed.alarms.from_ms, owed.alarms.to_ms) == (10, 1, 10)


def batch_of(change: AlarmChange) -> Batch:
    return Batch(0, changes=[change])
