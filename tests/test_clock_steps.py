"""The engine under a clock that is set: moments move, decisions do not."""

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from devices.corrections import corrected
from devices.decoding import AHEAD_MS, BEHIND_MS, decode
from devices.duplicates import RecentMessages
from devices.readings import Channel, Flag, Reading
from devices.topics import Route, Topics
from rules.alarms import AlarmChange, Transition
from rules.decisions import (
    Acknowledge,
    ClockStepped,
    ClockUntrusted,
    Close,
    Decision,
    Input,
    Listening,
    time_of,
)
from rules.engine import Engine
from rules.state import State, freeze, thaw
from tests.rule_world import BUTTON, PORT, SMOKE, T0
from tests.test_engine import RULES, Bench, engine, histories, play
from tests.test_interleavings import EVERYTHING

HOUR = 3_600_000
END = 700_000

steps = st.lists(
    st.tuples(st.integers(0, 40), st.integers(-100 * HOUR, 100 * HOUR), st.sampled_from([0, 1, 400])),
    max_size=6,
)
"""Before which input, by how much, and how long before it (ms)."""


def moved(given_: Input, by: int, ids: Mapping[str, str]) -> Input:
    """The same thing said under a clock that is ``by`` ahead; ``ids`` are those of the alarms there."""
    match given_:
        case Reading():
            return replace(given_, received_at=given_.received_at + by, source_time=given_.source_time + by)
        case Acknowledge() | Close():
            return replace(given_, at=given_.at + by, alarm_id=ids.get(given_.alarm_id, "none"))
        case Listening():
            return replace(given_, at=given_.at + by)
    raise AssertionError(given_)


class Run:
    """A history run twice in step: under an even clock, and under one that is set."""

    def __init__(
        self, plain: Sequence[Input], wanted: Sequence[tuple[int, int, int]], end: int, rules: str = RULES
    ) -> None:
        self.inputs: list[Input] = []
        self.even: list[tuple[object, ...]] = []
        self.stepped: list[tuple[object, ...]] = []
        self.decisions: list[Decision] = []
        self.engine = engine(rules)
        self.state = self.engine.new_state()
        self._plain = engine(rules)
        self._plain_state = self._plain.new_state()
        self._ids: dict[str, str] = {}
        self.offset = 0
        last = T0
        for index, given_ in enumerate(plain):
            for place, by, before in wanted:
                if place == index:
                    self._step(max(last, time_of(given_) - before), by)
            last = time_of(given_)
            self._tell(given_)
        self._tick(end)

    def _step(self, at: int, by: int) -> None:
        self._note(self._plain.tick(self._plain_state, at), self._take(ClockStepped(by, at + self.offset)))
        self.offset += by

    def _tell(self, given_: Input) -> None:
        self._note(
            self._plain.step(self._plain_state, given_, time_of(given_)),
            self._take(moved(given_, self.offset, self._ids)),
        )

    def _tick(self, at: int) -> None:
        decision = self.engine.tick(self.state, at + self.offset)
        self.decisions.append(decision)
        self._note(self._plain.tick(self._plain_state, at), decision)

    def _take(self, given_: Input) -> Decision:
        self.inputs.append(given_)
        decision = self.engine.step(self.state, given_, time_of(given_))
        self.decisions.append(decision)
        return decision

    def _note(self, even: Decision, stepped: Decision) -> None:
        self._ids.update(
            {one.alarm.id: other.alarm.id for one, other in zip(even.changes, stepped.changes, strict=False)}
        )
        self.even += [_said(change, 0) for change in even.changes]
        self.stepped += [_said(change, self.offset) for change in stepped.changes]


def _said(change: AlarmChange, offset: int) -> tuple[object, ...]:
    alarm = change.alarm
    return change.transition, alarm.key, alarm.state, alarm.version, alarm.occurrences, change.at - offset


@settings(max_examples=80, deadline=None)
@given(histories, steps)
def test_a_step_moves_moments_and_changes_no_decision(
    history: list[tuple[object, ...]], wanted: list[tuple[int, int, int]]
) -> None:
    machine = engine()
    plain, _, end = play(machine, machine.new_state(), history, T0)
    run = Run(plain, wanted, end + END, EVERYTHING)
    assert run.stepped == run.even


@settings(max_examples=60, deadline=None)
@given(histories, steps, st.integers(0, 40))
def test_replaying_a_prefix_across_steps_equals_running_through(
    history: list[tuple[object, ...]], wanted: list[tuple[int, int, int]], cut: int
) -> None:
    machine = engine()
    plain, _, end = play(machine, machine.new_state(), history, T0)
    run = Run(plain, wanted, end + END)
    first, second = engine(), engine()
    before = first.new_state()
    again = [first.step(before, each, time_of(each)) for each in run.inputs[:cut]]
    header, devices = freeze(before)
    state = thaw(header, devices)
    second.derive_deadlines(state)
    again += [second.step(state, each, time_of(each)) for each in run.inputs[cut:]]
    again.append(second.tick(state, end + END + run.offset))
    assert _changes(again) == _changes(run.decisions)
    assert state.alarms == run.state.alarms
    assert state.now == run.state.now


def _changes(decisions: Sequence[Decision]) -> list[AlarmChange]:
    return [change for decision in decisions for change in decision.changes]


@settings(max_examples=60, deadline=None)
@given(histories, st.integers(0, 20), st.integers(0, 20), st.integers(-HOUR, 10**12))
def test_what_was_provisional_is_corrected_as_if_the_time_had_been_known(
    history: list[tuple[object, ...]], begin: int, length: int, by: int
) -> None:
    machine = engine()
    plain, even_said, end = play(machine, even := machine.new_state(), history, T0)
    even_said.append(machine.tick(even, end + END))
    other = engine()
    state = other.new_state()
    ids = {change.alarm.id: change.alarm.id for change in _changes(even_said)}
    offset, since, now = 0, end + 10 * END, T0
    said: list[Decision] = []
    for index, given_ in enumerate(plain):
        if index == begin:
            since = now
            other.step(state, ClockUntrusted(since), since)
        if index == begin + length and since <= now:
            decision = other.step(state, ClockStepped(by, now), now)
            assert {change.transition for change in decision.changes} <= {Transition.CORRECTED}
            assert not any(alarm.provisional for alarm in state.alarms.values())
            offset = by
        now = time_of(given_)
        ours = {alarm.key: alarm.id for alarm in state.alarms.values()}
        keys = {change.alarm.id: change.alarm.key for change in _changes(even_said)}
        here = {even_id: ours.get(keys[even_id], "none") for even_id in ids}
        said.append(other.step(state, moved(given_, offset, here), now + offset))
    said.append(other.tick(state, end + END + offset))
    assert state.alarms.keys() == even.alarms.keys()
    for key, alarm in state.alarms.items():
        for moment in ("first_raised_at", "raised_at", "cleared_at", "acked_at", "received_at"):
            right = getattr(even.alarms[key], moment)
            known = moment == "received_at" and right <= since  # the base of a silence moves with the clock
            if right is not None and right != since and not known:
                assert getattr(alarm, moment) == right + (offset if right > since else 0)
        assert not (offset and alarm.provisional)


def test_a_delay_raises_after_exactly_what_was_left_of_it_whichever_way_the_clock_went() -> None:
    for by in (HOUR, -HOUR, 400 * 24 * HOUR):
        bench = Bench()
        bench.hear(0, PORT, temperature=70)
        assert bench.at(4, ClockStepped(by, T0 + 4_000)).changes == ()
        assert bench.engine.next_deadline(bench.state) == T0 + 10_000 + by
        assert bench.at(9.999 + by / 1000).changes == ()
        [raised] = bench.at(10 + by / 1000).changes
        assert (raised.alarm.rule, raised.at) == ("hot", T0 + 10_000 + by)


def test_a_step_is_not_silence_and_does_not_withhold_silence() -> None:
    for by in (50 * HOUR, -50 * HOUR):
        bench = Bench()
        bench.hear(0, PORT, temperature=20)
        assert bench.at(30, ClockStepped(by, T0 + 30_000)).changes == ()
        assert bench.at(59 + by / 1000).changes == ()
        [raised] = bench.at(61 + by / 1000).changes
        assert (raised.alarm.rule, raised.at) == ("quiet", T0 + 60_000 + by)
        assert raised.alarm.received_at == T0 + by


def test_moments_that_were_told_stay_unless_they_were_provisional() -> None:
    bench = Bench()
    bench.event(0, BUTTON, action="emergency")
    bench.at(5, ClockUntrusted(T0 + 5_000))
    bench.hear(6, SMOKE, smoke=True)
    assert bench.alarm("fire").provisional
    assert not bench.alarm("press").provisional
    [change] = bench.at(10, ClockStepped(HOUR, T0 + 10_000)).changes
    assert (change.transition, change.at) == (Transition.CORRECTED, T0 + 10_000 + HOUR)
    fire = bench.alarm("fire")
    assert (fire.provisional, fire.version, fire.occurrences) == (False, 2, 1)
    assert fire.raised_at == fire.first_raised_at == fire.received_at == fire.source_time == T0 + 6_000 + HOUR
    assert bench.alarm("press").raised_at == T0
    later = HOUR / 1000 + 20
    bench.at(later, ClockStepped(-HOUR, T0 + HOUR + 20_000))
    assert bench.alarm("fire") == fire


def test_an_alarm_of_before_that_was_acknowledged_meanwhile_keeps_the_moments_of_before() -> None:
    bench = Bench()
    bench.event(0, BUTTON, action="emergency")
    press = bench.alarm("press")
    bench.at(5, ClockUntrusted(T0 + 5_000))
    bench.at(7, Acknowledge(press.id, "Wang", "", T0 + 7_000))
    bench.at(10, ClockStepped(HOUR, T0 + 10_000))
    press = bench.alarm("press")
    assert (press.raised_at, press.acked_at) == (T0, T0 + 7_000 + HOUR)


def test_under_changed_rules_the_clock_is_learnt_like_everything_else() -> None:
    bench = Bench()
    machine: Engine = bench.engine
    state = State()
    machine.learn(state, Reading(Channel.TELEMETRY, PORT, {"temperature": 20}, T0, T0))
    machine.learn(state, ClockUntrusted(T0 + 1))
    assert state.provisional_since is not None
    machine.learn(state, ClockStepped(-HOUR, T0 + 5_000))
    assert state.now == T0 + 5_000 - HOUR
    assert not any([state.provisional_since])
    assert state.devices[PORT].last_seen == T0 - HOUR


def test_the_time_that_is_not_known_survives_a_snapshot() -> None:
    bench = Bench()
    bench.at(0, ClockUntrusted(T0))
    assert thaw(*freeze(bench.state)).provisional_since == T0


def test_what_was_said_twice_is_still_known_after_the_clock_was_set() -> None:
    for by in (HOUR, -HOUR):
        recent = RecentMessages()
        assert not recent.is_repeat("a", 1, T0)
        recent.shift(by)
        assert recent.is_repeat("a", 1, T0 + 60_000 + by)
        assert not recent.is_repeat("a", 1, T0 + 301_000 + by)


# Readings of that time

ROUTE = Topics("community", "c1").route("community/c1/smoke/s1/telemetry")


def heard(payload: bytes, *, buffers: bool = False) -> Reading:
    assert isinstance(ROUTE, Route)
    return decode(ROUTE, payload, T0, flags=Flag.PROVISIONAL, buffers=buffers)


@pytest.mark.parametrize(
    ("ts", "source_time", "flags"),
    [
        (None, T0 + HOUR, 0),
        (str(T0 + HOUR - 3), T0 + HOUR - 3, 0),
        ('"2026-09-21T15:13:20.007Z"', T0 + HOUR + 7, 0),
        (str(T0 + HOUR + AHEAD_MS), T0 + HOUR + AHEAD_MS, 0),
        (str(T0 + HOUR + AHEAD_MS + 1), T0 + HOUR, Flag.CLOCK_DOUBTED),
        (str(T0 - 1), T0 + HOUR, Flag.CLOCK_DOUBTED),
        (str(T0 + 5), T0 + 5, 0),
        ('"yesterday"', T0 + HOUR, Flag.CLOCK_DOUBTED),
    ],
)
def test_a_device_s_own_time_is_judged_anew_when_the_arrival_is_known(
    ts: str | None, source_time: int, flags: int
) -> None:
    reading = heard(b'{"smoke": true}' if ts is None else b'{"smoke": true, "ts": %s}' % ts.encode())
    right = corrected(reading, HOUR)
    assert (right.received_at, right.flags & ~Flag.CLOCK_DOUBTED) == (T0 + HOUR, 0)
    if flags & Flag.CLOCK_DOUBTED:
        assert (right.source_time, right.ts is None) == (T0 + HOUR, False)
    else:
        assert (right.source_time, right.ts) == (source_time, None)
    assert right.flags == flags


def test_what_a_device_had_buffered_keeps_its_time() -> None:
    reading = heard(b'{"smoke": true, "ts": %d}' % (T0 - 5 * HOUR), buffers=True)
    right = corrected(reading, HOUR)
    assert (right.source_time, right.flags) == (T0 - 5 * HOUR, Flag.LATE)
    assert right.received_at - right.source_time > BEHIND_MS


def test_a_reading_of_a_known_time_stays_as_it_is() -> None:
    reading = replace(heard(b'{"smoke": true}'), flags=0)
    assert corrected(reading, HOUR) is reading
