"""The course of an alarm that stands: its severity rises, its condition is over for long enough, it is forgotten.

- `clear_for`: what ends it must hold so long; if it does not hold meanwhile, it begins anew. Unknown changes nothing.
- `clear_after`: an event has no end of its own; so long after the last one its alarm clears.
- `escalate`: while the condition holds, the severity rises at its times and never falls.

Each is a deadline. While the gateway catches up it is judged by the device's own times (`rules.backlog`), and what
nobody can know is taken as the worse: the severity has risen, the alarm has not ended.
"""

from rules.backlog import had_run_out
from rules.board import Board
from rules.deadlines import arm_rise, push
from rules.definitions import Points, Rise, Rule
from rules.state import Device, Ongoing, State


def end(
    state: State, board: Board, device: Device, rule: Rule, ongoing: Ongoing, now: int, since: int | None
) -> None:
    """What ends a condition holds ``now``; ``since`` when, by the device's clock, if that is known."""
    if ongoing.due is not None or not rule.clear_for_ms:
        _end_now(state, board, device, rule, ongoing, now)
    elif ongoing.ends is None:
        begun = now if since is None or not state.catching_up else min(since, now)
        ongoing.over_since, ongoing.ends = since, begun + rule.clear_for_ms
        push(state, device, ongoing, ongoing.ends)


def hold(rule: Rule, ongoing: Ongoing, truth: bool | None, view: Points, now: int, since: int | None) -> None:
    """What ends a raised condition does not hold ``now``, or the event has come again."""
    if ongoing.ends is None:
        return
    if rule.clear_for_ms:
        if truth or (rule.clear is not None and rule.clear.evaluate(view) is False):
            ongoing.ends = None
    elif truth:
        ongoing.ends, ongoing.over_since = now + rule.clear_after_ms, since


def take(state: State, board: Board, device: Device, rule: Rule, ongoing: Ongoing, due: int) -> None:
    """A deadline of a raised condition has come."""
    device.changed = True
    if ongoing.ends == due:
        _end_now(state, board, device, rule, ongoing, due)
    elif ongoing.escalates == due:
        _rise(state, board, device, rule, ongoing, due)
    elif rule.clear_after_ms and ongoing.ends is not None and ongoing.ends > due:
        push(state, device, ongoing, ongoing.ends)  # put off since, without a deadline for each event


def settle(
    state: State, board: Board, device: Device, rule: Rule, ongoing: Ongoing, now: int, told: int | None
) -> None:
    """Take what had run out of a raised condition when its device spoke, at ``told`` by its own clock."""
    ends = ongoing.ends
    if ends is not None and (ends > now or not _had_ended(rule, ongoing, told)):
        ends = None
    while (due := ongoing.escalates) is not None and due <= now and (ends is None or due < ends):
        rise = _next_rise(state, board, device, rule, ongoing)
        if rise is None or not had_run_out(ongoing, rule.for_ms + ongoing.wait + rise.after_ms, told):
            break
        _rise(state, board, device, rule, ongoing, due)
    if ends is not None:
        _end_now(state, board, device, rule, ongoing, ends)


def _had_ended(rule: Rule, ongoing: Ongoing, told: int | None) -> bool:
    since = ongoing.over_since
    return (
        told is not None and since is not None and told - since >= (rule.clear_for_ms or rule.clear_after_ms)
    )


def _end_now(state: State, board: Board, device: Device, rule: Rule, ongoing: Ongoing, at: int) -> None:
    del device.ongoing[ongoing.condition]
    if ongoing.due is None:
        board.clear(state, device, rule, ongoing.track, at)


def _next_rise(state: State, board: Board, device: Device, rule: Rule, ongoing: Ongoing) -> Rise | None:
    alarm = board.standing(state, device, ongoing)
    return None if alarm is None else rule.next_rise(alarm.severity)


def _rise(state: State, board: Board, device: Device, rule: Rule, ongoing: Ongoing, at: int) -> None:
    rise = _next_rise(state, board, device, rule, ongoing)
    ongoing.escalates = None
    if rise is not None:
        board.escalate(state, device, rule, ongoing, rise.severity, at)
        arm_rise(state, device, rule, ongoing, rise.severity, at - rise.after_ms)
