"""What the command line prints about alarms, orders and the gateway: values in, lines of text out.

People read words in their language and times on the community's clock; codes and UTC are for programs (`--json`). The
words are in `edge.report_words`. What the gateway adds of its own – a path, an answer of the cloud – stays as
it said it.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from unicodedata import east_asian_width
from zoneinfo import ZoneInfo

import msgspec

from edge.control_client import Health
from edge.error_words import message_of
from edge.report_words import (
    CLOUD,
    GAP_REASONS,
    GAP_WORDS,
    LABELS,
    ORDER_STATUSES,
    REASONS,
    STATUSES,
    WORDS,
)
from edge.store.records import Gap, OrderRecord
from rules.alarms import MOMENTS
from rules.wording import (
    LEVELS,
    OUTCOMES,
    SEVERITIES,
    STATES,
    called,
    place_line,
    state_called,
    superseded_line,
    text_in,
)

GAPS_SHOWN = 10
"""Lines about losses."""

UNHEARD_SHOWN = 10
"""Lines about registered devices that never spoke."""


class AlarmLine(msgspec.Struct, frozen=True):
    """As much of an alarm on the wire (contract, section 3) as a line shows."""

    id: str
    severity: str
    state: str
    kind: str
    device: str
    raised_at: str
    text: dict[str, str]
    place: dict[str, str] = {}
    occurrences: int = 1
    acked_by: str | None = None
    rule: str = ""
    annunciated: bool = True
    superseded: str | None = None


class RulesInForce(msgspec.Struct, frozen=True):
    """Which rules the gateway runs, as the node's ``status`` and ``apply_rules`` operations tell it."""

    hash: str
    rules: int
    since: int | None = None
    on_disk: str | None = None


class StatusReport(msgspec.Struct, frozen=True):
    """The answer of the node's ``status`` operation."""

    health: Health
    standing: list[AlarmLine]
    silent: list[str]
    rules: RulesInForce | None = None
    unheard: list[str] = []
    """Registered as mounted, and never heard."""
    beyond: int = 0
    """So many more alarms stand, those that are told to nobody last."""

    @property
    def well(self) -> bool:
        """Nothing stands, nobody is silent or was never heard, the gateway does all its work."""
        return self.health.status == "ok" and not (self.standing or self.silent or self.unheard)


def say(key: str, language: str, **values: object) -> str:
    """One of `edge.report_words.WORDS` with what it is about."""
    return WORDS[language][key].format(**values)


def already_acked(alarm: Mapping[str, object], by: str, comment: str, language: str, zone: str) -> str | None:
    """Whose acknowledgement stands where it is not the one that was just given."""
    if alarm.get("acked_by") in (None, by) and alarm.get("comment") in (None, comment):
        return None
    return say("acked already", language, by=alarm.get("acked_by"), at=moment(alarm.get("acked_at"), zone))


def alarm_lines(alarms: Sequence[AlarmLine], language: str, zone: str) -> Iterator[str]:
    """One line an alarm: worst first as given, times on the community's clock."""
    if not alarms:
        yield say("no alarm", language)
    for alarm in alarms:
        raised = datetime.fromisoformat(alarm.raised_at).astimezone(ZoneInfo(zone))
        times = f" ×{alarm.occurrences}" if alarm.occurrences > 1 else ""
        place = place_line(alarm.place, language)
        text = text_in(alarm.text, language)
        acked = f" ({alarm.acked_by})" if alarm.acked_by is not None else ""
        severity = called(alarm.severity, SEVERITIES, language)
        mark = "" if alarm.superseded is None else f"  [{superseded_line(alarm.superseded, language)}]"
        yield (
            f"{alarm.id}  {raised:%m-%d %H:%M:%S}  {severity:<{0 if language == 'zh' else 8}} "
            f"{called(alarm.state, STATES, language)}{acked}{times}  {alarm.kind}/{alarm.device}  {place}  {text}{mark}"
        )


def status_lines(report: StatusReport, language: str, zone: str, gaps: Sequence[Gap] = ()) -> Iterator[str]:
    """What ``anlin status`` says: the gateway, what stands, what is silent, the cloud, what was lost lately."""
    yield from _gateway(report.health, language)
    yield from _standing(report.standing, report.beyond, language, zone)
    yield say("silent", language, count=len(report.silent) or say("nobody", language))
    for address in report.silent:
        yield f"  {address}"
    if report.unheard:
        yield say("unheard", language, count=len(report.unheard), site=report.health.site)
        for address in report.unheard[:UNHEARD_SHOWN]:
            yield f"  {address}"
        if len(report.unheard) > UNHEARD_SHOWN:
            yield "  " + say("rest", language, path="/api/v1/devices")
    if report.rules is not None:
        yield rules_line(report.rules, language, zone)
    yield _cloud(report.health.cloud, language)
    if report.health.history is not None:
        yield _history(report.health.history, language)
    if gaps:
        yield say("lost", language, count=len(gaps))
        for line in gap_lines(gaps[:GAPS_SHOWN], language, zone):
            yield f"  {line}"
        if len(gaps) > GAPS_SHOWN:
            yield "  " + say("rest", language, path="/api/v1/gaps")


def order_status(record: OrderRecord, language: str) -> str:
    """What became of an order, in words, with what the device said."""
    told = ORDER_STATUSES[record.status][language == "zh"]
    said = (record.detail or "").strip()
    return f"{told} ({said})" if said else told


def order_line(record: OrderRecord, language: str, zone: str) -> str:
    """One order: when, what, who, and what became of it."""
    order = record.order
    at = datetime.fromtimestamp(order.issued_at / 1000, ZoneInfo(zone))
    args = "".join(f" {name}={value}" for name, value in order.args.items())
    key = "by" if order.by else "by alarm" if order.alarm_id else "by unknown"
    giver = say(key, language, by=order.by, alarm=order.alarm_id)
    device = order.address.partition("/")[2]
    return f"{order.id}  {at:%m-%d %H:%M:%S}  {device} {order.command}{args}  {giver}  {order_status(record, language)}"


def rules_line(rules: RulesInForce, language: str, zone: str) -> str:
    """Which rules are in force, and since when; what differs on disk is among the gateway's reasons."""
    line = say("rules", language, rules=rules.rules, version=rules.hash[:12])
    return line if rules.since is None else line + say("since", language, at=moment(rules.since, zone))


def gap_lines(gaps: Sequence[Gap], language: str, zone: str) -> Iterator[str]:
    """One line a known loss, as given: when, how many of what, from when to when, why."""
    words, why = GAP_WORDS[language], GAP_REASONS[language]
    for gap in gaps:
        begun, ended = (datetime.fromtimestamp(ms / 1000, ZoneInfo(zone)) for ms in (gap.from_ms, gap.to_ms))
        until = f"{ended:%H:%M:%S}" if ended.date() == begun.date() else f"{ended:%m-%d %H:%M:%S}"
        count = str(gap.count) if gap.count else words["unknown"]
        what = words.get(gap.lane, gap.lane)
        yield f"{begun:%m-%d %H:%M:%S} – {until}  {count} {what}  {why.get(gap.reason, gap.reason)}"


def detail_lines(alarm: Mapping[str, object], language: str, zone: str) -> Iterator[str]:
    """What is told of one alarm, a line each; what is not so or not there is left out."""
    labels = {name: LABELS[name][language == "zh"] if name in LABELS else name for name in alarm}
    width = max(map(_width, labels.values()))
    closed = alarm.get("closed_at")
    for name, value in alarm.items():
        shown = _shown(name, value, language, zone)
        if closed is not None and name == "state":
            shown = state_called(str(value), language, closed=True)
        elif closed is not None and name == "cleared_at" and value == closed:
            continue  # a person ended it: its condition was not over by itself
        if shown is not None:
            yield f"{labels[name]}{' ' * (width - _width(labels[name]))}  {shown}"


_MOMENTS = frozenset({"source_time", "received_at", "closed_at", *MOMENTS})
_CODES = {"severity": SEVERITIES, "state": STATES, "outcome": OUTCOMES}
"""Fields that hold a code; what stands in others was said by somebody."""
_USUAL = {"durable": True, "annunciated": True}
"""What need not be told where it is so; of everything else, what is false or not there."""


def _shown(name: str, value: object, language: str, zone: str) -> str | None:
    """One field for people; None where there is nothing to tell."""
    if value is None or value is _USUAL.get(name, False):
        return None
    if name in _MOMENTS:
        return moment(value, zone)
    match value:
        case bool():
            return say("yes" if value else "no", language)
        case dict() if name == "text":
            return text_in(value, language)
        case dict():
            named = (
                f"{called(key, LEVELS, language)}: {plain(part, language)}" for key, part in value.items()
            )
            return ", ".join(named) or "–"
        case list():
            return ", ".join(map(str, value)) or "–"
        case str() if name == "superseded":
            return superseded_line(value, language)
        case str():
            return called(value, _CODES.get(name, {}), language)
    return str(value)


def plain(value: object, language: str) -> str:
    """A value of a point; ``–`` for none."""
    if isinstance(value, bool):
        return say("yes" if value else "no", language)
    return f"{value:.10g}" if isinstance(value, float) else "–" if value is None else str(value)


def moment(at: object, zone: str) -> str:
    """Unix ms, or RFC 3339, on the community's clock."""
    match at:
        case int():
            local = datetime.fromtimestamp(at / 1000, ZoneInfo(zone))
        case str():
            local = datetime.fromisoformat(at).astimezone(ZoneInfo(zone))
        case _:
            return "–"
    return f"{local:%Y-%m-%d %H:%M:%S}"


def _width(text: str) -> int:
    """Columns of a terminal: a Chinese character takes two."""
    return sum(2 if east_asian_width(sign) in "WF" else 1 for sign in text)


def _gateway(health: Health, language: str) -> Iterator[str]:
    counts = {name: health.counts.get(name, 0) for name in ("devices", "online", "offline", "unregistered")}
    yield say(
        "gateway",
        language,
        site=health.site,
        node=health.node,
        status=called(health.status, STATUSES, language),
        up=_duration(health.uptime_s or 0, language),
        **counts,
    )
    for reason in health.reasons:
        what, remedy = REASONS.get(reason.code, (reason.code, reason.remedy))
        told = reason.remedy if language != "zh" else remedy
        yield "  " + say(
            "reason",
            language,
            code=reason.code,
            message=message_of(reason.message, language),
            remedy=told,
            what=what,
        )


def _standing(standing: Sequence[AlarmLine], beyond: int, language: str, zone: str) -> Iterator[str]:
    yield say("standing", language, count=len(standing) + beyond or say("nothing", language))
    told = [alarm for alarm in standing if alarm.annunciated]
    for line in alarm_lines(told, language, zone) if told else ():
        yield f"  {line}"
    quiet = Counter(alarm.state for alarm in standing if not alarm.annunciated)
    for state, count in sorted(quiet.items()):
        yield "  " + say("quiet", language, count=count, state=called(state, STATES, language))
    if beyond:
        yield "  " + say("beyond", language, count=beyond)


def _cloud(cloud: Mapping[str, object] | None, language: str) -> str:
    if cloud is None:
        return say("no cloud", language)
    behind = cloud.get("behind")
    feeds = behind.items() if isinstance(behind, dict) else ()
    rows = ", ".join(
        say("row", language, feed=called(feed, CLOUD, language), count=count) for feed, count in feeds
    )
    state = called(str(cloud.get("state", "unknown")), CLOUD, language)
    return say("cloud", language, state=state, rows=rows or "–", error=_error(cloud, language))


def _history(history: Mapping[str, object], language: str) -> str:
    days = (int(str(history["to_ms"] or 0)) - int(str(history["from_ms"] or 0))) / 86_400_000
    return say(
        "history",
        language,
        readings=history["readings"],
        days=days,
        size=int(str(history["bytes"])) / 1e6,
        behind=history["behind"],
        age=_duration(float(str(history["age_seconds"])), language),
        error=_error(history, language),
    )


def _error(told: Mapping[str, object], language: str) -> str:
    return say("error", language, error=told["error"]) if told.get("error") else ""


def _duration(seconds: float, language: str) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return say(unit, language, n=seconds / size)
    return say("s", language, n=seconds)
