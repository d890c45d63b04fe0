"""The policy alone: facts in, findings out."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.topics import Lane
from edge.broker.broker_watch import ANY_LANE, DROPPED, OVER_MS, UPTIME, BrokerWatch, Findings
from edge.health import Code
from edge.mqtt.link import Connected
from edge.store.records import Gap, GapReason

NOW = 1_790_000_000_000
SILENCE = Findings()


def connected(
    lane: Lane = Lane.SAFETY, *, session_present: bool = True, maximum: int | None = 4_096
) -> Connected:
    return Connected(lane, 1, session_present, 20, maximum)


def known(**positions: int) -> BrokerWatch:
    """After a restart: the journal's newest time is NOW."""
    return BrokerWatch({name.replace("_", "."): value for name, value in positions.items()}, NOW)


def dropped(watch: BrokerWatch, count: int, at: int, *, retained: bool = False) -> Findings:
    return watch.noticed(DROPPED, b"%d" % count, at, retained=retained)


def tick(watch: BrokerWatch, at: int) -> None:
    assert watch.noticed(UPTIME, b"12 seconds", at, retained=False) == SILENCE


# --- limits -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("maximum", "too_small"), [(20, True), (999, True), (1_000, False), (65_535, False)])
def test_a_small_receive_maximum_is_trouble_and_names_the_figure(maximum: int, too_small: bool) -> None:
    found = BrokerWatch({}, 0).connected(connected(session_present=False, maximum=maximum), NOW)
    if too_small:
        assert f"{maximum:,} messages" in found.said[Code.BROKER_LIMITS]
    else:
        assert found.said == {}
        assert Code.BROKER_LIMITS in found.over


def test_nothing_is_said_of_limits_where_the_protocol_does_not_tell_them() -> None:
    found = BrokerWatch({}, 0).connected(connected(session_present=False, maximum=None), NOW)
    assert (found.said, found.over) == ({}, ())


# --- sessions -----------------------------------------------------------------------------------------------


def test_the_first_start_ever_is_no_loss_and_is_remembered() -> None:
    watch = BrokerWatch({}, 0)
    found = watch.connected(connected(session_present=False), NOW)
    assert (found.gaps, found.positions) == ((), {"session.safety": 0})


def test_a_session_that_is_missing_is_a_gap_since_it_was_last_heard() -> None:
    watch = known(session_safety=0, session_bulk=NOW - 5_000)
    safety = watch.connected(connected(session_present=False), NOW + 60_000)
    bulk = watch.connected(connected(Lane.BULK, session_present=False), NOW + 60_001)
    assert [*safety.gaps, *bulk.gaps] == [
        Gap(NOW + 60_000, "safety", 0, NOW, NOW + 60_000, GapReason.SESSION_LOST),
        Gap(NOW + 60_001, "bulk", 0, NOW - 5_000, NOW + 60_001, GapReason.SESSION_LOST),
    ]
    assert "safety since 2026-" in bulk.said[Code.SESSION_LOST]
    assert "bulk since 2026-" in bulk.said[Code.SESSION_LOST]


def test_a_gateway_that_came_and_went_without_the_broker_has_heard_nothing() -> None:
    between = known(session_safety=0)
    again = BrokerWatch(between.positions, NOW + 60_000)
    found = again.connected(connected(session_present=False), NOW + 70_000)
    assert [(gap.from_ms, gap.to_ms) for gap in found.gaps] == [(NOW, NOW + 70_000)]


def test_a_session_lost_while_we_run_is_missed_since_its_last_message() -> None:
    watch = BrokerWatch({}, 0)
    watch.connected(connected(session_present=False), NOW)
    assert watch.disconnected(Lane.SAFETY, NOW + 7).positions == {"session.safety": NOW + 7}
    found = watch.connected(connected(session_present=False), NOW + 100)
    assert [(gap.from_ms, gap.to_ms) for gap in found.gaps] == [(NOW + 7, NOW + 100)]
    assert found.positions == {"session.safety": 0}


def test_a_lost_session_is_over_when_each_was_resumed_or_after_a_day() -> None:
    watch = known(session_safety=0, session_bulk=0)
    for lane in Lane:
        watch.connected(connected(lane, session_present=False), NOW)
    assert watch.connected(connected(Lane.BULK, maximum=None), NOW + 1).over == ()
    assert watch.connected(connected(Lane.SAFETY, maximum=None), NOW + 2).over == (Code.SESSION_LOST,)
    watch.connected(connected(session_present=False), NOW)
    assert watch.look(NOW + OVER_MS - 1) == SILENCE
    assert watch.look(NOW + OVER_MS).over == (Code.SESSION_LOST,)
    assert watch.look(NOW + 2 * OVER_MS) == SILENCE


def test_a_broker_that_keeps_no_session_by_nature_loses_none() -> None:
    watch = BrokerWatch({"session.safety": 0}, NOW, keeps_sessions=False)
    found = watch.connected(connected(session_present=False, maximum=None), NOW)
    assert (found.gaps, found.said) == ((), {})


# --- sessions that are older than they were -----------------------------------------------------------------


def tell_age(watch: BrokerWatch, age_s: int, at: int) -> Findings:
    return watch.noticed(UPTIME, b"%d seconds" % age_s, at, retained=False)


def left_behind(farewell: int) -> BrokerWatch:
    """A gateway that was last heard at NOW comes back 60 s later; both sessions are there."""
    watch = known(session_safety=NOW, session_bulk=NOW, broker_farewell=farewell)
    for lane in Lane:
        if lane is Lane.BULK:
            watch.farewell(NOW + 60_000)
        assert watch.connected(connected(lane), NOW + 60_000).gaps == ()
    return watch


def test_a_broker_that_began_anew_and_left_no_farewell_has_lost_what_it_had_not_saved() -> None:
    watch = left_behind(7)
    assert tell_age(watch, 20, NOW + 60_000) == SILENCE  # it has not been looked for the farewell
    watch.looked(None)
    found = tell_age(watch, 20, NOW + 61_000)
    assert found.gaps == tuple(
        Gap(NOW + 61_000, lane.value, 0, NOW, NOW + 42_000, GapReason.SESSION_LOST) for lane in Lane
    )
    assert "without having saved" in found.said[Code.SESSION_LOST]
    assert found.positions == {"session.safety": 0, "session.bulk": 0}
    assert tell_age(watch, 30, NOW + 71_000) == SILENCE


def test_a_farewell_of_the_last_connection_tells_of_a_good_end_once() -> None:
    watch = left_behind(7)
    watch.looked(b"7")
    assert tell_age(watch, 20, NOW + 61_000).gaps == ()
    for lane in Lane:
        watch.disconnected(lane, NOW + 62_000)
        watch.connected(connected(lane), NOW + 70_000)
    watch.looked(b"7")  # the broker was killed and has gone back to what it saved at its good end
    assert [gap.from_ms for gap in tell_age(watch, 5, NOW + 71_000).gaps] == [NOW + 62_000] * 2


@pytest.mark.parametrize("farewell", [b"6", b"", b"-7", b"seven", b"7" * 40, b"0", None])
def test_no_other_farewell_counts(farewell: bytes | None) -> None:
    watch = left_behind(7)
    watch.looked(farewell)
    assert len(tell_age(watch, 20, NOW + 61_000).gaps) == len(Lane)


def test_a_broker_that_is_older_than_the_last_contact_has_lost_nothing() -> None:
    watch = left_behind(7)
    watch.looked(None)
    assert tell_age(watch, 63, NOW + 61_000).gaps == ()


def test_a_silent_lane_is_not_lost_with_its_line_soon_after_the_broker_began() -> None:
    watch = left_behind(7)
    watch.looked(b"7")
    for at_s in (61, 71, 81):
        tell_age(watch, at_s - 59, NOW + at_s * 1000)
    for lane in Lane:
        watch.disconnected(lane, NOW + 60_000)
        watch.connected(connected(lane), NOW + 90_000)
    watch.looked(b"7")
    assert tell_age(watch, 32, NOW + 91_000).gaps == ()


def test_what_was_not_decided_before_a_crash_of_the_gateway_is_decided_after_it() -> None:
    again = BrokerWatch(left_behind(7).positions, NOW + 62_000)
    for lane in Lane:
        again.connected(connected(lane), NOW + 63_000)
    again.looked(None)
    assert [gap.from_ms for gap in tell_age(again, 23, NOW + 64_000).gaps] == [NOW] * 2


def test_under_a_protocol_without_farewells_nothing_is_concluded_from_their_absence() -> None:
    watch = known(session_safety=NOW, session_bulk=NOW)
    for lane in Lane:
        watch.connected(connected(lane), NOW + 60_000)
    watch.looked(None)
    assert tell_age(watch, 20, NOW + 61_000) == SILENCE


# --- what it dropped ----------------------------------------------------------------------------------------


def test_what_was_dropped_before_the_first_contact_is_not_ours() -> None:
    watch = BrokerWatch({}, 0)
    watch.connected(connected(session_present=False), NOW)
    assert dropped(watch, 4_001, NOW, retained=True) == Findings(positions={"broker.dropped": 4_001})
    assert [gap.count for gap in dropped(watch, 4_003, NOW).gaps] == [2]


def test_a_counter_that_first_comes_as_a_change_has_risen_from_nothing() -> None:
    """A minute after its last change Mosquitto 2.0 has forgotten it; then it comes with the next change."""
    watch = BrokerWatch({}, 0)
    watch.connected(connected(session_present=False), NOW)
    assert [(gap.count, gap.from_ms) for gap in dropped(watch, 3, NOW + 1).gaps] == [(3, NOW)]
    later = known(session_safety=0)
    later.connected(connected(), NOW)
    assert [gap.count for gap in dropped(later, 4_001, NOW + 1, retained=True).gaps] == [4_001]


def test_a_rise_while_we_were_away_is_one_gap_since_the_counter_was_last_known() -> None:
    watch = known(session_safety=0, session_bulk=0, broker_dropped=12)
    watch.connected(connected(), NOW + 60_000)
    found = dropped(watch, 4_013, NOW + 60_002, retained=True)
    assert found.gaps == (Gap(NOW + 60_002, ANY_LANE, 4_001, NOW, NOW + 60_002, GapReason.BROKER_DROPPED),)
    assert ": 4,001, the last 4,001 of them between" in found.said[Code.BROKER_DROPPED]
    assert found.positions == {"broker.dropped": 4_013}
    assert dropped(watch, 4_013, NOW + 70_000) == SILENCE


def test_while_connected_a_rise_is_dated_from_the_look_before() -> None:
    watch = known(session_safety=0, broker_dropped=0)
    watch.connected(connected(), NOW)
    dropped(watch, 0, NOW, retained=True)
    for at in (10_000, 20_000, 30_000):
        tick(watch, NOW + at)
    assert [(gap.from_ms, gap.to_ms) for gap in dropped(watch, 5, NOW + 30_001).gaps] == [
        (NOW + 20_000, NOW + 30_001)
    ]


def test_as_long_as_the_counter_was_not_told_nothing_dates_it() -> None:
    watch = known(session_safety=0, broker_dropped=0)
    watch.connected(connected(), NOW + 60_000)
    tick(watch, NOW + 60_000)
    tick(watch, NOW + 70_000)
    assert [gap.from_ms for gap in dropped(watch, 5, NOW + 70_001).gaps] == [NOW]


def test_a_counter_below_the_last_one_began_anew_with_the_broker() -> None:
    watch = known(session_safety=0, broker_dropped=4_001)
    assert [gap.count for gap in dropped(watch, 7, NOW, retained=True).gaps] == [7]
    assert dropped(watch, 0, NOW) == Findings(positions={"broker.dropped": 0})


def test_dropped_messages_are_over_after_a_day_without_another() -> None:
    watch = known(session_safety=0)
    dropped(watch, 1, NOW)
    assert "room: 2, the last 1" in dropped(watch, 2, NOW + 1_000).said[Code.BROKER_DROPPED]
    assert watch.look(NOW + OVER_MS) == SILENCE
    assert watch.look(NOW + OVER_MS + 1_000).over == (Code.BROKER_DROPPED,)
    assert "room: 1, the last 1" in dropped(watch, 3, NOW + 2 * OVER_MS).said[Code.BROKER_DROPPED]


@given(st.sampled_from([DROPPED, UPTIME, "$SYS/else"]), st.binary(max_size=40), st.booleans())
def test_whatever_a_broker_says_of_itself_breaks_nothing(topic: str, payload: bytes, retained: bool) -> None:
    watch = known(session_safety=0)
    found = watch.noticed(topic, payload, NOW, retained=retained)
    assert all(0 <= value < 2**63 for value in found.positions.values())


@given(st.lists(st.tuples(st.integers(0, 50), st.booleans()), max_size=30))
def test_every_rise_is_in_exactly_one_gap_however_often_either_side_restarts(
    story: list[tuple[int, bool]],
) -> None:
    positions: Mapping[str, int] = {"session.safety": 0, "broker.dropped": 0}
    watch, count, lost, told = BrokerWatch(positions, NOW), 0, 0, 0
    for rise, restarts in story:
        count, lost = count + rise, lost + rise
        if restarts:
            watch = BrokerWatch(watch.positions, NOW)
        found = [*dropped(watch, count, NOW).gaps, *dropped(watch, count, NOW, retained=True).gaps]
        told += sum(gap.count for gap in found)
        assert told == lost
