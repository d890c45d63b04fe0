"""A reading: one thing that a device said, decoded and checked.

A reading is a value: it is decided on, stored once in the journal, replayed from there after a crash,
and turned into a point by the cloud bridge. Both of its times travel with it (``source_time`` says when
it was so, ``received_at`` when the gateway heard it), and so does its quality.
"""

from enum import IntEnum
from typing import Final, NewType

import msgspec

Scalar = bool | int | float | str
"""What a point or an event field can hold."""

Address = NewType("Address", str)
"""A device's address, ``{site}/{kind}/{device}``: two kinds may share a device name."""


def address_of(site: str, kind: str, device: str) -> Address:
    """Join the three parts of an address."""
    return Address(f"{site}/{kind}/{device}")


def parts_of(address: Address) -> tuple[str, str, str]:
    """Split an address into site, kind and device."""
    site, kind, device = address.split("/")
    return site, kind, device


class Channel(IntEnum):
    """Which of a device's topics a reading came on."""

    TELEMETRY = 0
    EVENT = 1
    STATUS = 2
    """``values`` is ``{"state": "online" | "offline"}``."""
    RESULT = 3
    """A command's result: ``values`` is ``{"command_id", "status", "detail"}``."""


class Flag:
    """What makes a reading less than good, as bits. No flag ever delays, lowers or withholds an alarm.

    Plain whole numbers: an `enum.IntFlag` costs a microsecond an operation, and every message has some.
    """

    RETAINED: Final = 1
    """Delivered on subscribing: old news, it informs but neither starts nor ends an alarm."""
    CLOCK_DOUBTED: Final = 2
    """The device's ``ts`` is not believed; ``source_time`` is the arrival."""
    UNREGISTERED: Final = 4
    """The device is not in the registry file."""
    LATE: Final = 8
    """Waited in a device that buffers: believed although more than an hour old."""
    PROVISIONAL: Final = 16
    """The gateway did not know the time: ``received_at`` (and what was judged by it) is corrected later."""


class Reading(msgspec.Struct, frozen=True, array_like=True, tag="r", gc=False):
    """One decoded message.

    ``values`` holds the known points or event fields that were present (units and ranges: `devices.kinds`),
    ``extra`` what the message carried beside them. Times are Unix milliseconds.
    """

    channel: Channel
    address: Address
    values: dict[str, Scalar]
    source_time: int
    received_at: int
    flags: int = 0
    id: str | None = None
    """The message's own id, if it gave one."""
    ts: int | float | str | None = None
    """The raw ``ts``, kept only where it is not believed."""
    extra: dict[str, object] | None = None

    @property
    def retained(self) -> bool:
        """True for old news delivered on subscribing."""
        return bool(self.flags & Flag.RETAINED)
