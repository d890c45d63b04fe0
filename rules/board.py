"""The board: how alarms come, change and leave, and the decision that tells of it.

Every change here gives the alarm a higher version. What stands is in `State.alarms`; an alarm that has
become normal is told once more and is gone.
"""

from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from devices.kinds import KINDS
from devices.readings import Scalar, parts_of
from rules.alarms import Alarm, AlarmChange, Severity, Superseded, Transition, alarm_key
from rules.annunciation.annunciator import Annunciation
from rules.annunciation.chattering import may_shelve
from rules.deadlines import arm
from rules.decisions import Acknowledge, Close, Decision, Order, Withheld
from rules.definitions import Rule
from rules.evidence import evidence, influenced
from rules.hours import Calendar
from rules.ids import ulid
from rules.instructions import EXPIRES_MS
from rules.language.texts import Language, late_note, unheard_note
from rules.orders import orders_of
from rules.places import Neighbourhood, PlaceOf
from rules.state import Device, Ongoing, State
from rules.stays import begin_stay, come_again
from rules.steps import corrected
from rules.tracks import Told, outcome_of
from rules.withholding import cool_down

RATE_DIGITS = 3
"""Of a rate of change, as people see it."""


class Board:
    """Collects the changes of one step; `decide` hands them out."""

    def __init__(
        self,
        site: str,
        node: str,
        place_of: PlaceOf,
        rules: Mapping[str, Rule],
        calendar: Calendar,
        around: Neighbourhood,
    ) -> None:
        self._site = site
        self._node = node
        self._place_of = place_of
        self._rules = rules
        self.calendar = calendar
        self._around = around
        self.annunciation = Annunciation(tuple(rules.values()), around, site, node, self._put)
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
        so_at: int | None,
        *,
        late: bool = False,
        orders: bool = True,
    ) -> None:
        """Put an alarm on the board, or count another occurrence of the one that stands.

        ``so_at``: when it was so, by the device's clock, if that is known. ``late``: it is told later than that.
        Without ``orders`` its commands are given by `order`.
        """
        key = alarm_key(rule.id, device.address, ongoing.track)
        standing = state.alarms.get(key)
        comes = standing is None or not standing.active
        values = _values(rule, device, ongoing)
        place = dict(self._place_of(device.address))
        text = _text(rule, device, ongoing, values, place)
        if late:
            text = self._late(text, state.now, so_at)
        if device.awaited_since and not device.last_seen:
            text = {language: each + unheard_note(Language(language)) for language, each in text.items()}
        why = evidence(rule, device, ongoing, values, so_at, None if standing is None else standing.why)
        if standing is None:
            stay = begin_stay(
                state,
                rule,
                key,
                device.address,
                at,
                site=self._site,
                node=self._node,
                track=ongoing.track,
            )
        else:
            stay = come_again(standing, rule, at)
        alarm = replace(
            stay,
            place=place,
            text=text,
            values=values,
            source_time=device.source_time or at,
            received_at=device.last_seen or at,
            latched=rule.latch,
            closable=rule.waits_for_a_person,
            late=late,
            why=why,
            outcome=outcome_of(device, ongoing.track),
        )
        if comes:
            alarm = self.annunciation.announce(state, device, rule, alarm, at)
        self._put(state, Transition.RAISED if standing is None else Transition.RERAISED, alarm, at)
        arm(state, device, rule, ongoing, alarm.severity, at, so_at)
        if comes:
            self.annunciation.came(state, alarm, at)
        if orders:
            self.order(state, alarm, rule, at)

    def standing(self, state: State, device: Device, ongoing: Ongoing) -> Alarm | None:
        """The alarm of a condition, if it stands and is of the rule as it is now."""
        alarm = state.alarms.get(alarm_key(ongoing.rule, device.address, ongoing.track))
        return alarm if alarm is not None and alarm.active and alarm.superseded is None else None

    def escalate(
        self, state: State, device: Device, rule: Rule, ongoing: Ongoing, severity: Severity, at: int
    ) -> None:
        """Its severity rises: whoever has acknowledged it did so for less."""
        standing = self.standing(state, device, ongoing)
        if standing is None:
            return
        risen = replace(
            standing,
            version=standing.version + 1,
            severity=severity,
            acked_at=None,
            acked_by=None,
            comment=None,
            shelved_until=standing.shelved_until if may_shelve(severity) else None,
            why=None if standing.why is None else standing.why.risen(severity, at),
        )
        ack = rule.ack_required_at(severity) and risen.annunciated
        self._put(state, Transition.ESCALATED, replace(risen, ack_required=ack), at)

    def clear(self, state: State, device: Device, rule: Rule, track: str | None, at: int) -> None:
        """The condition has gone. What another version of the rule has raised is not this one's to end."""
        standing = state.alarms.get(alarm_key(rule.id, device.address, track))
        if standing is not None and standing.active and standing.superseded is None:
            cleared = replace(
                standing,
                version=standing.version + 1,
                active=False,
                cleared_at=at,
                outcome=outcome_of(device, track) or standing.outcome,
                suppressed_by=None,
                folded_into=None,
            )
            self._put(state, Transition.CLEARED, cleared, at)
            self.annunciation.went(standing, at)

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
        standing = self._named(state, given.alarm_id)
        if standing is None or standing.acked_at is not None:
            return
        acked = replace(
            standing, version=standing.version + 1, acked_at=at, acked_by=given.by, comment=given.comment
        )
        self._put(state, Transition.ACKED, acked, at)

    def close(self, state: State, given: Close, at: int) -> Alarm | None:
        """A person takes it off the board; None where the condition still holds or nothing stands.

        Who acknowledged it, and with which words, stays as it was: closing is no acknowledgement.
        """
        standing = self._named(state, given.alarm_id)
        if standing is None or not self.may_close(standing):
            return None
        closed = replace(
            standing,
            version=standing.version + 1,
            closed=True,
            active=False,
            cleared_at=at if standing.cleared_at is None else standing.cleared_at,
            closed_at=at,
            closed_by=given.by,
            close_comment=given.comment,
        )
        self._put(state, Transition.CLOSED, closed, at)
        if standing.active:
            self.annunciation.went(standing, at)
        return closed

    def supersede(self, state: State, alarm: Alarm, how: Superseded, at: int) -> None:
        """Its rule is another from now on, or gone: told once, and a person may close it."""
        if alarm.superseded is not how:
            told = replace(alarm, version=alarm.version + 1, superseded=how, closable=True)
            self._put(state, Transition.CHANGED, told, at)

    def may_close(self, alarm: Alarm) -> bool:
        """Only what nothing else can end, or what has ended already."""
        return alarm.closable or not alarm.active or alarm.rule not in self._rules

    @staticmethod
    def _named(state: State, alarm_id: str) -> Alarm | None:
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
        before = state.alarms.get(alarm.key)
        alarm = influenced(before, alarm, at)
        self.annunciation.note(state, before, alarm)
        if alarm.on_board:
            state.alarms[alarm.key] = alarm
            state.keys[alarm.id] = alarm.key
        else:
            state.alarms.pop(alarm.key, None)
            state.keys.pop(alarm.id, None)
            cool_down(state, alarm, self._rules, at)
        self.changes.append(AlarmChange(transition, alarm, at))

    def _late(self, text: Mapping[str, str], now: int, so_at: int | None) -> dict[str, str]:
        told = self.calendar.local(now)
        so = None if so_at is None else self.calendar.local(so_at)
        return {language: said + late_note(Language(language), told, so) for language, said in text.items()}

    def order(self, state: State, alarm: Alarm, rule: Rule, at: int) -> None:
        """Give the commands of an alarm that has been raised."""
        for given in orders_of(state, alarm, rule, self._around, at):
            if isinstance(given, Order):
                self.orders.append(given)
            else:
                self._withheld.append(given)


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
