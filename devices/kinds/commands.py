"""What devices of a kind can be told, and what a device answers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType


@dataclass(frozen=True, slots=True)
class Command:
    """An order that devices of a kind obey."""

    args: Mapping[str, type] = field(default_factory=dict)
    limits: Mapping[str, float] = field(default_factory=dict)
    """Largest value of a numeric argument."""
    required: tuple[str, ...] = ()
    """Arguments without which a person's order of it means nothing."""
    only_if_false: str | None = None
    """A point that must be known to be false, or the order is not given."""
    automatic: bool = True
    """False: never the action of a rule, only a person's order."""
    undoes: str | None = None
    """A command; refused while an alarm is active for which that one was ordered."""
    taken_back_by: str | None = None
    """A command: after a person gave it, this one is not ordered again for the same incident."""


class CommandResult(Struct, frozen=True, forbid_unknown_fields=True):
    """What a device says on ``command/result``."""

    command_id: Annotated[str, Meta(min_length=1, max_length=64)]
    status: Literal["done", "rejected", "failed"]
    detail: str | UnsetType = UNSET
