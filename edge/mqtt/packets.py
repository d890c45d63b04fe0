"""From the stream of an MQTT 5 connection to messages and other packets.

Nearly all that comes are messages of one form: PUBLISH at QoS 1 without properties, not redelivered, not retained.
They are cut out here, a few numbers and two slices each; the `mqtt5` codec reads everything else and whatever looks
odd (docs/adr/0017). What is not complete stays where it is or moves once, to the front or into a buffer of its own
size.
"""

from struct import Struct

import mqtt5
from mqtt5 import PublishPacket

from edge.mqtt.link import Delivery, LinkError

_BUFFER_SIZE = (
    128 * 1024
)  # one for the life of the connection: a new one for each read costs more than parsing

_PLAIN = 0x32
"""The first byte of such a message (MQTT 5, section 3.3.1)."""
_HEAD = Struct(">BBBH")  # that byte, a remaining length of one or two bytes, the topic's length behind two
_TAIL = Struct(">HB")  # behind the topic: packet identifier, length of the properties
_MORE = 0x80  # the continuation bit of a variable byte integer
_delivery = tuple.__new__  # half the time of calling Delivery


class MalformedPacketError(LinkError):
    """What came is not MQTT 5, or larger than agreed."""


class PacketReader:
    """Cuts the stream into packets, in a buffer that the network fills."""

    def __init__(self, maximum_packet_size: int) -> None:
        self._maximum = maximum_packet_size
        self._view = memoryview(bytearray(_BUFFER_SIZE))
        self._filled = 0
        self._needed = 0
        """Bytes without which the packet at the front cannot be read."""

    def room(self) -> memoryview:
        """Where to put what comes; never empty."""
        return self._view[self._filled :]

    def take(self, size: int) -> list[Delivery | mqtt5.Packet]:
        """What ``size`` more bytes complete, in order: of a PUBLISH the message. Raises `MalformedPacketError`;
        all is lost then.
        """  # noqa: D205 - one sentence
        end = self._filled + size
        if end < self._needed:
            self._filled = end
            return []
        data = bytes(self._view[:end])  # what is cut out of it needs no further copy
        taken: list[Delivery | mqtt5.Packet] = []
        try:
            position = self._cut(data, taken)
        except UnicodeDecodeError as error:
            raise MalformedPacketError("a text that is not UTF-8") from error
        self._keep(self._view[position:end])
        return taken

    def _cut(self, data: bytes, taken: list[Delivery | mqtt5.Packet]) -> int:
        """Put what is complete into ``taken``; where the rest begins."""
        append, head, tail, maximum = taken.append, _HEAD.unpack_from, _TAIL.unpack_from, self._maximum
        position, end = 0, len(data)
        last = end - _HEAD.size - _TAIL.size
        while position < end:
            if position <= last:
                first, low, high, length = head(data, position)
                if low < _MORE:
                    topic_at, after, length = position + 4, position + 2 + low, high << 8 | length >> 8
                else:
                    topic_at, after = position + 5, position + 3 + (low & 0x7F) + (high << 7)
                topic_end = topic_at + length
                if first == _PLAIN and high < _MORE and topic_end + 3 <= after <= end:
                    packet_id, properties = tail(data, topic_end)
                    if packet_id and length and not properties and after - position <= maximum:
                        topic, payload = data[topic_at:topic_end].decode(), data[topic_end + 3 : after]
                        append(_delivery(Delivery, (topic, payload, packet_id, False, False)))
                        position = after
                        continue
            read = self._read(data, position)
            if read is None:
                break
            packet, length = read
            append(packet)
            position += length
        return position

    def _read(self, data: bytes, position: int) -> tuple[Delivery | mqtt5.Packet, int] | None:
        """What the codec makes of the packet here, and its length; None where it is not complete."""
        try:
            packet, length = mqtt5.read(memoryview(data)[position:])
        except IndexError:
            return None
        except ValueError as error:
            raise MalformedPacketError(str(error)) from error
        except BaseException as error:
            if type(error).__module__ != "pyo3_runtime":  # the codec panics
                raise
            raise MalformedPacketError("a text that is not UTF-8") from error
        if length > self._maximum:
            raise MalformedPacketError(f"a packet of {length:,} bytes, {self._maximum:,} were agreed")
        if type(packet) is PublishPacket:
            message = packet.topic, packet.payload, packet.packet_id, packet.duplicate, packet.retain
            return Delivery(*message), length
        return packet, length

    def _keep(self, rest: memoryview) -> None:
        needed = self._needed = _needed(rest)
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
        if byte < _MORE:
            return 1 + index + remaining
    raise MalformedPacketError("a length of more than four bytes")
