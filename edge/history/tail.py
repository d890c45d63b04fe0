"""The readings that lie in the journal only: the newest minutes, in order, with right times.

What the gateway took while it did not know the time waits here, as the cloud bridge lets it wait
(`cloud_bridge.holding`), until the journal tells by how much the clock was set. Every look is one short read of the
journal.
"""

from collections.abc import Sequence

from cloud_bridge.holding import Hold
from cloud_bridge.source import JournalBatch
from devices.readings import Address, Reading
from edge.store.reader import JournalReader, PackedBatch
from rules.decisions import Input

PIECE = 20_000
"""Readings of one look."""

UNPACKED_BYTES = 32 * 1024 * 1024
"""Kept from question to question."""

Batch = tuple[int, Sequence[Reading]]
"""A batch's number and its readings, in order."""


class Tail:
    """The journal after a batch. Every method raises `edge.store.errors.ReadFailed`."""

    def __init__(self, reader: JournalReader) -> None:
        self._reader = reader
        self._hold = Hold(self)
        self._unpacked: dict[tuple[int, int], bytes] = {}
        """Of batches that were looked through for a device: the next question looks through the same."""
        self._unpacked_bytes = 0

    def readings_after(self, position: int, limit: int) -> Sequence[PackedBatch]:
        """See `cloud_bridge.holding.Batches`."""
        return self._reader.packed_after(position, limit)

    def after(self, seq: int) -> list[Batch]:
        """The next batches after ``seq``, about `PIECE` readings: empty at the end, and where the rest must wait.

        ``seq`` rises from call to call.
        """
        packed = self._reader.packed_after(seq, PIECE)
        return [(batch.seq, _readings(inputs)) for batch, inputs in _released(self._hold, packed)]

    def of_device(self, address: Address, seq: int) -> list[Reading]:
        """The readings of one device after ``seq``. A batch that does not name it is not decoded."""
        self._forget(seq)
        name, hold, found = address.encode(), Hold(self), list[Reading]()
        while packed := self._reader.packed_after(seq, PIECE):
            seq = packed[-1].seq
            for _, inputs in _released(hold, [batch for batch in packed if name in self._text_of(batch)]):
                found += [reading for reading in _readings(inputs) if reading.address == address]
            if hold.holding:
                break
        return found

    def _forget(self, seq: int) -> None:
        """Nobody will ask for batches up to ``seq`` again."""
        self._unpacked = {key: text for key, text in self._unpacked.items() if key[0] > seq}
        self._unpacked_bytes = sum(map(len, self._unpacked.values()))

    def _text_of(self, batch: PackedBatch) -> bytes:
        key = batch.seq, batch.now
        text = self._unpacked.get(key)
        if text is None:
            text = batch.unpacked()
            if self._unpacked_bytes + len(text) <= UNPACKED_BYTES:
                self._unpacked[key] = text
                self._unpacked_bytes += len(text)
        return text


def _released(hold: Hold, packed: Sequence[PackedBatch]) -> list[tuple[JournalBatch, Sequence[Input]]]:
    """What may be given of these batches; the journal is looked through for the next step of the clock if need be."""
    released = list(hold.release(packed))
    while hold.looking:
        released += hold.release(packed[len(released) :])
    return released


def _readings(inputs: Sequence[Input]) -> list[Reading]:
    return [each for each in inputs if type(each) is Reading]
