"""The disk that fails on command: `disk.c` built, ordered about, and its power cut played.

The shim counts room as a disk does: what overwrites needs none, what extends a file does, and what is deleted
may give some back. It works for everybody on every machine, which a loop file system does not.

A power cut takes what was written and not synced. After a kill -9 the kernel still has it all, so the shim
keeps old and new bytes of every change until the file is synced; `Disk.lose_power` puts the files back to the
last sync and lets a random part of what came after it survive, in pages of 4 KiB, as a real disk may.
"""

import math
import mmap
import os
import shutil
import struct
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntFlag
from pathlib import Path
from random import Random
from typing import BinaryIO

from tools.servers import BUILD, locate

SOURCE = Path(__file__).with_name("disk.c")
PAGE = 4_096
RECOVERY_S = 3.0

_CONTROL = struct.Struct("=IIIIq")
_RECORD = struct.Struct("=IIIIqq")
_WRITE, _TRUNCATE, _SYNC_BEGUN, _SYNC_DONE, _UNLINK = range(1, 6)


class Mode(IntFlag):
    """What the disk does; as in `disk.c`."""

    WELL = 0
    FULL = 1
    READ_ONLY = 2
    FAILING = 4
    SLOW_SYNC = 8
    HANGING_SYNC = 16


def library() -> Path:
    """The shim, built if it is not yet or is older than its source."""
    built = BUILD / "chaos" / "disk.so"
    if not built.exists() or built.stat().st_mtime < SOURCE.stat().st_mtime:
        built.parent.mkdir(parents=True, exist_ok=True)
        made = built.with_name(f"disk.{os.getpid()}.so")
        # The C library is the process's own; headers may have been unpacked beside the compiler.
        include = BUILD / "debian" / "root" / "usr" / "include"
        folders = [include, *include.glob("*-linux-gnu*")] if (include / "stdio.h").exists() else []
        headers = [part for folder in folders for part in ("-isystem", folder)]
        subprocess.run(
            [locate("gcc"), *headers, "-shared", "-fPIC", "-O2", "-nostdlib", "-o", made, SOURCE, "-lgcc"],
            check=True,
        )
        made.replace(built)
    return built


@dataclass(frozen=True, slots=True)
class Change:
    """One record of the log."""

    kind: int
    path: str
    offset: int
    """Where it was written; of a truncation the new size."""
    size: int
    """Of the file before it."""
    old: bytes
    new: bytes


class Disk:
    """The disk below ``data_dir``; ``folder`` holds what the shim and we share."""

    def __init__(self, data_dir: Path, folder: Path) -> None:
        self._data_dir = data_dir.absolute()
        self._control = folder / "disk.control"
        self._log = folder / "disk.log"
        self._control.write_bytes(bytes(_CONTROL.size))
        self.mode = Mode.WELL
        self._ordered_at = -math.inf
        with self._control.open("r+b") as file:
            self._shared = mmap.mmap(file.fileno(), _CONTROL.size)

    @property
    def environment(self) -> dict[str, str]:
        """Of the process that has this disk."""
        return {
            "LD_PRELOAD": str(library()),
            "CHAOS_DISK_DIR": str(self._data_dir),
            "CHAOS_DISK_CONTROL": str(self._control),
            "CHAOS_DISK_LOG": str(self._log),
        }

    @property
    def lately_sick(self) -> bool:
        """It fails, or did a moment ago."""
        return self.mode is not Mode.WELL or time.monotonic() - self._ordered_at < RECOVERY_S

    @property
    def refusals(self) -> int:
        """How often it has said no."""
        count: int = _CONTROL.unpack_from(self._shared)[3]
        return count

    def order(self, mode: Mode, *, delay_ms: int = 0, free_bytes: int = 0, freed_counts: bool = True) -> None:
        """From now on. ``free_bytes`` and ``freed_counts`` (room given back can be used) are for `Mode.FULL`."""
        _CONTROL.pack_into(self._shared, 0, 0, delay_ms, freed_counts, self.refusals, free_bytes)
        self.mode, self._ordered_at = mode, time.monotonic()
        _CONTROL.pack_into(self._shared, 0, mode, delay_ms, freed_counts, self.refusals, free_bytes)

    def lose_power(self, chance: Random) -> int:
        """Of a process that is gone: take back what was not synced, or a part of it. Gives how many changes were
        in danger.
        """
        lost = unsynced(list(_changes(self._log.read_bytes()))) if self._log.exists() else []
        for change in reversed(lost):
            _undo(change)
        survive = chance.choice((0.0, 0.5, 0.9))
        for change in lost:
            _redo(change, chance, survive)
        self._log.unlink(missing_ok=True)
        return len(lost)

    def close(self) -> None:
        """Let go of what is shared."""
        self._shared.close()


def _changes(log: bytes) -> Iterator[Change]:
    """The records; the last may be cut, then what it announces has not happened."""
    at = 0
    while at + _RECORD.size <= len(log):
        kind, path, old, new, offset, size = _RECORD.unpack_from(log, at)
        at += _RECORD.size
        if at + path + old + new > len(log):
            return
        named, had, given = (
            log[at : at + path],
            log[at + path : at + path + old],
            log[at + path + old : at + path + old + new],
        )
        yield Change(kind, named.decode(), offset, size, had, given)
        at += path + old + new


def unsynced(changes: Sequence[Change]) -> list[Change]:
    """Writes and truncations that no completed sync of their file covers, in order."""
    held: dict[str, list[tuple[int, Change]]] = {}
    begun: dict[str, int] = {}
    for place, change in enumerate(changes):
        match change.kind:
            case kind if kind == _SYNC_BEGUN:
                begun[change.path] = place
            case kind if kind == _SYNC_DONE:
                since = begun.get(change.path, 0)
                held[change.path] = [each for each in held.get(change.path, []) if each[0] > since]
            case kind if kind == _UNLINK:
                held.pop(change.path, None)
            case _:
                held.setdefault(change.path, []).append((place, change))
    return [change for _, change in sorted((each for file in held.values() for each in file), key=_place)]


def _place(entry: tuple[int, Change]) -> int:
    return entry[0]


def _undo(change: Change) -> None:
    with _opened(change.path) as file:
        os.pwrite(file.fileno(), change.old, change.offset)
        os.ftruncate(file.fileno(), change.size)


def _redo(change: Change, chance: Random, survive: float) -> None:
    with _opened(change.path) as file:
        if change.kind == _TRUNCATE:
            if chance.random() < survive:
                os.ftruncate(file.fileno(), change.offset)
            return
        start, end = change.offset, change.offset + len(change.new)
        while start < end:  # a page of the disk is written whole or not; a write may be torn between two
            stop = min(end, (start // PAGE + 1) * PAGE)
            if chance.random() < survive:
                piece = change.new[start - change.offset : stop - change.offset]
                os.pwrite(file.fileno(), piece, start)
            start = stop


def _opened(path: str) -> BinaryIO:
    return Path(path).open("r+b" if Path(path).exists() else "w+b")


def room(path: Path) -> int:
    """Bytes free where ``path`` lies."""
    return shutil.disk_usage(path).free
