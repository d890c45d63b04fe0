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

from collections.abc import Mapping
from enum import Enum
from functools import lru_cache
from math import isfinite
from typing import Literal, get_args, get_origin, get_type_hints
from zlib import crc32

import msgspec

from devices.kinds import Kind
from devices.readings import Scalar

_CONTROLS = dict.fromkeys((*range(0x20), 0x7F), " ")
_IN_TAG = str.maketrans({",": r"\,", " ": r"\ ", "=": r"\=", "\\": "/"})
_IN_TEXT = str.maketrans({'"': r"\"", "\\": r"\\"})

_ENCODE = msgspec.json.Encoder().encode
"""JSON's numbers and booleans are the line protocol's, and this writes them several times as fast as Python.

Texts pass through it raw, with JSON's own marks replaced by control characters, which no text of ours holds.
"""
_HIDE = bytes.maketrans(b'{}":', b"\x01\x02\x03\x04")
_SHOW = bytes.maketrans(b"\x01\x02\x03\x04:", b'{}":=')
_MARKS = b'{"}'


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


class Fields:
    """The fields of one schema (a kind's telemetry or its event)."""

    def __init__(self, numbers: frozenset[str], texts: Mapping[str, Mapping[str, msgspec.Raw]]) -> None:
        self._numbers = numbers
        self._texts = tuple(texts.items())
        """By name, each value of a closed set as it goes through the encoder; another value is free."""
        self._known = numbers.union(texts)

    def write(self, values: Mapping[str, Scalar]) -> bytes:
        """The fields of one reading, ``name=value,…``; empty if none of them may leave.

        Numbers are finite: decoding has seen to that.
        """
        if self._numbers.issuperset(values):
            return _written(values)
        mixed: dict[str, Scalar | msgspec.Raw] = dict(values)
        if not self._known.issuperset(mixed):
            mixed = {name: value for name, value in mixed.items() if name in self._known}
        for name, known in self._texts:
            value = values.get(name)
            if isinstance(value, str):
                mixed[name] = known.get(value) or _free(name, value)
        return _written(mixed)


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


def figures(values: Mapping[str, Scalar]) -> bytes:
    """The finite numbers and the booleans among ``values`` as fields."""
    return _written(
        {name: value for name, value in values.items() if not isinstance(value, str) and isfinite(value)}
    )


def free_text(name: str, value: str) -> bytes:
    """A text that may be anything, and its code, as fields."""
    return _written({name: _free(name, value)})


def _written(values: Mapping[str, Scalar | msgspec.Raw]) -> bytes:
    json = _ENCODE(values)
    if json.count(b'"') != 2 * len(values):  # a text where a number belongs: written by another version of us
        json = _ENCODE({name: value for name, value in values.items() if not isinstance(value, str)})
    return json.translate(_SHOW, _MARKS)


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
