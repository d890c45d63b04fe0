"""Conditions moved on: what a truth makes of them, from the delay that begins to the alarm that ends.

The engine says what is so of a device, `Judge` what follows for each of its conditions: it begins, goes on, has held
for long enough, comes again or is over. What becomes of the alarm is the board's (`rules.board`).
"""

from collections.abc import Mapping

from devices.readings import Scalar
from rules import course
from rules.alarms import alarm_key
from rules.backlog import WAITED_MOST_MS, began_at, time_told, was_missed
from rules.board import Board
from rules.cut_short import Before, as_before, has_run_out
from rules.deadlines import push, push_lost
from rules.definitions import Points, Rule, Truth
from rules.plans import Plan, Shape, is_over, truth_of
from rules.state import Device, Ongoing, State
from rules.tracks import Told, expire, hear, move, show
from rules.withholding import is_withheld, opens

TRACKS_MOST = 64
"""Conditions of one device that may be under way at once: a camera that ends no track must not fill the board."""


class Judge:
    """Truths in, what they make of conditions and the board out; ``plans`` by kind."""

    def __init__(self, board: Board, plans: Mapping[str, Plan]) -> None:
        self._board = board
        self._plans = plans
        self.overtaken = False
        """The message under way is a late event."""
        self.before: Before | None = None
        """Of the device whose message is under way, if this may cut short a delay that has run out."""

    def judge_points(self, state: State, device: Device, plan: Plan, said: Shape, now: int) -> None:
        """Move on the conditions that what was ``said`` touches."""
        points, ongoing = device.points, device.ongoing
        for rule, evaluate in said.touched:
            truth = evaluate(points)
            if truth or rule.id in ongoing:
                self.judge(state, device, rule, truth, points, None, now)
        if ongoing and plan.cleared_by_event:
            self.end_events(state, device, plan, now)

    def judge_event(
        self, state: State, device: Device, plan: Plan, fields: dict[str, Scalar], now: int
    ) -> None:
        """Move on the conditions on events, for one event."""
        view = {**device.points, **fields}
        for rule in plan.events:
            self.judge(state, device, rule, truth_of(rule, view), view, fields, now)

    def hear_event(
        self, state: State, device: Device, plan: Plan, fields: dict[str, Scalar], moment: int, now: int
    ) -> None:
        """Take an event at ``moment`` (Unix ms, when it was so); a camera's is judged as its incident."""
        following = plan.kind.following
        if following is None:
            self.judge_event(state, device, plan, fields, now)
            return
        if device.incidents:
            self.follow(state, device, plan, expire(device, following, moment), now)
        self.follow(state, device, plan, hear(device, following, fields, moment), now)

    def follow_car(
        self, state: State, device: Device, plan: Plan, values: dict[str, Scalar], moment: int, now: int
    ) -> None:
        """Take what a lift's telemetry makes of the incidents that its camera follows."""
        following = plan.kind.following
        if following is not None:
            self.follow(state, device, plan, expire(device, following, moment), now)
            self.follow(state, device, plan, move(device, following, values, moment), now)

    def follow(self, state: State, device: Device, plan: Plan, told: Told, now: int) -> None:
        """Judge what became of the incidents of a camera."""
        following = plan.kind.following
        if following is None:
            return
        before = device.points.get(following.point)
        for fields in told.events:
            self.judge_event(state, device, plan, fields, now)
        self._board.settle(state, device, plan.events, told, now)
        show(device, following)
        push_lost(state, device, following)
        if device.points[following.point] != before:
            shown = {following.point: device.points[following.point]}
            self.judge_points(state, device, plan, plan.shape_of(shown), now)

    def judge(
        self,
        state: State,
        device: Device,
        rule: Rule,
        truth: Truth,
        view: Points,
        fields: dict[str, Scalar] | None,
        now: int,
    ) -> None:
        """Move one condition of one device on. ``fields`` is the event, for an event rule."""
        track = str(fields["track"]) if rule.per_track and fields is not None else None
        condition = rule.id if track is None else f"{rule.id}/{track}"
        ongoing = device.ongoing.get(condition)
        if ongoing is None:
            if truth and track is not None and len(device.ongoing) >= TRACKS_MOST:
                state.tracks_refused += 1
            elif truth:
                self.begin(state, device, rule, condition, track, fields, now)
        elif truth:
            if ongoing.ends is not None:
                course.hold(rule, ongoing, truth, view, now, self._began(state, device, now))
            if fields is not None:
                ongoing.fields = fields
                if ongoing.due is None and track is None:
                    self._occur(state, device, rule, ongoing, now)
        else:
            self._end_or_hold(state, device, rule, ongoing, truth, view, now)
        if fields is not None and rule.cancel is not None and rule.cancel.evaluate(view):
            self._board.cancel(state, device, rule, track, now)

    def begin(
        self,
        state: State,
        device: Device,
        rule: Rule,
        condition: str,
        track: str | None,
        fields: dict[str, Scalar] | None,
        now: int,
    ) -> None:
        """A condition begins to hold: at once an alarm, or a delay."""
        since = self._began(state, device, now)
        told = device.last_seen == now and _time_of_last(device) is not None
        ongoing = device.ongoing[condition] = Ongoing(rule.id, track, None, fields, since, told=told)
        if rule.for_ms:
            ongoing.due = now + rule.for_ms
            if self.is_behind(state, device):  # of unknown age: it may have lasted long enough already
                began = now - min(rule.for_ms, WAITED_MOST_MS) if since is None else min(since, now)
                ongoing.due = began + rule.for_ms
            push(state, device, ongoing, ongoing.due)
        elif not is_withheld(state, device, rule, ongoing, now, self._board.calendar):
            late = self._is_late(state, device, since)
            self._board.raise_(state, device, rule, ongoing, now, since, late=late)

    def _occur(self, state: State, device: Device, rule: Rule, ongoing: Ongoing, now: int) -> None:
        """The event of an alarm that stands has come again."""
        if opens(state, rule, now, self._board.calendar) == now:
            since = self._began(state, device, now)
            late = self._is_late(state, device, _time_of_last(device))
            self._board.raise_(state, device, rule, ongoing, now, since, late=late)

    def _end_or_hold(
        self,
        state: State,
        device: Device,
        rule: Rule,
        ongoing: Ongoing,
        truth: Truth,
        view: Points,
        now: int,
    ) -> None:
        """What a condition that began has come to, where it does not hold."""
        since, before = self._began(state, device, now), self.before
        if (
            before is not None
            and has_run_out(ongoing, rule, before.told)
            and is_over(rule, truth, view, raised=False)
        ):
            with as_before(device, before):
                self.run_out(state, device, rule, ongoing, late=True, at=now)
        if is_over(rule, truth, view, raised=ongoing.due is None):
            course.end(state, self._board, device, rule, ongoing, now, since)
        else:
            course.hold(rule, ongoing, truth, view, now, since)

    def end_events(self, state: State, device: Device, plan: Plan, now: int) -> None:
        """Event rules whose ``clear`` looks at points only."""
        for ongoing in list(device.ongoing.values()):
            if ongoing.rule in plan.cleared_by_event:
                rule = plan.rules[ongoing.rule]
                self._end_or_hold(state, device, rule, ongoing, None, device.points, now)

    def run_out(
        self,
        state: State,
        device: Device,
        rule: Rule,
        ongoing: Ongoing,
        *,
        late: bool,
        at: int | None = None,
    ) -> None:
        """A delay has run out, when it was due or ``at``. A late alarm gives its orders when it is known what holds
        by now (`rules.dues.Dues.order_late`).
        """  # noqa: D205
        due = ongoing.due or state.now
        if at is not None:
            due = min(due, at)
        device.changed = True
        if is_withheld(state, device, rule, ongoing, due, self._board.calendar):
            return
        ongoing.due = None
        so_at = None if ongoing.since is None else ongoing.since + rule.for_ms + ongoing.wait
        self._board.raise_(state, device, rule, ongoing, due, so_at, late=late, orders=not late)
        if late:
            state.told_late.add(alarm_key(rule.id, device.address, ongoing.track))

    def _began(self, state: State, device: Device, now: int) -> int | None:
        return began_at(device, now, behind=self.is_behind(state, device))

    def _is_late(self, state: State, device: Device, moment: int | None) -> bool:
        """Whether it is known that this was so before the gateway heard it."""
        if self.overtaken:
            return True
        return self.is_behind(state, device) and moment is not None and was_missed(state, moment)

    def is_behind(self, state: State, device: Device) -> bool:
        """Whether something that this device said may still wait in the broker."""
        return state.catching_up and self._plans[device.kind].kind.on_wire


def _time_of_last(device: Device) -> int | None:
    return time_told(device.source_time, device.last_seen, device.flags)
