"""What goes into the engine and what comes out of it."""

import msgspec

from devices.readings import Address, Reading, Scalar
from rules.alarms import AlarmChange


class Acknowledge(msgspec.Struct, frozen=True, array_like=True, tag="a"):
    """A person has seen the alarm and looks after it."""

    alarm_id: str
    by: str
    comment: str
    at: int


class Close(msgspec.Struct, frozen=True, array_like=True, tag="c"):
    """A person says that it is over (ISA-18.2: reset). Only where nothing else can end the alarm."""

    alarm_id: str
    by: str
    comment: str
    at: int


class Instruction(msgspec.Struct, frozen=True, array_like=True, tag="i"):
    """A person gives a device an order; where that is unsafe it is withheld."""

    address: Address
    command: str
    args: dict[str, Scalar]
    by: str
    comment: str
    at: int


class Listening(msgspec.Struct, frozen=True, array_like=True, tag="l"):
    """The gateway began or ceased to hear its devices; silence counts only while it listens."""

    on: bool
    at: int


class Awaited(msgspec.Struct, frozen=True, array_like=True, tag="w"):
    """The registry has these devices, and nobody has heard them so far: from ``at`` on their silence counts.

    ``released``: it has these no more, or says that they are not mounted yet.
    """

    devices: tuple[Address, ...]
    released: tuple[Address, ...]
    at: int


class CatchingUp(msgspec.Struct, frozen=True, array_like=True, tag="u"):
    """The gateway may not have heard yet what was said while it was away (`on`), or has heard it now.

    Meanwhile no delay is taken as run out merely because its time has come: what waits in the broker may tell
    otherwise (docs/adr/0009).
    """

    on: bool
    at: int


class PresenceUnknown(msgspec.Struct, frozen=True, array_like=True, tag="p"):
    """What the broker last told of who is online is not to be believed any more: it keeps neither that nor wills."""

    at: int


class ClockUntrusted(msgspec.Struct, frozen=True, array_like=True, tag="t"):
    """The gateway does not know the time: from ``at`` on, its moments are provisional."""

    at: int


class ClockStepped(msgspec.Struct, frozen=True, array_like=True, tag="s"):
    """The clock was set. ``at`` is the last moment of the time before; the time after is ``by_ms`` later.

    It corrects what was provisional, and moves what is under way.
    """

    by_ms: int
    at: int


Input = (
    Reading
    | Acknowledge
    | Close
    | Instruction
    | Listening
    | Awaited
    | CatchingUp
    | PresenceUnknown
    | ClockUntrusted
    | ClockStepped
)
"""Everything that the engine can be told. Each is journaled; replaying them gives the same decisions."""


def time_of(given: Input) -> int:
    """When the engine takes it (Unix ms)."""
    return given.received_at if isinstance(given, Reading) else given.at


class Order(msgspec.Struct, frozen=True):
    """A command that a device must be given once, before ``expires_at`` (Unix ms), never after."""

    id: str
    alarm_id: str
    """Empty: a person gave it."""
    address: Address
    command: str
    args: dict[str, Scalar]
    issued_at: int
    expires_at: int
    by: str = ""
    """Who gave it; empty: a rule."""

    def postponed(self, by_ms: int) -> "Order":
        """With so much more time; less, below zero."""
        return msgspec.structs.replace(self, expires_at=self.expires_at + by_ms)

    def wire(self) -> bytes:
        """The command as the contract's section 1 shows it."""
        return msgspec.json.encode(
            {"id": self.id, "command": self.command, "args": self.args, "expires_at": self.expires_at}
        )


class Withheld(msgspec.Struct, frozen=True):
    """A command that a rule asked for and that would have been unsafe to give."""

    alarm_id: str
    address: Address
    command: str
    reason: str
    at: int


class Decision(msgspec.Struct, frozen=True, gc=False):
    """What must follow from one input: alarm changes first, in order, then orders."""

    changes: tuple[AlarmChange, ...] = ()
    orders: tuple[Order, ...] = ()
    withheld: tuple[Withheld, ...] = ()


NOTHING = Decision()
"""The decision of nearly every message; one shared value."""
