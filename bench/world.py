"""What a bench runs in: real servers, the gateway between them, and the programs that load and watch it."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from bench.compare import Verdict
from bench.gateway import ROOT, Gateway
from edge.store.reader import JournalReader
from edge.store.schema import FILE
from tests.servers import Mosquitto, VictoriaMetrics

PUBLISHERS = 2
WAIT_S = 300.0
OPEN_S = 1.0
"""Longer than a batch stays open (store.commit_ms) and its commit takes."""


class BenchError(Exception):
    """A bench could not be run to its end; the text says at what it waited."""


class Published(msgspec.Struct, frozen=True):
    """What a publisher says at its end; times are monotonic seconds of this machine."""

    began: float
    ended: float
    acknowledged: int
    refused: int
    payload_bytes: int


class Sample(msgspec.Struct, frozen=True):
    """One alarm that the probe asked for, ``late_ms`` later than meant; ``ms`` is None where it never came."""

    kind: str
    at: float
    late_ms: float
    ms: float | None


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is done: the full bench, or ``--quick`` to see that it runs."""

    messages: int
    background_s: float
    crash_s: float
    crash_rate: float
    backlog: int
    starts: int
    settle_s: float
    disk_s: float
    journal_bytes: int
    soak_s: float
    soak_rate: float
    history_s: int
    history_questions: int


FULL = Scale(
    messages=500_000,
    background_s=60,
    crash_s=60,
    crash_rate=1_000,
    backlog=1_000_000,
    starts=5,
    settle_s=3,
    disk_s=60,
    journal_bytes=2_000_000_000,
    soak_s=1_800,
    soak_rate=2_000,
    history_s=86_400,
    history_questions=40,
)
QUICK = Scale(
    messages=20_000,
    background_s=20,
    crash_s=5,
    crash_rate=1_000,
    backlog=50_000,
    starts=1,
    settle_s=0.5,
    disk_s=5,
    journal_bytes=20_000_000,
    soak_s=30,
    soak_rate=500,
    history_s=3_600,
    history_questions=8,
)


@dataclass(frozen=True, slots=True)
class World:
    """Broker, store and gateway. The gateway is not started yet."""

    folder: Path
    broker: Mosquitto
    store: VictoriaMetrics
    gateway: Gateway

    @contextmanager
    def publishing(self, rate: float) -> Iterator[None]:
        """Background traffic at ``rate`` messages/s for the length of the block; its ledger is kept."""
        with _until_told(publisher(self.broker.port, self.folder, 0, 1, rate=rate)):
            yield

    @contextmanager
    def babbling(self, rate: float) -> Iterator[None]:
        """One smoke sensor says ``rate`` messages/s for the length of the block; no ledger of this is compared."""
        ledger = self.folder / "babbler"
        command = [*_module("publisher"), f"--port={self.broker.port}", f"--ledger={ledger}"]
        with _until_told([*command, "--babbler", f"--rate={rate}"]):
            yield

    def publish(self, count: int, span_s: float = 0) -> list[Published]:
        """Publish ``count`` messages flat out from all publishers; see `flood`."""
        return flood(self.broker.port, self.folder, count, span_s)

    @contextmanager
    def probing(self, rate: float, samples: list[Sample]) -> Iterator[None]:
        """Ask for alarms for the length of the block; then ``samples`` holds how long each took."""
        command = [*_module("probe"), f"--port={self.broker.port}", f"--rate={rate}"]
        with _running(command) as process:
            expect(process, "ready")
            yield
            process.send_signal(signal.SIGTERM)
            lines = finish(process, codes=(0, 1)).splitlines()
            samples += [msgspec.json.decode(line, type=Sample) for line in lines]

    def compared(self, *, store: bool) -> Verdict:
        """What the program that compares says of all ledgers in the folder."""
        ledgers = [str(path) for path in self.folder.glob("ledger-*")]
        command = [*_module("compare"), "--ledger", *ledgers, "--journal", str(self.gateway.data / FILE)]
        if store:
            command.append(f"--store-port={self.store.port}")
        with _running(command) as process:
            verdict = msgspec.json.decode(finish(process, codes=(0, 1)), type=Verdict)
        if verdict.examples:
            print(f"missing, for example: {', '.join(verdict.examples)}", file=sys.stderr)
        return verdict

    def waiting(self, feed: str) -> int:
        """How much of a feed the cloud store lacks, by the position that the journal itself holds."""
        with JournalReader(self.gateway.data / FILE) as reader:
            return reader.behind(feed, reader.positions().get(feed, 0))

    def settle(self) -> None:
        """Wait until all that the broker has acknowledged is in the journal and all of that in the store."""
        time.sleep(OPEN_S)
        until(self._drained, "all points in the cloud store", every_s=0.25)

    def _drained(self) -> bool:
        """The bridge has stored as many lines as the journal asks for, or the journal knows that it has.

        The second is written down some seconds after the first, but outlives a restart of the bridge.
        """
        health = self.gateway.health()
        stored = health.cloud.stored if health is not None and health.cloud is not None else 0
        with JournalReader(self.gateway.data / FILE) as reader:
            if stored >= reader.behind("readings", 0) + reader.last_change():
                return True
        return not any(self.waiting(feed) for feed in ("readings", "alarms"))


@contextmanager
def world(
    folder: Path, profile: Path | None = None, wrapper: Sequence[str] = (), rules: str = ""
) -> Iterator[World]:
    """A broker as shipped, a store, a gateway that is not started; all ended with the block."""
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        broker = stack.enter_context(Mosquitto.as_shipped())
        store = stack.enter_context(VictoriaMetrics())
        gateway = stack.enter_context(
            Gateway(folder / "gw", broker.port, store.port, profile, wrapper, rules)
        )
        yield World(folder, broker, store, gateway)


def flood(port: int, folder: Path, count: int, span_s: float = 0) -> list[Published]:
    """Publish ``count`` messages flat out from all publishers and wait until the broker has them.

    ``span_s``: so long the devices have taken to say them, by their own times.
    """
    with ExitStack() as stack:
        shares = [count // PUBLISHERS + (share < count % PUBLISHERS) for share in range(PUBLISHERS)]
        processes = [
            stack.enter_context(
                _running([*publisher(port, folder, share, PUBLISHERS, count=part), f"--span={span_s}"])
            )
            for share, part in enumerate(shares)
        ]
        return [msgspec.json.decode(finish(process), type=Published) for process in processes]


def publisher(
    port: int, folder: Path, share: int, shares: int, *, count: int | None = None, rate: float | None = None
) -> list[str]:
    """The command of one publisher; its ledger is ``ledger-…`` in ``folder``."""
    ledger = folder / f"ledger-{len(list(folder.glob('ledger-*')))}-{share}"
    ledger.touch()
    command = [*_module("publisher"), f"--port={port}", f"--ledger={ledger}"]
    command += [f"--share={share}", f"--shares={shares}"]
    if count is not None:
        command.append(f"--count={count}")
    if rate is not None:
        command.append(f"--rate={rate}")
    return command


@contextmanager
def counting(port: int, count: int, cpu_s: list[float]) -> Iterator[None]:
    """The yardstick counts for the length of the block; then ``cpu_s`` holds what it took."""
    with _running([*_module("counter"), f"--port={port}", f"--count={count}"]) as process:
        expect(process, "ready")
        yield
        cpu_s.append(float(json.loads(finish(process))["cpu_s"]))


def until(
    condition: Callable[[], bool], what: str, *, every_s: float = 0.05, within_s: float = WAIT_S
) -> float:
    """Look until ``condition`` is so; the moment (monotonic seconds)."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            raise BenchError(f"waited {within_s:.0f} s in vain: {what}")
        time.sleep(every_s)
    return time.monotonic()


def _module(name: str) -> list[str]:
    return [sys.executable, "-m", f"bench.{name}"]


@contextmanager
def _running(command: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    """A program of ours; killed if the block ends before it."""
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@contextmanager
def _until_told(command: Sequence[str]) -> Iterator[None]:
    """A publisher for the length of the block; it ends once the broker has acknowledged what it said."""
    with _running(command) as process:
        yield
        process.send_signal(signal.SIGTERM)
        finish(process)


def expect(process: subprocess.Popen[str], line: str) -> None:
    """Wait for a line that a program says before its result."""
    assert process.stdout is not None  # noqa: S101 - `_running` has asked for it
    if process.stdout.readline().strip() != line:
        raise BenchError(f"{process.args!r} did not begin")


def finish(process: subprocess.Popen[str], codes: Sequence[int] = (0,)) -> str:
    """Wait for the end of a program; what it said."""
    said, _ = process.communicate(timeout=WAIT_S)
    if process.returncode not in codes:
        raise BenchError(f"{process.args!r} ended with {process.returncode}: {said[-500:]}")
    return said
