"""What can go wrong with the history. None of it concerns an alarm."""

from pathlib import Path


class HistoryError(Exception):
    """Of this package; the text says what to do."""


class NoRoom(HistoryError):
    """The disk has so little left that it is kept for the journal."""


class PartDamaged(HistoryError):
    """A part cannot be read: the others can."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path.name} in the history is damaged: move it away ({reason})")
        self.path = path
