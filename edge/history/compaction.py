"""One run of the compaction: from the journal into parts, small parts into larger ones, old ones away.

Promises: whatever is interrupted at whatever instant, each reading is in the history once, or still in the journal
and taken by the next run. What was taken says the name of the newest part, so that one is never removed. A run that
is behind does not wait for anything and nothing waits for it. The journal is only read, in short looks.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pyarrow as pa

from edge.history import parts
from edge.history.catalogue import DAMAGED, Part, folder_of, parts_in, publish, replaced_in, taken
from edge.history.columns import table_of
from edge.history.errors import NoRoom, PartDamaged
from edge.history.tail import Tail
from edge.store.reader import JournalReader
from edge.store.schema import FILE

FRESH_READINGS = 200_000
"""Of one part that comes from the journal: what a run holds in memory."""

PART_READINGS = 400_000
"""Of one part that was joined: what replay and joining hold in memory."""

PART_SPAN_MS = 86_400_000
"""A part is not joined beyond it, so that what is too old goes day by day."""

FAN = 4
"""So many small parts become one; a reading is written again for every doubling or two of its part."""

ROOM_BYTES = 256 * 1024 * 1024
"""Left free on the disk by the history: the journal needs it more."""

DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is kept."""

    max_days: int
    max_bytes: int
    room_bytes: int = ROOM_BYTES


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What there is after a run."""

    taken: int
    """The journal's last batch that is history."""
    behind: int
    """Readings that the journal holds after it."""
    readings: int
    bytes: int
    parts: int
    from_ms: int | None
    """The earliest and the latest time in it (Unix ms); None without any."""
    to_ms: int | None
    new: int
    """Readings that this run took."""
    damaged: int
    """Parts that it found damaged and put aside."""


def compact(data_dir: Path, limits: Limits) -> Outcome:
    """Take what the journal has, join, remove.

    Raises `HistoryError`, `edge.store.errors.StoreError`, `OSError`; what was done until then counts.
    """
    folder = folder_of(data_dir)
    folder.mkdir(mode=0o700, exist_ok=True)
    for path in replaced_in(folder):
        path.unlink(missing_ok=True)
    _need_room(folder, limits)
    with JournalReader(data_dir / FILE) as reader:
        new = _take(reader, folder)
        damaged = _join(folder)
        _remove_old(folder, limits)
        found, last = parts_in(folder), taken(folder)
        behind = reader.behind("readings", last)
    return Outcome(
        taken=last,
        behind=behind,
        readings=sum(part.readings for part in found),
        bytes=sum(part.size for part in found),
        parts=len(found),
        from_ms=min((part.from_ms for part in found), default=None),
        to_ms=max((part.to_ms for part in found), default=None),
        new=new,
        damaged=damaged,
    )


def _take(reader: JournalReader, folder: Path) -> int:
    """Everything that the journal has after the newest part; how many readings."""
    tail, begun = Tail(reader), taken(folder)
    done, count, new = begun, 0, 0
    tables: list[pa.Table] = []
    while batches := tail.after(done):
        done = batches[-1][0]
        if found := [batch for batch in batches if batch[1]]:
            tables.append(table_of(found))
            count += len(tables[-1])
        if count >= FRESH_READINGS:
            _put(reader, folder, tables, begun + 1, done)
            begun, new, count, tables = done, new + count, 0, []
    if tables:
        _put(reader, folder, tables, begun + 1, done)
    return new + count


def _put(reader: JournalReader, folder: Path, tables: Sequence[pa.Table], first: int, last: int) -> None:
    unfinished, name = parts.write(folder, parts.together(tables), first, last)
    reader.last_seq()  # raises if the journal was begun anew meanwhile: then its numbers mean something else
    publish(unfinished, name)


def _join(folder: Path) -> int:
    """Join as long as there is something to; how many parts were damaged."""
    damaged = 0
    while len(run := joinable(parts_in(folder))) > 1:
        try:
            publish(*parts.join(folder, run))
        except PartDamaged as error:
            damaged += 1
            error.path.rename(error.path.with_name(DAMAGED + error.path.name))
            continue
        for part in run:
            part.path.unlink()
    return damaged


def joinable(found: Sequence[Part]) -> Sequence[Part]:
    """The newest parts that are worth joining: none of them is larger than all newer ones together."""
    run, readings = 0, 0
    for part in reversed(found):
        fits = readings + part.readings <= PART_READINGS and found[-1].to_ms - part.from_ms <= PART_SPAN_MS
        if not fits or (run and part.readings > readings):
            break
        run, readings = run + 1, readings + part.readings
    enough = run >= FAN or readings >= PART_READINGS // 2
    return found[-run:] if run > 1 and enough else ()


def _remove_old(folder: Path, limits: Limits) -> None:
    """The oldest first, by days before the newest reading and by bytes. The newest part stays."""
    found = parts_in(folder)
    size = sum(part.size for part in found)
    for part in found[:-1]:
        too_old = part.to_ms < found[-1].to_ms - limits.max_days * DAY_MS
        if too_old or size > limits.max_bytes:
            part.path.unlink()
            size -= part.size


def _need_room(folder: Path, limits: Limits) -> None:
    free = shutil.disk_usage(folder).free
    if free < limits.room_bytes:
        raise NoRoom(
            f"{free // 2**20} MiB are free on the disk of the history: it goes on when there are"
            f" {limits.room_bytes // 2**20}; free space or lower history.max_bytes"
        )
