"""More comes than the node can take, or one device says a thousand messages a second."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from devices.readings import Reading
from devices.topics import Lane
from edge.ingest import HOLD_MOST
from edge.mqtt.link import Delivery
from edge.store.records import Batch, Committed
from edge.store.writer import Writer
from edge.throttle import STATES_MOST
from tests.gateway import Gateway
from tests.node_world import node_world, rows
from tests.servers import Mosquitto
from tests.waiting import eventually, until
from tests.wire import AlarmWatch, Wire

pytestmark = pytest.mark.timed

PER_S = 1_000
BABBLER = "smoke/babbler"
QUIET = {"smoke": False, "temperature": 21.0}


class Babbler:
    """Says ``values`` without end, from a thread and a connection of its own."""

    def __init__(self, port: int) -> None:
        self.values: dict[str, object] = dict(QUIET)
        self.said = 0
        self._port = port
        self._over = threading.Event()

    @contextmanager
    def babbling(self) -> Iterator[None]:
        thread = threading.Thread(target=self._run)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()

    def _run(self) -> None:
        with Wire(self._port) as wire:
            began = time.monotonic()
            while not self._over.wait(0.005):
                while self.said < (time.monotonic() - began) * PER_S:
                    wire.publish(f"{BABBLER}/telemetry", self.values)
                    self.said += 1
            wire.settle()


def test_a_babbling_device_is_throttled_alone_and_reported_and_recovers_and_its_alarm_still_comes(
    tmp_path: Path,
) -> None:
    with (
        Mosquitto.as_shipped() as broker,
        Gateway(tmp_path, broker.port) as gateway,
        AlarmWatch(broker.port) as watch,
        Wire(broker.port) as other,
    ):
        babbler = Babbler(broker.port)
        with babbler.babbling():
            eventually(lambda: "device_throttled" in gateway.reasons())
            begun, loud = time.monotonic(), len(_of(gateway, "babbler"))
            for number in range(200):
                other.publish("charger/other/telemetry", {"voltage": 230.0 + number / 100})
            other.settle()

            babbler.values = {**QUIET, "smoke": True}
            watch.wait_for("babbler", rule="smoke-alarm")
            other.publish("button/b1/event", {"action": "emergency"})
            watch.wait_for("b1")
            eventually(lambda: len(_of(gateway, "other")) == 200)
            took = time.monotonic() - begun
            assert len(_of(gateway, "babbler")) - loud <= (STATES_MOST + 1) * (took + 2)

        [reason] = [each for each in gateway.ask("health")["reasons"] if each["code"] == "device_throttled"]
        assert f"c1/{BABBLER}" in reason["message"]
        eventually(lambda: "device_throttled" not in gateway.reasons())
        eventually(lambda: "not throttled any more" in gateway.stderr)
        assert gateway.stderr.count("says too much") == 1
        assert gateway.stderr.count("not throttled any more") == 1
        other.publish(f"{BABBLER}/telemetry", {**QUIET, "battery": 50})
        eventually(lambda: _of(gateway, "babbler")[-1].values.get("battery") == 50)
        gaps = rows(gateway.data_dir, "SELECT lane, count FROM gaps WHERE reason = 'throttled'")
        assert {lane for lane, _ in gaps} == {"safety"}
        assert len(gaps) <= 3
        lost = sum(int(str(count)) for _, count in gaps)
        assert len(_of(gateway, "babbler")) + lost == babbler.said + 1


def test_while_a_backlog_of_telemetry_waits_for_the_disk_safety_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = threading.Event()
    commit = Writer.commit

    def hanging(writer: Writer, batch: Batch) -> Committed:
        disk.wait(15)
        return commit(writer, batch)

    async def scene() -> None:
        async with node_world(tmp_path) as world:
            connection = world.connect()
            monkeypatch.setattr(Writer, "commit", hanging)
            for qos in (1, 0):
                disk.clear()
                for start in range(0, HOLD_MOST + 1, 1_000):
                    world.node.ingest.received(
                        Lane.BULK,
                        connection,
                        [
                            Delivery(
                                f"community/c1/charger/p{number % 100}/telemetry",
                                b'{"energy": %d}' % number,
                                number + 1 if qos else None,
                                False,
                                False,
                            )
                            for number in range(start, start + 1_000)
                        ],
                    )
                assert world.played[Lane.BULK].paused
                world.say("button/b1/event", b'{"action": "emergency"}', 1)
                assert not world.played[Lane.SAFETY].paused
                disk.set()
                await until(lambda: not world.played[Lane.BULK].paused)
                await until(world.told)
            assert len(world.readings()) == 2 * (len(range(0, HOLD_MOST + 1, 1_000)) * 1_000 + 1)

    asyncio.run(scene())


def test_a_flood_of_which_nothing_is_kept_stops_no_reading_for_long(tmp_path: Path) -> None:
    async def scene() -> None:
        async with node_world(tmp_path, commit_ms=20) as world:
            connection = world.connect()
            await world.node.saved()
            foreign = Delivery("community/c1/gateway/gw-2/status", b"online", None, False, False)
            world.node.ingest.received(Lane.SAFETY, connection, [foreign] * 2 * HOLD_MOST)
            await until(lambda: not world.played[Lane.SAFETY].paused)
            assert world.node.commits.held(Lane.SAFETY) == 0

    asyncio.run(scene())


def _of(gateway: Gateway, device: str) -> list[Reading]:
    return [each for each in gateway.readings() if each.address.endswith(f"/{device}")]
