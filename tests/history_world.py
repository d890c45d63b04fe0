"""What tests of the history stand on: a journal that is told readings, and what devices said in it."""

from collections.abc import Sequence
from pathlib import Path

from devices.readings import Address, Channel, Reading, Scalar
from edge.history.compaction import Limits
from edge.history.readings import readings
from edge.store.inputs import Inputs
from edge.store.records import Batch, Snapshot
from edge.store.retention import Bounds
from edge.store.schema import FILE
from edge.store.writer import Writer
from rules.decisions import Input

START = 1_790_000_000_000
PLENTY = Limits(max_days=90, max_bytes=10**12, room_bytes=0)
EVER = 2**62


class Told:
    """A journal that batches of inputs are committed to."""

    def __init__(self, data_dir: Path, *, max_bytes: int = 2**30, history: bool = False) -> None:
        self.data_dir = data_dir
        self.readings: list[Reading] = []
        self.seq = 0
        self.writer = Writer(data_dir / FILE, Bounds(max_bytes), forwarding=False, history=history)
        self.writer.open()

    def commit(
        self,
        inputs: Sequence[Input],
        *,
        snapshot: Snapshot | None = None,
        positions: dict[str, int] | None = None,
    ) -> None:
        """The next batch."""
        self.seq += 1
        batch = Batch(
            self.seq,
            now=START + self.seq,
            inputs=Inputs(inputs),
            snapshot=snapshot,
            positions=positions or {},
        )
        self.writer.commit(batch)
        self.readings += [each for each in inputs if isinstance(each, Reading)]


def said(at: int, device: str = "sm1", channel: Channel = Channel.TELEMETRY, **values: Scalar) -> Reading:
    """One thing that a device said at ``at`` ms after the beginning."""
    return Reading(channel, Address(f"c1/smoke/{device}"), values, START + at, START + at + 5)


def spoken(seq: int, size: int = 20) -> list[Reading]:
    """What some devices said in a batch."""
    return [
        Reading(
            Channel.TELEMETRY,
            Address(f"c1/smoke/sm{(seq * 7 + n) % 13:04}"),
            {"density": seq + n / 10, "smoke": False, "battery": 90},
            START + seq * 1_000 - n,
            START + seq * 1_000,
        )
        for n in range(size)
    ]


def given_back(data_dir: Path, from_ms: int = 0, to_ms: int = EVER) -> list[Reading]:
    """All of it, as replay gets it."""
    return [reading for chunk in readings(data_dir, from_ms, to_ms) for reading in chunk]


def same(found: Sequence[Reading], expected: Sequence[Reading]) -> None:
    """Equal, to the type of each number and the order of the points."""
    assert list(found) == list(expected)
    assert [_types(each) for each in found] == [_types(each) for each in expected]


def _types(reading: Reading) -> list[tuple[str, type]]:
    return [*((name, type(value)) for name, value in reading.values.items()), ("ts", type(reading.ts))]
