"""Conditions that change although nothing is said: a growing term crosses its bound, a window loses its last sample.

The engine keeps one deadline for each rule and device, at the earliest moment at which the truth can change; when it
comes, the condition is looked at and the next moment is found. A bound is watched always, a window only while the
condition is under way.

What grows is brought up to date only where it is looked at. Between two crossings the truth of a condition is the same
whatever the value, so nearly every message finds a *lull* (`is_calm`) and neither grows nor watches anything.
"""

from collections.abc import Iterable, Iterator
from heapq import heappush

from devices.readings import Reading, Scalar
from rules.deadlines import WATCH, key_of
from rules.moments import at_device
from rules.plans import Plan, Shape, Watched
from rules.state import Device, Lull, State
from rules.terms import Fading

_NEVER = 2**62


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
        term.hear(device, reading, moment)
    if shape.fading:
        fade(device, shape.fading, reading.received_at)


def _is_spoiled(device: Device, rules: frozenset[str]) -> bool:
    return any(ongoing.due is None and ongoing.rule in rules for ongoing in device.ongoing.values())


def look_anew(device: Device, plan: Plan, now: int) -> None:
    """Terms as they are at ``now`` (Unix ms) under changed rules, and nothing of those that are no more."""
    names = {term.name for term in plan.terms}
    for name in device.memory.keys() - names:
        del device.memory[name]
    for name in [each for each in device.points if not each.isidentifier() and each not in names]:
        del device.points[name]
    device.armed.clear()
    grow(device, plan, now)
    fade(device, [term for term in plan.terms if isinstance(term, Fading)], now)


def is_calm(device: Device, plan: Plan, now: int) -> bool:
    """Whether since the last look nothing that grows has begun anew or crossed a bound by ``now`` (Unix ms), and every
    deadline is early enough.
    """  # noqa: D205
    lull, clock = device.lull, device.clock
    if lull is None or lull.ahead is None or clock is None:
        return False
    ahead = clock.moment - clock.at
    return (
        lull.begin <= now + ahead < lull.end and ahead <= lull.ahead and _rest(device, plan) == lull.rests_on
    )


def _rest(device: Device, plan: Plan) -> tuple[Scalar | None, ...]:
    """What the crossings of a device follow from."""
    points = device.points
    sinces = [term.since(device) for term in plan.growing]
    return (*sinces, *[points.get(name) for name in plan.bounds]) if plan.bounds else tuple(sinces)


def grow(device: Device, plan: Plan, now: int) -> None:
    """Bring the values of growing terms up to ``now`` (Unix ms); `watch` is to follow."""
    if not plan.growing:
        return
    moment, points = at_device(device, now), device.points
    for name, value in grown(device, plan, now):
        points[name] = value
    begin, end = -_NEVER, _NEVER
    for crossing in plan.crossings:
        since = crossing.term.since(device)
        if since is None or (lasting := crossing.lasting(points)) is None:
            continue
        crosses = since + lasting
        if crosses <= moment:
            begin = max(begin, crosses)
        else:
            end = min(end, crosses)
    device.lull = Lull(begin, end, _rest(device, plan))


def grown(device: Device, plan: Plan, now: int) -> Iterator[tuple[str, float]]:
    """The growing terms of a device, each with its value at ``now`` (Unix ms)."""
    moment = at_device(device, now)
    for term in plan.growing:
        since = term.since(device)
        if since is not None:
            yield term.name, max(moment - since, 0) / 1000


def fade(device: Device, terms: Iterable[Fading], now: int) -> None:
    """Let windows forget what is too old at ``now`` (Unix ms)."""
    moment = at_device(device, now)
    for term in terms:
        due = term.fades_at(device)
        if due is not None and due <= moment:
            term.fade(device, moment)


def watch(state: State, device: Device, plan: Plan, now: int) -> None:
    """Have a deadline for each rule whose truth can change after ``now`` without a message.

    What grows is as of ``now`` or since the last look calm.
    """
    ahead, armed, points = at_device(device, now) - now, device.armed, device.points
    if device.lull is not None:
        device.lull.ahead = ahead
    for rule, watched in plan.watched.items():
        due = None
        for crossing in watched.crossings:
            since = crossing.term.since(device)
            if since is None or (lasting := crossing.lasting(points)) is None:
                continue
            crosses = since + lasting - ahead
            if crosses > now and (due is None or crosses < due):
                due = crosses
        if watched.fading and rule in device.ongoing:
            due = _fades_next(device, watched, now, due, ahead)
        if due is None or due >= armed.get(rule, due + 1):
            continue  # one that comes too early looks again
        armed[rule] = due
        heappush(state.deadlines, (due, key_of(rule, device), device.address, WATCH + rule))


def _fades_next(device: Device, watched: Watched, now: int, due: int | None, ahead: int) -> int | None:
    for term in watched.fading:
        fades = term.fades_at(device)
        if fades is not None and fades - ahead > now and (due is None or fades - ahead < due):
            due = fades - ahead
    return due
