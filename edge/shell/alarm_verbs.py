"""`anlin alarms`: what stands, one alarm in full, why it came, and a person's word on it.

What is read comes from the journal, read only, so it answers without a running gateway, too; a person's word goes
to the gateway by its socket.
"""

import argparse
from operator import attrgetter
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
    socket_of,
    tell,
)

if TYPE_CHECKING:
    from edge.settings import Config
    from edge.shell.verbs import Verbs
    from rules.alarms import Alarm


def add_alarms(verbs: "Verbs") -> None:
    """Declare them."""
    example = f'ack {SOME_ID} --by Wang --comment "on my way"'
    does = "what stands; acknowledge or close it"
    alarms = add_verb(verbs, "alarms", _list, does, example)
    add_config(alarms)
    alarms.add_argument("--json", action="store_true", help="JSON, for programs")
    below = alarms.add_subparsers(metavar="COMMAND")
    listed = add_verb(below, "list", _list, "alarms that stand, worst first", "--json")
    shown = add_verb(below, "show", _show, "one alarm, standing or not", SOME_ID)
    does = "why an alarm came: what was seen, which limit, since when, which rule, what ends it"
    explained = add_verb(below, "explain", _explain, does, SOME_ID)
    example = f'{SOME_ID} --by Wang --comment "on my way"'
    acked = add_verb(below, "ack", _order, "say that a person looks after it", example)
    does = "take an alarm off the board that nothing but a person ends"
    closed = add_verb(below, "close", _order, does, f'{SOME_ID} --by Wang --comment "visited, she is well"')
    for parser in (shown, explained, acked, closed):
        parser.add_argument("id", metavar="ID", help="as `anlin alarms list` shows it")
    for parser, op in ((acked, "ack"), (closed, "close")):
        parser.add_argument("--by", required=True, metavar="NAME", help="who says so")
        parser.add_argument("--comment", required=True, metavar="TEXT", help="why, or what happens next")
        parser.set_defaults(op=op)
    for parser in (listed, shown, explained, acked, closed):
        add_config(parser, argparse.SUPPRESS)  # also after the inner command; said before it, it stays
    for parser in (listed, shown, explained):
        parser.add_argument(
            "--json", action="store_true", default=argparse.SUPPRESS, help="JSON, for programs"
        )


def _list(arguments: argparse.Namespace) -> int:
    import msgspec

    from edge.shell.liveness import liveness_of
    from edge.shell.reports import AlarmLine, alarm_lines
    from edge.store.reader import JournalReader

    config = config_of(arguments)
    with JournalReader(journal_of(config)) as reader:
        standing = sorted(reader.standing_alarms(), key=attrgetter("urgency"))
        as_of = reader.last_now()
    if (notice := liveness_of(config, as_of)) is not None:
        tell(f"anlin: {notice}")
    wires = [alarm.wire() for alarm in standing]
    if arguments.json:
        print_json(b"[" + b",".join(wires) + b"]")
        return 0
    lines = [msgspec.json.decode(wire, type=AlarmLine) for wire in wires]
    print_lines(alarm_lines(lines, config.language, config.timezone))
    return 0


def _show(arguments: argparse.Namespace) -> int:
    config = config_of(arguments)
    alarm = _alarm(config, arguments.id)
    _print_alarm(alarm.wire(), config, as_json=arguments.json)
    return 0


def _explain(arguments: argparse.Namespace) -> int:
    import msgspec

    from edge.explaining import view_of
    from edge.shell.explanations import explain

    config = config_of(arguments)
    alarm = _alarm(config, arguments.id)
    if arguments.json:
        if (view := view_of(alarm)) is None:
            raise Failure(f"alarm {alarm.id} was stored before alarms kept their reasons")
        print_json(msgspec.json.encode(view))
    else:
        print_lines(explain(alarm, config.language, config.timezone, arguments.config))
    return 0


def _order(arguments: argparse.Namespace) -> int:
    import msgspec

    from edge.control_client import request
    from edge.shell.reports import already_acked

    config = config_of(arguments)
    answer = request(
        socket_of(config),
        arguments.op,
        alarm_id=arguments.id,
        by=arguments.by,
        comment=arguments.comment,
    )
    _print_alarm(bytes(answer), config, as_json=False)
    if arguments.op == "ack":
        alarm = msgspec.json.decode(answer, type=dict[str, object])
        told = already_acked(alarm, arguments.by, arguments.comment, config.language, config.timezone)
        if told is not None:
            tell(f"anlin: {told}")
    return 0


def _alarm(config: "Config", alarm_id: str) -> "Alarm":
    from edge.store.reader import JournalReader

    with JournalReader(journal_of(config)) as reader:
        alarm = reader.alarm(alarm_id)
    if alarm is None:
        raise Failure(f"no alarm {alarm_id} in the journal: see `anlin alarms list`")
    return alarm


def _print_alarm(wire: bytes, config: "Config", *, as_json: bool) -> None:
    import msgspec

    from edge.shell.reports import detail_lines

    if as_json:
        print_json(wire)
    else:
        told = msgspec.json.decode(wire, type=dict[str, object])
        print_lines(detail_lines(told, config.language, config.timezone))
