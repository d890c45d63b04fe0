"""The board: how alarms come, change and leave, and the decision that tells of it.

Every change here gives the alarm a higher version. What stands is in `State.alarms`; an alarm that has
become normal is told once more and is gone.
"""

from collections.abc import Callable, Iterable, Mapping

from msgspec.structs import replace

from devices.kinds import KINDS
from devices.readings import Address, Scalar, parts_of
from rules.alarms import Alarm, AlarmChange, Outcome, Transition, alarm_key
from rules.decisions import Acknowledge, Close, Decision, Order, Withheld
from rules.definitions import Action, Rule
from rules.ids import ulid
from rules.instructions import EXPIRES_MS
from rules.state import Device, Ongoing, State
from rules.steps import corrected
from rules.tracks import Told, outcome_of

RATE_DIGITS = 3
"""Of a rate of change, as people see it."""


class Board:
    """Collects the changes of one step; `decide` hands them out."""

    def __init__(
        self,
        site: str,
        node: str,
        place_of: Callable[[Address], Mapping[str, str]],
        rules: Mapping[str, Rule],
    ) -> None:
        self._site = site
        self._node = node
        self._place_of = place_of
        self._rules = rules
        self.changes: list[AlarmChange] = []
        """Of the step under way."""
        self.orders: list[Order] = []
        """Of the step under way; they may come without a change."""
        self._withheld: list[Withheld] = []

    def decide(self) -> Decision:
        """What must follow, and begin anew."""
        decision = Decision(tuple(self.changes), tuple(self.orders), tuple(self._withheld))
        self.changes.clear()
        self.orders.clear()
        self._withheld.clear()
        return decision

    def raise_(
        self,
        state: State,
        device: Device,
        rule: Rule,
        ongoing: Ongoing,
        at: int,
        *,
        late: bool = False,
        orders: bool = True,
    ) -> None:
        """Put an alarm on the board, or count another occurrence of the one that stands.

        ``late``: it is told later than it was so. Without ``orders`` its commands are given by `order`.
        """
        key = alarm_key(rule.id, device.address, ongoing.track)
        standing = state.alarms.get(key)
        values = _values(rule, device, ongoing)
        place = dict(self._place_of(device.address))
        text = _text(rule, device, ongoing, values, place)
        received_at = device.last_seen or at
        source_time = device.source_time or at
        if standing is None:
            state.stays += 1
            site, kind, name = parts_of(device.address)
            alarm = Alarm(
                id=ulid(at, self._site, self._node, key, state.stays),
                key=key,
                rule=rule.id,
                severity=rule.severity,
                site=site,
                node=self._node,
                kind=kind,
                device=name,
                place=place,
                text=text,
                values=values,
                track=ongoing.track,
                source_time=source_time,
                received_at=received_at,
                first_raised_at=at,
                raised_at=at,
                ack_required=rule.ack_required,
                latched=rule.latch,
                closable=rule.waits_for_a_person,
                late=late,
                drill=rule.drill,
                outcome=outcome_of(device, ongoing.track),
            )
            self._put(state, Transition.RAISED, alarm, at)
        else:
            alarm = replace(
                standing,
                version=standing.version + 1,
                occurrences=standing.occurrences + 1,
                severity=rule.severity,
                place=place,
                text=text,
                values=values,
                source_time=source_time,
                received_at=received_at,
                raised_at=at,
                active=True,
                cleared_at=None,
                acked_at=None,
                acked_by=None,
                comment=None,
                cancelled_at=None,
                late=late,
                outcome=outcome_of(device, ongoing.track),
            )
            self._put(state, Transition.RERAISED, alarm, at)
        if orders:
            self.order(alarm, device, rule, at)

    def clear(self, state: State, device: Device, rule: Rule, track: str | None, at: int) -> None:
        """The condition has gone."""
        standing = state.alarms.get(alarm_key(rule.id, device.address, track))
        if standing is not None and standing.active:
            cleared = replace(
                standing,
                version=standing.version + 1,
                active=False,
                cleared_at=at,
                outcome=outcome_of(device, track) or standing.outcome,
            )
            self._put(state, Transition.CLEARED, cleared, at)

    def cancel(self, state: State, device: Device, rule: Rule, track: str | None, at: int) -> None:
        """The resident has pressed cancel: shown and told to everyone, but closes nothing."""
        standing = state.alarms.get(alarm_key(rule.id, device.address, track))
        if standing is not None and standing.active and standing.cancelled_at is None:
            self._put(
                state,
                Transition.CHANGED,
                replace(standing, version=standing.version + 1, cancelled_at=at),
                at,
            )

    def settle(self, state: State, device: Device, rules: Iterable[Rule], told: Told, at: int) -> None:
        """Keep what became of incidents with their alarms; a door held for none that is in sight is eased."""
        for rule in rules:
            for track in told.changed if rule.per_track else ():
                standing = state.alarms.get(alarm_key(rule.id, device.address, track))
                if standing is not None and standing.outcome is not (outcome := outcome_of(device, track)):
                    alarm = replace(standing, version=standing.version + 1, outcome=outcome)
                    self._put(state, Transition.CHANGED, alarm, at)
            if all(incident.eased for incident in device.incidents.values()):
                for track in told.eased if rule.per_track else ():
                    standing = state.alarms.get(alarm_key(rule.id, device.address, track))
                    if standing is not None and standing.active:
                        self._ease(standing, device, rule, at)

    def _ease(self, alarm: Alarm, device: Device, rule: Rule, at: int) -> None:
        commands = KINDS[device.kind].commands
        for number, action in enumerate(rule.actions):
            name = commands[action.command].taken_back_by
            if name is not None:
                order_id = ulid(at, alarm.id, alarm.occurrences, number, name)
                expires_at = at + EXPIRES_MS
                self.orders.append(Order(order_id, alarm.id, device.address, name, {}, at, expires_at))

    def give(self, told: Order | Withheld) -> None:
        """A person's order, or that it is withheld."""
        if isinstance(told, Order):
            self.orders.append(told)
        else:
            self._withheld.append(told)

    def acknowledge(self, state: State, given: Acknowledge, at: int) -> None:
        """A person looks after it. An alarm that is not on the board, or acknowledged before, stays as it is."""
        standing = self._standing(state, given.alarm_id)
        if standing is None or standing.acked_at is not None:
            return
        acked = replace(
            standing, version=standing.version + 1, acked_at=at, acked_by=given.by, comment=given.comment
        )
        self._put(state, Transition.ACKED, acked, at)

    def close(self, state: State, given: Close, at: int) -> Alarm | None:
        """A person takes it off the board; None where the condition still holds or nothing stands."""
        standing = self._standing(state, given.alarm_id)
        if standing is None or not self.may_close(standing):
            return None
        acked_at = at if standing.acked_at is None else standing.acked_at
        closed = replace(
            standing,
            version=standing.version + 1,
            closed=True,
            active=False,
            cleared_at=at if standing.cleared_at is None else standing.cleared_at,
            acked_at=acked_at,
            acked_by=standing.acked_by or given.by,
            comment=given.comment or standing.comment,
        )
        self._put(state, Transition.CLOSED, closed, at)
        return closed

    def may_close(self, alarm: Alarm) -> bool:
        """Only what nothing else can end, or what has ended already."""
        return alarm.closable or not alarm.active or alarm.rule not in self._rules

    @staticmethod
    def _standing(state: State, alarm_id: str) -> Alarm | None:
        key = state.keys.get(alarm_id)
        return state.alarms.get(key) if key is not None else None

    def correct(self, state: State, since: int, by_ms: int) -> None:
        """The moments from ``since`` on were provisional and are ``by_ms`` later; told as no other change is."""
        for standing in list(state.alarms.values()):
            if standing.provisional:
                alarm = replace(corrected(standing, since, by_ms), version=standing.version + 1)
                self._put(state, Transition.CORRECTED, alarm, state.now)

    def _put(self, state: State, transition: Transition, alarm: Alarm, at: int) -> None:
        if state.provisional_since is not None and not alarm.provisional:
            alarm = replace(alarm, provisional=True)
        if alarm.on_board:
            state.alarms[alarm.key] = alarm
            state.keys[alarm.id] = alarm.key
        else:
            state.alarms.pop(alarm.key, None)
            state.keys.pop(alarm.id, None)
        self.changes.append(AlarmChange(transition, alarm, at))

    def order(self, alarm: Alarm, device: Device, rule: Rule, at: int) -> None:
        """Give the commands of an alarm that has been raised."""
        for number, action in enumerate(rule.actions):
            self._order(alarm, device, action, number, at)

    def _order(self, alarm: Alarm, device: Device, action: Action, number: int, at: int) -> None:
        command = KINDS[device.kind].commands[action.command]
        guard = command.only_if_false
        if guard is not None and (alarm.late or device.points.get(guard) is not False):
            known = device.points.get(guard) is not None and not alarm.late  # what was known is old by now
            reason = f"{guard} is {'true' if known else 'unknown'}"
            self._withheld.append(Withheld(alarm.id, device.address, action.command, reason, at))
            return
        if command.taken_back_by is not None and alarm.outcome is Outcome.RELEASED:
            self._withheld.append(Withheld(alarm.id, device.address, action.command, "staff let it ride", at))
            return
        order_id = ulid(at, alarm.id, alarm.occurrences, number)
        expires_at = at + action.expires_s * 1000
        self.orders.append(
            Order(order_id, alarm.id, device.address, action.command, dict(action.args), at, expires_at)
        )


def put_back(state: State, standing: Iterable[Alarm]) -> None:
    """Take committed alarms as the board, whatever was there."""
    state.alarms = {alarm.key: alarm for alarm in standing}
    state.keys = {alarm.id: alarm.key for alarm in state.alarms.values()}


def _values(rule: Rule, device: Device, ongoing: Ongoing) -> dict[str, Scalar]:
    """What the gateway knew when it decided, without what tells of a person's daily life.

    Of what it keeps for rules, only what this rule speaks of, by its own names where it gives some.
    """
    kind = KINDS[device.kind]
    terms, points = rule.terms, device.points
    hidden = kind.private | {name for name in points if not name.isidentifier() and name not in terms}
    hidden |= {name for name, term in terms.items() if not kind.private.isdisjoint(term.feeds)}
    values = {name: value for name, value in points.items() if name not in hidden}
    for let in rule.lets:
        value = None if let.point.private else let.evaluate(points)
        if value is not None:
            values[let.point.name] = value
    for name in kind.rates.keys() | terms.keys() | {let.point.name for let in rule.lets}:
        if isinstance(value := values.get(name), float):
            values[name] = round(value, RATE_DIGITS)
    if ongoing.fields is not None:
        values.update(ongoing.fields)
    return values


def _text(
    rule: Rule, device: Device, ongoing: Ongoing, values: Mapping[str, Scalar], place: Mapping[str, str]
) -> dict[str, str]:
    site, kind, name = parts_of(device.address)
    names: dict[str, Scalar] = {**place, **values, "device": name, "kind": kind, "site": site}
    if "floor" in place:
        names["place_floor"] = place["floor"]
    if ongoing.track is not None:
        names["track"] = ongoing.track
    return {language: text.render(names) for language, text in rule.text.items()}
