"""The whole system with real processes, and what can be seen of it from outside.

Devices → proxy → Mosquitto (as shipped) ← proxy ← ``anlin run`` with web and bridge → proxy → cloud store.
Ears listen at the broker itself.
"""

import json
import shutil
import subprocess
import sys
import threading
import time
from collections import defaultdict
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Self

import psutil

from edge.control_client import NodeAwayError, OrderRefusedError
from edge.store.reader import JournalReader
from tests.chaos.clock import SteppedClock
from tests.chaos.disk import Disk
from tests.chaos.proxy import Proxy
from tests.chaos.storm import STORM_NUMBERS
from tests.chaos.traffic import Message, Traffic
from tests.chaos.wires import Devices, Ear, wait_until
from tests.gateway import ANLIN, ROOT, Gateway, gone
from tests.servers import Mosquitto, Server
from tests.waiting import PATIENCE_S

TALKERS = 3
STEP_S = 0.02
PEOPLE_EVERY_S = 2.0
REFUSED = 4
RIVAL = "another gateway uses the same node name"
STORM_CLIENTS = 2
"""Programs that a storm comes from: one alone takes longer than the five seconds."""


class Cloud(Server):
    """`tests.chaos.cloud` as a process."""

    def command(self) -> list[str]:
        return [
            *("env", f"PYTHONPATH={ROOT}", sys.executable, "-m", "tests.chaos.cloud"),
            *("--port", str(self.port), "--folder", str(self.folder)),
        ]

    def answer(self, order: str) -> None:
        """From the next request on; `usual` is 204."""
        (self.folder / "orders").write_text(order)

    @property
    def lines(self) -> bytes:
        """Everything it has stored."""
        path = self.folder / "lines"
        return path.read_bytes() if path.exists() else b""


@dataclass
class Notes:
    """What happened, in Unix ms where a time is kept."""

    deaths: list[tuple[int, int]] = field(default_factory=list)
    """Of the broker by kill -9: when it had last saved itself, and when it came back."""
    complaints: list[str] = field(default_factory=list)
    by_people: set[str] = field(default_factory=set)
    crashes: list[int] = field(default_factory=list)
    """Of the gateway, by kill -9 or by itself."""
    rivals: int = 0
    """How often it took a broker that fell again and again for a second gateway of its name, and ended."""
    restarts: int = 0
    unsynced: int = 0
    """Changes that power cuts put in danger."""


class World:
    """Everything that runs. ``say`` prints progress."""

    def __init__(
        self, folder: Path, seed: int, *, rate: float, dangers_per_s: float, with_clock: bool
    ) -> None:
        self.folder = folder
        self.notes = Notes()
        self.traffic = Traffic(seed, rate=rate, dangers_per_s=dangers_per_s)
        self.broker = Mosquitto.as_shipped()
        self.cloud = Cloud()
        self.supervised = True
        """Whether a gateway that has ended is started again, as systemd does."""
        self.dangers = True
        self._with_clock = with_clock
        self._seed = seed
        self.stormed: dict[int, int] = {}
        """What the broker has acknowledged to reconnect storms: number and Unix ms."""
        self.storms_ms: list[int] = []
        """What each program of a storm took until the broker had acknowledged its last device."""
        self._storms: list[subprocess.Popen[bytes]] = []
        self._storm_number = 0
        self._read = 0
        """Of what the gateway says on standard error."""
        self._stack = ExitStack()
        self._over = threading.Event()

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            undo.enter_context(self.broker)
            undo.enter_context(self.cloud)
            self.gateway_network = undo.enter_context(Proxy(self.broker.port, self._seed))
            self.device_network = undo.enter_context(Proxy(self.broker.port, self._seed + 1))
            self.cloud_network = undo.enter_context(Proxy(self.cloud.port, self._seed + 2))
            self.disk = Disk(self.folder / "gw" / "data", self.folder)
            undo.callback(self.disk.close)
            environment = self.disk.environment
            self.clock = SteppedClock(self.folder) if self._with_clock else None
            if self.clock is not None:
                environment = self.clock.beside(environment)
            self.gateway = Gateway(
                self.folder / "gw",
                self.gateway_network.port,
                command=["env", *(f"{k}={v}" for k, v in environment.items()), *ANLIN, "run", "--config"],
                cloud={"url": f"http://127.0.0.1:{self.cloud_network.port}"},
                unregistered_max=200_000,
            )
            (self.folder / "gw").mkdir(parents=True, exist_ok=True)
            undo.callback(self.gateway.kill9)
            self.gateway.start()
            self.ear = Ear(self.broker.port, "ear")
            self.devices = [Devices(self.device_network.port, f"devices-{each}") for each in range(TALKERS)]
            for thread in (self.ear, *self.devices):
                thread.start()
                undo.callback(thread.end)
            assert self.ear.listening.wait(PATIENCE_S)
            self._people = [
                threading.Thread(target=self._speak, name="voice", daemon=True),
                threading.Thread(target=self._see_to_alarms, name="people", daemon=True),
            ]
            for person in self._people:
                person.start()
            undo.callback(self._hush)
            self._stack = undo.pop_all()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    # --- while it runs --------------------------------------------------------------------------------------

    def watch(self) -> None:
        """Called often: a gateway that has ended is started again, and it is noted."""
        if self.supervised and self.gateway.ended:
            assert self.gateway.process is not None
            self.notes.crashes.append(time.time_ns() // 1_000_000)
            if self.gateway.process.returncode == REFUSED and RIVAL in self.gateway.stderr[self._read :]:
                self.notes.rivals += 1
            elif not self.disk.lately_sick:  # one that starts on a disk that it cannot write refuses to
                self.notes.complaints.append(
                    f"the gateway ended by itself with {self.gateway.process.returncode}"
                )
            self._read = len(self.gateway.stderr)
            self.gateway.process = None
            self.gateway.launch()
            self.notes.restarts += 1

    def saved_ms(self) -> int:
        """When the broker has last written its database, Unix ms; 0 if never."""
        path = self.broker.folder / "mosquitto.db"
        return path.stat().st_mtime_ns // 1_000_000 if path.exists() else 0

    def crash(self) -> None:
        """Kill -9 of the gateway."""
        self.notes.crashes.append(time.time_ns() // 1_000_000)
        self.gateway.kill9()

    def kill_tree(self) -> None:
        """The gateway and its children at once, as a power cut does."""
        if self.gateway.process is None:
            return
        family = psutil.Process(self.gateway.pid).children(recursive=True)
        self.crash()
        for process in family:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        wait_until(lambda: gone([process.pid for process in family]), 10)

    def _speak(self) -> None:
        while not self._over.wait(STEP_S):
            now = time.time()
            by_talker: dict[int, list[Message]] = defaultdict(list)
            for message in self.traffic.due(now, dangers=self.dangers):
                device = message.topic.split("/", 2)[1]
                by_talker[sum(device.encode()) % TALKERS].append(message)
            for talker, messages in by_talker.items():
                self.devices[talker].give(messages)

    def _see_to_alarms(self) -> None:
        """A person acknowledges an alarm now and then, if the gateway answers."""
        chance = Random(self._seed)
        while not self._over.wait(PEOPLE_EVERY_S):
            with suppress(NodeAwayError, OrderRefusedError, OSError, KeyError):
                board = sorted(self.gateway.board())
                if board:
                    alarm_id = chance.choice(board)
                    self.notes.by_people.add(alarm_id)
                    self.gateway.ask("ack", alarm_id=alarm_id, by="Li", comment="seen")

    def _hush(self) -> None:
        self._over.set()
        for person in self._people:
            person.join(10)

    # --- at the end -----------------------------------------------------------------------------------------

    def settle(self, timeout_s: float) -> None:
        """No more dangers and no more talk; wait until everything has gone where it should."""
        self.dangers = False
        wait_until(lambda: not self.traffic.waiting, timeout_s)
        self._hush()
        self.end_storms()
        if not wait_until(lambda: all(each.silent for each in self.devices), timeout_s):
            self.notes.complaints.append("the broker does not take what devices say")
        try:
            self.gateway.wait_listening(timeout_s)
        except AssertionError:
            self.notes.complaints.append("the gateway does not listen again")

    def journal(self) -> JournalReader:
        """Its journal, to be opened."""
        return JournalReader(self.gateway.data_dir / "journal.db")

    def storm(self, count: int) -> None:
        """So many devices reconnect within five seconds; their measurements go into the books."""
        self._storm_number += 1
        first = STORM_NUMBERS * self._storm_number
        share = count // STORM_CLIENTS
        for client in range(STORM_CLIENTS):
            command = (sys.executable, "-m", "tests.chaos.storm", "--port", str(self.broker.port))
            numbers = ("--count", str(share), "--first", str(first + client * share))
            self._storms.append(subprocess.Popen([*command, *numbers], cwd=ROOT, stdout=subprocess.PIPE))

    def end_storms(self) -> None:
        """Wait for those that have come, and write down what the broker has acknowledged to them."""
        for storm in self._storms:
            said, _ = storm.communicate(timeout=60)
            told = json.loads(said)
            acknowledged = {int(number): at for number, at in told["acknowledged"].items()}
            self.stormed.update(acknowledged)
            if acknowledged:
                self.storms_ms.append(max(acknowledged.values()) - told["begun"])
        self._storms.clear()

    def keep(self) -> None:
        """Evidence beside the gateway's files: what the servers wrote, what was heard, what dangers were said."""
        heard = self.ear.heard
        messages = self.traffic.messages
        staged = (each for danger in self.traffic.dangers for each in (*danger.raising, *danger.ending))
        for name, things in (
            ("heard", (*heard.alarms, *heard.orders)),
            ("staged", [messages[number] for number in staged]),
        ):
            lines = (json.dumps(asdict(each), default=bytes.decode) for each in things)
            (self.folder / f"{name}.jsonl").write_text("\n".join(lines))
        for name, server in (("broker", self.broker), ("cloud", self.cloud)):
            shutil.copytree(server.folder, self.folder / name, dirs_exist_ok=True)
