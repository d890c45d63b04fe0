"""Batches for the tests of the store: every value in them follows from the batch's number."""

from devices.readings import Address, Channel, Reading
from devices.topics import Lane
from edge.store.inputs import Inputs
from edge.store.records import (
    Batch,
    DeadLetter,
    Gap,
    GapReason,
    KeptRules,
    Outgoing,
    OutgoingKind,
    Quarantined,
    RuleDocument,
    Snapshot,
)
from rules.alarms import Alarm, AlarmChange, Severity, Transition
from rules.decisions import Order

START = 1_790_000_000_000
STEP_MS = 250


def time_of(seq: int) -> int:
    return START + seq * STEP_MS


def reading(seq: int, number: int) -> Reading:
    return Reading(
        Channel.TELEMETRY,
        Address(f"c1/charger/shed1-p{number:04}"),
        {
            "temperature": 20 + (seq * 7919 + number * 104_729) % 100_003 / 1000,
            "status": "Charging",
            "power": seq,
        },
        time_of(seq) - number % 200,
        time_of(seq),
        0,
        f"{seq}-{number}",
    )


def readings_of(seq: int, size: int) -> list[Reading]:
    return [reading(seq, number) for number in range(size)]


def alarm(seq: int) -> Alarm:
    at = time_of(seq)
    return Alarm(
        id=f"A{seq:025}",
        key=f"charger-hot:c1/charger/shed1-p{seq:04}",
        rule="charger-hot",
        severity=Severity.HIGH,
        site="c1",
        node="gw-1",
        kind="charger",
        device=f"shed1-p{seq:04}",
        place={"building": "shed-1"},
        text={"en": f"Charging port shed1-p{seq:04} is at 70 °C", "zh": f"充电口 shed1-p{seq:04} 温度 70 ℃"},
        values={"temperature": 70.5, "status": "Charging"},
        source_time=at,
        received_at=at,
        first_raised_at=at,
        raised_at=at,
    )


def order(seq: int) -> Order:
    address = Address(f"c1/charger/shed1-p{seq:04}")
    return Order(
        f"O{seq:025}",
        f"A{seq:025}",
        address,
        "cut_power",
        {"seconds": 5},
        time_of(seq),
        time_of(seq) + 60_000,
        "Wang",
    )


def quarantined(seq: int, payload: bytes = b"{") -> Quarantined:
    return Quarantined(
        time_of(seq), f"community/c1/smoke/{seq}/telemetry", "malformed", "why", payload, 1, "00"
    )


def gap(seq: int) -> Gap:
    return Gap(time_of(seq), "bulk", seq, time_of(seq) - 10, time_of(seq), GapReason.BROKER_DROPPED)


def dead_letter(seq: int) -> DeadLetter:
    return DeadLetter(time_of(seq), "readings", f"charger power={seq}", 400, "why")


def kept_rules(seq: int) -> KeptRules:
    return KeptRules(f"rules-{seq}", time_of(seq), (RuleDocument("mine.yaml", f"rules: []  # {seq} 规则"),))


def telemetry(seq: int, size: int = 50) -> Batch:
    """A typical batch: readings and nothing that follows from them."""
    inputs = readings_of(seq, size)
    return Batch(
        seq,
        now=time_of(seq),
        inputs=Inputs(inputs),
        packets={
            Lane.BULK: [x for n in range(size) for x in (1 + (seq * size + n) % 65_535, seq * size + n)]
        },
        recent=[(each.id or "", 1_000 * seq + n, each.received_at) for n, each in enumerate(inputs)],
    )


def alarming(seq: int, size: int = 1) -> Batch:
    """A batch with an alarm that is to be published."""
    batch = telemetry(seq, size)
    raised = alarm(seq)
    batch.changes = [AlarmChange(Transition.RAISED, raised, time_of(seq))]
    batch.outgoing = [
        Outgoing(
            seq, OutgoingKind.ALARM, raised.id, f"community/c1/alarm/{raised.id}", raised.wire(), retain=True
        )
    ]
    return batch


def everything(seq: int, size: int = 3) -> Batch:
    """A batch that writes to every table."""
    batch = alarming(seq, size)
    batch.sessions_begun = [Lane.SAFETY]
    batch.orders = [order(seq)]
    batch.positions = {"readings": seq - 1, "alarms": seq}
    batch.quarantined = [quarantined(seq)]
    batch.gaps = [gap(seq)]
    batch.dead_letters = [dead_letter(seq)]
    batch.snapshot = Snapshot(
        f"rules-{seq}", b"header-%d" % seq, [(Address(f"c1/charger/{seq}"), b"state-%d" % seq)]
    )
    batch.rules = kept_rules(seq)
    return batch
