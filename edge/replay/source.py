"""What the gateway was told, for a replay: from the history, and from the journal exactly as it was.

In the journal's own time the order is exact and the gateway's own inputs are there (listening, catching up, steps of
the clock), so silence and delays over a stop are judged as they were. Before it only readings are left: there the
gateway is taken to have listened all the time. What people said is left out: it was about other alarms.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from devices.readings import Address, Reading
from edge.history.catalogue import folder_of, parts_in
from edge.store.reader import JournalReader
from edge.store.schema import FILE
from rules.decisions import Acknowledge, Awaited, Close, Input, time_of

PIECE = 10_000
"""Readings of one look at the journal."""

Mine = Callable[[Address], bool]


def ends_at(data_dir: Path) -> int:
    """The last moment that is known (Unix ms): after it nobody can say what was silent. Raises `StoreError`."""
    with JournalReader(data_dir / FILE) as reader:
        return reader.last_now()


def exact_from(data_dir: Path) -> int | None:
    """From when on the journal itself tells (Unix ms); None if it holds no readings. Raises `StoreError`."""
    with JournalReader(data_dir / FILE) as reader:
        return reader.first_reading()


def told(
    data_dir: Path, from_ms: int, to_ms: int, *, shard: int, shards: int, shard_of: Callable[[Address], int]
) -> Iterator[list[Input]]:
    """All of it from ``from_ms`` on and before ``to_ms`` (Unix ms), in order; readings of the shard's devices only.

    Raises `StoreError`.
    """
    begins = exact_from(data_dir)
    if (begins is None or from_ms < begins) and parts_in(folder_of(data_dir)):
        from edge.history.readings import readings  # noqa: PLC0415 - its libraries are slow to import

        until = to_ms if begins is None else min(begins, to_ms)
        for chunk in readings(data_dir, from_ms, until, shard=shard, shards=shards, shard_of=shard_of):
            yield list[Input](chunk)
    if begins is not None and begins < to_ms:
        yield from _journal(data_dir, from_ms, to_ms, _chooser(shard, shards, shard_of))


def _journal(data_dir: Path, from_ms: int, to_ms: int, mine: Mine) -> Iterator[list[Input]]:
    with JournalReader(data_dir / FILE) as reader:
        seq = reader.batch_before(from_ms)
        while batches := reader.packed_after(seq, PIECE):
            chunk: list[Input] = []
            for batch in batches:
                for given in batch.inputs:
                    if type(given) is Reading:
                        if from_ms <= given.received_at < to_ms and mine(given.address):
                            chunk.append(given)
                    elif not isinstance(given, Acknowledge | Close) and from_ms <= time_of(given) < to_ms:
                        chunk.append(_share(given, mine))
            yield chunk
            seq = batches[-1].seq


def _share(given: Input, mine: Mine) -> Input:
    """What the gateway was told of itself, as far as it is about the shard's devices."""
    if not isinstance(given, Awaited):
        return given
    return Awaited(tuple(filter(mine, given.devices)), tuple(filter(mine, given.released)), given.at)


def _chooser(shard: int, shards: int, shard_of: Callable[[Address], int]) -> Mine:
    """Whether a device belongs to the shard; asked once an address."""
    if shards == 1:
        return lambda _: True
    known: dict[Address, bool] = {}

    def mine(address: Address) -> bool:
        found = known.get(address)
        if found is None:
            found = known[address] = shard_of(address) == shard
        return found

    return mine
