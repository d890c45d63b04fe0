"""A person orders a device to do something: through the socket, once, and never what is unsafe now."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from devices.kinds import KINDS
from devices.registry import Registry
from devices.topics import Lane
from edge.cli import main
from edge.condition import Condition
from edge.control import ControlServer
from edge.control_client import SOCKET_NAME
from edge.desks.desk import Desk
from edge.refusals import Refusals
from rules.instructions import InstructionError, command_of
from tests.node_world import World, node_world
from tests.waiting import until


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[World]:
    """A connected node whose control socket lies where the command line looks for it."""
    path = folder / "data" / SOCKET_NAME
    path.parent.mkdir()
    async with node_world(folder / "data") as world:
        condition = Condition(world.node, (), version="0", embedded_broker=False)
        desk = Desk(world.node, Registry(), condition, refusals=Refusals(world.node, list))
        world.connect()
        await until(lambda: not world.node.intake.state.catching_up)
        server = asyncio.create_task(ControlServer(path, desk.answer).run())
        await until(path.is_socket)
        try:
            yield world
        finally:
            server.cancel()
            with suppress(asyncio.CancelledError):
                await server


def ordered(world: World, address: str) -> list[str]:
    """The commands that were published to a device."""
    link = world.played[Lane.SAFETY]
    return [
        json.loads(payload)["command"]
        for topic, payload in link.published
        if topic == f"community/c1/{address}/command"
    ]


async def order(*argv: str) -> int:
    return await asyncio.to_thread(main, ["order", *argv, "--by", "Wang"])


@pytest.fixture(autouse=True)
def _at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ANLIN_LANGUAGE", "en")


def test_a_released_door_is_ordered_once_and_kept_with_the_alarm(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def story() -> None:
        async with serving(tmp_path) as world:
            state = {"door": "open", "floor": 1, "fire_recall": False}
            world.say("elevator/l1/telemetry", json.dumps(state).encode(), 1)
            seen = {"type": "new", "track": "a", "label": "ebike", "score": 0.9}
            world.say("elevator/l1/event", json.dumps(seen).encode(), 2)
            await until(lambda: ordered(world, "elevator/l1"))
            assert await order("elevator/l1", "release_door") == 0
            await until(lambda: len(ordered(world, "elevator/l1")) > 1)
            assert ordered(world, "elevator/l1") == ["hold_door", "release_door"]
            [alarm] = world.node.board.values()
            assert alarm.outcome == "released"
            assert json.loads(world.told()[-1])["outcome"] == "released"

    asyncio.run(story())
    assert "ordered: release_door of c1/elevator/l1" in capsys.readouterr().out


def test_what_is_unsafe_is_refused_with_its_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def story() -> None:
        async with serving(tmp_path) as world:
            world.say("elevator/l1/telemetry", b'{"door": "open", "fire_recall": true}', 1)
            world.say("charger/p1/telemetry", b'{"leakage": 500}', 1)
            await until(lambda: "c1/charger/p1" in world.node.intake.state.devices)
            assert await order("elevator/l1", "hold_door", "--arg", "seconds=30") == 1
            await until(lambda: ordered(world, "charger/p1"))
            assert await order("charger/p1", "restore_power") == 1
            assert await order("charger/p9", "restore_power") == 1
            assert await order("elevator/l1", "open_door") == 1
            assert "hold_door" not in ordered(world, "elevator/l1")
            assert ordered(world, "charger/p1") == ["cut_power"]

    asyncio.run(story())
    told = capsys.readouterr().err
    assert "fire_recall is true" in told
    assert "charger-leakage stands, for which cut_power was ordered" in told
    assert "no device c1/charger/p9" in told
    assert "elevator obeys hold_door, release_door, not open_door" in told


@pytest.mark.parametrize(
    ("command", "told", "reason"),
    [
        ("hold_door", {"minutes": "1"}, "hold_door takes seconds, prompt, not minutes"),
        ("hold_door", {"seconds": "121"}, "seconds must be a whole number from 1 to 120"),
        ("hold_door", {"seconds": "-1"}, "seconds must be a whole number from 1 to 120"),
        ("hold_door", {"prompt": "a\nb"}, "prompt must be one line of 1 to 256 characters"),
        ("mute", {}, "elevator obeys hold_door, release_door, not mute"),
    ],
)
def test_arguments_are_checked_as_those_of_a_rule_are(
    command: str, told: dict[str, str], reason: str
) -> None:
    with pytest.raises(InstructionError, match=reason):
        command_of("elevator", command, told)


def test_every_command_of_every_kind_can_be_ordered() -> None:
    for kind in KINDS.values():
        for name, command in kind.commands.items():
            told = dict.fromkeys(command.args, "5")
            given = command_of(kind.name, name, told)
            assert {key: type(value) for key, value in given.items()} == dict(command.args)
