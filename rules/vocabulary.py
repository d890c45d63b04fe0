"""What a rule for one kind of device may speak of: its points and event fields, and what each can hold.

Read from the kind's own schema, so that a new point is known to conditions, texts and examples at once.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType, NoneType
from typing import get_args, get_type_hints

from msgspec import Struct, UnsetType, inspect

from devices.kinds.traits import INCIDENT_WORDS, Kind


class Sort(StrEnum):
    """What a value is."""

    NUMBER = "a number"
    BOOLEAN = "true or false"
    CHOICE = "one of its words"
    TEXT = "text"
    DURATION = "a duration"


@dataclass(frozen=True, slots=True)
class Point:
    """One name that has a value."""

    name: str
    sort: Sort
    choices: frozenset[str] = frozenset()
    """The words that a `Sort.CHOICE` can be."""
    least: float | None = None
    most: float | None = None
    """The range of a `Sort.NUMBER`; a message outside it is rejected before any rule sees it."""
    event: bool = False
    """Has a value only in its event."""
    private: bool = False
    """Tells of a person's daily life."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """All names of one kind."""

    kind: Kind
    points: Mapping[str, Point]

    @classmethod
    def of(cls, kind: Kind) -> "Vocabulary":
        """Telemetry, derived rates and event fields; an event field hides a point of the same name."""
        points = {point.name: point for point in _points(kind.telemetry, event=False)}
        points |= {name: Point(name, Sort.NUMBER) for name in kind.rates}
        if kind.following is not None:
            point = kind.following.point
            points[point] = Point(point, Sort.CHOICE, frozenset(INCIDENT_WORDS))
        if kind.event is not None:
            points |= {point.name: point for point in _points(kind.event, event=True)}
        points |= {name: replace(points[name], private=True) for name in kind.private & points.keys()}
        return cls(kind, MappingProxyType(points))

    def with_points(self, points: Iterable[Point]) -> "Vocabulary":
        """The same with more names."""
        return Vocabulary(
            self.kind, MappingProxyType({**self.points, **{each.name: each for each in points}})
        )


def _points(schema: type[Struct], *, event: bool) -> Iterator[Point]:
    for name, hint in get_type_hints(schema, include_extras=True).items():
        absent = {UnsetType, NoneType} & set(get_args(hint))
        plain = next(part for part in get_args(hint) if part not in absent) if absent else hint
        yield _point(name, inspect.type_info(plain), event=event)


def _point(name: str, type_: inspect.Type, *, event: bool) -> Point:
    if isinstance(type_, inspect.Metadata):
        type_ = type_.type
    match type_:
        case inspect.BoolType():
            return Point(name, Sort.BOOLEAN, event=event)
        case inspect.IntType() | inspect.FloatType():
            return Point(name, Sort.NUMBER, least=type_.ge, most=type_.le, event=event)
        case inspect.EnumType(cls=words):
            return Point(name, Sort.CHOICE, frozenset(str(word.value) for word in words), event=event)
        case inspect.LiteralType(values=values):
            return Point(name, Sort.CHOICE, frozenset(map(str, values)), event=event)
        case inspect.StrType():
            return Point(name, Sort.TEXT, event=event)
    raise TypeError(f"{name}: rules cannot speak of a {type(type_).__name__}")
