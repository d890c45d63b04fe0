"""What was told before its commit and could not leave: it leaves all the same, whatever comes in between."""

import asyncio
import json
from pathlib import Path

import pytest

from devices.topics import Lane
from edge.committing.storing import Storing
from tests.node_world import FailingDisk, World, climb, hung, node_world, rows
from tests.waiting import until

LOW = b'{"battery": 5}'
WELL = b'{"battery": 90}'


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    climb(monkeypatch, hung_s=60.0)  # told early soon, and not given up


def told_of(world: World, device: str) -> list[str]:
    """The states that were published, `gone` where the retained message was taken away."""
    states: list[str] = []
    topics: set[str] = set()
    for topic, payload in world.played[Lane.SAFETY].published:
        if payload and "/alarm/" in topic and json.loads(payload)["device"] == device:
            topics.add(topic)
            states.append(json.loads(payload)["state"])
        elif topic in topics:
            states.append("gone")
    return states


async def raised_and_cleared_while_nobody_takes_it(world: World, disk: FailingDisk) -> None:
    """The disk does not answer and the broker is away: an alarm comes and goes, and is told early to no one."""
    world.connect()
    await world.node.saved()
    await until(lambda: len(world.node.outbox) == 0)
    await hung(world, disk, "charger/p1/telemetry", b'{"energy": 1}', 1)
    world.say("smoke/short/telemetry", LOW, 2)
    world.say("smoke/short/telemetry", WELL, 3)
    for link in world.played.values():
        link.up = False
    world.cut()
    await until(lambda: len(world.node.outbox) == 3)


async def stored(world: World, disk: FailingDisk) -> None:
    """The disk answers again, and has all of it."""
    disk.answers.set()
    await until(lambda: world.node.commits.storing is Storing.ALL)
    for _ in range(2):  # the batch, and what its commit brought about
        assert await world.node.saved()


async def heard_early(world: World) -> None:
    for link in world.played.values():
        link.up = True
    world.connect()
    await until(lambda: "gone" in told_of(world, "short"))


async def nothing_is_left_of_it(world: World, folder: Path) -> None:
    assert await world.node.saved()
    await until(lambda: len(world.node.outbox) == 0)
    assert told_of(world, "short") == ["unacked", "normal", "gone"]
    assert not [topic for topic in world.played[Lane.SAFETY].retained if "/alarm/" in topic]
    await until(lambda: not rows(folder, "SELECT * FROM outbox"))


async def the_next_says_nothing(folder: Path) -> None:
    async with node_world(folder) as again:
        again.connect()
        assert await again.node.saved()
        await until(lambda: len(again.node.outbox) == 0)
        assert told_of(again, "short") == []


@pytest.mark.parametrize("given_up", [False, True], ids=["on a slow disk", "while nothing could be stored"])
def test_an_alarm_that_ended_before_its_publication_could_leave_is_heard_after_a_crash(
    tmp_path: Path, disk: FailingDisk, monkeypatch: pytest.MonkeyPatch, given_up: bool
) -> None:
    if given_up:
        climb(monkeypatch)

    async def scene() -> None:
        async with node_world(tmp_path) as world:
            await raised_and_cleared_while_nobody_takes_it(world, disk)
            if given_up:
                await until(lambda: world.node.commits.storing is Storing.NONE)
            await stored(world, disk)
        async with node_world(tmp_path) as again:
            await heard_early(again)
            await nothing_is_left_of_it(again, tmp_path)

    asyncio.run(scene())


def test_one_that_could_not_leave_is_heard_after_a_failed_commit_and_a_rebuild(
    tmp_path: Path, disk: FailingDisk
) -> None:
    async def scene() -> None:
        async with node_world(tmp_path) as world:
            await raised_and_cleared_while_nobody_takes_it(world, disk)
            await stored(world, disk)
            disk.fails = 1
            world.connect()
            world.say("charger/p1/telemetry", b'{"energy": 2}', 4)
            await until(lambda: world.played[Lane.BULK].reconnects)
            await heard_early(world)
            await nothing_is_left_of_it(world, tmp_path)

    asyncio.run(scene())


def test_what_has_left_before_its_commit_is_not_sent_again_after_a_crash(
    tmp_path: Path, disk: FailingDisk
) -> None:
    async def scene() -> None:
        async with node_world(tmp_path) as world:
            await raised_and_cleared_while_nobody_takes_it(world, disk)
            await heard_early(world)
            await stored(world, disk)
            assert not rows(tmp_path, "SELECT * FROM outbox")
            assert told_of(world, "short") == ["unacked", "normal", "gone"]
        await the_next_says_nothing(tmp_path)

    asyncio.run(scene())


def test_what_ended_while_its_raising_was_being_written_is_not_told_anew(
    tmp_path: Path, disk: FailingDisk
) -> None:
    async def scene() -> None:
        async with node_world(tmp_path) as world:
            world.connect()
            await world.node.saved()
            disk.answers.clear()
            world.node.commits.ladder.begin_without("no disk")
            world.say("smoke/short/telemetry", LOW, 1)
            await until(disk.hung.is_set)  # what is owed is tried
            await until(lambda: told_of(world, "short") == ["unacked"])
            world.say("smoke/short/telemetry", WELL, 2)
            await until(lambda: told_of(world, "short")[-1] == "gone")
            disk.answers.set()
            await until(lambda: world.node.commits.storing is Storing.ALL)
            await nothing_is_left_of_it(world, tmp_path)

    asyncio.run(scene())


def test_what_a_failed_attempt_would_have_said_again_is_not_said_when_it_has_ended(
    tmp_path: Path, disk: FailingDisk
) -> None:
    async def scene() -> None:
        async with node_world(tmp_path) as world:
            world.connect()
            await world.node.saved()
            world.node.commits.ladder.begin_without("no disk")
            world.say("smoke/short/telemetry", LOW, 1)
            await until(lambda: told_of(world, "short") == ["unacked"])
            disk.fails = 1
            await until(lambda: not disk.fails)
            world.say("smoke/short/telemetry", WELL, 2)
            await until(lambda: told_of(world, "short")[-1] == "gone")
            await until(lambda: world.node.commits.storing is Storing.ALL)
            await until(lambda: not rows(tmp_path, "SELECT * FROM outbox"))
        await the_next_says_nothing(tmp_path)

    asyncio.run(scene())
