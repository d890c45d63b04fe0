"""Plays a scenario against a broker and watches what the gateway makes of it.

`Play` drives the devices, lets things happen at their times, reads ``{prefix}/{site}/alarm/+`` and tells
every event to a callback: a printer (`describe` gives the line) or a user interface. It goes on when the
broker restarts.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable
from dataclasses import dataclass

import aiomqtt

from devices.topics import Topics
from simulators.connections import LAST_RETRY_S, Broker, heed_cancellation
from simulators.device import Happening
from simulators.fleet import Fleet, Tempo
from simulators.scenario import Scenario
from simulators.simulation import Simulation
from simulators.verdicts import Change, Judge, Met, Missed, Verdict

WATCH_RETRY_S = 0.25
WATCHING_S = 10.0
"""How long the beginning waits for the watcher's subscription."""
TICK_S = 0.25


@dataclass(frozen=True, slots=True)
class Began:
    """The devices are connected and their time has begun."""

    at_s: float
    online: int
    devices: int


@dataclass(frozen=True, slots=True)
class Happened:
    """Something of the timeline was done."""

    at_s: float
    happening: Happening


@dataclass(frozen=True, slots=True)
class Noted:
    """A line about connections."""

    at_s: float
    text: str


Event = Began | Happened | Noted | Verdict
"""What a `Play` tells."""


def describe(event: Event) -> str:
    """One line for a person."""
    match event:
        case Began():
            what = f"{event.online} of {event.devices} devices are connected"
        case Happened():
            one = event.happening
            parameters = "".join(f", {key} {value:g}" for key, value in one.parameters.items())
            what = f"happens   {one.device}: {one.verb} {one.name}{parameters}"
        case Noted():
            what = event.text
        case Change():
            alarm = event.alarm
            text = alarm.text.get("en", "")
            what = (
                f"{event.change:<9} {alarm.rule} of {alarm.device} ({alarm.severity}, {alarm.state}) {text}"
            )
        case Met():
            what = f"as it should: {event.expectation} (after {event.took_s:.1f} s)"
        case Missed():
            what = f"MISSED: {event.expectation}"
        case _:
            what = f"UNEXPECTED: {event.alarm.rule} of {event.alarm.device}"
    return f"{event.at_s:6.1f} s  {what.rstrip()}"


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
        self.judge = Judge(scenario.expect, others_forbidden=scenario.others_forbidden)
        self.simulation = Simulation(fleet, broker, self._note)
        self._scenario = scenario
        self._broker = broker
        self._tell = tell
        self._topics = Topics(broker.prefix, site)
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
        for verdict in self.judge.pass_time(float("inf")):
            self._tell(Missed(self.simulation.story_s, verdict.expectation))
        return self.judge.satisfied

    async def _until(self, at_s: float) -> None:
        await asyncio.sleep(max(0.0, at_s - self.simulation.story_s) / self.simulation.fleet.speed)

    async def _follow_timeline(self) -> None:
        simulation = self.simulation
        await simulation.began.wait()
        self._tell(Began(simulation.story_s, simulation.online, len(self._members)))
        for happening in self._scenario.timeline:
            await self._until(happening.at_s)
            simulation.happen(self._members[happening.device], happening)
            self._tell(Happened(simulation.story_s, happening))

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
