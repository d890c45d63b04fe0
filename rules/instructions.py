"""What a person orders a device to do, and when that would be unsafe.

A person may give every command of a kind, also those that no rule may. Withheld is what could trap or burn somebody:
a command whose guard is not known to be false, and the undoing of what a standing alarm has ordered.
"""

from collections.abc import Mapping

from devices.faults import nearest
from devices.kinds import KINDS
from devices.kinds.commands import Command
from devices.readings import Scalar
from rules.decisions import Instruction, Order, Withheld
from rules.definitions import Rule
from rules.ids import ulid
from rules.state import Device, State

TEXT_MOST = 256
SECONDS_MOST = 86_400

EXPIRES_MS = 60_000
"""So long may a person's order still be given."""


class InstructionError(ValueError):
    """No such command, or not with these arguments: the text says what there is."""


def command_of(kind: str, name: str, told: Mapping[str, str]) -> dict[str, Scalar]:
    """The arguments of a command, each told as text, as the device gets them. Raises `InstructionError`."""
    commands = KINDS[kind].commands
    command = commands.get(name)
    if command is None:
        near = nearest(name, commands)
        meant = "" if near is None else f"; did you mean {near}?"
        obeys = ", ".join(sorted(commands)) or "no command"
        raise InstructionError(f"{kind} obeys {obeys}, not {name}{meant}")
    missing = [key for key in command.required if key not in told]
    if missing:
        raise InstructionError(f"{name} needs {', '.join(missing)}: say --arg {missing[0]}=…")
    unknown = sorted(told.keys() - command.args.keys())
    if unknown:
        raise InstructionError(f"{name} takes {', '.join(command.args) or 'no argument'}, not {unknown[0]}")
    args: dict[str, Scalar] = {}
    for key, value in told.items():
        most = int(command.limits.get(key, SECONDS_MOST))
        if command.args[key] is not int:
            if not value.strip() or len(value) > TEXT_MOST or not value.isprintable():
                raise InstructionError(f"{key} must be one line of 1 to {TEXT_MOST} characters")
            args[key] = value
        elif value.isascii() and value.isdigit() and 1 <= int(value[:9]) <= most:
            args[key] = int(value[:9])
        else:
            raise InstructionError(f"{key} must be a whole number from 1 to {most}")
    return args


def instruct(
    state: State, device: Device, given: Instruction, rules: Mapping[str, Rule], at: int
) -> Order | Withheld:
    """The order of a person, or why it is withheld; ``rules`` by id. The kind must have the command."""
    command = KINDS[device.kind].commands[given.command]
    reason = _guarded(device, command) or _undoing(state, device, command, rules)
    if reason is not None:
        return Withheld("", device.address, given.command, reason, at)
    order_id = ulid(at, device.address, given.command, given.by)
    return Order(order_id, "", device.address, given.command, dict(given.args), at, at + EXPIRES_MS, given.by)


def _guarded(device: Device, command: Command) -> str | None:
    guard = command.only_if_false
    if guard is None or device.points.get(guard) is False:
        return None
    return f"{guard} is {'unknown' if guard not in device.points else 'true'}"


def _undoing(state: State, device: Device, command: Command, rules: Mapping[str, Rule]) -> str | None:
    for alarm in state.alarms.values() if command.undoes is not None else ():
        rule = rules.get(alarm.rule)
        if not alarm.active or alarm.address != device.address or rule is None:
            continue
        if any(action.command == command.undoes for action in rule.actions):
            return f"{alarm.rule} stands, for which {command.undoes} was ordered"
    return None
