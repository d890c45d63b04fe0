"""``python -m edge.history.query_process DATA_DIR``: answers questions about the history for the web process.

A process of its own, started with the first question and ended by the web when nobody has asked for a while: so the
web never pays for pyarrow. A line of JSON on standard input is a question (`edge.history.queries.Question`); a line on
standard output is its page or ``{"error": "…"}``. Ends with its standard input. Must not write anything.
"""

import gc
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from edge import logs
from edge.history.errors import HistoryError
from edge.history.queries import Question, answer
from edge.history.tail import Tail
from edge.store.errors import StoreError
from edge.store.reader import JournalReader
from edge.store.schema import FILE

NICENESS = 5
EXIT_SETTINGS = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Answer until the end of standard input; the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if len(arguments) != 1:
        sys.stderr.write("the data directory is missing\n")
        return EXIT_SETTINGS
    os.nice(NICENESS)
    logs.configure()
    gc.freeze()
    data_dir = Path(arguments[0])
    reader = JournalReader(data_dir / FILE, follow=True)
    tail = Tail(reader)
    for line in sys.stdin.buffer:
        sys.stdout.buffer.write(_answer(data_dir, reader, tail, line) + b"\n")
        sys.stdout.buffer.flush()
    return 0


def _answer(data_dir: Path, reader: JournalReader, tail: Tail, line: bytes) -> bytes:
    try:
        question = msgspec.json.decode(line, type=Question)
        with reader:  # opened for each question: nothing of the journal is held between two
            return msgspec.json.encode(answer(data_dir, tail, question))
    except (HistoryError, StoreError, OSError, msgspec.MsgspecError) as error:
        return msgspec.json.encode({"error": str(error)})


if __name__ == "__main__":
    sys.exit(main())
