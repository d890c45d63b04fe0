"""Why an alarm came, as people and programs read it: on the command line, over HTTP, out of the store."""

import asyncio
import json
import re
import shlex
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
import pytest
from msgspec.structs import replace

from devices.documents import parse_yaml
from devices.readings import Address, Channel, Reading, Scalar
from edge.cli import main
from edge.explaining import view_of
from edge.shell.explanations import _WORDS, explain
from edge.shell.reports import AlarmLine, alarm_lines, detail_lines
from edge.shell.verbs import print_lines
from edge.store import codec
from edge.web.models import ExplanationModel
from rules import wording
from rules.alarms import Alarm, AlarmChange, AlarmState, Outcome, Severity, Superseded, Transition
from rules.decisions import Acknowledge, Close
from rules.engine import Engine
from rules.explanation import Sway
from rules.files import parse
from rules.hours import Calendar
from rules.wording import OUTCOMES, SEVERITIES, STATES, SUPERSEDED
from tests.web_world import START_MS, Book, alarm, raised, web

PORT = Address("c1/charger/p1")

RULES = """
rules:
  - id: overload
    kind: charger
    let: {limit: voltage * 10}
    when: power > limit and status == 'Charging'
    clear: power < 2000
    for: 10s
    clear_for: 1m
    severity: medium
    escalate: {after: 2m, severity: high}
    text: {en: "Port {device} draws {power} W", zh: "充电口 {device} 功率 {power} W"}
  - id: quiet
    kind: charger
    silent_for: 10m
    severity: low
    text: {en: "Port {device} is silent", zh: "充电口 {device} 失联"}
  - id: press
    kind: button
    when: action == 'emergency'
    severity: critical
    text: {en: help, zh: 求助}
  - id: idle
    kind: button
    when: activity < 3
    severity: medium
    latch: true
    text: {en: idle, zh: 不活动}
"""


def story() -> list[AlarmChange]:
    calendar = Calendar(ZoneInfo("Asia/Shanghai"))
    rules = parse([("rules.yaml", parse_yaml(RULES, "rules.yaml"))], calendar=calendar)
    engine = Engine(rules, site="c1", node="gw-1")
    state = engine.new_state()
    changes: list[AlarmChange] = []

    def hear(second: int, address: str, **values: Scalar) -> None:
        now = START_MS + second * 1000
        channel = Channel.EVENT if "action" in values else Channel.TELEMETRY
        reading = Reading(channel, Address(address), dict(values), now - 1000, now)
        changes.extend(engine.step(state, reading, now).changes)

    hear(0, PORT, voltage=230.0, status="Charging")
    hear(5, PORT, power=2500.5)
    hear(6, "c1/button/b1", activity=0)
    hear(7, "c1/button/b2", action="emergency")
    changes.extend(engine.tick(state, START_MS + 3_600_000).changes)
    return changes


CHANGES = story()


def last(rule: str) -> Alarm:
    return next(change.alarm for change in reversed(CHANGES) if change.alarm.rule == rule)


def test_an_explanation_tells_what_was_seen_which_limit_since_when_and_what_ends_it() -> None:
    one = last("overload")
    assert one.why is not None
    assert list(explain(one, "en", "Asia/Shanghai")) == [
        "Port p1 draws 2500.5 W",
        "raised 2026-09-21 22:13:35, now high, unacked",
        "What was seen:",
        "  limit    2300, told 2026-09-21 22:13:24  = voltage * 10",
        "  power    2500.5, told 2026-09-21 22:13:24",
        "  status   Charging, told 2026-09-21 22:13:19",
        "  voltage  230, told 2026-09-21 22:13:19",
        f"Which limit: rule overload, version {one.why.version[:12]}",
        "  power > limit and status == 'Charging', for 10s",
        "  high after 2m",
        "So since 2026-09-21 22:13:24 by the device's clock.",
        "Severity rose to high at 2026-09-21 22:15:35, because it went on.",
        "It ends when this has held for 1m: power < 2000",
        f"Somebody must acknowledge it: anlin alarms ack {one.id} --by NAME --comment TEXT",
    ]


def test_an_explanation_in_chinese_says_the_same() -> None:
    one = last("overload")
    told = list(explain(one, "zh", "Asia/Shanghai"))
    assert len(told) == len(list(explain(one, "en", "Asia/Shanghai")))
    assert told[:3] == [
        "充电口 p1 功率 2500.5 W",
        "2026-09-21 22:13:35 触发，当前级别 重要，状态 未确认",
        "当时看到：",
    ]
    assert told[-2] == "以下条件持续 1 分钟后解除：power < 2000"


def test_every_severity_state_and_outcome_has_a_chinese_word_and_the_board_has_the_same() -> None:
    assert SEVERITIES.keys() == {*Severity}
    assert STATES.keys() == {*AlarmState}
    assert OUTCOMES.keys() == {*Outcome}
    board = (Path(__file__).parent.parent / "edge/web/static/words.js").read_text(encoding="utf-8")
    assert [
        word
        for table in (SEVERITIES, STATES, OUTCOMES, SUPERSEDED["zh"])
        for word in table.values()
        if word not in board
    ] == []


def test_every_change_has_a_chinese_word() -> None:
    assert wording.CHANGES.keys() >= {*Transition}


def test_both_languages_have_the_same_words_with_the_same_gaps() -> None:
    def gaps(text: str) -> list[str]:
        return sorted(part.partition("}")[0] for part in text.split("{")[1:])

    assert _WORDS["en"].keys() == _WORDS["zh"].keys() >= set(Sway)
    for key, text in _WORDS["en"].items():
        assert gaps(text) == gaps(_WORDS["zh"][key]), key


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ("quiet", ["Nothing was heard of the device since 2026-09-21 22:13:24.",
                   "  nothing is heard for 10m", "It ends with the next message of the device."]),
        ("press", ["  action  emergency, told 2026-09-21 22:13:26", "A person can close it when"]),
        ("idle", ["  activity  not shown: it tells of a person's day",
                  "It ends when this is no longer so: activity < 3", "A person can close it when"]),
    ],
)  # fmt: skip
def test_every_way_to_come_and_to_end_has_its_words(rule: str, says: list[str]) -> None:
    told = list(explain(last(rule), "en", "Asia/Shanghai"))
    for line in says:
        assert any(each.startswith(line) for each in told), told


def test_what_happened_since_is_told_and_an_end_is_an_end() -> None:
    one = last("press")
    assert one.why is not None
    why = one.why.influenced(Sway.SUPPRESSED, "broker-away:c1/gateway/gw-1", START_MS)
    gone = msgspec.structs.replace(
        one, why=why, acked_at=START_MS, acked_by="Wang", comment="went there", closed=True, late=True
    )
    told = list(explain(gone, "en", "UTC"))
    because = "because another alarm explains it: broker-away:c1/gateway/gw-1"
    assert f"2026-09-21 14:13:20: suppressed, {because}" in told
    assert "Acknowledged 2026-09-21 14:13:20 by Wang: went there" in told
    assert any(each.startswith("Told late: it was so at 2026-09-21 14:13:26") for each in told)
    assert told[-1] == "It has left the board."


def closing(*, acked: bool) -> Alarm:
    """What an engine makes of a press that Wang acknowledges, or nobody, and Zhao closes."""
    rules = parse([("rules.yaml", parse_yaml(RULES, "rules.yaml"))], calendar=Calendar(ZoneInfo("UTC")))
    engine = Engine(rules, site="c1", node="gw-1")
    state = engine.new_state()
    press = Reading(Channel.EVENT, Address("c1/button/b2"), {"action": "emergency"}, START_MS, START_MS)
    (raised_,) = engine.step(state, press, START_MS).changes
    if acked:
        given = Acknowledge(raised_.alarm.id, "Wang", "called back", START_MS + 1_000)
        engine.step(state, given, START_MS + 1_000)
    done = engine.step(
        state, Close(raised_.alarm.id, "Zhao", "was there", START_MS + 2_000), START_MS + 2_000
    )
    return done.changes[-1].alarm


def test_who_closed_an_alarm_is_kept_beside_who_acknowledged_it() -> None:
    one = closing(acked=True)
    assert (one.acked_by, one.comment, one.closed_by, one.close_comment) == (
        "Wang", "called back", "Zhao", "was there",
    )  # fmt: skip
    told = list(explain(one, "zh", "UTC"))
    assert "Wang 于 2026-09-21 14:13:21 确认：called back" in told
    assert "Zhao 于 2026-09-21 14:13:22 关闭：was there" in told
    assert "状态 已关闭" in told[1]
    assert "解除" not in "".join(told)
    wire = json.loads(one.wire())
    assert (wire["closed_at"], wire["closed_by"]) == ("2026-09-21T14:13:22.000Z", "Zhao")
    shown = "\n".join(detail_lines(wire, "zh", "UTC"))
    assert re.search(r"^状态 +已关闭$", shown, re.MULTILINE)
    assert re.search(r"^关闭人 +Zhao$", shown, re.MULTILINE)
    assert "恢复" not in shown
    assert codec.decode_alarm(codec.encode_alarm(one)) == one


def test_an_alarm_that_is_closed_without_an_acknowledgement_is_not_acknowledged() -> None:
    one = closing(acked=False)
    assert (one.acked_at, one.acked_by, one.comment) == (None, None, None)
    assert not any("cknowledged" in line for line in explain(one, "en", "UTC"))
    for each in (one, replace(one, members=("a", "b")), replace(one, why=None)):
        assert "Closed 2026-09-21 14:13:22 by Zhao: was there" in list(explain(each, "en", "UTC"))
    assert not any("cknowledged" in line for line in detail_lines(json.loads(one.wire()), "en", "UTC"))


def test_what_a_person_or_a_device_said_is_shown_as_it_was_said() -> None:
    wire = json.loads(replace(last("press"), acked_at=START_MS, acked_by="high", comment="normal").wire())
    wire["values"] = {"action": "released"}
    shown = {
        name: rest.strip()
        for name, _, rest in (line.partition("  ") for line in detail_lines(wire, "en", "UTC"))
    }
    assert (shown["acknowledged by"], shown["comment"]) == ("high", "normal")
    assert shown["values"] == "action: released"
    chinese = "\n".join(detail_lines({**wire, "comment": "left"}, "zh", "UTC"))
    assert re.search(r"^确认说明 +left$", chinese, re.MULTILINE)


def test_nothing_that_was_said_steers_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    evil = "ok\n\x1b[2J\x9b1Ano alarm stands"
    press = last("press")
    assert press.why is not None
    why = replace(press.why, samples=(replace(press.why.samples[0], value=evil),))
    one = replace(press, why=why, values={"action": evil}, acked_at=START_MS, acked_by="Wang", comment=evil)
    for lines in (explain(one, "en", "UTC"), detail_lines(json.loads(one.wire()), "zh", "UTC")):
        print_lines(lines)
        told = capsys.readouterr().out.split("\n")
        assert any("no alarm stands" in line for line in told)
        assert all(line.isprintable() for line in told), told


def test_only_a_closed_alarm_tells_of_closing_on_the_wire() -> None:
    assert not {"closed_at", "closed_by", "close_comment"} & json.loads(last("press").wire()).keys()


@pytest.mark.parametrize(("how", "says"), [("changed", "has been changed"), ("removed", "has been removed")])
def test_an_alarm_whose_rule_is_another_says_so_and_promises_no_end_but_a_person(how: str, says: str) -> None:
    told = list(explain(replace(last("overload"), superseded=Superseded(how), closable=True), "en", "UTC"))
    assert any(line.startswith(f"Its rule {says} since") for line in told)
    assert not any(line.startswith("It ends") for line in told)
    assert any("only a person can close it" in line for line in told)
    wire = replace(last("overload"), superseded=Superseded(how)).wire()
    line = next(alarm_lines([msgspec.json.decode(wire, type=AlarmLine)], "zh", "UTC"))
    assert line.endswith(f"[{SUPERSEDED['zh'][how]}]")


def test_what_rules_find_when_they_come_into_force_is_not_told_as_of_the_devices_clock() -> None:
    calm = RULES.replace("for: 10s", "for: 1s").replace("voltage * 10", "voltage * 20")
    before, after = (
        parse([("rules.yaml", parse_yaml(text, "rules.yaml"))], calendar=Calendar(ZoneInfo("UTC")))
        for text in (calm, RULES.replace("for: 10s", "for: 1s"))
    )
    state = Engine(before, site="c1", node="gw-1").new_state()
    values: dict[str, Scalar] = {"voltage": 230.0, "status": "Charging", "power": 2500.5}
    heard = Reading(Channel.TELEMETRY, PORT, values, START_MS - 1_000, START_MS)
    old, engine = Engine(before, site="c1", node="gw-1"), Engine(after, site="c1", node="gw-1")
    assert not old.step(state, heard, START_MS).changes
    engine.succeed(state, before, START_MS + 60_000)
    (change,) = engine.tick(state, START_MS + 61_000).changes
    told = list(explain(change.alarm, "en", "UTC"))
    assert "  power    2500.5, told 2026-09-21 14:13:19" in told
    assert any(line.startswith("The gateway found it to be so at 2026-09-21 14:14:20") for line in told)
    assert not any("device's clock" in line for line in told)
    right = change.alarm.why.corrected(lambda moment: moment + 5, own=True) if change.alarm.why else None
    assert right is not None
    assert right.since == START_MS + 60_005


def test_the_commands_of_an_explanation_can_be_run_as_they_are_printed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    told = "\n".join(explain(last("press"), "en", "UTC", Path("the site/anlin.yaml")))
    asked = " --by NAME --comment TEXT --config 'the site/anlin.yaml'"
    for verb in ("ack", "close"):
        assert f"anlin alarms {verb} {last('press').id}{asked}" in told
        argv = shlex.split(f"alarms {verb} {last('press').id}{asked}")
        assert main(argv) == 2
        assert "the site/anlin.yaml" in capsys.readouterr().err  # only the file is missing


def test_an_alarm_stored_before_there_were_reasons_is_read_and_says_so() -> None:
    before = alarm(1)
    known = msgspec.structs.asdict(before)
    for name in ("why", "superseded", "closed_at", "closed_by", "close_comment"):
        del known[name]
    old = codec.decode_alarm(codec._sealed(msgspec.msgpack.encode(known)))  # noqa: SLF001 - as a row was written
    assert old == before
    assert view_of(old) is None
    assert list(explain(old, "en", "UTC"))[-1] == "It was stored before alarms kept their reasons."


def test_the_reasons_are_stored_with_the_alarm() -> None:
    one = last("overload")
    assert codec.decode_alarm(codec.encode_alarm(one)) == one
    assert b"why" not in one.wire()


def test_the_api_and_the_command_line_explain_an_alarm(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, bare = last("overload"), alarm(2)
    missing = last("press").id

    async def look() -> None:
        async with Book(tmp_path / "data") as book, web(tmp_path / "data") as board:
            await book.commit(AlarmChange(Transition.RAISED, one, one.raised_at), raised(bare))
            answer = await board.get(f"/api/v1/alarms/{one.id}/explanation")
            assert answer.status == 200
            found = ExplanationModel.model_validate_json(answer.body)
            assert (found.limits.when, found.limits.for_ms) == (
                "power > limit and status == 'Charging'", 10_000,
            )  # fmt: skip
            assert [seen.name for seen in found.seen] == ["limit", "power", "status", "voltage"]
            assert answer.json["rises"] == [{"severity": "high", "at": "2026-09-21T14:15:35.000Z"}]
            for gone in (bare.id, missing):
                assert (await board.get(f"/api/v1/alarms/{gone}/explanation")).status == 404

    asyncio.run(look())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ANLIN_LANGUAGE", "en")
    assert main(["alarms", "explain", one.id]) == 0
    assert capsys.readouterr().out.splitlines() == list(explain(one, "en", "Asia/Shanghai"))
    assert main(["alarms", "explain", one.id, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rule"] == "overload"
    assert main(["alarms", "explain", bare.id, "--json"]) == 1
    assert "before alarms kept their reasons" in capsys.readouterr().err
    assert main(["alarms", "explain", missing]) == 1
    assert "anlin alarms list" in capsys.readouterr().err
