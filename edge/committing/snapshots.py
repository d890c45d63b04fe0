"""When a batch carries a snapshot of the engine's state, so that a restart need not replay more (docs/adr/0003)."""

from edge.intake import Intake
from edge.store.records import Batch, Snapshot
from rules.state import freeze

SNAPSHOT_READINGS = 100_000
SNAPSHOT_MS = 3_600_000
"""A snapshot after so many readings or so much time, whichever is first."""


class Snapshots:
    """Of the state of ``intake``; what has not changed since the last one is left out."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._readings = 0
        self._at = 0

    def soon(self) -> None:
        """Let the next batch without an alarm carry one."""
        self._readings = SNAPSHOT_READINGS

    def add_if_due(self, batch: Batch) -> None:
        """Count the inputs of ``batch``, and take a snapshot after them if it is time."""
        self._readings += len(batch.inputs)
        if not self._at:
            self._at = batch.now
        if batch.changes or not self._readings:
            return  # an alarm does not wait for a snapshot
        if self._readings >= SNAPSHOT_READINGS or not (
            0 <= batch.now - self._at < SNAPSHOT_MS  # below: the clock was set back
        ):
            self.add(batch)

    def add(self, batch: Batch, *, whole: bool = False) -> None:
        """Take one with ``batch``; ``whole``: of every device."""
        if whole:
            for device in self._intake.state.devices.values():
                device.changed = True
        header, devices = freeze(self._intake.state)
        batch.snapshot = Snapshot(self._intake.engine.rules.hash, header, devices)
        batch.rules = self._intake.kept
        self._readings, self._at = 0, batch.now
