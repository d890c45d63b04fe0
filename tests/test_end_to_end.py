"""The whole gateway between real servers: what a device says arrives where people and machines look."""

import itertools
import json
import shutil
import time
import urllib.parse
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest

from tests.gateway import Gateway
from tests.servers import HOST, Mosquitto, VictoriaMetrics, free_port
from tests.waiting import eventually
from tests.wire import AlarmWatch, Wire, retained_alarms

pytestmark = pytest.mark.timed

REGISTRY = {
    "places": [
        {"building": "3", "unit": "2", "floors": "1-33"},
        {"building": "shed-1", "kind": "charging_shed"},
    ],
    "devices": [
        {"id": "sm0007", "kind": "smoke", "building": "3", "unit": "2", "floor": "11", "room": "1102"},
        {"id": "sm0099", "kind": "smoke", "building": "3", "unit": "2", "floor": "12", "room": "1201"},
        {"id": "shed1-p07", "kind": "charger", "building": "shed-1", "group": "shed-1"},
    ],
}


class World(NamedTuple):
    """A gateway with its broker and its store, shared by the tests of this module that leave it running."""

    broker: Mosquitto
    store: VictoriaMetrics
    gateway: Gateway


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("world")
    registry = folder / "registry.yaml"
    registry.write_text(json.dumps(REGISTRY))
    with (
        Mosquitto.as_shipped() as broker,
        VictoriaMetrics() as store,
        Gateway(folder / "gw", broker.port, cloud={"url": store.url}, devices=str(registry)) as gateway,
    ):
        eventually(lambda: gateway.get("/healthz")[0] == 200)
        yield World(broker, store, gateway)


@pytest.fixture
def broker() -> Iterator[Mosquitto]:
    with Mosquitto.as_shipped() as broker:
        yield broker


def points(store: VictoriaMetrics, selector: str, **window: str) -> list[dict[str, Any]]:
    """Every series that a selector finds: its labels (`metric`), `values` and `timestamps`."""
    query = urllib.parse.urlencode({"match[]": selector, **window})
    connection = HTTPConnection(HOST, store.port, timeout=10)
    try:
        connection.request("GET", "/internal/force_flush")
        connection.getresponse().read()
        connection.request("GET", f"/api/v1/export?{query}")
        return [json.loads(line) for line in connection.getresponse().read().splitlines()]
    finally:
        connection.close()


def test_a_registered_device_is_told_as_never_heard_until_it_speaks(world: World) -> None:
    broker, _, gateway = world
    assert "c1/smoke/sm0099" in gateway.ask("status")["unheard"]
    with Wire(broker.port) as device:
        device.publish("smoke/sm0099/telemetry", {"smoke": False})
        eventually(lambda: "c1/smoke/sm0099" not in gateway.ask("status")["unheard"])


def test_a_message_becomes_an_alarm_on_its_topic_in_the_api_in_the_stream_and_in_the_store(
    world: World,
) -> None:
    broker, store, gateway = world
    with Wire(broker.port) as device, AlarmWatch(broker.port) as watch, gateway.stream() as events:
        assert next(events) == {"retry": "2000"}
        assert "id" in next(events)  # where the stream begins: from here on nothing is missed
        device.publish("smoke/sm0007/telemetry", {"smoke": True, "density": 0.31, "battery": 80})
        alarm = watch.wait_for("sm0007")
        assert {
            name: alarm[name] for name in ("key", "rule", "severity", "state", "version", "occurrences")
        } == {
            "key": "smoke-alarm:c1/smoke/sm0007",
            "rule": "smoke-alarm",
            "severity": "critical",
            "state": "unacked",
            "version": 1,
            "occurrences": 1,
        }
        assert (alarm["site"], alarm["node"], alarm["kind"]) == ("c1", "gw-1", "smoke")
        assert alarm["place"] == {"building": "3", "unit": "2", "floor": "11", "room": "1102"}
        assert alarm["values"]["density"] == 0.31
        assert set(alarm["text"]) == {"en", "zh"}
        assert alarm["raised_at"] == alarm["first_raised_at"]
        assert [alarm[name] for name in ("cleared_at", "acked_at", "acked_by")] == [None, None, None]
        assert [alarm[name] for name in ("late", "drill", "durable")] == [False, False, True]
        assert gateway.get(f"/api/v1/alarms/{alarm['id']}") == (200, alarm)
        assert alarm in gateway.get("/api/v1/alarms")[1]["items"]
        assert _next_alarm(events, alarm["id"]) == {**alarm, "transition": "raised"}

        done = gateway.anlin("alarms", "ack", alarm["id"], "--by", "Wang", "--comment", "on my way")
        assert done.returncode == 0, done.stderr
        acked = watch.wait_for("sm0007", state="acked")
        assert (acked["id"], acked["version"], acked["acked_by"]) == (alarm["id"], 2, "Wang")
        assert gateway.get(f"/api/v1/alarms/{alarm['id']}") == (200, acked)
        assert _next_alarm(events, alarm["id"]) == {**acked, "transition": "acked"}
        assert retained_alarms(broker.port)[alarm["id"]] == acked

        device.publish("smoke/sm0007/telemetry", {"smoke": False})
        watch.wait_for_end(alarm["id"])
        last = watch.of("sm0007")[-1]
        assert (last["state"], last["version"]) == ("normal", 3)
        assert last["cleared_at"] is not None
        assert watch.told[-1].alarm is None
        assert alarm["id"] not in retained_alarms(broker.port)
        assert alarm["id"] not in {each["id"] for each in gateway.get("/api/v1/alarms")[1]["items"]}
        assert _next_alarm(events, alarm["id"]) == {**last, "transition": "cleared"}

    eventually(lambda: _transitions(store, "sm0007") == ["raised", "acked", "cleared"], every_s=0.2)
    (density,) = points(store, '{__name__="smoke_density",device="sm0007"}')
    assert density["values"] == [0.31]
    assert density["metric"]["building"] == "3"


def _next_alarm(events: Iterator[Any], alarm_id: str) -> dict[str, Any]:
    for event in events:
        if event.get("event") == "alarm":
            alarm: dict[str, Any] = json.loads(event["data"])
            if alarm["id"] == alarm_id:
                return alarm
    raise AssertionError("the stream has ended")


def test_an_alarm_nobody_has_seen_stays_until_somebody_has(world: World) -> None:
    broker, _, gateway = world
    with Wire(broker.port) as device, AlarmWatch(broker.port) as watch:
        device.publish("smoke/unseen/telemetry", {"smoke": True})
        device.publish("smoke/unseen/telemetry", {"smoke": False})
        alarm = watch.wait_for("unseen", state="rtn_unacked")
        assert retained_alarms(broker.port)[alarm["id"]] == alarm
        device.publish("smoke/unseen/telemetry", {"smoke": True})
        again = watch.wait_for("unseen", occurrences=2)
        assert (again["id"], again["state"], again["version"]) == (alarm["id"], "unacked", 3)
        device.publish("smoke/unseen/telemetry", {"smoke": False})
        watch.wait_for("unseen", version=4)
        assert gateway.ask("ack", alarm_id=alarm["id"], by="Li", comment="false alarm")["state"] == "normal"
        watch.wait_for_end(alarm["id"])
        device.publish("smoke/unseen/telemetry", {"smoke": True})
        watch.wait(lambda: len({each["id"] for each in watch.of("unseen")}) == 2)
        assert watch.of("unseen")[-1]["version"] == 1


def test_a_late_subscriber_sees_exactly_the_board(world: World) -> None:
    broker, _, gateway = world
    with Wire(broker.port) as device, AlarmWatch(broker.port) as watch:
        for number in range(30):
            device.publish(f"smoke/late-{number}/telemetry", {"smoke": True})
        for number in range(30):
            watch.wait_for(f"late-{number}")
        for number in range(10):
            alarm_id = watch.of(f"late-{number}")[0]["id"]
            gateway.ask("ack", alarm_id=alarm_id, by="Li", comment="")
            device.publish(f"smoke/late-{number}/telemetry", {"smoke": False})
            watch.wait_for_end(alarm_id)
    eventually(lambda: retained_alarms(broker.port) == gateway.board())
    assert len(gateway.board()) >= 20


def test_a_press_counts_again_and_only_a_person_ends_it(world: World) -> None:
    broker, _, gateway = world
    with Wire(broker.port) as device, AlarmWatch(broker.port) as watch:
        device.subscribe("button/bt1/command")
        device.publish("button/bt1/event", {"action": "emergency"})
        alarm = watch.wait_for("bt1", version=1)
        device.wait(lambda: device.heard)
        assert json.loads(device.heard[0].payload)["command"] == "confirm"
        gateway.ask("ack", alarm_id=alarm["id"], by="Li", comment="")
        watch.wait_for("bt1", state="acked")
        device.publish("button/bt1/event", {"action": "emergency"})
        assert watch.wait_for("bt1", version=3)["state"] == "unacked"
        device.publish("button/bt1/event", {"action": "cancel"})
        assert watch.wait_for("bt1", version=4)["cancelled_at"] is not None
        assert alarm["id"] in gateway.board()
        gateway.ask("ack", alarm_id=alarm["id"], by="Li", comment="")
        done = gateway.anlin("alarms", "close", alarm["id"], "--by", "Zhao", "--comment", "visited")
        assert done.returncode == 0, done.stderr
        watch.wait_for_end(alarm["id"])
        last = watch.of("bt1")[-1]
        assert (last["state"], last["acked_by"]) == ("normal", "Li")
        assert (last["closed_by"], last["close_comment"]) == ("Zhao", "visited")
        told = gateway.anlin("alarms", "explain", alarm["id"]).stdout
        assert "Zhao" in told


def test_a_hot_port_is_switched_off_by_an_order_and_answers(world: World) -> None:
    broker, _, gateway = world
    with Wire(broker.port) as device, AlarmWatch(broker.port) as watch:
        device.subscribe("charger/shed1-p07/command")
        device.publish("charger/shed1-p07/telemetry", {"temperature": 85})
        watch.wait_for("shed1-p07", rule="charger-cut")
        device.wait(lambda: device.heard)
        order = json.loads(device.heard[0].payload)
        assert order["command"] == "cut_power"
        device.publish("charger/shed1-p07/command/result", {"command_id": order["id"], "status": "done"})
        alarm_id = watch.of("shed1-p07", "charger-cut")[0]["id"]

        def answered() -> bool:
            with gateway.journal() as reader:
                return [each.status for each in reader.orders(alarm_id)] == ["done"]

        eventually(answered)


def test_the_same_message_said_twice_counts_once_and_another_with_its_id_counts(world: World) -> None:
    broker, _, gateway = world
    with Wire(broker.port) as device, AlarmWatch(broker.port) as watch:
        press = {"action": "emergency", "id": "press-1"}
        for _ in range(3):
            device.publish("button/bt-twice/event", press)
        watch.wait_for("bt-twice", version=1)
        device.publish("button/bt-twice/event", {**press, "ts": 1})  # other content: a new message
        assert watch.wait_for("bt-twice", version=2)["occurrences"] == 2
        device.publish("button/bt-other/event", press)  # another device may use the same id
        watch.wait_for("bt-other", occurrences=1)
        assert [each["occurrences"] for each in watch.of("bt-twice") if each["durable"]] == [1, 2]
    eventually(lambda: gateway.count("anlin_messages_duplicate_total") >= 2)


def test_retained_old_news_neither_starts_nor_ends_an_alarm(broker: Mosquitto, tmp_path: Path) -> None:
    with Wire(broker.port) as device:
        device.publish("smoke/old-fire/telemetry", {"smoke": True}, retain=True)
        device.publish("smoke/new-fire/telemetry", {"smoke": False}, retain=True)
        device.publish("button/old-press/event", {"action": "emergency"}, retain=True)
        device.publish("smoke/new-fire/status", b"offline", retain=True)
        device.settle()
        with Gateway(tmp_path / "gw", broker.port) as gateway, AlarmWatch(broker.port) as watch:
            device.publish("smoke/new-fire/telemetry", {"smoke": True})
            alarm = watch.wait_for("new-fire")
            gateway.restart()  # subscribes again, and gets the old news again
            eventually(lambda: gateway.ask("device", address="c1/smoke/new-fire")["online"] is False)
            device.publish("button/after/event", {"action": "emergency"})
            watch.wait_for("after")
            assert {each["device"] for each in gateway.board().values()} == {"new-fire", "after"}
            assert gateway.board()[alarm["id"]]["version"] == 1
            device.publish("smoke/old-fire/telemetry", {"smoke": True})
            watch.wait_for("old-fire")


# --- the broker goes and comes ------------------------------------------------------------------------------


def test_after_every_end_of_the_broker_alarms_go_on_and_the_board_is_set_right(
    broker: Mosquitto, tmp_path: Path
) -> None:
    with Gateway(tmp_path / "gw", broker.port) as gateway:
        with Wire(broker.port) as device, AlarmWatch(broker.port) as watch:
            device.publish("smoke/first/telemetry", {"smoke": True})
            first = watch.wait_for("first")

        broker.stop()  # keeps sessions and retained messages
        eventually(lambda: "broker_away" in gateway.reasons())
        assert gateway.ask("health")["status"] == "failed"
        assert gateway.ask("ack", alarm_id=first["id"], by="Li", comment="")["version"] == 2
        broker.start()
        gateway.wait_listening()
        with Wire(broker.port) as device, AlarmWatch(broker.port) as watch:
            watch.wait_for("first", version=2)  # what was said meanwhile
            device.publish("smoke/second/telemetry", {"smoke": True})
            watch.wait_for("second")

        broker.kill9()  # everything since its last autosave is lost
        for database in broker.folder.glob("*.db"):
            database.unlink()  # and what was saved before
        broker.start()
        gateway.wait_listening()
        with Wire(broker.port) as device, AlarmWatch(broker.port) as watch:
            for name in ("first", "second", "gw-1"):  # the last: that the sessions were lost
                watch.wait_for(name)
            eventually(lambda: retained_alarms(broker.port) == gateway.board())
            device.publish("smoke/third/telemetry", {"smoke": True})
            watch.wait_for("third")
        told = retained_alarms(broker.port).values()
        assert {each["device"] for each in told if each["kind"] == "smoke"} == {"first", "second", "third"}


def test_what_does_not_stand_is_cleared_on_connecting_and_another_node_keeps_its_own(
    broker: Mosquitto, tmp_path: Path
) -> None:
    with Gateway(tmp_path / "gw", broker.port) as gateway, Wire(broker.port) as device:
        with AlarmWatch(broker.port) as watch:
            device.publish("smoke/stands/telemetry", {"smoke": True})
            stands = watch.wait_for("stands")
        gateway.kill9()
        ours = {**stands, "id": "01STALE", "key": "smoke-alarm:c1/smoke/stale", "device": "stale"}
        theirs = {**ours, "id": "01THEIRS", "node": "gw-2"}
        device.publish("alarm/01STALE", ours, retain=True)
        device.publish("alarm/01THEIRS", theirs, retain=True)
        device.publish("alarm/strange", b"not JSON", retain=True)
        device.publish(f"alarm/{stands['id']}", {**stands, "version": 0}, retain=True)  # older than ours
        device.settle()
        gateway.start()
        eventually(lambda: "01STALE" not in _retained_ids(broker))
        eventually(lambda: _retained(broker, stands["id"])["version"] == 1)
        assert _retained_ids(broker) == {stands["id"], "01THEIRS", "strange"}
        assert _retained(broker, "01THEIRS") == theirs

        gateway.kill9()
        shutil.rmtree(gateway.data_dir)  # the data directory is lost: nothing of ours stands any more
        gateway.start()
        eventually(lambda: _retained_ids(broker) == {"01THEIRS", "strange"})


def _retained_ids(broker: Mosquitto) -> set[str]:
    with Wire(broker.port) as late:
        late.subscribe("alarm/+", "marker")
        late.publish("marker", b"end")
        late.wait(lambda: any(each.payload == b"end" for each in late.heard))
        return {each.topic.rsplit("/", 1)[1] for each in late.heard if each.payload != b"end"}


def _retained(broker: Mosquitto, alarm_id: str) -> dict[str, Any]:
    with Wire(broker.port) as late:
        late.subscribe(f"alarm/{alarm_id}")
        late.wait(lambda: late.heard)
        found: dict[str, Any] = json.loads(late.heard[0].payload)
        return found


# --- the cloud goes and comes -------------------------------------------------------------------------------


def test_while_the_cloud_is_away_everything_is_kept_and_arrives_later_in_order(
    broker: Mosquitto, tmp_path: Path
) -> None:
    with (
        VictoriaMetrics() as store,
        Gateway(tmp_path / "gw", broker.port, cloud={"url": store.url}) as gateway,
        Wire(broker.port) as device,
        AlarmWatch(broker.port) as watch,
    ):
        start = time.time_ns() // 1_000_000
        told = itertools.count()

        def say(count: int) -> None:
            for number in itertools.islice(told, count):
                device.publish(f"charger/p{number % 20}/telemetry", {"energy": number, "ts": start + number})
            device.settle()

        say(500)
        eventually(lambda: _energies(store) == set(range(500)), every_s=0.2)
        store.stop()
        say(1_500)
        device.publish("smoke/away/telemetry", {"smoke": True})
        alarm = watch.wait_for("away")
        gateway.ask("ack", alarm_id=alarm["id"], by="Li", comment="")
        eventually(lambda: "cloud_away" in gateway.reasons())
        assert gateway.ask("health")["status"] == "degraded"
        eventually(lambda: gateway.ask("health")["cloud"]["behind"]["readings"] >= 1_500)
        gateway.restart()  # continues where it stopped
        say(500)
        gateway.kill9()  # and after this as well
        gateway.start()
        say(500)
        store.start()
        eventually(lambda: len(_energies(store)) >= 3_000, 40, every_s=0.2)
        assert _energies(store) == set(range(3_000))
        device.publish("smoke/away/telemetry", {"smoke": False})
        watch.wait_for_end(alarm["id"])
        eventually(lambda: len(_transitions(store, "away")) == 3, every_s=0.2)
        assert _transitions(store, "away") == ["raised", "acked", "cleared"]
        eventually(lambda: "cloud_away" not in gateway.reasons())


def test_health_is_on_its_topic_for_whoever_comes_and_anew_when_a_reason_comes(
    broker: Mosquitto, tmp_path: Path
) -> None:
    with (
        Gateway(tmp_path / "gw", broker.port, cloud={"url": "http://127.0.0.1:9"}) as gateway,
        Wire(broker.port) as viewer,
    ):

        def told() -> list[dict[str, Any]]:
            return [json.loads(each.payload) for each in viewer.heard]

        viewer.subscribe("gateway/gw-1/health")
        viewer.wait(lambda: told() and [each["code"] for each in told()[-1]["reasons"]] == ["cloud_away"])
        assert told()[-1] | {"site": "c1", "node": "gw-1", "status": "degraded"} == told()[-1]
        assert gateway.reasons() == {"cloud_away"}
        with Wire(broker.port) as late:
            late.subscribe("gateway/gw-1/health")
            late.wait(lambda: late.heard)
            assert (late.heard[0].retain, late.heard[0].payload) == (True, viewer.heard[-1].payload)


def test_the_embedded_broker_is_for_this_machine_alone_and_what_it_does_not_promise_is_said(
    tmp_path: Path,
) -> None:
    mqtt = {"embedded": True, "port": free_port()}
    with Gateway(tmp_path / "gw", mqtt["port"], mqtt=mqtt) as gateway:
        listening = {
            each.laddr
            for each in psutil.Process(gateway.pid).net_connections("tcp")
            if each.status == psutil.CONN_LISTEN
        }
        assert listening == {(HOST, mqtt["port"])}
        assert "keeps no session and delivers nothing again" in gateway.stderr
        eventually(lambda: gateway.get("/healthz")[0] == 200)
        health = gateway.get("/healthz")[1]
        assert (health["status"], health["embedded_broker"]) == ("ok", True)
        (notice,) = health["reasons"]
        assert notice["code"] == "embedded_broker"
        assert "keeps no session and delivers nothing again" in notice["message"]
        assert "Mosquitto" in notice["remedy"]


def _energies(store: VictoriaMetrics) -> set[int]:
    found = points(store, '{__name__="charger_energy"}')
    return {int(value) for series in found for value in series["values"]}


def _transitions(store: VictoriaMetrics, device: str) -> list[str]:
    """Of a device's alarms, in the order of their event times."""
    found = points(store, f'{{__name__="alarm_state_code",device="{device}"}}')
    return [
        name for _, name in sorted((each["timestamps"][0], each["metric"]["transition"]) for each in found)
    ]
