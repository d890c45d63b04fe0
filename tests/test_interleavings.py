"""Whatever repeats, waits and restarts lie between the messages: the same alarms, with every construct in use."""

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from devices.duplicates import RecentMessages
from devices.readings import Address, Channel, Reading
from rules.decisions import Decision, Input, time_of
from rules.engine import Engine
from rules.state import State, freeze, thaw
from tests.rule_world import PORT, T0
from tests.test_engine import RULES, engine, histories, play, told

EVERYTHING = (
    RULES
    + """
  - id: mean
    kind: charger
    let: {mean: "mean(temperature, '30s')", climb: "rise(temperature, '1m')"}
    when: mean > 70 and climb > 0 or delta(temperature, '20s') > 40
    severity: low
    text: {en: "{mean} {climb}", zh: "{mean} {climb}"}
  - id: swing
    kind: charger
    when: max(temperature, '20s') > 1.5 * min(temperature, '20s')
    clear: max(temperature, '20s') < 50
    for: 5s
    severity: medium
    text: {en: "{temperature}", zh: "{temperature}"}
  - id: lasting
    kind: charger
    let: {warm: duration(temperature >= 40)}
    when: warm > '25s' and leakage > previous(leakage)
    clear: warm < '1s'
    severity: low
    text: {en: "{warm}", zh: "{warm}"}
  - id: long
    kind: charger
    when: duration(temperature >= 40) >= '70s'
    severity: medium
    text: {en: long, zh: 久}
  - id: restless
    kind: charger
    when: count(changed(temperature), '1m') >= 3 or not changed(temperature, '30s')
    severity: low
    text: {en: restless, zh: 不稳}
  - id: presses
    kind: button
    when: count(action == 'emergency', '1m') >= 2
    severity: high
    text: {en: presses, zh: 多次}
  - id: crowd
    kind: elevator
    when: count(type == 'new', '10s') >= 2
    severity: low
    text: {en: crowd, zh: 多}
"""
)

delays = st.lists(st.sampled_from([3, 3, 3, 700, 9_000, 14_000, 40_000]), min_size=40, max_size=40)
"""How long before its arrival each message was said, by a clock that is right."""


def said(given_: Input, delay: int) -> Input:
    if isinstance(given_, Reading):
        return replace(given_, source_time=given_.source_time - delay)
    return given_


def inputs_of(steps: Sequence[tuple[object, ...]], ago: Sequence[int]) -> tuple[list[Input], int]:
    machine = engine(EVERYTHING)
    inputs, _, end = play(machine, machine.new_state(), steps, T0)
    return [said(given_, delay) for given_, delay in zip(inputs, ago, strict=False)], end


def plain(inputs: Sequence[Input], end: int) -> tuple[list[Decision], State]:
    machine = engine(EVERYTHING)
    state = machine.new_state()
    decisions = [machine.step(state, given_, time_of(given_)) for given_ in inputs]
    decisions.append(machine.tick(state, end))
    return decisions, state


def again(state: State, kept: dict[Address, bytes]) -> tuple[Engine, State]:
    """After a restart; a snapshot holds only what changed since the one before, ``kept`` all of them."""
    header, devices = freeze(state)
    kept.update(devices)
    restarted = engine(EVERYTHING)
    state = thaw(header, list(kept.items()))
    restarted.derive_deadlines(state)
    return restarted, state


def changes_of(decisions: Sequence[Decision]) -> list[tuple[str, str, int]]:
    return [
        (change.alarm.key, change.transition.value, change.at - T0)
        for decision in decisions
        for change in decision.changes
    ]


between = st.lists(
    st.sampled_from(["nothing", "nothing", "repeat", "tick", "restart"]), min_size=40, max_size=40
)


@settings(max_examples=80, deadline=None)
@given(histories, delays, between, st.integers(1, 5_000))
def test_repeats_ticks_and_restarts_change_no_alarm(
    steps: list[tuple[object, ...]], ago: list[int], events: list[str], tick: int
) -> None:
    inputs, end = inputs_of(steps, ago)
    expected, whole = plain(inputs, end + 700_000)

    machine = engine(EVERYTHING)
    state = machine.new_state()
    recent = RecentMessages()
    kept: dict[Address, bytes] = {}
    decisions: list[Decision] = []
    for number, (given_, event) in enumerate(zip(inputs, events, strict=False)):
        now = time_of(given_)
        for _ in range(1 + (event == "repeat")):
            repeated = isinstance(given_, Reading) and recent.is_repeat(str(number), number, now)
            decisions.append(machine.tick(state, now) if repeated else machine.step(state, given_, now))
        if event == "tick":
            following = time_of(inputs[number + 1]) if number + 1 < len(inputs) else end
            decisions.append(machine.tick(state, min(now + tick, max(following, now))))
        elif event == "restart":
            machine, state = again(state, kept)
    decisions.append(machine.tick(state, end + 700_000))
    assert changes_of(decisions) == changes_of(expected)
    assert told(decisions) == told(expected)
    assert state.alarms == whole.alarms


def test_the_history_of_this_file_uses_every_construct() -> None:
    inputs = [
        Reading(Channel.TELEMETRY, PORT, {"temperature": value}, T0 + at, T0 + at + 3)
        for at, value in ((0, 40), (10_000, 55), (20_000, 90), (35_000, 95), (40_000, 60))
    ]
    decisions, _ = plain([*inputs], T0 + 200_000)
    raised = {change.alarm.rule for decision in decisions for change in decision.changes}
    assert {"mean", "swing", "long", "restless"} <= raised
