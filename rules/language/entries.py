"""Reading one mapping of a rule file: each value is asked for by name and kind, each mistake is kept.

Nothing here raises for what a person wrote; a faulty value reads as None and its fault tells file, line,
path, value and what was probably meant. Scalars are texts, as `devices.documents` gives them.
"""

import re
from collections.abc import Collection, Sequence

from devices.documents import Tree, line_of
from devices.faults import Fault, nearest

_DURATION = re.compile(r"([0-9]{1,9})(ms|s|m|h|d)\Z")
_UNIT_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_NUMBER = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?\Z")
_DIGITS = 9
_TRUTHS = {"true": True, "false": False}

LONGEST_MS = 366 * _UNIT_MS["d"]
"""No duration of a rule is longer."""

_SHOWN = 80
"""Characters of a faulty value that its fault repeats."""


def read_duration(text: str) -> int | None:
    """``250ms``, ``10s``, ``5m``, ``26h``, ``2d`` as milliseconds; None for anything else."""
    found = _DURATION.match(text)
    return None if found is None else int(found[1]) * _UNIT_MS[found[2]]


def write_duration(ms: int) -> str:
    """The shortest spelling that `read_duration` reads back."""
    for unit, size in reversed(_UNIT_MS.items()):
        if ms % size == 0 and ms >= size:
            return f"{ms // size}{unit}"
    return f"{ms // 1000}s" if ms % 1000 == 0 else f"{ms}ms"


class Entry:
    """One mapping of the file; what is wrong with it goes into ``faults``."""

    __slots__ = ("_faults", "_file", "_line", "fields", "path")

    def __init__(
        self, tree: Tree, path: str, file: str, faults: list[Fault], line: int | None = None
    ) -> None:
        self.path = path
        self._file = file
        self._faults = faults
        self._line = line
        self.fields: dict[str, Tree] = tree if isinstance(tree, dict) else {}
        if not isinstance(tree, dict):
            self.fault(None, "must be a mapping, key: value", value=tree if isinstance(tree, str) else None)

    @property
    def faults_so_far(self) -> int:
        """How many faults the whole reading has found."""
        return len(self._faults)

    def fault(
        self, key: str | None, reason: str, *, value: str | None = None, nearest: str | None = None
    ) -> None:
        """Keep one mistake, of a key of this mapping or of the mapping itself."""
        self._faults.append(self.mistake(key, reason, value=value, nearest=nearest))

    def mistake(
        self, key: str | None, reason: str, *, value: str | None = None, nearest: str | None = None
    ) -> Fault:
        """The same, not kept: for what turns out to be one, or not, when other files have been read."""
        path = self.path if key is None else self._below(key)
        line = self._line if key is None else self._line_of(key)
        short = value if value is None or len(value) <= _SHOWN else value[:_SHOWN] + "…"
        return Fault(self._file, path, reason, short, nearest, line)

    def known(self, keys: Collection[str], *, required: Sequence[str] = ()) -> None:
        """Refuse every other key, and the absence of a required one."""
        for key in self.fields:
            if key not in keys:
                reason = f"unknown key; known are {', '.join(sorted(keys))}"
                self.fault(key, reason, nearest=nearest(key, keys))
        for key in required:
            if self.fields.get(key) is None:
                self.fault(key, "is missing")

    def has(self, key: str) -> bool:
        """Whether anything is said under a key, right or wrong."""
        return self.fields.get(key) is not None

    def text(self, key: str) -> str | None:
        """A scalar as written; None where nothing is said."""
        value = self.fields.get(key)
        if value is None or isinstance(value, str):
            return value
        self.fault(key, "must be a single value, not a list or a mapping")
        return None

    def word(self, key: str, words: Collection[str]) -> str | None:
        """One of a closed set of words."""
        value = self.text(key)
        if value is None or value in words:
            return value
        reason = f"must be one of {', '.join(sorted(words))}"
        self.fault(key, reason, value=value, nearest=nearest(value, words))
        return None

    def truth(self, key: str) -> bool:
        """``true`` or ``false``; false where nothing is said."""
        value = self.text(key)
        if value is not None and value not in _TRUTHS:
            self.fault(key, "must be true or false", value=value)
        return _TRUTHS.get(value or "false", False)

    def duration(self, key: str, *, least_ms: int = 0, most_ms: int = LONGEST_MS) -> int | None:
        """A duration in milliseconds."""
        value = self.text(key)
        if value is None:
            return None
        ms = read_duration(value)
        if ms is None:
            self.fault(key, "must be a duration such as 250ms, 10s, 5m, 26h or 2d", value=value)
        elif not least_ms <= ms <= most_ms:
            reason = f"must be from {write_duration(least_ms)} to {write_duration(most_ms)}"
            self.fault(key, reason, value=value)
        else:
            return ms
        return None

    def texts(self, key: str) -> list[str]:
        """The scalars in the list under a key, or the only one without a list."""
        value = self.fields.get(key)
        texts = [each for each in (value if isinstance(value, list) else [value]) if isinstance(each, str)]
        if value is not None and not (texts and len(texts) == (len(value) if isinstance(value, list) else 1)):
            self.fault(key, "must be a single value or a list of them")
        return texts

    def words(self, key: str, words: Collection[str]) -> list[str]:
        """A word, or a list of them, each of a closed set."""
        value = self.fields.get(key)
        found: list[str] = []
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, str) and item in words:
                found.append(item)
            elif item is not None:
                told = item if isinstance(item, str) else None
                near = None if told is None else nearest(told, words)
                self.fault(key, f"must be of {', '.join(sorted(words))}", value=told, nearest=near)
        return found

    def number(self, key: str, least: float, most: float) -> float | None:
        """A number within bounds."""
        value = self.text(key)
        if value is None:
            return None
        if _NUMBER.match(value) and least <= float(value) <= most:
            return float(value)
        self.fault(key, f"must be a number from {least:g} to {most:g}", value=value)
        return None

    def whole(self, key: str, least: int, most: int) -> int | None:
        """A whole number within bounds."""
        value = self.text(key)
        if value is None:
            return None
        if value.isdecimal() and len(value) <= _DIGITS and least <= int(value) <= most:
            return int(value)
        self.fault(key, f"must be a whole number from {least} to {most}", value=value)
        return None

    def entry(self, key: str) -> "Entry | None":
        """The mapping under a key."""
        value = self.fields.get(key)
        if value is None:
            return None
        return Entry(value, self._below(key), self._file, self._faults, self._line_of(key))

    def entries(self, key: str) -> list["Entry"]:
        """The mappings in the list under a key."""
        value = self.fields.get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            self.fault(key, "must be a list, each entry behind a dash")
            return []
        return [self.item(key, index) for index in range(len(value))]

    def item(self, key: str, index: int) -> "Entry":
        """The mapping at a place of the list under a key."""
        value = self.fields[key]
        path, line = f"{self._below(key)}[{index}]", line_of(value, index)
        return Entry(value[index] if isinstance(value, list) else None, path, self._file, self._faults, line)

    def _below(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key

    def _line_of(self, key: str) -> int | None:
        return line_of(self.fields, key) or self._line
