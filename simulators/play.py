"""Plays a scenario in real time against a broker and watches what the gateway makes of it.

`Play` drives the devices, lets things happen at their times, reads ``{prefix}/{site}/alarm/+`` and tells
every event to a callback: a printer (`simulators.telling` gives the line) or a user interface. It goes on when the
broker restarts. For what is not the devices' own (a person, the broker, the cloud, the gateway) a line asks a person.
"""

import asyncio
import contextlib
import random
import shlex
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase

import aiomqtt

from devices.topics import Topics
from simulators import causes
from simulators.connections import LAST_RETRY_S, Broker, heed_cancellation
from simulators.device import Happening
from simulators.fleet import Fleet, Member, Tempo
from simulators.scenario import Scenario
from simulators.simulation import Simulation
from simulators.telling import Began, Event, Happened, Noted, not_due
from simulators.verdicts import Judge, Missed, Ordered

WATCH_RETRY_S = 0.25
WATCHING_S = 10.0
"""How long the beginning waits for the watcher's subscription."""
TICK_S = 0.25


class Play:
    """One performance of a scenario. ``tell`` is called in the event loop and must return at once."""

    def __init__(
        self,
        scenario: Scenario,
        broker: Broker,
        *,
        site: str = "c1",
        tell: Callable[[Event], None],
        speed: float = 1.0,
    ) -> None:
        """``speed`` is for a look without a gateway: rules and their delays know only real time."""
        fleet = Fleet(
            scenario.placements,
            site=site,
            seed=scenario.seed,
            tempo=Tempo(scenario.rate, speed, scenario.starts_at_s),
        )
        self.judge = Judge(
            scenario.expect, others_forbidden=scenario.others_forbidden, allowed=scenario.allowed
        )
        self.simulation = Simulation(fleet, broker, self._note, ordered=self._ordered)
        self._scenario = scenario
        self._broker = broker
        self._tell = tell
        self._topics = Topics(broker.prefix, site)
        self.undue = 0
        """Expectations of which nothing can be said: the performance ended before they were due."""
        self._watching = asyncio.Event()
        self._members = {member.placement.id: member for member in fleet.members}

    def _note(self, text: str) -> None:
        self._tell(Noted(self.simulation.story_s, text))

    async def run(self, seconds: float | None = None) -> bool:
        """Play for ``seconds`` (for ever without), then switch the devices off.

        True if all expected alarms came in time and no forbidden one did.
        """
        async with asyncio.TaskGroup() as tasks:
            watcher = tasks.create_task(self._watch(), name="scenario-watch")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(WATCHING_S):
                    await self._watching.wait()
            players = [
                tasks.create_task(self.simulation.run(), name="scenario-devices"),
                tasks.create_task(self._follow_timeline(), name="scenario-timeline"),
                tasks.create_task(self._pass_time(), name="scenario-time"),
            ]
            await self.simulation.began.wait()
            await self._until(float("inf") if seconds is None else seconds)
            for task in (*players, watcher):
                task.cancel()
        ended_s = self.simulation.story_s
        for verdict in self.judge.pass_time(float("inf")):
            if isinstance(verdict, Missed) and verdict.expectation.until_s > ended_s:
                self.undue += 1
                self._tell(not_due(ended_s, verdict.expectation))
            elif isinstance(verdict, Missed):
                self._tell(Missed(ended_s, verdict.expectation, verdict.why))
        return self.judge.satisfied

    async def _until(self, at_s: float) -> None:
        await asyncio.sleep(max(0.0, at_s - self.simulation.story_s) / self.simulation.fleet.speed)

    async def _follow_timeline(self) -> None:
        simulation = self.simulation
        await simulation.began.wait()
        self._tell(Began(simulation.story_s, simulation.online, len(self._members)))
        for cause in self._scenario.timeline:
            await self._until(cause.at_s)
            if not cause.quiet:
                self._tell(Happened(simulation.story_s, cause))
            self._happen(cause)

    def _happen(self, cause: causes.Cause) -> None:
        simulation = self.simulation
        for name in cause.devices or ("",):
            member = self._members.get(name)
            match cause.act:
                case Happening() as happening if member is not None:
                    simulation.happen(member, happening)
                case causes.Setting(points=points) if member is not None:
                    simulation.set(member, points)
                case causes.Unsetting(names=names) if member is not None:
                    simulation.unset(member, names)
                case causes.Saying() as saying if member is not None:
                    simulation.say_exactly(member, saying)
                case causes.Ordering() as ordering if member is not None:
                    self._by_hand(member, ordering)
        match cause.act:
            case causes.Load(rate=rate):
                simulation.load(rate)
            case causes.Handling() as handling:
                self._handle(handling, cause.devices)
            case causes.Outage() as outage:
                self._outage(outage)

    def _by_hand(self, member: Member, ordering: causes.Ordering) -> None:
        if not ordering.by:
            told = self.simulation.obey(member, ordering.command, ordering.args)
            self._tell(told)
            self.judge.see_by_hand(told)
            return
        placement = member.placement
        args = (part for key, value in ordering.args.items() for part in ("--arg", f"{key}={value}"))
        why = ("--comment", ordering.comment) if ordering.comment else ()
        device = f"{placement.kind}/{placement.id}"
        typed = shlex.join(("anlin", "order", device, ordering.command, *args, "--by", ordering.by, *why))
        self._note(f"please: {typed}")

    def _handle(self, handling: causes.Handling, devices: Sequence[str]) -> None:
        standing = [
            alarm.id
            for alarm in self.judge.board
            if fnmatchcase(alarm.rule, handling.alarm)
            and (not devices or alarm.device in devices)
            and alarm.state != "normal"
        ]
        verb = "ack" if handling.does is causes.Person.ACKNOWLEDGE else "close"
        for alarm_id in standing:
            comment = handling.comment or "as the scenario says"
            typed = shlex.join(("anlin", "alarms", verb, alarm_id, "--by", handling.by, "--comment", comment))
            self._note(f"please: {typed}")
        if not standing:
            self._note(f"nothing of {handling.alarm} stands")

    def _outage(self, outage: causes.Outage) -> None:
        if outage.of is causes.Surrounding.BROKER:
            self.simulation.lose_broker(back=outage.back)
            self._note(
                "the devices have lost the broker; it is not touched from here"
                if not outage.back
                else "the devices reach the broker again"
            )
        else:
            self._note(
                f"please: {'start' if outage.back else 'stop'} the {outage.of}; it cannot be done from here"
            )

    def _ordered(self, order: Ordered) -> None:
        for verdict in self.judge.see_order(order):
            self._tell(verdict)

    async def _pass_time(self) -> None:
        await self.simulation.began.wait()
        while True:
            for verdict in self.judge.pass_time(self.simulation.story_s):
                self._tell(verdict)
            await asyncio.sleep(TICK_S / self.simulation.fleet.speed)

    async def _watch(self) -> None:
        retry_s = WATCH_RETRY_S
        while True:
            try:
                async with self._broker.client(f"sim-watch-{random.randrange(1 << 32):08x}") as client:
                    await client.subscribe(self._topics.alarm("+"), qos=1)
                    heed_cancellation()
                    self._watching.set()
                    retry_s = WATCH_RETRY_S
                    async for message in client.messages:
                        self._see(message)
            except aiomqtt.MqttError:
                await asyncio.sleep(retry_s * random.uniform(0.5, 1))  # the devices tell of the outage
                retry_s = min(LAST_RETRY_S, 2 * retry_s)

    def _see(self, message: aiomqtt.Message) -> None:
        if message.retain and not self.simulation.began.is_set():
            self.judge.remember(message.payload)
            return
        alarm_id = message.topic.value.rsplit("/", 1)[-1]
        for verdict in self.judge.see(alarm_id, message.payload, self.simulation.story_s):
            self._tell(verdict)
