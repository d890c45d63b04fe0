"""Which parts of the history there are: what the names of the files say, and nothing else.

A part is one Parquet file. Its name tells which batches of the journal are in it, the times of its readings and how
many they are: ``{first}-{last}-{from_ms}-{to_ms}-{readings}.parquet``. So there is no index that could disagree with
the files, and the rename that gives a part its name is the one moment in which it becomes history: before, all of it
lies in the journal; after, none of it is taken from there again. A part made of others is named for all their
batches; from that moment those others do not count, whether they have been removed already or not.

Must not: open a part. The node and the web know the history by this module alone.
"""

import os
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

FOLDER = "history"
"""In the data directory."""

UNFINISHED = "_unfinished-"
"""How the name of a part begins that is being written; what a crash leaves of it is removed by the next compaction.
Who reads a whole folder of Parquet leaves out what begins so.
"""

DAMAGED = "_damaged-"
"""The same for a part that could not be read."""

_NAME = re.compile(r"(\d{12,})-(\d{12,})-(\d+)-(\d+)-(\d+)\.parquet")
_LATEST_MS = 10**15


@dataclass(frozen=True, slots=True)
class Part:
    """One file of the history."""

    first: int
    """Its batches: all of the journal's from here …"""
    last: int
    """… to here."""
    from_ms: int
    """The earliest and the latest of its readings' times, arrival and event, Unix ms."""
    to_ms: int
    readings: int
    path: Path
    size: int
    """Bytes."""

    def touches(self, from_ms: int, to_ms: int) -> bool:
        """Whether it may hold readings from ``from_ms`` on and before ``to_ms``."""
        begins_before = self.from_ms < to_ms or self.from_ms == 0
        return begins_before and (from_ms <= self.to_ms or self.to_ms == _LATEST_MS)


def folder_of(data_dir: Path) -> Path:
    """Where the history of a gateway lies."""
    return data_dir / FOLDER


def name_of(first: int, last: int, from_ms: int, to_ms: int, readings: int) -> str:
    """What a part is called. Times beyond all reason are named as the edge of it, and the part is looked into."""
    begin, end = (min(max(ms, 0), _LATEST_MS) for ms in (from_ms, to_ms))
    return f"{first:012}-{last:012}-{begin}-{end}-{readings}.parquet"


def parts_in(folder: Path) -> list[Part]:
    """The parts that count, in the order of their batches. None where there is no history yet."""
    return _counting(_found(folder))


def taken(folder: Path) -> int:
    """The last batch of the journal that is history; 0 if none is."""
    return max((part.last for part in _found(folder)), default=0)


def replaced_in(folder: Path) -> list[Path]:
    """Files that count for nothing: begun and never finished, or part of a greater one."""
    found = _found(folder)
    counting = {part.path for part in _counting(found)}
    unfinished = list(folder.glob(f"{UNFINISHED}*")) if folder.is_dir() else []
    return unfinished + [part.path for part in found if part.path not in counting]


def after(parts: Sequence[Part], seq: int) -> Part | None:
    """The first part that holds batches after ``seq``."""
    return next((part for part in parts if part.last > seq), None)


def publish(unfinished: Path, name: str) -> Path:
    """Make a finished file a part: on the disk, then by its name, then the name on the disk."""
    _sync(unfinished)
    path = unfinished.with_name(name)
    unfinished.rename(path)
    _sync(path.parent)
    return path


def _found(folder: Path) -> list[Part]:
    found = []
    with suppress(FileNotFoundError, NotADirectoryError):
        for entry in os.scandir(folder):
            name = _NAME.fullmatch(entry.name)
            if name is None:
                continue
            with suppress(FileNotFoundError):  # removed while we look
                first, last, from_ms, to_ms, readings = map(int, name.groups())
                size = entry.stat().st_size
                found.append(Part(first, last, from_ms, to_ms, readings, Path(entry.path), size))
    return found


def _counting(found: Iterable[Part]) -> list[Part]:
    counting: list[Part] = []
    for part in sorted(found, key=lambda part: (part.first, -part.last)):
        if not counting or part.last > counting[-1].last:
            counting.append(part)
    return counting


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
