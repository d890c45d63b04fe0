"""What people are shown: the board, and the publications of a batch with its commit or before it.

Alarms are told once their batch is on disk; while somebody would wait for the disk, at once and as not durable
(docs/adr/0008). What was told early is told again when it is durable, and never overtaken by an older word.
Values only: who publishes is not known here.
"""

from collections.abc import Sequence

from msgspec.structs import replace

from edge.committing.owed import publications, undurable
from edge.committing.storing import Flight
from edge.store.records import Outgoing, OutgoingKind
from rules.alarms import Alarm, AlarmChange


class Telling:
    """The ``board``, standing alarms by id as committed; with ``durable`` false as told before their commit."""

    def __init__(self) -> None:
        self.board: dict[str, Alarm] = {}

    def early(self, flight: Flight) -> list[Outgoing]:
        """The publications of a batch that is not on disk, each of them once; its alarms go onto the board.

        They keep their ids: one that is on disk by the time it leaves is done with that, and not before.
        """
        rows = []
        for row, change in publications(flight.batch):
            if row.id in flight.told:
                continue
            rows.append(undurable(row, change))
            flight.told.add(row.id)
            if change is not None and row.payload:
                shown = replace(change.alarm, durable=False)
                if shown.on_board:
                    self.board[shown.id] = shown
                else:
                    self.board.pop(shown.id, None)
        return rows

    def stored(self, flight: Flight, changes: Sequence[AlarmChange], *, late: bool) -> None:
        """The batch is on disk. Of an alarm that was told before, what was told since then stays."""
        told: set[str] = set()
        if not late and flight.told:
            told = {row.subject for row, _ in publications(flight.batch) if row.id in flight.told}
        for change in changes:
            self._put_on_board(change.alarm, early=late or change.alarm.id in told)

    def not_overtaken(self, flight: Flight, *, late: bool) -> tuple[list[Outgoing], list[int]]:
        """Of a batch that was told early and is on disk: the publications to be sent once more, as durable now,
        where they are the newest word, and those that were not told; and the ids of those that nobody needs.

        What was told and overtaken is left to its early copy, which may still wait for a broker.
        """  # noqa: D205
        again: list[Outgoing] = []
        done: list[int] = []
        for row, change in publications(flight.batch):
            early = row.id in flight.told
            shown = self.board.get(row.subject)
            if row.kind is OutgoingKind.ORDER:
                if not early:
                    again.append(row)
            elif shown is not None and change is not None and shown.version == change.alarm.version:
                again.append(replace(row, payload=shown.wire()))
            elif not early and late:
                done.append(row.id)  # of what has changed while nothing waited for this commit
            elif not early:
                again.append(row)
        return again, done

    def _put_on_board(self, alarm: Alarm, *, early: bool) -> None:
        shown = self.board.get(alarm.id)
        if not alarm.on_board:
            self.board.pop(alarm.id, None)
        elif (not early) if shown is None else (shown.version <= alarm.version):
            self.board[alarm.id] = alarm
