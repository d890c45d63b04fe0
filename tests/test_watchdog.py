"""The service manager's watchdog, over a real datagram socket: fed while messages can pass, and only then."""

import asyncio
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from edge.watchdog import Notifier, Watchdog
from tests.gateway import Gateway
from tests.servers import Mosquitto
from tests.waiting import PATIENCE_S, eventually

pytestmark = pytest.mark.timed

WATCHDOG_S = 0.15


class Manager:
    """The service manager's end."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.socket.settimeout(PATIENCE_S)

    def hear(self) -> list[str]:
        """The lines of the next datagram."""
        return self.socket.recv(4_096).decode().splitlines()

    def drain(self) -> None:
        """Forget what was said."""
        self.socket.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                self.socket.recv(4_096)
        self.socket.settimeout(PATIENCE_S)

    async def heard(self, wanted: str) -> list[str]:
        """The next datagram with this line."""
        async with asyncio.timeout(PATIENCE_S):
            while wanted not in (lines := await asyncio.to_thread(self.hear)):
                pass
        return lines


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    address = str(tmp_path / "notify") if request.param == "path" else f"@anlin-{os.getpid()}-{id(request)}"
    one = Manager(address)
    yield one
    one.socket.close()


def notifier(manager: Manager) -> Notifier:
    environment = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": f"{WATCHDOG_S * 1e6:.0f}", "HOME": "/"}
    found = Notifier.from_environment(environment)
    assert environment == {"HOME": "/"}  # no child speaks for us
    return found


def test_it_says_that_it_serves_is_fed_while_well_and_starves_while_blocked(manager: Manager) -> None:
    async def story() -> None:
        blocked: list[str] = []
        telling = notifier(manager)
        watchdog = Watchdog(telling, lambda: blocked[0] if blocked else None, lambda: "ok, 0 alarms stand")
        running = asyncio.create_task(watchdog.run())
        assert await asyncio.to_thread(manager.hear) == ["READY=1", "STATUS=ok, 0 alarms stand"]
        for _ in range(3):
            assert await asyncio.to_thread(manager.hear) == ["WATCHDOG=1", "STATUS=ok, 0 alarms stand"]
        blocked.append("a commit has been under way for 11 s")
        await manager.heard("STATUS=hangs: a commit has been under way for 11 s")
        for _ in range(5):
            assert "WATCHDOG=1" not in await asyncio.to_thread(manager.hear)
        blocked.clear()
        await manager.heard("WATCHDOG=1")
        watchdog.stopping()
        await manager.heard("STOPPING=1")
        running.cancel()
        telling.close()

    asyncio.run(story())


def test_an_event_loop_that_is_stuck_feeds_nothing(manager: Manager) -> None:
    async def story() -> None:
        telling = notifier(manager)
        running = asyncio.create_task(Watchdog(telling, lambda: None, lambda: "ok").run())
        await manager.heard("WATCHDOG=1")
        manager.drain()
        manager.socket.settimeout(3 * WATCHDOG_S)
        with pytest.raises(TimeoutError):  # in the loop's own thread: it stands still meanwhile
            manager.hear()
        manager.socket.settimeout(PATIENCE_S)
        await manager.heard("WATCHDOG=1")
        running.cancel()
        telling.close()

    asyncio.run(story())


def test_without_a_manager_or_with_one_that_is_gone_nothing_fails(manager: Manager) -> None:
    Notifier.from_environment({}).tell("READY=1")
    telling = notifier(manager)
    manager.socket.close()
    telling.tell("READY=1")
    telling.close()


def test_a_watchdog_meant_for_another_process_is_not_ours() -> None:
    asked = {"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "30000000"}
    assert Notifier.from_environment({**asked}).watchdog_s == 30
    assert Notifier.from_environment({**asked, "WATCHDOG_PID": str(os.getpid())}).watchdog_s == 30
    assert Notifier.from_environment({**asked, "WATCHDOG_PID": "1"}).watchdog_s is None
    assert Notifier.from_environment({**asked, "WATCHDOG_USEC": "soon"}).watchdog_s is None


def test_the_gateway_tells_its_service_manager_from_its_start_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = Manager(str(tmp_path / "notify"))
    with closing(manager.socket), Mosquitto.as_shipped() as broker:  # which would speak to a manager, too
        monkeypatch.setenv("NOTIFY_SOCKET", manager.address)
        monkeypatch.setenv("WATCHDOG_USEC", "600000")
        with Gateway(tmp_path / "gw", broker.port) as gateway:
            assert "READY=1" in manager.hear()
            for _ in range(3):
                assert "WATCHDOG=1" in manager.hear()
            eventually(lambda: manager.hear()[1].startswith("STATUS=ok"))
            manager.drain()
            assert gateway.process is not None
            gateway.process.send_signal(signal.SIGTERM)
            eventually(lambda: manager.hear() == ["STOPPING=1"])
            assert gateway.wait_end() == 0
