"""What a run of the compaction is told by the node, as one JSON object on its command line."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:  # a run needs nothing of the configuration's machinery
    from edge.settings import History


class HistorySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the journal is and how much is kept."""

    data_dir: str
    every_s: int
    max_days: int
    max_bytes: int

    @classmethod
    def of(cls, data_dir: Path, history: "History") -> "HistorySettings":
        """As the configuration says."""
        return cls(
            data_dir=str(data_dir),
            every_s=history.every_s,
            max_days=history.max_days,
            max_bytes=history.max_bytes,
        )

    def command(self) -> Sequence[str]:
        """What starts one run. Its standard input must be a pipe: it ends when that does."""
        return (sys.executable, "-m", "edge.history.process", msgspec.json.encode(self).decode())
