"""Scenario files: what is refused and how it is told, and that the shipped stories are told right.

The shipped stories run in virtual time against the shipped rules: devices, decoder, engine, no broker.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from devices.documents import parse_yaml
from devices.faults import ConfigurationError
from devices.readings import Scalar
from rules.definitions import RuleSet
from rules.files import parse
from simulators import command
from simulators.device import Outcome
from simulators.fleet import Fleet
from simulators.orders import Orders
from simulators.rehearsal import rehearse
from simulators.scenario import SHIPPED, find_scenario, load_scenario, parse_scenario
from simulators.verdicts import Change, Judge, Met, Missed, Ordered, Unexpected

PACKS = Path(__file__).resolve().parent.parent / "rules" / "packs"
BEGIN_MS = 1_795_000_000_000
HEAD = "name: x\ndevices: {chargers: 4, buttons: 2, elevators: 1}\n"


def faults(text: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        parse_scenario(text, "story.yaml")
    return [str(fault) for fault in caught.value.faults]


# --- files --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_scenario_is_sound_and_speaks_both_languages(path: Path) -> None:
    scenario = load_scenario(path)
    assert scenario.name == path.stem
    assert scenario.description.keys() == {"en", "zh"}
    assert find_scenario(path.stem) == path


def test_the_demo_is_a_community_of_about_sixty_devices_and_four_stories_in_two_minutes() -> None:
    scenario = load_scenario(find_scenario("demo"))
    assert 55 <= len(scenario.placements) <= 65
    raised = {one.alarm: one for one in scenario.expect if one.change == "raised"}
    assert raised.keys() >= {"charger-hot", "smoke-alarm", "button-emergency", "elevator-ebike"}
    assert all(one.until_s <= 120 for one in scenario.expect)
    groups = {one.id: one.group for one in scenario.placements}
    assert groups[raised["charger-hot"].device] == groups[raised["smoke-alarm"].device] == "shed-1"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name: x", "story.yaml: devices: is missing"),
        (HEAD + "colour: red", "story.yaml:3: colour: unknown key"),
        (HEAD + "timelin: []", "did you mean 'timeline'?"),
        ("name: x\ndevices: {charger: 4}", "devices.charger: unknown key"),
        ("name: x\ndevices: {chargers: many}", "devices.chargers: must be a whole number"),
        ("name: x\ndevices:\n - {kind: chargr, id: a1}", "devices[0].kind: must be one of"),
        ("name: x\ndevices:\n - {kind: siren, id: a, count: 3}", "devices[0].id: must end in a number"),
        (
            "name: x\ndevices:\n - {kind: siren, id: a1, count: 3}\n - {kind: smoke, id: a2}",
            "devices[1].id: a2 is there already",
        ),
        ("name: x\ndevices:\n - {kind: siren, id: a/b}", "devices[0].id: must be 1 to 64"),
        (HEAD + "duration: 10", "story.yaml:3: duration: must be a duration such as"),
        (HEAD + "starts_at: 25:00", "starts_at: must be a time of day"),
        (HEAD + "other_alarms: none", "other_alarms: must be one of allowed, forbidden"),
        (
            HEAD + "timeline:\n - {at: 1s, device: shed1-p1, fault: overheat}",
            "story.yaml:4: timeline[0].device: is not among the devices of this scenario (is 'shed1-p1')",
        ),
        (HEAD + "timeline:\n - {at: 1s, device: shed1-p01, fault: overheet}", "did you mean 'overheat'?"),
        (HEAD + "timeline:\n - {at: 1s, device: shed1-p01, falt: overheat}", "did you mean 'fault'?"),
        (
            HEAD + "timeline:\n - {at: 1s, device: shed1-p01, passenger: ebike}",
            "a charger has none; it has action",
        ),
        (HEAD + "timeline:\n - {at: 1s, device: shed1-p01, fault: overheat, rate: 9}", "from 0.01 to 5 °C/s"),
        (HEAD + "timeline:\n - {at: 1s, device: shed1-p01, fault: overheat, rat: 1}", "did you mean 'rate'?"),
        (
            HEAD + "timeline:\n - {at: 1s, device: lift-1-1-a, passenger: ebike, stay: 9}",
            "stay: must be a duration",
        ),
        (HEAD + "timeline:\n - {device: bt0001, action: emergency}", "timeline[0].at: is missing"),
        (HEAD + "expect:\n - {alarm: a, device: bt0001}", "expect[0].within: is missing"),
        (
            HEAD + "expect:\n - {alarm: a, device: bt0001, within: 3s, change: rised}",
            "did you mean 'raised'?",
        ),
        (
            HEAD + "duration: 1s\nexpect:\n - {alarm: a, device: bt0001, within: 3s}",
            "ends before the story does",
        ),
    ],
)
def test_a_fault_names_file_path_and_what_was_meant(text: str, told: str) -> None:
    assert any(told in fault for fault in faults(text)), faults(text)


def test_all_faults_of_a_file_are_told_at_once() -> None:
    assert len(faults(HEAD + "colour: 1\nrate: -1\ntimeline:\n - {at: x, device: y, fault: z}")) >= 4


def test_a_device_that_is_wrong_hides_no_other_fault_and_is_not_called_unknown() -> None:
    told = faults(
        "name: x\ndevices:\n - {kind: smoek, id: s1}\n - {kind: smoke, id: s2}\n"
        "timeline:\n - {at: 1s, as: fire, device: s1, fault: batery}\n - {at: 1s, device: s3, action: tset}\n"
        "expect:\n - {alarm: a, device: s1, after: fire, within: 3s}\n - {alarm: b, room: 9, within: 3s}\n"
    )
    assert [fault.split(": ")[1] for fault in told] == [
        "devices[0].kind",
        "timeline[0].fault",
        "timeline[1].device",
        "timeline[1].action",
    ]
    assert "did you mean 'battery'?" in told[1]


@pytest.mark.parametrize("entry", ["{kind: siren, id: a1, count: x}", "{kind: siren}", "siren"])
def test_where_not_all_names_of_devices_can_be_read_none_is_called_unknown(entry: str) -> None:
    told = faults(f"name: x\ndevices:\n - {entry}\ntimeline:\n - {{at: 1s, device: a2, fault: brken}}\n")
    assert not any("is not among the devices" in fault for fault in told)
    assert "did you mean 'broken'?" in told[-1]


def test_an_unknown_scenario_names_those_that_are_shipped() -> None:
    with pytest.raises(ConfigurationError, match=r"demo, .*quiet.*did you mean 'demo'"):
        find_scenario("demmo")


def test_within_counts_from_what_happens_to_the_device_unless_told_otherwise() -> None:
    scenario = parse_scenario(
        HEAD
        + "timeline:\n - {at: 10s, device: bt0001, action: emergency}\n"
        + "expect:\n - {alarm: a, device: bt0001, within: 3s}\n"
        + " - {alarm: a, device: bt0001, after: 1s, within: 3s}\n",
        "story.yaml",
    )
    assert [(one.after_s, one.until_s) for one in scenario.expect] == [(10, 13), (1, 4)]


# --- the judge ----------------------------------------------------------------------------------------------


def wire(**changed: object) -> bytes:
    alarm = {
        "id": "A1", "rule": "charger-hot", "kind": "charger", "device": "p1", "severity": "high",
        "state": "unacked", "version": 1, "occurrences": 1, "cleared_at": None, "acked_at": None,
    }  # fmt: skip
    return msgspec.json.encode(alarm | changed)


def judge(text: str) -> Judge:
    scenario = parse_scenario("name: x\ndevices:\n - {kind: charger, id: p1}\n" + text, "story.yaml")
    return Judge(scenario.expect, others_forbidden=scenario.others_forbidden)


EXPECT = "expect:\n - {alarm: charger-hot, device: p1, after: 10s, within: 20s}\n"


def test_an_alarm_in_time_is_met_and_none_is_missed() -> None:
    on_time, never = judge(EXPECT), judge(EXPECT)
    assert [one.took_s for one in on_time.see("A1", wire(), 15) if isinstance(one, Met)] == [5]
    assert on_time.satisfied
    assert [type(one) for one in never.pass_time(31)] == [Missed]
    assert not never.satisfied


def test_too_early_too_late_and_another_device_do_not_count() -> None:
    for at_s, changed in ((5, {}), (31, {}), (15, {"device": "p2"}), (15, {"rule": "charger-warm"})):
        strict = judge(EXPECT)
        list(strict.see("A1", wire(**changed), at_s))
        assert not strict.satisfied


def test_a_standing_alarm_counts_when_it_is_raised_again_and_an_old_version_never() -> None:
    again = judge(EXPECT)
    again.remember(wire(version=7))
    assert not list(again.see("A1", wire(version=7, occurrences=2), 15))
    assert any(isinstance(one, Met) for one in again.see("A1", wire(version=8, occurrences=2), 15))


def test_clearing_is_seen_once_and_nonsense_is_not_an_alarm() -> None:
    clearing = judge(EXPECT.replace("p1,", "p1, change: cleared,"))
    list(clearing.see("A1", wire(), 12))
    assert not clearing.met
    list(clearing.see("A1", b"\xff{", 13))
    list(clearing.see("A1", wire(version=2, cleared_at="2026-11-22T08:00:00Z", state="rtn_unacked"), 14))
    assert clearing.satisfied
    assert [one.id for one in clearing.board] == ["A1"]
    list(clearing.see("A1", b"", 16))
    assert not clearing.board


def test_an_alarm_that_is_not_expected_fails_a_scenario_that_forbids_others() -> None:
    strict = judge("other_alarms: forbidden\n")
    assert any(isinstance(one, Unexpected) for one in strict.see("A1", wire(), 3))
    assert not strict.satisfied


# --- orders -------------------------------------------------------------------------------------------------


def given(**changed: object) -> bytes:
    order = {"id": "c-1", "command": "cut_power", "args": {}, "expires_at": BEGIN_MS + 1_000}
    return msgspec.json.encode(order | changed)


class Port:
    def __init__(self) -> None:
        self.fleet = Fleet(load_scenario(find_scenario("demo")).placements[:1])
        self.obeyed = 0
        self.orders = Orders()

    def answer(self, payload: bytes, now_ms: int = BEGIN_MS) -> dict[str, str] | None:
        def obey(name: str, args: Mapping[str, Scalar]) -> Outcome:
            self.obeyed += 1
            return self.fleet.obey(self.fleet.members[0], name, args)

        answer = self.orders.answer(payload, now_ms, obey)
        return None if answer is None else msgspec.json.decode(answer, type=dict[str, str])


def test_a_command_sent_again_is_answered_again_and_obeyed_once() -> None:
    port = Port()
    first = port.answer(given())
    assert first == {"command_id": "c-1", "status": "done", "detail": ""}
    assert port.answer(given(), BEGIN_MS + 9_000) == first
    assert port.obeyed == 1


def test_a_command_that_came_too_late_is_rejected_and_not_obeyed() -> None:
    port = Port()
    late = port.answer(given(), BEGIN_MS + 1_500)
    assert late is not None
    assert (late["status"], late["detail"]) == ("rejected", "expired 0.5 s ago")
    assert port.obeyed == 0


@pytest.mark.parametrize("expires_at", ["2026-11-22", "soon"])
def test_an_expiry_that_is_no_time_is_rejected(expires_at: str) -> None:
    answer = Port().answer(given(expires_at=expires_at))
    assert answer is not None
    assert answer["status"] == "rejected"


@pytest.mark.parametrize("payload", [b"", b"{", b"[]", b'{"command": "cut_power"}', b"\xff"])
def test_what_names_no_command_is_not_answered(payload: bytes) -> None:
    assert Port().answer(payload) is None


# --- the shipped stories, told to the shipped rules ---------------------------------------------------------


def shipped_rules() -> RuleSet:
    packs = sorted(PACKS.glob("*.yaml"))
    return parse([(path.name, parse_yaml(path.read_text("utf-8"), path.name)) for path in packs])


def test_the_shipped_rules_raise_and_clear_what_the_demo_expects_in_time() -> None:
    played = rehearse(load_scenario(find_scenario("demo")), shipped_rules())
    assert played.passed, [case.why for case in played.cases]
    expected = {(one.alarm, one.device) for one in played.scenario.expect} | {("charger-warm", "shed1-p07")}
    changes = [event for event in played.events if isinstance(event, Change)]
    assert {(one.alarm.rule, one.alarm.device) for one in changes if one.change == "raised"} >= expected
    orders = {(one.command, one.result) for one in played.events if isinstance(one, Ordered)}
    assert orders >= {
        ("cut_power", "done"),
        ("confirm", "done"),
        ("hold_door", "done"),
        ("release_door", "done"),
        ("sound", "done"),
    }


def test_the_shipped_rules_raise_nothing_on_a_quiet_evening() -> None:
    played = rehearse(load_scenario(find_scenario("quiet")), shipped_rules())
    assert not [event for event in played.events if isinstance(event, Change)]


# --- the command --------------------------------------------------------------------------------------------


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args(arguments))


def test_the_registry_of_a_scenario_can_be_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--scenario", "demo", "--registry") == 0
    tree = parse_yaml(capsys.readouterr().out, "registry.yaml")
    assert isinstance(tree, dict)
    assert isinstance(tree["devices"], list)
    assert len(tree["devices"]) == len(load_scenario(find_scenario("demo")).placements)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "give counts, e.g. --chargers 20"),
        (("--scenario", "demo", "--smoke", "3"), "leave out --smoke"),
        (("--scenario", "no-such"), "no shipped scenario of that name (alarm-storm, "),
        (("--chargers", "1", "--broker", "127.0.0.1:1"), "no MQTT broker answers at 127.0.0.1:1"),
        (("--chargers", "1", "--password-file", "/no/such"), "--password-file cannot be read"),
    ],
)
def test_what_cannot_begin_says_why_in_one_line(
    arguments: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "arguments", [("--broker", "host:port"), ("--rate", "0"), ("--chargers", "-1"), ("--site", "a/b")]
)
def test_an_argument_that_is_none_is_refused(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run(*arguments)
    assert arguments[1] in capsys.readouterr().err
