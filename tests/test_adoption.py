"""Alarms that only the broker remembers, and what their devices have said by the time they are found there."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from devices.documents import parse_yaml
from devices.readings import Address, Channel, Reading, Scalar
from devices.topics import Lane
from edge.committing.adoption import has_ended
from rules.definitions import RuleSet
from rules.files import parse
from tests.node_world import FailingDisk, node_world
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
"""
ALWAYS = 10**9
NEW = b'{"type": "new", "track": "a", "label": "ebike"}'
END = b'{"type": "end", "track": "a"}'
LIFT = Address("c1/elevator/l1")


def rules() -> RuleSet:
    return parse([("rules.yaml", parse_yaml(RULES, "rules.yaml"))])


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
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end_first: bool
) -> None:
    disk = FailingDisk(monkeypatch)

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


def said(*each: dict[str, Scalar]) -> Sequence[Reading]:
    return [
        Reading(Channel.EVENT if "type" in values else Channel.TELEMETRY, LIFT, values, at, at)
        for at, values in enumerate(each)
    ]


def test_only_what_was_said_of_it_ends_it_and_what_was_said_last_counts() -> None:
    ebike, fire = sorted(rules().rules, key=lambda rule: rule.id)
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
