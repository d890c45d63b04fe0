"""The shipped packs and every documented rule: they parse, and their own examples pass."""

import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest

from devices.documents import parse_yaml
from devices.kinds import KINDS
from rules.definitions import Example, Rule, RuleSet
from rules.examples import run
from rules.files import parse
from rules.language.entries import read_duration, write_duration
from tools.packs import page

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "docs" / "rules.md").read_text("utf-8")
GUIDE_BLOCKS = re.findall(r"^```yaml\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)

PACKS = {
    entry.name: entry.read_text("utf-8")
    for entry in sorted(files("rules").joinpath("packs").iterdir(), key=lambda entry: entry.name)
}

CONTRACT = """
rules:
  - id: charger-hot
    kind: charger
    when: temperature >= 65
    clear: temperature < 55
    for: 10s
    severity: high
    latch: false
    text: {en: "Charging port {device} is at {temperature:.0f} °C", zh: "充电口 {device} 温度 {temperature:.0f} ℃"}
    examples:
      - name: hot for ten seconds raises, cooling clears
        readings: [{at: 0s, temperature: 40}, {at: 5s, temperature: 70}, {at: 20s, temperature: 71}, {at: 40s, temperature: 50}]
        expect: [{at: 15s, change: raised}, {at: 40s, change: cleared}]
  - id: charger-cut
    kind: charger
    when: temperature >= 80
    for: 3s
    severity: critical
    text: {en: "…", zh: "…"}
    actions: [{command: cut_power}]
"""  # noqa: E501 - as the contract writes it


def read(text: str, name: str = "rules.yaml") -> RuleSet:
    return parse([(name, parse_yaml(text, name))])


def shipped() -> RuleSet:
    return parse([(name, parse_yaml(text, name)) for name, text in PACKS.items()])


SHIPPED = shipped()
RULES = SHIPPED.rules


def changes(example: Example) -> list[str]:
    return [expected.change for expected in example.expect]


def test_there_are_rules_for_every_kind_and_the_gateway() -> None:
    assert {rule.kind for rule in RULES} == set(KINDS)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_every_example_of_every_shipped_rule_passes(rule: Rule) -> None:
    assert run(rule, SHIPPED) == []


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_every_shipped_rule_shows_when_it_raises_when_not_and_how_it_ends(rule: Rule) -> None:
    assert any("raised" in changes(example) for example in rule.examples)
    assert any(not example.expect for example in rule.examples)
    if rule.waits_for_a_person and rule.clear is None and rule.silent_for_ms is None:
        stays = [example for example in rule.examples if changes(example) == ["raised"]]
        assert any(example.until_ms > example.expect[-1].at_ms for example in stays)
    else:
        assert any("cleared" in changes(example) for example in rule.examples)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_every_shipped_text_reads_well_even_where_nothing_is_known(rule: Rule) -> None:
    for language in ("en", "zh"):
        said = rule.text[language].render({"device": "x-1"})
        assert said.isprintable()
        assert len(said) <= 200


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_every_shipped_rule_names_the_source_of_its_figures(rule: Rule) -> None:
    assert re.search(r"\b[A-G][1-5]?\b|Contract", rule.source)


def test_the_page_about_the_packs_is_as_it_is_generated() -> None:
    assert (ROOT / "docs" / "packs.md").read_text("utf-8") == page(SHIPPED)


def test_every_kind_that_speaks_is_missed_when_it_falls_silent() -> None:
    silences = {rule.kind: rule.silent_for_ms for rule in RULES if rule.silent_for_ms is not None}
    assert silences == {
        "charger": 600_000,
        "elevator": 600_000,
        "smoke": 26 * 3_600_000,
        "button": 26 * 3_600_000,
        "siren": 26 * 3_600_000,
        "broadcast": 26 * 3_600_000,
    }


def test_power_is_cut_only_for_what_can_kill() -> None:
    cutting = {rule.id for rule in RULES for action in rule.actions if action.command == "cut_power"}
    assert cutting == {"charger-cut", "charger-heating", "charger-leakage", "charger-fire", "smoke-confirmed"}
    assert all(
        KINDS[rule.kind if action.to is None else action.to.kind].commands[action.command].automatic
        for rule in RULES
        for action in rule.actions
    )


def test_the_contracts_own_rule_file_parses_and_passes() -> None:
    rules = read(CONTRACT).rules
    assert [rule.id for rule in rules] == ["charger-hot", "charger-cut"]
    assert [mismatch for rule in rules for mismatch in run(rule)] == []


def test_a_wrong_example_is_told_both_ways() -> None:
    rule = read(CONTRACT.replace("at: 15s, change: raised", "at: 14s, change: raised")).rules[0]
    assert run(rule) == [
        "rules.yaml: charger-hot: hot for ten seconds raises, cooling clears: raised did not come at 14s",
        "rules.yaml: charger-hot: hot for ten seconds raises, cooling clears: raised came at 15s, unexpected",
    ]


def test_an_example_watches_until_its_end() -> None:
    text = CONTRACT.replace("at: 40s, temperature: 50}]", "at: 40s, temperature: 60}]\n        until: 1h")
    (missing,) = run(read(text).rules[0])
    assert missing.endswith("cleared did not come at 40s")


# docs/rules.md


def documented() -> Iterator[tuple[str, Rule, RuleSet]]:
    for number, block in enumerate(GUIDE_BLOCKS):
        rules = read(block, f"docs/rules.md[{number}]")
        for rule in rules.rules:
            yield rule.id, rule, rules


@pytest.mark.parametrize(("_name", "rule", "rules"), list(documented()), ids=lambda each: str(each)[:40])
def test_every_example_in_the_guide_passes(_name: str, rule: Rule, rules: RuleSet) -> None:
    assert rule.examples
    assert run(rule, rules) == []


def test_the_guide_shows_every_key_of_a_rule_and_of_an_example() -> None:
    shown = set(re.findall(r"(?:^|[ {])-? ?([a-z_]+):", "\n".join(GUIDE_BLOCKS), re.MULTILINE))
    rule_keys = {
        "id",
        "kind",
        "when",
        "clear",
        "cancel",
        "silent_for",
        "for",
        "per",
        "severity",
        "latch",
        "ack",
    }
    assert rule_keys | {"drill", "text", "actions", "examples"} <= shown
    assert {
        "command",
        "args",
        "expires",
        "name",
        "readings",
        "events",
        "expect",
        "at",
        "change",
        "until",
    } <= shown
    assert {"suppressed_by", "fold", "flood", "same", "least", "share", "within", "to", "rule"} <= shown
    assert {"more_than", "until_fewer_than", "devices", "device", "group", "with", "state"} <= shown


@pytest.mark.parametrize("text", ["0s", "250ms", "10s", "90s", "5m", "26h", "2d"])
def test_a_duration_is_read_back_as_it_was_meant(text: str) -> None:
    ms = read_duration(text)
    assert ms is not None
    assert read_duration(write_duration(ms)) == ms


@pytest.mark.parametrize("text", ["", "10", "10 s", "-1s", "1.5s", "1w", "10S", "٣s", "1h30m", "9999999999s"])
def test_what_is_no_duration_is_not_read(text: str) -> None:
    assert read_duration(text) is None
