"""Late telemetry: what a device says of a time after which it has said something newer already.

It is judged as of then, beside what is so now: it changes no point that is known, feeds no window and ends no alarm.
Where it makes a condition true, without a break for as long as its ``for`` says, the alarm is raised with ``late``;
where what is newer says that it is over, it is cleared at once, and gives no orders. Rules that rest on windows cannot
be judged so.
"""

from devices.readings import Reading
from rules.board import Board
from rules.definitions import Rule
from rules.moments import BACK_MS
from rules.plans import Plan, is_over
from rules.state import Device, Ongoing, State
from rules.withholding import earliest


def judge_past(board: Board, state: State, device: Device, plan: Plan, reading: Reading, now: int) -> None:
    """Take a late telemetry message at ``now`` (Unix ms)."""
    if now - device.past_at > BACK_MS:
        device.past.clear()
    device.past_at = now
    points, values = device.points, reading.values
    for name in values.keys() - points.keys():
        points[name] = values[name]
    view = {**points, **values}
    for rule, evaluate in plan.touched_by(values):
        if rule.terms or rule.id in device.ongoing:
            continue
        truth = evaluate(view)
        if truth is False:
            device.past.pop(rule.id, None)
        elif truth:
            since = device.past.setdefault(rule.id, reading.source_time)
            if since and reading.source_time - since >= rule.for_ms:
                device.past[rule.id] = 0
                _raise(board, state, device, rule, reading, now)


def _raise(board: Board, state: State, device: Device, rule: Rule, reading: Reading, now: int) -> None:
    """Told with the values and the time of the late message, unless the rule might not have raised it then."""
    so_at = reading.source_time
    if earliest(state, device, rule, so_at, board.calendar) > so_at:
        return
    truth = None if rule.when is None else rule.when.evaluate(device.points)
    over = is_over(rule, truth, device.points, raised=True)
    ongoing = Ongoing(rule.id, fields=reading.values, since=so_at)
    newest, device.source_time = device.source_time, so_at
    board.raise_(state, device, rule, ongoing, now, so_at, late=True, orders=not over)
    device.source_time = newest
    if over:
        board.clear(state, device, rule, None, now)
    else:
        ongoing.fields = None
        device.ongoing[rule.id] = ongoing
