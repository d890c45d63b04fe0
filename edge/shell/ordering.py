"""``anlin order``: a person gives a device a command, through the running gateway.

The gateway refuses what is unsafe now and says why; what it gives, it gives once, within a minute.
"""

import argparse
from collections.abc import Mapping, Sequence

import msgspec

from devices.kinds import KINDS
from edge.control_client import SOCKET_NAME, request
from edge.settings import Config
from edge.shell.reports import say


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


def order(config: Config, arguments: argparse.Namespace) -> str:
    """Give the command; what to print. Raises `edge.control_client.ControlError` where it is refused."""
    answer = request(
        config.data_dir / SOCKET_NAME,
        "order",
        address=f"{config.site}/{arguments.device}",
        command=arguments.command,
        args=_named(arguments.arg),
        by=arguments.by,
        comment=arguments.comment,
    )
    given = msgspec.json.decode(answer, type=dict[str, object])
    return say("ordered", config.language, **given)


def _named(told: Sequence[str]) -> Mapping[str, str]:
    return {name: value for name, _, value in (each.partition("=") for each in told)}
