"""Every function that a condition can call, by name: each family is a module of its own."""

from collections.abc import Mapping
from types import MappingProxyType

from rules import windows
from rules.calls import Maker

FUNCTIONS: Mapping[str, Maker] = MappingProxyType({**windows.FUNCTIONS})
