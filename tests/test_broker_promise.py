"""What the broker keeps for an absent gateway, what it does not, and whether the gateway finds that out."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from devices.readings import Channel
from edge.broker.broker_watch import LEAST_RECEIVE_MAXIMUM
from tests.gateway import ROOT, Gateway, said_at
from tests.node_world import FullDisk, node_world, rows
from tests.servers import SHIPPED, Mosquitto
from tests.waiting import eventually, until
from tests.wire import AlarmWatch, Wire

pytestmark = pytest.mark.timed

UNCONFIGURED = """
listener {port} 127.0.0.1
allow_anonymous true
sys_interval 1
"""
"""Mosquitto's defaults: 20 in flight, 1,000 waiting, nothing persistent. Only the listener is needed for a test,
and the look at itself once a second instead of every ten."""

AWAY = 5_000
BACKLOG = 200_000


@pytest.fixture
def unconfigured() -> Iterator[Mosquitto]:
    with Mosquitto(UNCONFIGURED) as broker:
        yield broker


@pytest.fixture
def shipped() -> Iterator[Mosquitto]:
    with Mosquitto.as_shipped() as broker:
        yield broker


def gaps(gateway: Gateway) -> list[tuple[object, ...]]:
    """Lane, count, from, to and reason of each, as they stand on the disk."""
    return rows(gateway.data_dir, "SELECT lane, count, from_ms, to_ms, reason FROM gaps ORDER BY id")


def said_while_away(gateway: Gateway, broker: Mosquitto) -> None:
    """`AWAY` readings, each of its own, an emergency press the last; the broker has acknowledged them all."""
    with Wire(broker.port) as devices:
        for number in range(AWAY):
            devices.publish(f"charger/p{number % 100}/telemetry", {"energy": number}, number)
        devices.publish("button/bt1/event", {"action": "emergency"}, "press")
        devices.settle()
        assert len(devices.acknowledged) == AWAY + 1
    assert gateway.process is None


def stored(gateway: Gateway) -> int:
    return sum(reading.channel is Channel.TELEMETRY for reading in gateway.readings())


def message(gateway: Gateway, code: str) -> str:
    for reason in gateway.ask("health")["reasons"]:
        if reason["code"] == code:
            return str(reason["message"])
    return ""


# --- what it dropped ----------------------------------------------------------------------------------------


def test_what_an_unconfigured_mosquitto_drops_is_found_counted_and_said(
    unconfigured: Mosquitto, tmp_path: Path
) -> None:
    with Gateway(tmp_path / "gw", unconfigured.port) as gateway:
        assert "20 messages" in eventually(lambda: message(gateway, "broker_limits"))
        eventually(lambda: rows(gateway.data_dir, "SELECT seq FROM positions WHERE name = 'broker.dropped'"))
        left_at = time.time_ns() // 1_000_000
        gateway.terminate()
        said_while_away(gateway, unconfigured)
        gateway.start()
        eventually(lambda: gaps(gateway))
        eventually(lambda: stored(gateway) + sum(int(str(gap[1])) for gap in gaps(gateway)) == AWAY)
        assert stored(gateway) < AWAY
        assert {(gap[0], gap[4]) for gap in gaps(gateway)} == {("any", "broker_dropped")}
        assert all(left_at - 2_000 <= int(str(gap[2])) < int(str(gap[3])) for gap in gaps(gateway))
        lost = sum(int(str(gap[1])) for gap in gaps(gateway))
        assert f"for want of room: {lost:,}" in message(gateway, "broker_dropped")
        found = gaps(gateway)
        gateway.restart()
        with Wire(unconfigured.port) as device:
            device.publish("button/bt2/event", {"action": "emergency"})
            eventually(lambda: any(each["device"] == "bt2" for each in gateway.board().values()))
        assert gaps(gateway) == found  # a restart finds nothing twice


def test_with_the_shipped_configuration_nothing_is_dropped(shipped: Mosquitto, tmp_path: Path) -> None:
    with Gateway(tmp_path / "gw", shipped.port) as gateway:
        gateway.terminate()
        said_while_away(gateway, shipped)
        gateway.start()
        eventually(lambda: stored(gateway) == AWAY)
        eventually(lambda: any(each["device"] == "bt1" for each in gateway.board().values()))
        assert gaps(gateway) == []
        eventually(lambda: gateway.reasons() == set())


def test_every_line_of_the_shipped_configuration_has_its_reason() -> None:
    told, settings = False, {}
    for line in SHIPPED.read_text().splitlines():
        if line and not line.startswith("#"):
            name, value = line.split()
            assert told, f"{name} stands without a reason"
            settings[name] = value
        told = line.startswith("# ") and not line.startswith("# ---")
    assert settings["persistence"] == "true"
    assert settings["autosave_interval"] == "30"
    for limit in ("max_inflight_messages", "max_queued_messages", "max_queued_bytes"):
        assert int(settings[limit]) >= LEAST_RECEIVE_MAXIMUM  # 0 would mean that there is none


# --- sessions that are no more ------------------------------------------------------------------------------


def test_a_session_that_a_killed_broker_has_forgotten_is_a_loss_that_is_said(
    shipped: Mosquitto, tmp_path: Path
) -> None:
    """Killed before it has written its database for the first time, it knows nobody."""
    with Gateway(tmp_path / "gw", shipped.port) as gateway:
        assert gaps(gateway) == []  # the first start ever is no loss
        with Wire(shipped.port) as device:
            device.publish("charger/p1/telemetry", {"energy": 1})
            eventually(lambda: stored(gateway) == 1)
        shipped.kill9()
        shipped.start()
        eventually(lambda: len(gaps(gateway)) == 2)
        assert {gap[0] for gap in gaps(gateway)} == {"safety", "bulk"}
        assert {(gap[1], gap[4]) for gap in gaps(gateway)} == {(0, "session_lost")}
        assert all(int(str(gap[2])) < int(str(gap[3])) for gap in gaps(gateway))
        gateway.wait_listening()
        assert "since" in message(gateway, "session_lost")
        shipped.restart()  # in good order: the sessions are there again
        eventually(lambda: "session_lost" not in gateway.reasons() and "broker_away" not in gateway.reasons())
        assert len(gaps(gateway)) == 2


def test_a_session_that_went_while_the_gateway_was_down_is_a_loss_too(
    shipped: Mosquitto, tmp_path: Path
) -> None:
    with Gateway(tmp_path / "gw", shipped.port) as gateway:
        with Wire(shipped.port) as device:
            device.publish("charger/p1/telemetry", {"energy": 1})
            eventually(lambda: stored(gateway) == 1)
        gateway.kill9()
        shipped.kill9()
        shipped.start()
        gateway.start()
        eventually(lambda: len(gaps(gateway)) == 2)
        eventually(lambda: gateway.reasons() == {"session_lost"})


@pytest.fixture
def talkative() -> Iterator[Mosquitto]:
    """As shipped, but it looks at itself every second and saves only when the test says so."""
    broker = Mosquitto.as_shipped()
    broker.config = broker.config.replace("\nsys_interval 10\n", "\nsys_interval 1\n")
    broker.config = broker.config.replace("\nautosave_interval 30\n", "\nautosave_interval 1800\n")
    with broker:
        yield broker


def save(broker: Mosquitto) -> None:
    """SIGUSR1: write the database now."""
    database = broker.folder / "mosquitto.db"
    before = database.stat().st_mtime_ns if database.exists() else 0
    os.kill(broker.pid, signal.SIGUSR1)
    eventually(lambda: database.exists() and database.stat().st_mtime_ns != before and not unfinished(broker))


def unfinished(broker: Mosquitto) -> bool:
    return (broker.folder / "mosquitto.db.new").exists()


def judged(gateway: Gateway) -> bool:
    """Both lanes are as old as they were: what they lack before now would be said."""
    found = set(rows(gateway.data_dir, "SELECT name, seq FROM positions WHERE name <> 'broker.dropped'"))
    return {("session.safety", 0), ("session.bulk", 0)} < found and ("broker.farewell", 0) not in found


def say(broker: Mosquitto, energy: int) -> None:
    with Wire(broker.port) as device:
        device.publish("charger/p1/telemetry", {"energy": energy})
        device.settle()


def test_a_session_that_comes_back_older_than_it_was_is_a_loss_that_is_said(
    talkative: Mosquitto, tmp_path: Path
) -> None:
    with Gateway(tmp_path / "gw", talkative.port) as gateway:
        eventually(lambda: judged(gateway))
        save(talkative)
        gateway.kill9()
        said_at = time.time_ns() // 1_000_000
        say(talkative, 1)
        talkative.kill9()
        talkative.start()
        gateway.start()
        eventually(lambda: len(gaps(gateway)) == 2)
        assert {(gap[0], gap[1], gap[4]) for gap in gaps(gateway)} == {
            ("safety", 0, "session_lost"),
            ("bulk", 0, "session_lost"),
        }
        assert all(int(str(gap[2])) < said_at + 1_000 < int(str(gap[3])) + 3_000 for gap in gaps(gateway))
        assert stored(gateway) == 0
        assert "without having saved" in eventually(lambda: message(gateway, "session_lost"))
        eventually(lambda: judged(gateway))
        talkative.kill9()  # and again, while the gateway is there
        talkative.start()
        eventually(lambda: len(gaps(gateway)) == 4)


def occurrences(gateway: Gateway) -> dict[str, int]:
    return {alarm["key"]: alarm["occurrences"] for alarm in gateway.of_devices().values()}


def test_what_a_killed_broker_brings_anew_is_known_by_id_or_time_and_else_counts(
    talkative: Mosquitto, tmp_path: Path
) -> None:
    said_at = time.time_ns() // 1_000_000 // 1_000 * 1_000
    press = {"action": "emergency"}
    with Gateway(tmp_path / "gw", talkative.port) as gateway:
        gateway.kill9()
        with Wire(talkative.port) as device:
            device.publish("button/by-id/event", press | {"id": "p1"})
            device.publish("button/by-time/event", press | {"ts": said_at - 123})
            device.publish("button/by-nothing/event", press)
            device.publish("smoke/by-time/telemetry", {"smoke": True, "ts": said_at - 77})
            device.publish("smoke/by-time/telemetry", {"smoke": False, "ts": said_at - 7})
            device.settle()
        save(talkative)
        gateway.start()
        eventually(lambda: len(gateway.of_devices()) == 4)
        talkative.kill9()  # it has not saved that it has delivered them
        talkative.start()
        eventually(lambda: gateway.count("anlin_messages_duplicate_total") >= 4)
        again = {"button-emergency:c1/button/by-nothing"}
        eventually(lambda: {key for key, times in occurrences(gateway).items() if times > 1} == again)


def test_a_broker_that_ends_in_good_order_has_lost_nothing_whoever_is_there(
    talkative: Mosquitto, tmp_path: Path
) -> None:
    with Gateway(tmp_path / "gw", talkative.port) as gateway:
        eventually(lambda: judged(gateway))
        talkative.restart()
        eventually(lambda: "broker_away" not in gateway.reasons() and judged(gateway))
        for leave in (gateway.terminate, gateway.kill9):
            before = stored(gateway)
            leave()
            say(talkative, before)
            talkative.restart()
            gateway.start()
            eventually(lambda: stored(gateway) == before + 1 and judged(gateway))  # noqa: B023 - called at once
        assert gaps(gateway) == []
        save(talkative)  # with the farewell of the last time in it
        say(talkative, 3)
        talkative.kill9()
        talkative.start()
        eventually(lambda: {gap[4] for gap in gaps(gateway)} == {"session_lost"})


def test_a_loss_outlives_the_failure_of_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = FullDisk(monkeypatch)

    async def scene() -> None:
        async with node_world(tmp_path) as world:
            world.connect()
            await until(lambda: rows(tmp_path, "SELECT * FROM positions"))
            disk.full = True
            world.connect(session_present=False)
            for number in range(1, 50):  # more than the pages that are there
                world.say(f"smoke/sm{number}/telemetry", bytes(60_000), number)
            await until(lambda: world.journal.failures)
            disk.full = False
            lost = {("safety", "session_lost"), ("bulk", "session_lost")}
            await until(lambda: lost <= set(rows(tmp_path, "SELECT lane, reason FROM gaps")))
            assert len(rows(tmp_path, "SELECT * FROM gaps WHERE reason = 'session_lost'")) == len(lost)

    asyncio.run(scene())


# --- safety first -------------------------------------------------------------------------------------------


def test_a_press_behind_200_000_readings_is_an_alarm_within_a_second_of_the_reconnect(
    shipped: Mosquitto, tmp_path: Path
) -> None:
    with (
        Gateway(tmp_path / "gw", shipped.port, log={"level": "info"}) as gateway,
        AlarmWatch(shipped.port) as watch,
    ):
        gateway.terminate()
        told = len(gateway.stderr)
        flood(shipped.port, BACKLOG)
        with Wire(shipped.port) as device:
            device.publish("button/bt1/event", {"action": "emergency"})
            device.settle()
        gateway.launch()
        watch.wait_for("bt1", durable=None)
        heard = time.time()
        eventually(lambda: "msg=connected lane=safety" in gateway.stderr[told:])
        connected = said_at(gateway.stderr[told:], "msg=connected lane=safety")
        assert heard - connected < 1, heard - connected
        eventually(lambda: gateway.count("anlin_messages_received_total") > 1_000)
        assert said_at(gateway.stderr[told:], "msg=connected lane=bulk") > connected


FLOOD = """
import sys
from itertools import islice
import mqtt5
from bench.wire import Wire
port, count = map(int, sys.argv[1:])
with Wire(port, "flood") as wire:
    window = min(wire.receive_max, 1_000)
    sent = answered = 0
    while answered < count:
        burst = min(count - sent, window - (sent - answered), 250)
        wire.send([
            mqtt5.PublishPacket(
                f"community/c1/charger/p{number % 500}/telemetry", b'{"energy": %d}' % number,
                qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=number % 65_000 + 1,
            ).write()
            for number in range(sent, sent + burst)
        ])
        sent += burst
        answered += len(wire.exchange(0.0 if burst else 0.1))
"""


def flood(port: int, count: int) -> None:
    """Readings of chargers at QoS 1 that the broker has acknowledged, as fast as it takes them."""
    subprocess.run([sys.executable, "-c", FLOOD, str(port), str(count)], cwd=ROOT, check=True, timeout=60)
