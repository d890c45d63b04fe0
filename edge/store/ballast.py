"""Room that is kept for alarms: a file of the data directory that is given up when the disk is full.

It holds nothing and is really allocated, so removing it frees its bytes for the journal. It is made at the
first start and again when there is room for it and a margin more. It is not counted in
``journal_max_bytes``. Must not: fail a start, or be touched by another thread than the writer's.
"""

import logging
import os
from pathlib import Path

FILE = "ballast"
SIZE = 64 * 1024 * 1024
"""Alarms, orders and gaps of a bad week: an alarm change takes about 10 kB of the write-ahead log."""

log = logging.getLogger(__name__)


class Ballast:
    """The ballast in ``directory``."""

    def __init__(self, directory: Path, size: int = SIZE) -> None:
        self._path = directory / FILE
        self._size = size
        self.released = False
        """It was given up and not made again."""

    @property
    def margin(self) -> int:
        """Bytes that must be free beyond the ballast, so that making it again does not fill the disk."""
        return self._size // 4

    def make(self) -> bool:
        """Make it if it is not there; false, and the reason in the log, where that is not possible."""
        try:
            if self._path.exists() and self._path.stat().st_size >= self._size:
                self.released = False
                return True
            if self.free() < self._size + self.margin:
                log.warning(
                    "no room for the ballast: with a full disk less is left for alarms",
                    extra={"file": str(self._path), "bytes": self._size},
                )
                self.released = self._disk_is_large()
                return False
            self._allocate()
        except OSError as error:
            log.warning("the ballast was not made", extra={"file": str(self._path), "reason": str(error)})
            return False
        self.released = False
        return True

    def release(self) -> None:
        """Give its bytes to the journal."""
        try:
            self._path.unlink()
        except FileNotFoundError:
            return
        except OSError as error:
            log.warning("the ballast stays", extra={"file": str(self._path), "reason": str(error)})
            return
        self.released = True

    def room(self) -> bool:
        """Whether readings may be stored again: the ballast, if it was given up, and a margin fit."""
        try:
            return self.free() >= self.margin + (self._size if self.released else 0)
        except OSError:
            return False

    def free(self) -> int:
        """Bytes that are free in its file system. Raises `OSError`."""
        told = os.statvfs(self._path.parent)
        return told.f_bavail * told.f_frsize

    def _disk_is_large(self) -> bool:
        """On a disk hardly larger than the ballast nobody waits for room for it."""
        told = os.statvfs(self._path.parent)
        return told.f_blocks * told.f_frsize >= 4 * self._size

    def _allocate(self) -> None:
        growing = self._path.with_suffix(".new")
        fd = os.open(growing, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(fd, 0, self._size)
            os.fsync(fd)
        except OSError:
            growing.unlink(missing_ok=True)
            raise
        finally:
            os.close(fd)
        growing.replace(self._path)
