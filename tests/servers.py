"""Real servers for tests: each on a free port of 127.0.0.1, in a folder of its own, ended with the block.

``with Mosquitto() as broker:`` returns when the broker accepts connections on ``broker.port``; the same for
`VictoriaMetrics`. Both can be restarted, killed and frozen in between.
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.waiting import PATIENCE_S, eventually
from tools.servers import locate

HOST = "127.0.0.1"
SHIPPED = Path(__file__).resolve().parent.parent / "deploy" / "mosquitto.conf"

OPEN = """
listener {port} 127.0.0.1
allow_anonymous true
persistence true
max_inflight_messages 4096
max_queued_messages 1000000
"""


def free_port() -> int:
    """A port of 127.0.0.1 that nobody uses now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


class Server(ABC):
    """One process; ``command`` and ``prepare`` say which."""

    def __init__(self) -> None:
        self.port = free_port()
        self.folder = Path()
        self.process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> list[str]:
        """What is run."""

    def prepare(self) -> None:  # noqa: B027 - most need nothing
        """Write what the process needs, before each start."""

    def __enter__(self) -> Self:
        self.folder = Path(tempfile.mkdtemp(prefix="anlin-test-"))
        try:
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill9()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def log(self) -> str:
        """What the process wrote, all its starts together."""
        return (self.folder / "log").read_text(errors="replace")

    @property
    def pid(self) -> int:
        assert self.process is not None, "the server does not run"
        return self.process.pid

    def start(self) -> None:
        """Start and wait until it accepts connections."""
        self.prepare()
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(self.command(), cwd=self.folder, stdout=log, stderr=log)
        eventually(lambda: self._accepts() or self._has_ended(), every_s=0.01)
        if self._has_ended():
            raise RuntimeError(f"{self.command()[0]} did not start:\n{self.log}")

    def stop(self) -> None:
        """End it as an administrator would, with SIGTERM."""
        self._end(signal.SIGTERM)

    def kill9(self) -> None:
        """End it as a power cut would, as far as the process is concerned."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        self.stop()
        self.start()

    def freeze(self) -> None:
        """It keeps its connections and answers nothing."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def _end(self, sign: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(sign)
            self.process.wait(PATIENCE_S)
            self.process = None

    def _has_ended(self) -> bool:
        return self.process is None or self.process.poll() is not None

    def _accepts(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((HOST, self.port)) == 0


class Mosquitto(Server):
    """``config`` is its configuration; ``{port}`` and ``{folder}`` are filled in."""

    def __init__(self, config: str = OPEN) -> None:
        super().__init__()
        self.config = config

    @classmethod
    def as_shipped(cls) -> Self:
        """With `deploy/mosquitto.conf`, but on a port of ours and open to everybody."""
        text = SHIPPED.read_text()
        for shipped, ours in (
            ("\nlistener 1883\n", "\nlistener {port} 127.0.0.1\n"),
            ("\nallow_anonymous false\n", "\nallow_anonymous true\n"),
            ("\npassword_file /etc/mosquitto/anlin.passwd\n", "\n"),
        ):
            assert shipped in text, f"deploy/mosquitto.conf has no line {shipped.strip()!r}"
            text = text.replace(shipped, ours)
        return cls(text)

    def prepare(self) -> None:
        config = self.config.replace("{port}", str(self.port)).replace("{folder}", str(self.folder))
        if os.geteuid() == 0:
            config += "\nuser root\n"  # else it becomes a user who may not write into our folder
        (self.folder / "mosquitto.conf").write_text(f"persistence_location {self.folder}/\n{config}")

    def command(self) -> list[str]:
        return [str(locate("mosquitto")), "-c", str(self.folder / "mosquitto.conf")]


class VictoriaMetrics(Server):
    """Takes the InfluxDB v2 write API on ``/api/v2/write``; ``/api/v1/export`` shows what it has."""

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def command(self) -> list[str]:
        return [
            str(locate("victoria-metrics")),
            f"-storageDataPath={self.folder / 'data'}",
            f"-httpListenAddr={HOST}:{self.port}",
            "-retentionPeriod=100y",
            "-memory.allowedPercent=10",
        ]
