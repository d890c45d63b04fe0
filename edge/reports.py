"""What the command line prints about alarms and the gateway: values in, lines of text out."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

import msgspec

from edge.control_client import Health


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


class StatusReport(msgspec.Struct, frozen=True):
    """The answer of the node's ``status`` operation."""

    health: Health
    standing: list[AlarmLine]
    silent: list[str]

    @property
    def well(self) -> bool:
        """Nothing stands, nobody is silent, the gateway does all its work."""
        return self.health.status == "ok" and not self.standing and not self.silent


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


def status_lines(report: StatusReport, language: str, zone: str) -> Iterator[str]:
    """What ``anlin status`` says: the gateway, what stands, what is silent, the cloud."""
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
    for line in alarm_lines(report.standing, language, zone) if report.standing else ():
        yield f"  {line}"
    yield f"silent: {len(report.silent) or 'nobody'}"
    for address in report.silent:
        yield f"  {address}"
    yield _cloud(health.cloud)


def detail_lines(alarm: Mapping[str, object]) -> Iterator[str]:
    """Every field of one alarm, a line each."""
    width = max(map(len, alarm))
    for name, value in alarm.items():
        if isinstance(value, dict):
            shown = ", ".join(f"{key}: {part}" for key, part in value.items()) or "–"
        else:
            shown = "–" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
        yield f"{name:<{width}}  {shown}"


def _cloud(cloud: Mapping[str, object] | None) -> str:
    if cloud is None:
        return "cloud: nothing is forwarded"
    behind = cloud.get("behind")
    rows = ", ".join(f"{feed} {count}" for feed, count in behind.items()) if isinstance(behind, dict) else "–"
    error = f"; {cloud['error']}" if cloud.get("error") else ""
    return f"cloud: {cloud.get('state', 'unknown')}, rows behind: {rows or '–'}{error}"


def _duration(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
