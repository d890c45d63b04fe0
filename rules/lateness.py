"""Late telemetry: what a device says of a time after which it has said something newer already.

It is judged as of then, beside what is so now: it changes no point that is known, feeds no window and ends no alarm.
Where it makes a condition true, without a break for as long as its ``for`` says, the alarm is raised with ``late``;
where what is newer says that it is over, it is cleared at once, and gives no orders. Rules that rest on windows cannot
be judged so.

A message that was overtaken by no more than seconds is not late, but what it says against an alarm is older than what
raised it: it may begin something, it ends nothing.
"""

from devices.readings import Channel, Reading, Scalar
from rules.board import Board
from rules.definitions import Rule
from rules.moments import BACK_MS, is_older
from rules.plans import Plan, is_over, names_of, truth_of
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


def take_overtaken(device: Device, plan: Plan, reading: Reading) -> dict[str, Scalar]:
    """What of a message is so now: all, or where newer ones overtook it by seconds, no known point of a condition that
    it would end.
    """  # noqa: D205
    points, values = device.points, reading.values
    if not device.ongoing or reading.channel is not Channel.TELEMETRY:
        return values
    if not is_older(device, reading, alone=plan.kind.event is None):
        return values
    view = {**points, **values}
    spared: set[str] = set()
    for ongoing in device.ongoing.values():
        rule = plan.rules[ongoing.rule]
        if is_over(rule, truth_of(rule, view), view, raised=ongoing.due is None):
            spared |= names_of(rule)
    return {name: value for name, value in values.items() if name not in spared or name not in points}


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
