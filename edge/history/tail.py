"""The readings that lie in the journal only: the newest minutes, in order, with right times.

What the gateway took while it did not know the time waits here, as the cloud bridge lets it wait
(`cloud_bridge.holding`), until the journal tells by how much the clock was set. Every look is one short read of the
journal; nothing is kept from look to look but positions.
"""

from collections.abc import Sequence

from cloud_bridge.holding import Hold
from devices.readings import Address, Reading
from edge.store.reader import JournalReader, PackedBatch
from rules.decisions import Input

PIECE = 20_000
"""Readings of one look."""

Batch = tuple[int, Sequence[Reading]]
"""A batch's number and its readings, in order."""


class Tail:
    """The journal after a batch. Every method raises `edge.store.errors.ReadFailed`."""

    def __init__(self, reader: JournalReader) -> None:
        self._reader = reader
        self._hold = Hold(self)

    def readings_after(self, position: int, limit: int) -> Sequence[PackedBatch]:
        """See `cloud_bridge.holding.Batches`."""
        return self._reader.packed_after(position, limit)

    def after(self, seq: int) -> list[Batch]:
        """The next batches after ``seq``, about `PIECE` readings: empty at the end, and where the rest must wait."""
        packed = self._reader.packed_after(seq, PIECE)
        return [(batch.seq, _readings(inputs)) for batch, inputs in self._hold.release(packed)]

    def of_device(self, address: Address, seq: int) -> tuple[list[Reading], int]:
        """The readings of one device in the next batches after ``seq``, and the last batch that was looked at
        (``seq`` at the end). A batch that does not name the device is not decoded.
        """  # noqa: D205 - one sentence
        packed = self._reader.packed_after(seq, PIECE)
        named = [batch for batch in packed if batch.mentions(address)]
        found = [
            reading
            for _, inputs in self._hold.release(named)
            for reading in _readings(inputs)
            if reading.address == address
        ]
        return found, packed[-1].seq if packed else seq


def _readings(inputs: Sequence[Input]) -> list[Reading]:
    return [each for each in inputs if type(each) is Reading]
