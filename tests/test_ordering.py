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
from tests.node_world import World, caught_up, node_world
from tests.waiting import until


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[World]:
    """A connected node whose control socket lies where the command line looks for it."""
    path = folder / "data" / SOCKET_NAME
    path.parent.mkdir()
    async with node_world(folder / "data") as world:
        condition = Condition(world.node, (), version="0", embedded_broker=False)
        desk = Desk(world.node, Registry(), condition, refusals=Refusals(world.node, {}))
        world.connect()
        await caught_up(world)
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


async def hear(world: World, address: str, telemetry: bytes, packet_id: int = 1) -> None:
    """What a device says has been heard."""
    world.say(f"{address}/telemetry", telemetry, packet_id)
    await until(lambda: f"c1/{address}" in world.node.intake.state.devices)


async def order(*argv: str, wait: str = "0") -> int:
    return await asyncio.to_thread(main, ["order", *argv, "--by", "Wang", "--wait", wait])


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
            assert await order("elevator/l1", "release_door", wait="0.5") == 0
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
            await hear(world, "charger/p1", b'{"leakage": 500}')
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


@pytest.mark.parametrize(
    ("status", "code", "en"),
    [
        ("done", 0, "done (ok [2J)"),
        ("rejected", 1, "rejected by the device (ok [2J)"),
        ("failed", 1, "failed at the device (ok [2J)"),
    ],
)
def test_an_order_says_what_the_device_answered_and_nothing_of_it_steers_the_terminal(
    status: str, code: int, en: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def story() -> None:
        async with serving(tmp_path) as world:
            await hear(world, "charger/p1", b'{"power": 5}')
            given = asyncio.create_task(order("charger/p1", "cut_power", wait="20"))
            await until(lambda: ordered(world, "charger/p1"))
            [sent] = [
                body for topic, body in world.played[Lane.SAFETY].published if topic.endswith("/command")
            ]
            result = {"command_id": json.loads(sent)["id"], "status": status, "detail": "ok\x1b[2J"}
            world.say("charger/p1/command/result", json.dumps(result).encode(), 2)
            assert await given == code

    asyncio.run(story())
    out, err = capsys.readouterr()
    assert en in out
    assert err == ""
    assert main(["orders"]) == 0
    listed = capsys.readouterr().out
    assert f"charger/p1 cut_power  by Wang  {en}" in listed
    assert main(["orders", "--json", listed.split()[0]]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["status"], told["by"], told["detail"], told["alarm_id"]) == (
        status,
        "Wang",
        "ok\x1b[2J",
        None,
    )
    assert main(["orders", "X"]) == 1
    assert capsys.readouterr().err == "anlin: no order X in the journal: see `anlin orders`\n"


@pytest.mark.parametrize("detail", ["", " "])
def test_a_device_that_answers_without_words_leaves_no_empty_brackets(
    detail: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def story() -> None:
        async with serving(tmp_path) as world:
            await hear(world, "charger/p1", b'{"power": 5}')
            given = asyncio.create_task(order("charger/p1", "cut_power", wait="20"))
            await until(lambda: ordered(world, "charger/p1"))
            [sent] = [
                body for topic, body in world.played[Lane.SAFETY].published if topic.endswith("/command")
            ]
            result = {"command_id": json.loads(sent)["id"], "status": "done", "detail": detail}
            world.say("charger/p1/command/result", json.dumps(result).encode(), 2)
            assert await given == 0

    asyncio.run(story())
    assert capsys.readouterr().out.endswith(": done\n")
    assert main(["orders"]) == 0
    assert capsys.readouterr().out.endswith("  done\n")


@pytest.mark.parametrize(
    ("language", "by", "comment", "told"),
    [
        ("en", "", "", "by must be a name of 1 to 64 characters"),
        ("en", " ", "", "by must be a name of 1 to 64 characters"),
        ("zh", "王" * 65, "", "--by 须为 1 至 64 个字符的姓名"),
        ("en", "Wang", "x" * 501, "comment must have at most 500 characters"),
        ("zh", "王", "字" * 501, "--comment 最多 500 个字符"),
    ],
)
@pytest.mark.parametrize("verb", [["order", "charger/p1", "cut_power"], ["alarms", "ack", "X"]])
def test_who_is_not_named_or_says_too_much_is_told_so_in_words(
    language: str,
    by: str,
    comment: str,
    told: str,
    verb: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("ANLIN_LANGUAGE", language)

    async def story() -> None:
        async with serving(tmp_path) as world:
            await hear(world, "charger/p1", b'{"power": 5}')
            assert await asyncio.to_thread(main, [*verb, "--by", by, "--comment", comment]) == 1
            assert ordered(world, "charger/p1") == []

    asyncio.run(story())
    assert capsys.readouterr().err == f"anlin: {told}\n"


@pytest.mark.parametrize(
    ("language", "offline", "unheard", "later"),
    [
        (
            "en",
            "charger/p1 is offline",
            "siren/s1 was never heard",
            "sent, no answer yet; later: `anlin orders",
        ),
        ("zh", "charger/p1 离线", "从未收到 siren/s1 的数据", "已发出，设备尚未答复；稍后用 `anlin orders"),
    ],
)
def test_who_will_hardly_hear_an_order_is_named(
    language: str,
    offline: str,
    unheard: str,
    later: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ANLIN_LANGUAGE", language)

    async def story() -> None:
        async with serving(tmp_path) as world:
            world.say("charger/p1/telemetry", b'{"power": 5}', 1)
            world.say("charger/p1/status", b"offline", 2)
            world.say("siren/s1/status", b"online", 3, retain=True)
            await until(lambda: "c1/siren/s1" in world.node.intake.state.devices)
            assert await order("charger/p1", "cut_power", wait="0.5") == 0
            assert await order("siren/s1", "sound", wait="0.5") == 0

    asyncio.run(story())
    out, err = capsys.readouterr()
    assert offline in err
    assert unheard in err
    assert out.count(later) == 2


def test_an_order_that_the_broker_has_not_is_no_success(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def story() -> None:
        async with serving(tmp_path) as world:
            await hear(world, "charger/p1", b'{"power": 5}')
            world.played[Lane.SAFETY].up = False
            assert await order("charger/p1", "cut_power") == 1

    asyncio.run(story())
    assert "not sent yet; later: `anlin orders" in capsys.readouterr().out


def test_a_mistyped_order_is_told_what_was_probably_meant(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def story() -> None:
        async with serving(tmp_path) as world:
            world.say("charger/shed2-p01/telemetry", b'{"power": 5}', 1)
            await hear(world, "button/b1", b'{"battery": 50}', 2)
            for argv in MISTYPED:
                assert await order(*argv) == 1

    asyncio.run(story())
    told = capsys.readouterr().err.splitlines()
    assert told == [f"anlin: {line}" for line in MISTYPED.values()]


MISTYPED = {
    ("shed2-p01", "cut_power"): "shed2-p01: say KIND/DEVICE, e.g. charger/shed1-p01",
    ("chargr/shed2-p01", "cut_power"): "there is no kind chargr; did you mean charger?",
    ("charger/shed2-p1", "cut_power"): "no device c1/charger/shed2-p1; did you mean charger/shed2-p01?",
    ("charger/shed2-p01", "cut_powr"): (
        "charger obeys cut_power, restore_power, not cut_powr; did you mean cut_power?"
    ),
    ("button/b1", "prompt"): "prompt needs text: say --arg text=…",
}
