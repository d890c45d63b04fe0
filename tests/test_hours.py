"""Hours of rules: on the property's clock, nights and set clocks included."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rules.hours import MIDNIGHT, Calendar, Holidays, Hours, read_window

MINUTE = 60_000
EVERY_DAY = frozenset(range(7))
ZONES = (
    "Asia/Shanghai",
    "Europe/Berlin",  # at 02:00 and 03:00
    "America/New_York",
    "Australia/Lord_Howe",  # by half an hour
    "Africa/Cairo",  # at midnight
    "America/Sao_Paulo",  # at midnight, until 2019
    "Pacific/Apia",  # left a whole day out, 2011-12-30
)
CHANGES = (
    datetime(2026, 3, 29, tzinfo=UTC),
    datetime(2026, 10, 25, tzinfo=UTC),
    datetime(2026, 3, 8, tzinfo=UTC),
    datetime(2026, 4, 4, tzinfo=UTC),
    datetime(2024, 4, 26, tzinfo=UTC),
    datetime(2024, 11, 1, tzinfo=UTC),
    datetime(2018, 11, 4, tzinfo=UTC),
    datetime(2019, 2, 17, tzinfo=UTC),
    datetime(2011, 12, 30, tzinfo=UTC),
)
NIGHT = Hours(EVERY_DAY, ((22 * 60, 30 * 60),))


def ms(text: str, zone: str = "UTC") -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000)


def in_hours(hours: Hours, at: int, calendar: Calendar) -> bool:
    return hours.opens(at, calendar) == at


def test_a_night_is_inside_from_its_beginning_to_just_before_its_end() -> None:
    calendar = Calendar(ZoneInfo("Asia/Shanghai"))
    begin, end = ms("2026-11-22 22:00", "Asia/Shanghai"), ms("2026-11-23 06:00", "Asia/Shanghai")
    assert NIGHT.opens(begin - 1, calendar) == begin
    assert in_hours(NIGHT, begin, calendar)
    assert in_hours(NIGHT, end - 1, calendar)
    assert NIGHT.opens(end, calendar) == begin + 86_400_000


def test_a_night_belongs_to_the_day_that_it_begins_on() -> None:
    friday_night = Hours(frozenset({4}), ((22 * 60, 30 * 60),))
    assert in_hours(friday_night, ms("2026-11-21 05:59"), Calendar())  # Saturday morning
    assert not in_hours(friday_night, ms("2026-11-20 05:59"), Calendar())
    assert friday_night.opens(ms("2026-11-21 06:00"), Calendar()) == ms("2026-11-27 22:00")


def test_holidays_count_alone_or_not_at_all() -> None:
    holiday = Calendar(holidays=frozenset({date(2026, 10, 1)}))
    only = Hours(EVERY_DAY, ((0, MIDNIGHT),), Holidays.ONLY)
    without = Hours(EVERY_DAY, ((0, MIDNIGHT),), Holidays.EXCEPT)
    assert only.opens(ms("2026-09-20 12:00"), holiday) == ms("2026-10-01 00:00")
    assert in_hours(only, ms("2026-10-01 23:59"), holiday)
    assert without.opens(ms("2026-10-01 00:00"), holiday) == ms("2026-10-02 00:00")
    assert only.opens(ms("2026-10-02 00:00"), holiday) > ms(
        "2027-10-02 00:00"
    )  # never: looked at again in a year


@pytest.mark.parametrize(
    ("zone", "window", "begin", "end"),
    [
        # spring: 02:00 to 03:00 is left out; autumn: it comes twice
        ("Europe/Berlin", "02:30-04:00", "2026-03-29T03:00+02:00", "2026-03-29T04:00+02:00"),
        ("Europe/Berlin", "01:00-02:30", "2026-03-29T01:00+01:00", "2026-03-29T03:00+02:00"),
        ("Europe/Berlin", "02:30-04:00", "2026-10-25T02:30+02:00", "2026-10-25T04:00+01:00"),
        ("Europe/Berlin", "01:00-02:30", "2026-10-25T01:00+02:00", "2026-10-25T02:30+01:00"),
        ("Europe/Berlin", "22:00-06:00", "2026-10-24T22:00+02:00", "2026-10-25T06:00+01:00"),
        ("Africa/Cairo", "00:00-06:00", "2024-04-26T01:00+03:00", "2024-04-26T06:00+03:00"),
    ],
)
def test_where_the_clock_is_set_a_window_reaches_from_its_first_to_its_last_moment(
    zone: str, window: str, begin: str, end: str
) -> None:
    minutes = read_window(window)
    assert minutes is not None
    hours, calendar = Hours(EVERY_DAY, (minutes,)), Calendar(ZoneInfo(zone))
    begins, ends = (int(datetime.fromisoformat(text).timestamp() * 1000) for text in (begin, end))
    assert hours.opens(begins - 1, calendar) == begins
    assert in_hours(hours, ends - 1, calendar)
    assert not in_hours(hours, ends, calendar)


WINDOWS = st.builds(
    lambda begin, length: (begin, begin + length),
    st.sampled_from(range(0, MIDNIGHT, 15)),
    st.sampled_from(range(15, MIDNIGHT + 1, 15)),
)
STEP = 15 * MINUTE
AROUND = range(-4 * 96, 4 * 96)


def naive(hours: Hours, calendar: Calendar, middle: int) -> dict[int, bool]:
    """By looking at the clock every quarter of an hour, from four days before ``middle`` to four days after it."""
    moments = [middle + number * STEP for number in AROUND]
    shown = [calendar.local(moment).replace(tzinfo=None) for moment in moments]
    inside = dict.fromkeys(moments, False)
    for day in sorted({each.date() + timedelta(more) for each in shown for more in (-2, -1, 0)}):
        midnight = datetime(day.year, day.month, day.day)  # noqa: DTZ001 - as a clock shows it
        holiday = day in calendar.holidays
        if day.weekday() not in hours.days or hours.holidays is (
            Holidays.EXCEPT if holiday else Holidays.ONLY
        ):
            continue
        for begin, end in hours.windows:
            begins, ends = midnight + timedelta(minutes=begin), midnight + timedelta(minutes=end)
            reached = [number for number, each in enumerate(shown) if each >= begins]
            before = [number for number, each in enumerate(shown) if each < ends]
            if reached and before:
                inside |= dict.fromkeys(moments[min(reached) : max(before) + 1], True)
    return inside


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(ZONES),
    st.sampled_from(CHANGES),
    st.frozensets(st.sampled_from(range(7)), min_size=1),
    st.lists(WINDOWS, min_size=1, max_size=3, unique=True),
    st.sampled_from([None, *Holidays]),
)
def test_hours_are_what_a_person_with_a_clock_would_say(
    zone: str,
    middle: datetime,
    days: frozenset[int],
    windows: list[tuple[int, int]],
    holidays: Holidays | None,
) -> None:
    calendar = Calendar(ZoneInfo(zone), frozenset({(middle + timedelta(1)).date(), middle.date()}))
    hours = Hours(days, tuple(sorted(windows)), holidays)
    expected = naive(hours, calendar, int(middle.timestamp() * 1000))
    moments = list(expected)[96 * 2 : -96 * 2]
    for moment in moments[::3]:
        assert in_hours(hours, moment, calendar) is expected[moment], calendar.local(moment)
    for moment in moments[::37]:
        following = [each for each in expected if each >= moment and expected[each]]
        if following:
            assert hours.opens(moment, calendar) == following[0]


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("08:00-18:00", (480, 1080)),
        ("22:00-06:00", (1320, 1800)),
        ("0:00-24:00", (0, 1440)),
        ("8:00-8:00", None),
        ("24:00-06:00", None),
        ("08:00", None),
        ("8-18", None),
        ("08:60-09:00", None),
        ("25:00-26:00", None),
        ("٠٨:00-09:00", None),
    ],
)
def test_a_window_is_read_as_a_person_writes_it(text: str, minutes: tuple[int, int] | None) -> None:
    assert read_window(text) == minutes
