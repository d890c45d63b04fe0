"""YAML text to a tree of what is written there: the one reader of every file that a person writes.

Scalars stay as written: a room ``0102`` is not the number 66, ``no`` is not false. Whoever reads the tree
knows what he expects where and turns text into numbers himself. Only null (``~``, ``null``, nothing) is None.
What makes a file mean something else than it seems to is refused: duplicate keys, aliases, tags, a second
document. Text in, tree out; nothing is opened and nothing is constructed.
"""

from collections.abc import Iterator
from typing import NoReturn, TypeAlias

import yaml

from devices.faults import ConfigurationError, Fault

Tree: TypeAlias = "str | list[Tree] | dict[str, Tree] | None"
"""A document, or a part of one."""

SIZE_LIMIT = 16 * 1024 * 1024
"""Characters; a registry of 50,000 devices has half of it."""

DEPTH_LIMIT = 32

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})


class Fields(dict[str, Tree]):
    """A mapping that remembers in which line each key stands."""

    __slots__ = ("lines",)

    def __init__(self) -> None:
        super().__init__()
        self.lines: dict[str, int] = {}


class Items(list[Tree]):
    """A list that remembers in which line each item begins."""

    __slots__ = ("lines",)

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[int] = []


def line_of(tree: Tree, key: str | int | None = None) -> int | None:
    """The line of a key of a mapping or of an item of a list; without ``key``, of the first thing in it."""
    match tree, key:
        case Fields(), str():
            return tree.lines.get(key)
        case Items(), int() if 0 <= key < len(tree.lines):
            return tree.lines[key]
        case Fields(), None if tree.lines:
            return min(tree.lines.values())
        case Items(), None if tree.lines:
            return tree.lines[0]
    return None


def parse_yaml(text: str, file: str) -> Tree:
    """Read one document. ``file`` is only named in faults.

    Raises `ConfigurationError`: with one fault where the text is no YAML, else with all of them.
    """
    if len(text) > SIZE_LIMIT:
        reason = f"has {len(text)} characters, at most {SIZE_LIMIT} are read"
        raise ConfigurationError([Fault(file, "", reason)])
    try:
        return _Reading(text, file).document()
    except yaml.reader.ReaderError as error:
        found = text.find(chr(error.character))
        fault = Fault(file, "", f"is no YAML: {error.reason}", line=text.count("\n", 0, max(found, 0)) + 1)
        raise ConfigurationError([fault]) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = ", ".join(filter(None, (error.context, error.problem)))
        fault = Fault(file, "", f"is no YAML: {reason}", line=mark.line + 1 if mark is not None else None)
        raise ConfigurationError([fault]) from error
    except UnicodeError as error:
        raise ConfigurationError([Fault(file, "", "is no valid Unicode text; save it as UTF-8")]) from error


class _Reading:
    """The parser's events folded into a tree; recursion is bounded by `DEPTH_LIMIT`."""

    def __init__(self, text: str, file: str) -> None:
        self._events: Iterator[yaml.Event] = yaml.parse(text, Loader=_LOADER)
        self._file = file
        self._faults: list[Fault] = []

    def document(self) -> Tree:
        tree: Tree = None
        begun = False
        for event in self._events:
            match event:
                case yaml.DocumentStartEvent() if begun:
                    self._refuse(event, "a second document begins; one file holds one document")
                case yaml.DocumentStartEvent():
                    begun = True
                case yaml.NodeEvent():
                    tree = self._node(event, "", 0)
        if self._faults:
            raise ConfigurationError(self._faults)
        return tree

    def _node(self, event: yaml.Event, path: str, depth: int) -> Tree:
        if depth > DEPTH_LIMIT:
            self._refuse(event, f"is nested more than {DEPTH_LIMIT} deep", path)
        match event:
            case yaml.ScalarEvent(anchor=None, tag=None):
                return None if event.implicit[0] and event.value in _NULLS else event.value
            case yaml.AliasEvent():
                self._fault(event, path, "aliases are not read; write it out", f"*{event.anchor}")
            case yaml.ScalarEvent():
                self._bare(event, path)
            case yaml.MappingStartEvent():
                self._bare(event, path)
                return self._mapping(path, depth)
            case yaml.SequenceStartEvent():
                self._bare(event, path)
                return self._sequence(path, depth)
        return None

    def _bare(self, event: yaml.ScalarEvent | yaml.CollectionStartEvent, path: str) -> None:
        if event.anchor is not None:
            self._fault(event, path, "anchors are not read; leave it out", f"&{event.anchor}")
        if event.tag is not None:
            self._fault(event, path, "tags are not read; leave it out", event.tag)

    def _mapping(self, path: str, depth: int) -> Fields:
        mapping = Fields()
        lines = mapping.lines
        for event in self._events:
            if isinstance(event, yaml.MappingEndEvent):
                break
            key = self._node(event, path, depth + 1)
            line = _line(event)
            below = f"{path}.{key}" if path else str(key)
            value = self._node(next(self._events), below, depth + 1)
            if not isinstance(key, str):
                self._faults.append(Fault(self._file, path, "a key must be a text", line=line))
            elif key in lines:
                reason = f"stands twice, first in line {lines[key]}"
                self._faults.append(Fault(self._file, below, reason, line=line))
            else:
                mapping[key] = value
                lines[key] = line
        return mapping

    def _sequence(self, path: str, depth: int) -> Items:
        sequence = Items()
        for event in self._events:
            if isinstance(event, yaml.SequenceEndEvent):
                break
            sequence.lines.append(_line(event))
            sequence.append(self._node(event, f"{path}[{len(sequence)}]", depth + 1))
        return sequence

    def _fault(self, event: yaml.Event, path: str, reason: str, value: str | None = None) -> None:
        self._faults.append(Fault(self._file, path, reason, value, line=_line(event)))

    def _refuse(self, event: yaml.Event, reason: str, path: str = "") -> NoReturn:
        self._fault(event, path, reason)
        raise ConfigurationError(self._faults)


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark is not None else 1
