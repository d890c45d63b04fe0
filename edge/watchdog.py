"""The service manager's watchdog (sd_notify(3)): told when the node serves, how it is, and that it still works.

Promises: the watchdog is fed only by the event loop, and only while ``blocked`` finds nothing, so a node that hangs is
started again; one that is known to be hampered (disk, broker) is fed on, because a restart would make it worse.
Without a service manager it does nothing. Must not: fail or wait; a datagram that does not fit is dropped.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Callable, MutableMapping

log = logging.getLogger("anlin.watchdog")

SOCKET = "NOTIFY_SOCKET"
WATCHDOG = "WATCHDOG_USEC"
WATCHDOG_PID = "WATCHDOG_PID"

STATUS_S = 5.0
"""The status is looked at so often, or as often as the watchdog is fed."""


class Notifier:
    """Datagrams to the service manager's socket; ``address`` None: there is none."""

    def __init__(self, address: str | None, watchdog_s: float | None = None) -> None:
        self.watchdog_s = watchdog_s
        """Within which the manager wants to hear of us; None: it does not watch."""
        self._address = address
        self._socket: socket.socket | None = None

    @classmethod
    def from_environment(cls, environment: MutableMapping[str, str]) -> "Notifier":
        """What the service manager has asked for. It is taken out, so that no child process speaks for us."""
        address = environment.pop(SOCKET, None)
        watchdog_us, pid = environment.pop(WATCHDOG, ""), environment.pop(WATCHDOG_PID, "")
        asked = watchdog_us.isdecimal() and int(watchdog_us) > 0 and pid in ("", str(os.getpid()))
        return cls(address, int(watchdog_us) / 1_000_000 if asked else None)

    def tell(self, *lines: str) -> None:
        """Send assignments (``READY=1``) in one datagram."""
        if not self._address:
            return
        if self._socket is None:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.settimeout(0)
        name = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            self._socket.sendto("\n".join(lines).encode(), name)
        except OSError as error:  # a manager that does not listen must not cost us the loop
            log.debug("the service manager was not told: %s", error)

    def close(self) -> None:
        """Let go of the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class Watchdog:
    """Feeds ``notifier`` while ``blocked`` gives None; ``status`` is one line for a person."""

    def __init__(
        self, notifier: Notifier, blocked: Callable[[], str | None], status: Callable[[], str]
    ) -> None:
        self._notifier = notifier
        self._blocked = blocked
        self._status = status

    async def run(self) -> None:
        """Say that the node serves, then feed until cancelled."""
        self._notifier.tell("READY=1", f"STATUS={self._status()}")
        pause_s = min(STATUS_S, (self._notifier.watchdog_s or STATUS_S * 3) / 3)  # one may be lost or late
        starving = False
        while True:
            await asyncio.sleep(pause_s)
            reason = self._blocked()
            if reason is None:
                self._notifier.tell("WATCHDOG=1", f"STATUS={self._status()}")
            else:
                self._notifier.tell(f"STATUS=hangs: {reason}")
                if not starving:
                    log.error("the watchdog is not fed: the service manager restarts the node (%s)", reason)
            starving = reason is not None

    def stopping(self) -> None:
        """The node ends by itself; that is no failure."""
        self._notifier.tell("STOPPING=1")
