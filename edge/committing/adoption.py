"""Alarms that only the broker remembers: told with ``durable: false`` by a run that died before it could store them.

An alarm lost is the worst failure there is, so such an alarm goes back onto the board with the next version
and into the journal, if this gateway still has its rule. Otherwise it stays on the broker as it is, for
people to see. What the outbox finds on the broker it brings here.

What its device has said to this run may have come before that: where it ends the alarm, it does so now.
"""

import asyncio
import logging
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Protocol

import msgspec
from msgspec.structs import replace

from devices.readings import Address, Channel, Reading, Scalar, address_of
from devices.topics import LEVEL
from edge.clock import Clock
from edge.committing.commits import Commits
from edge.intake import Intake
from edge.store.errors import StoreError
from edge.store.journal import Journal
from edge.store.reader import JournalReader
from rules.alarms import MOMENTS, Alarm, AlarmChange, AlarmState, Transition, WireAlarm, alarm_key
from rules.decisions import Decision
from rules.definitions import Rule, RuleSet
from rules.plans import is_over, truth_of

log = logging.getLogger("anlin.adoption")

LOOK_UP_S = 1.5
"""So long may the store be asked; what it does not say stays on the broker, or on the board."""
COUNT_MOST = 2**53
"""Of versions and occurrences in an alarm that is adopted: they go on rising, and the store takes 64 bits."""
SAID_MOST = 20_000
"""Readings of this run that are looked through for what its device has said."""

_LATCHED = (AlarmState.LATCHED_UNACKED, AlarmState.LATCHED_ACKED)
_QUIET = frozenset({"shelved_until", "suppressed_by", "folded_into", "members"})
"""Why it was quiet is judged anew: it is told by itself."""

_decode = msgspec.json.Decoder(WireAlarm).decode


def adopted(payload: bytes, rules: RuleSet, now: int) -> AlarmChange | None:
    """The change that puts it back at ``now`` (Unix ms); None where its rule is gone or it makes no sense."""
    try:
        wire = _decode(payload)
        moments = {name: _ms(getattr(wire, name)) for name in MOMENTS}
    except (msgspec.MsgspecError, ValueError):
        return None
    rule = next((rule for rule in rules.rules if rule.id == wire.rule), None)
    if rule is None or rule.kind != wire.kind or wire.state is AlarmState.NORMAL or not _sound(wire):
        return None
    known = Alarm.__struct_fields__
    facts = {name: getattr(wire, name) for name in wire.__struct_fields__ if name in known} | moments
    alarm = Alarm(
        **{name: fact for name, fact in facts.items() if name not in _QUIET},
        active=wire.cleared_at is None,
        latched=rule.latch or wire.state in _LATCHED,
        ack_required=rule.ack_required_at(wire.severity),
        closable=rule.waits_for_a_person or wire.superseded is not None,
    )
    alarm = replace(alarm, version=alarm.version + 1, durable=True)
    return AlarmChange(Transition.RAISED, alarm, now) if alarm.on_board else None


def _sound(wire: WireAlarm) -> bool:
    """Whether it can be ours and be stored: whoever may write there could have left it, and it comes at every start."""
    if not (LEVEL.match(wire.id) and LEVEL.match(wire.device)):
        return False
    key = alarm_key(wire.rule, address_of(wire.site, wire.kind, wire.device), wire.track)
    counts = 0 < wire.version <= COUNT_MOST and 0 < wire.occurrences <= COUNT_MOST
    numbers = (n for n in (wire.source_time, wire.received_at, *wire.values.values()) if isinstance(n, int))
    return wire.key == key and counts and all(-(2**63) <= n < 2**63 for n in numbers)


def _is_fold(payload: bytes) -> bool:
    try:
        return _decode(payload).members is not None
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return False


def has_ended(rule: Rule, track: str | None, said: Iterable[Reading]) -> bool:
    """Whether what its device ``said``, in order, has ended an alarm. What was not said ends nothing."""
    points: dict[str, Scalar] = {}
    ended = False
    for reading in said:
        if reading.channel is Channel.TELEMETRY:
            points.update(reading.values)
        elif reading.channel is not Channel.EVENT or (track and reading.values.get("track") != track):
            continue
        view = {**points, **reading.values}
        truth = truth_of(rule, view)
        ended = not truth and (ended or is_over(rule, truth, view, raised=True))
    return ended


def _ms(at: str | None) -> int | None:
    return None if at is None else round(datetime.fromisoformat(at).timestamp() * 1000)


class Adopter(Protocol):
    """On whose board it goes: the node. Its engine changes with a rebuild, and takes nothing while `deaf`."""

    deaf: bool
    intake: Intake
    commits: Commits
    journal: Journal

    @property
    def board(self) -> dict[str, Alarm]:
        """Standing alarms by id, as told."""

    def follow(self, decision: Decision) -> None:
        """Put what must follow into the open batch."""

    async def saved(self) -> bool:
        """Wait until everything said so far is on disk; false if it had to be let go without."""


class Adoption:
    """Decides about retained alarms of ours that say they were never on disk, and do not stand.

    ``begun``: the last batch of the journal before this run.
    """

    def __init__(self, node: Adopter, clock: Clock, *, begun: int) -> None:
        self._node = node
        self._clock = clock
        self._begun = begun

    async def adopt(self, payloads: Sequence[bytes]) -> list[bool | None]:
        """Which are to stay on the broker, None while nobody can know; see `edge.outbox.Outbox`.

        They may come onto the board by this.
        """
        back: list[Alarm] = []
        stay = [await self._stays(payload, back) for payload in payloads]
        if back:
            await self._end_what_has_ended(back)
        return stay

    async def _stays(self, payload: bytes, back: list[Alarm]) -> bool | None:
        """Whether it is to stay on the broker, None while nobody can know; in ``back`` if it stands again."""
        node = self._node
        if _is_fold(payload):
            return False  # it follows from its members, which are told by themselves
        change = adopted(payload, node.intake.engine.rules, self._clock.now_ms())
        if change is None:
            log.error(
                "an alarm on the broker was never stored, and its rule is gone or it makes no sense; it stays there"
            )
            return True
        alarm = change.alarm
        try:
            known = await asyncio.wait_for(
                asyncio.to_thread(_last_version, node.journal.path, alarm.id), LOOK_UP_S
            )
        except (StoreError, TimeoutError):
            return None
        state = node.intake.state
        standing = state.alarms.get(alarm.key)
        if node.deaf or known >= alarm.version or (standing is None and known and alarm.id not in node.board):
            return False  # it was stored since, and has ended
        if alarm.id not in node.board and node.commits.owed.tells_of(alarm.id):
            return False  # it has ended in this run
        if standing is not None and (standing.id != alarm.id or standing.version >= alarm.version):
            return standing.id == alarm.id
        log.warning("an alarm that was told and never stored stands again", extra={"alarm": alarm.key})
        node.intake.engine.adopt(
            state, [*(each for each in state.alarms.values() if each.key != alarm.key), alarm]
        )
        if known:
            change = replace(change, transition=Transition.CHANGED)
        node.follow(Decision((change,)))
        back.append(alarm)
        return True

    async def _end_what_has_ended(self, back: Iterable[Alarm]) -> None:
        """What their devices had said to this run before they stood again ends them now."""
        node = self._node
        addresses = {alarm.address for alarm in back}
        try:
            async with asyncio.timeout(LOOK_UP_S):
                await node.saved()
                said = await asyncio.to_thread(_said_by, node.journal.path, addresses, self._begun)
        except (StoreError, TimeoutError):
            return
        if node.deaf:
            return
        engine, state = node.intake.engine, node.intake.state
        rules = {rule.id: rule for rule in engine.rules.rules}
        for alarm in back:
            rule = rules.get(alarm.rule)
            if rule is None or state.alarms.get(alarm.key) != alarm or not alarm.active:
                continue
            if has_ended(rule, alarm.track, said[alarm.address]):
                node.follow(engine.end(state, alarm, self._clock.now_ms()))


def _last_version(path: Path, alarm_id: str) -> int:
    with JournalReader(path) as reader:
        alarm = reader.alarm(alarm_id)
    return alarm.version if alarm is not None else 0


def _said_by(path: Path, addresses: Collection[Address], after_seq: int) -> dict[Address, list[Reading]]:
    found: dict[Address, list[Reading]] = {address: [] for address in addresses}
    looked = 0
    with JournalReader(path) as reader:
        while looked < SAID_MOST and (batches := reader.batches_after(after_seq, SAID_MOST // 10)):
            after_seq = batches[-1].seq
            for given in (given for batch in batches for given in batch.inputs):
                looked += 1
                if isinstance(given, Reading) and given.address in addresses and not given.retained:
                    found[given.address].append(given)
    return found
