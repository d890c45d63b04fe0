"""The syntax of conditions: from text to a tree, and what to say about a place in it.

Python's own parser reads it; what of that belongs to the language is decided by `rules.language.expressions`. Length
and size are bounded here.
"""

import ast
import warnings
from collections.abc import Mapping
from types import MappingProxyType

from rules.language.slips import slip

LENGTH_LIMIT = 2_000
"""Characters of one condition."""

NODE_LIMIT = 200
"""Names, constants and operators of one condition."""

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

CONTRARY: Mapping[type[ast.cmpop], ast.cmpop] = MappingProxyType(
    {
        ast.Lt: ast.GtE(),
        ast.LtE: ast.Gt(),
        ast.Gt: ast.LtE(),
        ast.GtE: ast.Lt(),
        ast.Eq: ast.NotEq(),
        ast.NotEq: ast.Eq(),
    }
)
"""By sign, the one that is true of known values where it is false."""


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


def one_line(source: str) -> str:
    """A text of several lines as one, so that a column tells where something stands."""
    return source.replace("\r", " ").replace("\n", " ")


def parse(source: str) -> ast.expr:
    """What a condition says, in Python's syntax. Raises `ExpressionError`."""
    source = one_line(source)
    if len(source) > LENGTH_LIMIT:
        raise ExpressionError(1, f"{len(source)} characters, at most {LENGTH_LIMIT}")
    if not source.strip():
        raise ExpressionError(1, "an empty condition")
    try:
        with warnings.catch_warnings():
            # `65or`, '\d': Python still takes them, a person misreads them.
            warnings.simplefilter("error")
            tree = ast.parse(source, mode="eval").body
    except SyntaxError as error:
        reason = f"cannot be read: {slip(source) or error.msg}"
        raise ExpressionError(max(error.offset or 1, 1), reason) from error
    except ValueError as error:
        raise ExpressionError(1, f"cannot be read: {error}") from error
    except (RecursionError, MemoryError) as error:
        raise ExpressionError(1, "nested too deeply") from error
    check_size(tree)
    return tree


def column_of(node: ast.expr, source: str) -> int:
    """Where a part of ``source`` begins; the first is 1."""
    before = source.encode("utf-8", "surrogatepass")[: node.col_offset]
    return len(before.decode("utf-8", "surrogatepass")) + 1


def called(what: ast.AST) -> str:
    """What a person calls a piece of syntax that the language does not have."""
    name = type(what).__name__
    return _SPELLING.get(name, name)


def check_size(tree: ast.expr) -> None:
    """Refuse what is too large; `let` writes out what it names. Raises `ExpressionError`."""
    size = sum(isinstance(node, ast.expr) for node in ast.walk(tree))
    if size > NODE_LIMIT:
        raise ExpressionError(1, f"{size} names, constants and operators, at most {NODE_LIMIT}")
