"""The command line (contract, section 5).

Each verb imports what it needs when it runs, so that ``--help`` answers at once. Results go to standard
output; what a person must mend goes to standard error, one line a fault, and never as a traceback.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from devices.faults import ConfigurationError, Fault
from edge.rule_verbs import (
    APPLY_DOES,
    APPLY_EXAMPLE,
    REPLAY_DOES,
    REPLAY_EXAMPLE,
    add_apply_arguments,
    add_replay_arguments,
    with_moments,
)

if TYPE_CHECKING:
    from edge.settings import Config
    from edge.store.records import Gap
    from rules.alarms import Alarm

EXIT_WRONG = 1
"""Something is wrong with what was asked about, or it cannot be reached."""

EXIT_CONFIGURATION = 2
"""A file or an argument is wrong."""

EXIT_INTERRUPTED = 130

DAY_MS = 86_400_000

_Verb = Callable[[argparse.Namespace], int]


class Failure(Exception):
    """The command cannot do what was asked; the text is one line and says what to do."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    given = with_moments(sys.argv[1:] if argv is None else argv)
    arguments = _parser(given).parse_args(given)
    verb: _Verb = arguments.verb
    try:
        code = verb(arguments)
        sys.stdout.flush()
    except ConfigurationError as error:
        _tell_faults(error.faults)
        return EXIT_CONFIGURATION
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # `anlin alarms | head` is no failure
        return 0
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except Exception as error:
        if not isinstance(error, _expected()):
            raise
        _tell(f"anlin: {error}")
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


class _Parser(argparse.ArgumentParser):
    """Tells a mistake in one line, with where the help is."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_CONFIGURATION, f"{self.prog}: {message}; see {self.prog} --help\n")


if TYPE_CHECKING:
    _Verbs = argparse._SubParsersAction[_Parser]  # noqa: SLF001 - argparse has no public name for it

_SOME_ID = "01JD3ZK2V8Q5T9W4M7N6P0R1SX"


def _parser(given: Sequence[str]) -> argparse.ArgumentParser:
    parser = _Parser(
        prog="anlin",
        description="Anlin (安邻): the edge gateway of a residential community.",
        epilog="example: anlin demo   (each command explains itself: anlin run --help)",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and end")
    verbs = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_demo(verbs)
    _add_config(_add(verbs, "run", _run, "run the gateway until SIGTERM", "--config /etc/anlin/anlin.yaml"))
    does = "find every fault in configuration, registry and rules; exit 0 or 2"
    _add_config(_add(verbs, "check", _check, does, "--config anlin.yaml"))
    _add_alarms(verbs)
    example = "--chargers 20 --smoke 200 --rate 50 --broker 127.0.0.1:1883"
    simulate = _add(verbs, "simulate", _simulate, "devices that do not exist, on a real broker", example)
    if "simulate" in given:  # only then: physics takes a while to import
        from simulators.command import add_arguments

        add_arguments(simulate)
    _add_order(verbs, given)
    _add_rules(verbs, given)
    does = (
        "what stands, what is silent, how far the cloud is behind, what was lost; exit 1 if anything is wrong"
    )
    status = _add(verbs, "status", _status, does, "--config anlin.yaml")
    status.description = (status.description or "") + (
        " Anything is an alarm that stands, a device that is silent, or a gateway that is not ok: a gateway that is"
        " ok with an alarm on its board ends with 1, too. What was lost is told and changes nothing of that."
    )
    _add_config(status)
    status.add_argument("--json", action="store_true", help="JSON, for programs")
    return parser


def _add_demo(verbs: "_Verbs") -> None:
    does = "show it: a simulated community, its alarms, the board"
    demo = _add(verbs, "demo", _demo, does, "--seconds 150")
    demo.add_argument(
        "--seconds", type=_positive, metavar="N", help="end by itself; exit 0 only if all alarms came"
    )
    demo.add_argument("--port", type=_port, metavar="N", help="port of the board (8080, or a free one)")
    demo.add_argument("--lang", choices=("zh", "en"), default="zh", help="language of alarm texts (zh)")


def _add_alarms(verbs: "_Verbs") -> None:
    example = f'ack {_SOME_ID} --by Wang --comment "on my way"'
    does = "what stands; acknowledge or close it"
    alarms = _add(verbs, "alarms", _alarms_list, does, example)
    _add_config(alarms)
    alarms.add_argument("--json", action="store_true", help="JSON, for programs")
    below = alarms.add_subparsers(metavar="COMMAND")
    listed = _add(below, "list", _alarms_list, "alarms that stand, worst first", "--json")
    shown = _add(below, "show", _alarms_show, "one alarm, standing or not", _SOME_ID)
    does = "why an alarm came: what was seen, which limit, since when, which rule, what ends it"
    explained = _add(below, "explain", _alarms_explain, does, _SOME_ID)
    example = f'{_SOME_ID} --by Wang --comment "on my way"'
    acked = _add(below, "ack", _alarms_order, "say that a person looks after it", example)
    does = "take an alarm off the board that nothing but a person ends"
    closed = _add(
        below, "close", _alarms_order, does, f'{_SOME_ID} --by Wang --comment "visited, she is well"'
    )
    for parser in (shown, explained, acked, closed):
        parser.add_argument("id", metavar="ID", help="as `anlin alarms list` shows it")
    for parser, op in ((acked, "ack"), (closed, "close")):
        parser.add_argument("--by", required=True, metavar="NAME", help="who says so")
        parser.add_argument("--comment", required=True, metavar="TEXT", help="why, or what happens next")
        parser.set_defaults(op=op)
    for parser in (
        listed,
        shown,
        explained,
        acked,
        closed,
    ):  # also after the inner command; said before it, it stays
        _add_config(parser, argparse.SUPPRESS)
    for parser in (listed, shown, explained):
        parser.add_argument(
            "--json", action="store_true", default=argparse.SUPPRESS, help="JSON, for programs"
        )


def _add_order(verbs: "_Verbs", given: Sequence[str]) -> None:
    does = "give a device a command: release a lift's door, restore power, test a sensor"
    example = 'elevator/lift-3-2-a release_door --by Wang --comment "a wheelchair"'
    parser = _add(verbs, "order", _order, does, example)
    _add_config(parser)
    if "order" in given:  # only then: kinds take a while to import
        from edge.ordering import add_arguments

        add_arguments(parser)


def _add_rules(verbs: "_Verbs", given: Sequence[str]) -> None:
    rules = verbs.add_parser(
        "rules",
        help="check rule files, run their examples, try them on history, apply them",
        description="Check rule files, run their examples, try them on the gateway's history, apply them.",
        epilog="example: anlin rules test my-rules.yaml",
    )
    below = rules.add_subparsers(metavar="COMMAND", required=True)
    for name, verb, does in (
        ("check", _rules_check, "find every fault in rule files; exit 0 or 2"),
        ("test", _rules_test, "run the rules' examples and scenarios in virtual time; exit 0, 1 or 2"),
    ):
        parser = _add(below, name, verb, does, "my-rules.yaml")
        _add_config(parser)
        without = "rule files (without: the shipped packs and those of the configuration)"
        if name == "test":
            without = "rule files, besides the shipped packs and those of the configuration"
        parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help=without)
        if name == "test" and "rules" in given and "test" in given:
            from edge.rule_tests import add_arguments

            parser.epilog = (
                f"example: {parser.prog} my-rules.yaml --scenario my-story.yaml --report report.txt"
            )
            add_arguments(parser)
    replay = _add(below, "replay", _rules_replay, REPLAY_DOES, REPLAY_EXAMPLE)
    _add_config(replay)
    add_replay_arguments(replay)
    apply = _add(below, "apply", _rules_apply, APPLY_DOES, APPLY_EXAMPLE)
    _add_config(apply)
    add_apply_arguments(apply)


def _add(verbs: "_Verbs", name: str, verb: _Verb, does: str, example: str) -> _Parser:
    parser = verbs.add_parser(name, help=does, description=f"{does[0].upper()}{does[1:]}.")
    parser.epilog = f"example: {parser.prog} {example}"
    parser.set_defaults(verb=verb)
    return parser


def _add_config(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    what = "configuration file (./anlin.yaml if there is one, else the defaults)"
    parser.add_argument("--config", type=Path, default=default, metavar="FILE", help=what)


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
    _tell_faults(faults + check(config))
    return EXIT_CONFIGURATION


def _check(arguments: argparse.Namespace) -> int:
    from edge.checking import check, load_registry, load_rules
    from edge.config import examine

    config, faults = examine(arguments.config, os.environ)
    faults += check(config)
    if faults:
        _tell_faults(faults)
        return EXIT_CONFIGURATION
    registry, rules = load_registry(config), load_rules(config)
    devices, places = len(registry.devices), len(registry.places)
    print(f"no faults: {devices} devices in {places} places, {len(rules.rules)} rules")
    return 0


def _simulate(arguments: argparse.Namespace) -> int:
    from simulators.command import run

    return run(arguments)


def _alarms_list(arguments: argparse.Namespace) -> int:
    import msgspec

    from edge.reports import AlarmLine, alarm_lines
    from edge.store.reader import JournalReader

    config = _config(arguments)
    with JournalReader(_journal(config)) as reader:
        standing = sorted(reader.standing_alarms(), key=lambda alarm: (alarm.severity.rank, alarm.raised_at))
    wires = [alarm.wire() for alarm in standing]
    if arguments.json:
        _print_json(b"[" + b",".join(wires) + b"]")
        return 0
    lines = [msgspec.json.decode(wire, type=AlarmLine) for wire in wires]
    print("\n".join(alarm_lines(lines, config.language, config.timezone)))
    return 0


def _alarms_show(arguments: argparse.Namespace) -> int:
    alarm = _alarm(_config(arguments), arguments.id)
    _print_alarm(alarm.wire(), as_json=arguments.json)
    return 0


def _alarms_explain(arguments: argparse.Namespace) -> int:
    import msgspec

    from edge.explaining import explain, view_of

    config = _config(arguments)
    alarm = _alarm(config, arguments.id)
    if arguments.json:
        if (view := view_of(alarm)) is None:
            raise Failure(f"alarm {alarm.id} was stored before alarms kept their reasons")
        _print_json(msgspec.json.encode(view))
    else:
        print("\n".join(explain(alarm, config.language, config.timezone)))
    return 0


def _alarms_order(arguments: argparse.Namespace) -> int:
    import msgspec

    from edge.control_client import request
    from edge.reports import already_acked

    answer = request(
        _socket(_config(arguments)),
        arguments.op,
        alarm_id=arguments.id,
        by=arguments.by,
        comment=arguments.comment,
    )
    _print_alarm(bytes(answer), as_json=False)
    if arguments.op == "ack":
        alarm = msgspec.json.decode(answer, type=dict[str, object])
        told = already_acked(alarm, arguments.by, arguments.comment)
        if told is not None:
            _tell(f"anlin: {told}")
    return 0


def _order(arguments: argparse.Namespace) -> int:
    from edge.ordering import order

    print(order(_config(arguments), arguments))
    return 0


def _rules_check(arguments: argparse.Namespace) -> int:
    from edge.checking import load_rules

    rules = load_rules(_config(arguments), *arguments.files).rules
    examples = sum(len(rule.examples) for rule in rules)
    print(f"no faults: {len(rules)} rules in {len({rule.file for rule in rules})} files, {examples} examples")
    return 0


def _rules_test(arguments: argparse.Namespace) -> int:
    from edge.rule_tests import run

    return run(arguments, _config(arguments))


def _rules_replay(arguments: argparse.Namespace) -> int:
    from edge.replay.command import replay

    return replay(arguments, _config(arguments))


def _rules_apply(arguments: argparse.Namespace) -> int:
    from edge.applying import apply

    return apply(arguments, _config(arguments))


def _status(arguments: argparse.Namespace) -> int:
    import msgspec

    from edge.control_client import request
    from edge.reports import StatusReport, status_lines

    config = _config(arguments)
    answer = request(_socket(config), "status")
    report = msgspec.json.decode(answer, type=StatusReport)
    gaps = _recent_gaps(config)
    if arguments.json:
        told = msgspec.json.decode(answer, type=dict[str, msgspec.Raw])
        _print_json(msgspec.json.encode({**told, "gaps": gaps}))
    else:
        print("\n".join(status_lines(report, config.language, config.timezone, gaps)))
    return 0 if report.well else EXIT_WRONG


def _recent_gaps(config: "Config") -> "list[Gap]":
    """The losses that were put on record within a day, the newest first; none where the journal cannot be read."""
    import time

    from edge.store.errors import StoreError
    from edge.store.reader import MOST_ROWS, JournalReader

    since = time.time_ns() // 1_000_000 - DAY_MS
    try:
        with JournalReader(_journal(config)) as reader:
            return [gap for _, gap in reader.newest_gaps(MOST_ROWS) if gap.at >= since]
    except StoreError:
        return []  # the node's own answer says what is wrong with the store


# --- shared -------------------------------------------------------------------------------------------------


def _config(arguments: argparse.Namespace) -> "Config":
    from edge.config import load

    return load(arguments.config, os.environ)


def _journal(config: "Config") -> Path:
    from edge.store.schema import FILE

    return config.data_dir / FILE


def _socket(config: "Config") -> Path:
    from edge.control_client import SOCKET_NAME

    return config.data_dir / SOCKET_NAME


def _alarm(config: "Config", alarm_id: str) -> "Alarm":
    from edge.store.reader import JournalReader

    with JournalReader(_journal(config)) as reader:
        alarm = reader.alarm(alarm_id)
    if alarm is None:
        raise Failure(f"no alarm {alarm_id} in the journal: see `anlin alarms list`")
    return alarm


def _print_alarm(wire: bytes, *, as_json: bool) -> None:
    import msgspec

    from edge.reports import detail_lines

    if as_json:
        _print_json(wire)
    else:
        print("\n".join(detail_lines(msgspec.json.decode(wire, type=dict[str, object]))))


def _print_json(text: bytes) -> None:
    import msgspec

    print(msgspec.json.format(text, indent=2).decode())


def _tell_faults(faults: Sequence[Fault]) -> None:
    for fault in faults:
        _tell(str(fault))


def _tell(line: str) -> None:
    print(line.replace("\n", " "), file=sys.stderr)
