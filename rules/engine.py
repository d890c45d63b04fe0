"""The engine: a deterministic fold, ``(state, input, now) -> decision``, with the state changed in place.

Before an input at ``now`` every deadline that is due is taken in the order (deadline, key), with the deadline
as its time. So a tick is an input without a message, nothing depends on when the engine was called, and
replaying the journal gives the same decisions with the same alarm ids.

While the gateway catches up after a stop, deadlines are held until what waited in the broker has been heard,
and judged by the times of the devices (`rules.backlog`). What needs no delay is raised at once, always.

One engine serves live traffic, rule examples, recovery and backtests. It knows no kind by name.
"""

from collections.abc import Container, Iterable

from devices.kinds import KINDS
from devices.kinds.traits import Kind
from devices.readings import Channel, Flag, Reading, Scalar, parts_of
from rules.alarms import Alarm
from rules.annunciation.suppression import causes_first
from rules.board import Board
from rules.cut_short import before
from rules.deadlines import derive, push_silences
from rules.decisions import (
    NOTHING,
    Acknowledge,
    Awaited,
    CatchingUp,
    ClockStepped,
    ClockUntrusted,
    Close,
    Decision,
    Input,
    Instruction,
    Listening,
    Order,
    PresenceUnknown,
)
from rules.definitions import RuleSet
from rules.dues import Dues
from rules.evidence import keep_times
from rules.facts import adopt, forget_presence, learn
from rules.functions.around import Changed, Surroundings
from rules.instructions import instruct
from rules.judge import Judge
from rules.lateness import judge_past, take_overtaken
from rules.limits import limit
from rules.meeting import meet
from rules.moments import TIMED, go_on, is_overtaken, tell_time
from rules.places import Neighbourhood, PlaceOf
from rules.plans import Plan, Shape, plan_of
from rules.rates import measure_rates
from rules.state import Device, State
from rules.steps import shift
from rules.succession import rejudge, retire
from rules.tracks import release
from rules.watches import grow, grown, hear_terms, is_calm, watch
from rules.withholding import look_again

_RETAINED = Flag.RETAINED
_TELEMETRY, _EVENT, _STATUS = Channel.TELEMETRY, Channel.EVENT, Channel.STATUS


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
        self._plans = {name: plan_of(kind, causes_first(rules.of_kind(name))) for name, kind in KINDS.items()}
        self._judge = Judge(self._board, self._plans)
        self._dues = Dues(self._judge, self._board, self._around, self._plans, self._by_id)

    def new_state(self) -> State:
        """The state before the first message, listening."""
        return State(listening_since=0)

    def step(self, state: State, given: Input, now: int) -> Decision:
        """Take one input at ``now`` (Unix ms; never runs backwards). Returns what must follow."""
        if now < state.now:  # noqa: PLR1730 - `max` costs a call
            now = state.now
        board = self._board
        if state.deadlines and state.deadlines[0][0] <= now:
            self._dues.take_due(state, now)
        state.now = now
        if type(given) is Reading:
            self._hear(state, given, now)
            if state.told_late and not state.catching_up:
                self._dues.order_late(state)
        elif isinstance(given, Acknowledge):
            board.acknowledge(state, given, now)
        elif isinstance(given, Close):
            self._close(state, given, now)
        elif isinstance(given, Instruction):
            self._instruct(state, given, now)
            return board.decide()  # an order comes without a change
        elif isinstance(given, Listening):
            self._listen(state, given)
        elif isinstance(given, Awaited):
            self._dues.wait(state, given)
        elif isinstance(given, CatchingUp):
            self._dues.catch_up(state, given)
            board.annunciation.settle(state)
            return board.decide()  # orders may come without a change
        elif isinstance(given, ClockStepped):
            self._set_clock(state, given)
        elif isinstance(given, PresenceUnknown):
            forget_presence(state)
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
        self._dues.take_due(state, now)
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
        plan, channel = self._plans[device.kind], reading.channel
        device.flags = reading.flags & ~_RETAINED
        if channel is _STATUS:
            device.online = reading.values["state"] == "online"
        if reading.flags & _RETAINED or (channel is _STATUS and not device.online):
            return  # old news, or the broker speaking for a device that is gone
        around: Iterable[Changed] = ()
        if not device.last_seen:
            push_silences(state, device, plan.silences, now)
            around = self._around.meet(state, device)
        said_at, moment, late = None, now, False
        if channel in TIMED:
            said_at = None if state.catching_up else go_on(device.clock, reading)
            late = said_at is None and is_overtaken(device, reading)
            if state.catching_up and not late:
                moment = self._dues.take_run_out(state, device, plan, reading, now)
        known = before(device, reading, plan.rules) if device.ongoing else None
        device.last_seen = now
        if device.silences:
            self._dues.end_silence(state, device, plan, now)
        if late:
            self._hear_late(state, device, plan, reading, now)
            return
        self._judge.before = known
        try:
            more = self._take_in(state, device, plan, reading, said_at, moment, now)
        finally:
            self._judge.before = None
        if around or more:
            self._dues.look(state, (*around, *more), now)

    def _take_in(
        self,
        state: State,
        device: Device,
        plan: Plan,
        reading: Reading,
        said_at: int | None,
        moment: int,
        now: int,
    ) -> Iterable[Changed]:
        """What a device has said, in its turn; gives what that changes for those that look at it."""
        values, points = reading.values, device.points
        taken = values
        if said_at is None:
            taken = take_overtaken(device, plan, reading)
            said_at = self._said_at(state, device, plan, reading, now)
        shape = plan.shapes.get(tuple(values)) or plan.shape_of(values)
        if shape.names is not device.shape:
            keep_times(device, shape.names)
        device.source_time = reading.source_time
        if reading.channel is not _TELEMETRY:
            return self._take_event(state, device, plan, shape, reading, said_at, moment, now)
        points.update(taken)
        if plan.kind.following is not None and device.incidents:
            self._judge.follow_car(state, device, plan, values, moment, now)
        if shape.rates:
            measure_rates(device, shape.rates, reading, waited=state.catching_up)
        if shape.limited:
            limit(state, device, shape.limited, values, moment)
        if shape.hearing or shape.fading:
            hear_terms(device, plan, shape, reading, said_at)
        around: Iterable[Changed] = ()
        seen_by_others = self._around.guards.get(device.kind)
        if seen_by_others is not None and (device.marks or seen_by_others(points)):
            around = self._around.notice(state, device, values, points, moment)
        moved = plan.watched and (device.ongoing or state.catching_up or not is_calm(device, plan, now))
        if moved:
            grow(state, device, plan, now)
        if device.ongoing or plan.can_hold(points):
            if not moved:
                grow(state, device, plan, now)
            self._judge.judge_points(state, device, plan, shape, now)
            moved = True
        if moved:
            watch(state, device, plan, now)
        return around

    def _take_event(
        self,
        state: State,
        device: Device,
        plan: Plan,
        shape: Shape,
        reading: Reading,
        said_at: int,
        moment: int,
        now: int,
    ) -> Iterable[Changed]:
        if reading.channel is not _EVENT:
            return ()
        values = reading.values
        around = self._around.notice(state, device, values, {**device.points, **values}, moment)
        hear_terms(device, plan, shape, reading, said_at)
        grow(state, device, plan, now)
        if shape.hearing:
            self._judge.judge_points(state, device, plan, shape, now)
        self._judge.hear_event(state, device, plan, values, moment, now)
        watch(state, device, plan, now)
        return around

    @staticmethod
    def _said_at(state: State, device: Device, plan: Plan, reading: Reading, now: int) -> int:
        """The moment of a message that is not like nearly every other."""
        if reading.channel not in TIMED:
            return now
        return tell_time(device, reading, waited=state.catching_up and plan.kind.on_wire)

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
                    self._judge.run_out(state, device, rule, ongoing, late=True, at=now)
        self._judge.overtaken = True
        try:
            self._judge.hear_event(state, device, plan, reading.values, now, now)
        finally:
            self._judge.overtaken = False
            device.source_time = newest

    def _kind_of(self, reading: Reading) -> Kind:
        return self._plans[parts_of(reading.address)[1]].kind

    # Of the gateway

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
            device.ongoing.pop(alarm.condition, None)

    def _instruct(self, state: State, given: Instruction, now: int) -> None:
        """A person's order; taking one back settles the incidents that it was about."""
        plan = self._plans[parts_of(given.address)[1]]
        device = state.devices.get(given.address) or Device(given.address, plan.kind.name, {})
        told = instruct(state, device, given, self._by_id, now)
        self._board.give(told)
        following = plan.kind.following
        if isinstance(told, Order) and following is not None and given.command == following.release:
            device.changed = True
            self._judge.follow(state, device, plan, release(device), now)

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
        learn(state, given, self._plans, self._unregistered_max)

    def adopt(self, state: State, standing: Iterable[Alarm], departed: Iterable[Alarm] = ()) -> None:
        """Take the committed alarms as facts, whatever replay made of them, and fit the conditions to them."""
        adopt(state, standing, self._by_id, departed)
        self._board.annunciation.index(state)

    def end(self, state: State, alarm: Alarm, now: int) -> Decision:
        """End the condition of an alarm that was adopted; what ended it was heard before."""
        device = state.devices[alarm.address]
        rule = self._by_id[alarm.rule]
        device.ongoing.pop(alarm.condition, None)
        device.changed = True
        state.now = max(state.now, now)
        self._board.clear(state, device, rule, alarm.track, state.now)
        self._board.annunciation.settle(state)
        return self._board.decide()

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
        rejudge(state, self._plans, self._judge, self._around, now, among)
        self._board.annunciation.rejudge(state, state.now)
        self._board.annunciation.settle(state)
        self.derive_deadlines(state)
        return self._board.decide()
