"""Those at the other end of the wire, through anything: devices that publish, ears that hear alarms and orders.

Both come back after every broken connection. What a device says was acknowledged, the broker has acknowledged.
"""

import json
import select
import socket
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import mqtt5
from mqtt5 import PublishPacket, QoS

from tests.chaos.traffic import Message
from tests.waiting import looks
from tests.wire import cut

HOST = "127.0.0.1"
PREFIX = "community/c1"
PATIENCE_S = 4.0
"""Without an answer for so long a device takes its connection for dead."""
WINDOW = 500
FILTERS = ("alarm/+", "+/+/command", "gateway/+/status")
BUFFER = 4_000
"""Messages that a device keeps while there is no broker."""


class Connection:
    """One MQTT 5 connection on a socket that never blocks for long. Raises `OSError` once it is gone."""

    def __init__(self, port: int, client_id: str, *, expiry_s: int = 0) -> None:
        self.socket = socket.create_connection((HOST, port), PATIENCE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._rest = b""
        self._out = bytearray()
        self.session_present = False
        connect = mqtt5.ConnectPacket(
            client_id,
            clean_start=not expiry_s,
            keep_alive=0,
            session_expiry_interval=expiry_s,
            receive_max=4_096,
        )
        self.socket.setblocking(False)
        try:
            self.early = self._greeted(connect.write())
        except BaseException:
            self.close()
            raise
        first = self.early.pop(0)
        if not isinstance(first, mqtt5.ConnAckPacket) or first.reason_code.value:
            self.close()
            raise ConnectionError(f"the broker answered {first}")
        self.session_present = first.session_present

    def _greeted(self, connect: bytes) -> list[mqtt5.Packet]:
        self.send(connect)
        deadline = time.monotonic() + PATIENCE_S
        while not (packets := self.exchange(0.1)):
            if time.monotonic() > deadline:
                raise TimeoutError("no CONNACK")
        return packets

    def send(self, data: bytes) -> None:
        """Now or with `exchange`."""
        self._out += data
        self._flush()

    def exchange(self, timeout_s: float) -> list[mqtt5.Packet]:
        """What came; waits at most so long for something."""
        readable, writable, _ = select.select(
            [self.socket], [self.socket] if self._out else [], [], timeout_s
        )
        if writable:
            self._flush()
        if not readable:
            return []
        data = self.socket.recv(256 * 1024)
        if not data:
            raise ConnectionError("the broker closed the connection")
        packets, self._rest = cut(self._rest + data)
        return packets

    def close(self) -> None:
        """At once."""
        self.socket.close()

    def _flush(self) -> None:
        if self._out:
            try:
                del self._out[: self.socket.send(self._out)]
            except BlockingIOError:
                return


class _Stubborn(threading.Thread, ABC):
    """A thread that keeps a connection until it is told to end."""

    def __init__(self, port: int, name: str, expiry_s: int = 0) -> None:
        super().__init__(name=name, daemon=True)
        self._port = port
        self._expiry_s = expiry_s
        self._over = threading.Event()
        self.connections = 0

    def run(self) -> None:
        while not self._over.is_set():
            connection: Connection | None = None
            try:
                connection = Connection(self._port, self.name, expiry_s=self._expiry_s)
                self.connections += 1
                self.talk(connection)
            except OSError:
                self._over.wait(0.2)
            finally:
                if connection is not None:
                    connection.close()

    @abstractmethod
    def talk(self, connection: Connection) -> None:
        """Until it ends or the connection does."""

    def end(self) -> None:
        """Close and wait."""
        self._over.set()
        self.join(2 * PATIENCE_S)


class Devices(_Stubborn):
    """Publish what they are given; ``give`` from any thread."""

    def __init__(self, port: int, name: str) -> None:
        super().__init__(port, name)
        self._waiting: deque[Message] = deque()
        self._again: deque[Message] = deque()
        self.dropped = 0

    def give(self, messages: Sequence[Message]) -> None:
        """Say these as soon as possible; what does not fit the buffer was never said."""
        for message in messages:
            if len(self._waiting) < BUFFER:
                self._waiting.extend([message] * message.copies)
            else:
                self.dropped += 1

    @property
    def silent(self) -> bool:
        """Everything is said and answered."""
        return not self._waiting and not self._again and not self._flying

    _flying: dict[int, Message] = {}  # noqa: RUF012 - replaced by each connection

    def talk(self, connection: Connection) -> None:
        self._flying = flying = {}
        free = deque(range(1, WINDOW + 1))
        heard_at = time.monotonic()
        try:
            while not self._over.is_set():
                packets = []
                while free and (self._again or self._waiting):
                    message = (self._again or self._waiting).popleft()
                    packet_id = free.popleft()
                    flying[packet_id] = message
                    if message.sent_ms is None:
                        message.sent_ms = time.time_ns() // 1_000_000
                    packets.append(
                        PublishPacket(
                            f"{PREFIX}/{message.topic}",
                            message.payload,
                            qos=QoS.AT_LEAST_ONCE,
                            packet_id=packet_id,
                        ).write()
                    )
                if len(flying) == len(packets):
                    heard_at = time.monotonic()
                connection.send(b"".join(packets))
                for packet in connection.exchange(0.02):
                    heard_at = time.monotonic()
                    if isinstance(packet, mqtt5.PubAckPacket):
                        message = flying.pop(packet.packet_id)
                        free.append(packet.packet_id)
                        if packet.reason_code.value < 0x80 and message.acknowledged_ms is None:
                            message.acknowledged_ms = time.time_ns() // 1_000_000
                if time.monotonic() - heard_at > PATIENCE_S:
                    raise TimeoutError("no answer")
        finally:
            self._again.extend(message for message in flying.values() if message.repeatable)
            self._flying = {}


@dataclass(slots=True)
class Told:
    """An alarm or an order as an ear heard it."""

    at_ms: int
    topic: str
    body: dict[str, Any] | None
    retained: bool


@dataclass(slots=True)
class Heard:
    """Everything that an ear heard, in order."""

    alarms: list[Told] = field(default_factory=list)
    orders: list[Told] = field(default_factory=list)
    online: list[int] = field(default_factory=list)
    """When the gateway said that it is online (Unix ms)."""


class Ear(_Stubborn):
    """Hears alarms and orders; its session outlives its connections."""

    def __init__(self, port: int, name: str) -> None:
        super().__init__(port, name, expiry_s=86_400)
        self.heard = Heard()
        self.listening = threading.Event()
        self.lost_sessions = 0

    def talk(self, connection: Connection) -> None:
        if self.connections > 1 and not connection.session_present:
            self.lost_sessions += 1
        filters = [mqtt5.TopicFilter(f"{PREFIX}/{each}", max_qos=QoS.AT_LEAST_ONCE) for each in FILTERS]
        connection.send(mqtt5.SubscribePacket(1, filters).write())
        packets = connection.early
        while not self._over.is_set():
            for packet in packets:
                if isinstance(packet, mqtt5.SubAckPacket):
                    self.listening.set()
                elif isinstance(packet, PublishPacket):
                    if packet.packet_id is not None:
                        connection.send(mqtt5.PubAckPacket(packet.packet_id).write())
                    self._take(packet)
            packets = connection.exchange(0.1)

    def _take(self, packet: PublishPacket) -> None:
        topic = packet.topic.removeprefix(f"{PREFIX}/")
        if topic.startswith("gateway/"):
            if packet.payload == b"online" and not packet.retain:
                self.heard.online.append(time.time_ns() // 1_000_000)
            return
        body = json.loads(packet.payload) if packet.payload else None
        told = Told(time.time_ns() // 1_000_000, topic, body, packet.retain)
        (self.heard.alarms if topic.startswith("alarm/") else self.heard.orders).append(told)


def wait_until(condition: Callable[[], object], timeout_s: float) -> bool:
    """Whether it became true in time."""
    return any(condition() for _ in looks(timeout_s, 0.05))
