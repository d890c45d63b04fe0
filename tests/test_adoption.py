"""Alarms that only the broker remembers, and what their devices have said by the time they are found there."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from devices.documents import parse_yaml
from devices.readings import Address, Channel, Reading, Scalar
from devices.topics import Lane
from edge.committing.adoption import adopted, has_ended
from rules.alarms import WireAlarm
from rules.definitions import RuleSet
from rules.files import parse
from tests.node_world import FailingDisk, FastClock, World, ahead, caught_up, node_world
from tests.store_samples import alarm as sample
from tests.waiting import until

RULES = """
rules:
  - id: ebike
    kind: elevator
    per: track
    when: label == 'ebike' and type != 'end'
    clear: type == 'end'
    severity: medium
    text: {en: ebike, zh: 电动车}
  - id: fire
    kind: smoke
    when: smoke and not test
    clear: smoke == false
    severity: critical
    text: {en: fire, zh: 火}
  - id: hot
    kind: charger
    when: temperature >= 65
    clear: temperature < 55
    for: 10s
    severity: high
    text: {en: hot, zh: 热}
"""
ALWAYS = 10**9
NEW = b'{"type": "new", "track": "a", "label": "ebike"}'
END = b'{"type": "end", "track": "a"}'
HOT = b'{"temperature": 70}'
COOL = b'{"temperature": 40}'
HELD_MS = 15_000
"""Longer than the ten seconds for which a port must be hot."""
LIFT = Address("c1/elevator/l1")


def rules() -> RuleSet:
    return parse([("rules.yaml", parse_yaml(RULES, "rules.yaml"))])


def left_on_the_broker(**changed: object) -> bytes:
    told = json.loads(sample(1).wire()) | {
        "rule": "hot",
        "key": "hot:c1/charger/shed1-p0001",
        "durable": False,
    }
    return json.dumps(told | changed).encode()


@pytest.mark.parametrize(
    "changed",
    [
        {"version": 2**63 - 1},
        {"occurrences": 10**30},
        {"values": {"temperature": 10**30}},
        {"received_at": -(2**63) - 1},
        {"key": "hot:c1/charger/p9"},
        {"device": "a/b", "key": "hot:c1/charger/a/b"},
        {"id": "a/b"},
        {"raised_at": "yesterday"},
        {"rule": "gone"},
        {"state": "normal"},
    ],
    ids=str,
)
def test_what_is_no_alarm_of_ours_or_could_not_be_stored_is_left_on_the_broker(
    changed: dict[str, object],
) -> None:
    assert adopted(left_on_the_broker(values={"temperature": 2**63 - 1}), rules(), 1) is not None
    assert adopted(left_on_the_broker(**changed), rules(), 1) is None


async def told_and_never_stored(folder: Path, disk: FailingDisk) -> dict[str, bytes]:
    """What the broker holds of a run that dies without a store, with an e-bike in a lift and a fire."""
    async with node_world(folder, rules=rules()) as world:
        world.connect()
        await world.node.saved()
        disk.fails = ALWAYS
        world.node.commits.ladder.begin_without("no disk")
        world.say("elevator/l1/event", NEW, 1)
        world.say("smoke/s1/telemetry", b'{"smoke": true}', 2)
        await until(lambda: len(world.told()) == 2)
        held = {
            topic: each for topic, each in world.played[Lane.SAFETY].retained.items() if "/alarm/" in topic
        }
    disk.fails = 0
    return held


@pytest.mark.parametrize("end_first", [True, False], ids=["before", "after"])
def test_what_ended_by_the_time_it_is_found_does_not_stand_again(
    tmp_path: Path, disk: FailingDisk, end_first: bool
) -> None:
    async def scene() -> None:
        held = await told_and_never_stored(tmp_path, disk)
        async with node_world(tmp_path, rules=rules()) as world:
            link = world.played[Lane.SAFETY]
            link.retained |= held
            world.connect()
            if not end_first:
                await until(lambda: len(world.node.board) == 2)
            world.say("elevator/l1/event", END, 3)
            world.say("smoke/s1/telemetry", b'{"smoke": false}', 4)
            await until(
                lambda: world.told()[-1:] and [a.state for a in world.node.board.values()] == ["rtn_unacked"]
            )
            assert await world.node.saved()
            await until(lambda: len(world.node.outbox) == 0)
            assert [alarm.device for alarm in world.node.board.values()] == ["s1"]
            told = [json.loads(each) for each in world.told() if each and b'"l1"' in each]
            assert sorted({(each["version"], each["state"]) for each in told}) == [
                (2, "unacked"),
                (3, "normal"),
            ]
            assert told[-1]["state"] == "normal"
            assert len([topic for topic in link.retained if "/alarm/" in topic]) == 1
            assert not world.node.intake.state.devices[LIFT].ongoing
            board = dict(world.node.board)
        async with node_world(tmp_path, rules=rules()) as again:
            assert again.node.board == board

    asyncio.run(scene())


@pytest.mark.parametrize("acked", [True, False], ids=["gone", "standing"])
def test_an_alarm_whose_end_is_on_disk_and_not_what_ended_it_is_not_raised_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, acked: bool
) -> None:
    async def scene() -> None:
        async with node_world(tmp_path, rules=rules()) as world:
            world.connect(session_present=False)
            await caught_up(world)
            world.say("charger/p1/telemetry", HOT, 1)
            await until(lambda: len(world.readings()) == 1)
            await world.node.commits.drain()  # a snapshot that is under way would end the need
            monkeypatch.setattr(world.journal, "has_room", lambda: False)
            world.node.commits.ladder.begin_reduced("no room")
            ahead(world.node.clock, HELD_MS)
            world.say("charger/p2/telemetry", COOL, 2)
            await until(lambda: bool(told_of_ports(world)))
            hot = told_of_ports(world)[0]
            if acked:
                await world.node.people.acknowledge(hot.id, "Li", "")
            world.say("charger/p1/telemetry", COOL, 3)
            await until(lambda: told_of_ports(world)[-1].state == ("normal" if acked else "rtn_unacked"))
            assert await world.node.saved()
            assert len(world.readings()) == 1
        async with node_world(tmp_path, rules=rules(), clock=FastClock(HELD_MS)) as again:
            again.connect()
            await caught_up(again)
            assert await again.node.saved()
            assert [alarm.state for alarm in again.node.board.values() if alarm.id == hot.id] == (
                [] if acked else ["rtn_unacked"]
            )
            assert all(alarm.id == hot.id for alarm in again.node.board.values() if alarm.kind == "charger")

    asyncio.run(scene())


async def hot_without_a_store(world: World, disk: FailingDisk) -> WireAlarm:
    """That a port is hot is on the disk, that it is for ten seconds is not: the alarm as it is told."""
    world.connect(session_present=False)
    await caught_up(world)
    world.say("charger/p1/telemetry", HOT, 1)
    await until(lambda: len(world.readings()) == 1)
    disk.fails = ALWAYS
    world.node.commits.ladder.begin_without("no disk")
    world.say(
        "smoke/s1/telemetry", b'{"smoke": true}', 2
    )  # so that the next stay is another one than after the crash
    await until(lambda: bool(world.told()))
    ahead(world.node.clock, HELD_MS)
    world.say("charger/p2/telemetry", COOL, 2)
    await until(lambda: bool(told_of_ports(world)))
    return told_of_ports(world)[-1]


def told_of_ports(world: World) -> list[WireAlarm]:
    told = [msgspec.json.decode(payload, type=WireAlarm) for payload in world.told() if payload]
    return [alarm for alarm in told if alarm.kind == "charger"]


def test_an_alarm_that_only_the_broker_remembers_stands_before_its_cause_is_judged_anew(
    tmp_path: Path, disk: FailingDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.broker.backlog.QUIET_S", 0.0)

    async def scene() -> None:
        async with node_world(tmp_path, rules=rules()) as world:
            hot = await hot_without_a_store(world, disk)
            acked = await world.node.people.acknowledge(hot.id, "Li", "on my way")
            assert acked is not None
            assert not acked.durable
            await until(lambda: told_of_ports(world)[-1].acked_by == "Li")
            held = dict(world.played[Lane.SAFETY].retained)
        disk.fails = 0
        async with node_world(tmp_path, rules=rules(), clock=FastClock(HELD_MS)) as again:
            again.played[Lane.SAFETY].retained |= held
            again.connect()
            await caught_up(again)
            assert await again.node.saved()
            await until(lambda: len(again.node.outbox) == 0)
            stands = [alarm for alarm in again.node.board.values() if alarm.kind == "charger"]
            assert [(each.id, each.version, each.acked_by, each.durable) for each in stands] == [
                (hot.id, 3, "Li", True)
            ]
            assert {each.id for each in told_of_ports(again)} == {hot.id}

    asyncio.run(scene())


def test_what_ended_with_a_run_that_could_not_store_it_comes_as_another_stay_where_its_cause_is_on_disk(
    tmp_path: Path, disk: FailingDisk
) -> None:
    async def scene() -> None:
        async with node_world(tmp_path, rules=rules()) as world:
            hot = await hot_without_a_store(world, disk)
            await world.node.people.acknowledge(hot.id, "Li", "")
            world.say("charger/p1/telemetry", COOL, 3)
            await until(lambda: told_of_ports(world)[-1].state == "normal")
            await until(lambda: (1, 3) in world.played[Lane.BULK].acknowledged)  # so nobody says it again
            held = dict(world.played[Lane.SAFETY].retained)
        disk.fails = 0
        async with node_world(tmp_path, rules=rules(), clock=FastClock(HELD_MS)) as again:
            again.played[Lane.SAFETY].retained |= held
            again.connect()
            await until(lambda: bool(told_of_ports(again)))
            anew = told_of_ports(again)[0]
            assert (anew.key, anew.version, anew.state) == (hot.key, 1, "unacked")
            assert anew.id != hot.id  # a receiver has seen that one end
            again.say("charger/p1/telemetry", COOL, 4)
            await until(lambda: told_of_ports(again)[-1].state == "rtn_unacked")

    asyncio.run(scene())


def said(*each: dict[str, Scalar]) -> Sequence[Reading]:
    return [
        Reading(Channel.EVENT if "type" in values else Channel.TELEMETRY, LIFT, values, at, at)
        for at, values in enumerate(each)
    ]


def test_only_what_was_said_of_it_ends_it_and_what_was_said_last_counts() -> None:
    ebike, fire, _ = sorted(rules().rules, key=lambda rule: rule.id)
    new: dict[str, Scalar] = {"type": "new", "track": "a", "label": "ebike"}
    end: dict[str, Scalar] = {"type": "end", "track": "a"}
    assert has_ended(ebike, "a", said(end))
    assert has_ended(ebike, "a", said(new, end))
    assert not has_ended(ebike, "a", said(end, new))
    assert not has_ended(ebike, "a", said({**end, "track": "b"}))
    assert not has_ended(ebike, "a", said())
    assert has_ended(fire, None, said({"smoke": False}))
    assert not has_ended(fire, None, said({"smoke": False}, {"smoke": True, "test": False}))
    assert not has_ended(fire, None, said({"battery": 90}, {"test": False}))
