"""From what ran to what is judged: reads the journal, the control socket, the broker and the cloud store."""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from threading import Event
from typing import Any

from devices.duplicates import WINDOW_MS
from devices.readings import Reading
from edge.control_client import NodeAwayError, OrderRefusedError
from edge.health import Code
from edge.store.records import GapReason
from rules.alarms import Transition
from rules.decisions import ClockStepped
from tests.chaos.ledger import Cause, GapRow, History, Raise, Said, Span, Telling, Verdict, judge
from tests.chaos.plan import Fault, Step, Target, target_of
from tests.chaos.traffic import REFUSED, Danger
from tests.chaos.wires import Told
from tests.chaos.world import World
from tests.waiting import looks
from tests.wire import retained_alarms

CALM_MS = 6_000
"""After a fault a message may still come late for so long."""
LANES_APART_MS = 10_000
"""A lane without a session is subscribed again only after the other has been read (safety first)."""
LOOK_AGAIN_S = 1.0
MARGIN_MS = 1_000
PROBED_MS = 9_000
"""A store that failed is tried again at the latest after so long (`edge.committing.ladder.PROBE_S`)."""
STORM_MS = 20_000
"""A device of a storm waits so long for its acknowledgement."""
OK = 200
TEN_YEARS_MS = 10 * 365 * 86_400_000
_CUTTING = {Target.BROKER, Target.GATEWAY_NETWORK}
_DISTURBING = {Target.GATEWAY, Target.BROKER, Target.GATEWAY_NETWORK, Target.DEVICE_NETWORK}
_UNWRITABLE = {
    Fault.DISK_FULL,
    Fault.DISK_READ_ONLY,
    Fault.DISK_FAILING,
    Fault.SYNC_HANGS,
}
_ENERGY = re.compile(rb"^charger,.*[ ,]energy=([0-9.]+)", re.MULTILINE)
_GAP = re.compile(
    rb'^gap,.*lane=([a-z]+).* count=(\d+)i?,from=(\d+)i?,to=(\d+)i?,(?:.*,)?reason="([a-z_]+)"', re.MULTILINE
)
_ALARM = re.compile(rb'^alarm,.*transition=([a-z]+).* id="([0-9A-Z]+)"', re.MULTILINE)


REST_S = 4.0
"""Longer than the delay of any rule that dangers are staged for."""


class Books:
    """Reads on where it stopped, so that looking again and again at a long journal costs little."""

    def __init__(self, world: World, steps: Sequence[Step], begun_ms: int) -> None:
        self._world = world
        self._steps = steps
        self._begun_ms = begun_ms
        self._disturbed = sorted(
            (int(begun_ms + step.at_s * 1_000), int(begun_ms + step.until_s * 1_000 + CALM_MS))
            for step in steps
            if target_of(step.fault) in _DISTURBING
        )
        self._clock_wrong = [
            Span(int(begun_ms + step.at_s * 1_000), int(begun_ms + step.until_s * 1_000 + CALM_MS))
            for step in steps
            if step.fault.startswith("clock")
        ]
        self._gaps: list[GapRow] = []
        self._uncounted = 0
        """Refused for good within the last minute: no row counts it yet."""
        self._stored: Counter[int] = Counter()
        self._came_late: Counter[int] = Counter()
        self._last: dict[int, int] = {}
        """When each number came last, by the gateway's clock as if nobody had ever set it (Unix ms)."""
        self._set_by = 0
        self._energies: set[int] = set()
        self._refused: set[int] = set()
        """Energies that the cloud store never takes."""
        self._transitions: list[tuple[Transition, str, str]] = []
        self._seq = self._number = 0

    def close(self, patience_s: float) -> tuple[History, Verdict]:
        """Let everything come to rest, and judge: early if all is well, else when patience is at its end."""
        Event().wait(REST_S)  # what is raised twice is perhaps raised again only now
        history = self.history()
        for _ in looks(patience_s, LOOK_AGAIN_S):
            if judge(history).kept:
                break
            history = self.history()
        return history, judge(history)

    def history(self) -> History:
        """What there is now."""
        world = self._world
        self._read_journal()
        with world.journal() as reader:
            self._gaps = [
                GapRow(gap.lane, gap.count, gap.from_ms, gap.to_ms, gap.reason.value)
                for _, gap in reader.gaps_after(0, 10_000)
            ]
            self._uncounted = reader.positions().get("refused.readings.count", 0)
        checked, missing = self._in_cloud()
        complaints = list(world.notes.complaints)
        standing: dict[str, tuple[str, int]] = {}
        retained = retained_alarms(world.broker.port)
        left_over: list[str] = []
        try:
            health = world.gateway.ask("health")
            if health["status"] == "failed":
                complaints.append(f"it says at the end: {health['reasons']}")
            board = world.gateway.board()
            standing = _board(board)
            left_over = self._left_over(health, board, retained)
        except (NodeAwayError, OrderRefusedError, KeyError) as error:
            complaints.append(f"it does not answer at the end: {error}")
        if world.notes.rivals and not any(target_of(step.fault) in _CUTTING for step in self._steps):
            complaints.append("it took something else for a second gateway of its name")
        if "\nTraceback" in f"\n{world.gateway.stderr}":
            complaints.append("a traceback in its log")
        return History(
            said=[
                Said(
                    each.number,
                    each.lane,
                    each.acknowledged_ms,
                    each.repeatable,
                    each.sent_ms,
                    self._arrived_by(each.acknowledged_ms),
                    each.babbling,
                )
                for each in world.traffic.messages
                if each.acknowledged_ms is not None and not each.garbage
            ]
            + [
                Said(number, "safety", at, True, at - STORM_MS, self._arrived_by(at))
                for number, at in world.stormed.items()
            ],
            stored=self._stored,
            came_late=+self._came_late,
            causes=[self._cause(danger) for danger in world.traffic.dangers],
            raises=[
                Raise(key, id_, transition is Transition.RERAISED)
                for transition, key, id_ in self._transitions
                if transition in (Transition.RAISED, Transition.RERAISED)
            ],
            told=[_telling(told) for told in world.ear.heard.alarms],
            orders=_orders(world),
            standing=standing,
            retained=_board(retained),
            ended_by_people=world.notes.by_people,
            forgotten=_forgotten(world),
            gaps=self._gaps,
            crashes=world.notes.crashes,
            rivals=world.notes.rivals,
            unwritable=self._unwritable(),
            left_over=left_over,
            slack_ms=500 if world.clock is None else TEN_YEARS_MS,
            cloud_missing=missing,
            cloud_checked=checked,
            complaints=complaints,
        )

    def _read_journal(self) -> None:
        with self._world.journal() as reader:
            while batches := reader.batches_after(self._seq, 10_000):
                self._seq = batches[-1].seq
                for given in (given for batch in batches for given in batch.inputs):
                    if isinstance(given, ClockStepped):
                        self._set_by += given.by_ms
                    if not isinstance(given, Reading):
                        continue
                    number = (given.extra or {}).get("n")
                    if not isinstance(number, int):
                        continue
                    self._stored[number] += 1
                    at = given.received_at - self._set_by
                    self._came_late[number] += at - self._last.get(number, at) > WINDOW_MS
                    self._last[number] = at
                    if "/charger/" in given.address and "energy" in given.values and not given.retained:
                        energies = self._refused if given.address.endswith(f"/{REFUSED}") else self._energies
                        energies.add(int(given.values["energy"]))
            while changes := reader.changes_after(self._number, 1_000):
                self._number = changes[-1][0]
                self._transitions += [
                    (change.transition, change.alarm.key, change.alarm.id) for _, change in changes
                ]

    def _in_cloud(self) -> tuple[int, list[str]]:
        """How much of the journal must be in the cloud store, and what of it is not."""
        lines = self._world.cloud.lines
        energies = {int(float(number)) for number in _ENERGY.findall(lines)}
        alarms = {(transition.decode(), id_.decode()) for transition, id_ in _ALARM.findall(lines)}
        changes = {
            (transition.value, id_)
            for transition, key, id_ in self._transitions
            if transition is not Transition.CORRECTED  # those before it are sent right
            and not key.endswith(f"/{REFUSED}")
        }
        missing = [f"reading {number}" for number in sorted(self._energies - energies)]
        missing += [f"alarm {id_} {transition}" for transition, id_ in sorted(changes - alarms)]
        told = (
            sum(gap.losses for gap in self._gaps if gap.reason == GapReason.CLOUD_REFUSED) + self._uncounted
        )
        if told < len(self._refused):
            missing.append(
                f"{len(self._refused)} readings were refused for good, and of {told} that is on record"
            )
        sent = Counter(_GAP.findall(lines))
        held: Counter[tuple[bytes, ...]] = Counter()
        for gap in self._gaps:
            figures = (gap.losses, gap.from_ms, gap.to_ms)
            held[gap.lane.encode(), *(b"%d" % each for each in figures), gap.reason.encode()] += 1
        if self._world.clock is not None:  # a gap may be sent before its times are corrected
            sent, held = _timeless(sent), _timeless(held)
        missing += [f"gap {b' '.join(gap).decode()}" for gap in (held - sent).elements()]
        checked = len(self._energies) + len(self._refused) + len(changes) + held.total()
        return checked, missing

    def _left_over(
        self, health: Mapping[str, Any], board: Mapping[str, Any], retained: Mapping[str, Any]
    ) -> list[str]:
        """What should have passed."""
        lasting: set[str] = set()
        if any(step.fault is Fault.BROKER_KILLED for step in self._steps):
            lasting = {Code.SESSION_LOST}  # until the session is resumed once, or for a day
        over = [f"trouble {each['code']}" for each in health["reasons"] if each["code"] not in lasting]
        status, _ = self._world.gateway.get("/healthz")
        if status != OK:
            over.append(f"/healthz answers {status}")
        for where, alarms in (("stands", board), ("is retained", retained)):
            for id_, alarm in alarms.items():
                over += [
                    f"{alarm['key']} ({id_}) {where} with {name}: {alarm[name]}"
                    for name, wrong in (("durable", False), ("provisional", True))
                    if alarm.get(name) is wrong
                ]
        lasting_rules = {f"gateway-{code.replace('_', '-')}" for code in lasting}
        lasting_rules.add("alarm-flood")  # until fewer than five came in ten minutes
        over += [
            f"{alarm['key']} is not cleared"
            for alarm in board.values()
            if alarm["kind"] == "gateway" and not alarm["cleared_at"] and alarm["rule"] not in lasting_rules
        ]
        return over

    def _unwritable(self) -> list[Span]:
        return [
            Span(
                int(self._begun_ms + step.at_s * 1_000),
                int(self._begun_ms + step.until_s * 1_000 + PROBED_MS),
            )
            for step in self._steps
            if step.fault in _UNWRITABLE
        ]

    def _cause(self, danger: Danger) -> Cause:
        return Cause(
            danger.device,
            danger.keys,
            tuple(danger.raising),
            tuple(danger.ending),
            danger.stands_after_end,
            not danger.delay_s or not danger.ending or self._lasted(danger),
        )

    def _lasted(self, danger: Danger) -> bool:
        """Whether the gateway must see that it lasted: by its device's times, or as it met what was said."""
        messages = self._world.traffic.messages
        begun = [
            self._arrived_by(at)
            for each in danger.raising
            if (at := messages[each].acknowledged_ms) is not None
        ]
        ended = [at for each in danger.ending if (at := messages[each].sent_ms) is not None]
        if not begun or not ended or self._are_times_believed(danger):
            return True
        return min(ended) - max(begun) > danger.delay_s * 1_000 + MARGIN_MS

    def _are_times_believed(self, danger: Danger) -> bool:
        """Whether the gateway had the right time when it met what is said of a danger."""
        messages = [self._world.traffic.messages[each] for each in (*danger.raising, *danger.ending)]
        first = min(each.sent_ms or 0 for each in messages)
        last = max(self._arrived_by(each.acknowledged_ms or 0) for each in messages)
        return not any(span.from_ms <= last and first <= span.to_ms for span in self._clock_wrong)

    def _arrived_by(self, at_ms: int) -> int:
        """When the gateway has certainly met what the broker had at ``at_ms``."""
        by = at_ms
        for begin, end in self._disturbed:
            if begin <= by <= end:
                by = end
        return by


def _timeless(gaps: Counter[tuple[bytes, ...]]) -> Counter[tuple[bytes, ...]]:
    without: Counter[tuple[bytes, ...]] = Counter()
    for (lane, losses, _, _, reason), count in gaps.items():
        without[lane, losses, reason] += count
    return without


def _board(alarms: Mapping[str, dict[str, Any]]) -> dict[str, tuple[str, int]]:
    return {id_: (alarm["key"], alarm["version"]) for id_, alarm in alarms.items()}


def _telling(told: Told) -> Telling:
    alarm_id = told.topic.rpartition("/")[2]
    if told.body is None:
        return Telling(alarm_id, None, 0, at_ms=told.at_ms)
    return Telling(alarm_id, told.body["key"], told.body["version"], told.retained, told.at_ms)


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
