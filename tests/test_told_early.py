"""What was told before its commit and could not leave: it leaves all the same, whatever comes in between."""

import asyncio
import json
from pathlib import Path

import pytest

from devices.topics import Lane
from edge.committing.storing import Storing
from tests.node_world import FailingDisk, World, node_world, rows
from tests.waiting import until

LOW = b'{"battery": 5}'
WELL = b'{"battery": 90}'


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Told early soon, and not given up."""
    for name, value in {"TELL_S": 0.1, "HUNG_S": 60.0, "AGAIN_S": 0.05, "PROBE_S": (0.1,)}.items():
        monkeypatch.setattr(f"edge.committing.ladder.{name}", value)


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
    disk.answers.clear()
    world.say("charger/p1/telemetry", b'{"energy": 1}', 1)
    await until(disk.hung.is_set)
    world.say("smoke/short/telemetry", LOW, 2)
    world.say("smoke/short/telemetry", WELL, 3)
    for link in world.played.values():
        link.up = False
    world.cut()
    await until(lambda: len(world.node.outbox) == 3)


async def heard_early(world: World) -> None:
    for link in world.played.values():
        link.up = True
    world.connect()
    await until(lambda: "gone" in told_of(world, "short"))


async def heard_once(world: World) -> None:
    await heard_early(world)
    assert await world.node.saved()
    await until(lambda: len(world.node.outbox) == 0)
    assert told_of(world, "short") == ["unacked", "normal", "gone"]
    assert not [topic for topic in world.played[Lane.SAFETY].retained if "/alarm/" in topic]


def test_an_alarm_that_ended_before_its_publication_could_leave_is_heard_after_a_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = FailingDisk(monkeypatch)

    async def scene() -> None:
        async with node_world(tmp_path) as world:
            await raised_and_cleared_while_nobody_takes_it(world, disk)
            disk.answers.set()
            for _ in range(2):  # the batch, and what its commit brought about
                assert await world.node.saved()
        async with node_world(tmp_path) as again:
            await heard_once(again)
            await until(lambda: not rows(tmp_path, "SELECT * FROM outbox"))

    asyncio.run(scene())


def test_so_is_one_that_ended_while_nothing_could_be_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = FailingDisk(monkeypatch)
    monkeypatch.setattr("edge.committing.ladder.HUNG_S", 0.3)

    async def scene() -> None:
        async with node_world(tmp_path) as world:
            await raised_and_cleared_while_nobody_takes_it(world, disk)
            await until(lambda: world.node.commits.storing is Storing.NONE)
            disk.answers.set()
            await until(lambda: world.node.commits.storing is Storing.ALL)
            for _ in range(2):
                assert await world.node.saved()
        async with node_world(tmp_path) as again:
            await heard_once(again)
            await until(lambda: not rows(tmp_path, "SELECT * FROM outbox"))

    asyncio.run(scene())


def test_so_is_one_whose_engine_is_rebuilt_after_a_failed_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = FailingDisk(monkeypatch)

    async def scene() -> None:
        async with node_world(tmp_path) as world:
            await raised_and_cleared_while_nobody_takes_it(world, disk)
            disk.answers.set()
            for _ in range(2):
                assert await world.node.saved()
            disk.fails = 1
            world.connect()
            world.say("charger/p1/telemetry", b'{"energy": 2}', 4)
            await until(lambda: world.played[Lane.BULK].reconnects)
            await heard_once(world)
            await until(lambda: not rows(tmp_path, "SELECT * FROM outbox"))

    asyncio.run(scene())


def test_what_has_left_before_its_commit_is_not_sent_again_after_a_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = FailingDisk(monkeypatch)

    async def scene() -> None:
        async with node_world(tmp_path) as world:
            await raised_and_cleared_while_nobody_takes_it(world, disk)
            await heard_early(world)
            disk.answers.set()
            for _ in range(2):
                assert await world.node.saved()
            assert not rows(tmp_path, "SELECT * FROM outbox")
            assert told_of(world, "short") == ["unacked", "normal", "gone"]

    asyncio.run(scene())


def test_what_ended_while_its_raising_was_being_written_is_not_told_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = FailingDisk(monkeypatch)

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
            assert await world.node.saved()
            await until(lambda: len(world.node.outbox) == 0)
            assert told_of(world, "short") == ["unacked", "normal", "gone"]
            assert not [topic for topic in world.played[Lane.SAFETY].retained if "/alarm/" in topic]
            await until(lambda: not rows(tmp_path, "SELECT * FROM outbox"))

    asyncio.run(scene())


def test_what_a_failed_attempt_would_have_said_again_is_not_said_when_it_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = FailingDisk(monkeypatch)

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
        async with node_world(tmp_path) as again:
            again.connect()
            assert await again.node.saved()
            await until(lambda: len(again.node.outbox) == 0)
            assert told_of(again, "short") == []

    asyncio.run(scene())
