"""What the cloud store must not get yet: the gateway did not know the time, so its times would be wrong there.

Such readings are marked in the journal. They wait until the journal tells by how much the clock was set, and go
with their right times then; what was committed before them goes at once. Looking for that is never begun anew:
each call looks through a bounded piece of the journal and remembers how far it came.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from cloud_bridge.source import JournalBatch
from devices.corrections import corrected
from devices.readings import Flag, Reading
from rules.decisions import ClockStepped, Input

LOOK_INPUTS = 20_000
"""Of the journal, at a call."""

_PROVISIONAL = Flag.PROVISIONAL


class Batches(Protocol):
    """The journal's batches, looked through for the next step of the clock."""

    def readings_after(self, position: int, limit: int) -> Sequence[JournalBatch]:
        """See `cloud_bridge.source.Source`."""


class Hold:
    """Between the journal and whoever takes readings from it: the lines, the local history."""

    def __init__(self, source: Batches) -> None:
        self._source = source
        self._looked_to = 0
        self._step: tuple[int, int] | None = None
        """The next step of the clock after what was asked for: its batch, and milliseconds."""
        self.holding = False
        """The last call gave less than there was."""
        self.looking = False
        """It did, and the rest of the journal has not been looked through yet: the next call may give more."""

    def release(self, batches: Iterable[JournalBatch]) -> Iterator[tuple[JournalBatch, Sequence[Input]]]:
        """Each batch with what may be forwarded of it, one decoded at a time; ends before the first whose times
        are not known.
        """  # noqa: D205 - one sentence
        self.holding = self.looking = False
        for batch in batches:
            inputs: Sequence[Input] | None = batch.inputs
            if any(type(each) is Reading and each.flags & _PROVISIONAL for each in inputs or ()):
                inputs = self._right(batch.seq, inputs or ())
            if inputs is None:
                self.holding = True
                return
            yield batch, inputs

    def _right(self, seq: int, inputs: Sequence[Input]) -> list[Input] | None:
        """With right times; None as long as they are not known. The last step in a batch counts for what is
        before it, the next batch's for what is after.
        """  # noqa: D205 - one sentence
        right: list[Input] = []
        step: int | None = None
        for given in reversed(inputs):
            if isinstance(given, ClockStepped):
                step = given.by_ms
            elif type(given) is Reading and given.flags & _PROVISIONAL:
                if step is None and (step := self._step_after(seq)) is None:
                    return None
                right.append(corrected(given, step))
                continue
            right.append(given)
        return right[::-1]

    def _step_after(self, seq: int) -> int | None:
        """By how much the clock was set at the first step in a batch after ``seq``."""
        if self._step is not None and self._step[0] > seq:
            return self._step[1]
        self._step = None
        self._looked_to = max(self._looked_to, seq)
        for batch in self._source.readings_after(self._looked_to, LOOK_INPUTS):
            self._looked_to = batch.seq
            self.looking = True
            for given in batch.inputs:
                if isinstance(given, ClockStepped):
                    self.looking = False
                    self._step = batch.seq, given.by_ms
                    return given.by_ms
        return None
