"""``anlin demo`` as a process of its own, with or without a terminal."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from tests.gateway import ROOT, gone
from tests.waiting import eventually

# Makes the terminal on standard input the controlling one, as a shell does, so that Ctrl-C is a signal.
IN_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


class Demo:
    """Runs until the block ends. Its temporary files lie in ``folder``, whose emptiness is a promise."""

    def __init__(self, folder: Path, *arguments: str, terminal: bool = False) -> None:
        self.temporary = folder / "tmp"
        self._folder = folder
        self._arguments = [sys.executable, "-m", "edge", "demo", *arguments]
        self._terminal = terminal
        self._master = -1
        self._said = bytearray()
        self.process: subprocess.Popen[bytes]

    def __enter__(self) -> Self:
        self.temporary.mkdir(parents=True)
        environment = {**os.environ, "TMPDIR": str(self.temporary), "PYTHONUNBUFFERED": "1"}
        if self._terminal:
            self._start_in_terminal({**environment, "TERM": "xterm-256color"})
        else:
            with (self._folder / "out").open("wb") as out:
                self.process = subprocess.Popen(
                    self._arguments,
                    cwd=ROOT,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                )
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(20)
        if self._master >= 0:
            self._reader.join()
            os.close(self._master)

    def _start_in_terminal(self, environment: Mapping[str, str]) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 160, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-c", IN_TERMINAL, *self._arguments],
            cwd=ROOT,
            env=environment,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._master, 65_536)
            except OSError:  # the last process at the terminal has ended
                return
            self._said += data

    @property
    def said(self) -> str:
        """What it has shown so far."""
        shown = bytes(self._said) if self._terminal else (self._folder / "out").read_bytes()
        return shown.decode(errors="replace")

    def wait_for(self, text: str, timeout_s: float = 30) -> None:
        """Until it has shown this."""
        eventually(lambda: text in self.said or self.process.poll() is not None, timeout_s)
        assert text in self.said, self.said

    def press_ctrl_c(self) -> None:
        """At its terminal."""
        os.write(self._master, b"\x03")

    def processes(self) -> list[int]:
        """It and all that it has started."""
        return [
            self.process.pid,
            *(each.pid for each in psutil.Process(self.process.pid).children(recursive=True)),
        ]

    def nothing_left(self, processes: list[int]) -> bool:
        """Whether these processes have ended and the temporary folder is as it was."""
        return gone(processes) and not list(self.temporary.iterdir())
