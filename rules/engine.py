"""The engine: a deterministic fold, ``(state, input, now) -> decision``, with the state changed in place.

Before an input at ``now`` every deadline that is due is taken in the order (deadline, key), with the deadline
as its time. So a tick is an input without a message, nothing depends on when the engine was called, and
replaying the journal gives the same decisions with the same alarm ids.

While the gateway catches up after a stop, deadlines are held until what waited in the broker has been heard,
and judged by the times of the devices (`rules.backlog`). What needs no delay is raised at once, always.

One engine serves live traffic, rule examples, recovery and backtests. It knows no kind by name.
"""

from collections.abc import Container, Iterable
from heapq import heappop, heappush

from devices.kinds import KINDS, Kind
from devices.readings import Channel, Flag, Reading, Scalar, parts_of
from rules import course
from rules.alarms import Alarm, alarm_key
from rules.annunciation import DEADLINES as ANNUNCIATION
from rules.around import AROUND, Changed, Surroundings
from rules.backlog import began_at, had_run_out, time_told, was_missed
from rules.board import Board
from rules.deadlines import LIMITED, WATCH, derive, key_of, push, push_lost, push_silences
from rules.decisions import (
    NOTHING,
    Acknowledge,
    CatchingUp,
    ClockStepped,
    ClockUntrusted,
    Close,
    Decision,
    Input,
    Instruction,
    Listening,
    Order,
)
from rules.definitions import Points, Rule, RuleSet
from rules.evidence import keep_times
from rules.facts import adopt, learn_of_gateway
from rules.instructions import instruct
from rules.lateness import judge_past
from rules.limits import limit
from rules.meeting import meet
from rules.moments import at_device, at_gateway, is_overtaken, tell_time
from rules.places import Neighbourhood, PlaceOf
from rules.plans import Plan, Shape, is_over, names_of, plan_of, truth_of
from rules.rates import measure_rates
from rules.state import Deadline, Device, Ongoing, State
from rules.steps import shift
from rules.succession import retire
from rules.suppression import causes_first
from rules.tracks import LOST, Told, expire, hear, move, release, show
from rules.watches import fade, give_up, grow, grown, hear_terms, is_calm, look_anew, put_off, watch
from rules.withholding import earliest, is_withheld, look_again, opens

TRACKS_MOST = 64
"""Conditions of one device that may be under way at once: a camera that ends no track must not fill the board."""

_RETAINED = Flag.RETAINED
_AT_ONCE = (*ANNUNCIATION, AROUND)
"""Deadlines that are not held: nothing that may still wait in the broker makes them untrue."""
_TIMED = (Channel.TELEMETRY, Channel.EVENT)


class Engine:
    """Rules applied to what devices say.

    ``place_of`` gives the place of a device for an alarm's text, ``around`` who stands at the same places.
    Beyond ``unregistered_max`` devices that nobody registered, only smoke and events are evaluated.
    """

    def __init__(
        self,
        rules: RuleSet,
        *,
        site: str,
        node: str,
        place_of: PlaceOf | None = None,
        around: Neighbourhood | None = None,
        unregistered_max: int = 20_000,
    ) -> None:
        self.rules = rules
        self._unregistered_max = unregistered_max
        self._by_id = {rule.id: rule for rule in rules.rules}
        neighbours, here = around or Neighbourhood(), place_of or (lambda _address: {})
        self._board = Board(site, node, here, self._by_id, rules.calendar, neighbours)
        self._around = Surroundings(rules.rules, neighbours)
        self._overtaken = False
        """The message under way is a late event."""
        self._plans = {name: plan_of(kind, causes_first(rules.of_kind(name))) for name, kind in KINDS.items()}

    def new_state(self) -> State:
        """The state before the first message, listening."""
        return State(listening_since=0)

    def step(self, state: State, given: Input, now: int) -> Decision:
        """Take one input at ``now`` (Unix ms; never runs backwards). Returns what must follow."""
        if now < state.now:  # noqa: PLR1730 - `max` costs a call
            now = state.now
        board = self._board
        if state.deadlines and state.deadlines[0][0] <= now:
            self._take_due(state, now)
        state.now = now
        if type(given) is Reading:
            self._hear(state, given, now)
        elif isinstance(given, Acknowledge):
            board.acknowledge(state, given, now)
        elif isinstance(given, Close):
            self._close(state, given, now)
        elif isinstance(given, Instruction):
            self._instruct(state, given, now)
            return board.decide()  # an order comes without a change
        elif isinstance(given, Listening):
            self._listen(state, given)
        elif isinstance(given, CatchingUp):
            self._catch_up(state, given)
            board.annunciation.settle(state)
            return board.decide()  # orders may come without a change
        elif isinstance(given, ClockStepped):
            self._set_clock(state, given)
        elif isinstance(given, ClockUntrusted) and state.provisional_since is None:
            state.provisional_since = now
            look_again(state, self._by_id, self.rules.calendar)
        if not board.changes:
            return board.decide() if board.orders else NOTHING
        board.annunciation.settle(state)
        return board.decide()

    def tick(self, state: State, now: int) -> Decision:
        """Take every deadline up to ``now``."""
        now = max(now, state.now)
        self._take_due(state, now)
        state.now = now
        board = self._board
        return board.decide() if board.changes or board.orders else NOTHING

    @staticmethod
    def next_deadline(state: State) -> int | None:
        """When `tick` has something to do at the earliest (Unix ms)."""
        return state.deadlines[0][0] if state.deadlines else None

    def points_of(self, device: Device) -> dict[str, Scalar]:
        """What is known of a device, for people: what grows is as of its last message, not as last looked at."""
        return grown(device, self._plans[device.kind])

    # What a device says

    def _hear(self, state: State, reading: Reading, now: int) -> None:
        address = reading.address
        device = state.devices.get(address)
        if device is None:
            device = meet(state, reading, self._kind_of(reading), self._unregistered_max)
            if device is None:
                return
        device.changed = True
        plan = self._plans[device.kind]
        values, flags, channel = reading.values, reading.flags, reading.channel
        device.flags = flags & ~_RETAINED
        if channel is Channel.STATUS:
            device.online = values["state"] == "online"
        if flags & _RETAINED or (channel is Channel.STATUS and not device.online):
            return  # old news, or the broker speaking for a device that is gone
        around: list[Changed] = []
        if not device.last_seen:
            push_silences(state, device, plan.silences, now)
            around += self._around.meet(state, device)
        late = channel in _TIMED and is_overtaken(device, reading)
        catches_up = state.catching_up and not late
        moment = self._take_run_out(state, device, plan, reading, now) if catches_up else now
        device.last_seen = now
        if device.silences:
            self._end_silence(state, device, plan, now)
        if late:
            self._hear_late(state, device, plan, reading, now)
            return
        around += self._take_in(state, device, plan, reading, moment, now)
        if around:
            self._look(state, around, now)

    def _take_in(
        self, state: State, device: Device, plan: Plan, reading: Reading, moment: int, now: int
    ) -> list[Changed]:
        """What a device has said, in its turn; gives what that changes for those that look at it."""
        values, channel, around = reading.values, reading.channel, list[Changed]()
        waited = state.catching_up and plan.kind.on_wire
        said_at = tell_time(device, reading, waited=waited) if channel in _TIMED else now
        shape = plan.shape_of(values)
        keep_times(device, shape.names)
        device.source_time = reading.source_time
        if channel is Channel.TELEMETRY:
            points = device.points
            points.update(values)
            if device.incidents:
                self._follow_car(state, device, plan, values, moment, now)
            if plan.derives:
                self._derive_points(state, device, plan, shape, reading, moment, said_at)
            if device.kind in self._around.watched:
                around = self._around.notice(state, device, values, points, moment)
            moved = bool(plan.watched) and self._is_moved(state, device, plan, now)
            if moved:
                grow(device, plan, now)
            if device.ongoing or plan.can_hold(points):
                if not moved:
                    grow(device, plan, now)
                self._judge_points(state, device, plan, shape, now)
                moved = True
            if moved:
                watch(state, device, plan, now)
        elif channel is Channel.EVENT:
            around = self._around.notice(state, device, values, {**device.points, **values}, moment)
            hear_terms(device, plan, shape, reading, said_at)
            grow(device, plan, now)
            if shape.hearing:
                self._judge_points(state, device, plan, shape, now)
            self._hear_event(state, device, plan, values, moment, now)
            watch(state, device, plan, now)
        return around

    def _is_moved(self, state: State, device: Device, plan: Plan, now: int) -> bool:
        """Whether what changes without a message must be looked at: nearly always nothing has crossed a bound."""
        if device.ongoing or state.catching_up:
            return True
        return bool(plan.growing) and not is_calm(device, plan, now)

    def _hear_late(self, state: State, device: Device, plan: Plan, reading: Reading, now: int) -> None:
        """What a device said before something that was heard already."""
        if reading.channel is Channel.TELEMETRY:
            judge_past(self._board, state, device, plan, reading, now)
            return
        device.source_time, newest = reading.source_time, device.source_time
        for ongoing in list(device.ongoing.values()):
            lasted = reading.source_time - (ongoing.since or reading.source_time)
            if ongoing.fields is not None and ongoing.due is not None:
                rule = plan.rules[ongoing.rule]
                if lasted >= rule.for_ms + ongoing.wait:
                    self._run_out(state, device, rule, ongoing, late=True)
        self._overtaken = True
        try:
            self._hear_event(state, device, plan, reading.values, now, now)
        finally:
            self._overtaken = False
            device.source_time = newest

    def _kind_of(self, reading: Reading) -> Kind:
        return self._plans[parts_of(reading.address)[1]].kind

    def _derive_points(
        self,
        state: State,
        device: Device,
        plan: Plan,
        shape: Shape,
        reading: Reading,
        moment: int,
        said_at: int,
    ) -> None:
        """What follows from a message's points: rates, limited points, terms."""
        if plan.rates:
            measure_rates(device, plan.rates, reading, waited=state.catching_up)
        if plan.limited:
            limit(state, device, plan.limited, reading.values, moment)
        if plan.terms:
            hear_terms(device, plan, shape, reading, said_at)

    # Conditions

    def _judge_points(self, state: State, device: Device, plan: Plan, said: Shape, now: int) -> None:
        """Move on the conditions that what was ``said`` touches."""
        points, ongoing = device.points, device.ongoing
        for rule, evaluate in said.touched:
            truth = evaluate(points)
            if truth or ongoing:
                self._judge(state, device, rule, truth, points, None, now)
        if ongoing and plan.cleared_by_event:
            self._clear_events_by_points(state, device, plan, now)

    def _hear_event(
        self, state: State, device: Device, plan: Plan, fields: dict[str, Scalar], moment: int, now: int
    ) -> None:
        following = plan.kind.following
        if following is None:
            self._judge_event(state, device, plan, fields, now)
            return
        if device.incidents:
            self._follow(state, device, plan, expire(device, following, moment), now)
        self._follow(state, device, plan, hear(device, following, fields, moment), now)

    def _follow_car(
        self, state: State, device: Device, plan: Plan, values: dict[str, Scalar], moment: int, now: int
    ) -> None:
        following = plan.kind.following
        if following is not None:
            self._follow(state, device, plan, expire(device, following, moment), now)
            self._follow(state, device, plan, move(device, following, values, moment), now)

    def _judge_event(
        self, state: State, device: Device, plan: Plan, fields: dict[str, Scalar], now: int
    ) -> None:
        view = {**device.points, **fields}
        for rule in plan.events:
            self._judge(state, device, rule, truth_of(rule, view), view, fields, now)

    def _follow(self, state: State, device: Device, plan: Plan, told: Told, now: int) -> None:
        """Judge what became of the incidents of a camera."""
        following = plan.kind.following
        if following is None:
            return
        before = device.points.get(following.point)
        for fields in told.events:
            self._judge_event(state, device, plan, fields, now)
        self._board.settle(state, device, plan.events, told, now)
        show(device, following)
        push_lost(state, device, following)
        if device.points[following.point] != before:
            shown = {following.point: device.points[following.point]}
            self._judge_points(state, device, plan, plan.shape_of(shown), now)

    def _judge(
        self,
        state: State,
        device: Device,
        rule: Rule,
        truth: bool | None,
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
                self._begin(state, device, rule, condition, track, fields, now)
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

    def _begin(
        self,
        state: State,
        device: Device,
        rule: Rule,
        condition: str,
        track: str | None,
        fields: dict[str, Scalar] | None,
        now: int,
    ) -> None:
        since = self._began(state, device, now)
        ongoing = device.ongoing[condition] = Ongoing(rule.id, track, None, fields, since)
        if rule.for_ms:
            ongoing.due = now + rule.for_ms
            if self._behind(state, device):  # of unknown age: it may have lasted long enough already
                ongoing.due = now if since is None else min(since, now) + rule.for_ms
            push(state, device, ongoing, ongoing.due)
        elif not is_withheld(state, device, rule, ongoing, now, self.rules.calendar):
            late = self._is_late(state, device, since)
            self._board.raise_(state, device, rule, ongoing, now, since, late=late)

    def _occur(self, state: State, device: Device, rule: Rule, ongoing: Ongoing, now: int) -> None:
        """The event of an alarm that stands has come again."""
        if opens(state, rule, now, self.rules.calendar) == now:
            since = self._began(state, device, now)
            late = self._is_late(state, device, _time_of_last(device))
            self._board.raise_(state, device, rule, ongoing, now, since, late=late)

    def _end_or_hold(
        self,
        state: State,
        device: Device,
        rule: Rule,
        ongoing: Ongoing,
        truth: bool | None,
        view: Points,
        now: int,
    ) -> None:
        """What a condition that began has come to, where it does not hold."""
        since = self._began(state, device, now)
        if is_over(rule, truth, view, raised=ongoing.due is None):
            course.end(state, self._board, device, rule, ongoing, now, since)
        else:
            course.hold(rule, ongoing, truth, view, now, since)

    def _began(self, state: State, device: Device, now: int) -> int | None:
        return began_at(device, now, behind=self._behind(state, device))

    def _clear_events_by_points(self, state: State, device: Device, plan: Plan, now: int) -> None:
        """Event rules whose ``clear`` looks at points only."""
        for ongoing in list(device.ongoing.values()):
            if ongoing.rule in plan.cleared_by_event:
                rule = plan.rules[ongoing.rule]
                self._end_or_hold(state, device, rule, ongoing, None, device.points, now)

    def _look(self, state: State, changed: Iterable[Changed], now: int) -> None:
        """Judge what looks at other devices, where these have changed."""
        for device, name in changed:
            plan = self._plans[device.kind]
            if not state.catching_up:
                grow(device, plan, now)
            for rule, evaluate in plan.telemetry if device.last_seen else ():
                if name in names_of(rule):
                    device.changed = True
                    self._judge(state, device, rule, evaluate(device.points), device.points, None, now)
            if plan.cleared_by_event and device.ongoing:
                device.changed = True
                self._clear_events_by_points(state, device, plan, now)
            if plan.watched:
                watch(state, device, plan, now)

    # Deadlines

    def _take_due(self, state: State, now: int) -> None:
        deadlines = state.deadlines
        while deadlines and deadlines[0][0] <= now:
            deadline = heappop(deadlines)
            device = state.devices.get(deadline[2])
            if (
                device is not None
                and self._behind(state, device)
                and not deadline[3].startswith(ANNUNCIATION)
            ):
                state.held.append(deadline)
            else:
                self._take(state, deadline)
                self._board.annunciation.settle(state)

    def _take(self, state: State, deadline: Deadline) -> None:
        due, _, address, condition = deadline
        if condition.startswith(ANNUNCIATION):
            self._board.annunciation.take(state, deadline)
            return
        if condition.startswith(AROUND):
            self._look(state, self._around.take(state, deadline), due)
            return
        device = state.devices.get(address)
        if device is None:
            return
        plan = self._plans[device.kind]
        if condition.startswith(LIMITED):
            self._expire_limited(state, device, plan, condition.removeprefix(LIMITED), due)
            return
        if condition.startswith(LOST) and plan.kind.following is not None:
            device.changed = True
            self._follow(state, device, plan, expire(device, plan.kind.following, due), due)
            return
        if condition.startswith(WATCH):
            rule_id = condition.removeprefix(WATCH)
            if device.armed.get(rule_id) != due:
                return
            if not (give_up(state, device, plan, rule_id, due) or put_off(state, device, rule_id, due)):
                self._look_again(state, device, plan, rule_id, due)
            return
        ongoing = device.ongoing.get(condition)
        if ongoing is not None:
            if ongoing.due == due:
                late = self._behind(state, device) and (ongoing.since is None or was_missed(state, due))
                self._run_out(state, device, plan.rules[ongoing.rule], ongoing, late=late)
            elif ongoing.due is None:
                course.take(state, self._board, device, plan.rules[ongoing.rule], ongoing, due)
            return
        rule = plan.rules.get(condition)
        if rule is not None and rule.silent_for_ms is not None:
            self._check_silence(state, device, rule, due)

    def _run_out(self, state: State, device: Device, rule: Rule, ongoing: Ongoing, *, late: bool) -> None:
        """A delay has run out. A late alarm gives its orders when it is known what holds by now."""
        due = ongoing.due or state.now
        device.changed = True
        if is_withheld(state, device, rule, ongoing, due, self.rules.calendar):
            return
        ongoing.due = None
        so_at = None if ongoing.since is None else ongoing.since + rule.for_ms + ongoing.wait
        self._board.raise_(state, device, rule, ongoing, due, so_at, late=late, orders=not late)
        if late:
            state.told_late.add(alarm_key(rule.id, device.address, ongoing.track))

    def _expire_limited(self, state: State, device: Device, plan: Plan, name: str, due: int) -> None:
        since = device.limited.get(name)
        if since is None or since + int(plan.kind.limited[name].limit_s * 1000) != due:
            return
        if not device.points[name]:
            return
        device.changed = True
        device.points[name] = False
        if plan.terms:
            ended = Reading(Channel.TELEMETRY, device.address, {name: False}, due, due)
            hear_terms(device, plan, plan.shape_of(ended.values), ended, at_device(device, due))
            grow(device, plan, due)
        around = self._around.notice(state, device, (name,), device.points, due)
        for rule, evaluate in plan.telemetry:
            self._judge(state, device, rule, evaluate(device.points), device.points, None, due)
        self._look(state, around, due)
        watch(state, device, plan, due)

    def _look_again(self, state: State, device: Device, plan: Plan, rule_id: str, due: int) -> None:
        """A condition may have changed without a message."""
        if device.armed.get(rule_id) != due:
            return
        del device.armed[rule_id]
        device.changed = True
        watched = plan.watched.get(rule_id)
        if watched is None:
            return
        grow(device, plan, due)
        fade(device, watched.fading, due)
        rule = plan.rules[rule_id]
        if rule.when is not None and not rule.when.uses_event:
            self._judge(state, device, rule, rule.when.evaluate(device.points), device.points, None, due)
        else:
            self._clear_events_by_points(state, device, plan, due)
        watch(state, device, plan, due)

    # Catching up

    def _behind(self, state: State, device: Device) -> bool:
        """Whether something that this device said may still wait in the broker."""
        return state.catching_up and self._plans[device.kind].kind.on_wire

    def _is_late(self, state: State, device: Device, moment: int | None) -> bool:
        """Whether it is known that this was so before the gateway heard it."""
        if self._overtaken:
            return True
        return self._behind(state, device) and moment is not None and was_missed(state, moment)

    def _take_run_out(self, state: State, device: Device, plan: Plan, reading: Reading, now: int) -> int:
        """Take what had run out when the device said this; gives the time when it was so, at most ``now``."""
        if reading.channel not in _TIMED or not plan.kind.on_wire:
            return now
        told = time_told(reading.source_time, now, reading.flags)
        if told is None or was_missed(state, told):
            state.waited_at = now
        event = reading.channel is Channel.EVENT
        for name, since in () if event else list(device.limited.items()):
            due = since + int(plan.kind.limited[name].limit_s * 1000)
            if due <= now and (told is None or not since <= told < due):
                self._expire_limited(state, device, plan, name, due)
        if not event:
            until = now if told is None else min(at_gateway(device, told), now)
            while (
                device.armed and (first := min((due, rule) for rule, due in device.armed.items()))[0] <= until
            ):
                self._look_again(state, device, plan, first[1], first[0])
        for ongoing in list(device.ongoing.values()):
            if event != (ongoing.fields is not None) and (event or ongoing.rule not in plan.cleared_by_event):
                continue  # what would end it comes on the other lane
            rule = plan.rules[ongoing.rule]
            if ongoing.due is None:
                course.settle(state, self._board, device, rule, ongoing, now, told)
                continue
            if ongoing.due > now:
                continue
            unsure = told is None or ongoing.since is None
            if unsure and alarm_key(rule.id, device.address, ongoing.track) in state.told_late:
                continue  # a backlog without times tells the same only once
            if had_run_out(ongoing, rule.for_ms + ongoing.wait, told):
                self._run_out(state, device, rule, ongoing, late=unsure or was_missed(state, ongoing.due))
        return now if told is None else min(told, now)

    def _catch_up(self, state: State, given: CatchingUp) -> None:
        """At the end everything held is taken, and late alarms that still hold give their orders."""
        if not given.on and state.catching_up:
            deadlines = state.deadlines
            for deadline in state.held:
                heappush(deadlines, deadline)
            state.held.clear()
            while deadlines and deadlines[0][0] <= state.now:
                self._take(state, heappop(deadlines))
                self._board.annunciation.settle(state)
            for key in sorted(state.told_late):
                state.told_late.discard(key)  # first: what fails here must not fail for ever
                alarm = state.alarms.get(key)
                if alarm is not None and alarm.active and alarm.rule in self._by_id:
                    self._board.order(state, alarm, self._by_id[alarm.rule], state.now)
        state.catching_up = given.on

    # Silence

    def _check_silence(self, state: State, device: Device, rule: Rule, due: int) -> None:
        """Silence counts from the last message, and only while the gateway listens."""
        if state.listening_since is None or rule.silent_for_ms is None:
            return  # armed anew when the gateway listens again
        really = max(device.last_seen, state.listening_since) + rule.silent_for_ms
        if really <= due:
            really = earliest(state, device, rule, due, self.rules.calendar)
        if really > due:
            heappush(state.deadlines, (really, key_of(rule.id, device), device.address, rule.id))
            return
        grow(device, self._plans[device.kind], due)
        ongoing = device.ongoing[rule.id] = Ongoing(rule.id)
        device.silences = (*device.silences, rule.id)
        device.changed = True
        self._board.raise_(state, device, rule, ongoing, due, due)

    def _end_silence(self, state: State, device: Device, plan: Plan, now: int) -> None:
        ended = [rule for rule in plan.silences if rule.id in device.silences]
        device.silences = ()
        for rule in ended:
            if device.ongoing.pop(rule.id, None) is not None:
                self._board.clear(state, device, rule, None, now)
        push_silences(state, device, ended, now)

    def _listen(self, state: State, given: Listening) -> None:
        if given.on == (state.listening_since is not None):
            return
        state.listening_since = state.now if given.on else None
        if given.on:
            self.derive_deadlines(state)

    def _close(self, state: State, given: Close, now: int) -> None:
        alarm = self._board.close(state, given, now)
        if alarm is None:
            return
        device = state.devices.get(alarm.address)
        if device is not None:
            device.changed = True
            condition = alarm.rule if alarm.track is None else f"{alarm.rule}/{alarm.track}"
            device.ongoing.pop(condition, None)

    def _instruct(self, state: State, given: Instruction, now: int) -> None:
        """A person's order; taking one back settles the incidents that it was about."""
        plan = self._plans[parts_of(given.address)[1]]
        device = state.devices.get(given.address) or Device(given.address, plan.kind.name, {})
        told = instruct(state, device, given, self._by_id, now)
        self._board.give(told)
        following = plan.kind.following
        if isinstance(told, Order) and following is not None and given.command == following.release:
            device.changed = True
            self._follow(state, device, plan, release(device), now)

    # The clock

    def _set_clock(self, state: State, given: ClockStepped) -> None:
        """What is under way keeps its remaining time, and nothing is raised; what was provisional is told anew."""
        shift(state, given.by_ms)
        since, state.provisional_since = state.provisional_since, None
        look_again(state, self._by_id, self.rules.calendar)
        if since is not None:
            self._board.correct(state, since, given.by_ms)

    # Recovery

    def derive_deadlines(self, state: State) -> None:
        """Build the heap from the rest of the state."""
        derive(state, self._plans)
        self._board.annunciation.derive(state)
        self._around.derive(state)

    def learn(self, state: State, given: Input) -> None:
        """Take an input of the journal without judging it: only what was last said is kept.

        For replay under a changed rule set, whose decisions would not be the committed ones.
        """
        learn_of_gateway(state, given)
        if not isinstance(given, Reading):
            return
        device = state.devices.get(given.address)
        if device is None:
            device = meet(state, given, self._kind_of(given), self._unregistered_max)
        if device is None:
            return
        device.changed = True
        if given.channel is Channel.STATUS:
            device.online = given.values["state"] == "online"
        elif not given.retained:
            device.last_seen = given.received_at
            if given.channel not in _TIMED or is_overtaken(device, given):
                return
            plan = self._plans[device.kind]
            said_at = tell_time(device, given, waited=state.catching_up)
            shape = plan.shape_of(given.values)
            keep_times(device, shape.names)
            device.source_time = given.source_time
            if given.channel is Channel.TELEMETRY:
                device.points.update(given.values)
                limit(state, device, plan.limited, given.values, given.received_at)
            hear_terms(device, plan, shape, given, said_at)
            grow(device, plan, given.received_at)

    def adopt(self, state: State, standing: Iterable[Alarm]) -> None:
        """Take the committed alarms as facts, whatever replay made of them, and fit the conditions to them."""
        adopt(state, standing, self._by_id)
        self._board.annunciation.index(state)

    def succeed(self, state: State, before: RuleSet, now: int) -> Decision:
        """Take ``state`` over from an engine with the rules ``before`` at ``now``; see `rules.succession`.

        What was due until ``now`` must have been taken.
        """
        changes = retire(state, before, self.rules, self._board, now)
        return self.rejudge(state, now, changes.fresh)

    def rejudge(self, state: State, now: int, among: Container[str] | None = None) -> Decision:
        """Apply changed rules (``among`` them, all without it) to what was last said: running delays begin anew,
        new conditions raise.

        Nothing clears here: a standing alarm waits for the next reading.
        """  # noqa: D205
        state.now = max(now, state.now)
        self._around.refresh(state)
        for device in list(state.devices.values()):
            plan = self._plans[device.kind]
            look_anew(device, plan, state.now)
            for condition, ongoing in list(device.ongoing.items()):
                if ongoing.due is not None and (among is None or ongoing.rule in among):
                    del device.ongoing[condition]
            for rule, evaluate in plan.telemetry:
                if among is not None and rule.id not in among:
                    continue
                if rule.id not in device.ongoing and device.last_seen and evaluate(device.points):
                    self._begin(state, device, rule, rule.id, None, None, state.now)
            watch(state, device, plan, state.now)
        self._board.annunciation.rejudge(state, state.now)
        self._board.annunciation.settle(state)
        self.derive_deadlines(state)
        return self._board.decide()


def _time_of_last(device: Device) -> int | None:
    return time_told(device.source_time, device.last_seen, device.flags)
