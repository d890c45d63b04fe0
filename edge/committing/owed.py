"""What was decided and is not on disk: kept while the store fails, written when it is back.

Readings are not kept, only counted, into one running gap. Alarm changes and orders are kept up to a bound:
of every alarm that stands the newest change always, of the rest the newest ones; what is dropped is counted
too. Of gaps beyond a bound the oldest become one for each lane and reason. Values and lists only: no I/O, no clock.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from msgspec.structs import replace

from edge.store.inputs import Inputs
from edge.store.records import Batch, Gap, GapReason, Outgoing
from rules.alarms import AlarmChange, Transition

CHANGES_MOST = 4_096
"""Alarm changes kept; above it the oldest go that are not the newest of an alarm that stands."""
ORDERS_MOST = 4_096
PUBLICATIONS_MOST = 4 * CHANGES_MOST
"""Above it those go that have left, have expired, or tell of what is no longer kept."""
LETTERS_MOST = 1_000
"""Dead letters, gaps and order results; each."""
PACKETS_MOST = 4_096
"""Packet marks a lane: what the broker has not heard acknowledged is among the newest."""

READINGS = "readings"
ALARMS = "alarms"


@dataclass(slots=True)
class Running:
    """A loss that goes on; nothing while ``count`` is 0."""

    lane: str
    count: int = 0
    from_ms: int = 0
    to_ms: int = 0

    def add(self, count: int, from_ms: int, to_ms: int) -> None:
        """So many more, of this time (Unix ms)."""
        self.from_ms = min(self.from_ms, from_ms) if self.count else from_ms
        self.to_ms = max(self.to_ms, to_ms)
        self.count += count

    def end(self, now: int) -> Iterator[Gap]:
        """As a row, if anything was lost; then it begins anew."""
        if self.count:
            yield Gap(now, self.lane, self.count, self.from_ms, self.to_ms, GapReason.STORE_FAILED)
        self.count = self.from_ms = self.to_ms = 0

    def again(self, gap: Gap) -> None:
        """The row was not written: it runs on."""
        self.add(gap.count, gap.from_ms, gap.to_ms)


class Owed:
    """Batches go in with `add` in the order of their decisions and come out as one with `take`."""

    def __init__(self) -> None:
        self.readings = Running(READINGS)
        self.alarms = Running(ALARMS)
        self.stored: frozenset[str] = frozenset()
        """Alarms that stand on the disk: their end must get there."""
        self._batch = Batch(0)

    def add(self, batch: Batch) -> None:
        """Keep of ``batch`` what must not be lost, count its readings."""
        self._count(batch)
        extend(self._batch, batch)
        self._bound(batch.now)

    def add_before(self, batch: Batch) -> None:
        """The same with what was decided before everything that is owed."""
        later, self._batch = self._batch, Batch(0)
        self.add(batch)
        extend(self._batch, later)

    def reduce(self, batch: Batch) -> None:
        """Count the readings of ``batch`` and take away what is not stored without room."""
        self._count(batch)
        batch.inputs = Inputs(batch.inputs.of_the_clock)
        batch.recent, batch.quarantined, batch.snapshot = [], [], None

    def take(self) -> Batch:
        """All of it, but the gaps that run on; nothing is owed then. Its publications were told early and have not
        left; an alarm that stands has none, for what was told of it is not the newest word for long.
        """  # noqa: D205
        taken, self._batch = self._batch, Batch(0)
        newest = {change.alarm.id: change.alarm for change in taken.changes}
        standing = {alarm.id for alarm in newest.values() if alarm.on_board}
        taken.outgoing = [row for row in _unsent(taken) if row.subject not in standing]
        return taken

    def tells_of(self, alarm_id: str) -> bool:
        """Whether a change of this alarm is owed."""
        return any(change.alarm.id == alarm_id for change in self._batch.changes)

    def _count(self, batch: Batch) -> None:
        inputs = batch.inputs
        if inputs.readings:
            self.readings.add(inputs.readings, inputs.first_at, inputs.last_at)

    def _bound(self, now: int) -> None:
        kept = self._batch
        for marks in kept.packets.values():
            del marks[: -2 * PACKETS_MOST]
        if len(kept.changes) > CHANGES_MOST:
            self._drop_changes(len(kept.changes) - CHANGES_MOST * 3 // 4)
        for order in kept.orders[:-ORDERS_MOST]:
            self.alarms.add(1, order.issued_at, order.issued_at)
        del kept.orders[:-ORDERS_MOST]
        if len(kept.outgoing) > PUBLICATIONS_MOST:
            known = {change.alarm.id for change in kept.changes} | {order.id for order in kept.orders}
            kept.outgoing = [
                row for row in _unsent(kept) if row.subject in known and (row.expires_at or now) >= now
            ]
        for result in kept.order_results[:-ORDERS_MOST]:
            self.alarms.add(1, result.at, result.at)
        del kept.order_results[:-ORDERS_MOST], kept.dead_letters[:-LETTERS_MOST]
        if len(kept.gaps) > LETTERS_MOST:
            newest = LETTERS_MOST // 2
            kept.gaps = [*_folded(kept.gaps[:-newest]), *kept.gaps[-newest:]]

    def _drop_changes(self, wanted: int) -> None:
        changes = self._batch.changes
        newest = {change.alarm.id: place for place, change in enumerate(changes)}
        begun = {each.alarm.id for each in changes if each.transition is Transition.RAISED} - self.stored
        kept: list[AlarmChange] = []
        for place, change in enumerate(changes):
            alarm = change.alarm
            if wanted and not (newest[alarm.id] == place and (alarm.on_board or alarm.id not in begun)):
                wanted -= 1
                self.alarms.add(1, change.at, change.at)
            else:
                kept.append(change)
        self._batch.changes = kept


def _folded(gaps: Iterable[Gap]) -> Iterator[Gap]:
    """One for each lane and reason; those of which nobody knows how many stay apart from those that count."""
    alike: dict[tuple[str, GapReason, bool], list[Gap]] = {}
    for gap in gaps:
        alike.setdefault((gap.lane, gap.reason, gap.count == 0), []).append(gap)
    for some in alike.values():
        count = sum(gap.count for gap in some)
        from_ms, to_ms = min(gap.from_ms for gap in some), max(gap.to_ms for gap in some)
        yield replace(some[-1], count=count, from_ms=from_ms, to_ms=to_ms)


def _unsent(batch: Batch) -> list[Outgoing]:
    sent = set(batch.sent)
    return [row for row in batch.outgoing if row.id not in sent]


def extend(batch: Batch, later: Batch) -> None:
    """Put what ``later`` holds behind what ``batch`` holds; readings, quarantine and snapshot stay out."""
    batch.now = later.now or batch.now  # not the greater: the clock may have been set back
    batch.inputs.join(Inputs(later.inputs.of_the_clock))
    batch.clock_sets += later.clock_sets
    for lane in later.sessions_begun:
        batch.packets[lane] = []
        if lane not in batch.sessions_begun:
            batch.sessions_begun.append(lane)
    for lane, marks in later.packets.items():
        batch.packets[lane] = batch.packets[lane] + marks
    batch.changes += later.changes
    batch.outgoing += later.outgoing
    batch.orders += later.orders
    batch.order_results += later.order_results
    batch.sent += later.sent
    batch.positions |= later.positions
    batch.gaps += later.gaps
    batch.dead_letters += later.dead_letters


def publications(batch: Batch) -> Iterator[tuple[Outgoing, AlarmChange | None]]:
    """Every publication of a batch with the alarm change that it tells of; None for an order."""
    told: dict[str, list[AlarmChange]] = {}
    for each in batch.changes:
        told.setdefault(each.alarm.id, []).append(each)
    rows = Counter(row.subject for row in batch.outgoing if row.payload)
    for row in batch.outgoing:
        changes = told.get(row.subject, [])
        if row.payload and changes:
            # Of an alarm with more changes than publications the newest were told.
            yield row, changes[-min(rows[row.subject], len(changes))]
            rows[row.subject] -= 1
        else:
            yield row, changes[-1] if changes else None


def undurable(row: Outgoing, change: AlarmChange | None) -> Outgoing:
    """A publication before its commit: of an alarm with ``durable: false``."""
    if change is None or not row.payload:
        return row
    return replace(row, payload=replace(change.alarm, durable=False).wire())
