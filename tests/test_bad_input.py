"""What bad input gets: counted, kept for a person to look at, acknowledged; nobody else notices."""

import hashlib
import json
import statistics
import time
from collections.abc import Iterator
from typing import NamedTuple

import psutil
import pytest

from tests.gateway import Gateway
from tests.servers import Mosquitto
from tests.waiting import eventually
from tests.wire import AlarmWatch, Wire

pytestmark = pytest.mark.timed

FLOOD = 100_000
GROWTH_MAX_BYTES = 12 * 1024 * 1024
UNNOTICED_S = 0.2

DEEP = b'{"a":' * 5_000 + b"1" + b"}" * 5_000
LARGE = b'{"session": "' + bytes(i % 26 + 97 for i in range(70_000)) + b'", "power": "much"}'
HUGE = b'{"session": "' + b"x" * 300_000 + b'"}'

BAD = [
    ("malformed", "charger/b1/telemetry", b'{"temperature": 20'),
    ("malformed", "charger/b1/telemetry", b""),
    ("malformed", "smoke/b1/telemetry", b'{"smoke": True}'),
    ("malformed", "charger/b1/telemetry", b'{"temperature": NaN}'),
    ("malformed", "charger/b1/telemetry", DEEP),
    ("bad_utf8", "charger/b1/telemetry", b'{"session": "\xff\xfe"}'),
    ("not_an_object", "charger/b1/telemetry", b"[20, 21]"),
    ("not_an_object", "button/b1/event", b'"emergency"'),
    ("bad_value", "charger/b1/telemetry", b'{"temperature": "hot"}'),
    ("bad_value", "charger/b1/telemetry", b'{"temperature": 1e6}'),
    ("bad_value", "charger/b1/telemetry", b'{"temperature": true}'),
    ("bad_value", "charger/b1/telemetry", b'{"status": "Burning"}'),
    ("bad_value", "smoke/b1/telemetry", b'{"smoke": "yes"}'),
    ("bad_value", "smoke/b1/telemetry", b'{"smoke": true, "battery": -1}'),
    ("bad_value", "button/b1/event", b'{"action": "panic"}'),
    ("bad_value", "elevator/b1/event", b'{"type": "new"}'),
    ("bad_value", "charger/b1/command/result", b'{"status": "done"}'),
    ("bad_value", "charger/b1/telemetry", b'{"id": [1], "power": 1}'),
    ("bad_value", "charger/b1/telemetry", LARGE),
    ("bad_time", "charger/b1/telemetry", b'{"ts": true, "power": 1}'),
    ("bad_time", "charger/b1/telemetry", b'{"ts": [1790000000123], "power": 1}'),
    ("bad_status", "charger/b1/status", b"perhaps"),
    ("bad_status", "charger/b1/status", b'{"state": 1}'),
    ("unknown_kind", "toaster/b1/event", b'{"action": "emergency"}'),
    ("unknown_kind", "toaster/b1/status", b"online"),
    ("no_events", "charger/b1/event", b'{"action": "emergency"}'),
    ("bad_topic", "button/b 1/event", b'{"action": "emergency"}'),
    ("bad_topic", "smoke/\u70df/telemetry", b'{"smoke": true}'),
    ("too_large", "charger/b1/telemetry", HUGE),
]
"""What is wrong, on which topic, with which bytes."""

ELSEWHERE = ["smoke/telemetry", "smoke/b1/telemetry/more", "smoke/b1/command", "smoke/b1/other", "b1"]
"""Topics of a depth or an end that the gateway does not subscribe to."""


class World(NamedTuple):
    broker: Mosquitto
    gateway: Gateway


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with (
        Mosquitto.as_shipped() as broker,
        Gateway(tmp_path_factory.mktemp("bad") / "gw", broker.port) as gateway,
    ):
        yield World(broker, gateway)


def rejected(gateway: Gateway) -> dict[str, int]:
    """How many, by reason."""
    name = 'anlin_messages_rejected_total{reason="'
    lines = [line for line in str(gateway.ask("metrics")["text"]).splitlines() if line.startswith(name)]
    return {line.removeprefix(name).split('"')[0]: int(line.split()[-1]) for line in lines}


def test_each_bad_message_is_counted_and_kept_and_nobody_else_notices(world: World) -> None:
    broker, gateway = world
    with Wire(broker.port) as device, AlarmWatch(broker.port) as watch:
        for topic in ELSEWHERE:
            device.publish(topic, b"{")
        for number, (_, topic, payload) in enumerate(BAD):
            device.publish(topic, payload, qos=number % 7 > 0)
            device.publish(f"smoke/good{number}/telemetry", {"smoke": True})
        for number in range(len(BAD)):
            watch.wait_for(f"good{number}")
        expected = {reason: sum(each[0] == reason for each in BAD) for reason, _, _ in BAD}
        eventually(lambda: rejected(gateway) == expected)

        with gateway.journal() as reader:
            kept = eventually(lambda: found if len(found := reader.quarantine(100)) == len(BAD) else None)
        assert kept is not None
        assert sorted((each.reason, each.topic) for each in kept) == sorted(
            (reason, f"community/c1/{topic}") for reason, topic, _ in BAD
        )
        by_hash = {(each.topic, each.sha256): each for each in kept}
        for reason, topic, payload in BAD:
            found = by_hash[f"community/c1/{topic}", hashlib.sha256(payload).hexdigest()]
            assert (found.reason, found.size) == (reason, len(payload))
            assert found.payload == (payload if len(payload) <= 64 * 1024 else payload[: 4 * 1024])
            assert found.detail
        told = {each["device"] for each in gateway.of_devices().values()}
        assert told == {f"good{n}" for n in range(len(BAD))}
        eventually(lambda: gateway.ask("health")["status"] == "ok")
        assert "lost the broker" not in gateway.stderr  # the connection has outlived all of it
        assert [each.address for each in gateway.readings() if "/b" in each.address] == []

        gateway.restart()
        device.publish("smoke/after/telemetry", {"smoke": True})
        watch.wait_for("after")
        assert rejected(gateway) == {}  # all of it was acknowledged: nothing came again
        assert gateway.count("anlin_messages_duplicate_total") == 0


def test_what_a_device_says_beside_its_points_is_kept_and_harms_nothing(world: World) -> None:
    broker, gateway = world
    before = gateway.count("anlin_unknown_fields_total")
    with Wire(broker.port) as device, AlarmWatch(broker.port) as watch:
        device.publish(
            "smoke/odd/telemetry", {"smoke": True, "mood": "bad", "nested": {"a": [1]}, "density": None}
        )
        alarm = watch.wait_for("odd")
        assert alarm["values"] == {"smoke": True, "test": False}
        (reading,) = [each for each in gateway.readings() if each.address == "c1/smoke/odd"]
        assert reading.extra == {"mood": "bad", "nested": {"a": [1]}}
        assert gateway.count("anlin_unknown_fields_total") == before + 2


@pytest.mark.parametrize(
    "ts",
    [
        1,
        -1,
        2**63,
        -(2**70),
        1e300,
        10**400,
        -(10**4_000),
        "1970-01-01T00:00:00Z",
        "9999-12-31T23:59:59Z",
        "2026-11-22T08:00:00",
        "22.11.2026 08:00",
        "",
    ],
    ids=lambda ts: str(ts)[:24],
)
def test_a_clock_that_is_wrong_delays_no_alarm(world: World, ts: object) -> None:
    broker, gateway = world
    name = f"clock-{hashlib.sha256(str(ts).encode()).hexdigest()[:8]}"
    with Wire(broker.port) as device, AlarmWatch(broker.port) as watch:
        device.publish(f"smoke/{name}/telemetry", {"smoke": True, "ts": ts})
        alarm = watch.wait_for(name)
        assert abs(alarm["source_time"] - alarm["received_at"]) < 1_000
        assert alarm["late"] is False
        assert gateway.board()[alarm["id"]] == alarm


@pytest.mark.parametrize(
    "said",
    ["@" + "1" * 9_000, "@" + "1" * 200_000, "x" * 200_000, 10**4_000],
    ids=["like a time", "like a long time", "long", "number"],
)
def test_an_absurd_id_delays_no_alarm_and_its_repetition_is_none(world: World, said: str | int) -> None:
    broker, gateway = world
    name = f"id-{hashlib.sha256(str(said).encode()).hexdigest()[:8]}"
    with Wire(broker.port) as device, AlarmWatch(broker.port) as watch:
        before = gateway.count("anlin_messages_duplicate_total")
        for _ in range(2):
            device.publish(f"button/{name}/event", {"action": "emergency", "id": said})
        assert watch.wait_for(name)["occurrences"] == 1
        eventually(lambda: gateway.count("anlin_messages_duplicate_total") == before + 1)


def test_a_flood_of_bad_messages_changes_neither_memory_nor_latency(world: World) -> None:
    broker, gateway = world
    node = psutil.Process(gateway.pid)
    with Wire(broker.port) as device, Wire(broker.port) as flooder, AlarmWatch(broker.port) as watch:
        _flood(gateway, flooder, 20_000)  # all that is made once is there
        before_s = _latency(device, watch, "before")
        before = node.memory_info().rss
        _flood(gateway, flooder, FLOOD)
        device.publish("smoke/behind/telemetry", {"smoke": True})
        watch.wait_for("behind")
        assert node.memory_info().rss - before < GROWTH_MAX_BYTES
        after_s = _latency(device, watch, "after")
        assert after_s < max(UNNOTICED_S, 3 * before_s)
        eventually(lambda: gateway.ask("health")["status"] == "ok")
    with gateway.journal() as reader:
        assert len(reader.quarantine(100)) <= 100


def _flood(gateway: Gateway, wire: Wire, count: int) -> None:
    """From two thousand sick devices and from as many strangers as there are messages."""
    begun = sum(rejected(gateway).values())
    for number in range(count):
        match number % 4:
            case 0:
                wire.publish(f"charger/f{number % 2_000}/telemetry", b'{"temperature": "%d"}' % number)
            case 1:
                wire.publish(f"kind{number}/f/event", b'{"n": %d}' % number)
            case 2:
                wire.publish(f"smoke/f{number % 2_000}/telemetry", b'{"smoke": %d' % number)
            case _:
                wire.publish(f"button/f {number}/event", b"%d" % number)
    wire.settle(30)
    eventually(lambda: sum(rejected(gateway).values()) == begun + count, 60)


def _latency(device: Wire, watch: AlarmWatch, name: str) -> float:
    """From the publication to the alarm's topic, the median of twenty (seconds)."""
    took = []
    for number in range(20):
        begun = time.monotonic()
        device.publish(f"smoke/{name}{number}/telemetry", json.dumps({"smoke": True}).encode())
        watch.wait_for(f"{name}{number}", durable=None)
        took.append(time.monotonic() - begun)
    return statistics.median(took)
