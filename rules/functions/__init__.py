"""Every function that a condition can call, by name: each family is a module of its own."""

from collections.abc import Mapping
from types import MappingProxyType

from rules.functions import activity, around, habits, occurrences, sessions, windows
from rules.language.calls import Call, Maker
from rules.terms import Term

_FAMILIES: tuple[Mapping[str, Maker], ...] = tuple(
    family.FUNCTIONS for family in (windows, sessions, habits, activity, occurrences)
)


def _by_place(name: str, itself: Maker | None) -> Maker:
    """With ``same='…'`` it is about other devices, without it about the device itself where there is such."""
    others = around.FUNCTIONS[name]

    def make(call: Call) -> Term:
        return others(call) if itself is None or call.says("same") else itself(call)

    return make


_ITSELF = {name: maker for family in _FAMILIES for name, maker in family.items()}

FUNCTIONS: Mapping[str, Maker] = MappingProxyType(
    {**_ITSELF, **{name: _by_place(name, _ITSELF.get(name)) for name in around.FUNCTIONS}}
)
