"""The gateway as a site runs it: ``anlin run`` in processes of its own, watched from outside.

Promises: when the block ends, none of its processes is left. What is measured is read from the kernel
(processor seconds, memory), the control socket and the journal's file; nothing of the product is changed.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
import psutil

from bench import profiles
from bench.community import SITE, registry
from bench.wire import HOST
from edge.control_client import SOCKET_NAME, ControlError, request
from edge.store.errors import StoreError
from edge.store.reader import JournalReader
from edge.store.schema import FILE
from tests.servers import free_port

ROOT = Path(__file__).resolve().parent.parent
READY_S = 60.0
LOOK_S = 0.01

_CONFIG = """
site: {site}
node: gw-1
data_dir: data
mqtt: {{host: 127.0.0.1, port: {broker}}}
store: {{journal_max_bytes: 50GB}}
cloud: {{url: "http://127.0.0.1:{store}"}}
http: {{port: {http}}}
devices: registry.yaml
"""


class CloudHealth(msgspec.Struct):
    """What the bridge last said of itself."""

    state: str
    behind: dict[str, int]
    stored: int = 0


class Reason(msgspec.Struct):
    """One thing that the node says is wrong."""

    code: str
    message: str


class Health(msgspec.Struct):
    """What the bench reads of the node's health."""

    status: str
    counts: dict[str, int]
    cloud: CloudHealth | None = None
    reasons: list[Reason] = []


class _Standing(msgspec.Struct):
    standing: list[dict[str, object]]


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes by process; ``peaks`` are the most each ever had."""

    now: Mapping[str, int]
    peaks: Mapping[str, int]


class GatewayError(Exception):
    """It did not do what a gateway does; its log is printed."""


class Gateway:
    """One gateway with all 8,000 devices in its registry.

    ``profile``: a folder for `bench.sampler`. ``wrapper``: a command that runs it as its own child or, better,
    becomes it. ``rules``: the text of a rule file besides the shipped packs.
    """

    def __init__(
        self,
        folder: Path,
        broker_port: int,
        store_port: int,
        profile: Path | None = None,
        wrapper: Sequence[str] = (),
        rules: str = "",
    ) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.http_port = free_port()
        self._ports = (broker_port, store_port)
        self._profile = profile
        self._wrapper = wrapper
        self._rules = rules
        self._process: subprocess.Popen[bytes] | None = None
        self._family: dict[int, psutil.Process] = {}

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        broker, store = self._ports
        (self.folder / "registry.yaml").write_text(registry())
        config = _CONFIG.format(site=SITE, broker=broker, store=store, http=self.http_port)
        if self._rules:
            (self.folder / "rules.yaml").write_text(self._rules, encoding="utf-8")
            config += "rules: [rules.yaml]\n"
        (self.folder / "anlin.yaml").write_text(config)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if exc is None:
            self.stop()
            return
        self.kill9()
        print(f"the gateway's log ends with:\n{self._log()}", file=sys.stderr)

    def start(self) -> None:
        """Start it and return at once; see `ready`."""
        environment = dict(os.environ)
        if self._profile is not None:
            environment |= profiles.environment(self._profile)
        command = [
            *self._wrapper,
            sys.executable,
            "-m",
            "edge",
            "run",
            "--config",
            str(self.folder / "anlin.yaml"),
        ]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def ready(self) -> None:
        """Wait until ingest, journal, rules, bridge and web work."""
        deadline = time.monotonic() + READY_S
        while not (
            self._working() and self.healthz() and len(self.family()) >= len(("node", "web", "bridge"))
        ):
            self._alive(deadline)
            time.sleep(LOOK_S)

    def _working(self) -> bool:
        health = self.health()
        return health is not None and health.status != "failed" and health.cloud is not None

    def _alive(self, deadline: float) -> None:
        if self._process is None or self._process.poll() is not None or time.monotonic() > deadline:
            raise GatewayError("the gateway does not work")

    def stop(self) -> None:
        """End it as systemd would."""
        self._end(signal.SIGTERM)

    def kill9(self) -> None:
        """End the node as a power cut would; its children end because it is gone."""
        self._end(signal.SIGKILL)

    def _end(self, sign: signal.Signals) -> None:
        if self._process is None:
            return
        self.family()
        self._process.send_signal(sign)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        _, left = psutil.wait_procs(self._family.values(), timeout=5)
        for process in left:
            process.kill()
        psutil.wait_procs(left, timeout=5)
        self._process, self._family = None, {}

    def _log(self) -> str:
        log = self.folder / "log"
        return log.read_text(errors="replace")[-4_000:] if log.exists() else ""

    # --- what the kernel says -------------------------------------------------------------------------------

    def family(self) -> dict[str, psutil.Process]:
        """The processes by role: ``node``, ``web``, ``bridge``; others by their name."""
        if self._process is None:
            return {}
        try:
            node = psutil.Process(self._process.pid)
            found = {"node": node}
            for child in node.children(recursive=True):
                found[_role(child)] = child
        except psutil.NoSuchProcess:
            return {}
        self._family |= {process.pid: process for process in found.values()}
        return found

    def cpu_s(self) -> dict[str, float]:
        """Processor seconds so far by role, user and system, children that have ended included."""
        return {role: _cpu_s(process) for role, process in self.family().items()}

    def memory(self) -> Memory:
        """Resident memory by role."""
        family = self.family()
        return Memory(
            {role: process.memory_info().rss for role, process in family.items()},
            {role: _peak(process.pid) for role, process in family.items()},
        )

    def written(self) -> int:
        """Bytes that the node has had written to disks since it began."""
        for line in Path(f"/proc/{self.family()['node'].pid}/io").read_text().splitlines():
            if line.startswith("write_bytes:"):
                return int(line.split()[1])
        return 0

    def open_files(self) -> dict[str, int]:
        """File descriptors by role."""
        return {role: process.num_fds() for role, process in self.family().items()}

    # --- what it says itself --------------------------------------------------------------------------------

    def health(self) -> Health | None:
        """Its health by the control socket; None while nobody answers."""
        try:
            return msgspec.json.decode(request(self.data / SOCKET_NAME, "health"), type=Health)
        except ControlError:
            return None

    def throttled(self) -> str | None:
        """Which devices it says it throttles; None for none."""
        health = self.health()
        reasons = health.reasons if health is not None else []
        return next((each.message for each in reasons if each.code == "device_throttled"), None)

    def standing(self, rule: str) -> set[tuple[object, ...]]:
        """What stands by one rule, as the node says it."""
        status = msgspec.json.decode(request(self.data / SOCKET_NAME, "status"), type=_Standing)
        return {
            (alarm["id"], alarm["version"], alarm["state"], alarm["occurrences"])
            for alarm in status.standing
            if alarm["rule"] == rule
        }

    def healthz(self) -> bool:
        """Whether ``GET /healthz`` says 200."""
        return self.get("/healthz") is not None

    def get(self, path: str) -> bytes | None:
        """The body of a page; None unless the answer is 200."""
        connection = HTTPConnection(HOST, self.http_port, timeout=10)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, HTTPException):
            return None
        finally:
            connection.close()
        return body if answer.status == 200 else None  # noqa: PLR2004 - HTTP's own number

    def committed(self) -> int:
        """Readings in the journal's file now; 0 while there is none."""
        try:
            with JournalReader(self.data / FILE) as reader:
                return reader.behind("readings", 0)
        except StoreError:
            return 0

    def commits(self) -> int:
        """Batches in the journal's file."""
        with JournalReader(self.data / FILE) as reader:
            return reader.last_seq()


def _role(process: psutil.Process) -> str:
    command = process.cmdline()
    for role, module in (("web", "edge.web.process"), ("bridge", "edge.bridge_process")):
        if module in command:
            return role
    return process.name()


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system + times.children_user + times.children_system)


def _peak(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0
