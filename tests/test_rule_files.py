"""Rule files: every mistake is found in one go and told with file, rule, column and reason."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.documents import Tree, parse_yaml
from devices.faults import ConfigurationError, Fault
from rules.alarms import Severity
from rules.definitions import Ack, RuleSet
from rules.files import parse

RULE = """
rules:
  - id: hot
    kind: charger
    when: temperature >= 65
    severity: high
    text: {en: hot, zh: 热}
"""

EBIKE = """
rules:
  - id: ebike
    kind: elevator
    per: track
    when: label == 'ebike' and type != 'end'
    clear: type == 'end'
    for: 1s
    severity: medium
    text: {en: "{track}", zh: "{label}"}
    actions: [{command: hold_door, args: {seconds: 60, prompt: out}, expires: 2500ms}]
    examples:
      - name: both are merged by time
        readings: [{at: 5s, floor: -1, door: open, fire_recall: false}]
        events: [{at: 0s, type: new, track: t1, label: ebike, score: 1}, {at: 9s, type: end, track: t1}]
        expect: [{at: 9s, change: cleared}, {at: 1s, change: raised}]
"""

PRESS = """
rules:
  - id: press
    kind: button
    when: action == 'emergency'
    severity: critical
    text: {en: help, zh: 求助}
"""


def read(*texts: str) -> RuleSet:
    return parse([(f"{number}.yaml", parse_yaml(text, "")) for number, text in enumerate(texts)])


def faults(*texts: str) -> tuple[Fault, ...]:
    with pytest.raises(ConfigurationError) as told:
        read(*texts)
    return told.value.faults


def with_line(text: str, line: str) -> str:
    return text.rstrip("\n") + f"\n    {line}\n"


def test_a_rule_file_becomes_rules() -> None:
    (rule,) = read(RULE).rules
    assert (rule.id, rule.kind, rule.severity, rule.file) == ("hot", "charger", Severity.HIGH, "0.yaml")
    assert rule.when is not None
    assert rule.when.source == "temperature >= 65"
    assert rule.ack is Ack.DEFAULT
    assert rule.ack_required
    assert (rule.latch, rule.drill, rule.per_track, rule.for_ms) == (False, False, False, 0)
    assert (rule.actions, rule.examples) == ((), ())


def test_the_optional_keys_are_read() -> None:
    line = "latch: true\n    ack: none\n    drill: true\n    for: 2m\n    clear: temperature < 40"
    (rule,) = read(with_line(RULE, line)).rules
    assert (rule.latch, rule.ack, rule.drill, rule.for_ms) == (True, Ack.NONE, True, 120_000)
    assert not rule.ack_required
    assert rule.clear is not None


def test_actions_and_examples_are_converted_by_the_kinds_schema() -> None:
    (rule,) = read(EBIKE).rules
    (action,) = rule.actions
    assert (action.command, dict(action.args), action.expires_s) == (
        "hold_door",
        {"seconds": 60, "prompt": "out"},
        3,
    )
    (example,) = rule.examples
    assert [(step.at_ms, step.event) for step in example.steps] == [(0, True), (5_000, False), (9_000, True)]
    assert example.steps[1].values == {"floor": -1, "door": "open", "fire_recall": False}
    assert example.steps[0].values == {"type": "new", "track": "t1", "label": "ebike", "score": 1.0}
    assert [(expected.at_ms, expected.change) for expected in example.expect] == [
        (1_000, "raised"),
        (9_000, "cleared"),
    ]
    assert example.until_ms == 9_000


def test_a_silence_needs_no_condition() -> None:
    (rule,) = read(RULE.replace("when: temperature >= 65", "silent_for: 26h")).rules
    assert (rule.silent_for_ms, rule.when) == (26 * 3_600_000, None)


def test_a_press_can_be_cancelled() -> None:
    (rule,) = read(with_line(PRESS, "cancel: action == 'cancel'")).rules
    assert rule.cancel is not None
    assert rule.cancel.evaluate({"action": "cancel"}) is True


def test_rules_of_several_files_are_one_set_in_their_order() -> None:
    rules = read(RULE, PRESS)
    assert [rule.id for rule in rules.rules] == ["hot", "press"]
    assert [rule.id for rule in rules.of_kind("button")] == ["press"]
    assert read("rules: []").rules == ()


def test_the_hash_is_of_what_the_rules_mean() -> None:
    meaning = read(RULE).hash
    assert meaning == read(RULE.replace("kind: charger", "kind:   charger  # a comment")).hash
    shown = "examples: [{name: a, readings: [{at: 0s, temperature: 5}], expect: []}]"
    assert meaning == read(with_line(RULE, shown)).hash
    assert meaning != read(RULE.replace("en: hot", "en: warm")).hash
    assert meaning != read(RULE.replace("65", "66")).hash
    assert read(RULE, PRESS).hash != read(PRESS, RULE).hash


def test_a_rule_has_a_version_of_its_own_that_follows_its_meaning_alone() -> None:
    both, moved = read(RULE, PRESS).versions, read(PRESS, RULE).versions
    assert both == moved
    assert len(set(both.values())) == len(both)
    changed = read(RULE.replace("65", "66"), PRESS).versions
    assert [name for name, version in changed.items() if version != both[name]] == [read(RULE).rules[0].id]


# Every kind of fault


@pytest.mark.parametrize(
    ("line", "key", "reason", "value", "meant"),
    [
        ("wen: temperature > 5", "wen", "unknown key; known are ack, actions", None, "when"),
        ("latch: yes", "latch", "must be true or false", "yes", None),
        ("ack: needed", "ack", "must be one of none, required", "needed", None),
        ("ack: require", "ack", "must be one of none, required", "require", "required"),
        ("for: 10", "for", "must be a duration such as", "10", None),
        ("for: 400d", "for", "must be from 0s to 366d", "400d", None),
        ("for: [10s]", "for", "must be a single value", None, None),
        ("silent_for: 10m", "silent_for", "stands instead of `when`", None, None),
        ("clear: temperatur < 5", "clear", "column 1: charger has no point", "temperatur", "temperature"),
        ("clear: temperature <", "clear", "cannot be read", "temperature <", None),
        ("cancel: power > 5", "cancel", "whose `when` looks at an event can be cancelled", None, None),
        ("per: track", "per", "whose `when` looks at an event has tracks", None, None),
        ("per: room", "per", "must be one of track", "room", None),
        ("actions: cut_power", "actions", "must be a list", None, None),
        ("actions: [cut_power]", "actions[0]", "must be a mapping", "cut_power", None),
        ("actions: [{}]", "actions[0].command", "is missing", None, None),
        (
            "actions: [{command: cutpower}]",
            "actions[0].command",
            "charger obeys cut_power",
            "cutpower",
            "cut_power",
        ),
        (
            "actions: [{command: restore_power}]",
            "actions[0].command",
            "by a person only",
            "restore_power",
            None,
        ),
        ("actions: [{command: cut_power, arg: 1}]", "actions[0].arg", "unknown key", None, "args"),
        ("actions: [{command: cut_power, args: {a: 1}}]", "actions[0].args.a", "unknown key", None, None),
        (
            "actions: [{command: cut_power, expires: 2d}]",
            "actions[0].expires",
            "must be from 1s to 1h",
            "2d",
            None,
        ),
        ("examples: [{}]", "examples[0].name", "is missing", None, None),
        ("examples: [{name: a, expect: []}]", "examples[0]", "needs `readings` or `events`", None, None),
        ("examples: [{nam: a, expect: []}]", "examples[0].nam", "unknown key", None, "name"),
    ],
)
def test_a_fault_names_file_rule_and_key(
    line: str, key: str, reason: str, value: str | None, meant: str | None
) -> None:
    found = faults(RULE, with_line(RULE.replace("id: hot", "id: hotter"), line))
    fault = next(fault for fault in found if fault.path == f"rules[0] (hotter).{key}")
    assert fault.file == "1.yaml"
    assert reason in fault.reason
    assert (fault.value, fault.nearest) == (value, meant)
    assert fault.line == 8


@pytest.mark.parametrize(
    ("old", "new", "key", "reason", "meant"),
    [
        ("id: hot", "id: Hot!", "id", "must be 1 to 64 of a-z, 0-9 and -", None),
        ("id: hot", f"id: {'a' * 65}", "id", "must be 1 to 64", None),
        ("id: hot", "id: ", "id", "is missing", None),
        ("kind: charger", "kind: chargr", "kind", "must be one of", "charger"),
        ("kind: charger", "kind: ~", "kind", "is missing", None),
        ("severity: high", "severity: hihg", "severity", "must be one of critical, high", "high"),
        ("severity: high", "latch: false", "severity", "is missing", None),
        ("when: temperature >= 65", "for: 5s", None, "needs `when` (what raises it) or `silent_for`", None),
        ("when: temperature >= 65", "when: [a]", "when", "must be a single value", None),
        ("when: temperature >= 65", "when: status == 'charging'", "when", "column 11", "Charging"),
        (
            "when: temperature >= 65",
            "when: temperature >= '65'",
            "when",
            "column 1: temperature is a number",
            None,
        ),
        ("when: temperature >= 65", "silent_for: 0s", "silent_for", "must be from 1s", None),
        ("text: {en: hot, zh: 热}", "text: hot", "text", "must be a mapping", None),
        ("text: {en: hot, zh: 热}", "text: {en: hot}", "text.zh", "is missing", None),
        ("text: {en: hot, zh: 热}", "text: {en: hot, zh: 热, de: heiß}", "text.de", "unknown key", None),
        ("en: hot", 'en: "{temprature}"', "text.en", "no such name", "temperature"),
        ("en: hot", 'en: "{temperature:d}"', "text.en", "does not fit", None),
        ("zh: 热", "zh: [热]", "text.zh", "must be a single value", None),
    ],
)
def test_a_fault_in_what_every_rule_has_is_told(
    old: str, new: str, key: str | None, reason: str, meant: str | None
) -> None:
    found = faults(RULE.replace(old, new))
    path = "rules[0]" if old == "id: hot" else "rules[0] (hot)"
    fault = next(fault for fault in found if fault.path == (path if key is None else f"{path}.{key}"))
    assert fault.file == "0.yaml"
    assert reason in fault.reason
    assert fault.nearest == meant
    assert fault.line is not None


BATTERY = PRESS.replace("action == 'emergency'", "battery < 5")
SILENT = PRESS.replace("when: action == 'emergency'", "silent_for: 1h")
ARGS = "actions[0].args"


@pytest.mark.parametrize(
    ("base", "line", "key", "reason"),
    [
        (PRESS, "for: 5s", "for", "an event has no duration"),
        (PRESS, "per: track", "per", "button has no tracks"),
        (PRESS, "cancel: battery < 5", "cancel", "must look at an event field"),
        (BATTERY, "clear: action == 'test'", "clear", "but `when` does not"),
        (BATTERY, "cancel: action == 'test'", "cancel", "whose `when` looks at an event"),
        (BATTERY.replace("help", "'{action}'"), "", "text.en", "only in an event"),
        (SILENT, "clear: battery < 5", "clear", "no meaning"),
        (SILENT, "for: 5s", "for", "no meaning"),
        (SILENT, "per: track", "per", "no meaning"),
        (SILENT, "cancel: battery < 5", "cancel", "no meaning"),
        (SILENT.replace("kind: button", "kind: gateway"), "", "silent_for", "never silent"),
        (EBIKE.replace("seconds: 60", "seconds: 121"), "", f"{ARGS}.seconds", "from 1 to 120"),
        (EBIKE.replace("seconds: 60", "seconds: 1.5"), "", f"{ARGS}.seconds", "a whole number"),
        (EBIKE.replace("seconds: 60", "secs: 60"), "", f"{ARGS}.secs", "unknown key"),
        (EBIKE.replace("prompt: out", "prompt: ' '"), "", f"{ARGS}.prompt", "one line of 1 to 256"),
        (EBIKE.replace("args: {seconds: 60, prompt: out}", "args: 60"), "", ARGS, "must be a mapping"),
    ],
)
def test_a_fault_in_how_keys_fit_together_is_told(base: str, line: str, key: str, reason: str) -> None:
    rule_id = "ebike" if base.startswith("\nrules:\n  - id: ebike") else "press"
    found = faults(with_line(base, line))
    assert [fault.path for fault in found] == [f"rules[0] ({rule_id}).{key}"]
    assert reason in found[0].reason


@pytest.mark.parametrize(
    ("example", "key", "reason", "meant"),
    [
        ("readings: [{temperature: 5}]", "readings[0].at", "is missing", None),
        ("readings: [{at: 5, temperature: 5}]", "readings[0].at", "must be a duration", None),
        ("readings: [{at: 0s, temprature: 5}]", "readings[0].temprature", "unknown key", "temperature"),
        ("readings: [{at: 0s, temperature: 500}]", "readings[0]", "<= 200", None),
        ("readings: [{at: 0s, temperature: hot}]", "readings[0]", "Expected `float", None),
        ("readings: [{at: 0s, energy: inf}]", "readings[0].energy", "needs a value", None),
        ("readings: [{at: 0s, temperature: ~}]", "readings[0].temperature", "needs a value", None),
        ("readings: [{at: 0s, status: charging}]", "readings[0]", "Invalid enum value 'charging'", None),
        ("readings: [0s]", "readings[0]", "must be a mapping", None),
        ("readings: 5", "readings", "must be a list", None),
        ("events: [{at: 0s}]", "events", "charger sends none", None),
        ("readings: [{at: 5s}]\n        until: 1s", "until", "is before the last reading", None),
        ("readings: [{at: 0s}]\n        until: soon", "until", "must be a duration", None),
    ],
)
def test_a_fault_in_an_example_is_told(example: str, key: str, reason: str, meant: str | None) -> None:
    found = faults(with_line(RULE, f"examples:\n      - name: a\n        expect: []\n        {example}"))
    fault = next(fault for fault in found if fault.path == f"rules[0] (hot).examples[0].{key}")
    assert reason in fault.reason
    assert fault.nearest == meant


@pytest.mark.parametrize(
    ("expect", "key", "reason"),
    [
        (
            "[{at: 0s, change: raise}]",
            "expect[0].change",
            "must be one of changed, cleared, escalated, raised",
        ),
        ("[{at: 0s, change: acked}]", "expect[0].change", "must be one of"),
        ("[{change: raised}]", "expect[0].at", "is missing"),
        ("[{at: 0s}]", "expect[0].change", "is missing"),
        ("~", "expect", "is missing"),
    ],
)
def test_a_fault_in_what_an_example_expects_is_told(expect: str, key: str, reason: str) -> None:
    example = f"examples:\n      - name: a\n        readings: [{{at: 0s}}]\n        expect: {expect}"
    (fault,) = faults(with_line(RULE, example))
    assert fault.path == f"rules[0] (hot).examples[0].{key}"
    assert reason in fault.reason


@pytest.mark.parametrize(
    ("document", "path", "reason"),
    [
        (None, "", "must be a mapping"),
        ("text", "", "must be a mapping"),
        ([], "", "must be a mapping"),
        ({}, "rules", "is missing"),
        ({"rule": []}, "rule", "unknown key; known are rules"),
        ({"rules": "none"}, "rules", "must be a list"),
        ({"rules": ["hot"]}, "rules[0]", "must be a mapping"),
        ({"rules": [{"id": ["a"]}]}, "rules[0].id", "must be a single value"),
    ],
)
def test_a_fault_in_the_whole_file_is_told(document: Tree, path: str, reason: str) -> None:
    with pytest.raises(ConfigurationError) as told:
        parse([("odd.yaml", document)])
    assert any(
        fault.file == "odd.yaml" and fault.path == path and reason in fault.reason
        for fault in told.value.faults
    )


def test_an_id_is_unique_over_all_files() -> None:
    (fault,) = faults(RULE, PRESS, RULE)
    assert (fault.file, fault.path) == ("2.yaml", "rules[0] (hot).id")
    assert fault.reason == (
        "is taken by a rule in 0.yaml; an id is unique over all files: mend the rule there, or give this one"
        " another id (`anlin rules replay --rules NEW --compare OLD` tries two versions of a file)"
    )
    (fault,) = faults(RULE + RULE.removeprefix("\nrules:\n"))
    assert (fault.path, "above" in fault.reason) == ("rules[1] (hot).id", True)


def test_all_faults_of_all_files_are_found_in_one_go() -> None:
    broken = RULE.replace("severity: high", "severity: hihg").replace("when: temp", "wenn: temp")
    found = faults(broken, with_line(PRESS, "for: 5s\n    latch: maybe"), "rules: 5")
    assert [(fault.file, fault.path) for fault in found] == [
        ("0.yaml", "rules[0] (hot).wenn"),
        ("0.yaml", "rules[0] (hot).severity"),
        ("1.yaml", "rules[0] (press).latch"),
        ("1.yaml", "rules[0] (press).for"),
        ("2.yaml", "rules"),
    ]


def test_all_faults_of_one_rule_are_told_in_one_round() -> None:
    told = faults("""
rules:
  - id: a
    kind: smoke
    severity: hgih
    for: 5 s
    let: {hot: temprature > 3}
    when: smok and battery > 3
    clear: hot
    text: {en: "{devce}"}
  - {id: b, kind: smok, severity: high, when: smoke, escalate: {after: x, severity: critical}, text: {en: b}}
""")
    assert [fault.path.split(" ", 1)[1] for fault in told] == [
        "(a).severity",
        "(a).for",
        "(a).let.hot",
        "(a).when",
        "(a).text.zh",
        "(a).text.en",
        "(b).kind",
        "(b).escalate.after",
        "(b).text.zh",
    ]


@pytest.mark.parametrize("let", ["hot", "[hot]", "{hot: temprature > 3}"])
def test_a_let_that_is_none_hides_no_other_fault(let: str) -> None:
    told = faults(with_line(RULE.replace("temperature >= 65", "temperature"), f"let: {let}"))
    assert {fault.path.split(".")[1] for fault in told} == {"let", "when"}


def test_a_fault_is_one_line_that_a_person_can_act_on() -> None:
    (fault,) = faults(RULE.replace("when: temperature", "when: temprature"))
    assert str(fault) == (
        "0.yaml:5: rules[0] (hot).when: column 1: charger has no point of this name (is 'temprature');"
        " did you mean 'temperature'?"
    )


def test_a_long_faulty_value_is_shown_in_part() -> None:
    (fault,) = faults(RULE.replace("temperature >= 65", "power > 1" + " + 1" * 600))
    assert fault.value is not None
    assert len(fault.value) <= 81


@pytest.mark.parametrize(
    ("when", "clear", "says"),
    [
        ("temperature >= 65", "temperature >= 60", "and not beyond; did you mean temperature < 60?"),
        ("temperature >= 65", "temperature > 70", "would never end; did you mean temperature < 65?"),
        ("temperature >= 65", "temperature < 60 and temperature > 62", "can never be true"),
        ("battery <= 10", "battery < 15", "did you mean battery >= 15?"),
        ("status == 'Faulted'", "status != 'Available'", "wrong way round"),
        ("smoke and not test", "smoke and not test", "leave it out, and the alarm ends when `when` does"),
        ("battery_low", "battery_low == true", "would never end"),
        ("mean(temperature, '5m') > 60", "mean(temperature, '5m') > 70", "would never end"),
        ("duration(smoke) > '5m'", "duration(smoke) > '8m'", "would never end"),
        ("temperature > 70 and temperature < 60", "temperature < 50", "would never be raised"),
        ("action == 'emergency'", "action == 'emergency'", "would never end"),
        ("60 < temperature < 70 or temperature > 90", "65 < temperature < 66", "would never end"),
    ],
)  # fmt: skip
def test_what_can_provably_never_end_an_alarm_is_refused_with_what_was_meant(
    when: str, clear: str, says: str
) -> None:
    kinds = ("charger", "smoke", "button")
    told = [
        str(fault)
        for kind in kinds
        for fault in _faults_of(kind, when, clear)
        if "no point" not in str(fault) and "no function" not in str(fault)
    ]
    assert any(says in fault for fault in told), told


@pytest.mark.parametrize(
    ("kind", "when", "clear"),
    [
        ("charger", "temperature >= 65", "temperature < 55"),
        ("charger", "temperature >= 65", "temperature <= 65"),
        ("charger", "temperature < -5 or temperature > 65", "temperature > 0 and temperature < 60"),
        ("charger", "power > 100 and status == 'Charging'", "status == 'Charging'"),
        ("charger", "power > current * 240", "power > current * 230"),
        ("smoke", "battery_low or battery <= 10", "battery_low == false or battery > 15"),
        ("elevator", "label == 'ebike' and type != 'end'", "type == 'end'"),
        ("button", "action == 'emergency'", "battery > 3"),
        ("charger", "temperature >= 65", "temperature >= -40"),
    ],
)
def test_what_may_end_it_is_taken(kind: str, when: str, clear: str) -> None:
    assert _faults_of(kind, when, clear) == ()


NUMBERS = st.integers(-50, 210)
CLAUSES = st.tuples(st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), NUMBERS)


@given(st.lists(CLAUSES, min_size=1, max_size=3), st.sampled_from([" and ", " or "]), CLAUSES)
@settings(max_examples=60, deadline=None)
def test_nothing_is_refused_that_some_temperature_could_end(
    when: list[tuple[str, int]], joined: str, clear: tuple[str, int]
) -> None:
    source = joined.join(f"temperature {sign} {bound}" for sign, bound in when)
    ending = f"temperature {clear[0]} {clear[1]}"
    values = [step / 2 for step in range(-80, 401)]
    raising = [value for value in values if eval(source, {"temperature": value})]  # noqa: S307 - made above
    ends = [value for value in values if eval(ending, {"temperature": value})]  # noqa: S307 - made above
    told = " ".join(str(fault) for fault in _faults_of("charger", source, ending))
    if "would never be raised" in told:
        assert not raising
    if "would never end" in told:
        assert set(ends) <= set(raising)
    if "wrong way round" in told:
        assert set(raising) <= set(ends)
    if not told:
        assert raising
        assert set(ends) - set(raising)


def _faults_of(kind: str, when: str, clear: str) -> tuple[Fault, ...]:
    text = f"""
rules:
  - id: x
    kind: {kind}
    when: {when}
    clear: {clear}
    severity: low
    text: {{en: x, zh: x}}
"""
    try:
        read(text)
    except ConfigurationError as error:
        return tuple(error.faults)
    return ()
