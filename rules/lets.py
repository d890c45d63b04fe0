"""Names that a rule gives to terms and arithmetic under ``let:``, and those that a kind gives to all its rules."""

import re
from collections.abc import Iterable, Mapping

from rules.definitions import Condition, Let, Text
from rules.functions import FUNCTIONS
from rules.language.entries import Entry
from rules.language.expressions import compile_let
from rules.language.syntax import ExpressionError
from rules.language.texts import DEVICE_NAMES
from rules.vocabulary import Vocabulary

LETS_MOST = 16
"""Names that one rule may give."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}\Z")
_WORDS = frozenset({"and", "or", "not", "true", "false", "if", "else", "in", "is", "lambda", "for", "none"})


def read_lets(entry: Entry, vocabulary: Vocabulary) -> dict[str, Let]:
    """What a rule's conditions may call by name, the kind's first; faults go into ``entry``.

    Raises `rules.language.syntax.ExpressionError` where the kind itself is at fault.
    """
    lets: dict[str, Let] = {}
    for name, expression in vocabulary.kind.derived.items():
        lets[name] = compile_let(name, expression, vocabulary, FUNCTIONS, lets)
    below = entry.entry("let")
    if below is None:
        return lets
    if len(below.fields) > LETS_MOST:
        below.fault(None, f"at most {LETS_MOST} names")
        return lets
    for name in below.fields:
        source = below.text(name)
        taken = name in vocabulary.points or name in DEVICE_NAMES
        if not _NAME.match(name) or name in _WORDS:
            below.fault(name, "a name begins with a letter and has at most 32 of a-z, 0-9 and _")
        elif taken:
            below.fault(name, "means something already; choose another name", value=name)
        elif source is None:
            below.fault(name, "needs an expression")
        else:
            try:
                lets[name] = compile_let(name, source, vocabulary, FUNCTIONS, lets)
            except ExpressionError as error:
                below.fault(name, str(error), value=error.value or source, nearest=error.nearest)
    return lets


def spoken_of(
    lets: Mapping[str, Let],
    entry: Entry,
    conditions: Iterable[Condition | None],
    texts: Iterable[Text],
) -> tuple[Let, ...]:
    """Those that the rule gives itself or speaks of, in order, each after those that it rests on."""
    named = set(entry.fields.get("let") or ())
    named |= {name for condition in conditions if condition is not None for name in condition.lets}
    named |= {name for text in texts for name in text.names}
    for name in reversed(list(lets)):
        if name in named:
            named |= lets[name].lets
    return tuple(let for name, let in lets.items() if name in named)
