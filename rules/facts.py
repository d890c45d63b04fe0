"""What a start takes as facts: committed alarms, and under a changed rule set what was last said.

Nothing is decided here. The conditions of the devices are fitted to the alarms, never the other way round.
"""

from collections.abc import Iterable, Mapping

from devices.kinds import KINDS
from devices.readings import Channel, Reading, parts_of
from rules.alarms import Alarm
from rules.awaited import release, wait
from rules.board import put_back
from rules.deadlines import arm, key_of
from rules.decisions import (
    Awaited,
    CatchingUp,
    ClockStepped,
    ClockUntrusted,
    Input,
    Listening,
    PresenceUnknown,
)
from rules.definitions import Rule
from rules.evidence import keep_times
from rules.limits import limit
from rules.meeting import meet, unheard
from rules.moments import TIMED, is_overtaken, tell_time
from rules.plans import Plan
from rules.state import Device, Ongoing, State
from rules.steps import shift
from rules.watches import grow, hear_terms


def learn(state: State, given: Input, plans: Mapping[str, Plan], unregistered_max: int) -> None:
    """Take a journaled input without judging it: only what was last said is kept. ``plans`` by kind."""
    if isinstance(given, Reading):
        plan = plans[parts_of(given.address)[1]]
        device = state.devices.get(given.address) or meet(state, given, plan.kind, unregistered_max)
        if device is not None:
            _learn_of_device(state, device, plan, given)
    else:
        _learn_of_gateway(state, given)


def _learn_of_device(state: State, device: Device, plan: Plan, reading: Reading) -> None:
    device.changed = True
    if reading.channel is Channel.STATUS:
        device.online = reading.values["state"] == "online"
    elif not reading.retained:
        device.last_seen = reading.received_at
        if reading.channel not in TIMED or is_overtaken(device, reading):
            return
        said_at = tell_time(device, reading, waited=state.catching_up)
        shape = plan.shape_of(reading.values)
        keep_times(device, shape.names)
        device.source_time = reading.source_time
        if reading.channel is Channel.TELEMETRY:
            device.points.update(reading.values)
            limit(state, device, plan.limited, reading.values, reading.received_at)
        hear_terms(device, plan, shape, reading, said_at)
        grow(state, device, plan, reading.received_at)


def _learn_of_gateway(state: State, given: Input) -> None:
    if isinstance(given, Listening):
        state.listening_since = given.at if given.on else None
    elif isinstance(given, Awaited):
        wait(state, given)
        release(state, given)
    elif isinstance(given, CatchingUp):
        state.catching_up = given.on
    elif isinstance(given, PresenceUnknown):
        forget_presence(state)
    elif isinstance(given, ClockUntrusted | ClockStepped):
        _learn_clock(state, given)


def forget_presence(state: State) -> None:
    """Nobody is online or offline until the broker says it anew."""
    for device in state.devices.values():
        if device.online is not None:
            device.online, device.changed = None, True


def adopt(
    state: State, standing: Iterable[Alarm], rules: Mapping[str, Rule], departed: Iterable[Alarm] = ()
) -> None:
    """Take the committed alarms as facts and fit the conditions to them; ``rules`` by id.

    A delay that runs here, and by the facts ran out and led to an alarm that has ended since (one of ``standing`` or
    ``departed``), is over: what ended it was not stored.
    """
    put_back(state, standing)
    ended: dict[str, list[Alarm]] = {}
    for alarm in (*state.alarms.values(), *departed):
        if not alarm.active:
            ended.setdefault(alarm.key, []).append(alarm)
    for device in state.devices.values():
        for condition, ongoing in list(device.ongoing.items()):
            key, rule = key_of(condition, device), rules.get(ongoing.rule)
            if (
                rule is None
                or rule.kind != device.kind
                or _is_over(ongoing, rule, state.alarms.get(key), ended.get(key, ()))
            ):
                del device.ongoing[condition]
                device.changed = True
    for alarm in state.alarms.values():
        stands = alarm.active and alarm.superseded is None and alarm.members is None
        rule = rules.get(alarm.rule)
        if stands and rule is not None and rule.kind == alarm.kind:
            _resume(state, alarm, rule)


def _is_over(ongoing: Ongoing, rule: Rule, standing: Alarm | None, ended: Iterable[Alarm]) -> bool:
    """Whether by the facts the alarm of a condition is; a delay is known by its beginning where something cut it short
    or withheld its alarm, which then came at another time than it was due.
    """  # noqa: D205
    due, since = ongoing.due, ongoing.since
    if due is None:
        return standing is None or not standing.active
    begun = due - ongoing.wait - rule.for_ms
    return any(
        alarm.raised_at == due
        or (
            alarm.raised_at >= begun
            and since is not None
            and alarm.why is not None
            and alarm.why.since == since
        )
        for alarm in ended
    )


def _resume(state: State, alarm: Alarm, rule: Rule) -> None:
    """The condition of a standing alarm goes on."""
    device = state.devices.get(alarm.address)
    if device is None:
        device = state.devices[alarm.address] = unheard(alarm.address, KINDS[alarm.kind])
    ongoing = device.ongoing.setdefault(alarm.condition, Ongoing(alarm.rule, alarm.track))
    ongoing.due = None
    if ongoing.ends is None:
        arm(state, device, rule, ongoing, alarm.severity, alarm.raised_at, None)
    if rule.silent_for_ms is not None and alarm.rule not in device.silences:
        device.silences = (*device.silences, alarm.rule)
    device.changed = True


def _learn_clock(state: State, given: ClockUntrusted | ClockStepped) -> None:
    state.now = max(state.now, given.at)
    if isinstance(given, ClockStepped):
        shift(state, given.by_ms)
        state.provisional_since = None
    elif state.provisional_since is None:
        state.provisional_since = given.at
