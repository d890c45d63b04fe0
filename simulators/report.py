"""The report of a test: what happened, what was expected, when it came, pass or fail.

It is written for people who were not there and answer for the place, such as a fire inspector, in English or Chinese;
and as JUnit XML for machines. Values in, lines out.
"""

import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType

from rules.language.texts import Language
from rules.wording import mismatch_line
from simulators.causes import Cause, Handling, Person
from simulators.details import length, moment
from simulators.expectations import Expectation, Subject
from simulators.performance import Performance
from simulators.phrases import why_in
from simulators.spans import write_clock
from simulators.telling import (
    Began,
    Event,
    Happened,
    Noted,
    cause_line,
    change_line,
    describe,
    expectation_line,
    order_line,
    word,
)
from simulators.verdicts import Case, Change, Met, Missed, Ordered, Unexpected

LINES_MOST = 150
"""Lines of a story that are printed; a storm has thousands."""
UNEXPECTED_MOST = 10
DEVICES_MOST = 5
RULER = "─" * 110

_WORDS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "title": ("TEST REPORT of alarm rules", "报警规则测试报告"),
        "tested": ("Tested on", "测试时间"),
        "rules": ("Rules", "规则"),
        "examples": ("Examples of the rules", "规则示例"),
        "pass": ("PASS", "通过"),
        "fail": ("FAIL", "不通过"),
        "happened": ("What happened", "事件经过"),
        "expected": ("What was expected, and what came", "预期与结果"),
        "modelled": ("What virtual time cannot be like", "与真实环境的差别"),
        "standing": ("What stands at the end", "结束时仍在的报警"),
        "nothing": ("nothing", "无"),
        "summary": ("SUMMARY", "结论"),
        "others": ("nothing else is raised", "没有其他报警"),
        "messages": ("Messages", "消息"),
    }
)

_COUNTS_ZH: Mapping[str, str] = MappingProxyType(
    {
        "received": "收到",
        "rejected": "拒绝",
        "duplicates": "重复",
        "clock doubted": "时钟存疑",
        "lost": "丢失",
    }
)


@dataclass(frozen=True, slots=True)
class Examined:
    """A rule whose own examples were played."""

    rule: str
    file: str
    examples: int
    mismatches: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """As its author says."""
        return not self.mismatches


def _w(key: str, language: Language) -> str:
    return _WORDS[key][language is Language.ZH]


def head_lines(
    language: Language, *, at: datetime, version: str, rules: int, rule_hash: str
) -> Iterator[str]:
    """What was tested and when."""
    yield f"{_w('title', language)} · Anlin {version}"
    yield f"{_w('tested', language)}: {at:%Y-%m-%d %H:%M:%S %z}"
    yield f"{_w('rules', language)}: {rules} (SHA-256 {rule_hash[:16]})"


def example_lines(examined: Sequence[Examined], language: Language) -> Iterator[str]:
    """The rules' own examples, a line a file, and each mismatch."""
    zh = language is Language.ZH
    yield RULER
    yield _w("examples", language)
    for file in dict.fromkeys(one.file for one in examined):
        of_file = [one for one in examined if one.file == file]
        verdict = _w("pass" if all(one.passed for one in of_file) else "fail", language)
        examples = sum(one.examples for one in of_file)
        told = (
            f"{len(of_file)} 条规则，{examples} 个示例"
            if zh
            else f"{len(of_file)} rules, {examples} examples"
        )
        yield f"  {verdict}  {file}: {told}"
        for one in of_file:
            yield from (f"        {mismatch_line(mismatch, language)}" for mismatch in one.mismatches)


def scenario_lines(played: Performance, language: Language, place: str = "") -> Iterator[str]:
    """One story."""
    scenario, zh = played.scenario, language is Language.ZH
    yield RULER
    yield f"{place}{scenario.name}  {_w('pass' if played.passed else 'fail', language)}"
    if told := scenario.description.get(str(language)) or scenario.description.get("en"):
        yield f"  {told}"
    begin = f"{scenario.starts_at:%Y-%m-%d %H:%M} {scenario.starts_at.tzname()}"
    lasts, devices = length(scenario.duration_s, language), len(scenario.placements)
    if zh:
        yield f"  {scenario.file} · {devices} 台设备 · {begin} 开始 · 历时 {lasts} · 种子 {scenario.seed}"
    else:
        yield f"  {scenario.file} · {devices} devices · begins {begin} · lasts {lasts} · seed {scenario.seed}"
    yield f"  {_w('happened', language)}:"
    told_events = list(_told(played.events))
    for event in told_events[:LINES_MOST]:
        yield f"    {_clock(scenario.starts_at, event.at_s, language)}  {_line(event, language)}"
    if (more := len(told_events) - LINES_MOST) > 0:
        yield f"    … {'另有' if zh else 'and'} {more} {'条' if zh else 'more'}"
    yield f"  {_w('expected', language)}:"
    for case in played.cases:
        verdict = _w("pass" if case.passed else "fail", language)
        yield f"    {verdict}  {_wanted(case.expectation, language)} → {outcome(case, language)}"
    if scenario.others_forbidden:
        yield f"    {_w('fail' if played.unexpected else 'pass', language)}  {_w('others', language)}"
        for alarm in played.unexpected[:UNEXPECTED_MOST]:
            yield f"          {alarm.rule} / {alarm.device} ({word(alarm.severity, language)})"
        if (more := len(played.unexpected) - UNEXPECTED_MOST) > 0:
            yield f"          … +{more}"
    for remark in _beside(played, language):
        yield f"          {remark}"
    if played.board:
        those = (f"{alarm.rule} / {alarm.device}" for alarm in played.standing[:UNEXPECTED_MOST])
        left = ("，" if zh else ", ").join(those)
        more = len(played.board) - UNEXPECTED_MOST
        yield f"  {_w('standing', language)}: {left}{f' … +{more}' if more > 0 else ''}"
    if played.remarks:
        yield f"  {_w('modelled', language)}:"
        yield from (f"    {remark.said(language)}" for remark in played.remarks)
    counts = ("，" if zh else ", ").join(
        f"{_COUNTS_ZH.get(key, key) if zh else key} {number}" for key, number in played.counts.items()
    )
    yield f"  {_w('messages', language)}: {counts}"


def summary_lines(
    examined: Sequence[Examined], played: Sequence[Performance], language: Language
) -> Iterator[str]:
    """What came of it all."""
    zh = language is Language.ZH
    yield RULER
    yield _w("summary", language)
    for one in played:
        yield f"  {brief_line(one, language)}"
    good, wrong = sum(one.examples for one in examined), [one for one in examined if not one.passed]
    stories = sum(one.passed for one in played)
    if zh:
        yield f"  规则示例：{len(examined)} 条规则共 {good} 个示例，{len(wrong)} 条规则不通过"
        yield f"  场景：{len(played)} 个中 {stories} 个通过"
    else:
        yield f"  examples: {good} of {len(examined)} rules, {len(wrong)} rules fail"
        yield f"  scenarios: {stories} of {len(played)} pass"
    passed = not wrong and stories == len(played)
    yield f"  {_w('pass' if passed else 'fail', language)}"


def brief_line(played: Performance, language: Language) -> str:
    """A story in one line."""
    wrong = sum(not case.passed for case in played.cases) + len(played.unexpected)
    count, zh = len(played.cases), language is Language.ZH
    told = f"{count} 项预期" if zh else f"{count} expectations"
    if wrong:
        told += f"，{wrong} 项不符" if zh else f", {wrong} wrong"
    if own := ", ".join(dict.fromkeys(alarm.rule for alarm in played.beside if alarm.members is None)):
        told += f"，您自己的规则 {own} 也会报警" if zh else f", your rule {own} also goes off"
    told += f"{'，' if zh else ', '}{length(played.scenario.duration_s, language)}"
    return f"{_w('pass' if played.passed else 'fail', language)}  {played.scenario.name}: {told}"


def _beside(played: Performance, language: Language) -> Iterator[str]:
    """What rules raised that the story does not judge, a line each; then what tells of them together."""
    zh = language is Language.ZH
    for rule in dict.fromkeys(alarm.rule for alarm in played.beside):
        raised = [alarm for alarm in played.beside if alarm.rule == rule]
        devices = list(dict.fromkeys(alarm.device for alarm in raised))
        shown = ", ".join(devices[:DEVICES_MOST])
        if (more := len(devices) - DEVICES_MOST) > 0:
            shown += f" … +{more}"
        if raised[0].members is not None:
            yield f"{rule} 因此也会报警：{shown}" if zh else f"because of that {rule} goes off: {shown}"
        elif zh:
            yield f"您自己的规则 {rule} 在此也会报警：{shown}"
        else:
            yield f"your rule {rule} also goes off here: {shown}"


def failure_lines(played: Performance, language: Language) -> Iterator[str]:
    """What is wrong with a story, for who reads only that."""
    for case in played.cases:
        if not case.passed:
            name = played.scenario.name
            yield f"{name}: {expectation_line(case.expectation, language)}: {outcome(case, language)}"
    for alarm in played.unexpected[:UNEXPECTED_MOST]:
        told = "意外报警" if language is Language.ZH else "raised, which this scenario forbids"
        yield f"{played.scenario.name}: {alarm.rule} / {alarm.device}: {told}"


def outcome(case: Case, language: Language) -> str:
    """What came of an expectation."""
    one, zh = case.expectation, language is Language.ZH
    if not case.passed:
        return why_in(language, case.why) or ("没有出现" if zh else "did not come")
    if one.forbidden:
        return "没有出现" if zh else "did not come"
    if one.subject is Subject.STATE:
        return "如预期" if zh else "so it is"
    times = [at_s for at_s, _ in case.seen]
    if not times:
        return "没有出现" if zh else "none came"
    if case.number > 1:
        first, last = min(times), max(times)
        if zh:
            return f"{case.number} 个，{moment(first, language)} 至 {moment(last, language)}"
        return f"{case.number} came, from {moment(first, language)} to {moment(last, language)}"
    came, took = moment(times[-1], language), moment(times[-1] - one.after_s, language)
    return f"出现于 {came}，{took}后" if zh else f"came at {came}, after {took}"


def _told(events: Sequence[Event]) -> Iterator[Event]:
    """What happened, without verdicts; an alarm that leaves the board because it is over is told once."""
    over, closing_s = "", -1.0
    for event in events:
        match event:
            case Began() | Met() | Missed() | Unexpected():
                continue
            case Happened(at_s=at_s, cause=Cause(act=Handling(does=Person.CLOSE))):
                closing_s = at_s
            case Change(change=change, at_s=at_s) if at_s == closing_s:
                if change != "closed":
                    continue  # a person has closed it: it is that what happened
            case Change(change="closed", alarm=alarm) if over == alarm.id:
                continue
        over = event.alarm.id if isinstance(event, Change) and event.change == "cleared" else ""
        yield event


def _wanted(one: Expectation, language: Language) -> str:
    note = f"（{one.note}）" if language is Language.ZH else f" ({one.note})"
    return expectation_line(one, language) + (note if one.note else "")


def _line(event: Event, language: Language) -> str:
    match event:
        case Happened():
            return f"* {cause_line(event.cause, language)}"
        case Change():
            return f"  {change_line(event, language)}"
        case Ordered():
            return f"  {order_line(event, language)}"
        case Noted():
            return f"  {event.said(language)}"
    return describe(event, language)


def _clock(starts_at: datetime, at_s: float, language: Language) -> str:
    told = starts_at + timedelta(seconds=at_s)
    since = write_clock(at_s)
    if language is Language.ZH:
        since = since.replace("d ", "天 ")
    return f"{since:>12}  {told:%H:%M:%S}"


# --- for machines -------------------------------------------------------------------------------------------


def junit(examined: Sequence[Examined], played: Sequence[Performance]) -> bytes:
    """JUnit XML: a suite a rule file and one of the scenarios, a case a rule and a scenario."""
    top = ET.Element("testsuites", name="anlin rules test")
    for file in dict.fromkeys(one.file for one in examined):
        of_file = [one for one in examined if one.file == file]
        suite = _suite(top, file, len(of_file), sum(not one.passed for one in of_file))
        for one in of_file:
            case = ET.SubElement(suite, "testcase", classname=file, name=one.rule)
            if not one.passed:
                failure = ET.SubElement(case, "failure", message=f"{len(one.mismatches)} mismatches")
                failure.text = "\n".join(one.mismatches)
    if played:
        suite = _suite(top, "scenarios", len(played), sum(not one.passed for one in played))
        for one_ in played:
            scenario = one_.scenario
            case = ET.SubElement(
                suite, "testcase", classname=scenario.file, name=scenario.name, time=f"{one_.took_s:.3f}"
            )
            if not one_.passed:
                lines = list(failure_lines(one_, Language.EN))
                failure = ET.SubElement(case, "failure", message=lines[0] if lines else "failed")
                failure.text = "\n".join(lines)
            ET.SubElement(case, "system-out").text = "\n".join(scenario_lines(one_, Language.EN))
    ET.indent(top)
    return ET.tostring(top, encoding="unicode", xml_declaration=False).encode()


def _suite(top: ET.Element, name: str, tests: int, failures: int) -> ET.Element:
    return ET.SubElement(top, "testsuite", name=name, tests=str(tests), failures=str(failures), errors="0")
