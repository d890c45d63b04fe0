"""Signs of life: how long a person has shown none, and how long that usually is.

``inactive_for()`` grows from the last motion or press, but only once the device has said that nothing moves: of a
device out of reach nothing is known, and silence has rules of its own. While it is not worn nothing counts.

``usual_gap()`` is what nineteen of twenty gaps between signs of life do not exceed, by the time of day at which they
begin (three hours each, in UTC): the gap that begins at bedtime is eight hours, that after breakfast one, and a fall
after breakfast must not be found in the evening. The longer habit of this time of day and the next counts: who goes to
bed earlier than usual is not asked at night how she is. Until there are ten gaps for both, the longest habit of the day
stands in; unknown for the first week. A gap in which the device was not heard, or not worn, or an alarm stood about
it, teaches nothing. All of it is private (`devices.kinds.traits.Kind.private`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import msgspec

from devices.kinds.traits import Activity
from devices.readings import Channel, Reading, Scalar
from rules.functions.sketches import Bins, add, halve, quantile
from rules.language.calls import Call, Maker
from rules.state import Device
from rules.terms import Moved, moved
from rules.vocabulary import Point, Sort

DAY_MS = 86_400_000
BLOCKS = 8
"""Times of day."""

BLOCK_MS = DAY_MS // BLOCKS
SHARE = 0.95
GAPS_LEAST = 10
LEARNT_MS = 7 * DAY_MS
HALVE_AT = 128
"""Gaps of one time of day after which all that was learnt weighs half: some weeks."""


class Sign(msgspec.Struct, array_like=True):
    """What is remembered of the last sign of life."""

    last: int | None = None
    """Its moment (Unix ms, the device's time); None while not worn."""
    still: bool = False
    """A message since then said that nothing moves."""


class Gaps(msgspec.Struct, array_like=True):
    """What is remembered of the gaps between signs of life."""

    blocks: list[Bins]
    """Gaps in seconds, by the time of day at which they began."""
    first: int | None = None
    last: int | None = None
    """The last sign of life; None where the gap since then can teach nothing."""
    heard: int = 0
    """The last message."""


@dataclass(frozen=True, slots=True)
class _OfActivity:
    """What both terms have."""

    activity: Activity
    point: Point

    @property
    def name(self) -> str:
        """Its spelling."""
        return self.point.name

    @property
    def feeds(self) -> frozenset[str]:
        """Motion, presses, and whether it is worn."""
        return self.activity.points

    def shows_life(self, device: Device, reading: Reading) -> bool:
        """Whether a message tells of a motion or a press."""
        if reading.channel is Channel.EVENT:
            return True
        motions = reading.values.get(self.activity.of)
        return bool(motions) and device.points.get(self.activity.worn) is not False


@dataclass(frozen=True, slots=True)
class InactiveFor(_OfActivity):
    """``inactive_for()``."""

    look_back_ms: int = DAY_MS
    must_be_heard: bool = True

    def hear(self, device: Device, reading: Reading, moment: int) -> Moved | None:
        """Begin anew with every sign of life."""
        sign = _sign_of(device, self.point.name)
        before = sign.last if sign.still else None
        if self.shows_life(device, reading):
            sign.last, sign.still = moment, False
        elif device.points.get(self.activity.worn) is False:
            sign.last, sign.still = None, False
        elif self.activity.of in reading.values:
            sign.last = moment if sign.last is None else sign.last
            sign.still = True
        if sign.still:
            return moved(before, sign.last)
        device.points[self.point.name] = 0.0
        return moved(before, None)

    def since(self, device: Device) -> int | None:
        """See `rules.terms.Growing`."""
        sign = device.memory.get(self.point.name)
        if sign is None:
            return None
        if type(sign) is not Sign:
            sign = _sign_of(device, self.point.name)
        return sign.last if sign.still else None


def _sign_of(device: Device, name: str) -> Sign:
    sign: Sign | list[Scalar] | None = device.memory.get(name)
    if sign is None:
        sign = device.memory[name] = Sign()
    elif type(sign) is list:  # as it comes out of a snapshot
        sign = device.memory[name] = msgspec.convert(sign, Sign)
    return sign  # type: ignore[return-value]  # no list is left


@dataclass(frozen=True, slots=True)
class UsualGap(_OfActivity):
    """``usual_gap()``."""

    look_back_ms: int = 0

    def hear(self, device: Device, reading: Reading, moment: int) -> None:
        """Learn the gap that ends."""
        gaps = self._gaps_of(device)
        unheard = gaps.heard and not 0 <= moment - gaps.heard <= self.activity.heard_s * 1000
        if unheard or device.points.get(self.activity.worn) is False:
            gaps.last = None
        gaps.heard = moment
        if not self.shows_life(device, reading):
            return
        if gaps.last is not None:
            self._learn(gaps, gaps.last, moment)
        gaps.last = moment
        self._show(device, gaps, moment)

    @property
    def spoiled_by(self) -> frozenset[str]:
        """See `rules.terms.Learning`."""
        return frozenset({self.name, self.activity.of, "inactive_for()"})

    def disregard(self, device: Device, reading: Reading, moment: int) -> None:
        """See `rules.terms.Learning`: what ends now was not as usual, and what begins now may be."""
        gaps = self._gaps_of(device)
        gaps.heard, gaps.last = moment, None
        if self.shows_life(device, reading):
            gaps.last = moment
            self._show(device, gaps, moment)

    def assume(self, device: Device, value: float) -> None:
        """See `rules.terms.Learning`; in seconds."""
        gaps = self._gaps_of(device)
        gaps.first = -LEARNT_MS
        for bins in gaps.blocks:
            bins.clear()
            add(bins, value, HALVE_AT // 2)
        self._show(device, gaps, 0)

    @staticmethod
    def _learn(gaps: Gaps, began: int, ended: int) -> None:
        if gaps.first is None:
            gaps.first = began
        bins = gaps.blocks[_block_of(began)]
        add(bins, (ended - began) / 1000)
        if sum(bins.values()) >= HALVE_AT:
            halve(bins)

    def _show(self, device: Device, gaps: Gaps, began: int) -> None:
        if gaps.first is None or began - gaps.first < LEARNT_MS:
            return
        block = _block_of(began)
        blocks = [gaps.blocks[block], gaps.blocks[(block + 1) % BLOCKS]]
        if any(sum(bins.values()) < GAPS_LEAST for bins in blocks):
            blocks = gaps.blocks
        device.points[self.name] = max(quantile(bins, SHARE) for bins in blocks if bins)

    def _gaps_of(self, device: Device) -> Gaps:
        gaps: Gaps | list[Scalar] | None = device.memory.get(self.name)
        if gaps is None:
            gaps = device.memory[self.name] = Gaps([{} for _ in range(BLOCKS)])
        elif isinstance(gaps, list):  # as it comes out of a snapshot
            gaps = device.memory[self.name] = msgspec.convert(gaps, Gaps)
        return gaps


def _block_of(moment: int) -> int:
    return moment // BLOCK_MS % BLOCKS


def _activity_of(call: Call) -> Activity:
    activity = call.vocabulary.kind.activity
    if activity is None:
        raise call.error(None, f"{call.vocabulary.kind.name} tells nothing of a person's activity")
    return activity


def _inactive_for(call: Call) -> InactiveFor:
    return InactiveFor(_activity_of(call), Point(call.done(), Sort.DURATION))


def _usual_gap(call: Call) -> UsualGap:
    return UsualGap(_activity_of(call), Point(call.done(), Sort.DURATION))


FUNCTIONS: Mapping[str, Maker] = MappingProxyType({"inactive_for": _inactive_for, "usual_gap": _usual_gap})
