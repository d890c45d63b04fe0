"""A story in virtual time: the simulators' physics, the real decoder, the real engine, and no broker between them.

What devices say goes over their lines (`simulators.line`), is decoded as the gateway decodes it, checked for repeats
as the gateway does, and judged by `rules.engine`; orders go back to the devices, whose results are messages again.
The clock goes from moment to moment, so a day takes seconds, and the same seed gives the same story to the
millisecond. What virtual time cannot be like is modelled and said in `simulators.performance`, never passed over.
"""

import heapq
import math
import time
from collections.abc import Callable, Collection
from fnmatch import fnmatchcase
from functools import partial

import msgspec

from devices.readings import Channel, Scalar
from rules.decisions import Acknowledge, Close, Decision, Instruction, Listening, Order
from rules.definitions import RuleSet
from rules.language.texts import Language
from rules.wording import withheld_line
from simulators import details
from simulators.casting import SITE
from simulators.causes import (
    Cause,
    Handling,
    Load,
    Ordering,
    Outage,
    Person,
    Saying,
    Setting,
    Surrounding,
    Unsetting,
)
from simulators.device import Happening
from simulators.fleet import Fleet, Member, Tempo
from simulators.orders import Orders
from simulators.performance import Performance
from simulators.scenario import Scenario
from simulators.telling import Began, Event, Happened, Noted
from simulators.verdicts import Judge, Ordered
from simulators.virtual_broker import VirtualBroker
from simulators.virtual_gateway import Delivery, VirtualGateway

CAUGHT_UP_S = 0.5
"""So long after a stop, when nothing waits any more, the gateway has read its backlog (docs/adr/0009)."""
LOOK_S = 1.0
"""The gateway looks at itself so often, and then knows what is away."""
SESSION_LOST_S = 86_400.0
"""So long a lost session is told of (edge.broker.broker_watch)."""
UNDERWAY_MS = 1
"""A message is said so long before it arrives: a time that is that of the arrival counts as none (rules.backlog)."""

_ENCODER = msgspec.json.Encoder()


def rehearse(
    scenario: Scenario,
    rules: RuleSet,
    *,
    progress: Callable[[float], None] | None = None,
    unjudged: Collection[str] = (),
) -> Performance:
    """Play a story in virtual time. ``progress`` hears the story's time now and then.

    ``unjudged`` are ids of rules that the story cannot know: what they raise is told apart, and right in any case.
    """
    return _Rehearsal(scenario, rules, unjudged).run(progress)


class _Rehearsal:
    def __init__(self, scenario: Scenario, rules: RuleSet, unjudged: Collection[str]) -> None:
        self._scenario = scenario
        self._begin_ms = round(scenario.starts_at.timestamp() * 1_000)
        self._gateway = VirtualGateway(
            rules, scenario.registry, scenario.zone, lambda: self._now_ms, self._follow
        )
        self._broker = VirtualBroker(self._gateway.deliver)
        self._fleet = Fleet(
            scenario.placements,
            site=SITE,
            seed=scenario.seed,
            tempo=Tempo(scenario.rate, 1.0, scenario.starts_at_s),
        )
        self._members = {member.placement.id: member for member in self._fleet.members}
        self._orders = {member.address: Orders() for member in self._fleet.members}
        self._judge = Judge(
            scenario.expect,
            others_forbidden=scenario.others_forbidden,
            allowed=scenario.allowed,
            unjudged=unjudged,
        )
        self._events: list[Event] = []
        self._remarks: dict[str, Noted] = {}
        self._now_s = 0.0
        self._number = 0
        self._event_number = 0
        self._plans: list[tuple[float, int, Callable[[], None]]] = []

    # --- time ---------------------------------------------------------------------------------------------

    def run(self, progress: Callable[[float], None] | None) -> Performance:
        began = time.monotonic()
        scenario, end_s = self._scenario, self._scenario.duration_s
        self._tell(Began(0.0, len(self._members), len(self._members)))
        self._gateway.await_devices(self._begin_ms)
        self._gateway.tell(Listening(on=True, at=self._begin_ms))
        for member in self._fleet.members:
            self._status(member, "online")
        for cause in scenario.timeline:
            self._plan(cause.at_s, partial(self._happen, cause))
        moments = 0
        while (now_s := self._next_s()) <= end_s:
            self._now_s = max(self._now_s, now_s)
            self._moment()
            moments += 1
            if progress is not None and not moments % 5_000:
                progress(self._now_s)
        self._now_s = end_s
        self._gateway.tick()
        self._pass_time(math.inf)
        return Performance(
            scenario,
            tuple(self._events),
            tuple(self._judge.cases),
            tuple(self._judge.unexpected),
            tuple(self._remarks.values()),
            {**self._gateway.counts, "lost": self._broker.lost},
            tuple(alarm for alarm in self._judge.board if alarm.state != "normal"),
            time.monotonic() - began,
            tuple(self._judge.beside),
        )

    def _next_s(self) -> float:
        due_ms = self._gateway.due_ms
        return min(
            self._fleet.due_s,
            self._plans[0][0] if self._plans else math.inf,
            self._broker.due_s,
            math.inf if due_ms is None else max(self._now_s, (due_ms - self._begin_ms) / 1_000),
        )

    @property
    def _now_ms(self) -> int:
        return self._ms(self._now_s)

    def _ms(self, at_s: float) -> int:
        return self._begin_ms + round(at_s * 1_000)

    def _moment(self) -> None:
        """Everything that is due now: deadlines first, then causes, then what devices say."""
        self._pass_time(self._now_s)  # before: how it stood until now
        self._gateway.tick()
        while self._plans and self._plans[0][0] <= self._now_s:
            heapq.heappop(self._plans)[2]()
        for member, message in self._fleet.advance_to(self._now_s):
            self._say(member, message.channel, dict(message.payload), message.at_s)
        self._broker.pass_time(self._now_s)

    def _plan(self, at_s: float, does: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._plans, (at_s, self._number, does))

    def _pass_time(self, now_s: float) -> None:
        self._tell(*self._judge.pass_time(now_s))

    def _tell(self, *events: Event) -> None:
        self._events += events

    def _note(self, en: str, zh: str) -> None:
        self._tell(Noted(self._now_s, en, zh))

    def _remark(self, about: str, en: str, zh: str) -> None:
        if about not in self._remarks:
            self._remarks[about] = Noted(self._now_s, en, zh)

    # --- from a device to the gateway ---------------------------------------------------------------------

    def _say(self, member: Member, channel: Channel, payload: dict[str, Scalar], at_s: float) -> None:
        payload.setdefault("ts", self._ms(at_s) - UNDERWAY_MS + member.line.skew_ms(self._now_s))
        event = channel is Channel.EVENT
        if event:
            self._event_number += 1
            payload.setdefault("id", str(self._event_number))
        for later_s, body in member.line.carry(_ENCODER.encode(payload), self._now_s):
            self._send(member, channel, body, later_s, lasting=event)

    def _send(
        self, member: Member, channel: Channel, body: bytes, later_s: float = 0.0, *, lasting: bool = True
    ) -> None:
        self._broker.send(Delivery(member.address, channel, body), self._now_s + later_s, lasting=lasting)

    def _status(self, member: Member, state: str) -> None:
        self._send(member, Channel.STATUS, state.encode())

    # --- from the gateway to people and devices -----------------------------------------------------------

    def _follow(self, decision: Decision) -> None:
        for change in decision.changes:
            alarm = change.alarm
            self._tell(*self._judge.see(alarm.id, alarm.wire(), self._now_s))
            if not alarm.on_board:
                self._tell(*self._judge.see(alarm.id, b"", self._now_s))
        for order in decision.orders:
            self._give(order)
        for withheld in decision.withheld:
            _, _, device = withheld.address.split("/")
            self._note(
                f"withheld  {device}: {withheld.command}, {withheld.reason}",
                f"未下达 {device}：{details.command(withheld.command, Language.ZH)}，"
                f"{withheld_line(withheld.reason, Language.ZH)}",
            )

    def _give(self, order: Order) -> None:
        member = self._fleet.member(order.address)
        if member.device.offline or not self._broker.up:
            told = Ordered(self._now_s, member.placement.id, order.command, order.args, "")
        else:
            answer = self._orders[order.address].answer(
                order.wire(), self._now_ms, lambda command, args: self._fleet.obey(member, command, args)
            )
            result = {} if answer is None else msgspec.json.decode(answer, type=dict[str, str])
            status, detail = result.get("status", ""), result.get("detail", "")
            told = Ordered(self._now_s, member.placement.id, order.command, order.args, status, detail)
            if answer is not None:
                self._send(member, Channel.RESULT, answer)
        self._tell(*self._judge.see_order(told))

    # --- causes -------------------------------------------------------------------------------------------

    def _happen(self, cause: Cause) -> None:
        if not cause.quiet:
            self._tell(Happened(self._now_s, cause))
        self._fleet.now_s = max(self._fleet.now_s, self._now_s)
        for name in cause.devices or ("",):
            member = self._members.get(name)
            match cause.act:
                case Happening() as happening if member is not None:
                    self._physics(member, happening)
                case Setting(points=points) if member is not None:
                    self._fleet.set(member, points)
                case Unsetting(names=names) if member is not None:
                    self._fleet.unset(member, names)
                case Saying() as saying if member is not None:
                    self._say_exactly(member, saying)
                case Ordering() as ordering if member is not None:
                    self._by_hand(member, ordering)
        match cause.act:
            case Handling() as handling:
                self._handle(handling, cause.devices)
            case Load(rate=rate):
                self._fleet.load(rate)
            case Outage(of=Surrounding.BROKER) as outage:
                self._power_of_broker(outage)
            case Outage(of=Surrounding.GATEWAY, back=back):
                self._power_of_gateway(up=back)
            case Outage(of=Surrounding.CLOUD, back=back):
                self._cloud(away=not back)

    def _physics(self, member: Member, happening: Happening) -> None:
        was_offline = member.device.offline
        if happening.name == "flapping":
            return  # its turns are causes of their own
        self._fleet.happen(member, happening)
        if happening.name == "flood":
            self._remark(
                "flood",
                "The gateway's throttle of a device that says too much is not part of virtual time: every message is"
                " judged.",
                "虚拟时间不包含网关对消息过多设备的限流：每条消息都参与判断。",
            )
        device = member.device
        if device.offline and not was_offline:
            self._status(member, "offline")
        if device.offline and math.isfinite(until_s := device.offline_until_s) and device.powered:
            self._plan(until_s, lambda: self._resume(member, until_s))
        elif was_offline and not device.offline:
            self._come_back(member)

    def _resume(self, member: Member, until_s: float) -> None:
        if member.device.offline_until_s == until_s:  # nothing else has happened to it since
            member.device.offline_until_s = -math.inf
            if member.device.powered:
                self._come_back(member)

    def _come_back(self, member: Member) -> None:
        self._status(member, "online")
        self._fleet.introduce(member)

    def _say_exactly(self, member: Member, saying: Saying) -> None:
        if saying.raw is not None:
            self._send(member, saying.channel, saying.raw)
        else:
            self._say(member, saying.channel, dict(saying.fields), self._now_s)

    def _by_hand(self, member: Member, ordering: Ordering) -> None:
        """At its panel, of which the gateway knows nothing, or through the gateway."""
        command, args, by = ordering.command, ordering.args, ordering.by
        if by:
            if self._is_heard(by):
                given = Instruction(member.address, command, dict(args), by, ordering.comment, self._now_ms)
                self._gateway.tell(given)
            return
        outcome = self._fleet.obey(member, command, args)
        status, detail = outcome.status.value, outcome.detail
        told = Ordered(self._now_s, member.placement.id, command, args, status, detail)
        self._tell(told)
        self._judge.see_by_hand(told)

    def _is_heard(self, by: str) -> bool:
        """Whether a person reaches the gateway."""
        if not self._gateway.up:
            self._note(
                f"the gateway does not run: it hears no {by}",
                f"网关没有运行，{by} 的操作无效",
            )
        return self._gateway.up

    def _handle(self, handling: Handling, devices: tuple[str, ...]) -> None:
        if not self._is_heard(handling.by):
            return
        standing = [
            alarm
            for alarm in self._gateway.state.alarms.values()
            if fnmatchcase(alarm.rule, handling.alarm) and (not devices or alarm.device in devices)
        ]
        act = Acknowledge if handling.does is Person.ACKNOWLEDGE else Close
        for alarm in standing:
            self._gateway.tell(act(alarm.id, handling.by, handling.comment, self._now_ms))
        if not standing:
            self._note(f"nothing of {handling.alarm} stands", f"没有 {handling.alarm} 报警")

    # --- surroundings -------------------------------------------------------------------------------------

    def _power_of_broker(self, outage: Outage) -> None:
        if outage.back == self._broker.up:
            return
        self._remark(
            "broker",
            "There is no broker in virtual time. While it is away the gateway hears nothing and devices keep events"
            " only; then they come online again, and what was in flight is delivered again.",
            "虚拟时间没有 MQTT 服务器：其中断期间网关收不到消息，设备只保留事件；"
            "恢复后设备重新上线，未确认的消息重发一次。",
        )
        self._broker.up = outage.back
        self._find("broker_away", so=not outage.back)
        if not outage.back:
            self._gateway.go_deaf()
            return
        self._find("session_lost", so=outage.forgets)
        if outage.forgets:
            self._plan(self._now_s + SESSION_LOST_S, partial(self._find, "session_lost", so=False))
        self._hear(forgotten=outage.forgets)
        for member in self._fleet.members:
            if not member.device.offline:
                self._come_back(member)
            for channel, body in self._broker.take_kept(member.address):
                self._send(member, channel, body)

    def _power_of_gateway(self, *, up: bool) -> None:
        if up == self._gateway.up:
            return
        self._remark(
            "gateway",
            "The gateway's stop is its engine's: what it knew is written to a snapshot and read back, what was said"
            " meanwhile waits at the broker.",
            "网关停机只模拟规则引擎：状态写入快照再读回，期间的消息在 MQTT 服务器等待。",
        )
        if not up:
            self._gateway.stop()
            return
        self._gateway.start()
        self._plan(self._now_s + LOOK_S, self._gateway.look)
        if self._broker.up:
            self._hear()

    def _hear(self, *, forgotten: bool = False) -> None:
        self._gateway.hear_again(forgotten=forgotten)
        self._plan(self._now_s + CAUGHT_UP_S, self._caught_up)

    def _caught_up(self) -> None:
        if self._broker.up:
            self._gateway.caught_up()

    def _cloud(self, *, away: bool) -> None:
        self._remark(
            "cloud",
            "There is no cloud store in virtual time. Its outage is what the gateway knows of it; alarms and orders"
            " never wait for the cloud.",
            "虚拟时间没有云端存储：其中断只体现为网关的自身状态；报警和指令从不等待云端。",
        )
        self._find("cloud_away", so=away)

    def _find(self, reason: str, *, so: bool) -> None:
        self._gateway.find(reason, so=so)
        self._plan(self._now_s + LOOK_S, self._gateway.look)
