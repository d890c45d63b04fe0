"""`anlin orders`: the last commands that devices were given, by whom, and what became of them.

Read only, from the journal: it answers without a running gateway, too.
"""

import argparse
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from edge.shell.verbs import SOME_ID, Failure, add_config, add_verb, config_of, journal_of, print_json

if TYPE_CHECKING:
    from edge.settings import Config
    from edge.shell.verbs import Verbs
    from edge.store.records import OrderRecord

SHOWN = 50
"""The newest orders that are listed."""

_STATUSES: Mapping[str, tuple[str, str]] = {
    "pending": ("not sent yet", "尚未发出"),
    "sent": ("sent, no answer yet", "已发出，设备尚未答复"),
    "done": ("done", "已执行"),
    "rejected": ("rejected by the device", "设备拒绝执行"),
    "failed": ("failed at the device", "设备执行失败"),
    "expired": ("never sent: its time ran out", "未发出：已过期"),
}
"""What has become of an order, in English and in Chinese."""

_WORDS: Mapping[str, tuple[str, str]] = {
    "none": ("no order was given", "没有下达过指令"),
    "by": ("by {by}", "{by} 下达"),
    "by alarm": ("by alarm {alarm}", "告警 {alarm} 下达"),
    "by unknown": ("by a person", "由人下达"),
}


def add_orders(verbs: "Verbs") -> None:
    """Declare it."""
    does = "the last commands that devices were given, and what became of them"
    parser = add_verb(verbs, "orders", _orders, does, SOME_ID)
    add_config(parser)
    parser.add_argument("id", nargs="?", metavar="ID", help="only this one")
    parser.add_argument("--json", action="store_true", help="JSON, for programs")


def status_of(record: "OrderRecord", language: str) -> str:
    """What became of an order, in words, with what the device said."""
    from rules.language.texts import on_one_line

    told = _STATUSES[record.status][language == "zh"]
    return told if record.detail is None else f"{told} ({on_one_line(record.detail)})"


def order_line(record: "OrderRecord", language: str, zone: str) -> str:
    """One order: when, what, who, and what became of it."""
    order = record.order
    at = datetime.fromtimestamp(order.issued_at / 1000, ZoneInfo(zone))
    args = "".join(f" {name}={value}" for name, value in order.args.items())
    key = "by" if order.by else "by alarm" if order.alarm_id else "by unknown"
    giver = _WORDS[key][language == "zh"].format(by=order.by, alarm=order.alarm_id)
    device = order.address.partition("/")[2]
    return f"{order.id}  {at:%m-%d %H:%M:%S}  {device} {order.command}{args}  {giver}  {status_of(record, language)}"


def _orders(arguments: argparse.Namespace) -> int:
    import msgspec

    from edge.orders import view_of

    config = config_of(arguments)
    records = _found(config, arguments.id)
    if arguments.json:
        views = [view_of(record) for record in records]
        print_json(msgspec.json.encode(views if arguments.id is None else views[0]))
        return 0
    for record in records:
        print(order_line(record, config.language, config.timezone))
    if not records:
        print(_WORDS["none"][config.language == "zh"])
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
