"""A wall clock that steps on command, for one process: libfaketime with a file that says by how much.

The monotonic clock is left alone, as a step of a real one leaves it; a start of the computer is another number of
its boot (the disk's library gives it).
"""

import os
import time
import uuid
from collections.abc import Mapping
from pathlib import Path

from tools.servers import BUILD

_PATTERN = "usr/lib/*/faketime/libfaketime.so.1"


def library() -> Path:
    """Where libfaketime is. Raises `FileNotFoundError` with the remedy."""
    for root in (Path("/"), BUILD / "debian" / "root"):
        for found in root.glob(_PATTERN):
            return found
    raise FileNotFoundError("libfaketime is missing: sudo apt-get install --no-install-recommends faketime")


class SteppedClock:
    """The offset of one process's wall clock, in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        self._boot = folder / "boot_id"
        self.step(0)
        self._begin_boot()

    def step(self, offset_s: float) -> None:
        """From now on the wall clock is wrong by so much; 0 is right."""
        made = self._file.with_suffix(".new")
        made.write_text(f"{offset_s:+.3f}\n")
        made.replace(self._file)

    def begin_in_1970(self) -> None:
        """As a machine without a clock chip that is switched on."""
        self.step(60 - time.time())
        self._begin_boot()

    def beside(self, environment: Mapping[str, str]) -> dict[str, str]:
        """``environment`` with this clock in it."""
        preload = os.pathsep.join(filter(None, [environment.get("LD_PRELOAD"), str(library())]))
        return {
            **environment,
            "LD_PRELOAD": preload,
            "CHAOS_BOOT_ID": str(self._boot),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DONT_RESET": "1",
        }

    def _begin_boot(self) -> None:
        self._boot.write_text(f"{uuid.uuid4()}\n", encoding="ascii")
