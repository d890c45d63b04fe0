"""One gateway a data directory."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edge.store.errors import StoreLocked, StoreUnusable
from edge.store.journal import Journal
from edge.store.lock import DirectoryLock

HOLDER = """
import sys
from pathlib import Path
from edge.store.lock import DirectoryLock

with DirectoryLock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_is_refused_and_told_who_holds_the_directory(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(
            StoreLocked, match=f"in use by process {holder.pid}: stop that gateway"
        ) as refused:
            DirectoryLock(tmp_path).acquire()
        assert refused.value.holder == holder.pid

        async def start() -> None:
            async with Journal(tmp_path, max_bytes=2**26, forwarding=False):
                pass

        with pytest.raises(StoreLocked):
            asyncio.run(start())
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
    with DirectoryLock(tmp_path):
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"


def test_the_lock_is_free_again_after_leaving(tmp_path: Path) -> None:
    for _ in range(2):
        with DirectoryLock(tmp_path):
            pass


def test_a_directory_that_cannot_be_made_is_refused_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for directory in (tmp_path / "file", tmp_path / "file" / "data"):
        with pytest.raises(StoreUnusable, match=r"cannot be written .* set data_dir to a directory"):
            DirectoryLock(directory).acquire()
