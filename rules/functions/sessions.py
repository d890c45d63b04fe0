"""Functions over the session of a port: how long, how much, how it goes.

``session_phase()`` keeps the course (`courses`), the others each show one figure of it. Before anything told of a
session they are unknown; between sessions they are zero or false, and the phase is ``idle``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from types import MappingProxyType

import msgspec

from devices.kinds.traits import Session
from devices.readings import Reading, Scalar
from rules.functions.courses import CHARGING, PHASES, TAPER, Course, hear, warming
from rules.language.calls import Call, Maker
from rules.state import Device
from rules.terms import Moved, moved
from rules.vocabulary import Point, Sort

LOOK_BACK_MS = 12 * 3_600_000
"""The longest charge that a socket allows is 10 h (docs/figures.md, C2), and then it stands full for a while."""

PHASE = "session_phase()"
"""Where a device keeps the course of its sessions."""


def course_of(device: Device) -> Course | None:
    """The course of the device's session; None before anything told of one."""
    course: Course | list[Scalar] | None = device.memory.get(PHASE)
    if type(course) is list:  # as it comes out of a snapshot
        course = device.memory[PHASE] = msgspec.convert(course, Course)
    return course  # type: ignore[return-value]  # no list is left


def is_charging(device: Device) -> bool:
    """Whether a session draws power now."""
    return device.points.get(PHASE) in (CHARGING, TAPER)


@dataclass(frozen=True, slots=True)
class _OfSession:
    """What every term about sessions has."""

    session: Session
    point: Point
    look_back_ms: int = LOOK_BACK_MS

    @property
    def name(self) -> str:
        """Its spelling."""
        return self.point.name

    @property
    def feeds(self) -> frozenset[str]:
        """Whatever tells of a session."""
        return self.session.points


@dataclass(frozen=True, slots=True)
class Phase(_OfSession):
    """``session_phase()``: idle, starting, charging, taper or full."""

    def hear(self, device: Device, reading: Reading, moment: int) -> Moved | None:
        """Begin a session, go on with it, or end it; all figures of it are shown at once."""
        before, points = course_of(device), device.points
        began = full = flat = None
        if before is not None:
            began, full, flat = before.began, before.full_since, before.flat_since
        course = hear(before, self.session, reading.values, points, moment)
        if course is None or (course is before and course.began is None):
            return None
        if course is not before:
            device.memory[PHASE] = course
        _show(course, self.session, points)
        if course.flat_since != flat:
            points["session_flat_for()"] = 0.0
        if course.began != began or course.full_since != full:
            return Moved.ELSEWHERE
        return moved(flat, course.flat_since)


def _show(course: Course, session: Session, points: dict[str, Scalar]) -> None:
    points[PHASE] = course.phase
    points["session_peak()"] = course.peak
    points["session_restarted()"] = course.restarted
    points["session_rising()"] = course.rising
    if course.energy is not None:
        points["session_energy()"] = course.energy
    else:
        points.pop("session_energy()", None)
    if (warms := warming(course, session)) is not None:
        points["session_warming()"] = warms
    else:
        points.pop("session_warming()", None)
    if course.began is None:
        points["session_age()"] = 0.0
    if course.full_since is None:
        points["session_full_for()"] = 0.0
    if course.flat_since is None:
        points["session_flat_for()"] = 0.0


@dataclass(frozen=True, slots=True)
class Figure(_OfSession):
    """One figure of the course."""

    @property
    def kept_by(self) -> str:
        """See `rules.terms.Shown`."""
        return PHASE

    def hear(self, device: Device, reading: Reading, moment: int) -> None:
        """`Phase` shows it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lasting(Figure):
    """How long something about the session has lasted; ``read`` gives since when."""

    read: Callable[[Course], int | None]
    must_be_heard: bool = True

    def since(self, device: Device) -> int | None:
        """See `rules.terms.Growing`."""
        course = device.memory.get(PHASE)
        if type(course) is not Course:
            course = course_of(device)
        return None if course is None else self.read(course)


_FIGURES: Mapping[str, Sort] = {
    "session_energy()": Sort.NUMBER,
    "session_peak()": Sort.NUMBER,
    "session_warming()": Sort.NUMBER,
    "session_restarted()": Sort.BOOLEAN,
    "session_rising()": Sort.BOOLEAN,
}

_DURATIONS: Mapping[str, Callable[[Course], int | None]] = {
    "session_age()": attrgetter("began"),
    "session_full_for()": attrgetter("full_since"),
    "session_flat_for()": attrgetter("flat_since"),
}


def session_of(call: Call) -> Session:
    """What the kind says of its sessions; makes the call rest on their course."""
    session = call.vocabulary.kind.session
    if session is None:
        raise call.error(None, f"{call.vocabulary.kind.name} has no sessions")
    call.terms.append(_phase_of(session, PHASE))
    return session


def _phase_of(session: Session, name: str) -> Phase:
    return Phase(session, Point(name, Sort.CHOICE, PHASES))


def _phase(call: Call) -> Phase:
    phase = _phase_of(session_of(call), call.done())
    call.terms.clear()  # it rests on nothing but itself
    return phase


def _figure(call: Call) -> Figure:
    session, name = session_of(call), call.done()
    return Figure(session, Point(name, _FIGURES[name]))


def _lasting(call: Call) -> Lasting:
    session, name = session_of(call), call.done()
    return Lasting(session, Point(name, Sort.DURATION), read=_DURATIONS[name])


FUNCTIONS: Mapping[str, Maker] = MappingProxyType(
    {
        "session_phase": _phase,
        **{name.removesuffix("()"): _figure for name in _FIGURES},
        **{name.removesuffix("()"): _lasting for name in _DURATIONS},
    }
)
