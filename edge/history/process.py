"""``python -m edge.history.process SETTINGS``: one run of the compaction, as the node starts it every few minutes.

Says on standard output, as one line of JSON, what there is afterwards (`edge.history.compaction.Outcome`); what is
wrong goes to standard error in one line, with exit code 1. It runs when the processor has nothing else to do, and
ends at once when its standard input does, which is when the node has gone: no instant of it matters.
"""

import gc
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pyarrow as pa

from edge import logs
from edge.history.compaction import Limits, compact
from edge.history.errors import HistoryError
from edge.history.settings import HistorySettings
from edge.store.errors import StoreError

EXIT_FAILED = 1
EXIT_SETTINGS = 2
NICENESS = 19

_STDIN = 0


def main(arguments: Sequence[str] | None = None) -> int:
    """One run; the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        settings = msgspec.json.decode(arguments[0] if arguments else "", type=HistorySettings)
    except msgspec.MsgspecError as error:
        return _fail(f"settings of the history: {error}", EXIT_SETTINGS)
    os.nice(NICENESS)
    logs.configure()
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    pa.set_memory_pool(pa.system_memory_pool())  # gives back what it has had: 50 MB less at the most
    gc.disable()  # a run makes hundreds of thousands of values and no cycle, then ends
    try:
        outcome = compact(Path(settings.data_dir), Limits(settings.max_days, settings.max_bytes))
    except (HistoryError, StoreError, OSError) as error:
        return _fail(str(error), EXIT_FAILED)
    sys.stdout.write(msgspec.json.encode(outcome).decode() + "\n")
    return 0


def _end_with_parent() -> None:
    while os.read(_STDIN, 4096):  # not by `sys.stdin`, whose lock would be held at our own end
        pass
    os._exit(EXIT_FAILED)


def _fail(message: str, code: int) -> int:
    sys.stderr.write(f"{message}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
