"""From what ran to what is judged: reads the journal, the control socket, the broker and the cloud store."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence

from edge.control_client import NodeAwayError
from edge.store.reader import JournalReader
from rules.alarms import Transition
from tests.chaos.ledger import Cause, GapRow, History, Raise, Said, Span, Telling
from tests.chaos.plan import PENDING, Fault, Step, Target, target_of
from tests.chaos.traffic import Danger
from tests.chaos.wires import wait_until
from tests.chaos.world import World
from tests.gateway import whole
from tests.wire import retained_alarms

CALM_MS = 6_000
"""After a fault a message may still come late for so long."""
LANES_APART_MS = 2_500
_DISTURBING = {Target.GATEWAY, Target.BROKER, Target.GATEWAY_NETWORK, Target.DEVICE_NETWORK}
_ENERGY = re.compile(rb"^charger,.*[ ,]energy=([0-9.]+)", re.MULTILINE)
_ALARM = re.compile(rb'^alarm,.*transition=([a-z]+).* id="([0-9A-Z]+)"', re.MULTILINE)


def boards_agree(world: World) -> bool:
    """Whether broker and gateway say the same of every alarm."""
    try:
        standing = {id_: each["version"] for id_, each in world.gateway.board().items()}
        return standing == {id_: each["version"] for id_, each in retained_alarms(world.broker.port).items()}
    except (NodeAwayError, OSError, AssertionError, KeyError):
        return False


def in_cloud(world: World) -> tuple[int, list[str]]:
    """How much of the journal must be in the cloud store, and what of it is not."""
    lines = world.cloud.lines
    energies = {int(float(number)) for number in _ENERGY.findall(lines)}
    alarms = {(transition.decode(), id_.decode()) for transition, id_ in _ALARM.findall(lines)}
    wanted = {
        int(reading.values["energy"])
        for reading in world.gateway.readings()
        if "/charger/" in reading.address and "energy" in reading.values and not reading.retained
    }
    changes = {(transition.value, id_) for transition, _, id_ in transitions(world)}
    missing = [f"reading {number}" for number in sorted(wanted - energies)]
    missing += [f"alarm {id_} {transition}" for transition, id_ in sorted(changes - alarms)]
    return len(wanted) + len(changes), missing


def transitions(world: World) -> list[tuple[Transition, str, str]]:
    """Of the journal: what happened, to which key and id."""
    found: list[tuple[Transition, str, str]] = []
    with world.journal() as reader:
        number = 0
        while changes := reader.changes_after(number, 1_000):
            found += [(change.transition, change.alarm.key, change.alarm.id) for _, change in changes]
            number = changes[-1][0]
    return found


def gaps(reader: JournalReader) -> list[GapRow]:
    """Every loss that the gateway has on record."""
    return [
        GapRow(gap.lane, gap.count, gap.from_ms, gap.to_ms, gap.reason.value)
        for _, gap in reader.gaps_after(0, 1_000)
    ]


def stored(world: World) -> Counter[int]:
    """How often the journal has each number."""
    found: Counter[int] = Counter()
    with world.journal() as reader:
        for batch in whole(reader):
            for given in batch.inputs:
                number = (getattr(given, "extra", None) or {}).get("n")
                if isinstance(number, int):
                    found[number] += 1
    return found


def close(world: World, steps: Sequence[Step], begun_ms: int, *, patience_s: float) -> History:
    """Wait, within reason, until everything is where it belongs, and write down what there is."""
    agreed = wait_until(lambda: boards_agree(world), patience_s)
    cloud = (0, ["nothing was looked at"])

    def forwarded() -> bool:
        nonlocal cloud
        cloud = in_cloud(world)
        return not cloud[1]

    wait_until(forwarded, patience_s)
    complaints = list(world.notes.complaints)
    try:
        health = world.gateway.ask("health")
        if health["status"] == "failed":
            complaints.append(f"it says at the end: {health['reasons']}")
        standing = {id_: (each["key"], each["version"]) for id_, each in world.gateway.board().items()}
    except (NodeAwayError, KeyError) as error:
        complaints.append(f"it does not answer at the end: {error}")
        standing = {}
    if "\nTraceback" in f"\n{world.gateway.stderr}":
        complaints.append("a traceback in its log")
    held = retained_alarms(world.broker.port) if not agreed or standing else {}
    raises = [
        Raise(key, id_, transition is Transition.RERAISED)
        for transition, key, id_ in transitions(world)
        if transition in (Transition.RAISED, Transition.RERAISED)
    ]
    with world.journal() as reader:
        owned = gaps(reader)
    return History(
        said=[
            Said(each.number, each.lane, each.acknowledged_ms, each.repeatable)
            for each in world.traffic.messages
            if each.acknowledged_ms is not None and not each.garbage
        ]
        + [Said(number, "safety", at, repeatable=True) for number, at in world.stormed.items()],
        stored=stored(world),
        causes=[_cause(world, danger, steps, begun_ms) for danger in world.traffic.dangers],
        raises=raises,
        told=[
            Telling(
                told.topic.rpartition("/")[2],
                told.body["key"] if told.body else None,
                told.body["version"] if told.body else 0,
                told.retained,
            )
            for told in world.ear.heard.alarms
        ],
        orders=_orders(world),
        standing=standing,
        retained={id_: (each["key"], each["version"]) for id_, each in held.items()},
        ended_by_people=world.notes.by_people,
        forgotten=_forgotten(world),
        gaps=owned,
        slack_ms=3_000 if world.clock is None else 10 * 365 * 86_400_000,
        cloud_missing=cloud[1],
        cloud_checked=cloud[0],
        reports_expected=Fault.BROKER_KILLED not in LOSSES_NOT_REPORTED,
        complaints=complaints,
    )


LOSSES_NOT_REPORTED: tuple[Fault, ...] = (Fault.BROKER_KILLED,)
"""Faults whose losses the gateway does not report yet."""

DELAYS_BY_ARRIVAL = bool(PENDING)
"""A delay is judged by when messages arrive, so a danger that ended before they came late raises nothing."""


def _forgotten(world: World) -> list[Span]:
    """What a killed broker may have lost: all since it saved itself last, and, its sessions gone with it, all until
    the gateway was there again (one lane a little later than the other).
    """
    online = world.ear.heard.online
    return [
        Span(saved, min((each for each in online if each >= back), default=back) + LANES_APART_MS)
        for saved, back in world.notes.deaths
    ]


def _orders(world: World) -> dict[tuple[str, str], set[str]]:
    heard: dict[tuple[str, str], set[str]] = defaultdict(set)
    for told in world.ear.heard.orders:
        device = told.topic.split("/")[1]
        if told.body is not None and device.startswith("d"):
            heard[device, told.body["command"]].add(told.body["id"])
    return heard


def _cause(world: World, danger: Danger, steps: Sequence[Step], begun_ms: int) -> Cause:
    messages = world.traffic.messages
    certain = True
    if danger.delay_s and danger.ending and DELAYS_BY_ARRIVAL:
        times = [messages[each].acknowledged_ms for each in (*danger.raising, *danger.ending)]
        known = [each for each in times if each is not None]
        span = Span(min(known, default=0), max(known, default=0))
        certain = not any(
            target_of(step.fault) in _DISTURBING
            and begun_ms + step.at_s * 1000 <= span.to_ms
            and begun_ms + step.until_s * 1000 + CALM_MS >= span.from_ms
            for step in steps
        )
    return Cause(
        danger.device,
        danger.keys,
        tuple(danger.raising),
        tuple(danger.ending),
        certain,
        danger.stands_after_end,
    )
