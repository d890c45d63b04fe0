"""A story in real time over a real broker: causes that are no physics of a device, and who is asked for the rest."""

import asyncio
import contextlib
import shlex
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence

import aiomqtt
import msgspec
import pytest

from simulators.connections import Broker
from simulators.play import Play
from simulators.scenario import parse_scenario
from simulators.telling import Event, Noted, describe
from simulators.verdicts import Met, Ordered
from tests.servers import Mosquitto
from tests.waiting import PATIENCE_S, until

STORY = """
name: everything
rate: 5
devices:
  - {kind: button, id: b1, count: 4, building: "1"}
  - {kind: charger, id: p1, count: 2, building: shed-1}
  - {kind: elevator, id: lift-1, building: "1"}
initial:
  - {device: b1, fault: duplicate, copies: 2, apart: 100ms}
  - {device: b2, fault: clock, by: -365d}
  - {device: b3, fault: corrupt}
  - {device: p1, set: {temperature: 77}}
timeline:
  - {at: 200ms, device: [b1, b2, b3], action: emergency}
  - {at: 300ms, device: p2, telemetry: {leakage: 99}}
  - {at: 400ms, device: lift-1, raw: "nonsense", channel: event}
  - {at: 500ms, device: lift-1, power: cut, for: 500ms}
  - {at: 600ms, acknowledge: button-*, by: Wang Li, comment: 'she said "$5"'}
  - {at: 1s, load: 40, for: 500ms}
  - {at: 1200ms, broker: away, for: 500ms}
  - {at: 1300ms, device: b4, action: emergency}
  - {at: 1400ms, cloud: away}
expect:
  - {order: cut_power, device: p1, by: 20s, result: done}
"""


@pytest.fixture(scope="module")
def mosquitto() -> Iterator[Mosquitto]:
    with Mosquitto() as server:
        yield server


class Ear:
    """What was said on each topic, the client with which a test speaks, and what it hears next."""

    def __init__(self, client: aiomqtt.Client) -> None:
        self.client = client
        self.heard: dict[str, list[bytes]] = defaultdict(list)
        self._news = asyncio.Condition()

    async def listen(self) -> None:
        async for message in self.client.messages:
            async with self._news:
                self.heard[message.topic.value.removeprefix("community/c1/")].append(message.payload)
                self._news.notify_all()

    def of(self, topic: str) -> Sequence[bytes]:
        return self.heard[topic]

    async def until(self, topic: str, count: int) -> None:
        async with asyncio.timeout(PATIENCE_S), self._news:
            await self._news.wait_for(lambda: len(self.heard[topic]) >= count)


@contextlib.asynccontextmanager
async def playing(port: int, told: list[Event]) -> AsyncIterator[Ear]:
    scenario = parse_scenario(STORY, "story.yaml")
    play = Play(scenario, Broker(port=port), tell=told.append)
    async with aiomqtt.Client("127.0.0.1", port) as client:
        await client.subscribe("community/c1/#", qos=1)
        ear = Ear(client)
        tasks = [asyncio.create_task(ear.listen()), asyncio.create_task(play.run())]
        try:
            yield ear
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


def alarm(**changed: object) -> bytes:
    told = {"id": "A1", "rule": "button-emergency", "kind": "button", "device": "b1", "severity": "critical"}
    return msgspec.json.encode({**told, "state": "unacked", "version": 1, **changed})


def test_what_happens_on_the_way_and_around_is_seen_on_the_wire(mosquitto: Mosquitto) -> None:
    told: list[Event] = []

    async def run() -> None:
        async with playing(mosquitto.port, told) as ear:
            await ear.until("button/b1/event", 1)
            await ear.client.publish("community/c1/alarm/A1", alarm(), qos=1)
            await ear.until("button/b1/event", 3)
            assert len(set(ear.of("button/b1/event"))) == 1, "the same, three times"
            await ear.until("button/b2/event", 1)
            ts = msgspec.json.decode(ear.of("button/b2/event")[0])["ts"]
            assert abs(time.time() * 1_000 - ts - 365 * 86_400_000) < 60_000
            await ear.until("button/b3/event", 1)
            with pytest.raises((msgspec.MsgspecError, AssertionError, KeyError, TypeError)):
                assert msgspec.json.decode(ear.of("button/b3/event")[0])["action"] == "emergency"
            await ear.until("charger/p1/telemetry", 1)
            hot = [msgspec.json.decode(payload)["temperature"] for payload in ear.of("charger/p1/telemetry")]
            assert hot[-1] == 77
            await ear.until("charger/p2/telemetry", 1)
            order = {
                "id": "c-1",
                "command": "cut_power",
                "args": {},
                "expires_at": (time.time() + 60) * 1_000,
            }
            await ear.client.publish("community/c1/charger/p1/command", msgspec.json.encode(order), qos=1)
            await ear.until("charger/p1/command/result", 1)
            await ear.until("elevator/lift-1/status", 3)
            assert list(ear.of("elevator/lift-1/status"))[:3] == [b"online", b"offline", b"online"]
            assert b"nonsense" in ear.of("elevator/lift-1/event")
            await ear.until("button/b4/status", 3)
            await ear.until("button/b4/event", 1)
            await until(
                lambda: any("cloud" in describe(event) and isinstance(event, Noted) for event in told)
            )

    asyncio.run(run())
    lines = [describe(event) for event in told]
    (asked,) = (line.partition("please: ")[2] for line in lines if "alarms ack" in line)
    assert shlex.split(asked)[3:] == ["A1", "--by", "Wang Li", "--comment", 'she said "$5"']
    assert any("please: stop the cloud" in line for line in lines)
    assert any(isinstance(event, Ordered) and event.result == "done" for event in told)
    assert any(isinstance(event, Met) for event in told)
    assert any(b'"leakage":99' in str(line).encode() or "leakage 99" in line for line in lines)
