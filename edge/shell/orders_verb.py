"""`anlin orders`: the last commands that devices were given, by whom, and what became of them.

Read only, from the journal: it answers without a running gateway, too.
"""

import argparse
from typing import TYPE_CHECKING

from edge.shell.verbs import (
    SOME_ID,
    Failure,
    add_config,
    add_verb,
    config_of,
    journal_of,
    print_json,
    print_lines,
)

if TYPE_CHECKING:
    from edge.settings import Config
    from edge.shell.verbs import Verbs
    from edge.store.records import OrderRecord

SHOWN = 50
"""The newest orders that are listed."""


def add_orders(verbs: "Verbs") -> None:
    """Declare it."""
    does = "the last commands that devices were given, and what became of them"
    parser = add_verb(verbs, "orders", _orders, does, SOME_ID)
    add_config(parser)
    parser.add_argument("id", nargs="?", metavar="ID", help="only this one")
    parser.add_argument("--json", action="store_true", help="JSON, for programs")


def _orders(arguments: argparse.Namespace) -> int:
    import msgspec

    from edge.orders import view_of
    from edge.shell.reports import order_line, say

    config = config_of(arguments)
    records = _found(config, arguments.id)
    if arguments.json:
        views = [view_of(record) for record in records]
        print_json(msgspec.json.encode(views if arguments.id is None else views[0]))
        return 0
    lines = [order_line(record, config.language, config.timezone) for record in records]
    print_lines(lines or [say("no order", config.language)])
    return 0


def _found(config: "Config", order_id: str | None) -> "list[OrderRecord]":
    from edge.store.reader import JournalReader

    with JournalReader(journal_of(config)) as reader:
        if order_id is None:
            return reader.newest_orders(SHOWN)
        record = reader.order(order_id)
    if record is None:
        raise Failure(f"no order {order_id} in the journal: see `anlin orders`")
    return [record]
