"""What is another about an alarm where nothing has happened that has a name of its own: in words, for the report."""

from collections.abc import Iterator

from rules.language.texts import Language
from rules.wording import OUTCOMES, SEVERITIES, called, superseded_line
from simulators.seen_alarms import SeenAlarm

_EN, _ZH = Language.EN, Language.ZH


def difference(before: SeenAlarm | None, after: SeenAlarm, language: Language) -> str:
    """One phrase; empty where nothing that people care for is another."""
    if before is None:
        return ""
    zh = language is _ZH
    told = [chinese if zh else english for english, chinese in _differences(before, after)]
    return ("；" if zh else "; ").join(told)


def _differences(before: SeenAlarm, after: SeenAlarm) -> Iterator[tuple[str, str]]:
    if after.suppressed_by != before.suppressed_by:
        if after.suppressed_by is None:
            yield "no longer suppressed", "不再抑制"
        else:
            yield f"suppressed, {after.suppressed_by} explains it", f"因 {after.suppressed_by} 而抑制"
    if after.folded_into != before.folded_into:
        if after.folded_into is None:
            yield "told by itself again", "恢复单独通知"
        else:
            yield "told together with others", "并入汇总告警"
    if after.shelved_until != before.shelved_until:
        if after.shelved_until is None:
            yield "no longer shelved", "不再搁置"
        else:
            yield f"shelved until {after.shelved_until}", f"搁置至 {after.shelved_until}"
    yield from _of_itself(before, after)


def _of_itself(before: SeenAlarm, after: SeenAlarm) -> Iterator[tuple[str, str]]:
    if after.members is not None and after.members != before.members:
        count = len(after.members)
        was = len(before.members or ())
        yield f"{count} alarms in it, {was} before", f"包含 {count} 条告警，此前 {was} 条"
    if after.outcome != before.outcome and after.outcome is not None:
        yield f"outcome: {after.outcome}", f"结果：{called(after.outcome, OUTCOMES, _ZH)}"
    if after.superseded != before.superseded and after.superseded is not None:
        yield superseded_line(after.superseded, _EN), superseded_line(after.superseded, _ZH)
    if after.severity != before.severity:
        english = f"severity {after.severity}, {before.severity} before"
        was_called = called(before.severity, SEVERITIES, _ZH)
        yield english, f"级别 {called(after.severity, SEVERITIES, _ZH)}，此前 {was_called}"
    if after.late and not before.late:
        yield "late", "迟报"
    if before.provisional and not after.provisional:
        yield "its time is known now", "时间已校正"
    if after.durable and not before.durable:
        yield "stored now", "已保存"
