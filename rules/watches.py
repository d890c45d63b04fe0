"""Conditions that change although nothing is said: a growing term crosses its bound, a window loses its last sample.

The engine keeps one deadline for each rule and device, at the earliest moment at which the truth can change; when it
comes, the condition is looked at and the next moment is found. A bound is watched always, a window only while the
condition is under way.

What grows is brought up to date only where it is looked at. Between two crossings the truth of a condition is the same
whatever the value, so nearly every message finds a *lull* (`is_calm`) and neither grows nor watches anything.
"""

from collections.abc import Iterable

from devices.readings import Reading, Scalar
from rules.deadlines import push_look
from rules.moments import at_device
from rules.plans import Plan, Shape
from rules.state import NEVER, Device, Lull, State
from rules.terms import Fading, Moved

AFTER_STOP_MS = 600_000
"""So long a device has to speak after a stop before what grew meanwhile is judged without it."""


def put_off(state: State, device: Device, rule: str, due: int) -> bool:
    """Whether a look that was due in a stop waits for the device to speak, and has a new deadline."""
    heard_from = state.listening_since
    if heard_from is None or device.last_seen >= heard_from or due > heard_from:
        return False
    push_look(state, device, rule, heard_from + AFTER_STOP_MS)
    device.changed, device.lull = True, None
    return True


def hear_terms(device: Device, plan: Plan, shape: Shape, reading: Reading, moment: int) -> None:
    """Let the terms that a message feeds hear it; ``moment`` as `rules.moments.tell_time` gave it.

    The others forget what is too old by then, so that a condition never sees what no longer is.
    """
    learning = plan.learning if device.ongoing else None
    for term in shape.hearing:
        if learning and term.name in learning:
            learner, spoilers = learning[term.name]
            if _is_spoiled(device, spoilers):
                learner.disregard(device, reading, moment)
                continue
        moved = term.hear(device, reading, moment)
        if moved is not None and (moved is not Moved.LATER or device.lull is None or device.lull.crossed):
            device.lull = None
    if shape.fading:
        fade(device, shape.fading, reading.received_at)


def _is_spoiled(device: Device, rules: frozenset[str]) -> bool:
    return any(ongoing.due is None and ongoing.rule in rules for ongoing in device.ongoing.values())


def look_anew(state: State, device: Device, plan: Plan, now: int) -> None:
    """Terms as they are at ``now`` (Unix ms) under changed rules, and nothing of those that are no more."""
    names = {term.name for term in plan.terms}
    for name in device.memory.keys() - names:
        del device.memory[name]
    for name in [each for each in device.points if not each.isidentifier() and each not in names]:
        del device.points[name]
    device.armed.clear()
    grow(state, device, plan, now)
    fade(device, plan.fading, now)


def give_up(state: State, device: Device, plan: Plan, rule: str) -> bool:
    """Whether nobody knows by now what the deadline of ``rule`` that has come rests on; it then has none.

    So it is where the gateway was away since it last heard the device; its next message is judged.
    """
    watched = plan.watched.get(rule)
    if watched is None or not watched.must_be_heard:
        return False
    if state.listening_since is not None and device.last_seen >= state.listening_since:
        return False
    del device.armed[rule]
    device.changed, device.lull = True, None
    return True


def is_calm(device: Device, plan: Plan, now: int) -> bool:
    """Whether nothing that grows has crossed a bound by ``now`` (Unix ms), and every deadline is early enough.

    Unless `hear_terms` has said that it is not.
    """
    if not plan.growing:
        return True
    lull, clock = device.lull, device.clock
    if lull is None or clock is None:
        return False
    ahead = clock.moment - clock.at
    if not (lull.begin <= now + ahead < lull.end and ahead <= lull.ahead):
        return False
    return not plan.bounds or list(map(device.points.get, plan.bounds)) == lull.bounds


def grow(state: State, device: Device, plan: Plan, now: int) -> None:
    """Bring what grows up to ``now`` (Unix ms), and have a deadline for the next bound of each rule."""
    if not plan.growing:
        return
    moment, points = at_device(device, now), device.points
    sinces = [term.since(device) for term in plan.growing]
    for name, since in zip(plan.grow_as, sinces, strict=True):
        if since is not None:
            points[name] = (moment - since) / 1000 if moment > since else 0.0
    begin, end, ahead = -NEVER, NEVER, moment - now
    for rule, watched in plan.watched.items():
        first = NEVER
        for at, crossing in watched.crossings:
            since, lasting = sinces[at], crossing.lasts_ms
            if since is None or (lasting is None and (lasting := crossing.lasting(points)) is None):
                continue
            crosses = since + lasting
            if crosses > moment:
                first = min(first, crosses)
            elif crosses > begin:
                begin = crosses
        if first < NEVER:
            end = min(end, first)
            _arm(state, device, rule, first - ahead)
    device.lull = Lull(begin, end, ahead, list(map(points.get, plan.bounds)))


def grown(device: Device, plan: Plan) -> dict[str, Scalar]:
    """The points of a device, with what grows as of its last message or the last look, whichever was later."""
    points, moment = dict(device.points), at_device(device, device.last_seen)
    for term in plan.growing:
        since = term.since(device)
        if since is not None:
            looked = points.get(term.name, 0)
            points[term.name] = max((moment - since) / 1000, looked if isinstance(looked, float) else 0.0)
    return points


def fade(device: Device, terms: Iterable[Fading], now: int) -> None:
    """Let windows forget what is too old at ``now`` (Unix ms)."""
    moment = at_device(device, now)
    for term in terms:
        due = term.fades_at(device)
        if due is not None and due <= moment:
            term.fade(device, moment)


def watch(state: State, device: Device, plan: Plan, now: int) -> None:
    """Have a deadline for what fades next after ``now`` (Unix ms) of each rule that is under way."""
    if not plan.fading or not device.ongoing:
        return
    ahead = at_device(device, now) - now
    for rule, watched in plan.watched.items():
        if watched.fading and rule in device.ongoing:
            dues = [term.fades_at(device) for term in watched.fading]
            ahead_of = [due - ahead for due in dues if due is not None and due - ahead > now]
            if ahead_of:
                _arm(state, device, rule, min(ahead_of))


def _arm(state: State, device: Device, rule: str, due: int) -> None:
    """One that comes too early looks again."""
    if due < device.armed.get(rule, NEVER):
        push_look(state, device, rule, due)
