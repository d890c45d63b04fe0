"""A kind's schema as the decoder needs it: from bytes to checked values in one pass.

What people read are the structs of `devices.kinds`. What the engine works on are dicts, so each struct is
made into a typed dict here, with ``id`` and ``ts`` beside its points. A number stays whole where it was.
"""

from collections.abc import Mapping, Sequence
from enum import EnumType
from functools import cache, reduce
from operator import or_
from typing import Annotated, Any, Literal, NotRequired, TypedDict, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Struct, UnsetType

BESIDE = frozenset({"id", "ts"})
"""Fields of every message that are no points."""


class Schema:
    """What the messages of one channel of one kind must fit."""

    def __init__(self, struct: type[Struct]) -> None:
        hints = get_type_hints(struct, include_extras=True)
        points = {field.name: field.required for field in msgspec.structs.fields(struct)}
        typed: dict[str, Any] = {
            name: _exact(hints[name]) if required else NotRequired[_exact(hints[name])]
            for name, required in points.items()
        }
        typed |= dict.fromkeys(BESIDE, NotRequired[Any])
        self.names = points.keys() | BESIDE
        self.read = msgspec.json.Decoder(TypedDict(struct.__name__, typed)).decode  # type: ignore[operator]
        """The fields of a payload, checked; unknown ones are passed over. Raises `msgspec.MsgspecError` for
        a null too, and what else a decoder raises for bytes that are no JSON."""
        self._struct = struct

    def check(self, fields: Mapping[str, object]) -> None:
        """Check fields that were read without a schema. Raises `msgspec.ValidationError`."""
        msgspec.convert({name: fields[name] for name in fields.keys() - BESIDE}, self._struct)


@cache
def schema_of(struct: type[Struct]) -> Schema:
    """The one schema of a struct."""
    return Schema(struct)


def _exact(hint: Any) -> Any:  # noqa: ANN401 - a type is a value here
    """What a point may be where it is there: words as plain text, one object each; whole numbers as they are."""
    if get_origin(hint) is not Annotated and UnsetType in get_args(hint):
        return reduce(or_, (_exact(part) for part in get_args(hint) if part is not UnsetType))
    if isinstance(hint, EnumType):
        words: list[Any] = list(hint)
        return Literal[tuple(word.value for word in words)]
    if get_origin(hint) is Annotated and get_args(hint)[0] is float:
        bounds = get_args(hint)[1:]
        return Annotated[(int, *bounds, *_machine_sized(bounds))] | Annotated[(float, *bounds)]
    return hint


def _machine_sized(bounds: Sequence[msgspec.Meta]) -> Sequence[msgspec.Meta]:
    """Longer whole numbers take the slow way: whether a float can hold them is seen there."""
    below = any(each.ge is not None or each.gt is not None for each in bounds)
    above = any(each.le is not None or each.lt is not None for each in bounds)
    return [
        *([] if below else [msgspec.Meta(ge=-(2**63))]),
        *([] if above else [msgspec.Meta(le=2**63 - 1)]),
    ]
