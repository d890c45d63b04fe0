"""MQTT 5 with the `mqtt5` codec on an asyncio Protocol: what a site runs.

The hot path is `_Connection5.buffer_updated`: whatever the socket had is cut into packets at once and handed
to the inbox as one list. It must not await, copy payloads or touch a message twice.
"""

import asyncio
from collections.abc import Sequence
from itertools import cycle
from struct import pack
from typing import cast

import mqtt5
from mqtt5 import DisconnectReasonCode, PublishPacket, QoS

from devices.topics import Lane
from edge.mqtt.backoff import Backoff
from edge.mqtt.connection import Connection, Deliver, Loss
from edge.mqtt.link import Delivery, Inbox, LinkError, LinkSettings, NotConnected, PublishRefusedError
from edge.mqtt.rejections import RejectedError, refusal, tls_context
from edge.mqtt.session import Session, Turn

_PUBACK = 0x4002_0000
_delivery = tuple.__new__
_SEND_MAXIMUM = 1_000  # bounds what waits for PUBACK where the broker allows 65,535
_GRACE_S = 1.0
_BUSY = 1_500  # bytes of a read that show a flood
_GATHER_BUSY_S = 0.004
_GATHER_S = 0.001  # what a message may wait for others; at 40,000 a second it saves half of the work
_BUFFER_SIZE = (
    128 * 1024
)  # one for the life of the connection: a new one for each read costs more than parsing


def mqtt5_link(
    lane: Lane,
    settings: LinkSettings,
    inbox: Inbox,
    *,
    backoff: Backoff | None = None,
    turn: Turn | None = None,
) -> Session:
    """A `Link` that speaks MQTT 5."""
    return Session(lane, settings, inbox, connect=_connect, backoff=backoff, turn=turn)


class MalformedPacketError(LinkError):
    """What came is not MQTT 5, or larger than agreed."""


class PacketReader:
    """Cuts the stream into packets, in a buffer that the network fills.

    What is not complete stays where it is or moves once, to the front or into a buffer of its own size.
    """

    def __init__(self, maximum_packet_size: int) -> None:
        self._maximum = maximum_packet_size
        self._view = memoryview(bytearray(_BUFFER_SIZE))
        self._filled = 0

    def room(self) -> memoryview:
        """Where to put what comes; never empty."""
        return self._view[self._filled :]

    def take(self, size: int) -> list[Delivery | mqtt5.Packet]:
        """What ``size`` more bytes complete, in order; of a PUBLISH its message. Raises `MalformedPacketError`;
        all is lost then.
        """  # noqa: D205 - one sentence
        taken: list[Delivery | mqtt5.Packet] = []
        view, position, end = self._view, 0, self._filled + size
        while position < end:
            try:
                packet, length = mqtt5.read(view[position:end])
            except IndexError:
                break
            except ValueError as error:
                raise MalformedPacketError(str(error)) from error
            except BaseException as error:
                if (
                    type(error).__module__ != "pyo3_runtime"
                ):  # its panics are no Exception; all else is raised again
                    raise
                raise MalformedPacketError("a text that is not UTF-8") from error
            if length > self._maximum:
                raise MalformedPacketError(f"a packet of {length:,} bytes, {self._maximum:,} were agreed")
            if type(packet) is PublishPacket:  # let go at once: the next one takes its place in the cache
                message = (packet.topic, packet.payload, packet.packet_id, packet.duplicate, packet.retain)
                taken.append(_delivery(Delivery, message))  # half the time of calling Delivery
            else:
                taken.append(packet)
            position += length
        self._keep(view[position:end])
        return taken

    def _keep(self, rest: memoryview) -> None:
        needed = _needed(rest)
        if needed > self._maximum:
            raise MalformedPacketError(f"a packet of {needed:,} bytes, {self._maximum:,} were agreed")
        if needed <= len(rest):
            raise MalformedPacketError("a packet shorter than what it holds")
        if needed > len(self._view) or len(self._view) > _BUFFER_SIZE >= needed:
            self._view = memoryview(bytearray(max(needed, _BUFFER_SIZE)))
        self._view[: len(rest)] = rest  # may overlap, which a memoryview permits
        self._filled = len(rest)


def _needed(packet: memoryview) -> int:
    """Bytes of the packet that begins here; while that is unknown, as many as tell more."""
    remaining = 0
    for index in range(1, 5):
        if index >= len(packet):
            return len(packet) + 1
        byte = packet[index]
        remaining |= (byte & 0x7F) << (7 * (index - 1))
        if byte < 0x80:  # noqa: PLR2004 - the continuation bit of a variable byte integer
            return 1 + index + remaining
    raise MalformedPacketError("a length of more than four bytes")


async def _connect(settings: LinkSettings, number: int, deliver: Deliver) -> Connection:
    _, connection = await asyncio.get_running_loop().create_connection(
        lambda: _Connection5(settings, number, deliver),
        settings.host,
        settings.port,
        ssl=None if settings.tls is None else tls_context(settings.tls),
    )
    return connection


class _Connection5(Connection, asyncio.BufferedProtocol):
    def __init__(self, settings: LinkSettings, number: int, deliver: Deliver) -> None:
        super().__init__(number)
        self._settings = settings
        self._deliver = deliver
        self._reader = PacketReader(settings.maximum_packet_size)
        self._transport: asyncio.Transport
        self._loss: Loss | None = None
        """Why we or the broker ended it; None while it is in use."""
        self._heard = True
        self._paused = False
        self._read_at = 0.0
        self._keep_alive_s = settings.keep_alive_s
        self._watch: asyncio.TimerHandle | None = None
        self._packet_ids = cycle(range(1, 65_536))
        self._broker_maximum: int | None = None

    # --- the network --------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        settings = self._settings
        will = settings.will if settings.farewell is None else settings.farewell()
        packet = mqtt5.ConnectPacket(
            settings.client_id,
            username=settings.username,
            password=None if settings.password is None else settings.password.encode(),
            clean_start=False,
            will=None
            if will is None
            else mqtt5.Will(
                will.topic,
                payload=will.payload,
                qos=QoS.AT_LEAST_ONCE,
                retain=will.retain,
                will_delay_interval=will.delay_s,
            ),
            keep_alive=settings.keep_alive_s,
            session_expiry_interval=settings.session_expiry_s,
            receive_max=settings.receive_maximum,
            max_packet_size=settings.maximum_packet_size,
        )
        self._transport.write(packet.write())

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - the reader knows better
        return self._reader.room()

    def buffer_updated(self, nbytes: int) -> None:
        self._heard = True
        if nbytes < _BUFFER_SIZE // 4:
            self._gather(_GATHER_S if nbytes < _BUSY else _GATHER_BUSY_S)
        try:
            taken = self._reader.take(nbytes)
        except MalformedPacketError as error:
            self._fail(DisconnectReasonCode.MALFORMED_PACKET, f"the broker sent {error}")
            return
        deliveries = [each for each in taken if type(each) is Delivery]
        if len(deliveries) < len(taken):
            for each in taken:
                if not isinstance(each, Delivery):
                    self._control(each)
        if deliveries and self._loss is None:
            if self.accepted.done():
                self._deliver(self, deliveries)
            else:
                self._fail(DisconnectReasonCode.PROTOCOL_ERROR, "the broker sent a message before CONNACK")

    def _gather(self, wait_s: float) -> None:
        """Let more come together when reads follow each other closely: brokers send one by one."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        if now - self._read_at < 2 * wait_s and not self._paused:
            self._transport.pause_reading()
            loop.call_later(wait_s, self._read_on)
        self._read_at = now

    def _read_on(self) -> None:
        if not self._paused:
            self._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._watch is not None:
            self._watch.cancel()
        if self._loss is None:
            closed = "the broker closed the connection" + (f" ({exc})" if exc else "")
            if not self.accepted.done():
                closed += ' before CONNACK: if it does not speak MQTT 5, set mqtt.protocol to "3.1.1"'
            self._loss = Loss(closed, contested=True)
        self._ended(self._loss)

    def _control(self, packet: mqtt5.Packet) -> None:
        match packet:
            case mqtt5.PubAckPacket():
                self._acknowledged(packet.packet_id, packet.reason_code.value, packet.reason_code.name)
            case mqtt5.SubAckPacket() | mqtt5.UnsubAckPacket():
                self._granted(packet.packet_id, [code.value for code in packet.reason_codes])
            case mqtt5.PingRespPacket():
                pass
            case mqtt5.ConnAckPacket() if not self.accepted.done():
                self._accept(packet)
            case mqtt5.DisconnectPacket():
                reason = f"the broker disconnected us ({packet.reason_str or packet.reason_code.name})"
                self._loss = Loss(reason, packet.reason_code == DisconnectReasonCode.SESSION_TAKEN_OVER)
                self._transport.close()
            case _:
                name = type(packet).__name__
                self._fail(DisconnectReasonCode.PROTOCOL_ERROR, f"the broker sent a {name} out of place")

    def _accept(self, packet: mqtt5.ConnAckPacket) -> None:
        if packet.reason_code != mqtt5.ConnAckReasonCode.SUCCESS:
            self._reject(refusal(packet.reason_code.value, packet.reason_code.name, self._settings))
            self.disconnect()
            return
        if not packet.retain_available or packet.max_qos == QoS.AT_MOST_ONCE:
            lacking = "QoS 1" if packet.retain_available else "retained messages"
            self._reject(RejectedError(f"the broker does not permit {lacking}: correct its configuration"))
            self.disconnect()
            return
        self.session_present = packet.session_present
        self.receive_maximum = min(self._settings.receive_maximum, packet.receive_max)
        self.broker_maximum = packet.receive_max
        self.send_maximum = min(_SEND_MAXIMUM, packet.receive_max)
        self._broker_maximum = packet.max_packet_size
        if packet.server_keep_alive is not None:
            self._keep_alive_s = packet.server_keep_alive
        if self._keep_alive_s:
            self._watch = asyncio.get_running_loop().call_later(self._keep_alive_s / 2, self._keep_alive)
        self.accepted.set_result(None)

    def _keep_alive(self) -> None:
        """Twice per interval: ping, and look whether anything came since the last ping."""
        if not (self._heard or self._paused):
            self._loss = self._loss or Loss("the broker does not answer (no PINGRESP)")
            self._transport.abort()
            return
        self._heard = False
        if self._loss is None:
            self._transport.write(mqtt5.PingReqPacket().write())
        self._watch = asyncio.get_running_loop().call_later(self._keep_alive_s / 2, self._keep_alive)

    def _fail(self, code: DisconnectReasonCode, reason: str) -> None:
        """End it because of what the broker did."""
        if self._loss is None:
            self._loss = Loss(reason)
            self._transport.write(mqtt5.DisconnectPacket(reason_code=code).write())
            self._let_go()

    def _let_go(self) -> None:
        self._transport.close()  # after the last words have gone out, if they ever do
        asyncio.get_running_loop().call_later(_GRACE_S, self._transport.abort)

    # --- what the session asks for ------------------------------------------------------------------------

    def acknowledge(self, packet_ids: Sequence[int]) -> None:
        if self._loss is None:
            # PUBACK with reason code 0 and no properties is four bytes (MQTT 5, section 3.4.2.1).
            self._transport.write(pack(f">{len(packet_ids)}I", *[_PUBACK | each for each in packet_ids]))

    def publish(
        self, topic: str, payload: bytes, *, retain: bool, expires_in_s: int | None
    ) -> asyncio.Future[None]:
        packet_id = self._packet_id()
        message = PublishPacket(
            topic,
            payload,
            qos=QoS.AT_LEAST_ONCE,
            retain=retain,
            packet_id=packet_id,
            message_expiry_interval=expires_in_s,
        )
        packet, maximum = message.write(), self._broker_maximum
        if maximum is not None and len(packet) > maximum:
            raise PublishRefusedError(f"a message of {len(packet):,} bytes; the broker takes {maximum:,}")
        self._transport.write(packet)
        published = self._publishing[packet_id] = asyncio.get_running_loop().create_future()
        return published

    def subscribe(self, filters: Sequence[str], qos: int) -> asyncio.Future[Sequence[int]]:
        packet_id = self._packet_id()
        # Without retain-as-published the retain flag says what we want to know: that it is old news.
        wanted = [mqtt5.TopicFilter(each, max_qos=QoS(qos), retain_as_published=False) for each in filters]
        self._transport.write(mqtt5.SubscribePacket(packet_id, wanted).write())
        return self._answer(packet_id)

    def unsubscribe(self, topic_filter: str) -> asyncio.Future[Sequence[int]]:
        packet_id = self._packet_id()
        self._transport.write(mqtt5.UnsubscribePacket(packet_id, [topic_filter]).write())
        return self._answer(packet_id)

    def pause_reading(self) -> None:
        self._paused = True
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._paused = False
        self._heard = True  # what came meanwhile is still in the socket
        self._transport.resume_reading()

    def disconnect(self) -> None:
        if self._loss is None:
            self._loss = Loss("closed by the gateway")
            code = DisconnectReasonCode.NORMAL_DISCONNECTION
            if self._settings.farewell is not None:
                code = DisconnectReasonCode.DISCONNECT_WITH_WILL_MESSAGE
            self._transport.write(mqtt5.DisconnectPacket(reason_code=code).write())
            self._let_go()

    def abort(self) -> None:
        self._transport.abort()

    def _packet_id(self) -> int:
        if self._loss is not None:
            raise NotConnected(self._loss.reason)
        used = self._publishing.keys() | self._subscribing.keys() if self._subscribing else self._publishing
        return next(each for each in self._packet_ids if each not in used)

    def _answer(self, packet_id: int) -> asyncio.Future[Sequence[int]]:
        answer = self._subscribing[packet_id] = asyncio.get_running_loop().create_future()
        return answer
