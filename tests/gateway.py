"""The real gateway, ``anlin run`` as a process of its own, for tests that look at it from outside.

``with Gateway(folder, broker.port) as gateway:`` returns when it listens; it can be ended, killed and started
again in between. What it wrote to standard error is kept; a bare traceback in it fails the test.
"""

import http.client
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import psutil

from devices.readings import Reading
from edge.control_client import SOCKET_NAME, NodeAwayError, request
from edge.store.reader import JournalReader
from edge.store.schema import FILE
from tests.servers import HOST, free_port
from tests.waiting import PATIENCE_S, eventually

ROOT = Path(__file__).resolve().parent.parent
ANLIN = (sys.executable, "-m", "edge")


class Gateway:
    """``settings`` replace keys of the configuration; ``command`` is run with the configuration file after it."""

    def __init__(
        self,
        folder: Path,
        broker_port: int,
        *,
        command: Sequence[str] = (*ANLIN, "run", "--config"),
        **settings: object,
    ) -> None:
        self.folder = folder
        self.data_dir = folder / "data"
        self.http_port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self._command = command
        self._settings: dict[str, object] = {
            "data_dir": str(self.data_dir),
            "mqtt": {"port": broker_port},
            "http": {"port": self.http_port},
            **settings,
        }

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self.start()
        except BaseException:
            self.kill9()
            raise
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill9()
        if exc is None:
            assert "\nTraceback" not in f"\n{self.stderr}", self.stderr

    # --- its life -------------------------------------------------------------------------------------------

    @property
    def stderr(self) -> str:
        """What it said, all its starts together."""
        return (self.folder / "stderr").read_text(errors="replace")

    @property
    def ended(self) -> bool:
        """Whether it has ended by itself."""
        return self.process is not None and self.process.poll() is not None

    @property
    def pid(self) -> int:
        assert self.process is not None, "the gateway does not run"
        return self.process.pid

    def launch(self) -> subprocess.Popen[bytes]:
        """Start and do not wait."""
        config = self.folder / "anlin.yaml"
        config.write_text(json.dumps(self._settings))
        with (self.folder / "stderr").open("ab") as stderr:
            self.process = subprocess.Popen(
                [*self._command, str(config)],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
            )
        return self.process

    def configure(self, **settings: object) -> None:
        """Replace keys of the configuration, from the next start on."""
        self._settings |= settings

    def start(self) -> None:
        """Start and wait until both sessions are up."""
        self.launch()
        self.wait_listening()

    def wait_listening(self, timeout_s: float = PATIENCE_S) -> None:
        """Until it hears its devices and the store works."""

        def listens() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, f"the gateway ended:\n{self.stderr}"
            try:
                return str(self.ask("health")["status"]) != "failed"
            except NodeAwayError:
                return False

        eventually(listens, timeout_s)

    def terminate(self, timeout_s: float = 10.0) -> tuple[int, float]:
        """SIGTERM; exit code and seconds."""
        assert self.process is not None
        begun = time.monotonic()
        self.process.terminate()
        return self.wait_end(timeout_s), time.monotonic() - begun

    def wait_end(self, timeout_s: float = PATIENCE_S) -> int:
        """Wait until it has ended by itself; the exit code."""
        assert self.process is not None
        code = self.process.wait(timeout_s)
        self.process = None
        return code

    def kill9(self) -> None:
        """As the kernel would for want of memory. Its children notice by themselves."""
        if self.process is not None:
            children = self._children()
            self.process.kill()
            self.process.wait(PATIENCE_S)
            self.process = None
            for child in children:
                with suppress(psutil.NoSuchProcess):
                    child.resume()  # one that a test has frozen would never notice

    def restart(self) -> None:
        """SIGTERM and a new start."""
        self.terminate()
        self.start()

    def child(self, name: str) -> psutil.Process:
        """The process of ``web`` or ``bridge``."""
        module = {"web": "edge.web.process", "bridge": "edge.bridge_process"}[name]

        def found() -> psutil.Process | None:
            for each in self._children():
                try:
                    if module in each.cmdline():
                        return each
                except psutil.NoSuchProcess:
                    continue
            return None

        child = eventually(found)
        assert child is not None
        return child

    def _children(self) -> list[psutil.Process]:
        with suppress(psutil.NoSuchProcess):
            return psutil.Process(self.pid).children(recursive=True)
        return []

    # --- asking it ------------------------------------------------------------------------------------------

    def ask(self, op: str, **args: object) -> dict[str, Any]:
        """The control socket."""
        answer = request(self.data_dir / SOCKET_NAME, op, timeout_s=5, **args)
        return msgspec.json.decode(answer, type=dict[str, Any])

    def reasons(self) -> set[str]:
        """Codes of what it says is wrong."""
        return {reason["code"] for reason in self.ask("health")["reasons"]}

    def count(self, name: str) -> float:
        """A sample of the metrics, by name and labels as they stand in the text."""
        for line in str(self.ask("metrics")["text"]).splitlines():
            if line.startswith(f"{name} "):
                return float(line.rpartition(" ")[2])
        return 0.0

    def board(self) -> dict[str, dict[str, Any]]:
        """Standing alarms by id, as committed."""
        return {alarm["id"]: alarm for alarm in self.ask("status")["standing"]}

    def of_devices(self) -> dict[str, dict[str, Any]]:
        """The same without what the gateway says of itself: so many alarms of a test are a flood."""
        return {id_: alarm for id_, alarm in self.board().items() if alarm["kind"] != "gateway"}

    def get(self, path: str) -> tuple[int, Any]:
        """Status and JSON of an HTTP request; 0 while nobody answers."""
        connection = http.client.HTTPConnection(HOST, self.http_port, timeout=5)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        except OSError:
            return 0, None
        finally:
            connection.close()

    @contextmanager
    def stream(self, **headers: str) -> Iterator[Iterator[Mapping[str, str]]]:
        """Server-sent events, each with its fields."""
        connection = http.client.HTTPConnection(HOST, self.http_port, timeout=PATIENCE_S)
        try:
            connection.request("GET", "/api/v1/stream", headers=headers)
            answer = connection.getresponse()
            assert answer.status == 200
            yield _events(answer)
        finally:
            connection.close()

    def anlin(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The command line on this gateway's configuration."""
        return subprocess.run(
            [*ANLIN, *arguments, "--config", str(self.folder / "anlin.yaml")],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )

    # --- its journal ----------------------------------------------------------------------------------------

    @contextmanager
    def journal(self) -> Iterator[JournalReader]:
        """The database, read-only."""
        with JournalReader(self.data_dir / FILE) as reader:
            yield reader

    def readings(self) -> list[Reading]:
        """Every reading on disk, in order, without those about the gateway itself."""
        with self.journal() as reader:
            return [
                given
                for batch in whole(reader)
                for given in batch.inputs
                if isinstance(given, Reading) and "/gateway/" not in given.address
            ]


def whole(reader: JournalReader) -> Iterator[Any]:
    """All batches of a journal."""
    seq = 0
    while batches := reader.batches_after(seq, 10_000):
        yield from batches
        seq = batches[-1].seq


def _events(answer: http.client.HTTPResponse) -> Iterator[Mapping[str, str]]:
    fields: dict[str, str] = {}
    for raw in answer:
        line = raw.decode().rstrip("\n")
        if line.startswith(":"):
            continue
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
        elif fields:
            yield fields
            fields = {}


def said_at(log: str, words: str) -> float:
    """The time of the first line with these words (Unix seconds)."""
    line = next(line for line in log.splitlines() if words in line)
    return datetime.fromisoformat(line.split()[0].removeprefix("ts=")).timestamp()


def gone(pids: Sequence[int]) -> bool:
    """Whether none of these processes is left (a zombie has ended)."""
    for pid in pids:
        try:
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                return False
        except psutil.NoSuchProcess:
            continue
    return True
