"""When the bulk session may connect."""

import asyncio
import threading
import time
from pathlib import Path

import pytest

from edge.broker import safety_first
from edge.broker.safety_first import BACKLOG_MOST_S, SafetyFirst
from tests.gateway import Gateway, said_at
from tests.node_world import node_world
from tests.servers import Mosquitto
from tests.waiting import until
from tests.wire import Wire

pytestmark = pytest.mark.timed


def waited_s(first: SafetyFirst) -> float:
    begun = time.monotonic()
    asyncio.run(first.turn())
    return time.monotonic() - begun


def event(*, is_set: bool) -> asyncio.Event:
    made = asyncio.Event()
    if is_set:
        made.set()
    return made


def test_bulk_waits_for_the_safety_session_and_until_what_waited_in_it_has_been_read() -> None:
    async def scene() -> None:
        online, read = asyncio.Event(), asyncio.Event()
        turn = asyncio.create_task(SafetyFirst(online, read).turn())
        await asyncio.sleep(0)
        online.set()
        await asyncio.sleep(0)
        assert not turn.done()
        read.set()
        await until(turn.done)

    asyncio.run(scene())


def test_a_safety_session_that_was_read_before_keeps_bulk_from_nothing() -> None:
    assert waited_s(SafetyFirst(event(is_set=True), event(is_set=True))) < BACKLOG_MOST_S


def test_where_the_own_words_never_come_back_bulk_waits_no_longer_than_agreed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(safety_first, "BACKLOG_MOST_S", 0.3)
    assert 0.3 <= waited_s(SafetyFirst(event(is_set=True), event(is_set=False))) < BACKLOG_MOST_S


def test_a_safety_session_that_cannot_come_up_does_not_keep_bulk_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(safety_first, "ABSENT_MOST_S", 0.1)
    assert waited_s(SafetyFirst(event(is_set=False), event(is_set=False))) >= 0.1


def test_a_safety_session_that_goes_again_frees_bulk_at_once(tmp_path: Path) -> None:
    async def scene() -> None:
        async with node_world(tmp_path) as world:
            world.connect()
            assert not world.node.ingest.safety_read.is_set()
            world.cut()
            assert world.node.ingest.safety_read.is_set()

    asyncio.run(scene())


def test_smoke_sensors_that_never_pause_do_not_keep_bulk_waiting(tmp_path: Path) -> None:
    enough = threading.Event()

    def speak(port: int) -> None:
        with Wire(port) as sensors:
            while not enough.wait(0.02):
                sensors.publish("smoke/sm1/telemetry", {"smoke": False})
                sensors.settle()

    with (
        Mosquitto.as_shipped() as broker,
        Gateway(tmp_path / "gw", broker.port, log={"level": "info"}) as gateway,
    ):
        speaker = threading.Thread(target=speak, args=(broker.port,))
        speaker.start()
        try:
            gateway.kill9()
            before = len(gateway.stderr)
            gateway.launch()
            gateway.wait_listening()
            told = gateway.stderr[before:]
            safety, bulk = (said_at(told, f"msg=connected lane={lane}") for lane in ("safety", "bulk"))
            assert bulk - safety < BACKLOG_MOST_S
        finally:
            enough.set()
            speaker.join()
