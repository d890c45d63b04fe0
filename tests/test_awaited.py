"""A registered device that nobody has ever heard is missed in its time, and not many times over."""

import asyncio
from pathlib import Path

from devices.documents import parse_yaml
from devices.readings import Channel, Reading
from devices.registry import parse_registry
from edge.shell.explanations import explain
from rules.alarms import AlarmState
from rules.awaited import changed
from rules.decisions import Awaited, ClockStepped, Listening
from rules.state import State
from tests.around_world import REGISTRY, SILENT, T0, Community, at, with_ports
from tests.node_world import node_world

SHED = REGISTRY + with_ports(40)
PORTS = tuple(at("charger", f"shed-1-p{number:03}") for number in range(1, 41))


def awaiting(world: Community, second: float, *ports: int, released: tuple[int, ...] = ()) -> None:
    now = T0 + round(second * 1000)
    world.at(
        second, Awaited(tuple(PORTS[port] for port in ports), tuple(PORTS[port] for port in released), now)
    )


def test_it_is_missed_after_its_silence_and_says_that_it_was_never_heard() -> None:
    world = Community(SILENT, SHED)
    awaiting(world, 5, 0)
    world.at(604.9)
    assert world.said == []
    world.at(700)
    assert world.said_of("silent") == [("raised", "shed-1-p001", 605)]
    assert world.alarm("silent").text == {
        "en": "shed-1-p001 is silent (never heard)",
        "zh": "shed-1-p001 无数据（登记后从未收到数据）",
    }
    told = "\n".join(explain(world.alarm("silent"), "en", "UTC"))
    assert "Nothing was heard of the device since 2026-09-21 14:13:25." in told
    world.hear(800, "charger", "shed-1-p001", voltage=230)
    assert world.said_of("silent")[1:] == [("cleared", "shed-1-p001", 800)]
    world.at(1_400)
    assert world.alarm("silent").text["en"] == "shed-1-p001 is silent"  # as any other from now on


def test_a_new_installation_is_one_alarm_and_a_silence_of_what_was_heard_is_another() -> None:
    world = Community(SILENT, SHED)
    awaiting(world, 0, *range(30))
    for second in range(0, 1_200, 60):
        for port in range(30, 40):
            if port != 39 or second < 300:
                world.hear(second + port / 100, "charger", f"shed-1-p{port + 1:03}", voltage=230)
    world.at(1_200)
    fold = world.alarm("silent", "unheard")
    assert fold.values == {"count": 30, "heard": 40}
    assert fold.text["en"] == "30 of 40 silent (never heard)"
    told = [
        change.alarm.device
        for decision in world.decisions
        for change in decision.changes
        if change.alarm.annunciated and change.transition == "raised"
    ]
    assert told == ["shed-1-p001", "shed-1-p002", "gw-1", "shed-1-p040"]
    assert world.alarm("silent", "shed-1-p040").state is AlarmState.UNACKED  # it is not hidden among them


def test_what_is_taken_from_the_registry_or_not_mounted_yet_is_missed_no_more() -> None:
    world = Community(SILENT, SHED)
    awaiting(world, 0, 0, 1)
    awaiting(world, 10, released=(1,))
    world.at(700)
    assert world.said_of("silent") == [("raised", "shed-1-p001", 600)]
    awaiting(world, 800, released=(0,))
    world.at(5_000)
    assert world.said_of("silent")[1:] == [("cleared", "shed-1-p001", 800)]


def test_it_counts_only_while_the_gateway_listens_and_lives_through_restarts_and_steps_of_the_clock() -> None:
    world = Community(SILENT, SHED)
    awaiting(world, 0, 0)
    world.at(300, Listening(on=False, at=T0 + 300_000))
    world.restart()
    world.at(3_000, Listening(on=True, at=T0 + 3_000_000))
    world.at(3_100, ClockStepped(by_ms=3_600_000, at=T0 + 3_100_000))
    world.restart()
    world.at(3_600 + 3_599)
    assert world.said == []
    world.at(3_600 + 3_600)
    assert [what for what, *_ in world.said] == ["raised"]
    world.restart()
    world.at(20_000)
    assert [what for what, *_ in world.said] == ["raised"]


def test_old_news_of_the_broker_is_no_sign_of_life() -> None:
    world = Community(SILENT, SHED)
    awaiting(world, 0, 0)
    now = T0 + 1_000
    world.at(1, Reading(Channel.STATUS, PORTS[0], {"state": "offline"}, now, now))
    world.at(600)
    assert world.said_of("silent") == [("raised", "shed-1-p001", 600)]


def test_only_what_has_changed_in_the_registry_is_told() -> None:
    world = Community(SILENT, SHED)
    first = changed(world.state, PORTS[:3], T0)
    assert first == Awaited(PORTS[:3], (), T0)
    assert first is not None
    world.at(0, first)
    assert changed(world.state, PORTS[:3], T0 + 1) is None
    world.hear(1, "charger", "shed-1-p001", voltage=230)
    assert changed(world.state, PORTS[1:4], T0 + 2) == Awaited((PORTS[3],), (PORTS[0],), T0 + 2)
    assert changed(State(), (), T0) is None


def test_the_registry_says_what_is_not_mounted_yet() -> None:
    text = "devices: [{id: a, kind: smoke}, {id: b, kind: smoke, mounted: false}, {id: c, kind: smoke, mounted: true}]"
    registry = parse_registry(parse_yaml(text, "r"), "r", "c1")
    assert [str(address) for address in registry.mounted] == ["c1/smoke/a", "c1/smoke/c"]


def test_a_gateway_waits_for_its_registry_and_a_restart_changes_nothing(tmp_path: Path) -> None:
    registry = tmp_path / "devices.yaml"
    registry.write_text("devices: [{id: sm1, kind: smoke}, {id: sm2, kind: smoke}]", encoding="utf-8")

    async def scene() -> None:
        async with node_world(tmp_path / "data", registry=registry) as world:
            world.connect()
            world.say("smoke/sm1/telemetry", b'{"battery": 90}', 1)
            await world.node.commits.drain()
            waited = world.node.intake.state.devices["c1/smoke/sm2"].awaited_since  # type: ignore[index]
            assert waited
            due = {key for _, key, *_ in world.node.intake.state.deadlines if "silent" in key}
            assert due == {"smoke-silent:c1/smoke/sm1", "smoke-silent:c1/smoke/sm2"}
        async with node_world(tmp_path / "data", registry=registry) as again:
            devices = again.node.intake.state.devices
            assert devices["c1/smoke/sm2"].awaited_since == waited  # type: ignore[index]
        registry.write_text("devices: [{id: sm2, kind: smoke, mounted: false}]", encoding="utf-8")
        async with node_world(tmp_path / "data", registry=registry) as third:
            devices = third.node.intake.state.devices
            assert devices["c1/smoke/sm2"].awaited_since == 0  # type: ignore[index]

    (tmp_path / "data").mkdir()
    asyncio.run(scene())
