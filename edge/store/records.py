"""What one commit holds, and what a restart finds. Values only."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import msgspec

from devices.readings import Address
from devices.topics import Lane
from edge.store.inputs import Inputs
from rules.alarms import Alarm, AlarmChange
from rules.decisions import Input, Order

Marks = dict[Lane, list[int]]
"""By lane: packet identifier, fingerprint, and so on in turn, of messages that are in a batch; for recognising
their redelivery. A flat list, because every message makes one.
"""


def no_marks() -> Marks:
    """Empty lists for every lane."""
    return {lane: [] for lane in Lane}


RecentId = tuple[str, int, int]
"""A message's name, its fingerprint and its arrival (Unix ms), as `devices.duplicates` remembers them."""


class OutgoingKind(StrEnum):
    """Why something is published."""

    ALARM = "alarm"
    ORDER = "order"


class Outgoing(msgspec.Struct, frozen=True):
    """A publication that must follow the commit: a row of the outbox until the broker has acknowledged it."""

    id: int
    """Assigned by the node, rising; publications leave in this order."""
    kind: OutgoingKind
    subject: str
    """Alarm id or order id."""
    topic: str
    payload: bytes
    retain: bool
    expires_at: int | None = None
    """Unix ms; never sent after it."""

    def postponed(self, by_ms: int) -> "Outgoing":
        """An order with so much more time (less, below zero), as the device is told it; else as it is."""
        if self.expires_at is None:
            return self
        expires_at = self.expires_at + by_ms
        command = msgspec.json.decode(self.payload, type=dict[str, msgspec.Raw])
        command["expires_at"] = msgspec.Raw(str(expires_at).encode())
        return msgspec.structs.replace(self, payload=msgspec.json.encode(command), expires_at=expires_at)


class OrderStatus(StrEnum):
    """What has become of an order."""

    PENDING = "pending"
    SENT = "sent"
    """The broker has acknowledged it; the device has not answered."""
    DONE = "done"
    REJECTED = "rejected"
    FAILED = "failed"
    EXPIRED = "expired"
    """Its time ran out before it could be sent."""


class OrderResult(msgspec.Struct, frozen=True):
    """News of an order. `SENT` and `EXPIRED` count while it is pending; what a device answers, always."""

    order_id: str
    status: OrderStatus
    detail: str | None
    at: int


class OrderRecord(msgspec.Struct, frozen=True):
    """An order and its fate."""

    order: Order
    status: OrderStatus
    detail: str | None
    at: int
    """Unix ms of the last news."""


class Quarantined(msgspec.Struct, frozen=True):
    """A rejected message, kept for a person to look at."""

    at: int
    topic: str
    reason: str
    detail: str
    payload: bytes
    """Whole up to 64 KiB, else its first 4 KiB."""
    size: int
    sha256: str


class GapReason(StrEnum):
    """Why something is missing: a closed list (docs/promises.md)."""

    JOURNAL_FULL = "journal_full"
    """Removed by the byte bound before it was forwarded."""
    BROKER_DROPPED = "broker_dropped"
    """The broker says that it dropped messages for want of room."""
    SESSION_LOST = "session_lost"
    """The broker no longer had our session: what waited in it is gone, how much nobody knows."""
    STORE_FAILED = "store_failed"
    """Judged and acknowledged while the store could not be written."""
    STORE_DAMAGED = "store_damaged"
    """Could not be read back from a damaged journal."""
    CLOUD_REFUSED = "cloud_refused"
    """The cloud store refused it for good; it lies among the dead letters."""
    THROTTLED = "throttled"
    """A device said more than it may; only what saves lives was taken."""


class Gap(msgspec.Struct, frozen=True):
    """A known loss, as data."""

    at: int
    lane: str
    """`safety` or `bulk` for messages that never came in (`any` where it is not known which), `readings` or
    `alarms` for what the journal or the cloud lacks."""
    count: int
    """How many; 0 where nobody can know."""
    from_ms: int
    to_ms: int
    reason: GapReason


class DeadLetter(msgspec.Struct, frozen=True):
    """A line that the cloud store refused for good, with its words."""

    at: int
    feed: str
    line: str
    status: int
    words: str


class ClockSet(msgspec.Struct, frozen=True):
    """The clock was set with this batch: what the store has to move (`edge.store.corrections`)."""

    by_ms: int
    postpone_ms: int
    """Of orders that wait: what of it did not really pass."""
    since: int | None
    """Times from here on were provisional; None where none were."""


class RuleDocument(msgspec.Struct, frozen=True, array_like=True):
    """A rule file as it was when its rules came into force."""

    file: str
    """How people call it: its path; of a shipped pack, ``rules/packs/…``."""
    text: str
    pack: bool = False
    """It came with Anlin."""
    configured: bool = False
    """The configuration names it."""


class KeptRules(msgspec.Struct, frozen=True):
    """A rule set that was in force, or is: the newest."""

    hash: str
    """Of what the rules mean (`rules.definitions.RuleSet`)."""
    at: int
    """Since when (Unix ms)."""
    documents: tuple[RuleDocument, ...]


class Snapshot(msgspec.Struct, frozen=True):
    """The engine's state after the batch it is committed with; devices that did not change are left out."""

    rules_hash: str
    header: bytes
    devices: Sequence[tuple[Address, bytes]]


@dataclass(slots=True)
class Batch:
    """One transaction. Everything in it is on disk, or nothing is."""

    seq: int
    """Rising by one from batch to batch; the journal's position."""
    now: int = 0
    """The engine's time after its last input (Unix ms); replay runs the engine's deadlines up to it."""
    inputs: Inputs = field(default_factory=Inputs)
    packets: Marks = field(default_factory=no_marks)
    recent: list[RecentId] = field(default_factory=list)
    """Of those inputs whose message has a name (`devices.duplicates.name_of`); after a need also of those before."""
    changes: list[AlarmChange] = field(default_factory=list)
    outgoing: list[Outgoing] = field(default_factory=list)
    orders: list[Order] = field(default_factory=list)
    """Orders given, for the record; what is sent for them is in `outgoing`."""
    order_results: list[OrderResult] = field(default_factory=list)
    sent: list[int] = field(default_factory=list)
    """Outbox rows that the broker has acknowledged, or that have expired."""
    sessions_begun: list[Lane] = field(default_factory=list)
    """Lanes whose MQTT session began anew: packet marks of older batches mean nothing any more."""
    positions: dict[str, int] = field(default_factory=dict)
    """How far each reader of the journal has come (`readings`, `alarms`)."""
    quarantined: list[Quarantined] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    clock_sets: list[ClockSet] = field(default_factory=list)
    """Concern what is on disk before this batch; its own rows are right."""
    snapshot: Snapshot | None = None
    rules: KeptRules | None = None
    """The rules in force from here on; with every snapshot, written where they are not the newest on disk."""
    doubts: list[int] = field(default_factory=list)
    """Batches that failed and whose content is in this one: where one of them is on disk all the same, nothing
    of it is written twice."""
    repeats: int | None = None
    """The one of its doubts that has the same inputs."""

    @property
    def empty(self) -> bool:
        """Nothing to commit."""
        return not (
            self.inputs or any(self.packets.values()) or self.changes or self.outgoing or self.sent or self.positions
            or self.orders or self.order_results or self.sessions_begun or self.quarantined or self.gaps
            or self.dead_letters or self.snapshot or self.rules
        )  # fmt: skip

    @property
    def urgent(self) -> bool:
        """Somebody waits for what follows from it: the store does no housekeeping before it."""
        return bool(self.changes or self.outgoing or self.orders)


class Committed(msgspec.Struct, frozen=True):
    """What the store says of a commit."""

    seq: int
    changes: list[tuple[int, AlarmChange]]
    """Each alarm change with its journal number (the id of its server-sent event)."""
    landed: list[int] = []
    """Of the batch's doubts, those that are on disk after all."""


class ReplayBatch(msgspec.Struct, frozen=True):
    """A batch as replay needs it."""

    seq: int
    now: int
    inputs: list[Input]


class Recovered(msgspec.Struct, frozen=True):
    """What a restart starts from. The batches after `snapshot_seq` are read apart, in order."""

    last_seq: int
    last_now: int
    last_outgoing_id: int
    snapshot_seq: int
    rules_hash: str | None
    """Under which the batches after the snapshot were judged."""
    rules: KeptRules | None
    """The rules in force; None in a journal that keeps none yet."""
    header: bytes | None
    devices: list[tuple[Address, bytes]]
    alarms: list[Alarm]
    """The standing alarms: committed facts."""
    departed: list[Alarm]
    """Those that have left the board since the snapshot."""
    outgoing: list[Outgoing]
    """What is still to be published, in order."""
    packets: Marks
    """Of the sessions that go on, oldest first, at most 8,192 a lane."""
    positions: dict[str, int]
