"""Terms: what a call in a condition stands for, a derived point of a device that the engine keeps.

``mean(temperature, '5m')`` in a rule is a term of that name. It is heard into when a message feeds it, leaves its
value in ``Device.points`` (absent is unknown) and what it must remember in ``Device.memory``, each under its name;
so a compiled condition reads it like any other point, and a snapshot holds it. Its name is no identifier; all others
in ``Device.points`` are.

A term is part of the fold: no clock, no randomness, nothing remembered but in the device it is given. What it
remembers is built of lists, dicts, numbers, texts, true and false, and must work again after a snapshot (a tuple
comes back as a list). Moments in it are the device's, as `hear` gives them: no step of the gateway's clock moves
those, and `rules.moments` turns them into the gateway's.
"""

from enum import Enum, auto
from typing import Protocol, runtime_checkable

from devices.readings import Reading
from rules.state import Device
from rules.vocabulary import Point


class Moved(Enum):
    """How the beginning of something that grows has moved."""

    LATER = auto()
    """It has begun anew, later: what has not lasted for long enough has not now either. Its value is 0 for now."""
    ELSEWHERE = auto()
    """It has begun, ended, or moved back."""


def moved(before: int | None, after: int | None) -> Moved | None:
    """How a beginning has moved (Unix ms; None: does not last)."""
    if before == after:
        return None
    return Moved.ELSEWHERE if before is None or after is None or after < before else Moved.LATER


class Term(Protocol):
    """One derived point of every device of a kind.

    ``name`` is its canonical spelling, ``feeds`` are the points and event fields whose arrival feeds it,
    ``look_back_ms`` says how much history it needs to be what it would be had it always been there.
    """

    @property
    def name(self) -> str:
        """The key in ``Device.points`` and ``Device.memory``, the same for the same call in another rule."""

    @property
    def point(self) -> Point:
        """What a condition sees: of the same name, with its sort; a `Sort.DURATION` is in seconds."""

    @property
    def feeds(self) -> frozenset[str]:
        """Of these at least one is in every reading that it hears."""

    @property
    def look_back_ms(self) -> int:
        """Zero: a few messages are enough."""

    def hear(self, device: Device, reading: Reading, moment: int) -> Moved | None:
        """Take a message said at ``moment`` (Unix ms, the device's time; `Reading.received_at` is the arrival).

        Says where `Growing.since` of this term, or of one that it shows, is another now.

        The device's points are as after it. Where ``device.clock.unsure`` the moment is a guess: the message may
        have waited in the broker, and gave no time that is believed.
        """


@runtime_checkable
class Shown(Term, Protocol):
    """A term that another one keeps and shows, so its own `hear` has nothing to do and is not called."""

    @property
    def kept_by(self) -> str:
        """The name of that term: it hears whatever feeds this one."""


@runtime_checkable
class Growing(Term, Protocol):
    """A term whose value is how long something has lasted, so it grows without a message.

    The engine brings the value up to date where it is looked at; `hear` keeps only what `since` needs. Where `since`
    gives None, the value is what `hear` left (0 where it does not last; absent where that is unknown). One with a true
    ``must_be_heard`` goes on over a stop of the gateway only once its device has been heard again: nobody knows what it
    did meanwhile.
    """

    def since(self, device: Device) -> int | None:
        """When it began (Unix ms, the device's time), or None."""


@runtime_checkable
class Learning(Term, Protocol):
    """A term that learns what is usual. What stands on the board teaches nothing."""

    @property
    def spoiled_by(self) -> frozenset[str]:
        """Points and terms: what an alarm of a rule that looks at one of them is about is not as usual."""

    def disregard(self, device: Device, reading: Reading, moment: int) -> None:
        """Instead of `hear`, while such an alarm stands, or one that is critical or high."""

    def assume(self, device: Device, value: float) -> None:
        """Take it as learnt long ago that ``value`` is usual; for examples."""


@runtime_checkable
class Fading(Term, Protocol):
    """A term whose value changes when what it rests on becomes too old."""

    def fades_at(self, device: Device) -> int | None:
        """The moment (Unix ms, the device's time) at which it changes next if nothing is said, or None."""

    def fade(self, device: Device, moment: int) -> None:
        """Forget what is too old at ``moment``, and change the value."""
