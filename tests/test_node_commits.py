"""From a delivery to its acknowledgement: batches, redelivery, and what happens when the disk says no."""

import asyncio
import json
from collections import Counter
from pathlib import Path

import pytest

from devices.topics import Lane
from edge.mqtt.link import Connected
from edge.store.errors import StoreError
from edge.store.records import DeadLetter, GapReason
from tests.node_world import FailingDisk, World, hung, node_world, rows
from tests.servers import Mosquitto
from tests.waiting import until
from tests.wire import AlarmWatch, Wire, retained_alarms

PRESS = b'{"action": "emergency"}'
SMOKE = b'{"smoke": true}'


def test_an_acknowledgement_follows_the_commit_in_the_order_of_arrival(tmp_path: Path) -> None:
    async def scene() -> None:
        async with node_world(tmp_path, commit_ms=5_000) as world:
            connection = world.connect()
            link = world.played[Lane.BULK]
            for packet_id in (7, 3, 9):
                world.say("charger/p1/telemetry", b'{"energy": %d}' % packet_id, packet_id)
            await asyncio.sleep(0)
            assert link.acknowledged == []
            world.say("button/b1/event", PRESS, 1)  # an event closes the batch at once
            await until(lambda: link.acknowledged)
            assert link.acknowledged == [(connection, 7), (connection, 3), (connection, 9)]
            assert world.played[Lane.SAFETY].acknowledged == [(connection, 1)]
            assert [each.values for each in world.readings()] == [
                {"energy": 7}, {"energy": 3}, {"energy": 9}, {"action": "emergency"},
            ]  # fmt: skip

    asyncio.run(scene())


def test_a_batch_closes_at_half_the_smaller_receive_maximum(tmp_path: Path) -> None:
    async def scene() -> None:
        async with node_world(tmp_path, commit_ms=5_000) as world:
            world.connect()
            link = world.played[Lane.BULK]
            world.node.ingest.connected(Connected(Lane.SAFETY, 2, session_present=True, receive_maximum=20))
            for packet_id in range(1, 8):
                world.say("charger/p1/telemetry", b'{"energy": %d}' % packet_id, packet_id)
            await asyncio.to_thread(world.readings)  # time for what must not happen
            assert link.acknowledged == []
            for packet_id in range(8, 12):
                world.say("charger/p1/telemetry", b'{"energy": %d}' % packet_id, packet_id)
            await until(lambda: len(link.acknowledged) >= 8)

    asyncio.run(scene())


def test_a_batch_closes_at_two_thousand_messages(tmp_path: Path) -> None:
    async def scene() -> None:
        async with node_world(tmp_path, commit_ms=60_000) as world:
            world.connect()  # half of what the broker may send is more than that
            link = world.played[Lane.BULK]
            for packet_id in range(1, 1_981):
                world.say(f"charger/p{packet_id % 20}/telemetry", b'{"energy": 1}', packet_id)
            await asyncio.to_thread(world.readings)  # time for what must not happen
            assert link.acknowledged == []
            for packet_id in range(1_981, 2_001):  # what the node itself had to say at its start counts, too
                world.say(f"charger/p{packet_id % 20}/telemetry", b'{"energy": 1}', packet_id)
            await until(lambda: link.acknowledged)
            assert 1_980 < len(link.acknowledged) == len(world.readings()) <= 2_000

    asyncio.run(scene())


@pytest.mark.parametrize("crash", [False, True], ids=["after a reconnect", "after a crash"])
def test_a_redelivery_of_what_is_on_disk_is_acknowledged_and_not_taken_again(
    tmp_path: Path, crash: bool
) -> None:
    async def scene() -> None:
        async with node_world(tmp_path) as world:
            world.connect(session_present=False)
            world.say("button/b1/event", PRESS, 5)
            await until(lambda: world.played[Lane.SAFETY].acknowledged)
            if not crash:
                world.cut()
                await again(world)
        if crash:
            async with node_world(tmp_path) as world:
                await again(world)

    async def again(world: World) -> None:
        connection = world.connect()
        world.say("button/b1/event", PRESS, 5, dup=True)
        await until(lambda: (connection, 5) in world.played[Lane.SAFETY].acknowledged)
        assert len(world.readings()) == 1
        (alarm,) = world.node.board.values()
        assert (alarm.occurrences, alarm.version) == (1, 1)
        world.say("button/b1/event", PRESS, 5)  # no DUP: a second press
        await until(lambda: len(world.readings()) == 2)
        world.say("button/b1/event", b'{"action": "cancel"}', 5, dup=True)  # DUP, but not what we have seen
        await until(lambda: len(world.readings()) == 3)

    asyncio.run(scene())


def test_in_a_new_session_nothing_is_a_redelivery(tmp_path: Path) -> None:
    async def scene() -> None:
        async with node_world(tmp_path) as world:
            world.connect()
            world.say("button/b1/event", PRESS, 5)
            await until(lambda: world.played[Lane.SAFETY].acknowledged)
            world.cut()
            world.connect(session_present=False)
            world.say("button/b1/event", PRESS, 5, dup=True)
            await until(lambda: len(world.readings()) == 2)
        async with node_world(tmp_path) as world:
            world.connect(session_present=False)
            world.say("button/b1/event", PRESS, 5, dup=True)
            await until(lambda: len(world.readings()) == 3)

    asyncio.run(scene())


def test_a_redelivery_before_the_commit_is_not_taken_twice(tmp_path: Path, disk: FailingDisk) -> None:
    """The disk is so slow that the broker comes back first."""

    async def scene() -> None:
        async with node_world(tmp_path) as world:
            world.connect()
            await world.node.saved()
            await hung(world, disk, "button/b1/event", PRESS, 5)
            world.say("charger/p1/telemetry", b'{"energy": 1}', 6)  # in the batch after it
            world.cut()
            connection = world.connect()
            world.say("button/b1/event", PRESS, 5, dup=True)
            world.say("charger/p1/telemetry", b'{"energy": 1}', 6, dup=True)
            disk.answers.set()
            await until(lambda: (connection, 6) in world.played[Lane.BULK].acknowledged)
            await until(lambda: (connection, 5) in world.played[Lane.SAFETY].acknowledged)
            assert len(world.readings()) == 2
            assert [alarm.occurrences for alarm in world.node.board.values()] == [1]

    asyncio.run(scene())


# --- a commit fails -----------------------------------------------------------------------------------------


def test_after_a_single_failed_commit_everything_comes_again_and_counts_once(
    tmp_path: Path, disk: FailingDisk
) -> None:
    async def scene(broker: Mosquitto, device: Wire, watch: AlarmWatch) -> None:
        async with node_world(tmp_path, broker_port=broker.port, commit_ms=250) as world:
            node = world.node
            await until(lambda: node.lanes_up == set(Lane))
            await asyncio.to_thread(device.publish, "smoke/before/telemetry", SMOKE)
            await until(lambda: len(node.board) == 1)
            disk.fails = 1
            for number in range(500):
                device.publish(f"charger/p{number % 10}/telemetry", {"energy": number})
            device.publish("smoke/sm1/telemetry", SMOKE)
            device.publish("button/bt1/event", PRESS)
            await until(lambda: len(node.board) == 3)
            await until(lambda: len(world.readings()) >= 503)
            assert world.journal.failures == 1
            assert Counter(
                each.values["energy"] for each in world.readings() if "energy" in each.values
            ) == Counter(range(500))
            assert len(world.readings()) == 503
            assert {alarm.occurrences for alarm in node.board.values()} == {1}
            await until(lambda: len(node.outbox) == 0)
            assert {told.id for told in watch.told} == node.board.keys()
            assert retained_alarms(broker.port) == {
                alarm.id: json.loads(alarm.wire()) for alarm in node.board.values()
            }

    with Mosquitto.as_shipped() as broker, Wire(broker.port) as device, AlarmWatch(broker.port) as watch:
        asyncio.run(scene(broker, device, watch))


def test_what_nobody_would_say_again_outlives_a_failed_commit(tmp_path: Path, disk: FailingDisk) -> None:
    """Dead letters, losses, positions, what became of orders: they come from no broker."""

    async def scene() -> None:
        async with node_world(tmp_path) as world:
            world.connect()
            world.say("smoke/sm1/telemetry", SMOKE, 1)
            await until(lambda: len(world.told()) == 1)
            await world.node.saved()
            disk.fails = 1
            node = world.node
            node.intake.batch.dead_letters.append(DeadLetter(1, "readings", "line", 400, "no"))
            node.advance("readings", 7)
            node.lost("bulk", 3, 1, 2, GapReason.BROKER_DROPPED)
            with pytest.raises(StoreError):
                await node.saved()
            await until(lambda: not node.deaf)
            assert await node.saved()
            assert world.played[Lane.SAFETY].reconnects

    asyncio.run(scene())
    assert rows(tmp_path, "SELECT line FROM dead_letters") == [("line",)]
    assert rows(tmp_path, "SELECT count, reason FROM gaps") == [(3, "broker_dropped")]
    assert rows(tmp_path, "SELECT seq FROM positions WHERE name = 'readings'") == [(7,)]


def test_a_batch_with_an_alarm_is_tried_once_more_as_it_is(tmp_path: Path, disk: FailingDisk) -> None:
    async def scene() -> None:
        async with node_world(tmp_path) as world:
            world.connect()
            await world.node.saved()
            disk.fails = 1
            world.say("smoke/sm1/telemetry", SMOKE, 1)
            await until(lambda: world.node.board)
            (alarm_id,) = world.node.board
            disk.fails = 1
            acked = await world.node.people.acknowledge(alarm_id, "Li", "")
            assert acked is not None
            assert (acked.acked_by, acked.version, acked.durable) == ("Li", 2, True)
            assert world.played[Lane.SAFETY].reconnects == []
            assert world.journal.failures == 2
            assert len(world.readings()) == 1

    asyncio.run(scene())
    assert rows(tmp_path, "SELECT transition FROM alarm_changes ORDER BY number") == [("raised",), ("acked",)]
