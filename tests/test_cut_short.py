"""Delays that a message cuts short although by the device they had run out: told late, and nothing else changes."""

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.readings import Channel, Flag, Reading, Scalar
from rules.alarms import AlarmState, Transition
from rules.decisions import CatchingUp, Listening
from rules.state import freeze, thaw
from tests.rule_world import BUTTON, LIFT, PORT, T0, ms, rules
from tests.test_stops import ONLY_HOT, RULES, Site

EBIKE: dict[str, Scalar] = {"type": "new", "track": "a", "label": "ebike", "score": 0.9}
GONE: dict[str, Scalar] = {"type": "end", "track": "a"}


def test_an_e_bike_whose_coming_was_held_up_on_its_way_is_told_late_and_the_door_is_left_alone() -> None:
    site = Site()
    site.hear(7.7, LIFT, told=0, **EBIKE)
    site.hear(8.5, LIFT, told=8.4, **GONE)
    assert site.said_of("ebike") == [("raised", 8.5, True), ("cleared", 8.5, True)]
    assert site.changes[0].alarm.id == site.changes[1].alarm.id
    assert site.changes[-1].alarm.state is AlarmState.NORMAL
    assert (site.changes[0].alarm.source_time, site.changes[0].alarm.received_at) == (T0, ms(7.7))
    site.tell(CatchingUp(on=True, at=ms(9)))
    site.tell(CatchingUp(on=False, at=ms(10)))
    site.at(100)
    assert site.orders == []
    assert len(site.changes) == 2


@pytest.mark.parametrize("skew", [-1_800, 0, 200], ids=["slow", "right", "fast"])
def test_a_clock_that_is_wrong_by_as_much_all_the_time_changes_nothing(skew: float) -> None:
    for lasted, alarms in ((0.4, 0), (1.9, 0), (2.0, 2)):
        site = Site()
        site.hear(7, LIFT, told=skew, **EBIKE)
        site.hear(7.5, LIFT, told=skew + lasted, **GONE)
        assert len(site.said_of("ebike")) == alarms, lasted


@pytest.mark.parametrize("first", [True, False], ids=["the beginning", "the end"])
def test_without_a_believed_time_of_both_the_delay_runs_from_the_arrival(first: bool) -> None:
    for flags in (0, Flag.CLOCK_DOUBTED):
        site = Site()
        for second, values, told in ((7.0, EBIKE, 0), (7.5, GONE, 7)):
            now = ms(second)
            untold = (told == 0) is first
            so, flag = (now, flags) if untold else (ms(told), 0)
            site.tell(Reading(Channel.EVENT, LIFT, dict(values), so, now, flag))
        assert site.changes == []


def test_a_clock_that_goes_back_cuts_nothing_short() -> None:
    site = Site()
    site.hear(7, LIFT, told=5, **EBIKE)
    site.hear(7.5, LIFT, told=0, **GONE)
    assert site.changes == []


def test_it_is_told_with_what_was_so_and_a_person_must_see_it() -> None:
    site = Site()
    site.hear(0.1, PORT, told=0, power=7)
    site.hear(19, PORT, told=5, temperature=70)
    site.hear(19.5, PORT, told=19, temperature=40)
    assert site.said_of("hot") == [("raised", 19.5, True), ("cleared", 19.5, True)]
    raised = site.changes[0].alarm
    assert raised.text["en"] == "70 (late: so at 14:13)"
    assert raised.values["temperature"] == 70
    assert raised.source_time == ms(5)
    assert raised.why is not None
    assert [(each.name, each.value, each.at) for each in raised.why.samples] == [("temperature", 70, ms(5))]
    assert site.alarm("hot").state is AlarmState.RTN_UNACKED
    assert site.state.devices[PORT].points["temperature"] == 40
    assert site.state.devices[PORT].last_seen == ms(19.5)
    assert site.orders == []


def test_what_only_keeps_an_alarm_from_beginning_does_not_end_it_so_it_stands_and_gives_its_orders() -> None:
    site = Site()
    site.hear(19, PORT, told=0, temperature=70)
    site.hear(19.5, PORT, told=19, temperature=60)  # inside the deadband
    assert site.said_of("hot") == [("raised", 19.5, True)]
    assert [order.command for order in site.orders] == ["cut_power"]
    site.at(60)
    site.stop(61)
    site.back(62)
    site.caught_up(63)
    assert len(site.orders) == 1


def test_what_goes_on_is_left_to_its_delay() -> None:
    site = Site()
    site.hear(7.7, LIFT, told=0, fire_recall=False)
    site.hear(7.7, LIFT, told=0, **EBIKE)
    site.hear(8.5, LIFT, told=8.4, **{**EBIKE, "type": "update"})
    assert site.changes == []
    site.at(9)
    assert site.said_of("ebike") == [("raised", 8.7, False)]
    assert [order.command for order in site.orders] == ["hold_door"]


def test_what_begins_while_catching_up_by_a_clock_that_is_fast_is_found_as_well() -> None:
    site = Site()
    site.stop(0)
    site.back(100)
    site.hear(100.1, LIFT, told=99.9, **EBIKE)  # said at 70 s, by a clock that is half a minute fast
    site.hear(100.2, LIFT, told=103, **GONE)
    assert site.said_of("ebike") == [("raised", 100.2, True), ("cleared", 100.2, True)]
    site.caught_up(101)
    assert site.orders == []


def test_what_a_cooldown_withholds_is_withheld() -> None:
    site = Site(rules(RULES.replace("severity: medium", "severity: medium\n    cooldown: 1h")))
    for begin in (7, 60):
        site.hear(begin, LIFT, told=begin - 7, **EBIKE)
        site.hear(begin + 0.5, LIFT, told=begin, **GONE)
    assert site.said_of("ebike") == [("raised", 7.5, True), ("cleared", 7.5, True)]
    assert site.state.devices[LIFT].ongoing == {}
    site.at(7_200)
    assert len(site.changes) == 2


def test_what_was_cut_short_and_has_ended_by_the_facts_is_not_raised_again_where_its_end_was_not_stored() -> (
    None
):
    for held_up in (0.0, 20.0):
        site, again = Site(ONLY_HOT), Site(ONLY_HOT)
        for each in (site, again):
            each.hear(19, PORT, told=0, temperature=70)
        site.hear(19.5 + held_up, PORT, told=19, temperature=40)
        hot = site.alarm("hot")
        assert hot.state is AlarmState.RTN_UNACKED
        header, devices = freeze(again.state)
        again.state = thaw(header, devices)
        again.engine.derive_deadlines(again.state)
        again.engine.adopt(again.state, [hot])
        again.stop(100)
        again.back(101)
        again.caught_up(102)
        again.at(200)
        assert again.changes == []


def test_a_delay_that_began_after_its_last_alarm_had_ended_goes_on() -> None:
    site = Site()
    site.hear(19, PORT, told=0, temperature=70)
    site.hear(19.5, PORT, told=19, temperature=40)
    site.hear(90, PORT, told=0, temperature=70)  # a clock that was set back: the same beginning, as it says
    site.engine.adopt(site.state, list(site.state.alarms.values()))
    site.at(120)
    assert site.said_of("hot")[2:] == [("reraised", 100, False)]


def test_an_alarm_that_clears_only_after_a_while_does_so_from_its_end_on() -> None:
    site = Site(
        rules(RULES.replace("clear: temperature < 55", "clear: temperature < 55\n    clear_for: 30s"))
    )
    site.hear(19, PORT, told=0, temperature=70)
    site.hear(19.5, PORT, told=19, temperature=40)
    site.at(100)
    assert site.said_of("hot") == [("raised", 19.5, True), ("cleared", 49.5, True)]


def test_an_event_that_was_overtaken_owes_no_orders_to_a_later_alarm() -> None:
    site = Site()
    site.hear(19, LIFT, told=0, type="new", track="a", label="ebike", score=0.9)
    site.hear(19.1, LIFT, told=19, type="new", track="p", label="person", score=0.9)
    site.hear(19.2, LIFT, told=5, **GONE)  # overtaken by the other
    assert site.said_of("ebike") == [("raised", 19.2, True), ("cleared", 19.2, True)]
    assert site.state.told_late == set()


def test_another_device_is_not_judged_by_this_one_s_times() -> None:
    site = Site()
    site.hear(7, LIFT, told=0, **EBIKE)
    site.hear(7.5, BUTTON, told=7.4, action="emergency")
    assert site.said_of("ebike") == []


# Properties


@dataclass(frozen=True)
class Said:
    """A temperature, when it was said and when it came (ms)."""

    temperature: int
    so: int
    came: int


@st.composite
def talks(draw: st.DrawFn, *, lags: tuple[int, ...]) -> list[Said]:
    """Readings in order, each held up by one of ``lags`` (ms), or for as long as the one before."""
    said: list[Said] = []
    so = came = T0
    for _ in range(draw(st.integers(1, 20))):
        so += draw(st.sampled_from([1, 900, 4_000, 9_000, 10_000, 11_000, 30_000]))
        came = max(came, so + draw(st.sampled_from(lags)))
        said.append(Said(draw(st.sampled_from([70, 40, 60, 70, 40])), so, came))
    return said


def told(said: Said, *, timed: bool = True) -> Reading:
    return Reading(
        Channel.TELEMETRY, PORT, {"temperature": said.temperature}, said.so if timed else said.came, said.came
    )


def site_of(said: list[Said], *, timed: bool = True) -> Site:
    site = Site(ONLY_HOT)
    for each in said:
        site.tell(told(each, timed=timed))
    site.at((said[-1].came - T0) / 1000 + 60)
    return site


@settings(max_examples=200, deadline=None)
@given(talks(lags=(1, 300, 999)))
def test_messages_that_are_in_time_change_nothing_by_their_times(said: list[Said]) -> None:
    timed, untimed = site_of(said), site_of(said, timed=False)
    assert timed.said_of("hot") == untimed.said_of("hot")
    assert [each.alarm.id for each in timed.changes] == [each.alarm.id for each in untimed.changes]
    assert timed.orders == untimed.orders


@settings(max_examples=200, deadline=None)
@given(talks(lags=(1, 2_000, 15_000, 100_000)))
def test_whatever_the_way_takes_what_lasted_for_longer_than_its_delay_is_told(said: list[Said]) -> None:
    site = site_of(said)
    raised, since = False, None
    spells = 0
    for each in said:
        if each.temperature >= 65:
            since = each.so if since is None else since
        elif not raised or each.temperature < 55:
            raised, since = False, None
        following = next((other.so for other in said if other.so > each.so), each.so + 60_000)
        if since is not None and not raised and following - since >= 11_000:
            raised, spells = True, spells + 1
    told_of = [each for each in site.changes if each.transition in (Transition.RAISED, Transition.RERAISED)]
    assert len(told_of) >= spells
    assert [each.at for each in site.changes] == sorted(each.at for each in site.changes)


@settings(max_examples=200, deadline=None)
@given(talks(lags=(1, 2_000, 15_000, 100_000)), st.integers(0, 20))
def test_a_replay_from_anywhere_gives_the_same(said: list[Said], cut: int) -> None:
    through, again = site_of(said), Site(ONLY_HOT)
    for each in said[:cut]:
        again.tell(told(each))
    header, devices = freeze(again.state)
    again.state = thaw(header, devices)
    again.engine.derive_deadlines(again.state)
    again.tell(Listening(on=True, at=again.state.now))
    for each in said[cut:]:
        again.tell(told(each))
    again.at((said[-1].came - T0) / 1000 + 60)
    assert [each.alarm.wire() for each in again.changes] == [each.alarm.wire() for each in through.changes]
    assert again.orders == through.orders
