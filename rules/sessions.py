"""Functions over the session of a port: how long, how much, how it goes.

``session_phase()`` keeps the course (`rules.courses`), the others each show one figure of it. Before anything told of a
session they are unknown; between sessions they are zero or false, and the phase is ``idle``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import msgspec

from devices.kinds import Session
from devices.readings import Reading, Scalar
from rules.calls import Call, Maker
from rules.courses import CHARGING, PHASES, TAPER, Course, hear, warming
from rules.state import Device
from rules.vocabulary import Point, Sort

LOOK_BACK_MS = 12 * 3_600_000
"""The longest charge that a socket allows is 10 h (domain.md C2), and then it stands full for a while."""

PHASE = "session_phase()"
"""Where a device keeps the course of its sessions."""


def course_of(device: Device) -> Course | None:
    """The course of the device's session; None before anything told of one."""
    course: Course | list[Scalar] | None = device.memory.get(PHASE)
    if isinstance(course, list):  # as it comes out of a snapshot
        course = device.memory[PHASE] = msgspec.convert(course, Course)
    return course


def is_charging(device: Device) -> bool:
    """Whether a session draws power now."""
    return device.points.get(PHASE) in (CHARGING, TAPER)


@dataclass(frozen=True, slots=True)
class Phase:
    """``session_phase()``: idle, starting, charging, taper or full."""

    session: Session
    point: Point = field(default_factory=lambda: Point(PHASE, Sort.CHOICE, PHASES))
    look_back_ms: int = LOOK_BACK_MS

    @property
    def name(self) -> str:
        """Its spelling."""
        return self.point.name

    @property
    def feeds(self) -> frozenset[str]:
        """Whatever tells of a session."""
        return self.session.points

    def hear(self, device: Device, reading: Reading, moment: int) -> None:
        """Begin a session, go on with it, or end it."""
        course = hear(course_of(device), self.session, reading.values, device.points, moment)
        if course is not None:
            device.memory[PHASE] = course
            device.points[PHASE] = course.phase


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of the course; unknown where ``read`` gives None."""

    session: Session
    point: Point
    read: Callable[[Course, Session], Scalar | None]
    look_back_ms: int = LOOK_BACK_MS

    @property
    def name(self) -> str:
        """Its spelling."""
        return self.point.name

    @property
    def feeds(self) -> frozenset[str]:
        """Whatever tells of a session."""
        return self.session.points

    def hear(self, device: Device, _reading: Reading, _moment: int) -> None:
        """Show what the course says now."""
        course = course_of(device)
        value = None if course is None else self.read(course, self.session)
        if value is None:
            device.points.pop(self.name, None)
        else:
            device.points[self.name] = value


@dataclass(frozen=True, slots=True)
class Lasting:
    """How long something about the session has lasted; ``read`` gives since when."""

    session: Session
    point: Point
    read: Callable[[Course], int | None]
    look_back_ms: int = LOOK_BACK_MS

    @property
    def name(self) -> str:
        """Its spelling."""
        return self.point.name

    @property
    def feeds(self) -> frozenset[str]:
        """Whatever tells of a session."""
        return self.session.points

    def hear(self, device: Device, _reading: Reading, _moment: int) -> None:
        """Zero where it does not last."""
        course = course_of(device)
        if course is not None and self.read(course) is None:
            device.points[self.name] = 0.0

    def since(self, device: Device) -> int | None:
        """See `rules.terms.Growing`."""
        course = course_of(device)
        return None if course is None else self.read(course)


_FIGURES: Mapping[str, tuple[Sort, Callable[[Course, Session], Scalar | None]]] = {
    "session_energy": (Sort.NUMBER, lambda course, _: course.energy if course.began is not None else 0.0),
    "session_peak": (Sort.NUMBER, lambda course, _: course.peak),
    "session_warming": (Sort.NUMBER, warming),
    "session_restarted": (Sort.BOOLEAN, lambda course, _: course.restarted),
    "session_rising": (Sort.BOOLEAN, lambda course, _: course.rising),
}

_DURATIONS: Mapping[str, Callable[[Course], int | None]] = {
    "session_age": lambda course: course.began,
    "session_full_for": lambda course: course.full_since,
    "session_flat_for": lambda course: course.flat_since,
}


def session_of(call: Call) -> Session:
    """What the kind says of its sessions; makes the call rest on their course."""
    session = call.vocabulary.kind.session
    if session is None:
        raise call.error(None, f"{call.vocabulary.kind.name} has no sessions")
    call.terms.append(Phase(session))
    return session


def _phase(call: Call) -> Phase:
    phase = Phase(session_of(call), Point(call.done(), Sort.CHOICE, PHASES))
    call.terms.clear()  # it rests on nothing but itself
    return phase


def _figure(call: Call) -> Figure:
    sort, read = _FIGURES[call.name]
    return Figure(session_of(call), Point(call.done(), sort), read)


def _lasting(call: Call) -> Lasting:
    return Lasting(session_of(call), Point(call.done(), Sort.DURATION), _DURATIONS[call.name])


FUNCTIONS: Mapping[str, Maker] = MappingProxyType(
    {
        "session_phase": _phase,
        **dict.fromkeys(_FIGURES, _figure),
        **dict.fromkeys(_DURATIONS, _lasting),
    }
)
