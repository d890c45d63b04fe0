"""The promise under violence: what the broker has acknowledged is decided once, stored once and told.

The ledger lies outside the gateway: it holds what the broker has acknowledged to the publisher.
"""

import random
import re
import signal
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import psutil
import pytest

from devices.readings import Channel
from edge.store.reader import JournalReader
from rules.alarms import AlarmChange
from tests.gateway import ANLIN, Gateway, gone
from tests.servers import Mosquitto
from tests.waiting import eventually
from tests.wire import AlarmWatch, Wire, retained_alarms
from tools.servers import locate

pytestmark = pytest.mark.timed

KILLS = 7
RATE_PER_S = 1_000
STEP_S = 0.02
ENDS_WITHIN_S = 3.0
FROZEN_ENDS_WITHIN_S = 5.0
"""The gateway's own patience with a broker that says nothing is 2.5 s; half of what the service manager gives it
(`deploy/anlin.service`)."""
AT_ONCE_S = 5.0
"""An alarm: sooner than the node has started the web again, or killed a frozen one."""

# Durable only as far as SQLite's NORMAL goes: what the test of the order of things must find out.
CARELESS = """
import sys
from edge.store import schema
schema.SYNCHRONOUS = "NORMAL"
from edge.cli import main
sys.exit(main(["run", "--config", sys.argv[1]]))
"""


@pytest.fixture
def broker() -> Iterator[Mosquitto]:
    with Mosquitto.as_shipped() as broker:
        yield broker


class Load:
    """A community that talks until told to stop; each message is one of its kind."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._talk, name="load", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _talk(self) -> None:
        number = 0
        while not self._over.wait(STEP_S):
            for _ in range(int(RATE_PER_S * STEP_S)):
                number += 1
                self._say(number)

    def _say(self, number: int) -> None:
        match number % 50:
            case 0:
                name = f"sm{number}"
                self._wire.publish(f"smoke/{name}/telemetry", {"smoke": True}, name)
            case 25:
                name = f"bt{number}"
                self._wire.publish(f"button/{name}/event", {"action": "emergency"}, name)
            case _:
                said: dict[str, object] = {"energy": number}
                if number % 2:
                    said["id"] = f"m{number}"
                self._wire.publish(f"charger/p{number % 200}/telemetry", said, number)


def tokens(gateway: Gateway) -> Counter[object]:
    """What the journal has of the load, by the ledger's keys."""
    return Counter(
        reading.values["energy"] if "energy" in reading.values else reading.address.rsplit("/", 1)[1]
        for reading in gateway.readings()
        if reading.channel is not Channel.STATUS
    )


def test_killed_again_and_again_under_load_nothing_is_lost_and_nothing_doubled(
    broker: Mosquitto, tmp_path: Path
) -> None:
    chance = random.Random(20_261_122)
    acked: dict[str, str] = {}
    with (
        Gateway(tmp_path / "gw", broker.port) as gateway,
        Wire(broker.port) as devices,
        AlarmWatch(broker.port) as watch,
    ):
        with Load(devices) as load:
            for kill in range(KILLS):
                if kill % 2 == 0:  # else somewhere on the way to it
                    gateway.wait_listening()
                    for alarm in chance.sample(
                        sorted(gateway.of_devices().values(), key=lambda each: each["id"]), 3 if kill else 0
                    ):
                        acked[alarm["id"]] = gateway.ask("ack", alarm_id=alarm["id"], by="Li", comment="")[
                            "state"
                        ]
                target = len(devices.acknowledged) + chance.randrange(200, 1_200)
                devices.wait_acknowledged(target)
                gateway.kill9()
                gateway.launch()
            gateway.wait_listening()
            load.stop()
        devices.settle()
        ledger = set(devices.acknowledged)
        assert len(ledger) == len(devices.acknowledged) >= KILLS * 200
        eventually(lambda: ledger <= tokens(gateway).keys(), every_s=0.2)

        assert [key for key, count in tokens(gateway).items() if count != 1] == []
        devices_in_danger = {key for key in ledger if isinstance(key, str)}
        board = gateway.of_devices()
        assert {each["device"] for each in board.values()} == devices_in_danger
        assert len(board) == len(devices_in_danger)  # one stay on the board each
        assert {each["occurrences"] for each in board.values()} == {1}
        assert acked
        assert {board[alarm_id]["state"] for alarm_id in acked} == {"acked"}
        eventually(lambda: retained_alarms(broker.port) == gateway.board(), every_s=0.2)

        everything = gateway.board()
        watch.wait(lambda: {told.id for told in watch.told} >= everything.keys())
        heard: dict[str, list[int]] = {}
        for told in watch.told:
            assert told.alarm is not None
            heard.setdefault(told.id, []).append(told.alarm["version"])
        assert heard.keys() == everything.keys()  # no id that was taken back
        assert all(versions == sorted(versions) for versions in heard.values())
        with gateway.journal() as reader:
            raised = [change.alarm.key for _, change in _changes(reader) if change.transition == "raised"]
        assert len(raised) == len(set(raised)) == len(everything)


def _changes(reader: JournalReader) -> Iterator[tuple[int, AlarmChange]]:
    number = 0
    while changes := reader.changes_after(number, 1_000):
        yield from changes
        number = changes[-1][0]


@pytest.mark.parametrize("named", [{"id": "p1"}, {"ts": 1_790_000_000_123}], ids=["by its id", "by its time"])
def test_a_message_said_before_a_kill_is_known_after_it(
    broker: Mosquitto, tmp_path: Path, named: dict[str, object]
) -> None:
    press = {"action": "emergency", **named}
    with (
        Gateway(tmp_path / "gw", broker.port) as gateway,
        Wire(broker.port) as device,
        AlarmWatch(broker.port) as watch,
    ):
        device.publish("button/bt1/event", press)
        watch.wait_for("bt1")
        gateway.kill9()
        device.publish("button/bt1/event", press)
        gateway.start()
        device.publish("button/bt1/event", press)
        device.publish("button/bt2/event", press)
        watch.wait_for("bt2")
        assert {each["device"]: each["occurrences"] for each in gateway.of_devices().values()} == {
            "bt1": 1,
            "bt2": 1,
        }
        eventually(lambda: gateway.count("anlin_messages_duplicate_total") == 2)


# --- what is acknowledged is on the disk --------------------------------------------------------------------


@pytest.mark.parametrize("careful", [True, False], ids=["as shipped", "with synchronous set to NORMAL"])
def test_the_write_ahead_log_is_synced_before_the_first_acknowledgement_of_each_batch(
    broker: Mosquitto, tmp_path: Path, careful: bool
) -> None:
    trace = tmp_path / "trace"
    strace = [
        str(locate("strace")), "-D", "-f", "-qq", "-yy", "-x", "-s", "4", "-o", str(trace),
        "-e", "signal=none", "-e", "trace=pwrite64,fsync,fdatasync,sendto,sendmsg,write,writev",
    ]  # fmt: skip
    anlin = [*ANLIN, "run", "--config"] if careful else [sys.executable, "-c", CARELESS]
    with (
        Gateway(tmp_path / "gw", broker.port, command=[*strace, *anlin], store={"commit_ms": 50}) as gateway,
        Wire(broker.port) as device,
    ):
        before = len(_order_of_things(trace, broker.port)[0])
        for batch in range(5):
            for number in range(20):
                device.publish(f"charger/p{number}/telemetry", {"energy": batch * 20 + number})
            device.settle()
            _await_acknowledgements(trace, broker.port, before + batch + 1)
        device.publish("button/bt1/event", {"action": "emergency"})
        eventually(gateway.board)
        gateway.terminate()
    acknowledged, premature = _order_of_things(trace, broker.port)
    assert len(acknowledged) >= before + 6
    if careful:
        assert premature == []
    else:
        assert len(premature) >= 6  # or this test would prove nothing


def _await_acknowledgements(trace: Path, port: int, count: int) -> None:
    eventually(lambda: len(_order_of_things(trace, port)[0]) >= count)


def _order_of_things(trace: Path, port: int) -> tuple[list[str], list[str]]:
    """Calls that sent PUBACK to the broker, and those among them made before what was written was synced."""
    acknowledged: list[str] = []
    premature: list[str] = []
    syncing: set[str] = set()
    unsynced = False
    for line in trace.read_text(errors="replace").splitlines():
        thread = line.split(maxsplit=1)[0]
        if "pwrite64(" in line and "journal.db-wal>" in line:
            unsynced = True
        elif re.search(r"\bf(data)?sync\(", line) and "journal.db-wal>" in line:
            if line.endswith("= 0"):
                unsynced = False
            else:
                syncing.add(thread)
        elif re.search(r"f(data)?sync resumed>.*= 0$", line) and thread in syncing:
            syncing.discard(thread)
            unsynced = False
        elif f":{port}]>" in line and re.search(r'(sendto|write)\(.*?, "\\x40', line):
            acknowledged.append(line)
            if unsynced:
                premature.append(line)
    return acknowledged, premature


# --- an end in good order -----------------------------------------------------------------------------------


def test_sigterm_commits_and_acknowledges_says_offline_and_keeps_the_session(
    broker: Mosquitto, tmp_path: Path
) -> None:
    with (
        Gateway(tmp_path / "gw", broker.port, store={"commit_ms": 5_000}) as gateway,
        Wire(broker.port) as device,
    ):
        device.subscribe("gateway/gw-1/status")
        device.wait(lambda: [each.payload for each in device.heard] == [b"online"])
        for number in range(300):
            device.publish("charger/p1/telemetry", {"energy": number})
        device.settle()
        eventually(lambda: gateway.count("anlin_messages_received_total") >= 300)
        assert len(gateway.readings()) < 300  # the batch is open
        code, took_s = gateway.terminate()
        assert code == 0
        assert took_s < ENDS_WITHIN_S
        device.wait(lambda: [each.payload for each in device.heard] == [b"online", b"offline"])
        assert [each.values["energy"] for each in gateway.readings()] == list(range(300))

        device.publish("charger/p1/telemetry", {"energy": 300})  # the broker keeps it for the session
        device.settle()
        gateway.start()
        eventually(lambda: gateway.ask("device", address="c1/charger/p1")["points"].get("energy") == 300)
        assert gateway.count("anlin_messages_duplicate_total") == 0  # nothing came again
        code, took_s = gateway.terminate()
        assert (code, took_s < ENDS_WITHIN_S) == (0, True)
        assert [each.values["energy"] for each in gateway.readings()] == list(range(301))
        assert "lost the broker" not in gateway.stderr


def test_sigterm_ends_it_in_time_although_the_broker_is_away_or_frozen_and_the_web_hangs(
    broker: Mosquitto, tmp_path: Path
) -> None:
    with Gateway(tmp_path / "gw", broker.port) as gateway:
        web = gateway.child("web")
        web.suspend()
        broker.freeze()
        code, took_s = gateway.terminate()
        broker.thaw()
        assert (code, took_s < FROZEN_ENDS_WITHIN_S) == (0, True), took_s
        eventually(lambda: gone([web.pid]))
        broker.stop()
        gateway.launch()
        eventually(lambda: "cannot reach the broker" in gateway.stderr)
        code, took_s = gateway.terminate()
        assert (code, took_s < ENDS_WITHIN_S) == (0, True), took_s


def test_after_kill_9_the_will_says_offline_and_the_children_end_too(
    broker: Mosquitto, tmp_path: Path
) -> None:
    with (
        Gateway(tmp_path / "gw", broker.port, cloud={"url": "http://127.0.0.1:9"}) as gateway,
        Wire(broker.port) as device,
    ):
        device.subscribe("gateway/gw-1/status")
        device.wait(lambda: [each.payload for each in device.heard] == [b"online"])
        children = [gateway.child("web").pid, gateway.child("bridge").pid]
        gateway.kill9()
        device.wait(lambda: [each.payload for each in device.heard] == [b"online", b"offline"])
        eventually(lambda: gone(children))
        gateway.start()
        device.wait(lambda: [each.payload for each in device.heard][-1] == b"online")


# --- the web may do what it likes ---------------------------------------------------------------------------


def test_alarms_go_on_while_the_web_is_dead_or_frozen_and_the_node_starts_it_again(
    broker: Mosquitto, tmp_path: Path
) -> None:
    with (
        Gateway(tmp_path / "gw", broker.port) as gateway,
        Wire(broker.port) as device,
        AlarmWatch(broker.port) as watch,
    ):
        eventually(lambda: gateway.get("/healthz")[0] == 200)
        web = gateway.child("web")
        web.send_signal(signal.SIGKILL)
        device.publish("smoke/while-dead/telemetry", {"smoke": True})
        watch.wait_for("while-dead", AT_ONCE_S, durable=None)
        eventually(lambda: gateway.get("/healthz")[0] == 200)
        again = gateway.child("web")
        assert again.pid != web.pid
        assert {each["device"] for each in gateway.get("/api/v1/alarms")[1]["items"]} == {"while-dead"}

        again.suspend()
        for number in range(500):
            device.publish(f"smoke/frozen-{number}/telemetry", {"smoke": True})
        watch.wait_for("frozen-499", AT_ONCE_S, durable=None)
        everything = 501 + 1  # so many are a flood, which is an alarm of its own
        eventually(lambda: gateway.ask("health")["counts"]["standing"] == everything)
        again.resume()
        eventually(lambda: _all_listed(gateway) == everything)
        assert psutil.pid_exists(again.pid)


def _all_listed(gateway: Gateway) -> int:
    listed = 0
    path: str | None = "/api/v1/alarms?limit=500"
    while path is not None:
        status, page = gateway.get(path)
        if status != 200:
            return 0
        listed += len(page["items"])
        path = f"/api/v1/alarms?limit=500&after={page['next']}" if page["next"] else None
    return listed
