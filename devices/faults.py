"""What is wrong in a file that a person wrote, told so that the person can mend it."""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches


@dataclass(frozen=True, slots=True)
class Fault:
    """One mistake: where it is, what stands there, why it is wrong."""

    file: str
    path: str
    """Where in the file, as in ``devices[3].kind``; empty for the whole file."""
    reason: str
    value: str | None = None
    nearest: str | None = None
    """What was probably meant."""
    line: int | None = None

    def __str__(self) -> str:
        """One line: file, path, value, reason, remedy."""
        where = f"{self.file}:{self.line}" if self.line is not None else self.file
        place = f"{where}: {self.path}" if self.path else where
        value = f" (is {self.value!r})" if self.value is not None else ""
        nearest = f"; did you mean {self.nearest!r}?" if self.nearest is not None else ""
        return f"{place}: {self.reason}{value}{nearest}"


class ConfigurationError(ValueError):
    """A file that must not be used: the gateway does not start. Carries every fault that was found."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(map(str, self.faults)))


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that ``word`` was probably meant to be."""
    found = get_close_matches(word, sorted(known), n=1, cutoff=0.6)
    return found[0] if found else None
