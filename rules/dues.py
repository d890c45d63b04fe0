"""Deadlines taken: delays that run out, silence, what grows, what is believed no longer.

They are taken in the order (deadline, key), each with the deadline as its time. While the gateway catches up after a
stop those of devices are held, and judged by the times that the devices give (`rules.backlog`).
"""

from collections.abc import Iterable, Mapping
from heapq import heappop, heappush

from devices.readings import Channel, Reading
from rules import course
from rules.alarms import alarm_key
from rules.annunciation.annunciator import DEADLINES as ANNUNCIATION
from rules.awaited import release, wait
from rules.awaited import since as silent_since
from rules.backlog import had_run_out, time_told, was_missed
from rules.board import Board
from rules.deadlines import LIMITED, WATCH, key_of, push_silences
from rules.decisions import Awaited, CatchingUp
from rules.definitions import Rule
from rules.functions.around import AROUND, Changed, Surroundings
from rules.judge import Judge
from rules.moments import TIMED, at_device, at_gateway
from rules.plans import Plan, names_of
from rules.state import Deadline, Device, Ongoing, State
from rules.tracks import LOST, expire
from rules.watches import fade, give_up, grow, hear_terms, put_off, watch
from rules.withholding import earliest


class Dues:
    """Takes what is due; ``plans`` by kind, ``rules`` by id."""

    def __init__(
        self,
        judge: Judge,
        board: Board,
        around: Surroundings,
        plans: Mapping[str, Plan],
        rules: Mapping[str, Rule],
    ) -> None:
        self._judge = judge
        self._board = board
        self._around = around
        self._plans = plans
        self._rules = rules

    def take_due(self, state: State, now: int) -> None:
        """Take every deadline up to ``now`` (Unix ms), or hold it."""
        deadlines = state.deadlines
        while deadlines and deadlines[0][0] <= now:
            deadline = heappop(deadlines)
            device = state.devices.get(deadline[2])
            if (
                device is not None
                and self._judge.is_behind(state, device)
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
            self.look(state, self._around.take(state, deadline), due)
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
            self._judge.follow(state, device, plan, expire(device, plan.kind.following, due), due)
            return
        if condition.startswith(WATCH):
            rule_id = condition.removeprefix(WATCH)
            if device.armed.get(rule_id) != due:
                return
            if not (give_up(state, device, plan, rule_id) or put_off(state, device, rule_id, due)):
                self._look_again(state, device, plan, rule_id, due)
            return
        ongoing = device.ongoing.get(condition)
        if ongoing is not None:
            if ongoing.due == due:
                late = self._judge.is_behind(state, device) and (
                    ongoing.since is None or was_missed(state, due)
                )
                self._judge.run_out(state, device, plan.rules[ongoing.rule], ongoing, late=late)
            elif ongoing.due is None:
                course.take(state, self._board, device, plan.rules[ongoing.rule], ongoing, due)
            return
        rule = plan.rules.get(condition)
        if rule is not None and rule.silent_for_ms is not None:
            self._check_silence(state, device, rule, due)

    def look(self, state: State, changed: Iterable[Changed], now: int) -> None:
        """Judge what looks at other devices, where these have changed."""
        for device, name in changed:
            plan = self._plans[device.kind]
            if not state.catching_up:
                grow(state, device, plan, now)
            for rule, evaluate in plan.telemetry if device.last_seen else ():
                if name in names_of(rule):
                    device.changed = True
                    self._judge.judge(state, device, rule, evaluate(device.points), device.points, None, now)
            if plan.cleared_by_event and device.ongoing:
                device.changed = True
                self._judge.end_events(state, device, plan, now)
            if plan.watched:
                watch(state, device, plan, now)

    def _look_again(self, state: State, device: Device, plan: Plan, rule_id: str, due: int) -> None:
        """A condition may have changed without a message; its deadline has come."""
        del device.armed[rule_id]
        device.changed = True
        watched = plan.watched.get(rule_id)
        if watched is None:
            return
        grow(state, device, plan, due)
        fade(device, watched.fading, due)
        rule = plan.rules[rule_id]
        if rule.when is not None and not rule.when.uses_event:
            self._judge.judge(
                state, device, rule, rule.when.evaluate(device.points), device.points, None, due
            )
        else:
            self._judge.end_events(state, device, plan, due)
        watch(state, device, plan, due)

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
            grow(state, device, plan, due)
        around = self._around.notice(state, device, (name,), device.points, due)
        for rule, evaluate in plan.telemetry:
            self._judge.judge(state, device, rule, evaluate(device.points), device.points, None, due)
        self.look(state, around, due)
        watch(state, device, plan, due)

    def _check_silence(self, state: State, device: Device, rule: Rule, due: int) -> None:
        """Silence counts from the last message, or since it is waited for, and only while the gateway listens."""
        if state.listening_since is None or rule.silent_for_ms is None or not silent_since(device):
            return  # armed anew when the gateway listens again, or hears it
        really = max(silent_since(device), state.listening_since) + rule.silent_for_ms
        if really <= due:
            really = earliest(state, device, rule, due, self._board.calendar)
        if really > due:
            heappush(state.deadlines, (really, key_of(rule.id, device), device.address, rule.id))
            return
        grow(state, device, self._plans[device.kind], due)
        ongoing = device.ongoing[rule.id] = Ongoing(rule.id)
        device.silences = (*device.silences, rule.id)
        device.changed = True
        self._board.raise_(state, device, rule, ongoing, due, due)

    def end_silence(self, state: State, device: Device, plan: Plan, now: int) -> None:
        """A device that was silent is heard at ``now`` (Unix ms)."""
        ended = [rule for rule in plan.silences if rule.id in device.silences]
        device.silences = ()
        for rule in ended:
            if device.ongoing.pop(rule.id, None) is not None:
                self._board.clear(state, device, rule, None, now)
        push_silences(state, device, ended, now)

    def wait(self, state: State, given: Awaited) -> None:
        """Who is registered and was never heard is missed in its time; what is no longer waited for is not silent."""
        for device in wait(state, given):
            if state.listening_since is not None:
                push_silences(state, device, self._plans[device.kind].silences, given.at)
        for device in release(state, given):
            self.end_silence(state, device, self._plans[device.kind], given.at)

    def take_run_out(self, state: State, device: Device, plan: Plan, reading: Reading, now: int) -> int:
        """Take what had run out when the device said this; gives the time when it was so, at most ``now``."""
        if reading.channel not in TIMED or not plan.kind.on_wire:
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
                self._judge.run_out(
                    state, device, rule, ongoing, late=unsure or was_missed(state, ongoing.due)
                )
        return now if told is None else min(told, now)

    def catch_up(self, state: State, given: CatchingUp) -> None:
        """At the end everything held is taken, and late alarms that still hold give their orders."""
        if not given.on and state.catching_up:
            deadlines = state.deadlines
            for deadline in state.held:
                heappush(deadlines, deadline)
            state.held.clear()
            while deadlines and deadlines[0][0] <= state.now:
                self._take(state, heappop(deadlines))
                self._board.annunciation.settle(state)
            self.order_late(state)
        state.catching_up = given.on

    def order_late(self, state: State) -> None:
        """Alarms that were told late give their orders, if they hold."""
        for key in sorted(state.told_late):
            state.told_late.discard(key)  # first: what fails here must not fail for ever
            alarm = state.alarms.get(key)
            if alarm is not None and alarm.active and alarm.rule in self._rules:
                self._board.order(state, alarm, self._rules[alarm.rule], state.now)
