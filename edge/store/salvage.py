"""A damaged journal: what can still be read goes into a new one, the damaged file stays beside it.

Promises: nothing is thrown away (``journal.damaged-1.db`` and its log are what they were); what is missing
is told as gaps; a crash at any moment leaves either the old state, which is salvaged again, or the new one.
How damage is found says `edge.store.damage`, what is carried over `edge.store.carrying`.
"""

import os
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from edge.store import schema
from edge.store.carrying import carry_over
from edge.store.damage import log_of, torn_commits
from edge.store.records import Gap, GapReason


@dataclass(frozen=True, slots=True)
class Salvaged:
    """What was done about a damaged journal."""

    kept: Path
    """The damaged file, or its log."""
    gaps: tuple[Gap, ...]
    """What is missing; already in a new journal."""
    message: str


def finish(path: Path) -> None:
    """Complete a salvage that was interrupted between its two renamings; otherwise nothing."""
    ready = _ready(path)
    if not ready.exists():
        return
    if path.exists() or log_of(path).exists():
        _put_aside(path)
    ready.rename(path)
    _sync(path.parent)


def torn_log(path: Path) -> Salvaged | None:
    """The log is copied aside if commits in it are lost; their gap is still to be put on record. None if all is well.

    Ask before the journal is opened for writing; see `edge.store.damage.torn_commits`.
    """
    lost, last = torn_commits(path)
    if not lost:
        return None
    kept = log_of(_aside(path))
    kept.write_bytes(log_of(path).read_bytes())
    gap = Gap(last, "readings", 0, last, last, GapReason.STORE_DAMAGED)
    return Salvaged(
        kept, (gap,), f"{lost} commits or more of a damaged log are lost; it is kept as {kept.name}"
    )


def salvage(path: Path, at: int) -> Salvaged:
    """Make a new journal of what can be read of ``path``. ``at``: the time (Unix ms) that gaps are given.

    Raises `StoreError` or `OSError` if the disk does not let us; then nothing has changed.
    """
    unfinished = path.with_suffix(".salvaging")
    for file in (unfinished, log_of(unfinished), Path(f"{unfinished}-shm")):
        file.unlink(missing_ok=True)
    with closing(schema.open_writer(unfinished)) as new:
        new.execute("PRAGMA synchronous = OFF")  # it counts for nothing before it is renamed
        gaps = carry_over(path, new, at)
        new.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    _sync(unfinished)
    kept = _aside(path)
    unfinished.rename(_ready(path))
    _sync(path.parent)
    finish(path)
    return Salvaged(kept, gaps, f"the journal was damaged and begun anew; the damaged one is {kept.name}")


def _ready(path: Path) -> Path:
    return path.with_suffix(".salvaged")


def _aside(path: Path) -> Path:
    """A name that nothing has yet."""
    number = 1
    while True:
        aside = path.with_suffix(f".damaged-{number}.db")
        if not aside.exists() and not log_of(aside).exists():
            return aside
        number += 1


def _put_aside(path: Path) -> None:
    aside = _aside(path)
    for old, new in ((log_of(path), log_of(aside)), (path, aside)):
        if old.exists():
            old.rename(new)
    Path(f"{path}-shm").unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
