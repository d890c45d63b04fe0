"""What follows a commit, or goes without one: acknowledgements, publications, live changes (a `Follower`).

Nothing leaves before its batch is on the disk, unless somebody would wait for a store that fails: then alarms are told
at once and as not durable, and told again when they are (docs/adr/0008).
"""

import logging
from collections.abc import Sequence
from typing import Protocol

import msgspec

from devices.topics import Lane
from edge.broker.backlog import Backlog
from edge.clock import Clock
from edge.committing.commits import Commits
from edge.committing.storing import Flight, Storing
from edge.committing.telling import Telling
from edge.control import ControlServer
from edge.health import Code, Troubles
from edge.ingest import Ingest
from edge.intake import Intake
from edge.mqtt.link import Link
from edge.outbox import Outbox
from edge.store.records import Committed, OrderResult, OrderStatus
from edge.succession import Succession
from edge.timekeeping import Timekeeper

log = logging.getLogger("anlin.node")


class AlarmPush(msgspec.Struct, frozen=True, tag_field="push", tag="alarm"):
    """A line for subscribers of the control socket."""

    number: int
    transition: str
    alarm: msgspec.Raw


class Acting(Protocol):
    """Through whom it has effects: the node. Its intake and commits change with a rebuild."""

    intake: Intake
    commits: Commits
    links: dict[Lane, Link]
    outbox: Outbox
    ingest: Ingest
    control: ControlServer | None
    positions: dict[str, int]
    rules: Succession
    store_error: str | None

    def fall_deaf(self, error: BaseException) -> None:
        """Have the engine rebuilt from the store; what is said until then comes again."""


class Effects:
    """One for the life of a node."""

    def __init__(
        self,
        node: Acting,
        telling: Telling,
        timekeeper: Timekeeper,
        backlog: Backlog,
        troubles: Troubles,
        clock: Clock,
    ) -> None:
        self._node = node
        self._telling = telling
        self._timekeeper = timekeeper
        self._backlog = backlog
        self._troubles = troubles
        self._clock = clock

    def committed(self, flight: Flight, committed: Committed, *, late: bool) -> None:
        """See `edge.committing.storing.Follower`."""
        node, batch = self._node, flight.batch
        if not late:
            self._release(flight)
        node.positions.update(batch.positions)
        if batch.rules is not None:
            node.rules.committed(batch.rules)
        self._telling.stored(flight, [change for _, change in committed.changes], late=late)
        if node.control is not None:
            for number, change in committed.changes:
                node.control.push(AlarmPush(number, change.transition, msgspec.Raw(change.alarm.wire())))
        if batch.outgoing:
            outgoing = batch.outgoing
            if late or flight.told:
                outgoing, done = self._telling.not_overtaken(flight, late=late)
                if done:
                    self.sent(done, [])
            node.outbox.add(self._timekeeper.postponed(outgoing))
        self._backlog.on_disk(batch.now)
        node.ingest.caught_up()

    def unstored(self, flight: Flight, *, let_go: bool) -> None:
        """See `edge.committing.storing.Follower`."""
        node = self._node
        node.outbox.add(self._timekeeper.postponed(self._telling.early(flight)))
        if let_go:
            self._release(flight)
            node.positions.update(flight.batch.positions)
            node.ingest.caught_up()

    def storing(self, storing: Storing, reason: str) -> None:
        """See `edge.committing.storing.Follower`."""
        node = self._node
        log.warning("the store", extra={"takes": storing.value, "reason": reason})
        node.store_error = reason if storing is Storing.NONE else None
        if storing is Storing.ALARMS:
            self._troubles.say(Code.STORE_REDUCED, f"readings are not stored: {reason}")
        else:
            self._troubles.over(Code.STORE_REDUCED)
        if storing is Storing.NONE:
            node.commits.owed.stored = frozenset(
                alarm.id for alarm in self._telling.board.values() if alarm.durable or alarm.version > 1
            )

    def failed(self, error: BaseException) -> None:
        """See `edge.committing.storing.Follower`."""
        self._node.fall_deaf(error)

    def sent(self, ids: Sequence[int], orders: Sequence[tuple[str, OrderStatus]]) -> None:
        """The broker has these rows, and that became of the orders among them; see `edge.outbox.Outbox`."""
        batch, now = self._node.intake.batch, self._clock.now_ms()
        batch.sent.extend(ids)
        batch.order_results.extend(OrderResult(order, status, None, now) for order, status in orders)
        self._node.commits.touched()

    def _release(self, flight: Flight) -> None:
        for (lane, connection), packet_ids in flight.acknowledgements.items():
            self._node.links[lane].acknowledge(connection, packet_ids)
