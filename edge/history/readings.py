"""All that the gateway was told, in order of arrival: what replay runs rules over.

Parts of the history first, then what still lies in the journal only; while a gateway runs on the same data directory,
too, whatever is compacted, merged or removed meanwhile. Memory is that of one part.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from zlib import crc32

from devices.readings import Address, Reading
from edge.history.catalogue import after, folder_of, parts_in, taken
from edge.history.parts import in_order
from edge.history.tail import Tail
from edge.store.reader import JournalReader
from edge.store.schema import FILE


def readings(
    data_dir: Path,
    from_ms: int,
    to_ms: int,
    *,
    shard: int = 0,
    shards: int = 1,
    shard_of: Callable[[Address], int] | None = None,
) -> Iterator[list[Reading]]:
    """The readings that arrived from ``from_ms`` on and before ``to_ms`` (Unix ms), in the journal's order.

    ``received_at`` rises in it, except where a clock was set back and where readings of a throttled device were held
    back. With ``shards``, only the devices of this one: those for which ``shard_of`` (by default a checksum of the
    address) gives ``shard``. Readings whose times are not known yet are left out, and what follows them.

    Raises `edge.store.errors.StoreError` where the journal cannot be read, `HistoryError` for a damaged part.
    """
    mine, folder = _chooser(shard, shards, shard_of), folder_of(data_dir)
    with JournalReader(data_dir / FILE, follow=True) as reader:
        tail, done = Tail(reader), 0
        known = parts_in(folder)
        while True:
            part = after(known, done)
            if part is not None:
                try:
                    if part.touches(from_ms, to_ms):
                        yield from in_order(part.path, from_ms, to_ms, after=done, mine=mine)
                except FileNotFoundError:  # part of a greater one meanwhile, or too old
                    known = parts_in(folder)
                    continue
                done = part.last
                continue
            batches = tail.after(done)
            if taken(folder) > done:  # compacted meanwhile, and perhaps no longer in the journal
                known = parts_in(folder)
                continue
            if not batches:
                return
            done = batches[-1][0]
            if chunk := [
                each
                for _, found in batches
                for each in found
                if from_ms <= each.received_at < to_ms and mine(each.address)
            ]:
                yield chunk


def _chooser(shard: int, shards: int, shard_of: Callable[[Address], int] | None) -> Callable[[Address], bool]:
    """Whether a device belongs to the shard; asked once an address."""
    if shards == 1 and shard_of is None:
        return lambda _: True
    number = shard_of or (lambda address: crc32(address.encode()) % shards)
    known: dict[Address, bool] = {}

    def mine(address: Address) -> bool:
        found = known.get(address)
        if found is None:
            found = known[address] = number(address) == shard
        return found

    return mine
