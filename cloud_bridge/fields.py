"""Which points of a kind leave the building, and how they are written.

Numbers go as floats, booleans as booleans, texts as text and beside it as a number ``{name}_code``, because
some stores keep no text. The code of a text from a closed set is its place in `devices.kinds`, from 0;
these sets may grow at their end and never change otherwise. The code of a free text (a charging session, a
track) is the CRC-32 of its UTF-8 form: equal texts have equal codes, so a store without texts can still
count and group them.

Points that tell of a person's daily life (`Kind.private`) stay unless that is allowed. Fields that the kind
does not know never leave: a device could say anything in them.

Escapes follow InfluxDB's line protocol, which has none for a newline and none for a backslash in a tag:
control characters become spaces, and in a tag a backslash becomes a slash.
"""

from collections.abc import Mapping, Sequence
from enum import Enum
from functools import lru_cache
from math import isfinite
from typing import Final, Literal, NamedTuple, get_args, get_origin, get_type_hints
from zlib import crc32

import msgspec

from devices.kinds.traits import Kind
from devices.readings import Scalar

_CONTROLS = dict.fromkeys((*range(0x20), 0x7F), " ")
_IN_TAG = str.maketrans({",": r"\,", " ": r"\ ", "=": r"\=", "\\": "/"})
_IN_TEXT = str.maketrans({'"': r"\"", "\\": r"\\"})

SHAPES: Final = 1_000
"""Sets of names that one schema remembers; devices of a kind share a few."""

_ENCODE = msgspec.json.Encoder().encode_lines
"""JSON's numbers and booleans are the line protocol's, and this writes them several times as fast as Python.

Texts pass through it raw, with JSON's own marks replaced by control characters, which no text of ours holds.
"""
_HIDE = bytes.maketrans(b'{}":', b"\x01\x02\x03\x04")
_BEGIN, _SPACE = b"\x05", b"\x06"
_SHOW = bytes.maketrans(b"\x01\x02\x03\x04:}" + _BEGIN + _SPACE, b'{}":= \n ')
_MARKS = b'{"\n'
_A_TEXT = b':"'
"""Begins a text that has not been written for the line protocol."""

Chosen = Mapping[str, Scalar | msgspec.Raw]
"""What of one reading may leave, ready for `lines`."""

Part = msgspec.Raw | Chosen | int


def head(measurement: str, pairs: Mapping[str, str]) -> msgspec.Raw:
    """Measurement and tags, ready for `lines`."""
    return msgspec.Raw(_BEGIN + (measurement.encode() + tags(pairs)).translate(_HIDE) + _SPACE)


def tags(pairs: Mapping[str, str]) -> bytes:
    """``,name=value`` for every pair whose value is not empty; names are ours and need no escape."""
    cleaned = {name: value.translate(_CONTROLS).strip() for name, value in pairs.items()}
    return "".join(f",{name}={value.translate(_IN_TAG)}" for name, value in cleaned.items() if value).encode(
        "utf-8", "replace"
    )


def text(value: str) -> bytes:
    """A text field's value, in quotes."""
    return f'"{value.translate(_CONTROLS).translate(_IN_TEXT)}"'.encode("utf-8", "replace")


def text_code(value: str) -> int:
    """The number of a free text."""
    return crc32(value.encode("utf-8", "replace"))


class _Shape(NamedTuple):
    """What is the same for all readings with the same names in the same order."""

    barred: tuple[str, ...]
    texts: tuple[tuple[str, Mapping[str, msgspec.Raw]], ...]
    """By name, each value of a closed set as it goes through the encoder; another value is free."""


class Fields:
    """The fields of one schema (a kind's telemetry or its event)."""

    def __init__(self, numbers: frozenset[str], texts: Mapping[str, Mapping[str, msgspec.Raw]]) -> None:
        self._texts = texts
        self._known = numbers.union(texts)
        self._shapes: dict[tuple[str, ...], _Shape | None] = {}
        """None: all of it leaves as it is."""

    def choose(self, values: dict[str, Scalar]) -> Chosen:
        """What of one reading may leave. Numbers are finite: decoding has seen to that."""
        names = tuple(values)
        try:
            shape = self._shapes[names]
        except KeyError:
            shape = self._learn(names)
        if shape is None:
            return values
        barred, texts = shape
        mixed: dict[str, Scalar | msgspec.Raw] = values.copy()  # type: ignore[assignment]  # it takes more
        for name in barred:
            del mixed[name]
        for name, known in texts:
            value = values[name]
            if isinstance(value, str):
                mixed[name] = known.get(value) or _free(name, value)
        return mixed

    def _learn(self, names: tuple[str, ...]) -> _Shape | None:
        barred = tuple(name for name in names if name not in self._known)
        texts = tuple((name, self._texts[name]) for name in names if name in self._texts)
        if len(self._shapes) >= SHAPES:
            self._shapes.clear()
        shape = self._shapes[names] = _Shape(barred, texts) if barred or texts else None
        return shape


def fields_of(schema: type[msgspec.Struct], kind: Kind, *, forward_activity: bool) -> Fields:
    """What may leave of ``schema``'s points."""
    numbers: set[str] = set()
    texts: dict[str, Mapping[str, msgspec.Raw]] = {}
    for name, hint in get_type_hints(schema).items():
        if name in kind.private and not forward_activity:
            continue
        values = _closed_set(hint)
        if values is None:
            numbers.add(name)
        else:
            texts[name] = {value: _hidden(name, value, code) for code, value in enumerate(values)}
    return Fields(frozenset(numbers), texts)


def figures(values: Mapping[str, Scalar]) -> Chosen:
    """The finite numbers and the booleans among ``values``."""
    return {name: value for name, value in values.items() if not isinstance(value, str) and isfinite(value)}


def free_text(name: str, value: str) -> Chosen:
    """A text that may be anything, and its code."""
    return {name: _free(name, value)}


def lines(parts: Sequence[Part]) -> list[bytes]:
    """A line for each head, fields (never none) and time (Unix ms), given in turn."""
    json = _ENCODE(parts)
    if _A_TEXT in json:  # where a number belongs: an older version of us has let it into the journal
        told = [
            each for start in range(0, len(parts), 3) for each in _without_texts(*parts[start : start + 3])
        ]
        json = _ENCODE(told)
    return json.translate(_SHOW, _MARKS).splitlines()[1:]


def _without_texts(start: Part, fields: Part, at: Part) -> Sequence[Part]:
    assert isinstance(fields, Mapping)  # noqa: S101 - what `lines` is given
    numbers = {name: value for name, value in fields.items() if not isinstance(value, str)}
    return (start, numbers, at) if numbers else ()


def _hidden(name: str, value: str, code: int) -> msgspec.Raw:
    return msgspec.Raw(b"%b,%b_code:%d" % (text(value).translate(_HIDE), name.encode(), code))


@lru_cache(maxsize=4096)  # a charging session comes back with every reading
def _free(name: str, value: str) -> msgspec.Raw:
    return _hidden(name, value, text_code(value))


def _closed_set(hint: object) -> list[str] | None:
    """The texts that a point may hold, in their declared order: none for free text; None: no text."""
    if isinstance(hint, type):
        if issubclass(hint, Enum):
            return [str(member.value) for member in hint]
        return [] if issubclass(hint, str) else None
    if get_origin(hint) is Literal:
        return [str(value) for value in get_args(hint)]
    (only,) = (part for part in get_args(hint) if part is not msgspec.UnsetType)
    return _closed_set(only)
