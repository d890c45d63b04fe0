"""A call in a condition, as the maker of its term sees it: every argument is asked for by kind, and checked.

What is not asked for is refused by `Call.done`, so a maker reads its arguments and nothing else. From the arguments
comes the term's canonical spelling: ``mean( temperature,'300s')`` and ``mean(temperature, '5m')`` are one term.
"""

import ast
from collections.abc import Callable, Collection
from typing import Protocol

from devices.faults import nearest
from rules.definitions import Condition
from rules.language.entries import LONGEST_MS, read_duration, write_duration
from rules.terms import Growing, Term
from rules.vocabulary import Point, Sort, Vocabulary


class Source(Protocol):
    """The condition that the call stands in."""

    vocabulary: Vocabulary

    def condition(self, node: ast.expr) -> Condition:
        """A part of it as a condition; raises `rules.language.syntax.ExpressionError`."""

    def condition_about(self, node: ast.expr, vocabulary: Vocabulary) -> Condition:
        """The same about a device of another kind; it calls no functions."""

    def error(
        self, node: ast.expr, reason: str, *, value: str | None = None, near: str | None = None
    ) -> Exception:
        """What to raise about a part of it."""


class Call:
    """One call; every method raises `rules.language.syntax.ExpressionError` with column and reason."""

    def __init__(self, node: ast.Call, name: str, source: Source) -> None:
        self.name = name
        self.vocabulary = source.vocabulary
        self.terms: list[Term] = []
        """Those that its arguments rest on, filled by `condition`."""
        self._node = node
        self._source = source
        self._keywords = {keyword.arg: keyword.value for keyword in node.keywords}
        self._spelled: dict[int | str, str] = {}

    def has(self, index: int) -> bool:
        """Whether there is such an argument; the first is 0."""
        return index < len(self._node.args)

    def point(self, index: int, *sorts: Sort) -> Point:
        """The name of a point or event field, of one of these sorts; of any where none is given."""
        node = self._argument(index, "a point")
        point = self.vocabulary.points.get(node.id) if isinstance(node, ast.Name) else None
        if point is None:
            value = node.id[:64] if isinstance(node, ast.Name) else None
            near = nearest(value, self.vocabulary.points) if value else None
            raise self.error(index, f"{self.name} needs the name of a point here", value=value, near=near)
        if sorts and point.sort not in sorts:
            raise self.error(index, f"{self.name} needs {' or '.join(sorts)}, {point.name} is {point.sort}")
        self._spelled[index] = point.name
        return point

    def number_point(self, index: int) -> Point:
        """The name of a point that is a number."""
        return self.point(index, Sort.NUMBER)

    def condition(self, index: int) -> Condition:
        """A condition that does not grow by itself."""
        node = self._argument(index, "a condition")
        condition = self._source.condition(node)
        if any(isinstance(term, Growing) for term in condition.terms):
            raise self.error(index, f"what grows with time cannot stand in {self.name}")
        self.terms += condition.terms
        self._spelled[index] = ast.unparse(condition.tree)
        return condition

    def condition_about(self, index: int, vocabulary: Vocabulary) -> Condition:
        """A condition about another device, which calls no functions."""
        condition = self._source.condition_about(self._argument(index, "a condition"), vocabulary)
        self._spelled[index] = ast.unparse(condition.tree)
        return condition

    def names(self, index: int) -> frozenset[str]:
        """Every point that an argument names, known or not."""
        found = {
            node.id for node in ast.walk(self._argument(index, "a condition")) if isinstance(node, ast.Name)
        }
        return frozenset(found - {"true", "false"})

    def says(self, keyword: str) -> bool:
        """Whether anything is given under this name."""
        return keyword in self._keywords

    def duration(self, index: int, *, least_ms: int = 1_000, most_ms: int = LONGEST_MS) -> int:
        """A duration such as '5m', as milliseconds."""
        ms = self._duration(self._argument(index, "a duration such as '5m'"), least_ms, most_ms)
        self._spelled[index] = write_duration(ms)
        return ms

    def number(self, index: int, *, least: float, most: float) -> float:
        """A constant number."""
        node = self._argument(index, "a number")
        value = node.value if isinstance(node, ast.Constant) else None
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise self.error(index, f"{self.name} needs a number from {least:g} to {most:g} here")
        self._spelled[index] = f"{value:g}"
        return value

    def keyword(self, name: str, choices: Collection[str]) -> str | None:
        """One of a closed set of words under a name, ``same='group'``; None where nothing is said."""
        node = self._keywords.pop(name, None)
        if node is None:
            return None
        value = node.value if isinstance(node, ast.Constant) else None
        if not isinstance(value, str) or value not in choices:
            near = nearest(value, choices) if isinstance(value, str) else None
            raise self._source.error(node, f"{name} is one of {', '.join(sorted(choices))}", near=near)
        self._spelled[name] = f"{name}={value}"
        return value

    def keyword_duration(self, name: str, *, least_ms: int = 1_000, most_ms: int = LONGEST_MS) -> int | None:
        """A duration under a name, ``within='3m'``, as milliseconds; None where nothing is said."""
        node = self._keywords.pop(name, None)
        if node is None:
            return None
        ms = self._duration(node, least_ms, most_ms)
        self._spelled[name] = f"{name}={write_duration(ms)}"
        return ms

    def done(self) -> str:
        """Refuse what nobody asked for; gives the canonical spelling."""
        for index in range(len(self._node.args)):
            if index not in self._spelled:
                raise self.error(index, f"one argument too many for {self.name}")
        for name, node in self._keywords.items():
            raise self._source.error(node, f"{self.name} takes no {name or '**'}")
        places = [self._spelled[index] for index in range(len(self._node.args))]
        words = sorted(text for key, text in self._spelled.items() if isinstance(key, str))
        return f"{self.name}({', '.join((*places, *words))})"

    def error(
        self, index: int | None, reason: str, *, value: str | None = None, near: str | None = None
    ) -> Exception:
        """What to raise about one argument, or about the call."""
        node = self._node if index is None or not self.has(index) else self._node.args[index]
        return self._source.error(node, reason, value=value, near=near)

    def _argument(self, index: int, what: str) -> ast.expr:
        if not self.has(index):
            raise self.error(None, f"{self.name} needs {what} as argument {index + 1}")
        return self._node.args[index]

    def _duration(self, node: ast.expr, least_ms: int, most_ms: int) -> int:
        value = node.value if isinstance(node, ast.Constant) else None
        ms = read_duration(value) if isinstance(value, str) else None
        if ms is None:
            raise self._source.error(node, "must be a duration in quotes, such as '5m'")
        if not least_ms <= ms <= most_ms:
            reason = f"must be from {write_duration(least_ms)} to {write_duration(most_ms)}"
            raise self._source.error(node, reason, value=write_duration(ms))
        return ms


Maker = Callable[[Call], Term]
"""Makes the term of a call: reads its arguments, and takes the name that `Call.done` gives."""
