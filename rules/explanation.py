"""Why an alarm stands: what was seen, which limits were in force, what happened to it since. Values only.

It lies in the alarm, so it is stored with every change of it and is what was so then, whatever becomes of the rule.
Its size is bounded: `SAMPLES_MOST` samples, `INFLUENCES_MOST` influences, a rise for each severity.
"""

from collections.abc import Callable
from enum import StrEnum

import msgspec
from msgspec.structs import replace

from devices.readings import Scalar

SAMPLES_MOST = 32
INFLUENCES_MOST = 16


class Sample(msgspec.Struct, frozen=True, array_like=True):
    """A value that the condition looked at."""

    name: str
    value: Scalar | None
    """None: never told, or not to be shown."""
    at: int | None = None
    """When the device told it (Unix ms, its own clock); None where that is not known."""
    private: bool = False
    """It tells of a person's daily life and is left out."""
    lasting: bool = False
    """A duration, in seconds."""


class Risen(msgspec.Struct, frozen=True, array_like=True):
    """A rise in severity."""

    severity: str
    at: int
    """Unix ms."""


class Sway(StrEnum):
    """What can happen to whether people are told of an alarm by itself."""

    SUPPRESSED = "suppressed"
    """Another alarm explains it: its key."""
    FOLDED = "folded"
    """Another alarm tells of it with others: its id."""
    SHELVED = "shelved"
    """Until when, RFC 3339."""
    RELEASED = "released"
    """It is told by itself again; which of these has ended."""


class Influence(msgspec.Struct, frozen=True, array_like=True):
    """Something that keeps people from being told of an alarm by itself, or that ended that."""

    what: Sway
    by: str
    at: int
    """Unix ms."""


class Explanation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What decided an alarm. Durations are in ms, moments Unix ms."""

    version: str
    """Of the rule: the SHA-256 of what it meant then."""
    when: str | None = None
    """As the rule file says it; so are ``clear``, ``cancel`` and ``active``."""
    clear: str | None = None
    cancel: str | None = None
    let: dict[str, str] = {}
    """What the names mean that the rule or its kind gives."""
    silent_for_ms: int | None = None
    for_ms: int = 0
    clear_for_ms: int = 0
    clear_after_ms: int = 0
    cooldown_ms: int = 0
    active: str | None = None
    escalate: tuple[tuple[int, str], ...] = ()
    """After how long it rises to which severity."""
    of_event: bool = False
    """It looks at an event, which has no end of its own."""
    person: bool = False
    """A person closes it: nothing else ends it for certain, or it stays after it has ended."""
    samples: tuple[Sample, ...] = ()
    left_out: int = 0
    """Samples beyond `SAMPLES_MOST`."""
    since: int | None = None
    """Since when it has been so, by the device's clock if not `found`; None where nobody knows."""
    so_at: int | None = None
    """When it was so for long enough, by the device's clock; None where nobody knows."""
    waited_ms: int = 0
    """For so long hours or a cooldown kept it from being raised."""
    withheld: int = 0
    """How often the cooldown kept the rule from raising it since it last left the board."""
    rises: tuple[Risen, ...] = ()
    influences: tuple[Influence, ...] = ()
    """The newest, oldest first."""
    found: bool = False
    """``since`` is when the gateway found it to be so: the device told no time, or rules came into force later."""

    def risen(self, severity: str, at: int) -> "Explanation":
        """After its severity has risen."""
        return replace(self, rises=(*self.rises, Risen(severity, at)))

    def influenced(self, what: Sway, by: str, at: int) -> "Explanation":
        """After something has kept people from being told of it, or has ended that."""
        return replace(self, influences=(*self.influences, Influence(what, by, at))[-INFLUENCES_MOST:])

    def corrected(self, right: Callable[[int], int], *, own: bool) -> "Explanation":
        """With the gateway's moments set right; the device's stay where it has a clock of its ``own``."""

        def told(moment: int | None) -> int | None:
            return moment if own or moment is None else right(moment)

        return replace(
            self,
            samples=tuple(
                Sample(each.name, each.value, told(each.at), each.private, each.lasting)
                for each in self.samples
            ),
            since=right(self.since) if self.found and self.since is not None else told(self.since),
            so_at=told(self.so_at),
            rises=tuple(Risen(each.severity, right(each.at)) for each in self.rises),
            influences=tuple(Influence(each.what, each.by, right(each.at)) for each in self.influences),
        )
