"""The course of a session: the fold over what a port says, from plugging in to unplugging.

Which points tell of it, and its figures, are data of the kind (`devices.kinds.Session`). It begins where power flows or
where status or session text say so, and ends where they say the contrary; a port that tells neither ends it by drawing
nothing for a while. A level counts only where two readings in a row hold it: one wrong sample is neither a peak nor an
end.

What happened between two messages, be it that the gateway was away, is taken as the same session: what cannot be known
is never taken as harmless. Another name is another session, and so is what was unheard for twelve hours and has none.
Durations go on over a gap; energy does where a register counted it, else it is unknown until the end.

Moments are the device's (Unix ms), powers W, energies kWh, temperatures °C.
"""

from collections.abc import Mapping

import msgspec

from devices.kinds import Session
from devices.readings import Scalar

IDLE, STARTING, CHARGING, TAPER, FULL = "idle", "starting", "charging", "taper", "full"
PHASES = frozenset({IDLE, STARTING, CHARGING, TAPER, FULL})

_NUMBER = (int, float)
"""`int | float` would be made anew for every message."""
_STEADY = (None,) * 5
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
    values: Mapping[str, Scalar],
    points: Mapping[str, Scalar],
    moment: int,
) -> Course | None:
    """The course after a message; ``points`` are the port's last values. None before anything told of a session."""
    if course is not None and course.began is None and values.get(session.status) in session.free:
        power = values.get(session.power)
        if not isinstance(power, _NUMBER) or power < session.least_w:
            return _stay_idle(course, session, values, moment)
    if (
        course is not None
        and course.phase == CHARGING
        and _charges_on(course, session, values, points, moment)
    ):
        return course
    first = course is None
    course = course or Course()
    gap_ms = moment - course.said
    if gap_ms < 0:
        gap_ms, moment = 0, course.said
    under_way = _tells(course, session, values, points, moment)
    if first and under_way is None:
        return None
    lost = gap_ms > session.lost_s * 1000
    if course.began is not None and (under_way is False or _is_other(course, session, values, lost=lost)):
        course = _ended(course, seen=not lost)
    if lost and course.began is None:
        course.register = None  # nobody knows whose it is, what it counted since then
    if course.began is None and under_way:
        course = _begun(course, moment)
    _count(course, session, values, moment)
    if course.began is not None:
        if name := values.get(session.id):
            course.id = str(name)
        _draw(course, session, values, points, moment)
        _warm(course, session, values, moment)
    power = values.get(session.power)
    if isinstance(power, _NUMBER):
        course.power, course.power_at = float(power), moment
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


def _stay_idle(course: Course, session: Session, values: Mapping[str, Scalar], moment: int) -> Course:
    """What nearly every message of a free port is."""
    register = values.get(session.energy)
    if isinstance(register, _NUMBER):
        course.register = float(register)
    elif moment - course.said > session.lost_s * 1000:
        course.register = None
    course.said = max(moment, course.said)
    return course


def _charges_on(
    course: Course, session: Session, values: Mapping[str, Scalar], points: Mapping[str, Scalar], moment: int
) -> bool:
    """Take what nearly every message of a charging port is; False: it is something else, and nothing was taken."""
    power, before, status = values.get(session.power), course.power, points.get(session.status)
    if before is None or not isinstance(power, _NUMBER) or power < session.least_w:
        return False
    peak = max(course.peak, min(power, before))
    if power <= session.taper_share * (peak or power) or status in session.cut or status in session.done:
        return False
    if (course.quiet_since, course.low_since, course.high_since, course.full_since, course.least) != _STEADY:
        return False
    if course.register is None or values.get(session.id, course.id) != course.id:
        return False
    if not 0 <= moment - course.said <= session.lost_s * 1000:
        return False
    course.peak = peak
    _count(course, session, values, moment)
    _flatten(course, session, float(power), moment)
    _warm(course, session, values, moment)
    course.power, course.power_at, course.said = float(power), moment, moment
    return True


def _tells(
    course: Course, session: Session, values: Mapping[str, Scalar], points: Mapping[str, Scalar], moment: int
) -> bool | None:
    """Whether a message says that a session is under way, that none is, or neither."""
    power, status, name = values.get(session.power), values.get(session.status), values.get(session.id)
    draws = isinstance(power, _NUMBER) and power >= session.least_w
    if draws or status in session.under_way:
        course.quiet_since = None
        return True
    if status in session.free:
        return False
    if session.status in points:
        return None
    if isinstance(name, str):
        return bool(name)
    if not isinstance(power, _NUMBER) or session.id in points:
        return None
    if power >= session.unplugged_w:
        course.quiet_since = None
        return None
    if course.quiet_since is None:
        course.quiet_since = moment
    quiet_ms = moment - course.quiet_since
    return None if course.began is not None and quiet_ms < session.unplugged_s * 1000 else False


def _is_other(course: Course, session: Session, values: Mapping[str, Scalar], *, lost: bool) -> bool:
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


def _count(course: Course, session: Session, values: Mapping[str, Scalar], moment: int) -> None:
    """Energy by the register where there is one, else by power over time."""
    register, power = values.get(session.energy), values.get(session.power)
    if isinstance(register, _NUMBER):
        if course.began is not None and course.energy is not None and course.register is not None:
            course.energy += max(register - course.register, 0.0)  # below: it was set back
        course.register = float(register)
    elif course.register is None and course.began is not None and isinstance(power, _NUMBER):
        passed_ms = moment - course.power_at
        if course.power is None or course.energy is None:
            return
        known = passed_ms <= session.gap_s * 1000
        drawn = (course.power + power) / 2 * passed_ms / _J_PER_KWH
        course.energy = course.energy + drawn if known else None


# How it goes


def _draw(
    course: Course, session: Session, values: Mapping[str, Scalar], points: Mapping[str, Scalar], moment: int
) -> None:
    power, status = values.get(session.power), points.get(session.status)
    if status in session.cut:
        course.low_since = course.high_since = course.least = (
            None  # the socket's doing tells nothing of the battery
        )
    elif status in session.done and course.full_since is None:
        course.phase, course.full_since = FULL, moment
    if not isinstance(power, _NUMBER):
        if status in session.sated and course.power is None:
            _fill(course, session, moment)
        return
    before = course.power if course.power is not None else power
    course.peak = max(course.peak, min(power, before)) if course.power is not None else course.peak
    top = course.peak or power
    if status not in session.cut:
        if course.full_since is not None:
            if _held(
                course, session, moment, up=power >= max(session.restart_share * course.peak, session.least_w)
            ):
                course.restarted, course.phase = True, CHARGING
                course.full_since = course.low_since = None
        elif (power <= session.float_share * top and power < top) or _is_sated(session, status, power):
            _fill(course, session, moment)
        else:
            course.low_since = None
            _taper(course, session, power, before, top, moment)
    _flatten(course, session, float(power), moment)


def _is_sated(session: Session, status: Scalar | None, power: float) -> bool:
    return status in session.sated and power < session.least_w


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


def _taper(course: Course, session: Session, power: float, before: float, top: float, moment: int) -> None:
    if power < session.least_w and not course.peak:
        course.phase = STARTING
        return
    course.phase = CHARGING if power > session.taper_share * top else TAPER
    if course.phase == TAPER:
        lowest = max(power, before)
        course.least = lowest if course.least is None else min(course.least, lowest)
    if course.least is not None:
        risen = power - course.least >= session.rise_share * top
        course.rising |= _held(course, session, moment, up=risen)


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


def _warm(course: Course, session: Session, values: Mapping[str, Scalar], moment: int) -> None:
    """Weighted sums for a straight line through the temperatures, of which each counts half after a while."""
    temperature = values.get(session.temperature)
    if course.began is None or moment - course.began < session.warm_up_s * 1000:
        return
    if not isinstance(temperature, _NUMBER) or course.phase not in (CHARGING, TAPER):
        return
    course.heat_since = course.heat_since or moment
    x = (moment - course.began) / _HOUR_MS
    kept = 0.5 ** (max(moment - course.heat_at, 0) / 1000 / session.heat_half_s) if course.heat_at else 0.0
    n, sx, sy, sxx, sxy = (kept * part for part in course.heat)
    course.heat = (n + 1, sx + x, sy + temperature, sxx + x * x, sxy + x * temperature)
    course.heat_at = moment
