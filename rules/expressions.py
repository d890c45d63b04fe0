"""Conditions: from the text in a rule file to a closure over three-valued logic.

A condition is Python's own syntax under an allow-list: comparisons (also chained), ``and``, ``or``,
``not``, ``+ - * /``, numbers, ``'text'``, ``true``/``false`` and the names of points. Nothing else is taken,
everything is type-checked when the file is read, and length and size are bounded; so evaluating a condition
cannot fail, nor be slow.

A point that is absent is unknown, and so is arithmetic with it, a division by zero and a result that is no
finite number. ``false and unknown`` is false, ``true or unknown`` is true (Kleene's strong logic).
"""

import ast
import operator
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

from devices.faults import nearest
from devices.readings import Scalar
from rules.definitions import Condition
from rules.vocabulary import Point, Sort, Vocabulary

LENGTH_LIMIT = 2_000
"""Characters of one condition."""

NODE_LIMIT = 200
"""Names, constants and operators of one condition."""

NUMBER_LIMIT = 1e15
"""No constant is larger: beyond it a float no longer tells whole numbers apart."""

_Values = Mapping[str, Any]
_Evaluate = Callable[[_Values], Any]


class ExpressionError(ValueError):
    """A condition that cannot be used: correct it in the rule file."""

    def __init__(
        self, column: int, reason: str, *, value: str | None = None, nearest: str | None = None
    ) -> None:
        super().__init__(f"column {column}: {reason}")
        self.column = column
        """The first is 1."""
        self.reason = reason
        self.value = value
        self.nearest = nearest


def compile_condition(source: str, vocabulary: Vocabulary) -> Condition:
    """Parse, check and compile a condition on one kind of device. Raises `ExpressionError`, nothing else."""
    compiler = _Compiler(source, vocabulary)
    tree = compiler.parse()
    part = compiler.boolean(tree)
    return Condition(
        source=source,
        tree=tree,
        names=part.names,
        evaluate=part.evaluate,
        uses_event=any(vocabulary.points[name].event for name in part.names),
    )


@dataclass(frozen=True, slots=True)
class _Part:
    """A compiled piece: what it gives, how, and what it is made of."""

    sort: Sort
    evaluate: _Evaluate
    names: frozenset[str] = frozenset()
    constant: Scalar | None = None
    point: Point | None = None
    """Set where the piece is nothing but this point."""


_COMPARISONS: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_MIRRORED: Mapping[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.Gt,
    ast.LtE: ast.GtE,
    ast.Gt: ast.Lt,
    ast.GtE: ast.LtE,
    ast.Eq: ast.Eq,
    ast.NotEq: ast.NotEq,
}
_ARITHMETIC: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_SPELLING = {
    "Call": "a call",
    "Attribute": "a dot",
    "Subscript": "an index",
    "IfExp": "if … else",
    "JoinedStr": "an f-string",
    "Tuple": "a comma",
    "NamedExpr": ":=",
    "Pow": "**",
    "Mod": "%",
    "FloorDiv": "//",
    "UAdd": "a leading +",
    "BitAnd": "& (write: and)",
    "BitOr": "| (write: or)",
    "Invert": "~ (write: not)",
    "In": "in (write: a == 'x' or a == 'y')",
    "NotIn": "not in (write: a != 'x' and a != 'y')",
    "Is": "is (write: ==)",
    "IsNot": "is not (write: !=)",
}


class _Compiler:
    """One pass over one condition."""

    def __init__(self, source: str, vocabulary: Vocabulary) -> None:
        self._source = source.replace("\r", " ").replace("\n", " ")
        self._vocabulary = vocabulary

    def parse(self) -> ast.expr:
        if len(self._source) > LENGTH_LIMIT:
            raise ExpressionError(1, f"{len(self._source)} characters, at most {LENGTH_LIMIT}")
        if not self._source.strip():
            raise ExpressionError(1, "an empty condition")
        try:
            with warnings.catch_warnings():
                # `65or`, '\d': Python still takes them, a person misreads them.
                warnings.simplefilter("error")
                tree = ast.parse(self._source, mode="eval").body
        except SyntaxError as error:
            raise ExpressionError(max(error.offset or 1, 1), f"cannot be read: {error.msg}") from error
        except ValueError as error:
            raise ExpressionError(1, f"cannot be read: {error}") from error
        except (RecursionError, MemoryError) as error:
            raise ExpressionError(1, "nested too deeply") from error
        size = sum(isinstance(node, ast.expr) for node in ast.walk(tree))
        if size > NODE_LIMIT:
            raise ExpressionError(1, f"{size} names, constants and operators, at most {NODE_LIMIT}")
        return tree

    def boolean(self, node: ast.expr) -> _Part:
        """A piece that is true, false or unknown, and not always the same."""
        part = self._compile(node)
        if part.sort is not Sort.BOOLEAN:
            raise self._error(node, f"must be true or false, but is {part.sort}")
        if not part.names:
            raise self._error(node, "looks at no point, so it is always the same")
        return part

    def _compile(self, node: ast.expr) -> _Part:
        match node:
            case ast.BoolOp(op=op, values=values):
                parts = [self.boolean(value) for value in values]
                join = _all_of if isinstance(op, ast.And) else _any_of
                return _Part(Sort.BOOLEAN, join([part.evaluate for part in parts]), _names(*parts))
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                part = self.boolean(operand)
                return _Part(Sort.BOOLEAN, _negated(part.evaluate), part.names)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return self._minus(node, self._number(operand))
            case ast.Compare():
                parts = list(self._comparisons(node))
                return _Part(Sort.BOOLEAN, _all_of([part.evaluate for part in parts]), _names(*parts))
            case ast.BinOp(left=left, op=operation, right=right) if type(operation) in _ARITHMETIC:
                return self._arithmetic(node, type(operation), self._number(left), self._number(right))
        return self._operand(node)

    def _operand(self, node: ast.expr) -> _Part:
        match node:
            case ast.Constant(value=value):
                return self._constant(node, value)
            case ast.Name(id=name):
                return self._name(node, name)
            case ast.BinOp(op=other) | ast.UnaryOp(op=other):
                raise self._foreign(node, other)
        raise self._foreign(node, node)

    def _number(self, node: ast.expr) -> _Part:
        part = self._compile(node)
        if part.sort is not Sort.NUMBER:
            raise self._error(node, f"arithmetic needs a number, this is {part.sort}")
        return part

    def _name(self, node: ast.expr, name: str) -> _Part:
        point = self._vocabulary.points.get(name)
        if point is not None:
            return _Part(point.sort, operator.methodcaller("get", name), frozenset({name}), point=point)
        if name in ("true", "false"):
            return _fixed(Sort.BOOLEAN, name == "true")
        known = self._vocabulary.points
        reason = f"{self._vocabulary.kind.name} has no point of this name"
        raise self._error(node, reason, value=name[:64], near=nearest(name, known))

    def _constant(self, node: ast.expr, value: object) -> _Part:
        match value:
            case bool():
                return _fixed(Sort.BOOLEAN, value)
            case int() | float() if abs(value) <= NUMBER_LIMIT:
                return _fixed(Sort.NUMBER, value)
            case int() | float():
                raise self._error(node, f"a number beyond {NUMBER_LIMIT:.0e}")
            case str():
                return _fixed(Sort.TEXT, value)
        raise self._error(node, "only numbers, 'text', true and false can stand here")

    def _minus(self, node: ast.expr, part: _Part) -> _Part:
        if part.constant is not None:
            return self._constant(node, -part.constant)  # type: ignore[operator]  # _number let only numbers in
        evaluate = part.evaluate

        def negative(values: _Values) -> float | None:
            value: float | None = evaluate(values)
            return None if value is None else -value

        return _Part(Sort.NUMBER, negative, part.names)

    def _arithmetic(self, node: ast.expr, operation: type[ast.operator], left: _Part, right: _Part) -> _Part:
        if operation is ast.Div and right.constant == 0:
            raise self._error(node, "a division by zero")
        evaluate = _computed(_ARITHMETIC[operation], left.evaluate, right.evaluate)
        names = _names(left, right)
        if not names:
            return self._constant(node, evaluate({}))
        return _Part(Sort.NUMBER, evaluate, names)

    def _comparisons(self, node: ast.Compare) -> Iterator[_Part]:
        operands = [node.left, *node.comparators]
        for operand, operation in zip(operands, node.ops, strict=False):
            if type(operation) not in _COMPARISONS:
                raise self._foreign(operand, operation)
        parts = [self._compile(operand) for operand in operands]
        for index, operation in enumerate(node.ops):
            left, right = parts[index], parts[index + 1]
            if not left.names and not right.names:
                raise self._error(operands[index], "compares two constants, so it is always the same")
            self._comparable(operands[index], left, type(operation), right)
            self._comparable(operands[index + 1], right, type(operation), left)
            yield _compared(type(operation), left, right)

    def _comparable(self, node: ast.expr, part: _Part, operation: type[ast.cmpop], other: _Part) -> None:
        """Refuse what can never be true, or never be false; said of ``part``, which stands at ``node``."""
        words = {Sort.CHOICE, Sort.TEXT}
        if part.sort is not other.sort and not {part.sort, other.sort} <= words:
            raise self._error(node, f"{_called(part)} is {part.sort}, {_called(other)} is {other.sort}")
        if part.sort is not Sort.NUMBER and operation not in (ast.Eq, ast.NotEq):
            raise self._error(node, f"{_called(part)} is {part.sort}: only == and != make sense")
        point, value = other.point, part.constant
        if point is not None and isinstance(value, str) and point.choices and value not in point.choices:
            known = ", ".join(sorted(point.choices))
            raise self._error(
                node,
                f"{point.name} is never this; it is one of {known}",
                value=value[:64],
                near=nearest(value, point.choices),
            )
        mine, theirs = _choices(part), _choices(other)
        if mine and theirs and mine.isdisjoint(theirs):
            raise self._error(node, f"{_called(part)} and {_called(other)} have no word in common")
        if point is not None and isinstance(value, int | float) and not isinstance(value, bool):
            self._within(node, point, value)

    def _within(self, node: ast.expr, point: Point, value: float) -> None:
        if point.least is not None and value < point.least:
            raise self._error(node, f"{point.name} is never below {point.least:g}", value=f"{value:g}")
        if point.most is not None and value > point.most:
            raise self._error(node, f"{point.name} is never above {point.most:g}", value=f"{value:g}")

    def _foreign(self, node: ast.expr, what: ast.AST) -> ExpressionError:
        name = type(what).__name__
        return self._error(node, f"not part of the rule language: {_SPELLING.get(name, name)}")

    def _error(
        self, node: ast.expr, reason: str, *, value: str | None = None, near: str | None = None
    ) -> ExpressionError:
        before = self._source.encode("utf-8", "surrogatepass")[: node.col_offset]
        return ExpressionError(
            len(before.decode("utf-8", "surrogatepass")) + 1, reason, value=value, nearest=near
        )


def _names(*parts: _Part) -> frozenset[str]:
    return frozenset().union(*(part.names for part in parts))


def _choices(part: _Part) -> frozenset[str]:
    return frozenset() if part.point is None else part.point.choices


def _called(part: _Part) -> str:
    if part.point is not None:
        return part.point.name
    if part.constant is not None:
        return repr(part.constant)[:40]
    return "the other side"


def _fixed(sort: Sort, value: Scalar) -> _Part:
    return _Part(sort, lambda _values: value, constant=value)


def _compared(operation: type[ast.cmpop], left: _Part, right: _Part) -> _Part:
    names = _names(left, right)
    if left.constant is not None:
        return replace(_compared(_MIRRORED[operation], right, left), names=names)
    compare = _COMPARISONS[operation]
    if left.point is not None and right.constant is not None:
        return _Part(Sort.BOOLEAN, _point_against(left.point.name, compare, right.constant), names)
    one, other = left.evaluate, right.evaluate

    def compared(values: _Values) -> bool | None:
        a = one(values)
        if a is None:
            return None
        b = other(values)
        return None if b is None else compare(a, b)

    return _Part(Sort.BOOLEAN, compared, names)


def _point_against(name: str, compare: Callable[[Any, Any], Any], bound: Scalar) -> _Evaluate:
    """What nearly every rule is: one point against one constant."""

    def against(values: _Values) -> bool | None:
        value = values.get(name)
        return None if value is None else compare(value, bound)

    return against


def _computed(compute: Callable[[Any, Any], Any], left: _Evaluate, right: _Evaluate) -> _Evaluate:
    def computed(values: _Values) -> float | None:
        a = left(values)
        b = right(values)
        if a is None or b is None:
            return None
        try:
            result: float = compute(a, b)
            return result if isfinite(result) else None
        except (ZeroDivisionError, OverflowError):
            return None

    return computed


def _negated(inner: _Evaluate) -> _Evaluate:
    def negated(values: _Values) -> bool | None:
        truth = inner(values)
        return None if truth is None else not truth

    return negated


def _all_of(parts: Sequence[_Evaluate]) -> _Evaluate:
    if len(parts) == 1:
        return parts[0]
    left, *rest = parts
    right = _all_of(rest)

    def both(values: _Values) -> bool | None:
        truth: bool | None = left(values)
        if truth:
            return right(values)  # type: ignore[no-any-return]
        if truth is None:
            return False if right(values) is False else None
        return False

    return both


def _any_of(parts: Sequence[_Evaluate]) -> _Evaluate:
    if len(parts) == 1:
        return parts[0]
    left, *rest = parts
    right = _any_of(rest)

    def either(values: _Values) -> bool | None:
        truth: bool | None = left(values)
        if truth:
            return True
        if truth is None:
            return True if right(values) else None
        return right(values)  # type: ignore[no-any-return]

    return either
