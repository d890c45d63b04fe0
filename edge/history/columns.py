"""Readings as columns, and columns as the same readings again.

Promises: what comes back equals what was given, to the type of each number; each point that the kinds know
(`devices.kinds.KINDS`) is a column of its own name and type, so that pandas and DuckDB need nothing of ours.

* ``points`` names the points of a reading in order, so that its columns can be found again at once; ``whole`` has a
  bit for each of them whose number was said without a fraction (``20``, not ``20.0``).
* ``rest`` (MessagePack) is what has no column: the raw ``ts``, unknown fields, values of a name or a type that no
  column has, and everything that the gateway says of itself.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
import numpy as np
import pyarrow as pa
from msgspec import UnsetType
from numpy.typing import NDArray

from devices.kinds import KINDS
from devices.kinds.commands import CommandResult
from devices.readings import Address, Channel, Reading, Scalar, parts_of

WORD = pa.dictionary(pa.int32(), pa.string())
"""Text of few different values, in memory; in the file it is text, whose dictionaries are Parquet's own."""
MOMENT = pa.timestamp("ms", tz="UTC")

OWN: Mapping[str, pa.DataType] = {
    "address": WORD,
    "source_time": MOMENT,
    "received_at": MOMENT,
    "batch": pa.int64(),
    "number": pa.int32(),
    "channel": pa.int8(),
    "flags": pa.int32(),
    "id": pa.string(),
    "points": WORD,
    "whole": pa.int64(),
    "rest": pa.binary(),
}
"""Columns of the reading itself; where it lay in the journal (``batch``, ``number``) is its order of arrival."""

_EXACT = 2**53
"""Whole numbers up to here are the same as a float."""

_MOST_POINTS = 62
"""Bits of ``whole``."""

_FLOAT, _BOOL = pa.float64(), pa.bool_()
_CHANNELS = tuple(Channel)
_TYPES: Mapping[type, pa.DataType] = {float: _FLOAT, int: pa.int64(), bool: _BOOL, str: WORD}


def _known() -> dict[str, pa.DataType]:
    """The points and event fields of all kinds on the wire. Of two types for one name the first has the column."""
    structs = [
        each for kind in KINDS.values() if kind.on_wire for each in (kind.telemetry, kind.event) if each
    ]
    found: dict[str, pa.DataType] = {"state": WORD}
    for struct in (*structs, CommandResult):
        for name, hint in get_type_hints(struct).items():
            if name not in OWN:
                found.setdefault(name, _TYPES[_plain(hint)])
    return found


def _plain(hint: Any) -> type:  # noqa: ANN401 - a type is a value here
    """`float`, `int`, `bool` or `str` of an annotation."""
    if get_origin(hint) in (Union, UnionType):
        (hint,) = (part for part in get_args(hint) if part is not UnsetType)
    if get_origin(hint) is Literal:
        hint = type(get_args(hint)[0])
    return next(plain for plain in (bool, int, float, str) if issubclass(hint, plain))


POINTS: Mapping[str, pa.DataType] = _known()
SCHEMA = pa.schema([*OWN.items(), *POINTS.items()])
WORDS = tuple(field.name for field in SCHEMA if field.type == WORD)


@cache
def _usual_points(kind: str) -> frozenset[str]:
    known = KINDS.get(kind)
    structs = (known.telemetry, known.event, CommandResult) if known is not None else (CommandResult,)
    names = {name for struct in structs if struct is not None for name in struct.__struct_fields__}
    return frozenset({"state", *names} & POINTS.keys())


class _Rest(msgspec.Struct, frozen=True, array_like=True):
    values: dict[str, Scalar] | None
    ts: int | float | str | None
    extra: dict[str, object] | None


_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(_Rest).decode

Column = NDArray[Any]


# --- from readings --------------------------------------------------------------------------------------------


def table_of(batches: Sequence[tuple[int, Sequence[Reading]]]) -> pa.Table:
    """The readings of the journal's ``batches`` (each with its number), in their order.

    Without the points that nobody said: in memory even a column of nulls has its price.
    """
    readings = [reading for _, found in batches for reading in found]
    sizes = [len(found) for _, found in batches]
    points, whole, rest, columns = _points_of(readings)
    made: dict[str, pa.Array] = {
        "address": pa.array([each.address for each in readings], pa.string()).dictionary_encode(),
        "source_time": pa.array([each.source_time for each in readings], MOMENT),
        "received_at": pa.array([each.received_at for each in readings], MOMENT),
        "batch": pa.array(np.repeat(np.array([seq for seq, _ in batches], np.int64), sizes), pa.int64()),
        "number": pa.array([n for size in sizes for n in range(size)], pa.int32()),
        "channel": pa.array([int(each.channel) for each in readings], pa.int8()),
        "flags": pa.array([each.flags for each in readings], pa.int32()),
        "id": pa.array([each.id for each in readings], pa.string()),
        "points": points,
        "whole": pa.array(whole, pa.int64()),
        "rest": pa.array(rest, pa.binary()),
        **columns,
    }
    return pa.table({field.name: made[field.name] for field in SCHEMA if field.name in made})


def _points_of(
    readings: Sequence[Reading],
) -> tuple[pa.Array, NDArray[np.int64], list[bytes | None], dict[str, pa.Array]]:
    """``points``, ``whole``, ``rest`` and the columns of the points that were said."""
    said = [each.values for each in readings]
    shapes: dict[tuple[str, ...], list[int]] = {}
    for row, values in enumerate(said):
        shapes.setdefault(tuple(values), []).append(row)
    rest: list[bytes | None] = [
        None if each.ts is None and each.extra is None else _pack(_Rest(None, each.ts, each.extra))
        for each in readings
    ]
    codes = np.full(len(readings), -1, np.int32)
    whole = np.zeros(len(readings), np.int64)
    filling = _Filling(len(readings))
    for code, (names, rows) in enumerate(shapes.items()):
        columns, fitting, others = _sorted_out(names, rows, said)
        for row in others:
            rest[row] = _pack(_Rest(said[row], readings[row].ts, readings[row].extra))
        if not fitting:
            continue
        at = np.array(fitting)
        codes[at] = code
        for bit, (name, column) in enumerate(zip(names, columns, strict=True)):
            filling.put(name, at, column)
            if POINTS[name] == _FLOAT and int in (types := set(map(type, column))):
                ints = 1 if types == {int} else np.array([type(value) is int for value in column], np.int64)
                whole[at] |= ints << bit
    words = pa.array([",".join(names) for names in shapes], pa.string())
    points = pa.DictionaryArray.from_arrays(pa.array(codes, mask=codes < 0), words)
    return points, whole, rest, filling.columns()


def _sorted_out(
    names: Sequence[str], rows: list[int], said: Sequence[Mapping[str, Scalar]]
) -> tuple[list[list[Scalar]], list[int], list[int]]:
    """The columns of the rows whose values are all of their columns' types; these rows, and the others: hardly any."""
    if not names:
        return [], [], []
    if len(names) > _MOST_POINTS or not all(name in POINTS for name in names):
        return [], [], rows
    chosen = [said[row] for row in rows]
    columns = [[values[name] for values in chosen] for name in names]
    if all(map(_fits, names, columns)):
        return columns, rows, []
    good = {row: all(_fits(name, (said[row][name],)) for name in names) for row in rows}
    fitting = [row for row in rows if good[row]]
    columns = [[said[row][name] for row in fitting] for name in names]
    return columns, fitting, [row for row in rows if not good[row]]


def _fits(name: str, values: Sequence[Scalar]) -> bool:
    """Whether a column can give back each of these values as it is."""
    types = set(map(type, values))
    whole = [value for value in values if type(value) is int] if int in types else [0]
    if POINTS[name] == _FLOAT:
        return types <= {float, int} and min(whole) >= -_EXACT and max(whole) <= _EXACT
    if POINTS[name] == pa.int64():
        return types == {int} and min(whole) >= -(2**63) and max(whole) < 2**63
    return types == {bool if POINTS[name] == _BOOL else str}


class _Filling:
    """The columns of points while they are filled, each row once."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._columns: dict[str, Column] = {}
        self._said: dict[str, NDArray[np.bool_]] = {}

    def put(self, name: str, at: NDArray[np.int64], values: Sequence[Scalar]) -> None:
        """The values of one point at the rows ``at``."""
        if name not in self._columns:
            empty = {_FLOAT: np.float64, pa.int64(): np.int64, _BOOL: np.bool_}
            self._columns[name] = np.full(self._size, None, object) if POINTS[name] == WORD else np.zeros(
                self._size, empty[POINTS[name]]
            )  # fmt: skip
            self._said[name] = np.zeros(self._size, np.bool_)
        self._columns[name][at] = values
        self._said[name][at] = True

    def columns(self) -> dict[str, pa.Array]:
        """As Arrow has them."""
        return {name: self._column(name, column) for name, column in self._columns.items()}

    def _column(self, name: str, column: Column) -> pa.Array:
        if POINTS[name] == WORD:
            return pa.array(column, pa.string()).dictionary_encode()
        return pa.array(column, POINTS[name], mask=~self._said[name], from_pandas=False)


# --- and back -------------------------------------------------------------------------------------------------


def names_in(points: pa.ChunkedArray) -> list[str]:
    """The points that occur, given the column ``points``; what else of a table is all null."""
    shapes = points.unique().to_pylist()
    return sorted({name for shape in shapes if shape is not None for name in shape.split(",")})


def usual_points(address: Address) -> frozenset[str]:
    """The columns that hold nearly all of what a device of this kind says."""
    return _usual_points(parts_of(address)[1])


def readings_of(table: pa.Table) -> list[Reading]:
    """The readings of a table with the columns `OWN` and those of its points, in its order."""
    if not len(table):
        return []
    table = table.unify_dictionaries().combine_chunks()
    rests = [None if packed is None else _unpack(packed) for packed in table["rest"].to_pylist()]
    values = _values_of(table, rests)
    return list(
        map(
            Reading,
            [_CHANNELS[channel] for channel in _numbers(table["channel"])],
            map(Address, _words(table["address"])),
            values,
            _numbers(table["source_time"].cast(pa.int64())),
            _numbers(table["received_at"].cast(pa.int64())),
            _numbers(table["flags"]),
            table["id"].to_pylist() if table["id"].null_count < len(table) else [None] * len(table),
            [None if rest is None else rest.ts for rest in rests],
            [None if rest is None else rest.extra for rest in rests],
        )
    )


def _values_of(table: pa.Table, rests: Sequence[_Rest | None]) -> list[dict[str, Scalar]]:
    """By shape, a column of each of its points at a time."""
    found: list[dict[str, Scalar]] = [
        {} if rest is None or rest.values is None else rest.values for rest in rests
    ]
    shapes = table["points"].chunk(0)
    codes = shapes.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    wholes = table["whole"].to_numpy()
    for code in np.unique(codes):
        if code < 0:
            continue
        at = np.flatnonzero(codes == code)
        names = shapes.dictionary[int(code)].as_py().split(",")
        whole = wholes[at]
        columns = [
            _said(table[name].chunk(0).take(pa.array(at)), (whole >> bit) & 1)
            for bit, name in enumerate(names)
        ]
        for row, said in zip(at.tolist(), zip(*columns, strict=True), strict=True):
            found[row] = dict(zip(names, said, strict=True))
    return found


def _said(column: pa.Array, whole: NDArray[np.int64]) -> list[Scalar]:
    if isinstance(column, pa.DictionaryArray):
        return list(_words(column))
    values: list[Scalar] = _numbers(column)
    if not whole.any():
        return values
    return [int(value) if is_whole else value for value, is_whole in zip(values, whole.tolist(), strict=True)]


def _numbers(column: pa.Array | pa.ChunkedArray) -> list[Any]:
    numbers: list[Any] = column.to_numpy(zero_copy_only=False).tolist() if isinstance(
        column, pa.Array
    ) else column.to_numpy().tolist()  # fmt: skip
    return numbers


def _words(column: pa.DictionaryArray | pa.ChunkedArray) -> Iterator[str]:
    array = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
    words = array.dictionary.to_pylist()
    return map(words.__getitem__, array.indices.to_numpy(zero_copy_only=False).tolist())
