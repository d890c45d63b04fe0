"""The gateway begins with a damaged journal, and goes on where one is found damaged while it runs."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from devices.topics import Lane
from edge.health import Code
from edge.store.reader import JournalReader
from edge.store.records import GapReason
from edge.store.schema import FILE
from tests.gateway import Gateway
from tests.node_world import node_world
from tests.servers import Mosquitto
from tests.waiting import eventually, until
from tests.wire import Wire

pytestmark = pytest.mark.timed


def head(data: bytes) -> bytes:
    return b"\xff" * 16 + data[16:]


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def nothing(data: bytes) -> bytes:
    return b"\0" * len(data)


@pytest.mark.parametrize("harm", [head, half, nothing])
def test_the_gateway_starts_on_a_damaged_journal_and_says_what_it_did(harm: object, tmp_path: Path) -> None:
    assert callable(harm)
    with Mosquitto.as_shipped() as broker, Gateway(tmp_path / "gw", broker.port) as gateway:
        with Wire(broker.port) as device:
            device.publish("smoke/sm1/telemetry", {"smoke": True})
            eventually(gateway.board)
            for number in range(50):
                device.publish(f"charger/p{number}/telemetry", {"temperature": 20})
            device.settle()
        gateway.terminate()
        journal = gateway.data_dir / FILE
        damaged = harm(journal.read_bytes())
        journal.write_bytes(damaged)
        gateway.start()
        gateway.wait_listening()
        eventually(lambda: "store_damaged" in gateway.reasons())
        assert (gateway.data_dir / "journal.damaged-1.db").read_bytes() == damaged
        with JournalReader(journal) as reader:
            assert GapReason.STORE_DAMAGED in {gap.reason for _, gap in reader.gaps_after(0, 10)}
        with Wire(broker.port) as device:
            device.publish("smoke/sm2/telemetry", {"smoke": True})
            eventually(lambda: any(alarm["device"] == "sm2" for alarm in gateway.board().values()))


def test_damage_that_a_reader_finds_is_mended_while_the_gateway_runs(tmp_path: Path) -> None:
    async def scene() -> None:
        async with node_world(tmp_path) as world:
            world.connect()
            world.say("smoke/sm1/telemetry", b'{"smoke": true}', 1)
            await until(lambda: world.node.board)
            [standing] = world.node.board.values()
            await world.node.commits.drain()
            with closing(sqlite3.connect(tmp_path / FILE)) as harm:
                harm.execute("UPDATE batches SET body = x'0100' WHERE seq = (SELECT min(seq) FROM batches)")
                harm.commit()
            await world.node.rebuilding.mend("batch 1 makes no sense")
            await until(lambda: world.played[Lane.SAFETY].reconnects)
            assert Code.STORE_DAMAGED in {reason.code for reason in world.node.troubles.reasons()}
            assert (tmp_path / "journal.damaged-1.db").exists()
            world.connect()
            world.say("smoke/sm2/telemetry", b'{"smoke": true}', 2)
            await until(lambda: len(world.node.board) > 1)
            assert standing.id in world.node.board
            await world.node.commits.drain()
        with JournalReader(tmp_path / FILE) as reader:
            assert {alarm.device for alarm in reader.standing_alarms()} >= {"sm1", "sm2"}

    asyncio.run(scene())
