"""Whether the journal is damaged, found without writing to it: by an error, by the file, by its log.

A log that was cut exactly between two commits cannot be told from a crash before the second; any other
damage can, because SQLite chains checksums through its log and ours seal what lies in the columns. What is done
about it is `edge.store.salvage`'s.
"""

import os
import struct
import sys
from contextlib import closing
from pathlib import Path

from edge.store import schema
from edge.store.errors import JournalDamaged, StoreError

_MAGIC = b"SQLite format 3\0"
_FRAME_HEADER = struct.Struct(">II8sII")  # page, size of the database after a commit or 0, salts, checksum
_WAL_HEADER = struct.Struct(">IIII8sII")
_VALID_FRAMES_AT = 16  # in the header of the WAL-index, https://sqlite.org/walformat.html


def is_damage(error: StoreError) -> bool:
    """Whether an error of the store says that the file is damaged, and not that the disk fails just now."""
    cause = error.__cause__
    return isinstance(error, JournalDamaged) or (isinstance(cause, schema.FAULTS) and schema.is_damage(cause))


def look(path: Path) -> str | None:
    """What is wrong with the file as a file, before SQLite sees it; None for a sound or a new one.

    SQLite would take an emptied file for a new one, log and all.
    """
    size = path.stat().st_size if path.exists() else 0
    log = log_of(path).stat().st_size if log_of(path).exists() else 0
    if size == 0:
        return "the file is empty, but its log is not" if log else None
    with path.open("rb") as file:
        head = file.read(100)
    if not head.startswith(_MAGIC):
        return "the file does not begin as a database does"
    page_size, pages = int.from_bytes(head[16:18]), int.from_bytes(head[28:32])
    if log == 0 and size < pages * page_size:
        return f"the file has {size:,} bytes of {pages * page_size:,}"
    return None


def torn_commits(path: Path) -> tuple[int, int]:
    """How many commits of the log SQLite cannot take for damage before them, and the time (Unix ms) of its last.

    Ask before the journal is opened for writing: from then on the log is used again. A crash in the middle of a
    commit is no damage.
    """
    log = log_of(path)
    if not path.exists() or not log.exists() or log.stat().st_size < _WAL_HEADER.size:
        return 0, 0
    try:
        with closing(schema.open_reader(path)) as connection:
            (last,) = connection.execute("SELECT ifnull(max(last_at), 0) FROM batches").fetchone()
            valid = _valid_frames(path)
    except (StoreError, *schema.FAULTS):
        return 0, 0  # the file itself will be found damaged
    return max(0, _commits_beyond(log, valid) - 1), last  # the first may be one that a crash has cut short


def log_of(path: Path) -> Path:
    """The write-ahead log of the database."""
    return Path(f"{path}-wal")


def _valid_frames(path: Path) -> int:
    """How far SQLite trusts the log, from the index that a reader has just made or joined."""
    index = Path(f"{path}-shm").read_bytes()
    return int.from_bytes(index[_VALID_FRAMES_AT : _VALID_FRAMES_AT + 4], sys.byteorder)


def _commits_beyond(log: Path, valid: int) -> int:
    """Commits of the log's present round after its first ``valid`` frames."""
    with log.open("rb") as file:
        _, _, page_size, _, salts, _, _ = _WAL_HEADER.unpack(file.read(_WAL_HEADER.size))
        frame = _FRAME_HEADER.size + page_size
        file.seek(_WAL_HEADER.size + valid * frame)
        commits = 0
        while len(head := file.read(_FRAME_HEADER.size)) == _FRAME_HEADER.size:
            _page, size_after, its_salts, _, _ = _FRAME_HEADER.unpack(head)
            commits += its_salts == salts and size_after > 0
            file.seek(page_size, os.SEEK_CUR)
    return commits
