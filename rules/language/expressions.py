"""Conditions: from the text in a rule file to a closure over three-valued logic.

A condition is Python's own syntax under an allow-list: comparisons (also chained), ``and``, ``or``,
``not``, ``+ - * /``, numbers, ``'text'``, ``true``/``false``, the names of points, calls of the functions that it is
given and what `let` names. Nothing else is taken, everything is type-checked when the file is read, and length and
size are bounded; so evaluating a condition cannot fail, nor be slow.

A call is a point that the engine keeps (`rules.terms`); to a compiled condition it is a name like any other.
A point that is absent is unknown, and so is arithmetic with it, a division by zero and a result that is no
finite number (`rules.language.logic`).
"""

import ast
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from devices.faults import nearest
from rules.definitions import Condition, Let
from rules.language.calls import Call, Maker
from rules.language.entries import read_duration
from rules.language.logic import computed, negated, negative
from rules.language.pieces import COMPARISONS, Made, Part, compared, fixed, joined, of_point
from rules.language.syntax import ExpressionError, called, check_size, column_of, one_line, parse
from rules.terms import Growing
from rules.vocabulary import Point, Sort, Vocabulary

NUMBER_LIMIT = 1e15
"""No constant is larger: beyond it a float no longer tells whole numbers apart."""

NO_FUNCTIONS: Mapping[str, Maker] = MappingProxyType({})
NO_LETS: Mapping[str, Let] = MappingProxyType({})


def compile_condition(
    source: str,
    vocabulary: Vocabulary,
    functions: Mapping[str, Maker] = NO_FUNCTIONS,
    lets: Mapping[str, Let] = NO_LETS,
) -> Condition:
    """Parse, check and compile a condition on one kind of device. Raises `ExpressionError`, nothing else."""
    return _Compiler(source, vocabulary, functions, lets).condition(parse(source))


def compile_let(
    name: str,
    source: str,
    vocabulary: Vocabulary,
    functions: Mapping[str, Maker] = NO_FUNCTIONS,
    lets: Mapping[str, Let] = NO_LETS,
) -> Let:
    """Parse, check and compile what ``name`` shall stand for. Raises `ExpressionError`, nothing else."""
    return _Compiler(source, vocabulary, functions, lets).let(name, parse(source))


_ARITHMETIC: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


class _Compiler:
    """One pass over one condition."""

    def __init__(
        self, source: str, vocabulary: Vocabulary, functions: Mapping[str, Maker], lets: Mapping[str, Let]
    ) -> None:
        self.vocabulary = vocabulary
        self._source = one_line(source)
        self._functions = functions
        self._lets = lets

    def condition(self, node: ast.expr) -> Condition:
        """A whole condition, or one that is an argument."""
        part = self.boolean(node)
        check_size(part.tree)
        return Condition(
            source=self._source,
            tree=part.tree,
            names=part.names,
            evaluate=part.evaluate,
            uses_event=self._uses_event(part),
            terms=tuple(part.made.terms.values()),
            crossings=part.made.crossings,
            lets=part.made.lets,
        )

    def condition_about(self, node: ast.expr, vocabulary: Vocabulary) -> Condition:
        """A part of it as a condition about another device, which calls no functions."""
        return _Compiler(self._source, vocabulary, NO_FUNCTIONS, NO_LETS).condition(node)

    def let(self, name: str, node: ast.expr) -> Let:
        """What a name shall stand for: a term, or arithmetic, or a condition."""
        part = self._compile(node)
        if not part.names:
            raise self.error(node, "looks at no point, so it is always the same")
        if part.made.crossings:
            raise self.error(node, "compares what grows with time: write this in the condition itself")
        check_size(part.tree)
        private = {each for each in self._roots(part) if self.vocabulary.points[each].private}
        known = part.point or Point(name, part.sort)
        point = replace(known, name=name, event=self._uses_event(part), private=bool(private))
        terms = tuple(part.made.terms.values())
        return Let(
            point, self._source, part.tree, part.names, part.evaluate, terms, part.growing, part.made.lets
        )

    def _uses_event(self, part: Part) -> bool:
        return any(self.vocabulary.points[name].event for name in part.names - part.made.terms.keys())

    def _roots(self, part: Part) -> frozenset[str]:
        """The points and event fields that all of it comes from."""
        fed = frozenset().union(*(term.feeds for term in part.made.terms.values()))
        return (part.names - part.made.terms.keys()) | (fed & self.vocabulary.points.keys())

    def boolean(self, node: ast.expr) -> Part:
        """A piece that is true, false or unknown, and not always the same."""
        part = self._compile(node)
        if part.sort is not Sort.BOOLEAN:
            raise self.error(node, f"must be true or false, but is {part.sort}")
        if not part.names:
            raise self.error(node, "looks at no point, so it is always the same")
        return part

    def _compile(self, node: ast.expr) -> Part:
        match node:
            case ast.BoolOp(op=op, values=values):
                parts = [self.boolean(value) for value in values]
                return joined(op, parts)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                part = self.boolean(operand)
                return Part(
                    Sort.BOOLEAN, negated(part.evaluate), ast.UnaryOp(ast.Not(), part.tree), part.made
                )
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return self._minus(node, self._number(operand))
            case ast.Compare():
                parts = list(self._comparisons(node))
                return parts[0] if len(parts) == 1 else joined(ast.And(), parts)
            case ast.BinOp(left=left, op=operation, right=right) if type(operation) in _ARITHMETIC:
                return self._arithmetic(node, operation, self._compile(left), self._compile(right))
        return self._operand(node)

    def _operand(self, node: ast.expr) -> Part:
        match node:
            case ast.Constant(value=value):
                return self._constant(node, value)
            case ast.Name(id=name):
                return self._name(node, name)
            case ast.Call(func=ast.Name(id=name)):
                return self._call(node, name)
            case ast.BinOp(op=other) | ast.UnaryOp(op=other):
                raise self._foreign(node, other)
        raise self._foreign(node, node)

    def _number(self, node: ast.expr) -> Part:
        part = self._compile(node)
        if part.sort is not Sort.NUMBER:
            raise self.error(node, f"arithmetic needs a number, this is {part.sort}")
        return part

    def _name(self, node: ast.expr, name: str) -> Part:
        point = self.vocabulary.points.get(name)
        if point is not None:
            return of_point(point, Made(frozenset({name})))
        if name in ("true", "false"):
            return fixed(Sort.BOOLEAN, name == "true")
        let = self._lets.get(name)
        if let is not None:
            made = Made(let.names, {term.name: term for term in let.terms}, lets=let.lets | {name})
            return Part(let.point.sort, let.evaluate, let.tree, made, point=let.point, growing=let.growing)
        reason = f"{self.vocabulary.kind.name} has no point of this name"
        if name in self._functions:
            reason = f"a function: write {name}(…)"
        elif any(name in point.choices for point in self.vocabulary.points.values()):
            reason += f"; a word stands in quotes: '{name}'"
        raise self.error(
            node, reason, value=name[:64], near=nearest(name, {*self.vocabulary.points, *self._lets})
        )

    def _call(self, node: ast.Call, name: str) -> Part:
        maker = self._functions.get(name)
        if maker is None:
            reason = (
                "no function of this name" if self._functions else "not part of the rule language: a call"
            )
            raise self.error(node, reason, value=name[:64], near=nearest(name, self._functions))
        call = Call(node, name, self)
        term = maker(call)
        terms = {each.name: each for each in (*call.terms, term)}
        growing = term if isinstance(term, Growing) else None
        return of_point(term.point, Made(frozenset({term.name}), terms), growing)

    def _constant(self, node: ast.expr, value: object) -> Part:
        match value:
            case bool():
                return fixed(Sort.BOOLEAN, value)
            case int() | float() if abs(value) <= NUMBER_LIMIT:
                return fixed(Sort.NUMBER, value)
            case int() | float():
                raise self.error(node, f"a number beyond {NUMBER_LIMIT:.0e}")
            case str():
                return fixed(Sort.TEXT, value)
        raise self.error(node, "only numbers, 'text', true and false can stand here")

    def _minus(self, node: ast.expr, part: Part) -> Part:
        if part.constant is not None:
            return self._constant(node, -part.constant)  # type: ignore[operator]  # _number let only numbers in
        return Part(Sort.NUMBER, negative(part.evaluate), ast.UnaryOp(ast.USub(), part.tree), part.made)

    def _arithmetic(self, node: ast.BinOp, operation: ast.operator, left: Part, right: Part) -> Part:
        left, right = _if_duration(left), _if_duration(right)
        sort = self._sort_of(node, operation, left, right)
        if isinstance(operation, ast.Div) and right.constant == 0:
            raise self.error(node, "a division by zero")
        evaluate = computed(_ARITHMETIC[type(operation)], left.evaluate, right.evaluate)
        made = Made.of(left, right)
        if not made.names:
            return replace(self._constant(node, evaluate({})), sort=sort)
        return Part(sort, evaluate, ast.BinOp(left.tree, operation, right.tree), made)

    def _sort_of(self, node: ast.BinOp, operation: ast.operator, left: Part, right: Part) -> Sort:
        for operand, part in ((node.left, left), (node.right, right)):
            if part.growing is not None:
                raise self.error(
                    operand, f"{_called(part)} grows with time: only compare it, alone on its side"
                )
            if part.sort not in (Sort.NUMBER, Sort.DURATION):
                raise self.error(operand, f"arithmetic needs a number, this is {part.sort}")
        match left.sort, operation, right.sort:
            case Sort.NUMBER, _, Sort.NUMBER:
                return Sort.NUMBER
            case Sort.DURATION, ast.Add() | ast.Sub(), Sort.DURATION:
                return Sort.DURATION
            case (Sort.NUMBER, ast.Mult(), Sort.DURATION) | (
                Sort.DURATION,
                ast.Mult() | ast.Div(),
                Sort.NUMBER,
            ):
                return Sort.DURATION
            case Sort.DURATION, ast.Div(), Sort.DURATION:
                return Sort.NUMBER
        raise self.error(node, f"{left.sort} and {right.sort} do not go together here")

    def _as_duration(self, node: ast.expr, part: Part, *, beside: Part) -> Part:
        """A text beside a duration is one."""
        if beside.sort is not Sort.DURATION or not isinstance(part.constant, str):
            return part
        ms = read_duration(part.constant)
        if ms is None:
            reason = f"{_called(beside)} is a duration: compare it with one, such as '8h'"
            raise self.error(node, reason, value=part.constant[:64])
        return fixed(Sort.DURATION, ms / 1000)

    def _comparisons(self, node: ast.Compare) -> Iterator[Part]:
        operands = [node.left, *node.comparators]
        for operand, operation in zip(operands, node.ops, strict=False):
            if type(operation) not in COMPARISONS:
                raise self._foreign(operand, operation)
        parts = [self._compile(operand) for operand in operands]
        for index, operation in enumerate(node.ops):
            left = self._as_duration(operands[index], parts[index], beside=parts[index + 1])
            right = self._as_duration(operands[index + 1], parts[index + 1], beside=left)
            if not left.names and not right.names:
                raise self.error(operands[index], "compares two constants, so it is always the same")
            self._comparable(operands[index], left, type(operation), right)
            self._comparable(operands[index + 1], right, type(operation), left)
            yield compared(operation, left, right)

    def _comparable(self, node: ast.expr, part: Part, operation: type[ast.cmpop], other: Part) -> None:
        """Refuse what can never be true, or never be false; said of ``part``, which stands at ``node``."""
        words = {Sort.CHOICE, Sort.TEXT}
        if part.sort is not other.sort and not {part.sort, other.sort} <= words:
            raise self.error(node, f"{_called(part)} is {part.sort}, {_called(other)} is {other.sort}")
        exact = operation in (ast.Eq, ast.NotEq)
        if part.growing is not None and (exact or other.growing is not None):
            what = "== and != make no sense" if exact else "compare it with what does not"
            raise self.error(node, f"{_called(part)} grows with time: {what}")
        if part.sort not in (Sort.NUMBER, Sort.DURATION) and not exact:
            raise self.error(node, f"{_called(part)} is {part.sort}: only == and != make sense")
        point, value = other.point, part.constant
        if point is not None and isinstance(value, str) and point.choices and value not in point.choices:
            known = ", ".join(sorted(point.choices))
            raise self.error(
                node,
                f"{point.name} is never this; it is one of {known}",
                value=value[:64],
                near=nearest(value, point.choices),
            )
        mine, theirs = _choices(part), _choices(other)
        if mine and theirs and mine.isdisjoint(theirs):
            raise self.error(node, f"{_called(part)} and {_called(other)} have no word in common")
        if point is not None and isinstance(value, int | float) and not isinstance(value, bool):
            self._within(node, point, value)

    def _within(self, node: ast.expr, point: Point, value: float) -> None:
        if point.least is not None and value < point.least:
            raise self.error(node, f"{point.name} is never below {point.least:g}", value=f"{value:g}")
        if point.most is not None and value > point.most:
            raise self.error(node, f"{point.name} is never above {point.most:g}", value=f"{value:g}")

    def _foreign(self, node: ast.expr, what: ast.AST) -> ExpressionError:
        return self.error(node, f"not part of the rule language: {called(what)}")

    def error(
        self, node: ast.expr, reason: str, *, value: str | None = None, near: str | None = None
    ) -> ExpressionError:
        """What to raise about a part of the condition."""
        return ExpressionError(column_of(node, self._source), reason, value=value, nearest=near)


def _if_duration(part: Part) -> Part:
    """A text in arithmetic can only be one."""
    ms = read_duration(part.constant) if isinstance(part.constant, str) else None
    return part if ms is None else fixed(Sort.DURATION, ms / 1000)


def _choices(part: Part) -> frozenset[str]:
    return frozenset() if part.point is None else part.point.choices


def _called(part: Part) -> str:
    if part.point is not None:
        return part.point.name
    if part.constant is not None:
        return repr(part.constant)[:40]
    return "the other side"
