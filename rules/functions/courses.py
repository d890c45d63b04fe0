"""The course of a session: the fold over what a port says, from plugging in to unplugging.

Which points tell of it, and its figures, are data of the kind (`devices.kinds.traits`). It begins where power flows or
where status or session text say so, and ends where they say the contrary; a port that tells neither ends it by drawing
nothing for a while. A level counts only where two readings in a row hold it: one wrong sample is neither a peak nor an
end.

What happened between two messages, be it that the gateway was away, is taken as the same session: what cannot be known
is never taken as harmless. Another name is another session, and so is what was unheard for twelve hours and has none.
Durations go on over a gap; energy does where a register counted it, else it is unknown until the end.

Moments are the device's (Unix ms), powers W, energies kWh, temperatures °C.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from devices.kinds.traits import Session
from devices.readings import Scalar

IDLE, STARTING, CHARGING, TAPER, FULL = "idle", "starting", "charging", "taper", "full"
PHASES = frozenset({IDLE, STARTING, CHARGING, TAPER, FULL})

_HOUR_MS = 3_600_000
_J_PER_KWH = 3_600_000_000
"""Watt milliseconds of a kWh."""


class Course(msgspec.Struct, array_like=True):
    """What a port remembers of its session, and of the last one that ended."""

    began: int | None = None
    """None: no session is under way."""
    said: int = 0
    """The last message that told of sessions."""
    id: str = ""
    phase: str = IDLE
    power: float | None = None
    """As told last, at ``power_at``."""
    power_at: int = 0
    quiet_since: int | None = None
    """Since when it has drawn nothing, on a port that tells no status."""
    register: float | None = None
    """Of energy, as told last."""
    energy: float | None = 0.0
    """Taken so far; None is unknown."""
    peak: float = 0.0
    low_since: int | None = None
    full_since: int | None = None
    high_since: int | None = None
    """Since when power has been up again, after full or in the taper."""
    least: float | None = None
    """Lowest power of the taper."""
    restarted: bool = False
    rising: bool = False
    flat_since: int | None = None
    flat_at: float = 0.0
    strayed_at: int | None = None
    """When power left the level at which it is flat, if the last reading did."""
    heat: tuple[float, float, float, float, float] = (0.0, 0.0, 0.0, 0.0, 0.0)
    """Of temperature over hours, the newest weighing most: n, x, y, xx, xy."""
    heat_since: int = 0
    heat_at: int = 0
    ended: int = 0
    """Sessions whose end was seen and whose energy is known."""
    took: float = 0.0
    """Energy of the last of these."""


def hear(
    course: Course | None,
    session: Session,
    values: Mapping[str, Any],
    points: Mapping[str, Scalar],
    moment: int,
) -> Course | None:
    """The course after a message; ``points`` are the port's last values. None before anything told of a session.

    ``values`` are of the sorts that `devices.kinds` gives them.
    """
    power = values.get(session.power)
    draws = power is not None and power >= session.least_w
    if course is not None:
        if moment < course.said:  # noqa: PLR1730 - `max` costs a call
            moment = course.said
        if course.began is None and not draws and values.get(session.status) in session.free:
            return _stay_idle(course, session, values, moment)
    if (
        course is None
        or course.began is None
        or not draws
        or moment - course.said > session.lost_s * 1000
        or values.get(session.id, course.id) != course.id
    ):
        course = _turn(course, session, values, points, moment)
        if course is None:
            return None
    else:
        course.quiet_since = None
    _count(course, session, values.get(session.energy), power, moment)
    if course.began is not None:
        _draw(course, session, power, points.get(session.status), moment)
        temperature = values.get(session.temperature)
        if temperature is not None and moment - course.began >= session.warm_up_s * 1000:
            _warm(course, session, temperature, moment, course.began)
    if power is not None:
        course.power, course.power_at = power, moment
    course.said = moment
    return course


def warming(course: Course, session: Session) -> float | None:
    """°C an hour, once it has been measured for long enough; zero where nothing is under way."""
    if course.began is None:
        return 0.0
    if course.heat_at - course.heat_since < session.warm_up_s * 1000:
        return None
    n, x, y, xx, xy = course.heat
    spread = n * xx - x * x
    return (n * xy - x * y) / spread if spread > 0 else None


# When it begins and ends


def _stay_idle(course: Course, session: Session, values: Mapping[str, Any], moment: int) -> Course:
    """What nearly every message of a free port is."""
    register = values.get(session.energy)
    if register is not None:
        course.register = register
    elif moment - course.said > session.lost_s * 1000:
        course.register = None
    course.said = moment
    return course


def _turn(
    course: Course | None,
    session: Session,
    values: Mapping[str, Any],
    points: Mapping[str, Scalar],
    moment: int,
) -> Course | None:
    """Begin a session or end it, where the message says so; None before anything told of one."""
    first = course is None
    course = course or Course()
    lost = moment - course.said > session.lost_s * 1000
    under_way = _tells(course, session, values, points, moment)
    if first and under_way is None:
        return None
    if course.began is not None and (under_way is False or _is_other(course, session, values, lost=lost)):
        course = _ended(course, seen=not lost)
    if lost and course.began is None:
        course.register = None  # nobody knows whose it is, what it counted since then
    if course.began is None and under_way:
        course = _begun(course, moment)
    if course.began is not None and (name := values.get(session.id)):
        course.id = str(name)
    return course


def _tells(
    course: Course, session: Session, values: Mapping[str, Any], points: Mapping[str, Scalar], moment: int
) -> bool | None:
    """Whether a message says that a session is under way, that none is, or neither."""
    power, status, name = values.get(session.power), values.get(session.status), values.get(session.id)
    if (power is not None and power >= session.least_w) or status in session.under_way:
        course.quiet_since = None
        return True
    if status in session.free:
        return False
    if session.status in points:
        return None
    if isinstance(name, str):
        return bool(name)
    if power is None or session.id in points:
        return None
    if power >= session.unplugged_w:
        course.quiet_since = None
        return None
    if course.quiet_since is None:
        course.quiet_since = moment
    quiet_ms = moment - course.quiet_since
    return None if course.began is not None and quiet_ms < session.unplugged_s * 1000 else False


def _is_other(course: Course, session: Session, values: Mapping[str, Any], *, lost: bool) -> bool:
    name = values.get(session.id)
    if isinstance(name, str) and name and course.id:
        return name != course.id
    return lost


def _begun(before: Course, moment: int) -> Course:
    return Course(
        began=moment,
        said=before.said,
        phase=STARTING,
        register=before.register,
        ended=before.ended,
        took=before.took,
    )


def _ended(course: Course, *, seen: bool) -> Course:
    """Between sessions; what nobody saw the end of is no habit."""
    known = seen and course.energy is not None
    return Course(
        said=course.said,
        register=course.register,
        ended=course.ended + known,
        took=course.energy if known and course.energy is not None else course.took,
    )


# What it took


def _count(
    course: Course, session: Session, register: float | None, power: float | None, moment: int
) -> None:
    """Energy by the register where there is one, else by power over time."""
    counts = course.began is not None and course.energy is not None
    if register is not None:
        if counts and course.register is not None and register > course.register:  # below: it was set back
            course.energy += register - course.register  # type: ignore[operator]  # it counts
        course.register = register
    elif power is not None and counts and course.register is None and course.power is not None:
        passed_ms = moment - course.power_at
        drawn = (course.power + power) / 2 * passed_ms / _J_PER_KWH
        course.energy = course.energy + drawn if passed_ms <= session.gap_s * 1000 else None  # type: ignore[operator]


# How it goes


def _draw(course: Course, session: Session, power: float | None, status: Scalar | None, moment: int) -> None:
    before, peak = course.power, course.peak
    if power is not None and before is not None and power > peak and before > peak:
        course.peak = min(power, before)
    if status in session.cut:  # the socket's doing tells nothing of the battery
        course.low_since = course.high_since = course.least = None
    else:
        if status in session.done and course.full_since is None:
            course.phase, course.full_since = FULL, moment
        if power is not None:
            _weigh(course, session, power, status, moment)
        elif before is None and status in session.sated:
            _fill(course, session, moment)
    if power is not None:
        _flatten(course, session, power, moment)


def _weigh(course: Course, session: Session, power: float, status: Scalar | None, moment: int) -> None:
    """What the height of power says of the battery."""
    top = course.peak or power
    if course.full_since is not None:
        up = power >= max(session.restart_share * course.peak, session.least_w)
        if _held(course, session, moment, up=up):
            course.restarted, course.phase = True, CHARGING
            course.full_since = course.low_since = None
    elif (power <= session.float_share * top and power < top) or (
        power < session.least_w and status in session.sated
    ):
        _fill(course, session, moment)
    else:
        course.low_since = None
        _taper(course, session, power, top, moment)


def _fill(course: Course, session: Session, moment: int) -> None:
    """It floats; after long enough it is full, since the moment at which that was."""
    course.high_since = None
    if course.low_since is None:
        course.low_since = moment
    full_at = course.low_since + int(session.float_s * 1000)
    if moment >= full_at:
        course.phase, course.full_since = FULL, full_at
    elif course.phase != STARTING or course.peak:
        course.phase = TAPER


def _taper(course: Course, session: Session, power: float, top: float, moment: int) -> None:
    if power < session.least_w and not course.peak:
        course.phase = STARTING
        return
    if power > session.taper_share * top:
        course.phase = CHARGING
    else:
        course.phase = TAPER
        before = course.power
        lowest = power if before is None or before < power else before
        if course.least is None or lowest < course.least:
            course.least = lowest
    if course.least is not None:
        up = power - course.least >= session.rise_share * top
        if (up or course.high_since is not None) and _held(course, session, moment, up=up):
            course.rising = True


def _held(course: Course, session: Session, moment: int, *, up: bool) -> bool:
    """Whether power has been up for long enough."""
    if not up:
        course.high_since = None
        return False
    if course.high_since is None:
        course.high_since = moment
    return moment - course.high_since >= session.held_s * 1000


def _flatten(course: Course, session: Session, power: float, moment: int) -> None:
    """How long power has stayed level; two readings beside the level begin another."""
    level = course.flat_at
    if course.flat_since is None:
        if power >= session.least_w:
            course.flat_since, course.flat_at, course.strayed_at = moment, power, None
    elif abs(power - level) <= session.flat_share * level:
        course.strayed_at = None
    elif course.strayed_at is None:
        course.strayed_at = moment
    else:
        begins = power >= session.least_w
        course.flat_since, course.flat_at = (course.strayed_at, power) if begins else (None, 0.0)
        course.strayed_at = None


def _warm(course: Course, session: Session, temperature: float, moment: int, began: int) -> None:
    """Weighted sums for a straight line through the temperatures, of which each counts half after a while."""
    if course.phase not in (CHARGING, TAPER):
        return
    course.heat_since = course.heat_since or moment
    x = (moment - began) / _HOUR_MS
    kept = 0.5 ** (max(moment - course.heat_at, 0) / 1000 / session.heat_half_s) if course.heat_at else 0.0
    n, sx, sy, sxx, sxy = course.heat
    course.heat = (
        kept * n + 1,
        kept * sx + x,
        kept * sy + temperature,
        kept * sxx + x * x,
        kept * sxy + x * temperature,
    )
    course.heat_at = moment
