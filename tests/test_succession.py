"""rules.succession: another rule set takes over, and the rules that are the same notice nothing."""

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from devices.documents import parse_yaml
from devices.readings import Address, Channel, Reading, Scalar, parts_of
from rules.alarms import Alarm, AlarmChange, AlarmState, Transition
from rules.decisions import Close
from rules.definitions import RuleSet
from rules.engine import Engine
from rules.files import parse
from rules.state import State, freeze, thaw
from rules.succession import RuleChanges, changes_between

T0 = 1_790_000_000_000
PORT = Address("c1/charger/p1")
BUTTON = Address("c1/button/b1")
HEAD = "rules:\n"

HOT = """
  - {id: hot, kind: charger, when: temperature >= 65, clear: temperature < 55, for: 10s, severity: high,
     text: {en: hot, zh: 热}}
"""
WARM = """
  - {id: warm, kind: charger, when: temperature >= 60, severity: medium, text: {en: warm, zh: 温}}
"""
QUIET = """
  - {id: quiet, kind: charger, silent_for: 60s, severity: low, text: {en: silent, zh: 失联}}
"""
LEAK = """
  - {id: leak, kind: charger, when: leakage > 30, severity: high, latch: true, text: {en: leak, zh: 漏电}}
"""
PRESS = """
  - {id: press, kind: button, when: action == 'emergency', severity: critical, text: {en: help, zh: 求助}}
"""
ALL = HOT + WARM + QUIET + LEAK + PRESS


def rules(text: str) -> RuleSet:
    return parse([("rules.yaml", parse_yaml(HEAD + text, "rules.yaml"))])


class Bench:
    """A state, the engine that has it now, and what was said."""

    def __init__(self, text: str = ALL) -> None:
        self.engine = Engine(rules(text), site="c1", node="gw-1")
        self.state = self.engine.new_state()
        self.changes: list[AlarmChange] = []

    def say(self, at_s: float, address: Address = PORT, **values: Scalar) -> list[AlarmChange]:
        now = T0 + int(at_s * 1000)
        event = "action" in values
        reading = Reading(Channel.EVENT if event else Channel.TELEMETRY, address, values, now, now)
        return self._note(self.engine.step(self.state, reading, now).changes)

    def tick(self, at_s: float) -> list[AlarmChange]:
        return self._note(self.engine.tick(self.state, T0 + int(at_s * 1000)).changes)

    def apply(self, at_s: float, text: str) -> list[AlarmChange]:
        self.tick(at_s)
        before = self.engine.rules
        self.engine = Engine(rules(text), site="c1", node="gw-1")
        return self._note(self.engine.succeed(self.state, before, T0 + int(at_s * 1000)).changes)

    def alarm(self, rule: str, address: Address = PORT) -> Alarm:
        return self.state.alarms[f"{rule}:{address}"]

    def _note(self, changes: Sequence[AlarmChange]) -> list[AlarmChange]:
        self.changes += changes
        return list(changes)


def transitions(changes: Sequence[AlarmChange]) -> list[tuple[str, str]]:
    return [(change.alarm.rule, str(change.transition)) for change in changes]


def test_what_differs_between_two_rule_sets_is_told_by_rule() -> None:
    assert changes_between(rules(HOT + WARM), rules(WARM + HOT)) == RuleChanges()
    warmer = WARM.replace("60", "61")
    found = changes_between(rules(HOT + WARM), rules(warmer + LEAK))
    assert found == RuleChanges(added=("leak",), changed=("warm",), removed=("hot",))
    assert found
    assert not RuleChanges()


def test_alarms_and_running_delays_of_unchanged_rules_are_untouched() -> None:
    bench = Bench()
    bench.say(0, temperature=70)
    bench.say(1, leakage=40)
    leak, due = bench.alarm("leak"), bench.state.devices[PORT].ongoing["hot"].due
    bench.apply(5, ALL.replace("temperature >= 60", "temperature >= 61"))
    assert bench.alarm("leak") is leak
    assert bench.state.devices[PORT].ongoing["hot"].due == due
    assert transitions(bench.tick(10)) == [("hot", "raised")]
    assert bench.alarm("hot").raised_at == T0 + 10_000


def test_the_delay_of_a_changed_rule_begins_anew() -> None:
    bench = Bench()
    bench.say(0, temperature=70)
    bench.apply(9, ALL.replace("for: 10s", "for: 20s"))
    assert transitions(bench.tick(28)) == []
    assert transitions(bench.tick(29)) == [("hot", "raised")]


def test_alarms_of_changed_and_removed_rules_stand_and_say_so_and_page_nobody() -> None:
    bench = Bench()
    bench.say(0, temperature=62)
    bench.say(1, leakage=40)
    changes = bench.apply(2, ALL.replace("en: warm", "en: warmer").replace(LEAK, ""))
    assert transitions(changes) == [("warm", "changed"), ("leak", "changed")]
    warm, leak = bench.alarm("warm"), bench.alarm("leak")
    assert (warm.superseded, warm.state, warm.version, warm.occurrences) == (
        "changed",
        AlarmState.UNACKED,
        2,
        1,
    )
    assert (leak.superseded, leak.state) == ("removed", AlarmState.UNACKED)
    assert b'"superseded":"changed"' in warm.wire()
    assert bench.apply(3, ALL.replace("en: warm", "en: warmer").replace(LEAK, "")) == []  # told once


def test_a_superseded_alarm_is_ended_by_a_person_only() -> None:
    bench = Bench()
    bench.say(0, temperature=62)
    bench.apply(1, ALL.replace("en: warm", "en: warmer"))
    assert bench.say(2, temperature=20) == []
    assert bench.alarm("warm").active
    closed = bench.engine.step(
        bench.state, Close(bench.alarm("warm").id, "Li", "seen", T0 + 3_000), T0 + 3_000
    )
    assert transitions(closed.changes) == [("warm", "closed")]
    assert transitions(bench.say(4, temperature=62)) == [("warm", "raised")]
    assert bench.alarm("warm").superseded is None


def test_what_still_holds_is_not_raised_again_and_what_comes_back_is_the_new_rules() -> None:
    bench = Bench()
    bench.say(0, temperature=62)
    bench.apply(1, ALL.replace("en: warm", "en: warmer").replace("severity: medium", "severity: high"))
    assert bench.say(2, temperature=63) == []
    bench.say(3, temperature=20)
    assert transitions(bench.say(4, temperature=62)) == [("warm", "reraised")]
    alarm = bench.alarm("warm")
    assert (alarm.superseded, alarm.occurrences, alarm.severity, alarm.text["en"]) == (
        None,
        2,
        "high",
        "warmer",
    )
    assert (alarm.ack_required, alarm.closable) == (True, False)
    assert transitions(bench.say(5, temperature=20)) == [("warm", "cleared")]


def test_what_was_a_drill_is_none_once_its_rule_is_none_and_what_was_real_becomes_no_drill() -> None:
    real, drill = HOT, HOT.replace("severity: high", "severity: high, drill: true")
    for first, then in ((drill, real), (real, drill)):
        bench = Bench(first)
        bench.say(0, temperature=70)
        bench.say(11, temperature=20)
        bench.apply(12, then)
        bench.say(13, temperature=70)
        assert transitions(bench.tick(23)) == [("hot", "reraised")]
        assert not bench.alarm("hot").drill


def test_a_new_condition_that_holds_already_raises_at_once() -> None:
    bench = Bench(HOT)
    bench.say(0, temperature=62)
    assert transitions(bench.apply(1, HOT + WARM)) == [("warm", "raised")]


def test_silence_that_was_found_stays_found_and_a_new_span_counts_from_the_last_word() -> None:
    bench = Bench()
    bench.say(0, temperature=20)
    bench.apply(30, ALL.replace("silent_for: 60s", "silent_for: 90s"))
    assert bench.tick(89) == []
    assert transitions(bench.tick(90)) == [("quiet", "raised")]
    bench.apply(100, ALL)
    assert bench.alarm("quiet").superseded == "changed"
    assert bench.tick(300) == []
    assert bench.say(301, temperature=20) == []
    assert bench.alarm("quiet").active
    assert transitions(bench.tick(361)) == [("quiet", "reraised")]


def test_a_rule_that_looks_at_something_else_altogether_begins_from_nothing() -> None:
    bench = Bench()
    bench.say(0, temperature=62)
    of_silence = "\n  - {id: warm, kind: charger, silent_for: 30s, severity: low, text: {en: w, zh: 温}}\n"
    bench.apply(1, ALL.replace(WARM, of_silence))
    assert "warm" not in bench.state.devices[PORT].ongoing
    assert bench.alarm("warm").superseded == "changed"
    assert transitions(bench.tick(31)) == [("warm", "reraised")]
    elsewhere = "\n  - {id: warm, kind: smoke, when: smoke, severity: low, text: {en: w, zh: 温}}\n"
    bench.apply(40, ALL.replace(WARM, elsewhere))
    assert bench.say(41, temperature=62) == []


def test_a_press_is_another_occurrence_under_the_new_rule() -> None:
    bench = Bench()
    bench.say(0, BUTTON, action="emergency")
    bench.apply(1, ALL.replace("en: help", "en: help now"))
    assert transitions(bench.say(2, BUTTON, action="emergency")) == [("press", "reraised")]
    assert bench.alarm("press", BUTTON).text["en"] == "help now"


def test_at_a_start_under_other_rules_an_id_that_is_of_another_kind_now_is_another_rule() -> None:
    bench = Bench(WARM + HOT)
    bench.say(0, temperature=70)
    elsewhere = WARM.replace("charger", "smoke").replace("temperature >= 60", "smoke")
    engine = Engine(rules(elsewhere + HOT.replace("hot", "hotter")), site="c1", node="gw-1")
    for alarms in (list(bench.state.alarms.values()), []):
        engine.adopt(bench.state, alarms)
        engine.rejudge(bench.state, T0 + 1_000)
        assert "warm" not in bench.state.devices[PORT].ongoing
    now = T0 + 12_000
    told = engine.step(bench.state, Reading(Channel.TELEMETRY, PORT, {"temperature": 20}, now, now), now)
    assert transitions(told.changes) == [("hotter", "raised"), ("hotter", "cleared")]


def test_after_a_restart_a_superseded_alarm_is_what_it_was() -> None:
    bench = Bench()
    bench.say(0, temperature=62)
    bench.say(0, leakage=40)
    bench.apply(1, ALL.replace("en: warm", "en: warmer").replace("leakage > 30", "leakage > 35"))
    bench.say(2, temperature=20)
    header, devices = freeze(bench.state)
    again = thaw(header, devices)
    bench.engine.adopt(again, list(bench.state.alarms.values()))
    assert conditions(again) == conditions(bench.state)
    assert again.alarms == bench.state.alarms


def conditions(state: State) -> dict[str, list[str]]:
    return {address: sorted(device.ongoing) for address, device in state.devices.items()}


SAID = st.lists(
    st.tuples(
        st.integers(0, 30),
        st.sampled_from([PORT, Address("c1/charger/p2")]),
        st.sampled_from([("temperature", 20.0), ("temperature", 62.0), ("temperature", 70.0), ("leakage", 40.0),
                         ("leakage", 1.0)]),
    ),
    max_size=25,
)  # fmt: skip


@given(SAID, st.integers(0, 25))
@settings(max_examples=120, deadline=None)
def test_rules_that_stay_decide_the_same_whenever_others_change(
    said: list[tuple[int, Address, tuple[str, float]]], when: int
) -> None:
    """`warm` changes and a rule comes and goes; `hot`, `quiet` and `leak` must not notice."""

    def story(texts: Sequence[str]) -> list[tuple[str, str, str, int, int]]:
        bench, at = Bench(texts[0]), 0
        for number, (step, address, (name, value)) in enumerate(said):
            at += step
            if number == when and len(texts) > 1:
                bench.apply(at, texts[1])
            bench.say(at, address, **{name: value})
        bench.tick(at + 200)
        return [
            (change.alarm.rule, parts_of(change.alarm.address)[2], str(change.transition), change.at,
             change.alarm.version)
            for change in bench.changes
            if change.alarm.rule in ("hot", "quiet", "leak")
        ]  # fmt: skip

    other = ALL.replace("temperature >= 60", "temperature >= 65") + WARM.replace("id: warm", "id: new")
    assert story([ALL, other]) == story([ALL])
    assert all(Transition(transition) for _, _, transition, _, _ in story([ALL]))
