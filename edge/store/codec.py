"""How values lie in the journal's columns: MessagePack, and zlib where there is much of it.

Every packed column begins with one byte that names its format, so that a later form can stand beside this
one. Promises that what the core accepted can be stored: a number that MessagePack has no room for becomes
the nearest float, and nesting that it cannot follow is left out. One message must never fail a commit.
"""

import sys
from array import array
from collections.abc import Iterable, Sequence
from typing import TypeVar
from zlib import compress, crc32, decompress
from zlib import error as ZlibError  # noqa: N812 - an exception's name

import msgspec

from devices.readings import Address, Scalar
from devices.topics import Lane
from edge.store.errors import JournalDamaged
from edge.store.inputs import Inputs, scalars
from edge.store.records import Marks, RecentId, RuleDocument
from rules.alarms import Alarm
from rules.decisions import ClockStepped, Input

FORMAT = b"\x01"
"""zlib (level 1: a tenth of the time of level 6 for nine tenths of its gain) around MessagePack."""

SEALED = b"\x02"
"""A checksum (CRC-32, four bytes, little end first) before MessagePack: a flipped bit must not change an alarm
unnoticed. zlib has a checksum of its own."""

_LEVEL = 1
_T = TypeVar("_T")
_PAIR = b"\x92"  # MessagePack's head of an array of two
_STEPPED = b"\x93\xa1s"  # how a ClockStepped begins

_encoder = msgspec.msgpack.Encoder()
_inputs = msgspec.msgpack.Decoder(tuple[list[Input], msgspec.Raw])
_recent = msgspec.msgpack.Decoder(tuple[msgspec.Raw, list[RecentId]])
_packets = msgspec.msgpack.Decoder(list[tuple[Lane, bool, bytes, bytes]])
_devices = msgspec.msgpack.Decoder(list[tuple[str, bytes]])
_documents = msgspec.msgpack.Decoder(tuple[RuleDocument, ...])
_alarm = msgspec.msgpack.Decoder(Alarm)
_args = msgspec.msgpack.Decoder(dict[str, Scalar])


def encode_inputs(inputs: Inputs, recent: Sequence[RecentId]) -> bytes:
    """The inputs of a batch and the message ids to remember, in one stream: they share their texts."""
    return FORMAT + compress(_PAIR + inputs.packed() + _encoder.encode(recent), _LEVEL)


def decode_inputs(blob: bytes | None) -> list[Input]:
    """The inputs of a batch, in order. Raises `JournalDamaged`."""
    return [] if blob is None else _read(_inputs, _unpacked(blob))[0]


def unpacked_inputs(blob: bytes | None) -> bytes:
    """The inputs of a batch as MessagePack. Raises `JournalDamaged`."""
    return b"" if blob is None else _unpacked(blob)


def decode_recent(blob: bytes | None) -> tuple[int, list[RecentId]]:
    """By how much the clock was set in a batch (ms), and its message ids, in order and by the clock after that.

    Decodes its inputs only where it may have been set. Raises `JournalDamaged`.
    """
    if blob is None:
        return 0, []
    packed = _unpacked(blob)
    stepped_ms = 0
    if _STEPPED in packed:
        stepped_ms = sum(each.by_ms for each in _read(_inputs, packed)[0] if isinstance(each, ClockStepped))
    return stepped_ms, _read(_recent, packed)[1]


def encode_packets(begun: Iterable[Lane], packets: Marks) -> bytes | None:
    """Packet marks by lane, two bytes for the identifier, four for the fingerprint; None for nothing."""
    lanes = frozenset(begun)
    told = [
        (lane, lane in lanes, _little(array("H", marks[::2])), _little(array("I", marks[1::2])))
        for lane in Lane
        if (marks := packets.get(lane, [])) or lane in lanes
    ]
    return _sealed(_encoder.encode(told)) if told else None


def decode_packets(blob: bytes) -> list[tuple[Lane, bool, list[int]]]:
    """By lane: whether its session began with this batch, and its marks as in `Marks`. Raises `JournalDamaged`."""
    found = []
    for lane, begun, ids, prints in _read(_packets, _body(blob)):
        pairs = zip(_numbers("H", ids), _numbers("I", prints), strict=True)
        found.append((lane, begun, [number for pair in pairs for number in pair]))
    return found


def encode_devices(devices: Sequence[tuple[Address, bytes]]) -> bytes:
    """The states of many devices; alike as they are, they shrink to a quarter together."""
    return FORMAT + compress(_encoder.encode(devices), _LEVEL)


def decode_devices(blob: bytes) -> list[tuple[Address, bytes]]:
    """The states of many devices. Raises `JournalDamaged`."""
    return [(Address(address), state) for address, state in _read(_devices, _unpacked(blob))]


def encode_documents(documents: Sequence[RuleDocument]) -> bytes:
    """The rule files of a rule set."""
    return FORMAT + compress(_encoder.encode(documents))


def decode_documents(blob: bytes) -> tuple[RuleDocument, ...]:
    """The rule files of a rule set. Raises `JournalDamaged`."""
    return _read(_documents, _unpacked(blob))


def encode_alarm(alarm: Alarm) -> bytes:
    """An alarm by field names, so that later fields may join."""
    try:
        return _sealed(_encoder.encode(alarm))
    except OverflowError:
        return _sealed(_encoder.encode(msgspec.structs.replace(alarm, values=scalars(alarm.values))))


def decode_alarm(blob: bytes) -> Alarm:
    """An alarm. Raises `JournalDamaged`."""
    return _read(_alarm, _body(blob))


def encode_args(args: dict[str, Scalar]) -> bytes:
    """A command's arguments."""
    return _sealed(_encoder.encode(scalars(args)))


def decode_args(blob: bytes) -> dict[str, Scalar]:
    """A command's arguments. Raises `JournalDamaged`."""
    return _read(_args, _body(blob))


def encode_header(header: bytes) -> bytes:
    """A snapshot's header, which is MessagePack already."""
    return _sealed(header)


def decode_header(blob: bytes) -> bytes:
    """A snapshot's header. Raises `JournalDamaged`."""
    return _body(blob)


def storable_text(text: str) -> str:
    """Text as SQLite can hold it: what is no character (a lone surrogate) becomes a question mark."""
    return text.encode("utf-8", "replace").decode()


def _little(numbers: "array[int]") -> bytes:
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()


def _numbers(typecode: str, raw: bytes) -> "array[int]":
    numbers = array(typecode)
    numbers.frombytes(raw)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def _sealed(packed: bytes) -> bytes:
    return SEALED + crc32(packed).to_bytes(4, "little") + packed


def _body(blob: bytes | None) -> bytes:
    if not isinstance(blob, bytes):  # a damaged page may make any value another, whatever the schema says
        raise JournalDamaged("a stored value is damaged: it is no bytes")
    if blob[:1] == SEALED:
        packed = blob[5:]
        if crc32(packed) != int.from_bytes(blob[1:5], "little"):
            raise JournalDamaged("a stored value is damaged: its checksum does not fit")
        return packed
    if blob[:1] != FORMAT:
        raise JournalDamaged(f"a stored value has the unknown format {blob[:1].hex() or 'nothing'}")
    return blob[1:]


def _unpacked(blob: bytes) -> bytes:
    try:
        return decompress(_body(blob))
    except ZlibError as error:
        raise JournalDamaged(f"a stored value is damaged: {error}") from error


def _read(decoder: msgspec.msgpack.Decoder[_T], packed: bytes) -> _T:
    try:
        return decoder.decode(packed)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise JournalDamaged(f"a stored value is damaged: {error}") from error
