"""An alarm as it is seen on its topic, and what has happened to it between two versions.

Pure. A subscriber may have missed versions between the two; what can still be told from them is told.
"""

from collections.abc import Iterator

import msgspec

from rules.alarms import Severity


class SeenAlarm(msgspec.Struct, frozen=True):
    """The part of an alarm on the wire (contract, section 3) that is judged or shown."""

    id: str
    rule: str
    kind: str
    device: str
    severity: str
    state: str
    version: int = 1
    occurrences: int = 1
    cleared_at: str | None = None
    acked_at: str | None = None
    cancelled_at: str | None = None
    late: bool = False
    drill: bool = False
    place: dict[str, str] = {}
    text: dict[str, str] = {}
    suppressed_by: str | None = None
    folded_into: str | None = None
    shelved_until: str | None = None
    members: tuple[str, ...] | None = None
    outcome: str | None = None
    superseded: str | None = None
    provisional: bool = False
    durable: bool = True

    @property
    def active(self) -> bool:
        """Its condition is there."""
        return self.cleared_at is None and self.state != "normal"


_DECODER = msgspec.json.Decoder(SeenAlarm)


def read_alarm(payload: bytes) -> SeenAlarm | None:
    """An alarm, or None for what is none: the topic is open to anyone."""
    try:
        return _DECODER.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def changes(before: SeenAlarm | None, alarm: SeenAlarm) -> Iterator[str]:
    """What has happened between two versions; between them some may have been missed."""
    found = False
    if before is None or alarm.occurrences > before.occurrences:
        found = True
        yield "raised" if before is None else "reraised"
    was_active = before is None or before.active or found
    if was_active and not alarm.active:
        found = True
        yield "cleared"
    if alarm.acked_at is not None and (before is None or alarm.acked_at != before.acked_at):
        found = True
        yield "acked"
    if alarm.state == "normal" and (before is None or before.state != "normal"):
        found = True
        yield "closed"
    if alarm.cancelled_at is not None and (before is None or before.cancelled_at is None):
        found = True
        yield "cancelled"
    if before is not None and _rank(alarm.severity) < _rank(before.severity):
        found = True
        yield "escalated"
    if not found:
        yield "changed"


def _rank(severity: str) -> int:
    try:
        return Severity(severity).rank
    except ValueError:
        return len(Severity)
