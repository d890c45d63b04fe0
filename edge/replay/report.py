"""What a replay has found, for people (in both languages) and for programs. Values in, lines or JSON out."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from zoneinfo import ZoneInfo

import msgspec

from edge.replay.trial import Found, Span
from rules.alarms import rfc3339
from rules.outcomes import Difference, Instance, Outcome, joined, joined_differences

DAYS_SHOWN = 7


@dataclass(frozen=True, slots=True)
class Report:
    """All shards together."""

    span: Span
    names: Sequence[str]
    """Of the rule sets, as people call them."""
    outcomes: Sequence[Mapping[str, Outcome]]
    """Of each rule set, by rule."""
    differences: Mapping[str, Difference]
    readings: int
    warmed: int
    devices: int
    until: int
    exact_from: int | None
    unsure: bool
    """Whether some of it lies before that."""
    failures: int
    took_s: float

    @classmethod
    def of(cls, span: Span, names: Sequence[str], found: Sequence[Found], took_s: float) -> "Report":
        """Join what the shards have found; each judged other devices."""
        return cls(
            span,
            names,
            [joined(each.outcomes[number] for each in found) for number in range(len(names))],
            joined_differences(each.differences for each in found),
            sum(each.readings for each in found),
            sum(each.warmed for each in found),
            sum(each.devices for each in found),
            min((each.until for each in found), default=span.to_ms),
            next((each.exact_from for each in found), None),
            any(each.unsure for each in found),
            sum(each.failures for each in found),
            took_s,
        )

    def without(self, beside: Sequence[Collection[str]]) -> "Report":
        """The same but of these rules of each rule set, which only ran beside."""
        outcomes = [
            {rule: each for rule, each in found.items() if rule not in left_out}
            for found, left_out in zip(self.outcomes, beside, strict=True)
        ]
        told = {
            rule: each for rule, each in self.differences.items() if all(rule in found for found in outcomes)
        }
        return replace(self, outcomes=outcomes, differences=told)

    def only_in(self, number: int) -> list[str]:
        """Rules that only one of two rule sets has."""
        other = self.outcomes[1 - number]
        return [rule for rule in self.outcomes[number] if rule not in other]


def json_of(report: Report) -> bytes:
    """The whole report; times RFC 3339."""
    told: dict[str, object] = {
        "from": rfc3339(report.span.from_ms),
        "to": rfc3339(report.span.to_ms),
        "until": rfc3339(report.until),
        "warm_up_s": report.span.warm_up_ms / 1000,
        "listening_known_from": rfc3339(report.exact_from),
        "readings": report.readings,
        "devices": report.devices,
        "failures": report.failures,
        "took_s": round(report.took_s, 3),
        "rules": {rule: _outcome(outcome) for rule, outcome in report.outcomes[0].items()},
    }
    if len(report.outcomes) > 1:
        told["compared"] = {rule: _outcome(outcome) for rule, outcome in report.outcomes[1].items()}
        told["difference"] = {
            "only_in_rules": report.only_in(0),
            "only_in_compared": report.only_in(1),
            "rules": {
                rule: {
                    "same": each.same,
                    "at_other_times": each.shifted,
                    "only_in_rules": each.only[0],
                    "only_in_compared": each.only[1],
                    "examples": {
                        "only_in_rules": [_instance(one) for one in each.examples[0]],
                        "only_in_compared": [_instance(one) for one in each.examples[1]],
                    },
                    "not_compared": each.uncompared,
                }
                for rule, each in report.differences.items()
            },
        }
    return msgspec.json.encode(told)


def lines_of(report: Report, language: str, zone: str) -> Iterator[str]:
    """The report for a person, on the community's clock."""
    words = _WORDS[language]
    clock = _Clock(zone)
    span = report.span
    yield words["history"].format(
        begin=clock.full(span.from_ms),
        end=clock.full(min(report.until, span.to_ms)),
        zone=zone,
        readings=report.readings,
        devices=report.devices,
        took=report.took_s,
        rate=(report.readings + report.warmed) / max(report.took_s, 0.001),
    )
    if span.warm_up_ms:
        yield words["warm"].format(span=_span(span.warm_up_ms), readings=report.warmed)
    if report.unsure:
        yield words["assumed"].format(at="–" if report.exact_from is None else clock.full(report.exact_from))
    if report.until < span.to_ms:
        yield words["short"].format(at=clock.full(report.until))
    if report.failures:
        yield words["failures"].format(count=report.failures)
    for name, outcomes in zip(report.names, report.outcomes, strict=True):
        yield ""
        yield words["of"].format(name=name)
        yield from _outcome_lines(outcomes, words, clock)
    if len(report.outcomes) > 1:
        yield ""
        yield from difference_lines(report, language, zone)


def difference_lines(report: Report, language: str, zone: str) -> Iterator[str]:
    """Only how the two differ."""
    words, clock = _WORDS[language], _Clock(zone)
    one, other = report.names
    yield words["between"].format(one=one, other=other)
    nothing = True
    for number, name in enumerate(report.names):
        for rule in report.only_in(number):
            nothing = False
            yield "  " + words["only rule"].format(
                name=name, rule=rule, raised=report.outcomes[number][rule].raised
            )
    for rule, each in report.differences.items():
        if not each.any:
            continue
        nothing = False
        before, after = report.outcomes[1][rule].raised, report.outcomes[0][rule].raised
        yield "  " + words["differs"].format(
            rule=rule, other=other, before=before, one=one, after=after, same=each.same, shifted=each.shifted
        )
        for name, count, examples in zip(report.names, each.only, each.examples, strict=True):
            if count:
                shown = "; ".join(clock.instance(example) for example in examples)
                more = " …" if count > len(examples) else ""
                yield "    " + words["only alarms"].format(name=name, count=count, examples=shown + more)
        if each.uncompared:
            yield "    " + words["uncompared"].format(count=each.uncompared)
    if nothing:
        yield "  " + words["no difference"]


class _Clock:
    """Moments as they are read on the wall there."""

    def __init__(self, zone: str) -> None:
        self._zone = ZoneInfo(zone)

    def full(self, at: int) -> str:
        return f"{datetime.fromtimestamp(at / 1000, self._zone):%Y-%m-%d %H:%M:%S}"

    def instance(self, instance: Instance | None) -> str:
        if instance is None:
            return "–"
        track = f" ({instance.track})" if instance.track is not None else ""
        at = datetime.fromtimestamp(instance.at / 1000, self._zone)
        return f"{at:%m-%d %H:%M:%S} {instance.address}{track}"


def _outcome_lines(outcomes: Mapping[str, Outcome], words: Mapping[str, str], clock: _Clock) -> Iterator[str]:
    active = {rule: each for rule, each in outcomes.items() if each.raised or each.cleared or each.before}
    for rule, each in active.items():
        yield (
            "  "
            + words["rule"].format(rule=rule, raised=each.raised, cleared=each.cleared, open=each.open)
            + (words["before"].format(before=each.before) if each.before else "")
        )
        if each.raised:
            yield "    " + words["ends"].format(
                first=clock.instance(each.first), last=clock.instance(each.last)
            )
            yield "    " + words["days"].format(days=_days(each))
        orders = [f"{command} ×{count}" for command, count in sorted(each.orders.items())]
        if each.withheld:
            orders.append(words["withheld"].format(count=each.withheld))
        if orders:
            yield "    " + words["orders"].format(orders=", ".join(orders))
    quiet = [rule for rule in outcomes if rule not in active]
    if quiet:
        yield "  " + words["quiet"].format(rules=", ".join(quiet))


def _days(outcome: Outcome) -> str:
    days = sorted(outcome.days.items())
    shown = ", ".join(f"{day} {count}" for day, count in days[-DAYS_SHOWN:])
    return f"… {shown}" if len(days) > DAYS_SHOWN else shown


def _outcome(outcome: Outcome) -> dict[str, object]:
    return {
        "raised": outcome.raised,
        "cleared": outcome.cleared,
        "before": outcome.before,
        "open": outcome.open,
        "first": None if outcome.first is None else _instance(outcome.first),
        "last": None if outcome.last is None else _instance(outcome.last),
        "days": dict(sorted(outcome.days.items())),
        "orders": dict(sorted(outcome.orders.items())),
        "withheld": outcome.withheld,
    }


def _instance(instance: Instance) -> dict[str, object]:
    return {"at": rfc3339(instance.at), "address": instance.address, "track": instance.track}


def _span(ms: int) -> str:
    for size, unit in ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s")):
        if ms >= size and ms % size == 0:
            return f"{ms // size} {unit}"
    return f"{ms} ms"


_WORDS: Mapping[str, Mapping[str, str]] = {
    "en": {
        "history": "history {begin} – {end} ({zone}): {readings:,} readings of {devices:,} devices, "
        "in {took:.1f} s ({rate:,.0f}/s)",
        "warm": "read before it, not counted: {span}, {readings:,} readings",
        "assumed": "the gateway is taken to have listened all the time; whether it did is known only from {at} on",
        "short": "the history ends at {at}: what was silent after it nobody can say",
        "failures": "the engine failed at {count} inputs, which are left out: see above",
        "of": "with {name}:",
        "rule": "{rule}: raised {raised}, cleared {cleared}, at the end {open}",
        "before": ", there from before {before}",
        "ends": "first {first}, last {last}",
        "days": "per day: {days}",
        "orders": "orders: {orders}",
        "withheld": "withheld ×{count} (unsafe, or nobody there to obey)",
        "quiet": "raised nothing: {rules}",
        "between": "difference between {one} and {other}:",
        "only rule": "{rule}: only in {name}, raised {raised}",
        "differs": "{rule}: raised {before} with {other}, {after} with {one}; {same} the same, "
        "{shifted} at another time",
        "only alarms": "{count} only with {name}: {examples}",
        "uncompared": "{count} more were counted and not compared",
        "no difference": "none: both raise the same alarms at the same times",
    },
    "zh": {
        "history": "历史数据 {begin} – {end}（{zone}）：{devices:,} 台设备的 {readings:,} 条读数，"
        "用时 {took:.1f} 秒（每秒 {rate:,.0f} 条）",
        "warm": "此前预读、不计入结果：{span}，{readings:,} 条读数",
        "assumed": "假定网关一直在接收；是否真的在接收，只从 {at} 起才有记录",
        "short": "历史数据到 {at} 为止：此后谁没有数据，无从判断",
        "failures": "引擎在 {count} 条输入上出错，已略过：见上",
        "of": "使用“{name}”：",
        "rule": "{rule}：触发 {raised} 次，恢复 {cleared} 次，结束时仍有 {open} 个",
        "before": "，开始前已有 {before} 个",
        "ends": "首次 {first}，末次 {last}",
        "days": "按日：{days}",
        "orders": "指令：{orders}",
        "withheld": "未发出 ×{count}（不安全，或该处没有可执行的设备）",
        "quiet": "没有触发：{rules}",
        "between": "“{one}”与“{other}”的差别：",
        "only rule": "{rule}：只在“{name}”中有，触发 {raised} 次",
        "differs": "{rule}：用“{other}”触发 {before} 次，用“{one}”触发 {after} 次：{same} 次相同，{shifted} 次时间不同",
        "only alarms": "只在“{name}”中触发 {count} 次：{examples}",
        "uncompared": "另有 {count} 次只计数、未比较",
        "no difference": "没有差别：两者在相同时间触发相同的告警",
    },
}
