"""What keeps a gateway from working: one line that says what to do, no traceback, and on it goes if it can."""

import json
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.gateway import Gateway
from tests.servers import HOST, Mosquitto, free_port
from tests.waiting import eventually
from tests.wire import AlarmWatch, Wire, retained_alarms

pytestmark = pytest.mark.timed

LOCKED = """
listener {port} 127.0.0.1
allow_anonymous false
"""

STRICT = """
listener {port} 127.0.0.1
allow_anonymous true
acl_file {folder}/acl
"""


@pytest.fixture
def broker() -> Iterator[Mosquitto]:
    with Mosquitto.as_shipped() as broker:
        yield broker


def refusal(gateway: Gateway, code: int) -> str:
    """What it said before it ended with ``code``: one line."""
    gateway.folder.mkdir(parents=True, exist_ok=True)
    gateway.launch()
    try:
        assert gateway.wait_end() == code, gateway.stderr
    finally:
        gateway.kill9()
    lines = [line for line in gateway.stderr.splitlines() if "msg=" not in line]
    assert len(lines) == 1, gateway.stderr
    assert "Traceback" not in gateway.stderr
    return lines[0]


def test_a_second_gateway_on_the_same_data_directory_refuses_to_start(
    broker: Mosquitto, tmp_path: Path
) -> None:
    with Gateway(tmp_path / "first", broker.port) as first:
        second = Gateway(tmp_path / "second", broker.port, data_dir=str(first.data_dir), node="gw-2")
        said = refusal(second, 2)
        assert str(first.data_dir) in said
        assert str(first.pid) in said
        assert first.ask("health")["status"] == "ok"
        assert "lost the broker" not in first.stderr


def test_of_two_gateways_of_one_name_one_ends_saying_so_and_the_other_goes_on(
    broker: Mosquitto, tmp_path: Path
) -> None:
    with (
        Gateway(tmp_path / "first", broker.port) as first,
        Gateway(tmp_path / "second", broker.port) as second,
        Wire(broker.port) as device,
        AlarmWatch(broker.port) as watch,
    ):
        both = (first, second)
        ended = eventually(lambda: next((each for each in both if each.ended), None), 30)
        assert ended is not None
        assert ended.wait_end() == 4
        said = [line for line in ended.stderr.splitlines() if "msg=" not in line]
        assert len(said) == 1, ended.stderr
        assert "another gateway uses the same node name" in said[0]
        assert "'c1-gw-1-" in said[0]
        other = first if ended is second else second
        other.wait_listening()
        device.publish("smoke/after/telemetry", {"smoke": True})
        watch.wait_for("after")


@pytest.mark.parametrize(
    ("settings", "files", "said"),
    [
        ({"mqtt": {"hots": "x"}}, {}, "anlin.yaml:1: mqtt.hots: unknown key"),
        ({"site": "c 1"}, {}, "anlin.yaml:1: site:"),
        (
            {"devices": "registry.yaml"},
            {"registry.yaml": "devices:\n  - {id: sm1, kind: smok}\n"},
            "registry.yaml:2: devices[0].kind: unknown kind",
        ),
        (
            {"rules": ["mine.yaml"]},
            {
                "mine.yaml": "rules:\n  - id: mine\n    kind: charger\n    when: temprature > 5\n"
                "    severity: low\n    text: {en: a, zh: b}\n"
            },
            "mine.yaml:4: rules[0] (mine).when: column 1:",
        ),
        ({"rules": ["absent.yaml"]}, {}, "absent.yaml: does not exist"),
    ],
    ids=["key", "value", "registry", "rule", "absent rule file"],
)
def test_a_fault_in_a_file_is_named_with_file_and_place(
    tmp_path: Path, settings: dict[str, Any], files: dict[str, str], said: str
) -> None:
    gateway = Gateway(tmp_path, free_port(), **settings)
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    line = refusal(gateway, 2)
    assert said in line
    assert str(tmp_path) in line


def test_a_data_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    said = refusal(Gateway(tmp_path, free_port(), data_dir="/proc/anlin", language="en"), 2)
    assert "data directory /proc/anlin cannot be written" in said
    assert "set data_dir" in said
    said = refusal(Gateway(tmp_path / "zh", free_port(), data_dir="/proc/anlin", language="zh"), 2)
    assert "数据目录 /proc/anlin 无法写入" in said


def test_a_path_too_long_for_the_control_socket_is_named(tmp_path: Path) -> None:
    said = refusal(Gateway(tmp_path, free_port(), data_dir=str(tmp_path / ("long" * 25))), 2)
    assert "data_dir" in said
    assert "shorter" in said


def test_a_foreign_database_is_named_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    journal = tmp_path / "data" / "journal.db"
    with closing(sqlite3.connect(journal)) as foreign:
        foreign.execute("CREATE TABLE recipes (name TEXT)")
    said = refusal(Gateway(tmp_path, free_port()), 2)
    assert str(journal) in said
    assert "move it away" in said


def test_without_a_broker_it_waits_says_so_and_comes_up_with_it(tmp_path: Path) -> None:
    broker = Mosquitto.as_shipped()
    gateway = Gateway(tmp_path / "gw", broker.port)
    gateway.folder.mkdir()
    gateway.launch()
    try:
        eventually(lambda: "start it, or correct mqtt.host and mqtt.port" in gateway.stderr)
        eventually((gateway.data_dir / "node.sock").exists)
        assert gateway.reasons() >= {"broker_away"}
        eventually(lambda: gateway.get("/healthz")[0] == 503)
        with broker:
            gateway.wait_listening()
            with Wire(broker.port) as device, AlarmWatch(broker.port) as watch:
                device.publish("smoke/sm1/telemetry", {"smoke": True})
                watch.wait_for("sm1")
                eventually(lambda: gateway.get("/healthz")[0] == 200)
    finally:
        gateway.kill9()
    assert "Traceback" not in gateway.stderr


def test_a_wrong_password_is_told_with_the_keys_to_correct(tmp_path: Path) -> None:
    with Mosquitto(LOCKED) as broker:
        gateway = Gateway(tmp_path / "gw", broker.port)
        gateway.folder.mkdir()
        gateway.launch()
        try:
            eventually(lambda: "correct mqtt.username and mqtt.password_file" in gateway.stderr)
            eventually((gateway.data_dir / "node.sock").exists)
            assert gateway.ask("health")["status"] == "failed"
            assert gateway.terminate()[0] == 0
        finally:
            gateway.kill9()
        assert "Traceback" not in gateway.stderr


def test_a_port_that_is_taken_costs_the_board_and_no_alarm(broker: Mosquitto, tmp_path: Path) -> None:
    with socket.socket() as squatter:
        squatter.bind((HOST, 0))
        squatter.listen()
        port = squatter.getsockname()[1]
        with (
            Gateway(tmp_path / "gw", broker.port, http={"port": port}) as gateway,
            Wire(broker.port) as device,
            AlarmWatch(broker.port) as watch,
        ):
            eventually(lambda: f"cannot serve on 127.0.0.1:{port}" in gateway.stderr)
            assert "set http.port to a free port" in gateway.stderr
            eventually(lambda: "web_down" in gateway.reasons())
            assert gateway.ask("health")["status"] == "degraded"
            device.publish("smoke/sm1/telemetry", {"smoke": True})
            watch.wait_for("sm1")
            assert gateway.anlin("alarms").returncode == 0


def deny(broker: Mosquitto, *denied: str) -> None:
    """Let everybody do everything but this."""
    rules = ["topic readwrite #", *(f"topic deny {topic}" for topic in denied)]
    (broker.folder / "acl").write_text("\n".join(rules) + "\n")


class StrictMosquitto(Mosquitto):
    """With an access control list that ``deny`` writes."""

    def __init__(self, *denied: str) -> None:
        super().__init__(STRICT)
        self._denied = denied

    def prepare(self) -> None:
        deny(self, *self._denied)
        super().prepare()


@pytest.mark.parametrize(
    "denied", ["community/c1/gateway/#", "community/c1/alarm/+"], ids=["its own topics", "alarms"]
)
def test_what_the_broker_denies_ends_nothing_else(tmp_path: Path, denied: str) -> None:
    with StrictMosquitto(denied) as broker, Gateway(tmp_path / "gw", broker.port) as gateway:
        with Wire(broker.port) as device:
            device.publish("smoke/sm1/telemetry", {"smoke": True})
            eventually(gateway.board)
            if "gateway" in denied:
                eventually(lambda: retained_alarms(broker.port) == gateway.board())
            gateway.wait_listening()
            assert gateway.process is not None
            assert gateway.process.poll() is None
            eventually(lambda: "refuse" in gateway.stderr)
            eventually(lambda: "cannot_publish" in gateway.reasons())


NONSENSE = [
    b"", b"\n", b"{\n", b"[]\n", b"\xff\xfe\n", b'{"op": "health"}\n', b'{"id": 1, "op": "fly"}\n', b"x" * 200_000,
    b'{"id": 1, "op": "ack"}\n', b'{"id": 1, "op": "devices", "limit": "many"}\n', b'{"id": 1, "op": "advance"}\n',
    b'{"id": 1, "op": "\xff"}\n', b'{"id": 1, "op": "health", "x": "\xff"}\n',
    b'{"id": 1, "op": "health", "x": ' + b"[" * 200_000 + b"\n",
    b'{"id": 1, "op": "position", "feed": "weather"}\n',
    b'{"id": 1, "op": "advance", "feed": "weather", "position": 1}\n',
    b'{"id": 1, "op": "advance", "feed": "gaps", "position": 1' + b"0" * 30 + b"}\n",
    b'{"id": 1, "op": "dead_letter", "feed": "gaps", "line": "x", "words": "no", "status": 1' + b"0" * 30 + b"}\n",
]  # fmt: skip


def test_nonsense_on_the_control_socket_is_answered_and_costs_nothing(
    broker: Mosquitto, tmp_path: Path
) -> None:
    with Gateway(tmp_path / "gw", broker.port) as gateway:
        for said in NONSENSE:
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(5)
                client.connect(str(gateway.data_dir / "node.sock"))
                try:
                    client.sendall(said)
                    client.shutdown(socket.SHUT_WR)
                    answer = client.recv(65_536)
                except ConnectionError:
                    answer = b""
            if answer:
                assert json.loads(answer)["error"]["code"] in {"bad_request", "unknown_op"}
        assert gateway.ask("health")["status"] == "ok"
