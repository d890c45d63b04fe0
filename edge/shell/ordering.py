"""``anlin order``: a person gives a device a command, through the running gateway, and hears what became of it.

The gateway refuses what is unsafe now and says why; what it gives, it gives once, within a minute.
"""

import argparse
import time
from collections.abc import Mapping, Sequence

import msgspec

from devices.faults import nearest
from devices.kinds import KINDS
from edge.control_client import request
from edge.settings import Config
from edge.shell.reports import order_status, say
from edge.shell.verbs import EXIT_WRONG, Failure, journal_of, print_lines, socket_of, tell
from edge.store.errors import StoreError
from edge.store.reader import JournalReader
from edge.store.records import OrderRecord, OrderStatus

WAIT_S = 5.0
"""So long does it wait for the device's answer."""

LOOK_S = 0.1
"""Between looks into the journal."""

_OPEN = (OrderStatus.PENDING, OrderStatus.SENT)
_WELL = (OrderStatus.SENT, OrderStatus.DONE)

_WARNINGS: Mapping[str, tuple[str, str]] = {
    "unheard": (
        "{device} was never heard: it may not get this order",
        "从未收到 {device} 的数据：它可能收不到该指令",
    ),
    "offline": ("{device} is offline: it may not get this order", "{device} 离线：它可能收不到该指令"),
    "silent": ("{device} is silent: it may not get this order", "{device} 已无数据：它可能收不到该指令"),
}

_RESULT = ("order {id}: {told}", "指令 {id}：{told}")
_LATER = ("; later: `anlin orders {id}`", "；稍后用 `anlin orders {id}` 查看")
_UNKNOWN = ("not known: the journal does not tell", "未知：数据文件中没有记录")


class _Given(msgspec.Struct, frozen=True):
    """The gateway's answer."""

    id: str
    address: str
    command: str
    presence: str = "heard"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What can be said behind ``anlin order``."""
    parser.add_argument("device", metavar="DEVICE", help="KIND/DEVICE, as `anlin alarms list` shows it")
    commands = ", ".join(sorted({name for kind in KINDS.values() for name in kind.commands}))
    parser.add_argument("command", metavar="COMMAND", help=f"one that the kind obeys: {commands}")
    parser.add_argument(
        "--arg", action="append", default=[], metavar="NAME=VALUE", help="an argument, e.g. seconds=60"
    )
    parser.add_argument("--by", required=True, metavar="NAME", help="who gives it")
    parser.add_argument("--comment", default="", metavar="TEXT", help="why")
    what = f"how long to wait for the device's answer ({WAIT_S:g})"
    parser.add_argument("--wait", type=_seconds, default=WAIT_S, metavar="SECONDS", help=what)


def order(config: Config, arguments: argparse.Namespace) -> int:
    """Give the command and tell what became of it; the exit code.

    Raises `Failure` and `edge.control_client.ControlError` where it is refused.
    """
    _check(arguments.device)
    answer = request(
        socket_of(config),
        "order",
        address=f"{config.site}/{arguments.device}",
        command=arguments.command,
        args=_named(arguments.arg),
        by=arguments.by,
        comment=arguments.comment,
    )
    given, chinese = msgspec.json.decode(answer, type=_Given), config.language == "zh"
    if given.presence in _WARNINGS:
        tell(f"anlin: {_WARNINGS[given.presence][chinese].format(device=arguments.device)}")
    print(say("ordered", config.language, **msgspec.structs.asdict(given)), flush=True)
    record = _result(config, given.id, arguments.wait)
    status = None if record is None else record.status
    told = _UNKNOWN[chinese] if record is None else order_status(record, config.language)
    later = _LATER[chinese].format(id=given.id) if status is None or status in _OPEN else ""
    print_lines([_RESULT[chinese].format(id=given.id, told=told) + later])
    return 0 if status in _WELL else EXIT_WRONG


def _check(told: str) -> None:
    """Whether it has the form of a device. Raises `Failure`."""
    kind, slash, name = told.partition("/")
    if not slash or not name or "/" in name:
        raise Failure(f"{told}: say KIND/DEVICE, e.g. charger/shed1-p01")
    if kind not in KINDS:
        near = nearest(kind, KINDS)
        raise Failure(f"there is no kind {kind}" + (f"; did you mean {near}?" if near else ""))


def _result(config: Config, order_id: str, wait_s: float) -> OrderRecord | None:
    """What became of it within that time; None where the journal does not have it."""
    until = time.monotonic() + wait_s
    while True:
        record = _kept(config, order_id)
        if (record is not None and record.status not in _OPEN) or time.monotonic() >= until:
            return record
        time.sleep(LOOK_S)


def _kept(config: Config, order_id: str) -> OrderRecord | None:
    try:
        with JournalReader(journal_of(config)) as reader:
            return reader.order(order_id)
    except StoreError:
        return None  # the order is given all the same; `anlin status` says what is wrong with the store


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1
    if not 0 <= seconds <= 60:  # noqa: PLR2004 - an order lives for a minute
        raise argparse.ArgumentTypeError(f"must be 0 to 60 seconds, is {text!r}")
    return seconds


def _named(told: Sequence[str]) -> Mapping[str, str]:
    return {name: value for name, _, value in (each.partition("=") for each in told)}
