"""Messages that were said before (contract, section 2).

(a) MQTT's own: DUP is set, and this packet identifier with this content was committed in this session.
(b) The device's: the same topic, ``id`` and payload within five minutes, over any session.
(c) Without an ``id``: the same topic and payload, ``ts`` among it, likewise (docs/adr/0022). A broker that was killed
    brings messages anew without DUP; no device says the same twice in the same millisecond.

All memories are bounded, and what they hold is stored with each batch so that a crash does not forget it.
"""

from array import array
from collections.abc import Sequence
from zlib import crc32

from devices.decoding import stamp_of
from devices.readings import Channel, Reading

WINDOW_MS = 5 * 60_000

PACKET_IDS = 65_536

NAME_LIMIT = 128
"""Characters of a name that are remembered: the fingerprint tells apart those that go on differently."""


def fingerprint(topic: str, payload: bytes) -> int:
    """32 bits of what a message said and where."""
    return crc32(payload, crc32(topic.encode("utf-8", "surrogatepass")))


def name_of(reading: Reading, payload: bytes) -> str | None:
    """What `RecentMessages` knows a message by: its ``id``, else its ``ts``; None where nothing tells it from the next.

    A ``ts`` that is a whole second tells nothing: that is what devices say whose clock is coarse or stands still, and a
    second press must count. A status is what is so now, however often it is said.
    """
    if reading.id is not None or reading.channel is Channel.STATUS:
        return reading.id
    stamp = stamp_of(reading, payload)
    return None if stamp is None or stamp % 1_000 == 0 else f"@{stamp}"


class SessionPackets:
    """What was last committed under each packet identifier of one MQTT session."""

    def __init__(self) -> None:
        self._seen = array("Q", bytes(8 * PACKET_IDS))

    def committed(self, marks: Sequence[int]) -> None:
        """Remember packets that are on disk now: packet identifier, fingerprint, and so on in turn."""
        seen = self._seen
        for place in range(0, len(marks), 2):
            seen[marks[place]] = marks[place + 1] + 1

    def is_repeat(self, packet_id: int, print_: int) -> bool:
        """Ask only for a packet whose DUP flag is set."""
        return self._seen[packet_id] == print_ + 1

    def clear(self) -> None:
        """The broker has begun a new session: its identifiers mean nothing any more."""
        self._seen = array("Q", bytes(8 * PACKET_IDS))


class RecentMessages:
    """Messages with a name (`name_of`) of the last five minutes, at most ``limit`` of them.

    Two halves: when the newer one is full or five minutes old it becomes the older one, which is let go whole. A time
    is kept as one number with the fingerprint, because there may be a hundred thousand.
    """

    def __init__(self, limit: int = 100_000) -> None:
        self._half = limit // 2
        self._newer: dict[_Key, int] = {}
        self._older: dict[_Key, int] = {}
        self._turned = self._latest = 0

    def is_repeat(self, name: str, print_: int, now: int) -> bool:
        """Whether this message came within the window; remembers it if not. ``now`` is Unix ms."""
        key = _key(name, print_)
        at = self._newer.get(key)
        if at is None:
            at = self._older.get(key)
        if at is not None and now - at <= WINDOW_MS:
            return True
        if len(self._newer) >= self._half or now - self._turned > WINDOW_MS:
            self._older = self._newer if now - self._latest <= WINDOW_MS else {}
            self._newer, self._turned = {}, now
        self._newer[key] = self._latest = now
        return False

    def held(self) -> list[tuple[str, int, int]]:
        """All that is remembered: name, fingerprint and when it came (Unix ms), oldest first."""
        return [(*_named(key), at) for half in (self._older, self._newer) for key, at in half.items()]

    def shift(self, by_ms: int) -> None:
        """The clock was set: what was heard was heard as long ago as before."""
        for half in (self._older, self._newer):
            for key in half:
                half[key] += by_ms
        self._turned += by_ms
        self._latest += by_ms


_Key = int | tuple[str, int]
"""A time and a fingerprint in one number, or an id and a fingerprint."""


def _key(name: str, print_: int) -> _Key:
    stamp = name[1:NAME_LIMIT]
    if name[:1] == "@" and stamp.isdecimal() and stamp.isascii() and stamp[0] != "0":
        return int(stamp) << 32 | print_
    return name[:NAME_LIMIT], print_


def _named(key: _Key) -> tuple[str, int]:
    return key if isinstance(key, tuple) else (f"@{key >> 32}", key & 0xFFFFFFFF)
