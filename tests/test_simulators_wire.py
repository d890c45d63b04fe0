"""Simulated devices on a real broker: what they publish, obey, leave behind, and how they come back."""

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path

import aiomqtt
import msgspec
import pytest

from devices.decoding import decode
from devices.topics import Route, Topics
from simulators.connections import Broker
from simulators.device import Happening
from simulators.fleet import Fleet, Member, Tempo, community
from simulators.play import Play
from simulators.scenario import find_scenario, load_scenario, parse_scenario
from simulators.simulation import Simulation
from simulators.telling import Event, Happened
from simulators.verdicts import Met
from tests.servers import Mosquitto
from tests.waiting import PATIENCE_S

ROOT = Path(__file__).resolve().parent.parent
TOPICS = Topics("community", "c1")
COMMAND = (
    "import argparse, sys; from simulators.command import *; p = argparse.ArgumentParser(); add_arguments(p);"
)


@pytest.fixture(scope="module")
def mosquitto() -> Iterator[Mosquitto]:
    with Mosquitto() as server:
        yield server


class Ear:
    """Hears everything below ``community/c1`` and lets a test wait for it."""

    def __init__(self) -> None:
        self.heard: list[aiomqtt.Message] = []
        self.client: aiomqtt.Client | None = None
        self._news = asyncio.Condition()

    async def listen(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            async with self._news:
                self.heard.append(message)
                self._news.notify_all()

    def of(self, ending: str) -> list[bytes]:
        return [message.payload for message in self.heard if message.topic.value.endswith(ending)]

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S), self._news:
            await self._news.wait_for(true)

    async def publish(self, topic: str, payload: object) -> None:
        assert self.client is not None
        retain = topic.startswith("alarm/")
        await self.client.publish(f"community/c1/{topic}", msgspec.json.encode(payload), qos=1, retain=retain)


@contextlib.asynccontextmanager
async def ear(port: int) -> AsyncIterator[Ear]:
    heard = Ear()
    async with aiomqtt.Client("127.0.0.1", port) as client:
        await client.subscribe("community/c1/#", qos=1)
        heard.client = client
        task = asyncio.create_task(heard.listen(client))
        try:
            yield heard
        finally:
            task.cancel()
            await asyncio.wait([task])


@contextlib.asynccontextmanager
async def simulated(simulation: Simulation) -> AsyncIterator[Simulation]:
    task = asyncio.create_task(simulation.run())
    try:
        async with asyncio.timeout(PATIENCE_S):
            await simulation.began.wait()
        yield simulation
    finally:
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled(), "a simulation ends only when it is told to"


def forget(port: int) -> None:
    """Take every retained message off the broker, so that one test does not tell another."""

    async def clean() -> None:
        async with aiomqtt.Client("127.0.0.1", port) as client:
            await client.subscribe("community/#", qos=1)
            await client.publish("forget", b"", qos=1)
            await client.subscribe("forget", qos=1)
            await client.publish("forget", b"end", qos=1)
            async for message in client.messages:
                if message.topic.value == "forget":
                    return
                await client.publish(message.topic.value, b"", qos=1, retain=True)

    asyncio.run(clean())


def on(server: Mosquitto, test: Callable[[Broker, Ear], Coroutine[object, object, None]]) -> None:
    """Run a test with a broker that remembers nothing and an ear on it."""

    async def run() -> None:
        async with ear(server.port) as heard:
            await test(Broker(port=server.port), heard)

    forget(server.port)
    asyncio.run(run())


def small(**tempo: float) -> Fleet:
    placements = community({"charger": 2, "smoke": 2, "button": 1, "elevator": 1, "siren": 1, "broadcast": 1})
    return Fleet(placements, tempo=Tempo(**tempo))


def member_of(fleet: Fleet, name: str) -> Member:
    return next(member for member in fleet.members if member.placement.id == name)


def test_devices_come_online_retained_and_say_only_what_the_gateway_decodes(mosquitto: Mosquitto) -> None:
    async def test(broker: Broker, heard: Ear) -> None:
        fleet = small(rate=50, speed=5)
        async with simulated(Simulation(fleet, broker, print)):
            await heard.until(
                lambda: len({m.topic.value for m in heard.heard if "telemetry" in m.topic.value}) == 8
            )
            assert sorted(set(heard.of("/status"))) == [b"online"]
        await heard.until(lambda: heard.of("/status").count(b"offline") == 8)
        now_ms = round(time.time() * 1_000)
        for message in heard.heard:
            route = TOPICS.route(message.topic.value)
            assert isinstance(route, Route)
            reading = decode(route, message.payload, now_ms)
            assert reading.ts is None, "its time is believed"
            assert abs(reading.source_time - now_ms) < 30_000
        async with aiomqtt.Client("127.0.0.1", mosquitto.port) as late:
            await late.subscribe("community/c1/+/+/status")
            first = await anext(aiter(late.messages))
            assert (first.retain, first.payload) == (True, b"offline")

    on(mosquitto, test)


def test_commands_are_obeyed_answered_and_never_obeyed_twice(mosquitto: Mosquitto) -> None:
    async def test(broker: Broker, heard: Ear) -> None:
        fleet = small(rate=5)
        port = "charger/shed1-p01"
        async with simulated(Simulation(fleet, broker, print)):
            order = {
                "id": "c-1",
                "command": "cut_power",
                "args": {},
                "expires_at": (time.time() + 60) * 1_000,
            }
            await heard.publish(f"{port}/command", order)
            await heard.until(lambda: len(heard.of(f"{port}/command/result")) == 1)
            await heard.publish(f"{port}/command", order)
            await heard.publish(f"{port}/command", order | {"id": "c-2", "expires_at": 1})
            await heard.publish(f"{port}/command", order | {"id": "c-3", "command": "dance"})
            await heard.until(lambda: len(heard.of(f"{port}/command/result")) == 4)
            first, again, late, unknown = map(msgspec.json.decode, heard.of(f"{port}/command/result"))
            assert first == again == {"command_id": "c-1", "status": "done", "detail": ""}
            assert (late["status"], unknown["status"]) == ("rejected", "rejected")
            await heard.until(lambda: b'"power":0.0' in heard.of(f"{port}/telemetry")[-1])

    on(mosquitto, test)


def test_a_broken_connection_publishes_the_will_and_the_device_comes_back(mosquitto: Mosquitto) -> None:
    async def test(broker: Broker, heard: Ear) -> None:
        fleet = small(rate=20)
        async with simulated(Simulation(fleet, broker, print)) as simulation:
            happening = Happening("fault", "offline", {"for": 0.5})
            simulation.happen(member_of(fleet, "sm0001"), happening)
            await heard.until(lambda: heard.of("sm0001/status") == [b"online", b"offline", b"online"])
            seen = len(heard.of("sm0001/telemetry"))
            await heard.until(lambda: len(heard.of("sm0001/telemetry")) > seen)
            assert set(heard.of("sm0002/status")) == {b"online"}

    on(mosquitto, test)


def start(port: int, *arguments: str) -> subprocess.Popen[str]:
    """`anlin simulate` as a process of its own."""
    return subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"{COMMAND} sys.exit(run(p.parse_args()))",
            "--broker",
            f"127.0.0.1:{port}",
            *arguments,
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_killing_the_simulator_publishes_every_will_and_ending_it_says_goodbye(mosquitto: Mosquitto) -> None:
    async def test(broker: Broker, heard: Ear) -> None:
        for sign, code in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 0), (signal.SIGINT, 0)):
            heard.heard.clear()
            process = start(broker.port, "--chargers", "3", "--rate", "20")
            try:
                await heard.until(lambda: len({m.topic.value for m in heard.heard}) >= 6)
                process.send_signal(sign)
                output, _ = await asyncio.to_thread(process.communicate, timeout=PATIENCE_S)
            finally:
                process.kill()
            assert process.returncode == code, output
            assert "Traceback" not in output
            await heard.until(lambda: heard.of("/status").count(b"offline") == 3)

    on(mosquitto, test)


def test_more_than_a_thousand_devices_share_connections_and_it_is_said(mosquitto: Mosquitto) -> None:
    async def test(broker: Broker, heard: Ear) -> None:
        lines: list[str] = []
        fleet = Fleet(community({"button": 1_001}), tempo=Tempo(rate=100))
        async with simulated(Simulation(fleet, broker, lines.append)) as simulation:
            assert any("1001 devices share 32 connections" in line and "no wills" in line for line in lines)
            assert simulation.online == 1_001
            assert mosquitto.log.count("New client connected from 127.0.0.1") < 100
            topic = "button/bt0777"
            await heard.publish(f"{topic}/command", {"id": "c", "command": "confirm", "args": {}})
            await heard.until(lambda: b'"done"' in b"".join(heard.of(f"{topic}/command/result")))
            happening = Happening("fault", "offline", {"for": 0.3})
            simulation.happen(member_of(fleet, "bt0777"), happening)
            await heard.until(lambda: heard.of("bt0777/status") == [b"online", b"offline", b"online"])
        await heard.until(lambda: heard.of("/status").count(b"offline") == 1_002)

    with Mosquitto() as fresh:
        mosquitto = fresh
        on(fresh, test)


def test_the_demo_says_on_the_wire_what_its_story_tells(mosquitto: Mosquitto) -> None:
    scenario = load_scenario(find_scenario("demo"))
    told: list[Event] = []

    async def test(broker: Broker, heard: Ear) -> None:
        play = Play(scenario, broker, tell=told.append, speed=50)
        assert not await play.run(scenario.duration_s), "nobody raises an alarm here"
        assert [one.cause for one in told if isinstance(one, Happened)] == list(scenario.timeline)
        assert len({m.topic.value for m in heard.heard if "telemetry" in m.topic.value}) == len(
            scenario.placements
        )
        hot = [msgspec.json.decode(payload)["temperature"] for payload in heard.of("shed1-p07/telemetry")]
        assert max(hot) > 80, "nobody cuts its power"
        assert any(b'"smoke":true' in payload for payload in heard.of("sm0001/telemetry"))
        assert any(b'"emergency"' in payload for payload in heard.of("bt0042/event"))
        types = [
            event["type"]
            for event in map(msgspec.json.decode, heard.of("lift-3-2-a/event"))
            if event["label"] == "ebike"
        ]
        assert (types[0], types[-1]) == ("new", "end")
        assert not any(b'"ebike"' in payload for payload in heard.of("lift-1-1-a/event"))

    on(mosquitto, test)


STORY = """
name: press
devices: {buttons: 2, chargers: 2}
rate: 20
timeline: [{at: 500ms, device: bt0002, action: emergency}]
expect:
  - {alarm: button-emergency, device: bt0002, within: 10s}
  - {alarm: button-emergency, device: bt0002, change: cleared, within: 10s}
"""


async def gatekeeper(heard: Ear, name: str) -> None:
    """The least that a gateway does: an alarm for a press, cleared at once."""
    await heard.until(lambda: any(b"emergency" in payload for payload in heard.of(f"{name}/event")))
    alarm = {"id": "A1", "rule": "button-emergency", "kind": "button", "device": name, "severity": "critical",
             "state": "unacked", "version": 1, "occurrences": 1, "cleared_at": None}  # fmt: skip
    await heard.publish("alarm/A1", alarm)
    await heard.publish(
        "alarm/A1", alarm | {"version": 2, "state": "normal", "cleared_at": "2026-11-22T08:00:00Z"}
    )


def test_a_scenario_is_satisfied_when_its_alarms_come(mosquitto: Mosquitto) -> None:
    told: list[Event] = []

    async def test(broker: Broker, heard: Ear) -> None:
        play = Play(parse_scenario(STORY, "story.yaml"), broker, tell=told.append)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(gatekeeper(heard, "bt0002"))
            playing = tasks.create_task(play.run(2))
        assert playing.result()
        assert [one.expectation.change for one in told if isinstance(one, Met)] == ["raised", "cleared"]

    on(mosquitto, test)


def test_a_press_while_the_broker_is_away_arrives_when_it_is_back() -> None:
    async def run(server: Mosquitto) -> None:
        fleet = small(rate=20)
        lost = asyncio.Event()

        def log(line: str) -> None:
            if "connection lost" in line:
                lost.set()

        async with simulated(Simulation(fleet, Broker(port=server.port), log)) as simulation:
            server.kill9()
            async with asyncio.timeout(PATIENCE_S):
                await lost.wait()
            simulation.happen(member_of(fleet, "bt0001"), Happening("action", "emergency"))
            server.start()
            async with ear(server.port) as heard:
                await heard.until(
                    lambda: any(b"emergency" in payload for payload in heard.of("bt0001/event"))
                )
                await heard.until(lambda: heard.of("/status").count(b"online") == 8)

    with Mosquitto() as server:
        asyncio.run(run(server))


def test_a_play_goes_on_over_a_restart_of_the_broker() -> None:
    story = re.sub(r"timeline:.*\n", "", STORY).replace("10s", "60s")

    async def run(server: Mosquitto) -> None:
        met = asyncio.Event()

        def tell(event: Event) -> None:
            if isinstance(event, Met) and event.expectation.change == "cleared":
                met.set()

        play = Play(parse_scenario(story, "story.yaml"), Broker(port=server.port), tell=tell)
        playing = asyncio.create_task(play.run())
        async with asyncio.timeout(PATIENCE_S):
            await play.simulation.began.wait()
        server.restart()
        async with ear(server.port) as heard:
            press = Happening("action", "emergency")
            play.simulation.happen(member_of(play.simulation.fleet, "bt0002"), press)
            await gatekeeper(heard, "bt0002")
            async with asyncio.timeout(PATIENCE_S):
                await met.wait()
        playing.cancel()
        await asyncio.wait([playing])
        assert play.judge.satisfied

    with Mosquitto() as server:
        asyncio.run(run(server))
