"""What a right gateway must say, held against what it says.

Pure: alarms as they come on the wire and the story's time go in, verdicts come out.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec

from simulators.scenario import Expectation


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
    text: dict[str, str] = {}

    @property
    def active(self) -> bool:
        """Its condition is there."""
        return self.cleared_at is None and self.state != "normal"


@dataclass(frozen=True, slots=True)
class Change:
    """An alarm changed: raised, reraised, cleared, acked, closed or, for anything else, changed."""

    at_s: float
    change: str
    alarm: SeenAlarm


@dataclass(frozen=True, slots=True)
class Met:
    """What was expected came, ``took_s`` after the moment it counts from."""

    at_s: float
    expectation: Expectation
    took_s: float


@dataclass(frozen=True, slots=True)
class Missed:
    """What was expected has not come in time."""

    at_s: float
    expectation: Expectation


@dataclass(frozen=True, slots=True)
class Unexpected:
    """An alarm that this scenario forbids."""

    at_s: float
    alarm: SeenAlarm


Verdict = Change | Met | Missed | Unexpected

_DECODER = msgspec.json.Decoder(SeenAlarm)


class Judge:
    """Compares the alarms that are seen with those that are expected."""

    def __init__(self, expect: Sequence[Expectation], *, others_forbidden: bool = False) -> None:
        self.met: list[Expectation] = []
        self.missed: list[Expectation] = []
        self.unexpected: list[SeenAlarm] = []
        self._open = list(expect)
        self._expected = {(one.alarm, one.device) for one in expect}
        self._others_forbidden = others_forbidden
        self._board: dict[str, SeenAlarm] = {}

    @property
    def satisfied(self) -> bool:
        """Everything expected has come, nothing forbidden has."""
        return not (self._open or self.missed or self.unexpected)

    @property
    def board(self) -> Sequence[SeenAlarm]:
        """The alarms that stand, as last seen."""
        return tuple(self._board.values())

    def remember(self, payload: bytes) -> None:
        """Take note of an alarm that stood before the story began."""
        if (alarm := _read(payload)) is not None:
            self._board[alarm.id] = alarm

    def see(self, alarm_id: str, payload: bytes, at_s: float) -> Iterator[Verdict]:
        """Judge one message of an alarm's topic; an empty payload takes the alarm off the board."""
        if not payload:
            self._board.pop(alarm_id, None)
            return
        alarm = _read(payload)
        before = self._board.get(alarm_id)
        if alarm is None or (before is not None and alarm.version <= before.version):
            return
        self._board[alarm_id] = alarm
        for change in _changes(before, alarm):
            yield Change(at_s, change, alarm)
            yield from self._judge(change, alarm, at_s)

    def pass_time(self, now_s: float) -> Iterator[Missed]:
        """Give up what should have come by now."""
        for expectation in [one for one in self._open if one.until_s < now_s]:
            self._open.remove(expectation)
            self.missed.append(expectation)
            yield Missed(now_s, expectation)

    def _judge(self, change: str, alarm: SeenAlarm, at_s: float) -> Iterator[Met | Unexpected]:
        change = "raised" if change == "reraised" else change
        raised = change == "raised"
        if raised and self._others_forbidden and (alarm.rule, alarm.device) not in self._expected:
            self.unexpected.append(alarm)
            yield Unexpected(at_s, alarm)
        for one in self._open:
            told = (one.alarm, one.device, one.change) == (alarm.rule, alarm.device, change)
            if told and one.after_s <= at_s <= one.until_s:
                self._open.remove(one)
                self.met.append(one)
                yield Met(at_s, one, at_s - one.after_s)
                return


def _read(payload: bytes) -> SeenAlarm | None:
    """An alarm, or None for what is none: the topic is open to anyone."""
    try:
        return _DECODER.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _changes(before: SeenAlarm | None, alarm: SeenAlarm) -> Iterator[str]:
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
    if not found:
        yield "changed"
