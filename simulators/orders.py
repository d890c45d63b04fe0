"""A device's side of the command topic: obey once, answer every time, refuse what came too late.

A command that is sent again keeps its id; it is answered again with the first outcome and not obeyed again.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Annotated

import msgspec

from devices.readings import Scalar
from simulators.device import Outcome, Status

REMEMBERED = 64
"""Command ids that a device remembers."""


class Command(msgspec.Struct, frozen=True):
    """An order as a device reads it."""

    id: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    command: str
    args: dict[str, bool | int | float | str] | None = None
    expires_at: int | float | str | None = None


_DECODER = msgspec.json.Decoder(Command)
_ENCODER = msgspec.json.Encoder()


class Orders:
    """The commands that one device has been given."""

    __slots__ = ("_answered",)

    def __init__(self) -> None:
        self._answered: OrderedDict[str, Outcome] = OrderedDict()

    def is_new(self, command: Command) -> bool:
        """It has not been answered yet."""
        return command.id not in self._answered

    def answer(
        self, payload: bytes, now_ms: float, obey: Callable[[str, Mapping[str, Scalar]], Outcome]
    ) -> bytes | None:
        """Have a command obeyed and give the payload of its result; None if it names no id to answer to."""
        command = read_command(payload)
        if command is None:
            return None
        outcome = self._answered.get(command.id)
        if outcome is None:
            outcome = self._answered[command.id] = self._carry_out(command, now_ms, obey)
            while len(self._answered) > REMEMBERED:
                self._answered.popitem(last=False)
        return _ENCODER.encode(
            {"command_id": command.id, "status": outcome.status.value, "detail": outcome.detail}
        )

    def _carry_out(
        self, command: Command, now_ms: float, obey: Callable[[str, Mapping[str, Scalar]], Outcome]
    ) -> Outcome:
        expires_ms = _milliseconds(command.expires_at)
        if expires_ms is None:
            return Outcome(Status.REJECTED, "expires_at is no time")
        if now_ms >= expires_ms:
            return Outcome(Status.REJECTED, f"expired {(now_ms - expires_ms) / 1_000:.1f} s ago")
        return obey(command.command, command.args or {})


def read_command(payload: bytes) -> Command | None:
    """What a command topic carried; None for what names no command and no id to answer to."""
    try:
        return _DECODER.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _milliseconds(moment: float | str | None) -> float | None:
    """Unix ms of a number or of RFC 3339 with a zone; never, if nothing is said; None for nonsense."""
    if moment is None:
        return math.inf
    if isinstance(moment, int | float):
        return moment
    try:
        told = datetime.fromisoformat(moment)
    except ValueError:
        return None
    return told.timestamp() * 1_000 if told.tzinfo is not None else None
