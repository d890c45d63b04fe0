"""What stands at the other end of the wire: devices that publish and keep a ledger, and those who watch alarms.

A `Wire` is one MQTT 5 connection with a thread that reads it. It knows nothing of the gateway: what it says
was acknowledged, the broker has acknowledged; what it has heard, a subscriber of anybody has heard.
"""

import itertools
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

import mqtt5
from mqtt5 import PublishPacket, QoS

from tests.waiting import PATIENCE_S

HOST = "127.0.0.1"
PACKET_MAX = 4 * 1024 * 1024
SITE = "community/c1"

T = TypeVar("T")

_names = itertools.count()


class Wire:
    """``acknowledged`` has the keys of publications that the broker has taken, in the order of its answers."""

    def __init__(self, port: int, *, client_id: str | None = None, expiry_s: int = 0) -> None:
        self.acknowledged: list[Hashable] = []
        self.heard: list[PublishPacket] = []
        self._client_id = client_id or f"test-{os.getpid()}-{next(_names)}"
        self._expiry_s = expiry_s
        self._address = (HOST, port)
        self._socket: socket.socket
        self._thread: threading.Thread
        self._changed = threading.Condition()
        self._waiting: dict[int, Hashable] = {}
        self._window = 0
        self._granted = 0
        self._ids = itertools.cycle(range(1, 65_536))
        self.closed = False

    def __enter__(self) -> Self:
        self._socket = socket.create_connection(self._address, PATIENCE_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.settimeout(None)
        self._thread = threading.Thread(target=self._read, name=self._client_id, daemon=True)
        self._thread.start()
        connect = mqtt5.ConnectPacket(
            self._client_id,
            clean_start=not self._expiry_s,
            keep_alive=0,
            session_expiry_interval=self._expiry_s,
            max_packet_size=PACKET_MAX,
        )
        self._socket.sendall(connect.write())
        self.wait(lambda: self._window)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._socket.sendall(mqtt5.DisconnectPacket().write())
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the broker has gone first
        self._thread.join(PATIENCE_S)
        self._socket.close()

    # --- publishing -----------------------------------------------------------------------------------------

    def publish(
        self, topic: str, payload: bytes | object, key: Hashable = None, *, qos: int = 1, retain: bool = False
    ) -> None:
        """Below the community; anything but bytes is sent as JSON. Waits only while the window is full."""
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        packet_id = None
        if qos:
            with self._changed:
                self._wait(lambda: len(self._waiting) < self._window)
                packet_id = next(each for each in self._ids if each not in self._waiting)
                self._waiting[packet_id] = key
        packet = PublishPacket(f"{SITE}/{topic}", body, qos=QoS(qos), retain=retain, packet_id=packet_id)
        self._socket.sendall(packet.write())

    def settle(self, timeout_s: float = PATIENCE_S) -> None:
        """Wait until the broker has answered everything."""
        self.wait(lambda: not self._waiting, timeout_s)

    def wait_acknowledged(self, count: int) -> None:
        """Until the broker has taken so many publications in all."""
        self.wait(lambda: len(self.acknowledged) >= count)

    # --- hearing --------------------------------------------------------------------------------------------

    def subscribe(self, *filters: str) -> None:
        """Below the community, at QoS 1; returns when the broker has granted them."""
        wanted = [mqtt5.TopicFilter(f"{SITE}/{each}", max_qos=QoS(1)) for each in filters]
        before = self._granted
        self._socket.sendall(mqtt5.SubscribePacket(next(self._ids), wanted).write())
        self.wait(lambda: self._granted > before)

    def wait(self, condition: Callable[[], T], timeout_s: float = PATIENCE_S) -> T:
        """What ``condition`` gives, as soon as it is true."""
        with self._changed:
            return self._wait(condition, timeout_s)

    def _wait(self, condition: Callable[[], T], timeout_s: float = PATIENCE_S) -> T:
        deadline = time.monotonic() + timeout_s
        while not (found := condition()):
            if self.closed:
                raise ConnectionError("the broker has closed the connection")
            assert self._changed.wait(deadline - time.monotonic()), "nothing of the kind came"
        return found

    # --- the thread -----------------------------------------------------------------------------------------

    def _read(self) -> None:
        buffer = b""
        try:
            while data := self._socket.recv(65_536):
                packets, buffer = cut(buffer + data)
                answers = [
                    mqtt5.PubAckPacket(packet.packet_id).write()
                    for packet in packets
                    if isinstance(packet, PublishPacket) and packet.packet_id is not None
                ]
                if answers:
                    self._socket.sendall(b"".join(answers))
                with self._changed:
                    for packet in packets:
                        self._take(packet)
                    self._changed.notify_all()
        except OSError:
            pass
        with self._changed:
            self.closed = True
            self._changed.notify_all()

    def _take(self, packet: mqtt5.Packet) -> None:
        match packet:
            case PublishPacket():
                self.heard.append(packet)
            case mqtt5.PubAckPacket():
                key = self._waiting.pop(packet.packet_id)
                if packet.reason_code.value < 0x80:
                    self.acknowledged.append(key)
            case mqtt5.SubAckPacket():
                self._granted += 1
            case mqtt5.ConnAckPacket():
                self._window = min(packet.receive_max, 1_000)
            case _:
                pass


def cut(data: bytes) -> tuple[list[mqtt5.Packet], bytes]:
    """The packets that are whole, and the rest."""
    packets, position = [], 0
    with memoryview(data) as view:
        while position < len(data):
            try:
                packet, size = mqtt5.read(view[position:])
            except IndexError:
                break
            packets.append(packet)
            position += size
    return packets, data[position:]


@dataclass(frozen=True)
class Told:
    """One publication about an alarm; ``alarm`` is None for the empty payload that ends it."""

    id: str
    alarm: dict[str, Any] | None
    retained: bool


class AlarmWatch(Wire):
    """Hears every alarm from now on, and what the broker holds of those before."""

    def __enter__(self) -> Self:
        super().__enter__()
        self.subscribe("alarm/+")
        return self

    @property
    def told(self) -> list[Told]:
        """Everything about alarms, in order."""
        return [
            Told(
                packet.topic.rsplit("/", 1)[1],
                json.loads(packet.payload) if packet.payload else None,
                packet.retain,
            )
            for packet in list(self.heard)
        ]

    def of(self, device: str, rule: str | None = None) -> list[dict[str, Any]]:
        """What was told of a device's alarms."""
        return [
            told.alarm
            for told in self.told
            if told.alarm is not None
            and told.alarm["device"] == device
            and rule in (None, told.alarm["rule"])
        ]

    def wait_for(
        self, device: str, timeout_s: float = PATIENCE_S, *, durable: bool | None = True, **expected: object
    ) -> dict[str, Any]:
        """The first telling about a device in which ``expected`` holds.

        On a slow disk an alarm is told before it is stored, and again afterwards; ``durable=None`` takes either.
        """
        if durable is not None:
            expected["durable"] = durable
        return (
            self.wait(
                lambda: next(
                    (
                        each
                        for each in self.of(device)
                        if all(each[name] == value for name, value in expected.items())
                    ),
                    None,
                ),
                timeout_s,
            )
            or {}
        )

    def wait_for_end(self, alarm_id: str, timeout_s: float = PATIENCE_S) -> None:
        """Until the empty payload came."""
        self.wait(lambda: any(told.id == alarm_id and told.alarm is None for told in self.told), timeout_s)


def retained_alarms(port: int) -> dict[str, dict[str, Any]]:
    """What a subscriber that comes now gets: alarms by id. The end is known by a message after them."""
    with AlarmWatch(port) as late:
        late.subscribe(f"marker/{late._client_id}")  # noqa: SLF001 - its own
        late.publish(f"marker/{late._client_id}", b"end")  # noqa: SLF001
        late.wait(lambda: any(packet.payload == b"end" for packet in late.heard))
        late.heard = [packet for packet in late.heard if "/alarm/" in packet.topic and packet.retain]
        return {told.id: told.alarm for told in late.told if told.alarm is not None}
