"""Sets the stage: free ports, a configuration of its own, the gateway as a process, the players.

Everything it makes lies in a temporary folder and ends with it, however the demo ends.
"""

import argparse
import asyncio
import json
import os
import signal
import socket
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import msgspec
from rich.live import Live

from devices.faults import ConfigurationError
from edge.control_client import SOCKET_NAME, ControlClient, ControlError
from edge.demo.store import StandInStore
from edge.demo.view import NodeStatus, View, console
from simulators.connections import Broker, BrokerUnreachableError, probe
from simulators.fleet import registry_tree
from simulators.play import Play
from simulators.scenario import Scenario, find_scenario, load_scenario
from simulators.telling import Event

SITE = "c1"
BROKER_PORT = 1883
BOARD_PORT = 8080
READY_S = 20.0
STOP_S = 5.0
LOOK_S = 0.5


class StageError(Exception):
    """The demo cannot begin; the text says what to do."""


def main(arguments: argparse.Namespace) -> int:
    """Play the demo; 0 if all alarms came (or nobody waited for them), 1 if not."""
    try:
        scenario = load_scenario(find_scenario("demo"))
        with tempfile.TemporaryDirectory(prefix="anlin-demo-") as folder, StandInStore() as store:
            return asyncio.run(_Stage(scenario, arguments, Path(folder), store).run())
    except (ConfigurationError, StageError, BrokerUnreachableError) as error:
        sys.stderr.write(f"anlin demo: {error}\n")
        return 1


def free_port(wanted: int) -> int:
    """``wanted``, or a free port if it is taken."""
    for port in (wanted, 0):
        with socket.socket() as probe_, suppress(OSError):
            probe_.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe_.bind(("127.0.0.1", port))
            bound: int = probe_.getsockname()[1]
            return bound
    raise StageError("no free port on 127.0.0.1: end some programs and try again")


class _Stage:
    def __init__(
        self, scenario: Scenario, arguments: argparse.Namespace, folder: Path, store: StandInStore
    ) -> None:
        self._scenario = scenario
        self._seconds: float | None = arguments.seconds
        self._folder = folder
        self._store = store
        self._console = console()
        self._broker_port = free_port(BROKER_PORT)
        wanted = arguments.port if arguments.port is not None else BOARD_PORT
        self._board_port = free_port(wanted)
        self._view = View(
            arguments.lang, f"http://127.0.0.1:{self._board_port}", f"127.0.0.1:{self._broker_port}"
        )
        self._moved = [
            self._view.say("taken", taken=taken, used=used, what=self._view.say(what))
            for taken, used, what in (
                (BROKER_PORT, self._broker_port, "for_broker"),
                (wanted, self._board_port, "for_board"),
            )
            if taken not in (used, 0)
        ]
        self._live: Live | None = None
        self._playing: Play | None = None

    async def run(self) -> int:
        said = (self._folder / "gateway.log").open("wb")  # not into the live view; shown if it fails
        gateway = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "edge",
            "run",
            "--config",
            str(self._configure()),
            env={name: value for name, value in os.environ.items() if not name.startswith("ANLIN_")},
            stderr=said,
            start_new_session=True,
        )
        said.close()
        loop = asyncio.get_running_loop()
        playing = asyncio.ensure_future(self._play(gateway))
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, playing.cancel)
        try:
            satisfied = await playing
        except asyncio.CancelledError:
            self._say(self._view.say("by_hand"))
            return 0
        finally:
            await self._end(gateway)
        if self._seconds is None:
            return 0
        self._say(self._verdict(satisfied=satisfied))
        return 0 if satisfied else 1

    def _verdict(self, *, satisfied: bool) -> str:
        if satisfied:
            return self._view.say("satisfied")
        play = self._playing
        if play is None or len(play.judge.missed) > play.undue or play.judge.unexpected:
            return self._view.say("missed")
        return self._view.say("undue", count=play.undue, seconds=self._scenario.duration_s)

    def _configure(self) -> Path:
        registry = self._folder / "registry.yaml"
        registry.write_text(json.dumps(registry_tree(self._scenario.placements)), encoding="utf-8")
        config = self._folder / "anlin.yaml"
        config.write_text(
            json.dumps(
                {
                    "site": SITE,
                    "data_dir": "data",
                    "devices": "registry.yaml",
                    "language": self._view.language,
                    "mqtt": {"embedded": True, "port": self._broker_port},
                    "http": {"port": self._board_port},
                    "cloud": {"url": self._store.url},
                    "log": {"level": "error"},
                }
            ),
            encoding="utf-8",
        )
        return config

    async def _play(self, gateway: asyncio.subprocess.Process) -> bool:
        broker = Broker("127.0.0.1", self._broker_port)
        for line in self._moved:
            self._say(line)
        self._say(self._view.say("where", board=self._view.board_url, broker=self._view.broker))
        await self._ready(gateway, broker)
        play = self._playing = Play(self._scenario, broker, site=SITE, tell=self._tell)
        with (
            Live(
                get_renderable=self._view.render,
                console=self._console,
                refresh_per_second=4,
                screen=False,
                transient=False,
            )
            if self._console.is_terminal
            else _Plain() as live
        ):
            self._live = live if isinstance(live, Live) else None
            looking = asyncio.create_task(self._look(), name="demo-look")
            watching = asyncio.create_task(gateway.wait(), name="demo-gateway")
            playing = asyncio.create_task(play.run(self._seconds), name="demo-play")
            try:
                await asyncio.wait({playing, watching}, return_when=asyncio.FIRST_COMPLETED)
                if not playing.done():
                    raise StageError(self._ended(gateway))
                return playing.result()
            finally:
                for task in (looking, watching, playing):
                    task.cancel()
                await asyncio.gather(looking, watching, playing, return_exceptions=True)
                self._live = None

    async def _ready(self, gateway: asyncio.subprocess.Process, broker: Broker) -> None:
        client = ControlClient(self._folder / "data" / SOCKET_NAME)
        try:
            async with asyncio.timeout(READY_S):
                while gateway.returncode is None:
                    with suppress(ControlError):
                        status = msgspec.json.decode(await client.request("status"), type=NodeStatus)
                        if status.health.status != "failed":
                            await probe(broker)
                            return
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise StageError(f"the gateway was not ready within {READY_S:.0f} s") from None
        finally:
            await client.close()
        raise StageError(self._ended(gateway))

    def _ended(self, gateway: asyncio.subprocess.Process) -> str:
        said = (self._folder / "gateway.log").read_text(encoding="utf-8", errors="replace").strip()
        return (
            f"the gateway ended by itself (exit {gateway.returncode}): {said[-2_000:] or 'it said nothing'}"
        )

    async def _look(self) -> None:
        client = ControlClient(self._folder / "data" / SOCKET_NAME)
        try:
            while True:
                with suppress(ControlError):
                    status = msgspec.json.decode(await client.request("status"), type=NodeStatus)
                    self._view.update(status, self._store.points)
                await asyncio.sleep(LOOK_S)
        finally:
            await client.close()

    def _tell(self, event: Event) -> None:
        line = self._view.tell(event)
        if self._live is None:
            self._say(line)

    def _say(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    @staticmethod
    async def _end(gateway: asyncio.subprocess.Process) -> None:
        with suppress(ProcessLookupError):
            gateway.terminate()
        try:
            await asyncio.wait_for(gateway.wait(), STOP_S)
        except TimeoutError:
            with suppress(ProcessLookupError):
                gateway.kill()
            await gateway.wait()


class _Plain:
    """No live view: lines are printed as they come."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None
