"""One function for all conditions of a kind that says, in one call, that none of them can be true.

Nearly every message leaves every condition false, so this is asked first; where the answer is no, nothing
else is. It may say yes too often, never too seldom: the closures of `rules.language.expressions` alone decide.

Its code is written from syntax trees that `rules.language.expressions` has checked: names of points, operators and
constants, each spelled anew here; no text of a rule file gets into it.
"""

import ast
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import nan
from types import MappingProxyType
from typing import Any

from rules.definitions import Condition, Points
from rules.language.syntax import CONTRARY

Guard = Callable[[Points], bool]

_SIGNS: Mapping[type[ast.AST], str] = MappingProxyType(
    {
        ast.Lt: "<",
        ast.LtE: "<=",
        ast.Gt: ">",
        ast.GtE: ">=",
        ast.Eq: "==",
        ast.NotEq: "!=",
        ast.Add: "+",
        ast.Sub: "-",
        ast.Mult: "*",
        ast.Div: "/",
    }
)


def guard_of(conditions: Sequence[Condition]) -> Guard:
    """Whether any of these conditions can be true of the points it is given."""
    looked_at = Counter(name for condition in conditions for name in condition.names)
    # Unknown is NaN: neither less nor more than anything nor equal to it, like all arithmetic with it.
    found = {name: f"get({name!r}, nan)" for name in sorted(looked_at)}
    # What one condition looks at is looked up where it stands: mostly something before it is false already.
    shared = {name: f"p{index}" for index, name in enumerate(found) if looked_at[name] > 1}
    spelled = found | shared
    lines = [
        "def guard(points):",
        "    get = points.get",
        *(f"    {variable} = {found[name]}" for name, variable in shared.items()),
        "    try:",
        f"        return {' or '.join(_Writer(spelled).holds(condition.tree) for condition in conditions) or False}",
        "    except ArithmeticError:",
        "        return True",
    ]
    scope: dict[str, Any] = {"nan": nan}
    exec("\n".join(lines), scope)  # noqa: S102 - written above from checked trees
    guard: Guard = scope["guard"]
    return guard


class _Writer:
    """Code for checked trees, in which each name is what ``spelled`` gives for it."""

    def __init__(self, spelled: Mapping[str, str]) -> None:
        self._spelled = spelled

    def holds(self, node: ast.expr) -> str:
        """Code that is true wherever the condition is true."""
        match node:
            case ast.BoolOp(op=op, values=values):
                return _joined("and" if isinstance(op, ast.And) else "or", map(self.holds, values))
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return self._fails(operand)
            case ast.Compare():
                return _joined("and", self._comparisons(node, contrary=False))
        return f"({self._operand(node)} is True)"

    def _fails(self, node: ast.expr) -> str:
        """Code that is true wherever the condition is false."""
        match node:
            case ast.BoolOp(op=op, values=values):
                return _joined("or" if isinstance(op, ast.And) else "and", map(self._fails, values))
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return self.holds(operand)
            case ast.Compare():
                return _joined("or", self._comparisons(node, contrary=True))
        return f"({self._operand(node)} is False)"

    def _comparisons(self, node: ast.Compare, *, contrary: bool) -> Iterator[str]:
        for left, sign, right in zip(
            [node.left, *node.comparators], node.ops, node.comparators, strict=False
        ):
            told = CONTRARY[type(sign)] if contrary else sign
            yield f"({self._operand(left)} {_SIGNS[type(told)]} {self._operand(right)})"

    def _operand(self, node: ast.expr) -> str:
        match node:
            case ast.Name(id="true" | "false" as word):
                return word.capitalize()
            case ast.Name(id=name):
                return self._spelled[name]
            case ast.Constant(value=value):
                return repr(value)
            case ast.UnaryOp(operand=operand):
                return f"-{self._operand(operand)}"
            case ast.BinOp(left=left, op=op, right=right):
                return f"({self._operand(left)} {_SIGNS[type(op)]} {self._operand(right)})"
        return self.holds(node)  # a condition compared with true or false


def _joined(word: str, parts: Iterable[str]) -> str:
    return f"({f' {word} '.join(parts)})"
