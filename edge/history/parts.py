"""Parts written, joined and read: Parquet, sorted by device and event time.

A device's readings of a part lie in one row group or two, whose statistics name the devices, so a question about one
device reads a fiftieth of the file. Whoever wants all of a part in order of arrival gets it slice by slice; what is
held meanwhile is the part's columns.
"""

import errno
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from devices.readings import Address, Reading
from edge.history import columns
from edge.history.catalogue import UNFINISHED, Part, name_of
from edge.history.columns import OWN, SCHEMA, WORD, WORDS
from edge.history.errors import PartDamaged

ROW_GROUP = 8_192
"""Readings. Smaller ones make the file's footer long, larger ones are read for nothing."""

FOOTERS = 64
"""Kept in memory: those of a day or two."""

SLICE = 10_000
"""Readings made of columns at a time."""

_SMALL_STEPS = ("source_time", "received_at", "batch", "number")
"""Rise in small steps from row to row: they are written as differences."""

_TOLD = ["address", "source_time", "received_at", "batch"]
"""Columns with statistics: what people look for. Of all columns they would double the footer."""

_UNREADABLE = (None, errno.EIO)
"""Numbers of an `OSError`: pyarrow has none for bytes that make no sense, a disk this one for a bad sector."""

_WRITTEN = pa.schema([(field.name, pa.string() if field.type == WORD else field.type) for field in SCHEMA])
_ADDRESS = SCHEMA.get_field_index("address")
_AS_WORDS = [field.name for field in SCHEMA if field.name not in (*_SMALL_STEPS, "id", "rest", "channel")
             and field.type != pa.bool_()]  # fmt: skip


def write(folder: Path, table: pa.Table, first: int, last: int) -> tuple[Path, str]:
    """Write ``table``, which holds all readings of the journal's batches from ``first`` to ``last``.

    Gives the file and what it is to be called: it is a part when `edge.history.catalogue.publish` has named it so.
    """
    unfinished = folder / f"{UNFINISHED}{first}-{last}"
    order = _by_device(table)
    with pq.ParquetWriter(
        unfinished,
        _WRITTEN,
        compression="zstd",
        use_dictionary=_AS_WORDS,
        column_encoding=dict.fromkeys(_SMALL_STEPS, "DELTA_BINARY_PACKED"),
        write_statistics=_TOLD,
        write_page_checksum=True,
    ) as writer:
        for begin in range(0, len(order), ROW_GROUP):  # a copy of a row group at a time, not of everything
            rows = table.take(pa.array(order[begin : begin + ROW_GROUP]))
            writer.write_table(_complete(rows).cast(_WRITTEN), row_group_size=ROW_GROUP)
    return unfinished, name_of(first, last, *_span(table), len(table))


def together(tables: Sequence[pa.Table]) -> pa.Table:
    """One table of several, in their order."""
    return pa.concat_tables(tables, promote_options="default").unify_dictionaries().combine_chunks()


def join(folder: Path, parts: Sequence[Part]) -> tuple[Path, str]:
    """As `write`, of several parts that follow each other. Raises `PartDamaged`."""
    return write(folder, together([_all_of(part.path) for part in parts]), parts[0].first, parts[-1].last)


def _all_of(path: Path) -> pa.Table:
    with _opened(path) as file:
        names = columns.names_in(file.read(columns=["points"])["points"])
        return file.read(columns=[*OWN, *names])


def of_device(path: Path, address: Address, from_ms: int, to_ms: int) -> list[Reading]:
    """What a device said in a part from ``from_ms`` on and before ``to_ms`` (event time, Unix ms), by that time.

    Raises `FileNotFoundError` for a part that has been removed.
    """
    with _opened(path, _footer_of) as file:
        groups = _groups(file, address)
        if not groups:
            return []
        usual = columns.usual_points(address)
        found = file.read_row_groups(groups, [*OWN, *usual], use_threads=False)
        begin, end = _rows_of(found, address, from_ms, to_ms)
        if begin == end:
            return []
        rows = found.slice(begin, end - begin)
        names = columns.names_in(rows["points"])
        if not usual.issuperset(names):
            rows = file.read_row_groups(groups, [*OWN, *names], use_threads=False).slice(begin, end - begin)
        return columns.readings_of(rows)


def _rows_of(table: pa.Table, address: Address, from_ms: int, to_ms: int) -> tuple[int, int]:
    """Where a device's readings of a time are: next to each other, as a part is sorted."""
    devices = table["address"].unify_dictionaries().combine_chunks()
    known = devices.dictionary.to_pylist()
    if address not in known:
        return 0, 0
    rows = np.flatnonzero(devices.indices.to_numpy() == known.index(address))
    times = table["source_time"].slice(rows[0], len(rows)).cast(pa.int64()).to_numpy()
    return int(rows[0] + np.searchsorted(times, from_ms)), int(rows[0] + np.searchsorted(times, to_ms))


def in_order(
    path: Path, from_ms: int, to_ms: int, *, after: int, mine: Callable[[Address], bool]
) -> Iterator[list[Reading]]:
    """What arrived from ``from_ms`` on and before ``to_ms`` (Unix ms) in batches after ``after``, in their order.

    Only of devices that are ``mine``. Raises `FileNotFoundError` before the first slice, for a part that has been
    removed.
    """
    with _opened(path) as file:
        found = file.read(
            columns=["address", "received_at", "batch", "number", "points"]
        ).unify_dictionaries()
        chosen = pc.and_(_within(found["received_at"], from_ms, to_ms), pc.greater(found["batch"], after))
        at = np.flatnonzero(chosen.to_numpy() & _of(found["address"], mine))
        order = at[_by_arrival(found)[at].argsort(kind="stable")]
        names = columns.names_in(found["points"])
        del found, chosen, at
        table = file.read(columns=[*OWN, *names]).unify_dictionaries().combine_chunks()
        for begin in range(0, len(order), SLICE):
            yield columns.readings_of(table.take(pa.array(order[begin : begin + SLICE])))


@lru_cache(FOOTERS)
def _footer_of(path: Path) -> pq.FileMetaData:
    """Of a part, which never changes; taking one apart is half of the time of a question."""
    return pq.read_metadata(path)


@contextmanager
def _opened(
    path: Path, footer_of: Callable[[Path], pq.FileMetaData] | None = None
) -> Iterator[pq.ParquetFile]:
    """Raises `PartDamaged`, also for what is read of it, and `FileNotFoundError`."""
    try:
        footer = footer_of(path) if footer_of is not None else None
        with pq.ParquetFile(
            path, metadata=footer, read_dictionary=WORDS, page_checksum_verification=True
        ) as file:
            yield file
    except OSError as error:
        if error.errno not in _UNREADABLE:
            raise
        raise PartDamaged(path, str(error)) from error
    except (pa.ArrowException, msgspec.MsgspecError, LookupError, OverflowError, ValueError) as error:
        raise PartDamaged(path, str(error)) from error


def _complete(table: pa.Table) -> pa.Table:
    """With all columns that there are."""
    missing = [field for field in SCHEMA if field.name not in table.column_names]
    for field in missing:
        table = table.append_column(field, pa.nulls(len(table), field.type))
    return table.select(SCHEMA.names)


def _by_device(table: pa.Table) -> NDArray[np.int64]:
    """The order by address, event time and arrival."""
    address = table["address"].combine_chunks()
    array = address if isinstance(address, pa.DictionaryArray) else address.chunk(0)
    ranks = np.empty(len(array.dictionary), np.int64)
    ranks[np.argsort(array.dictionary.to_numpy(zero_copy_only=False))] = np.arange(len(ranks))
    source_time = table["source_time"].cast(pa.int64()).to_numpy()
    return np.lexsort((_by_arrival(table), source_time, ranks[array.indices.to_numpy()]))


def _by_arrival(table: pa.Table) -> NDArray[np.int64]:
    """A number for each row that rises in the order of arrival."""
    batch: NDArray[np.int64] = table["batch"].to_numpy()
    number: NDArray[np.int32] = table["number"].to_numpy()
    arrival: NDArray[np.int64] = (batch - batch.min(initial=2**62)) * 2**24 + number
    return arrival


def _of(address: pa.ChunkedArray, mine: Callable[[Address], bool]) -> NDArray[np.bool_]:
    chosen = []
    for chunk in address.chunks:
        kept = np.array([mine(each) for each in chunk.dictionary.to_pylist()], np.bool_)
        chosen.append(kept[chunk.indices.to_numpy()])
    return np.concatenate(chosen) if chosen else np.zeros(0, np.bool_)


def _within(moments: pa.ChunkedArray, from_ms: int, to_ms: int) -> pa.ChunkedArray:
    ms = moments.cast(pa.int64())
    return pc.and_(pc.greater_equal(ms, from_ms), pc.less(ms, to_ms))


def _groups(file: pq.ParquetFile, address: str) -> list[int]:
    """The row groups that may hold something of a device."""
    metadata, found = file.metadata, []
    for group in range(metadata.num_row_groups):
        devices = metadata.row_group(group).column(_ADDRESS).statistics
        if devices is None or not devices.has_min_max or devices.min <= address <= devices.max:
            found.append(group)
    return found


def _span(table: pa.Table) -> tuple[int, int]:
    """The earliest and the latest of all times in it, Unix ms."""
    found = [pc.min_max(table[name].cast(pa.int64())).as_py() for name in ("source_time", "received_at")]
    if not len(table):
        return 0, 0
    return min(each["min"] for each in found), max(each["max"] for each in found)
