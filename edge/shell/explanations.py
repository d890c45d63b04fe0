"""Why an alarm came, in words: what was seen, which limit, since when, which rule, what ends it.

The same as `edge.explaining` gives programs. Values in, lines of text out.
"""

import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

from devices.readings import Scalar
from edge.shell.reports import moment, plain
from rules.alarms import Alarm
from rules.explanation import Explanation
from rules.language.entries import write_duration
from rules.wording import SEVERITIES, called, state_called, text_in

VERSION_SHOWN = 12
"""Signs of a rule's version that people see."""


def explain(alarm: Alarm, language: str, zone: str, config: Path | None = None) -> Iterator[str]:
    """For who looks after the alarm; times on the community's clock.

    Commands can be run as they are printed, but for the placeholders: with the ``config`` that was asked for.
    """
    given = "" if config is None else f" --config {shlex.quote(str(config))}"
    return _Told(alarm, language, zone, given).lines()


class _Told:
    """One alarm in one language."""

    def __init__(self, alarm: Alarm, language: str, zone: str, given: str) -> None:
        self._alarm = alarm
        self._words = _WORDS[language]
        self._language = language
        self._zone = zone
        self._given = given

    def lines(self) -> Iterator[str]:
        alarm, say = self._alarm, self._say
        yield text_in(alarm.text, self._language) or alarm.rule
        times = say("times", count=alarm.occurrences) if alarm.occurrences > 1 else ""
        yield (
            say(
                "raised",
                at=self._at(alarm.raised_at),
                severity=self._word(alarm.severity),
                state=state_called(alarm.state, self._language, closed=alarm.closed_at is not None),
            )
            + times
        )
        why = alarm.why
        if alarm.members is not None:
            yield say("together", count=len(alarm.members))
            yield from (f"  {key}" for key in alarm.members)
            yield from self._people()
            return
        if why is None:
            yield say("unexplained")
            yield from self._people()
            return
        yield from self._seen(why)
        yield from self._limits(why)
        yield from self._since(why)
        yield from self._since_then(why)
        yield from self._people()
        yield from self._end(why)

    def _seen(self, why: Explanation) -> Iterator[str]:
        if why.silent_for_ms is not None:
            yield self._say("silent_since", at=self._at(why.since))
        if why.samples:
            yield self._words["seen"]
        width = max((len(each.name) for each in why.samples), default=0)
        for each in why.samples:
            if each.private:
                shown = self._words["private"]
            else:
                shown = self._lasting(each.value) if each.lasting else self._value(each.value)
            at = "" if each.at is None else self._say("told", at=self._at(each.at))
            means = f"  = {why.let[each.name]}" if each.name in why.let else ""
            yield f"  {each.name:<{width}}  {shown}{at}{means}"
        if why.left_out:
            yield "  " + self._say("more", count=why.left_out)

    def _limits(self, why: Explanation) -> Iterator[str]:
        say = self._say
        yield say("rule", rule=self._alarm.rule, version=why.version[:VERSION_SHOWN])
        if why.silent_for_ms is not None:
            yield "  " + say("limit_silent", lasting=self._long(why.silent_for_ms))
        elif why.for_ms:
            yield "  " + say("limit_for", when=why.when, lasting=self._long(why.for_ms))
        else:
            yield "  " + say("limit", when=why.when)
        if why.active is not None:
            yield "  " + say("active", hours=why.active)
        for after_ms, severity in why.escalate:
            yield "  " + say("rises", after=self._long(after_ms), severity=self._word(severity))

    def _since(self, why: Explanation) -> Iterator[str]:
        say, alarm = self._say, self._alarm
        if why.silent_for_ms is None and why.since is not None:
            yield say("found" if why.found else "since", at=self._at(why.since))
        if alarm.late:
            yield say("late_unknown") if why.so_at is None else say("late", at=self._at(why.so_at))
        if why.waited_ms:
            yield say("waited", lasting=self._lasting(why.waited_ms / 1000))
        if alarm.drill:
            yield say("drill")

    def _since_then(self, why: Explanation) -> Iterator[str]:
        say = self._say
        for rise in why.rises:
            yield say("rose", at=self._at(rise.at), severity=self._word(rise.severity))
        if why.withheld:
            yield say("withheld", count=why.withheld, cooldown=self._long(why.cooldown_ms or 0))
        for each in why.influences:
            yield self._words[each.what].format(at=self._at(each.at), by=each.by)

    def _people(self) -> Iterator[str]:
        """Who has acknowledged and closed it, and what became of its condition and rule before."""
        say, alarm = self._say, self._alarm
        if alarm.acked_at is not None:
            yield say(
                "acked", at=self._at(alarm.acked_at), by=alarm.acked_by or "–", comment=alarm.comment or "–"
            )
        if alarm.cleared_at not in (None, alarm.closed_at):
            yield say("cleared", at=self._at(alarm.cleared_at))
        if alarm.superseded is not None:
            yield say(alarm.superseded)
        if alarm.closed_at is not None:
            by, comment = alarm.closed_by or "–", alarm.close_comment or "–"
            yield say("closed", at=self._at(alarm.closed_at), by=by, comment=comment)

    def _end(self, why: Explanation) -> Iterator[str]:
        say, alarm = self._say, self._alarm
        if not alarm.on_board:
            yield say("gone")
            return
        if alarm.active and alarm.superseded is None:
            lasting = self._long(why.clear_for_ms) if why.clear_for_ms else ""
            if why.silent_for_ms is not None:
                yield say("ends_message")
            elif why.clear is not None:
                yield say("ends_clear_for" if lasting else "ends_clear", clear=why.clear, lasting=lasting)
            elif not why.of_event:
                yield say("ends_false_for" if lasting else "ends_false", when=why.when, lasting=lasting)
            if why.clear_after_ms:
                yield say("ends_after", lasting=self._long(why.clear_after_ms))
        if alarm.closable or alarm.latched:
            only = alarm.active and alarm.superseded is not None
            yield say("closes_only" if only else "closes", id=alarm.id, given=self._given)
        if alarm.ack_required and alarm.acked_at is None:
            yield say("ack", id=alarm.id, given=self._given)

    def _say(self, key: str, **values: object) -> str:
        return self._words[key].format(**values)

    def _word(self, code: str) -> str:
        """A severity: in English its code is a word already."""
        return called(code, SEVERITIES, self._language)

    def _at(self, at_ms: int | None) -> str:
        return moment(at_ms, self._zone)

    def _value(self, value: Scalar | None) -> str:
        return self._words["unknown"] if value is None else plain(value, self._language)

    def _long(self, ms: int) -> str:
        return self._spelt(write_duration(ms))

    def _spelt(self, duration: str) -> str:
        """``2m`` as rules write it; in Chinese a person reads the unit as a word."""
        if self._language != "zh":
            return duration
        return _LENGTH.sub(lambda found: f"{found[1]} {_UNITS_ZH[found[2]]}", duration)

    def _lasting(self, seconds: Scalar | None) -> str:
        if not isinstance(seconds, int | float):
            return self._value(seconds)
        rest, parts = round(seconds), list[str]()
        for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")):
            count, rest = divmod(rest, size)
            if count:
                parts.append(f"{count}{unit}")
        return self._spelt(" ".join(parts[:2]) or "0s")


_LENGTH = re.compile(r"(\d+)(ms|[smhd])")
_UNITS_ZH: Mapping[str, str] = {"ms": "毫秒", "s": "秒", "m": "分钟", "h": "小时", "d": "天"}

_WORDS: Mapping[str, Mapping[str, str]] = {
    "en": {
        "raised": "raised {at}, now {severity}, {state}",
        "times": ", {count} times",
        "together": "It tells of {count} alarms together, each with an explanation of its own:",
        "unexplained": "It was stored before alarms kept their reasons.",
        "seen": "What was seen:",
        "told": ", told {at}",
        "unknown": "unknown",
        "private": "not shown: it tells of a person's day",
        "more": "and {count} more",
        "silent_since": "Nothing was heard of the device since {at}.",
        "rule": "Which limit: rule {rule}, version {version}",
        "limit": "{when}",
        "limit_for": "{when}, for {lasting}",
        "limit_silent": "nothing is heard for {lasting}",
        "active": "raised only {hours}",
        "rises": "{severity} after {after}",
        "since": "So since {at} by the device's clock.",
        "found": "The gateway found it to be so at {at} by its own clock, from what the device had told.",
        "late": "Told late: it was so at {at}, when the gateway could not hear or decide.",
        "late_unknown": "Told late: nobody knows when it was so.",
        "waited": "Hours or a cooldown kept it from being raised for {lasting}.",
        "drill": "It is a test or a drill.",
        "rose": "Severity rose to {severity} at {at}, because it went on.",
        "withheld": "Before that it was withheld {count} times, within {cooldown} after the last alarm.",
        "suppressed": "{at}: suppressed, because another alarm explains it: {by}",
        "folded": "{at}: told together with others in {by}",
        "shelved": "{at}: shelved until {by}, because it came and went too often",
        "released": "{at}: told by itself again (it had been {by})",
        "acked": "Acknowledged {at} by {by}: {comment}",
        "cleared": "The condition was over at {at}.",
        "ends_message": "It ends with the next message of the device.",
        "ends_clear": "It ends when: {clear}",
        "ends_clear_for": "It ends when this has held for {lasting}: {clear}",
        "ends_false": "It ends when this is no longer so: {when}",
        "ends_false_for": "It ends when this has not been so for {lasting}: {when}",
        "ends_after": "It ends by itself {lasting} after the last such event.",
        "changed": "Its rule has been changed since: what is said above was its limit then.",
        "removed": "Its rule has been removed since: what is said above was its limit then.",
        "closed": "Closed {at} by {by}: {comment}",
        "closes": "A person can close it when that has been looked after: "
        "anlin alarms close {id} --by NAME --comment TEXT{given}",
        "closes_only": "It no longer ends by itself: only a person can close it: "
        "anlin alarms close {id} --by NAME --comment TEXT{given}",
        "ack": "Somebody must acknowledge it: anlin alarms ack {id} --by NAME --comment TEXT{given}",
        "gone": "It has left the board.",
    },
    "zh": {
        "raised": "{at} 触发，当前级别 {severity}，状态 {state}",
        "times": "，共 {count} 次",
        "together": "它汇总了 {count} 条告警，每条各有说明：",
        "unexplained": "该告警保存时尚未记录原因。",
        "seen": "当时看到：",
        "told": "，上报时间 {at}",
        "unknown": "未知",
        "private": "不显示：涉及个人起居",
        "more": "另有 {count} 项",
        "silent_since": "自 {at} 起未收到该设备的任何消息。",
        "rule": "触发条件：规则 {rule}，版本 {version}",
        "limit": "{when}",
        "limit_for": "{when}，持续 {lasting}",
        "limit_silent": "{lasting}没有任何消息",
        "active": "仅在以下时间触发：{hours}",
        "rises": "{after}后升为 {severity}",
        "since": "按设备时钟，自 {at} 起如此。",
        "found": "网关于 {at}（网关时钟）根据设备此前上报的数据判定如此。",
        "late": "迟报：{at} 已如此，当时网关无法接收或判断。",
        "late_unknown": "迟报：发生时间不明。",
        "waited": "因时段或冷却期推迟 {lasting}触发。",
        "drill": "这是测试或演练。",
        "rose": "因持续未解除，{at} 升为 {severity}。",
        "withheld": "此前在上次告警后 {cooldown}内有 {count} 次未触发。",
        "suppressed": "{at}：被抑制，由另一告警解释：{by}",
        "folded": "{at}：与其他告警合并通知：{by}",
        "shelved": "{at}：因反复出现被搁置至 {by}",
        "released": "{at}：恢复单独通知（此前：{by}）",
        "acked": "{by} 于 {at} 确认：{comment}",
        "cleared": "条件于 {at} 解除。",
        "ends_message": "收到该设备的下一条消息后解除。",
        "ends_clear": "满足以下条件时解除：{clear}",
        "ends_clear_for": "以下条件持续 {lasting}后解除：{clear}",
        "ends_false": "以下条件不再成立时解除：{when}",
        "ends_false_for": "以下条件持续 {lasting}不成立后解除：{when}",
        "ends_after": "最后一次此类事件 {lasting}后自动解除。",
        "changed": "此后规则已修改，以上是当时的条件。",
        "removed": "此后规则已删除，以上是当时的条件。",
        "closed": "{by} 于 {at} 关闭：{comment}",
        "closes": "处理完毕后可由人员关闭：anlin alarms close {id} --by 姓名 --comment 说明{given}",
        "closes_only": "不再自动解除，只能由人员关闭：anlin alarms close {id} --by 姓名 --comment 说明{given}",
        "ack": "需要有人确认：anlin alarms ack {id} --by 姓名 --comment 说明{given}",
        "gone": "该告警已离开告警板。",
    },
}
