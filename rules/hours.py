"""When a rule may raise: days and hours on the property's clock, and its holidays.

Pure: the shell hands in the zone (a `tzinfo`) and the holidays as a `Calendar`. A window belongs to the day that
it begins on, so a night from Friday to Saturday is Friday's.

Where the clock is set, a window reaches from the first moment at which the clock shows its beginning or later to
the last moment at which it shows less than its end. So an hour that comes twice is inside with both its halves,
and a window that begins or ends in an hour that is left out begins or ends with the leap.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from enum import StrEnum

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MIDNIGHT = 24 * 60
"""Minutes of a day as clocks show them."""

DAY_MS = 86_400_000
LOOK_AHEAD_DAYS = 400
"""A rule that has no hours for so long is looked at again then."""

_EARLIER_DAYS = 2
"""A window may reach into the day after its own, and a leap of the clock over a whole day (Samoa, 2011)."""


class Holidays(StrEnum):
    """Which days count."""

    ONLY = "only"
    EXCEPT = "except"


@dataclass(frozen=True, slots=True)
class Calendar:
    """The property's clock and its holidays."""

    zone: tzinfo = UTC
    holidays: frozenset[date] = frozenset()

    @property
    def meaning(self) -> list[str]:
        """As texts: what it was parsed from."""
        return [str(self.zone), *(day.isoformat() for day in sorted(self.holidays))]

    def local(self, at: int) -> datetime:
        """What the clock shows at ``at`` (Unix ms)."""
        return datetime.fromtimestamp(at / 1000, self.zone)


PLAIN = Calendar()
"""UTC without holidays."""


@dataclass(frozen=True, slots=True)
class Hours:
    """Days and, on each of them, windows."""

    days: frozenset[int]
    """0 is Monday."""
    windows: tuple[tuple[int, int], ...]
    """Beginning and end in minutes after midnight, rising; an end beyond `MIDNIGHT` lies in the next day."""
    holidays: Holidays | None = None

    def opens(self, at: int, calendar: Calendar) -> int:
        """``at`` (Unix ms) if that is inside, else when the next window begins, at most `LOOK_AHEAD_DAYS` later."""
        for day in self._days_from(calendar.local(at).date() - timedelta(_EARLIER_DAYS), calendar):
            for begin, end in self.windows:
                begins = _first(_wall(day, begin), calendar.zone)
                ends = _last(_wall(day, end), calendar.zone)
                if at < ends and begins < ends:
                    return max(at, begins)
        return at + LOOK_AHEAD_DAYS * DAY_MS

    def _days_from(self, first: date, calendar: Calendar) -> Iterator[date]:
        for number in range(LOOK_AHEAD_DAYS + _EARLIER_DAYS):
            day = first + timedelta(number)
            if day.weekday() not in self.days:
                continue
            if self.holidays is None or (day in calendar.holidays) is (self.holidays is Holidays.ONLY):
                yield day

    def __str__(self) -> str:
        """As a rule file says it: ``mon tue 22:00-06:00 except holidays``."""
        days = [] if len(self.days) == len(DAYS) else [DAYS[day] for day in sorted(self.days)]
        windows = [f"{_clock(begin)}-{_clock(end)}" for begin, end in self.windows]
        holidays = [] if self.holidays is None else [f"{self.holidays} holidays"]
        return " ".join([*days, *windows, *holidays])


def read_window(text: str) -> tuple[int, int] | None:
    """``22:00-06:00`` as minutes after midnight, the end of a night beyond `MIDNIGHT`; None for anything else."""
    begin, dash, end = text.partition("-")
    first, last = _minutes(begin), _minutes(end)
    if not dash or first is None or last is None or first in (last, MIDNIGHT):
        return None
    return first, last if last > first else last + MIDNIGHT


def _minutes(text: str) -> int | None:
    hour, colon, minute = text.strip().partition(":")
    if not (colon and len(minute) == 2 and len(hour) in (1, 2) and (hour + minute).isascii()):  # noqa: PLR2004 - hh:mm
        return None
    if not (hour + minute).isdigit():
        return None
    minutes = int(hour) * 60 + int(minute)
    return minutes if int(minute) < 60 and minutes <= MIDNIGHT else None  # noqa: PLR2004 - of an hour


def _clock(minutes: int) -> str:
    within = minutes if minutes <= MIDNIGHT else minutes - MIDNIGHT
    return f"{within // 60:02}:{within % 60:02}"


def _wall(day: date, minutes: int) -> datetime:
    return datetime(day.year, day.month, day.day) + timedelta(minutes=minutes)  # noqa: DTZ001 - its zone comes next


def _first(wall: datetime, zone: tzinfo) -> int:
    """The first moment (Unix ms) at which the clock shows ``wall`` or later."""
    before, after = _moment(wall, zone, 0), _moment(wall, zone, 1)
    return before if before <= after else _leap(after, before, zone)


def _last(wall: datetime, zone: tzinfo) -> int:
    """The moment (Unix ms) from which on the clock never shows less than ``wall`` again."""
    before, after = _moment(wall, zone, 0), _moment(wall, zone, 1)
    return after if before <= after else _leap(after, before, zone)


def _moment(wall: datetime, zone: tzinfo, fold: int) -> int:
    since = wall.replace(tzinfo=zone, fold=fold) - datetime(1970, 1, 1, tzinfo=UTC)
    return since // timedelta(milliseconds=1)


def _leap(low: int, high: int, zone: tzinfo) -> int:
    """Between two moments (Unix ms), the first at which the clock is set as it is at ``high``."""
    after = datetime.fromtimestamp(high / 1000, zone).utcoffset()
    while high - low > 1:
        middle = (low + high) // 2
        if datetime.fromtimestamp(middle / 1000, zone).utcoffset() == after:
            high = middle
        else:
            low = middle
    return high
