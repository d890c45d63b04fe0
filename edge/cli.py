"""The command line (contract, section 5): its verbs, and how each of them ends.

Of a verb there is only its declaration here; what it does is imported when it runs. No mistake of a person, and
nothing that can happen on a sound machine, ends as a traceback.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from devices.faults import ConfigurationError
from edge.shell.alarm_verbs import add_alarms
from edge.shell.orders_verb import add_orders
from edge.shell.rule_verbs import add_rules, with_moments
from edge.shell.status_verb import add_status
from edge.shell.verbs import (
    EXIT_CONFIGURATION,
    EXIT_WRONG,
    Failure,
    Parser,
    Verb,
    add_config,
    add_verb,
    config_of,
    spoken,
    tell,
    tell_faults,
)

if TYPE_CHECKING:
    from edge.shell.verbs import Verbs

EXIT_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    given = with_moments(sys.argv[1:] if argv is None else argv)
    arguments = _parser(given).parse_args(given)
    verb: Verb = arguments.verb
    try:
        code = verb(arguments)
        sys.stdout.flush()
    except ConfigurationError as error:
        tell_faults(error.faults)
        return EXIT_CONFIGURATION
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # `anlin alarms | head` is no failure
        return 0
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except _expected() as error:
        from edge.error_words import told

        tell(f"anlin: {told(error, spoken(arguments))}")
        return EXIT_WRONG
    return code


def _expected() -> tuple[type[Exception], ...]:
    """Errors whose text is meant for the person at the keyboard."""
    from edge.control_client import ControlError
    from edge.mqtt.link import LinkError
    from edge.replay.failure import ReplayError
    from edge.store.errors import StoreError

    return (Failure, ControlError, LinkError, ReplayError, StoreError)


# --- what can be said ---------------------------------------------------------------------------------------


def _parser(given: Sequence[str]) -> argparse.ArgumentParser:
    parser = Parser(
        prog="anlin",
        description="Anlin (安邻): the edge gateway of a residential community.",
        epilog="example: anlin demo   (each command explains itself: anlin run --help)",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and end")
    verbs = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_demo(verbs)
    add_config(
        add_verb(verbs, "run", _run, "run the gateway until SIGTERM", "--config /etc/anlin/anlin.yaml")
    )
    does = "find every fault in configuration, registry and rules; exit 0 or 2"
    add_config(add_verb(verbs, "check", _check, does, "--config anlin.yaml"))
    add_alarms(verbs)
    example = "--chargers 20 --smoke 200 --rate 50 --broker 127.0.0.1:1883"
    simulate = add_verb(verbs, "simulate", _simulate, "devices that do not exist, on a real broker", example)
    if "simulate" in given:  # only then: physics takes a while to import
        from simulators.command import add_arguments

        add_arguments(simulate)
    _add_order(verbs, given)
    add_orders(verbs)
    add_rules(verbs, given)
    add_status(verbs)
    return parser


def _add_demo(verbs: "Verbs") -> None:
    does = "show it: a simulated community, its alarms, the board"
    demo = add_verb(verbs, "demo", _demo, does, "--seconds 150")
    demo.add_argument(
        "--seconds", type=_positive, metavar="N", help="end by itself; exit 0 only if all alarms came"
    )
    demo.add_argument("--port", type=_port, metavar="N", help="port of the board (8080, or a free one)")
    demo.add_argument("--lang", choices=("zh", "en"), default="zh", help="language of all that it shows (zh)")


def _add_order(verbs: "Verbs", given: Sequence[str]) -> None:
    does = "give a device a command: release a lift's door, restore power, test a sensor"
    example = 'elevator/lift-3-2-a release_door --by Wang --comment "a wheelchair"'
    parser = add_verb(verbs, "order", _order, does, example)
    add_config(parser)
    if "order" in given:  # only then: kinds take a while to import
        from edge.shell.ordering import add_arguments

        add_arguments(parser)


def _positive(text: str) -> float:
    with suppress(ValueError):
        if (seconds := float(text)) > 0:
            return seconds
    raise argparse.ArgumentTypeError(f"must be seconds, more than 0, is {text!r}")


def _port(text: str) -> int:
    with suppress(ValueError):
        if 0 <= (port := int(text)) <= 65_535:  # noqa: PLR2004 - the highest port of TCP
            return port
    raise argparse.ArgumentTypeError(f"must be a port from 0 to 65535, is {text!r}")


class _Version(argparse.Action):
    """Looks the version up only when asked."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"anlin {version('anlin')}")
        parser.exit()


# --- what is done -------------------------------------------------------------------------------------------


def _demo(arguments: argparse.Namespace) -> int:
    from edge.demo.stage import main as demo

    return demo(arguments)


def _run(arguments: argparse.Namespace) -> int:
    from edge import logs
    from edge.checking import check
    from edge.config import examine

    config, faults = examine(arguments.config, os.environ)
    if not faults:
        logs.configure(config.log.level, config.log.format)
        from edge.node_process import main as run

        try:
            return run(config)
        except ConfigurationError:
            pass  # in the first of its files: `check` finds all
    tell_faults(faults + check(config))
    return EXIT_CONFIGURATION


def _check(arguments: argparse.Namespace) -> int:
    from edge.checking import check, load_registry, load_rules
    from edge.config import examine
    from edge.shell.reports import say

    config, faults = examine(arguments.config, os.environ)
    faults += check(config)
    if faults:
        tell_faults(faults)
        return EXIT_CONFIGURATION
    registry, rules = load_registry(config), load_rules(config)
    devices, places = len(registry.devices), len(registry.places)
    print(say("no faults", config.language, devices=devices, places=places, rules=len(rules.rules)))
    return 0


def _simulate(arguments: argparse.Namespace) -> int:
    from simulators.command import run

    return run(arguments)


def _order(arguments: argparse.Namespace) -> int:
    from edge.shell.ordering import order

    return order(config_of(arguments), arguments)
