"""The node over stops: when the backlog counts as read, and what a restart after a long time tells."""

import asyncio
import itertools
import json
import time
from contextlib import suppress
from pathlib import Path

import pytest

from devices.readings import Address
from devices.topics import Lane
from edge.broker.backlog import Backlog
from edge.clock import Clock
from edge.mqtt.link import Delivery
from tests.node_world import FastClock, World, ahead, caught_up, node_world, settled
from tests.waiting import PATIENCE_S, until

HOUR_MS = 3_600_000


def after(hours: float) -> Clock:
    """The gateway's clock so much later."""
    return FastClock(int(hours * HOUR_MS))


def board(world: World) -> list[tuple[str, str, bool]]:
    """Rule, device and lateness of what stands."""
    return sorted((alarm.rule, alarm.device, alarm.late) for alarm in world.node.board.values())


def hot(world: World, packet_id: int, temperature: int, ts: int | None = None) -> None:
    said = {"temperature": temperature} | ({} if ts is None else {"ts": ts})
    world.say("charger/p1/telemetry", json.dumps(said).encode(), packet_id)


@pytest.mark.parametrize(
    ("lasted_ms", "stands"),
    [(9_000, []), (30_000, [("charger-hot", "p1", True)])],
    ids=["ended in time", "lasted long enough"],
)
def test_a_delay_that_runs_at_a_crash_is_judged_by_what_waited_in_the_broker(
    tmp_path: Path, lasted_ms: int, stands: list[tuple[str, str, bool]]
) -> None:
    async def scene() -> None:
        async with node_world(tmp_path) as world:
            world.connect(session_present=False)
            await caught_up(world)
            begun = world.node.clock.now_ms()
            hot(world, 1, 70, begun)
            await settled(world)
        async with node_world(tmp_path, clock=after(0.5)) as again:
            await settled(again)
            assert board(again) == []  # the delay is over for long, and nobody knows yet
            again.connect()
            hot(again, 2, 40, begun + lasted_ms)
            await caught_up(again)
            await settled(again)
            assert board(again) == stands
            told = [json.loads(payload) for payload in again.told() if payload]
            assert {alarm["late"] for alarm in told} == ({True} if stands else set())

    asyncio.run(scene())


def test_after_26_hours_with_8_000_devices_no_storm_and_no_forgotten_fire(tmp_path: Path) -> None:
    def everybody(world: World, connection: int, but: int = 0) -> None:
        """A word of each, as fast as the broker can; the first of each kind say nothing any more."""
        safety = [("smoke", b'{"smoke": false}'), ("button", b'{"battery": 90}')]
        bulk = [("charger", b'{"power": 100}'), ("elevator", b'{"stream": "ok"}')]
        for lane, words in ((Lane.SAFETY, safety), (Lane.BULK, bulk)):
            for first in range(but, 2_000, 100):
                deliveries = [
                    Delivery(f"community/c1/{kind}/d{number}/telemetry", said, None, False, False)
                    for kind, said in words
                    for number in range(first, first + 100)
                ]
                world.node.ingest.received(lane, connection, deliveries)

    async def scene() -> None:
        async with node_world(tmp_path) as world:
            everybody(world, world.connect(session_present=False))
            await caught_up(world)
            world.say("smoke/d1/telemetry", b'{"smoke": true}', 1)
            hot(world, 1, 70)
            await settled(world)
            (standing,) = world.node.board
        begun = time.monotonic()
        async with node_world(tmp_path, clock=after(26)) as again:
            assert list(again.node.board) == [standing]
            assert time.monotonic() - begun < 5
            connection = again.connect()
            again.say(
                "smoke/d7/telemetry",
                b'{"smoke": true, "ts": %d}' % (again.node.clock.now_ms() - 9 * HOUR_MS // 10),
                2,
            )
            assert [a.device for a in again.node.intake.state.alarms.values()] == ["d1", "d7"]  # at once
            await caught_up(again)
            await settled(again)
            assert board(again) == [
                ("charger-hot", "p1", True),
                ("charger-warm", "p1", True),
                ("smoke-alarm", "d1", False),
                ("smoke-alarm", "d7", True),
            ]
            everybody(again, connection)
            ahead(again.node.clock, 590_000)
            again.node.intake.tick(again.node.clock.now_ms())
            told = again.node.intake.state.alarms.values()
            assert {alarm.rule for alarm in told} == {"charger-hot", "charger-warm", "smoke-alarm"}
            everybody(again, connection, but=100)
            ahead(again.node.clock, 20_000)
            again.node.intake.tick(again.node.clock.now_ms())
            silent = {a.rule for a in again.node.intake.state.alarms.values() if "silent" in a.rule}
            assert silent == {"charger-silent", "elevator-silent"}  # now they may: ten minutes of listening
            assert len(again.node.intake.state.devices) == 8_001

    asyncio.run(scene())


def test_a_session_that_the_broker_did_not_keep_has_no_backlog(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.broker.backlog.QUIET_S", 2 * PATIENCE_S)
    monkeypatch.setattr("edge.broker.backlog.READ_MOST_S", 2 * PATIENCE_S)

    async def scene() -> None:
        async with node_world(tmp_path) as world:
            world.connect(session_present=False)
            await caught_up(world)

    asyncio.run(scene())


def test_what_devices_say_now_does_not_prolong_the_reading_and_what_waited_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet_s = 1.0
    monkeypatch.setattr("edge.broker.backlog.QUIET_S", quiet_s)
    monkeypatch.setattr("edge.broker.backlog.READ_MOST_S", 2 * PATIENCE_S)

    async def scene() -> None:
        async with node_world(tmp_path) as world:
            world.connect()
            numbers = itertools.count(1)

            def say(ago_ms: int) -> bool:
                hot(world, next(numbers), 20, world.node.clock.now_ms() - ago_ms)
                return not world.node.intake.state.catching_up

            with pytest.raises(TimeoutError):
                await until(lambda: say(60_000), 1.5 * quiet_s)
            ended = time.monotonic()
            await until(lambda: say(1))
            assert time.monotonic() > ended + 0.8 * quiet_s

    asyncio.run(scene())


def test_while_the_broker_is_away_for_long_delays_are_raised_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.broker.backlog.DEAF_MOST_S", 0.3)

    async def scene() -> None:
        async with node_world(tmp_path) as world:
            world.connect(session_present=False)
            await caught_up(world)
            hot(world, 1, 70)
            await settled(world)
        async with node_world(tmp_path, clock=after(1)) as again:
            await until(lambda: board(again) == [("charger-hot", "p1", True), ("charger-warm", "p1", True)])
            again.connect()
            assert again.node.intake.state.catching_up  # and now there may be a backlog after all

    asyncio.run(scene())


def test_a_process_that_stood_still_judges_after_it_has_heard_what_it_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene() -> None:
        async with node_world(tmp_path) as world:
            world.connect(session_present=False)
            await caught_up(world)
            begun = world.node.clock.now_ms()
            world.say("charger/p2/telemetry", b'{"leakage": 40, "ts": %d}' % (begun - 1), 1)
            await settled(world)
            monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: time.monotonic() + 4)
            ahead(world.node.clock, 4_000)  # as after SIGSTOP: the loop and every clock find it later at once
            world.say("charger/p2/telemetry", b'{"leakage": 0, "ts": %d}' % (begun + 2_000), 2)
            await caught_up(world)
            await settled(world)
            assert board(world) == []
            since = world.node.intake.state.listening_since
            assert since is not None
            assert since >= begun + 4_000

    asyncio.run(scene())


def test_the_reading_of_a_backlog_ends_when_it_is_quiet_and_on_disk_or_it_takes_too_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("edge.broker.backlog.QUIET_S", 0.05)
    for name in ("READ_MOST_S", "DEAF_MOST_S", "MOST_S"):
        monkeypatch.setattr(f"edge.broker.backlog.{name}", 2 * PATIENCE_S)

    async def scene() -> None:
        loop = asyncio.get_running_loop()
        read = asyncio.Event()

        def begun() -> tuple[Backlog, float]:
            read.clear()
            backlog = Backlog(read.set)
            backlog.begin()
            return backlog, loop.time()

        def connect(backlog: Backlog) -> None:
            for lane in Lane:
                backlog.connected(lane, kept=True)

        async with asyncio.timeout(PATIENCE_S):
            backlog, since = begun()
            connect(backlog)
            await read.wait()
            assert loop.time() - since > 0.04

            backlog, since = begun()
            connect(backlog)
            backlog.heard(5)
            backlog.on_disk(4)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(read.wait(), 0.2)
            # The disk has it not: the broker may hold back the rest.
            backlog.on_disk(5)
            await read.wait()

            backlog, since = begun()
            backlog.adopting()
            connect(backlog)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(read.wait(), 0.2)
            # Alarms that only the broker remembers are still looked for.
            backlog.adopted()
            await read.wait()

            monkeypatch.setattr("edge.broker.backlog.READ_MOST_S", 0.3)
            monkeypatch.setattr("edge.broker.backlog.DEAF_MOST_S", 0.3)
            for wait_for in (lambda backlog: backlog.heard(5), Backlog.adopting):
                backlog, since = begun()
                connect(backlog)
                wait_for(backlog)
                await read.wait()
                assert loop.time() - since > 0.25

            monkeypatch.setattr("edge.broker.backlog.MOST_S", 0.7)
            backlog, since = begun()
            for _ in range(4):  # each time it would wait for 0.3 s more
                connect(backlog)
                backlog.disconnected(Lane.BULK)
                with suppress(TimeoutError):
                    await asyncio.wait_for(read.wait(), 0.15)
            await read.wait()
            assert loop.time() - since > 0.65

    asyncio.run(scene())


def test_a_lost_connection_is_a_stop_too(tmp_path: Path) -> None:
    async def scene() -> None:
        async with node_world(tmp_path) as world:
            world.connect(session_present=False)
            await caught_up(world)
            begun = world.node.clock.now_ms()
            world.say("charger/p2/telemetry", b'{"leakage": 40, "ts": %d}' % (begun - 5), 1)
            world.cut()
            assert world.node.intake.state.catching_up
            due = world.node.intake.state.devices[Address("c1/charger/p2")].ongoing["charger-leakage"].due
            assert due is not None
            ahead(world.node.clock, due - world.node.clock.now_ms() + 1)
            await settled(world)
            world.connect()
            world.say("charger/p2/telemetry", b'{"leakage": 0, "ts": %d}' % (begun + 1_000), 2)
            await caught_up(world)
            assert board(world) == []

    asyncio.run(scene())
