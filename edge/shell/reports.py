"""What the command line prints about alarms and the gateway: values in, lines of text out."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

import msgspec

from edge.control_client import Health
from edge.store.records import Gap, GapReason

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

    @property
    def well(self) -> bool:
        """Nothing stands, nobody is silent or was never heard, the gateway does all its work."""
        return self.health.status == "ok" and not (self.standing or self.silent or self.unheard)


def already_acked(alarm: Mapping[str, object], by: str, comment: str) -> str | None:
    """Whose acknowledgement stands where it is not the one that was just given."""
    if alarm.get("acked_by") in (None, by) and alarm.get("comment") in (None, comment):
        return None
    return f"{alarm.get('acked_by')} acknowledged it already, at {alarm.get('acked_at')}: that stands"


def alarm_lines(alarms: Sequence[AlarmLine], language: str, zone: str) -> Iterator[str]:
    """One line an alarm: worst first as given, times on the community's clock."""
    if not alarms:
        yield "no alarm stands"
    for alarm in alarms:
        raised = datetime.fromisoformat(alarm.raised_at).astimezone(ZoneInfo(zone))
        times = f" ×{alarm.occurrences}" if alarm.occurrences > 1 else ""
        place = "/".join(alarm.place.values()) or "–"
        text = alarm.text.get(language) or next(iter(alarm.text.values()), "")
        acked = f" ({alarm.acked_by})" if alarm.acked_by is not None else ""
        yield (
            f"{alarm.id}  {raised:%m-%d %H:%M:%S}  {alarm.severity:<8} {alarm.state}{acked}{times}  "
            f"{alarm.kind}/{alarm.device}  {place}  {text}"
        )


def status_lines(report: StatusReport, language: str, zone: str, gaps: Sequence[Gap] = ()) -> Iterator[str]:
    """What ``anlin status`` says: the gateway, what stands, what is silent, the cloud, what was lost lately."""
    health = report.health
    counts = health.counts
    yield (
        f"{health.site}/{health.node}: {health.status}, up {_duration(health.uptime_s or 0)}, "
        f"{counts.get('devices', 0)} devices ({counts.get('online', 0)} online, "
        f"{counts.get('offline', 0)} offline, {counts.get('unregistered', 0)} unregistered)"
    )
    for reason in health.reasons:
        yield f"  {reason.code}: {reason.message}; {reason.remedy}"
    yield f"standing: {len(report.standing) or 'nothing'}"
    told = [alarm for alarm in report.standing if alarm.annunciated]
    for line in alarm_lines(told, language, zone) if told else ():
        yield f"  {line}"
    quiet = Counter(alarm.state for alarm in report.standing if not alarm.annunciated)
    for state, count in sorted(quiet.items()):
        yield f"  … and {count} {state}: `anlin alarms list` shows them"
    yield f"silent: {len(report.silent) or 'nobody'}"
    for address in report.silent:
        yield f"  {address}"
    if report.unheard:
        yield (
            f"never heard: {len(report.unheard)} of the registry; check the device, the broker and that it says the "
            f"site {health.site}; one that is not there yet has `mounted: false` in the registry"
        )
        for address in report.unheard[:UNHEARD_SHOWN]:
            yield f"  {address}"
        if len(report.unheard) > UNHEARD_SHOWN:
            yield "  … the rest: GET /api/v1/devices"
    if report.rules is not None:
        yield rules_line(report.rules, zone)
    yield _cloud(health.cloud)
    if health.history is not None:
        yield _history(health.history)
    if gaps:
        yield f"lost within a day: {len(gaps)}"
        for line in gap_lines(gaps[:GAPS_SHOWN], language, zone):
            yield f"  {line}"
        if len(gaps) > GAPS_SHOWN:
            yield "  … the rest: GET /api/v1/gaps"


def rules_line(rules: RulesInForce, zone: str) -> str:
    """Which rules are in force, and since when; what differs on disk is among the gateway's reasons."""
    since = ""
    if rules.since is not None:
        since = (
            f", in force since {datetime.fromtimestamp(rules.since / 1000, ZoneInfo(zone)):%Y-%m-%d %H:%M:%S}"
        )
    return f"rules: {rules.rules}, version {rules.hash[:12]}{since}"


def gap_lines(gaps: Sequence[Gap], language: str, zone: str) -> Iterator[str]:
    """One line a known loss, as given: when, how many of what, from when to when, why."""
    words, why = _GAP_WORDS[language], _GAP_REASONS[language]
    for gap in gaps:
        begun, ended = (datetime.fromtimestamp(ms / 1000, ZoneInfo(zone)) for ms in (gap.from_ms, gap.to_ms))
        until = f"{ended:%H:%M:%S}" if ended.date() == begun.date() else f"{ended:%m-%d %H:%M:%S}"
        count = str(gap.count) if gap.count else words["unknown"]
        what = words.get(gap.lane, gap.lane)
        yield f"{begun:%m-%d %H:%M:%S} – {until}  {count} {what}  {why.get(gap.reason, gap.reason)}"


def detail_lines(alarm: Mapping[str, object]) -> Iterator[str]:
    """Every field of one alarm, a line each."""
    width = max(map(len, alarm))
    for name, value in alarm.items():
        if isinstance(value, dict):
            shown = ", ".join(f"{key}: {part}" for key, part in value.items()) or "–"
        else:
            shown = "–" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
        yield f"{name:<{width}}  {shown}"


_GAP_WORDS = {
    "en": {
        "unknown": "an unknown number of",
        "safety": "safety messages",
        "bulk": "telemetry messages",
        "readings": "readings",
        "alarms": "alarm changes",
    },
    "zh": {
        "unknown": "数量不明的",
        "safety": "条安全消息",
        "bulk": "条遥测消息",
        "readings": "条读数",
        "alarms": "条告警变化",
    },
}

_GAP_REASONS = {
    "en": {
        GapReason.JOURNAL_FULL: "removed from the full journal before they were forwarded",
        GapReason.BROKER_DROPPED: "dropped by the broker for want of room",
        GapReason.SESSION_LOST: "the broker forgot the session that they waited in",
        GapReason.STORE_FAILED: "judged, but not stored: the store could not be written",
        GapReason.STORE_DAMAGED: "not readable in the damaged journal",
        GapReason.CLOUD_REFUSED: "refused by the cloud store for good; kept among the dead letters",
        GapReason.THROTTLED: "not taken: a device said more than it may",
    },
    "zh": {
        GapReason.JOURNAL_FULL: "本地数据已满，尚未转发就被删除",
        GapReason.BROKER_DROPPED: "MQTT 服务器空间不足而丢弃",
        GapReason.SESSION_LOST: "MQTT 服务器丢失了会话，其中等待的消息已丢失",
        GapReason.STORE_FAILED: "已判断但未保存：当时存储无法写入",
        GapReason.STORE_DAMAGED: "数据文件损坏，无法读出",
        GapReason.CLOUD_REFUSED: "被云端存储拒绝，保存在本地的死信中",
        GapReason.THROTTLED: "设备消息过多而未接收",
    },
}


def _cloud(cloud: Mapping[str, object] | None) -> str:
    if cloud is None:
        return "cloud: nothing is forwarded"
    behind = cloud.get("behind")
    rows = ", ".join(f"{feed} {count}" for feed, count in behind.items()) if isinstance(behind, dict) else "–"
    error = f"; {cloud['error']}" if cloud.get("error") else ""
    return f"cloud: {cloud.get('state', 'unknown')}, rows behind: {rows or '–'}{error}"


def _history(history: Mapping[str, object]) -> str:
    days = (int(str(history["to_ms"] or 0)) - int(str(history["from_ms"] or 0))) / 86_400_000
    error = f"; {history['error']}" if history.get("error") else ""
    return (
        f"history: {history['readings']} readings of {days:.1f} days, {int(str(history['bytes'])) / 1e6:.1f} MB, "
        f"{history['behind']} behind {_duration(float(str(history['age_seconds'])))} ago{error}"
    )


def _duration(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
