"""What a batch has judged, packed as it will lie in the journal.

What is heard in one go is packed at once, while it is in the processor's cache, and let go. Two thousand readings
kept as objects until the batch is written are two megabytes that push everything else out of that cache and must be
fetched again to be packed: that cost more than the packing (docs/adr/0017).

Promises that what the core accepted can be stored: a number that MessagePack has no room for becomes the nearest
float. One message must never fail a commit.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from devices.readings import Reading, Scalar
from rules.decisions import ClockStepped, ClockUntrusted, Input, time_of

_INT64 = range(-(2**63), 2**64)
_FIXED, _SHORT = 16, 65_536  # lengths from which MessagePack's head of an array is longer

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Input]).decode


class Inputs:
    """Inputs of the engine in the order in which it took them. Iterating decodes them anew each time."""

    def __init__(self, given: Iterable[Input] = ()) -> None:
        self.readings = 0
        """How many of them are readings."""
        self.first_at = 0
        self.last_at = 0
        """The least and the greatest of their times (Unix ms; see `time_of`); 0 without any."""
        self.of_the_clock: list[ClockUntrusted | ClockStepped] = []
        """Those among them that tell of the clock: they are stored also where readings are not."""
        self._parts: list[bytes] = []
        self._count = 0
        for each in given:
            self.append(each)

    def append(self, given: Input) -> None:
        """One more."""
        if isinstance(given, Reading):
            self.heard([given], given.received_at)
            return
        if isinstance(given, ClockUntrusted | ClockStepped):
            self.of_the_clock.append(given)
        self._add([given], time_of(given), time_of(given))

    def heard(self, readings: Sequence[Reading], at: int) -> None:
        """These readings, all of them received at ``at``."""
        self.readings += len(readings)
        self._add(readings, at, at)

    def join(self, later: "Inputs") -> None:
        """All of ``later`` behind these."""
        self.readings += later.readings
        self.of_the_clock += later.of_the_clock
        self._take([later.packed()[5:]], len(later), later.first_at, later.last_at)

    def packed(self) -> bytes:
        """A MessagePack array of all of them."""
        return b"\xdd" + self._count.to_bytes(4, "big") + b"".join(self._parts)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Input]:
        return iter(_decode(self.packed()))

    def _add(self, given: Sequence[Input], first_at: int, last_at: int) -> None:
        try:
            packed = _encode(given)
        except OverflowError:
            packed = _encode([_small(each) for each in given])
        head = 1 if len(given) < _FIXED else 3 if len(given) < _SHORT else 5
        self._take([packed[head:]], len(given), first_at, last_at)

    def _take(self, parts: Sequence[bytes], count: int, first_at: int, last_at: int) -> None:
        if not count:
            return
        self.first_at = min(self.first_at, first_at) if self._count else first_at
        self.last_at = max(self.last_at, last_at) if self._count else last_at
        self._parts += parts
        self._count += count


def scalars(values: dict[str, Scalar]) -> dict[str, Scalar]:
    """Values as MessagePack can hold them."""
    return {name: _number(value) if isinstance(value, int) else value for name, value in values.items()}


def _small(each: Input) -> Input:
    return msgspec.structs.replace(each, values=scalars(each.values)) if isinstance(each, Reading) else each


def _number(value: int) -> int | float:
    if value in _INT64:
        return value
    try:
        return float(value)
    except OverflowError:
        return sys.float_info.max if value > 0 else -sys.float_info.max
