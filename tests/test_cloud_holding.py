"""cloud_bridge.holding: nothing goes to the cloud store with a time that nobody knew."""

from msgspec.structs import replace

from cloud_bridge.source import State
from devices.readings import Flag, Reading
from rules.alarms import AlarmChange, Transition
from rules.decisions import ClockStepped, ClockUntrusted
from tests.cloud_world import NOW, Forwarding, Journal, ScriptedStore, change, line, reading

HOUR = 3_600_000


def provisional(number: int, **times: int) -> Reading:
    """The ``number``-th reading, an hour too early, from a device without a clock."""
    right = reading(number)
    at = right.source_time - HOUR
    return replace(right, source_time=at, received_at=at, flags=Flag.PROVISIONAL, **times)


def test_readings_wait_for_the_time_and_go_with_it_then() -> None:
    journal = Journal()
    journal.commit(reading(0), ClockUntrusted(NOW - HOUR), provisional(1))
    journal.commit(provisional(2))
    with ScriptedStore() as store:
        forwarding = Forwarding(journal, store.url)
        waits: list[State] = []

        def know_the_time() -> None:
            waits.append(journal.reports[-1].state)
            if len(waits) == 3:
                assert store.stored == []
                journal.commit(provisional(3), ClockStepped(HOUR, NOW - HOUR + 4_000), reading(4))
                journal.commit(reading(5))

        forwarding.at_pause = know_the_time
        forwarding.run()
    assert store.stored == [line(number) for number in range(6)]
    assert waits == [State.HOLDING] * 3
    assert journal.reports[-1].state is State.CURRENT


def test_what_was_before_goes_at_once() -> None:
    journal = Journal()
    journal.commit(reading(0))
    journal.commit(provisional(1))
    with ScriptedStore() as store:
        forwarding = Forwarding(journal, store.url)
        forwarding.pause_limit = 2
        forwarding.run()
    assert store.stored == [line(0)]


def test_each_time_without_a_clock_has_its_own_correction() -> None:
    journal = Journal()
    journal.commit(provisional(0), ClockStepped(HOUR, 0), reading(1), ClockUntrusted(1), provisional(2))
    journal.commit(reading(3))
    journal.commit(ClockStepped(2 * HOUR, 2))
    with ScriptedStore() as store:
        Forwarding(journal, store.url).run()
    later = line(2).replace(b"%d" % (NOW + 2_000), b"%d" % (NOW + 2_000 + HOUR))
    assert store.stored == [line(0), line(1), later, line(3)]


def test_after_a_restart_the_same_lines_come_with_the_same_times() -> None:
    journal = Journal()
    journal.commit(provisional(0), provisional(1))
    journal.commit(ClockStepped(HOUR, 0))
    with ScriptedStore() as store:
        Forwarding(journal, store.url).run()
        journal.positions.clear()
        Forwarding(journal, store.url).run()
    assert store.stored == [line(0), line(1)] * 2


def test_alarms_wait_until_the_store_has_set_them_right_and_their_correction_is_no_transition() -> None:
    journal = Journal()
    wrong = change(2)
    wrong = AlarmChange(wrong.transition, replace(wrong.alarm, provisional=True), wrong.at - HOUR)
    journal.change(change(1), wrong)
    with ScriptedStore() as store:
        forwarding = Forwarding(journal, store.url)

        def know_the_time() -> None:
            if len(forwarding.pauses) == 2:
                assert len(store.stored) == 1
                journal.changes[1] = (2, change(2))
                journal.change(change(3, Transition.CORRECTED))

        forwarding.at_pause = know_the_time
        forwarding.run()
    assert [each.rsplit(b" ", 1)[1] for each in store.stored] == [b"%d" % (NOW + 1), b"%d" % (NOW + 2)]
