"""What a right gateway must do, held against what it does.

Pure: alarms as they come on the wire, orders as they reach devices, and the story's time go in, verdicts come out.
Every expectation is judged for itself: one change may be what several of them wait for.
"""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase

from devices.readings import Scalar
from simulators.expectations import Allowed, Expectation, Subject
from simulators.seen_alarms import SeenAlarm, changes, read_alarm
from simulators.spans import write_moment

NEAR_MOST = 3
"""Misses by a hair that are remembered of an expectation."""


@dataclass(frozen=True, slots=True)
class Change:
    """An alarm changed: raised, reraised, cleared, acked, closed, cancelled, escalated or, else, changed."""

    at_s: float
    change: str
    alarm: SeenAlarm
    before: SeenAlarm | None = None


@dataclass(frozen=True, slots=True)
class Ordered:
    """A device was given an order, and how it ended; an empty result is one that did not reach it."""

    at_s: float
    device: str
    command: str
    args: Mapping[str, Scalar]
    result: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Met:
    """What was expected came, ``took_s`` after the moment it counts from."""

    at_s: float
    expectation: Expectation
    took_s: float


@dataclass(frozen=True, slots=True)
class Missed:
    """What was expected has not come in time, or what must not come has come; ``why`` says what did."""

    at_s: float
    expectation: Expectation
    why: str = ""


@dataclass(frozen=True, slots=True)
class Unexpected:
    """An alarm that this scenario forbids."""

    at_s: float
    alarm: SeenAlarm


Verdict = Change | Ordered | Met | Missed | Unexpected


@dataclass(slots=True)
class Case:
    """One expectation and what has been seen for it."""

    expectation: Expectation
    seen: list[tuple[float, str]] = field(default_factory=list)
    """When, and the alarm or order: each alarm counts once."""
    near: list[str] = field(default_factory=list)
    """What came, but not so."""
    open: bool = True
    passed: bool = False
    at_s: float = math.nan
    why: str = ""

    @property
    def number(self) -> int:
        """How many have come."""
        return len({subject for _, subject in self.seen})

    @property
    def fine(self) -> bool:
        """Passed, or nothing is wrong and nothing is missing so far."""
        return self.passed or (self.open and self.number in self.expectation.count)

    def meet(self, at_s: float) -> None:
        """It has come as expected."""
        self.open, self.passed, self.at_s = False, True, at_s


class Judge:
    """Compares what is seen with what is expected."""

    def __init__(
        self,
        expect: Sequence[Expectation],
        *,
        others_forbidden: bool = False,
        allowed: Sequence[Allowed] = (),
        unjudged: Collection[str] = (),
    ) -> None:
        self.cases = [Case(one) for one in expect]
        """In the order of the file; what follows from one stands at the end."""
        self.unexpected: list[SeenAlarm] = []
        self.beside: list[SeenAlarm] = []
        """Raised by rules that are not judged, or by their many: they meet no expectation and break none."""
        self._due_s = min((one.until_s for one in expect), default=math.inf)
        """When the next of them is decided at the latest: most moments decide nothing."""
        self._others_forbidden = others_forbidden
        self._allowed = allowed
        self._unjudged = unjudged
        self._board: dict[str, SeenAlarm] = {}

    @property
    def met(self) -> Sequence[Expectation]:
        """What has come as expected."""
        return [case.expectation for case in self.cases if case.passed]

    @property
    def missed(self) -> Sequence[Expectation]:
        """What has not."""
        return [case.expectation for case in self.cases if not case.open and not case.passed]

    @property
    def satisfied(self) -> bool:
        """Everything expected has come, nothing forbidden has."""
        return not self.unexpected and all(case.fine for case in self.cases)

    @property
    def board(self) -> Sequence[SeenAlarm]:
        """The alarms that stand, as last seen."""
        return tuple(self._board.values())

    def remember(self, payload: bytes) -> None:
        """Take note of an alarm that stood before the story began."""
        if (alarm := read_alarm(payload)) is not None:
            self._board[alarm.id] = alarm

    def see(self, alarm_id: str, payload: bytes, at_s: float) -> Iterator[Verdict]:
        """Judge one message of an alarm's topic; an empty payload takes the alarm off the board."""
        if not payload:
            self._board.pop(alarm_id, None)
            return
        alarm = read_alarm(payload)
        before = self._board.get(alarm_id)
        if alarm is None or (before is not None and alarm.version <= before.version):
            return
        self._board[alarm_id] = alarm
        for change in changes(before, alarm):
            yield Change(at_s, change, alarm, before)
            yield from self._judge(change, alarm, at_s)

    def see_order(self, order: Ordered) -> Iterator[Verdict]:
        """Judge an order that was given to a device."""
        yield order
        for case in self.cases:
            one = case.expectation
            wanted = one.subject is Subject.ORDER and one.is_about(order.command, order.device)
            if not wanted or case.passed:
                continue
            if not case.open:
                _remember_late(case, f"order {order.command}, too late", order.at_s)
                continue
            if one.change not in {"given", order.result}:
                _near(case, f"{order.command}: {order.result or 'did not arrive'}", order.at_s)
                continue
            yield from self._count(case, f"{order.device}/{order.at_s}", order.at_s, f"order {order.command}")

    def see_by_hand(self, order: Ordered) -> None:
        """A command that a person gave at a device's panel: none of the gateway's, as who waits for one reads."""
        for case in self.cases:
            one = case.expectation
            if case.open and one.subject is Subject.ORDER and one.is_about(order.command, order.device):
                _near(
                    case, f"{order.command} of {order.device} by hand (no order of the gateway)", order.at_s
                )

    def pass_time(self, now_s: float) -> Iterator[Met | Missed]:
        """Judge what must be decided by now."""
        if now_s <= self._due_s:
            return
        for case in list(self.cases):
            if case.open and case.expectation.until_s < now_s:
                if case.expectation.subject is Subject.STATE:
                    yield self._judge_state(case)
                elif case.number in case.expectation.count:
                    one = case.expectation
                    case.meet(one.until_s)
                    if not one.forbidden:
                        yield Met(
                            one.until_s, one, max((at_s for at_s, _ in case.seen), default=0.0) - one.after_s
                        )
                else:
                    yield _miss(case, now_s)
        self._due_s = min((case.expectation.until_s for case in self.cases if case.open), default=math.inf)

    # --- one change ---------------------------------------------------------------------------------------

    def _judge(self, change: str, alarm: SeenAlarm, at_s: float) -> Iterator[Verdict]:
        if alarm.rule in self._unjudged:
            if change == "raised":
                self.beside.append(alarm)
            return
        if change in {"raised", "reraised"} and self._others_forbidden and not self._known(alarm):
            if self.beside and alarm.members is not None:  # a flood, or a fold, of what is not judged
                self.beside.append(alarm)
                return
            self.unexpected.append(alarm)
            yield Unexpected(at_s, alarm)
        for case in list(self.cases):
            one = case.expectation
            wanted = one.subject is Subject.CHANGE and one.is_about(alarm.rule, alarm.device)
            if case.passed or not wanted or not _is(change, one.change):
                continue
            if one.alarm_id is not None and one.alarm_id != alarm.id:
                continue
            if not case.open:
                _remember_late(case, f"{alarm.rule} of {alarm.device} {change}, too late", at_s)
                continue
            if (other := _differs(one, alarm)) is not None:
                _near(case, f"{change} {other}", at_s)
                continue
            for verdict in self._count(case, alarm.id, at_s, f"{alarm.rule} of {alarm.device} {change}"):
                yield verdict
                if isinstance(verdict, Met):
                    self._expect_its_end(one, alarm, at_s)

    def _count(self, case: Case, subject: str, at_s: float, what: str) -> Iterator[Met | Missed]:
        one = case.expectation
        if at_s < one.after_s or at_s > one.until_s:
            _near(case, f"{what}, {'before' if at_s < one.after_s else 'too late'}", at_s)
            return
        if one.earliest_s is not None and at_s < one.earliest_s:
            case.why = f"{what} at {write_moment(at_s)}, too early"
            yield _miss(case, at_s)
            return
        case.seen.append((at_s, subject))
        if one.count.most is not None and case.number > one.count.most:
            case.why = f"{what} at {write_moment(at_s)}" + (
                f", {case.number} by now" if one.count.most else ""
            )
            yield _miss(case, at_s)
        elif one.count.most is None and case.number >= one.count.least:
            case.meet(at_s)
            yield Met(at_s, one, at_s - one.after_s)

    def _expect_its_end(self, one: Expectation, alarm: SeenAlarm, at_s: float) -> None:
        if one.clears_within_s is not None:
            end = replace(
                one,
                device=alarm.device,
                change="cleared",
                after_s=at_s,
                until_s=at_s + one.clears_within_s,
                earliest_s=None,
                clears_within_s=None,
                severity=None,
                occurrences=None,
                alarm_id=alarm.id,
            )
            self.cases.append(Case(end))
            self._due_s = min(self._due_s, end.until_s)

    def _known(self, alarm: SeenAlarm) -> bool:
        """Whether it is expected, or allowed; one that names several together, as these are."""
        together = alarm.members is not None
        return any(
            case.expectation.subject is not Subject.ORDER
            and not case.expectation.forbidden
            and (
                case.expectation.is_about(alarm.rule, alarm.device)
                or (together and case.expectation.names(alarm.rule))
            )
            for case in self.cases
        ) or any(
            fnmatchcase(alarm.rule, one.alarm)
            and (together or one.devices is None or alarm.device in one.devices)
            for one in self._allowed
        )

    def _judge_state(self, case: Case) -> Met | Missed:
        one = case.expectation
        standing = [
            alarm
            for alarm in self._board.values()
            if one.is_about(alarm.rule, alarm.device)
            and alarm.state != "normal"
            and alarm.rule not in self._unjudged
        ]
        if (one.change == "absent" and not standing) or any(
            one.change in {"standing", alarm.state} and _differs(one, alarm) is None for alarm in standing
        ):
            case.meet(one.until_s)
            return Met(one.until_s, one, 0.0)
        case.why = "; ".join(
            f"{alarm.rule} of {alarm.device} is {_shown(alarm)}" for alarm in standing[:NEAR_MOST]
        )
        case.why = case.why or "nothing of it stands"
        return _miss(case, one.until_s)


def _shown(alarm: SeenAlarm) -> str:
    return f"{alarm.state}, {alarm.severity}, {alarm.occurrences}×"


def _miss(case: Case, at_s: float) -> Missed:
    case.open, case.at_s = False, min(at_s, case.expectation.until_s)
    if not case.why:
        case.why = "; ".join(case.near)
        if case.number and case.expectation.count.least > 1:
            case.why = f"{case.number} came" + (f"; {case.why}" if case.why else "")
    return Missed(case.at_s, case.expectation, case.why)


def _remember_late(case: Case, what: str, at_s: float) -> None:
    """It has been missed by now; who reads the report wants to know when it came."""
    if not case.expectation.forbidden and not case.seen and not case.why:
        _near(case, what, at_s)
        case.why = case.near[-1]


def _near(case: Case, what: str, at_s: float) -> None:
    if len(case.near) < NEAR_MOST:
        case.near.append(f"{what} at {write_moment(at_s)}")


def _is(change: str, wanted: str) -> bool:
    """Whether a change is one that is waited for."""
    match wanted:
        case "raised":
            return change in {"raised", "reraised"}
        case "changed":
            return change in {"changed", "cancelled", "escalated"}
    return change == wanted


def _differs(one: Expectation, alarm: SeenAlarm) -> str | None:
    """What of an alarm is not as it is expected."""
    if one.severity is not None and one.severity != alarm.severity:
        return f"with severity {alarm.severity}"
    if one.occurrences is not None and alarm.occurrences not in one.occurrences:
        return f"for the {alarm.occurrences}. time"
    if one.late is not None and one.late is not alarm.late:
        return "late" if alarm.late else "not late"
    if one.drill is not None and one.drill is not alarm.drill:
        return "as a drill" if alarm.drill else "not as a drill"
    return None
