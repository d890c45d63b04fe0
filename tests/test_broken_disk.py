"""`anlin run` on a real broken disk: full, read-only, failing and hanging syncs (strace, tmpfs); nothing is played.

Where no file system may be mounted, the disk is full by a limit on the size of files.
"""

import os
import resource
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Self

import pytest

from tests.gateway import ANLIN, Gateway
from tests.servers import Mosquitto
from tests.waiting import eventually
from tests.wire import AlarmWatch, Wire, retained_alarms
from tools.servers import locate

pytestmark = pytest.mark.timed

RATE_HZ = 500
SMOKE = {"smoke": True}
PRESS = {"action": "emergency"}
NODE = "gw-1"
STORE_FAILED = "gateway-store-failed"


@pytest.fixture
def broker() -> Iterator[Mosquitto]:
    with Mosquitto.as_shipped() as broker:
        yield broker


@contextmanager
def syncs(pid: int, injection: str) -> Iterator[None]:
    """While in the block every sync of the process is tampered with, by strace."""
    command = [str(locate("strace")), "-f", "-qq", "-e", "trace=fdatasync,fsync", "-o", "/dev/null"]
    tracer = subprocess.Popen(
        [*command, "-e", f"inject=fdatasync,fsync:{injection}", "-p", str(pid)],
        stderr=subprocess.DEVNULL,
    )
    try:
        status = Path(f"/proc/{pid}/status")
        eventually(lambda: f"TracerPid:\t{tracer.pid}" in status.read_text())
        yield
    finally:
        tracer.terminate()
        tracer.wait(30)


class Chargers(threading.Thread):
    """Says ``RATE_HZ`` readings a second until the block ends."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self._port = port
        self._ended = threading.Event()
        self.said = 0
        self.acknowledged = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.join(30)

    def run(self) -> None:
        with Wire(self._port) as wire:
            while not self._ended.wait(10 / RATE_HZ):
                for _ in range(10):
                    self.said += 1
                    wire.publish(f"charger/p{self.said % 50}/telemetry", {"energy": self.said})
            wire.settle()
            self.acknowledged = len(wire.acknowledged)


def press(device: Wire, watch: AlarmWatch, name: str, *, durable: bool | None = None) -> float:
    """Seconds from an emergency press to the alarm topic."""
    begun = time.monotonic()
    device.publish(f"button/{name}/event", PRESS)
    watch.wait_for(name, durable=durable)
    return time.monotonic() - begun


def pressed_at_once(device: Wire, watch: AlarmWatch, name: str, *, durable: bool | None = None) -> int:
    """How many presses there were, each of which was told, most of them within a second."""
    took = [press(device, watch, f"{name}-{number}", durable=durable) for number in range(3)]
    assert median(took) < 1.0, took
    return len(took)


def lost(gateway: Gateway) -> int:
    with gateway.journal() as reader:
        return sum(gap.count for _, gap in reader.gaps_after(0, 1_000) if gap.lane == "readings")


def gateways_own(gateway: Gateway) -> int:
    """Readings of the gateway about itself that may be among the lost: one a minute, and one for each reason that
    comes or goes.
    """
    return 20 + int(float(gateway.ask("health")["uptime_s"]) // 50)


def ledger_is_right(gateway: Gateway, said: int) -> None:
    """Stored and lost are what was said."""
    eventually(lambda: said <= len(gateway.readings()) + lost(gateway) <= said + gateways_own(gateway))


def takes_all(gateway: Gateway) -> bool:
    return not gateway.reasons() & {"store_failing", "store_reduced"}


@pytest.mark.parametrize(
    "injection",
    ["error=EIO", f"delay_enter={20 * 10**6}"],
    ids=["syncs fail", "syncs hang"],
)
def test_an_emergency_is_told_within_a_second_and_everything_runs_on_afterwards(
    broker: Mosquitto, tmp_path: Path, injection: str
) -> None:
    with (
        Gateway(tmp_path / "gw", broker.port) as gateway,
        Wire(broker.port) as device,
        AlarmWatch(broker.port) as watch,
    ):
        presses = 0
        with Chargers(broker.port) as chargers:
            eventually(lambda: chargers.said > 500)
            with syncs(gateway.pid, injection):
                presses += pressed_at_once(device, watch, "at-once")
                eventually(lambda: "store_failing" in gateway.reasons())
                eventually(lambda: gateway.get("/healthz")[0] == 503)
                watch.wait_for(NODE, durable=False, rule=STORE_FAILED)
                presses += pressed_at_once(device, watch, "later", durable=False)
                (alarm_id,) = (i for i, each in gateway.board().items() if each["device"] == "later-0")
                acked = gateway.ask("ack", alarm_id=alarm_id, by="Li", comment="on my way")
                assert acked["acked_by"] == "Li"
                assert acked["durable"] is False
            eventually(lambda: takes_all(gateway), 60)
            watch.wait(lambda: any(each["cleared_at"] for each in watch.of(NODE, STORE_FAILED)))
            presses += pressed_at_once(device, watch, "after", durable=True)
        ledger_is_right(gateway, chargers.said + presses)
        assert chargers.acknowledged == chargers.said
        eventually(lambda: gateway.get("/healthz")[0] == 200)
        board = gateway.of_devices()
        assert len(board) == presses
        assert all(each["durable"] for each in board.values())
        eventually(lambda: retained_alarms(broker.port) == gateway.board())
        gateway.kill9()
        gateway.start()
        assert gateway.of_devices() == board
        assert "could not be rebuilt" not in gateway.stderr
        (gateway.folder / "stderr").write_text("")  # commits that fail are told with their traceback


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[bool]:
    """A file system of its own, where we may mount one."""
    folder.mkdir(parents=True)
    mounted = (
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)],
            stderr=subprocess.DEVNULL,
            check=False,
        ).returncode
        == 0
    )
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> None:
    """Leave no byte."""
    with (folder / "other").open("ab", buffering=0) as other:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    other.write(b"x" * size)
            except OSError:
                continue


def limit_files(gateway: Gateway, size: int) -> None:
    """No file of it may become larger: what a full disk says is then said by the kernel's limit."""
    resource.prlimit(gateway.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def test_on_a_full_disk_the_ballast_carries_the_alarms_and_it_ends_by_itself(
    broker: Mosquitto, tmp_path: Path
) -> None:
    data = tmp_path / "gw" / "data"
    with (
        small_disk(data, 120) as mounted,
        Gateway(tmp_path / "gw", broker.port) as gateway,
        Wire(broker.port) as device,
        AlarmWatch(broker.port) as watch,
    ):
        presses = 0
        with Chargers(broker.port) as chargers:
            if mounted:
                eventually((data / "ballast").exists)
                fill(data)
                eventually(lambda: "store_reduced" in gateway.reasons(), 60)
                eventually(lambda: not (data / "ballast").exists())
                assert gateway.ask("health")["status"] == "degraded"
                presses += pressed_at_once(device, watch, "full", durable=True)
            else:
                limit_files(gateway, 0)
                eventually(lambda: gateway.reasons() & {"store_reduced", "store_failing"}, 60)
                presses += pressed_at_once(device, watch, "full")
            said = chargers.said
            eventually(lambda: chargers.said > said + RATE_HZ)
            if mounted:
                (data / "other").unlink()
            else:
                limit_files(gateway, resource.RLIM_INFINITY)
            eventually(lambda: takes_all(gateway), 60)
            if mounted:
                eventually((data / "ballast").exists)
            presses += pressed_at_once(device, watch, "after", durable=True)
        ledger_is_right(gateway, chargers.said + presses)
        assert lost(gateway) > 0
        eventually(lambda: retained_alarms(broker.port) == gateway.board())
        assert len(gateway.of_devices()) == presses
        gateway.kill9()
        (gateway.folder / "stderr").write_text("")  # commits that fail are told with their traceback


def remount(folder: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(folder)], check=True)


@pytest.mark.parametrize("stop", ["in good order", "by a crash"])
def test_on_a_read_only_disk_it_starts_and_tells_of_alarms(
    broker: Mosquitto, tmp_path: Path, stop: str
) -> None:
    data = tmp_path / "gw" / "data"
    with small_disk(data, 120) as mounted, AlarmWatch(broker.port) as watch, Wire(broker.port) as device:
        gateway = Gateway(tmp_path / "gw", broker.port)
        if not mounted:  # the same from the side of the gateway: its user may not write there any more
            shutil.rmtree(data)
        try:
            gateway.start()
            press(device, watch, "before", durable=True)
            if stop == "by a crash":
                gateway.kill9()
            else:
                gateway.terminate()
            if mounted:
                remount(data, "ro")
            elif os.geteuid():
                data.chmod(0o500)
            gateway.launch()
            eventually(lambda: "takes=none" in gateway.stderr or (os.geteuid() == 0 and not mounted))
            press(device, watch, "meanwhile")
            held = retained_alarms(broker.port)
            assert {each["device"] for each in held.values()} == {"before", "meanwhile"}
            if mounted:
                remount(data, "rw")
            else:
                data.chmod(0o700)
            watch.wait_for("meanwhile", 40, durable=True)
            gateway.wait_listening()
            eventually(lambda: takes_all(gateway), 40)
            eventually(lambda: retained_alarms(broker.port) == gateway.board())
            assert {each["device"] for each in gateway.of_devices().values()} == {"before", "meanwhile"}
        finally:
            gateway.kill9()


def test_a_start_with_a_full_disk_keeps_what_stands_and_tells_of_more(
    broker: Mosquitto, tmp_path: Path
) -> None:
    data = tmp_path / "gw" / "data"
    with small_disk(data, 120) as mounted, AlarmWatch(broker.port) as watch, Wire(broker.port) as device:
        gateway = Gateway(tmp_path / "gw", broker.port, command=limited(mounted=mounted))
        try:
            gateway.start()
            press(device, watch, "before", durable=True)
            gateway.kill9()
            if mounted:
                fill(data)
            gateway.launch()
            press(device, watch, "meanwhile")
            held = retained_alarms(broker.port)
            assert {each["device"] for each in held.values()} == {"before", "meanwhile"}
            assert not gateway.ended
        finally:
            gateway.kill9()


def limited(*, mounted: bool) -> Sequence[str]:
    """Where nothing can be mounted, files may not grow beyond what a start on a sound disk needs."""
    command = (*ANLIN, "run", "--config")
    return command if mounted else ("prlimit", f"--fsize={80 * 2**20}", *command)
