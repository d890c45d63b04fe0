"""What is usual for one device, learnt from what it says: ``usual(power)``, ``usual(power, 0.9)``.

A habit is a quantile over the last weeks, by `sketches`; unknown until it is learnt (`LEARNT`), which takes at
least three days. A point teaches at most once in five minutes, so a device that says much does not teach more. At a
port with sessions only what is said while one charges teaches. Nothing teaches during a test, nor while an alarm stands
that is critical or high or whose rule looks at the same point. A step of the clock moves nothing that was learnt.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import msgspec

from devices.readings import Reading, Scalar
from rules.functions.sessions import LOOK_BACK_MS, course_of, is_charging, session_of
from rules.functions.sketches import Bins, add, halve, quantile
from rules.language.calls import Call, Maker
from rules.state import Device
from rules.vocabulary import Point, Sort

DAY_MS = 86_400_000
MEDIAN = 0.5
SHARE_LEAST, SHARE_MOST = 0.01, 0.99

SESSION_SHARE = 0.95
"""``usual_session_energy``: what nineteen of twenty sessions of the port do not exceed."""


@dataclass(frozen=True, slots=True)
class Schooling:
    """How a habit is learnt."""

    every_ms: int
    """At most one lesson in so long."""
    lessons: int
    """Before that it is unknown."""
    days_ms: int
    """From the first lesson on; before that it is unknown."""
    halve_at: int
    """Lessons after which all that was learnt weighs half."""


LEARNT = Schooling(every_ms=300_000, lessons=100, days_ms=3 * DAY_MS, halve_at=4_032)
"""Of a point: eight hours of it within three days; the old weighs half after two weeks of it."""

SESSIONS = Schooling(every_ms=0, lessons=20, days_ms=7 * DAY_MS, halve_at=256)


class Habit(msgspec.Struct, array_like=True):
    """What a device remembers of one habit."""

    bins: Bins = {}
    lessons: int = 0
    """Weighing so much by now."""
    first: int = 0
    """Moment of the first lesson (Unix ms, the device's time)."""
    last: int = 0
    seen: int = 0
    """Sessions taken so far."""

    def learn(self, value: float, moment: int, schooling: Schooling) -> bool:
        """Take a lesson; whether it was due."""
        if self.lessons and 0 <= moment - self.last < schooling.every_ms:
            return False
        self.first = self.first if self.lessons else moment
        self.last = moment
        add(self.bins, value)
        self.lessons += 1
        if self.lessons >= schooling.halve_at:
            halve(self.bins)
            self.lessons = sum(self.bins.values())
        return True

    def tell(self, share: float, schooling: Schooling) -> float | None:
        """The habit, or None where it is not learnt yet."""
        if self.lessons < schooling.lessons or self.last - self.first < schooling.days_ms:
            return None
        return quantile(self.bins, share)

    def assume(self, value: float, schooling: Schooling) -> None:
        """Take it as learnt long ago that ``value`` is usual."""
        self.lessons = schooling.halve_at // 2
        self.bins = {}
        add(self.bins, value, self.lessons)
        self.first, self.last = 0, schooling.days_ms


def habit_of(device: Device, name: str) -> Habit:
    """What a device remembers under the name of a term."""
    habit: Habit | list[Scalar] | None = device.memory.get(name)
    if habit is None:
        habit = device.memory[name] = Habit()
    elif isinstance(habit, list):  # as it comes out of a snapshot
        habit = device.memory[name] = msgspec.convert(habit, Habit)
    return habit


@dataclass(frozen=True, slots=True)
class Usual:
    """``usual(point)``, ``usual(point, share)``: the median of a point, or another quantile."""

    of: str
    share: float
    point: Point
    tests: frozenset[str]
    """Points that are true during a test."""
    in_session: bool
    """Only what is said while a session charges teaches."""
    look_back_ms: int = LOOK_BACK_MS

    @property
    def name(self) -> str:
        """Its spelling."""
        return self.point.name

    @property
    def feeds(self) -> frozenset[str]:
        """The point."""
        return frozenset({self.of})

    def hear(self, device: Device, reading: Reading, moment: int) -> None:
        """Learn, if this can teach."""
        value = reading.values[self.of]
        testing = any(device.points.get(test) for test in self.tests)
        if testing or not isinstance(value, int | float) or (self.in_session and not is_charging(device)):
            return
        habit = habit_of(device, self.name)
        if habit.learn(float(value), moment, LEARNT):
            _show(device, self.name, habit.tell(self.share, LEARNT))

    @property
    def spoiled_by(self) -> frozenset[str]:
        """See `rules.terms.Learning`."""
        return frozenset({self.name, self.of})

    def disregard(self, device: Device, reading: Reading, moment: int) -> None:
        """See `rules.terms.Learning`."""

    def assume(self, device: Device, value: float) -> None:
        """See `rules.terms.Learning`."""
        habit = habit_of(device, self.name)
        habit.assume(value, LEARNT)
        _show(device, self.name, habit.tell(self.share, LEARNT))


@dataclass(frozen=True, slots=True)
class UsualEnergy:
    """``usual_session_energy()``: a lesson is what a session took from its beginning to its end."""

    point: Point
    fed: frozenset[str]
    look_back_ms: int = 0

    @property
    def name(self) -> str:
        """Its spelling."""
        return self.point.name

    @property
    def feeds(self) -> frozenset[str]:
        """Whatever tells of a session."""
        return self.fed

    def hear(self, device: Device, _reading: Reading, moment: int) -> None:
        """Learn at the end of a session."""
        course = course_of(device)
        if course is None or not course.ended:
            return
        habit = habit_of(device, self.name)
        if course.ended == habit.seen:
            return
        habit.seen = course.ended
        habit.learn(course.took, moment, SESSIONS)
        _show(device, self.name, habit.tell(SESSION_SHARE, SESSIONS))

    @property
    def spoiled_by(self) -> frozenset[str]:
        """See `rules.terms.Learning`."""
        return frozenset({self.name, "session_energy()"})

    def disregard(self, device: Device, _reading: Reading, _moment: int) -> None:
        """See `rules.terms.Learning`: a session that ends meanwhile was not as usual."""
        course = course_of(device)
        if course is not None and course.ended:
            habit_of(device, self.name).seen = course.ended

    def assume(self, device: Device, value: float) -> None:
        """See `rules.terms.Learning`."""
        habit = habit_of(device, self.name)
        habit.assume(value, SESSIONS)
        _show(device, self.name, habit.tell(SESSION_SHARE, SESSIONS))


def _show(device: Device, name: str, value: float | None) -> None:
    if value is not None:
        device.points[name] = value


def _usual(call: Call) -> Usual:
    point = call.number_point(0)
    if point.event:
        raise call.error(0, f"{point.name} has a value only in its event, so nothing of it is usual")
    share = call.number(1, least=SHARE_LEAST, most=SHARE_MOST) if call.has(1) else MEDIAN
    kind = call.vocabulary.kind
    in_session = kind.session is not None and point.name in kind.session.points
    if in_session:
        session_of(call)
    return Usual(point.name, share, Point(call.done(), Sort.NUMBER), frozenset(kind.limited), in_session)


def _usual_energy(call: Call) -> UsualEnergy:
    fed = session_of(call).points
    return UsualEnergy(Point(call.done(), Sort.NUMBER), fed)


FUNCTIONS: Mapping[str, Maker] = MappingProxyType({"usual": _usual, "usual_session_energy": _usual_energy})
