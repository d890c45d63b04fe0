"""`anlin status`: what stands, what is silent, how far the cloud is behind, what was lost."""

import argparse
from typing import TYPE_CHECKING

from edge.shell.verbs import (
    EXIT_WRONG,
    add_config,
    add_verb,
    config_of,
    journal_of,
    print_json,
    print_lines,
    socket_of,
)

if TYPE_CHECKING:
    from edge.settings import Config
    from edge.shell.verbs import Verbs
    from edge.store.records import Gap

DAY_MS = 86_400_000


def add_status(verbs: "Verbs") -> None:
    """Declare it."""
    does = (
        "what stands, what is silent, how far the cloud is behind, what was lost; exit 1 if anything is wrong"
    )
    status = add_verb(verbs, "status", _status, does, "--config anlin.yaml")
    status.description = (status.description or "") + (
        " Anything is an alarm that stands, a device that is silent, or a gateway that is not ok: a gateway that is"
        " ok with an alarm on its board ends with 1, too. What was lost is told and changes nothing of that."
    )
    add_config(status)
    status.add_argument("--json", action="store_true", help="JSON, for programs")


def _status(arguments: argparse.Namespace) -> int:
    import msgspec

    from edge.control_client import request
    from edge.shell.reports import StatusReport, status_lines

    config = config_of(arguments)
    answer = request(socket_of(config), "status")
    report = msgspec.json.decode(answer, type=StatusReport)
    gaps = _recent_gaps(config)
    if arguments.json:
        told = msgspec.json.decode(answer, type=dict[str, msgspec.Raw])
        print_json(msgspec.json.encode({**told, "gaps": gaps}))
    else:
        print_lines(status_lines(report, config.language, config.timezone, gaps))
    return 0 if report.well else EXIT_WRONG


def _recent_gaps(config: "Config") -> "list[Gap]":
    """The losses that were put on record within a day, the newest first; none where the journal cannot be read."""
    import time

    from edge.store.errors import StoreError
    from edge.store.reader import MOST_ROWS, JournalReader

    since = time.time_ns() // 1_000_000 - DAY_MS
    try:
        with JournalReader(journal_of(config)) as reader:
            return [gap for _, gap in reader.newest_gaps(MOST_ROWS) if gap.at >= since]
    except StoreError:
        return []  # the node's own answer says what is wrong with the store
