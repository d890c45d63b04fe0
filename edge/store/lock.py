"""One gateway a data directory: an advisory lock that the kernel releases when its holder dies.

The file holds the holder's process id, for people and for the error of the one who comes second. It is
never deleted: two processes would then lock two different files of the same name.
"""

import errno
import fcntl
import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from edge.store.errors import StoreLocked, StoreUnusable

FILE = "lock"


class DirectoryLock:
    """Holds ``directory`` from entering to leaving. Children started by exec do not inherit it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._fd: int | None = None

    def acquire(self) -> None:
        """Make the directory if there is none, and lock it.

        Raises `StoreLocked` if another process has it, `StoreUnusable` if it cannot be written.
        """
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = self._opened()
        except OSError as error:
            raise StoreUnusable(
                f"data directory {self._directory} cannot be written ({error.strerror}): "
                "set data_dir to a directory that the gateway's user owns"
            ) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with suppress(OSError):  # a full disk, or a read-only one: only people read it
                os.ftruncate(fd, 0)
                os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        except BlockingIOError:
            holder = _holder(fd)
            os.close(fd)
            raise StoreLocked(str(self._directory), holder) from None
        except OSError as error:
            os.close(fd)
            raise StoreUnusable(
                f"data directory {self._directory} cannot be locked ({error.strerror}): "
                "use a local file system with room on it"
            ) from error
        self._fd = fd

    def _opened(self) -> int:
        path = self._directory / FILE
        try:
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            if error.errno != errno.EROFS or not path.exists():
                raise
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # enough for a lock

    def release(self) -> None:
        """Let the next one in."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _holder(fd: int) -> int | None:
    text = os.pread(fd, 32, 0).strip()
    return int(text) if text.isdigit() else None
