"""From what ran to what is judged: reads the journal, the control socket, the broker and the cloud store."""

import re
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from devices.readings import Reading
from edge.control_client import NodeAwayError, OrderRefusedError
from rules.alarms import Transition
from tests.chaos.ledger import Cause, GapRow, History, Raise, Said, Span, Telling, Verdict, judge
from tests.chaos.plan import Fault, Step, Target, target_of
from tests.chaos.traffic import Danger
from tests.chaos.wires import Told
from tests.chaos.world import World
from tests.wire import retained_alarms

CALM_MS = 6_000
"""After a fault a message may still come late for so long."""
LANES_APART_MS = 10_000
"""A lane without a session is subscribed again only after the other has been read (safety first)."""
LOOK_AGAIN_S = 1.0
TEN_YEARS_MS = 10 * 365 * 86_400_000
_DISTURBING = {Target.GATEWAY, Target.BROKER, Target.GATEWAY_NETWORK, Target.DEVICE_NETWORK}
_ENERGY = re.compile(rb"^charger,.*[ ,]energy=([0-9.]+)", re.MULTILINE)
_ALARM = re.compile(rb'^alarm,.*transition=([a-z]+).* id="([0-9A-Z]+)"', re.MULTILINE)


PENDING_REPORTS: tuple[Fault, ...] = ()
"""Faults whose losses the gateway does not report yet: the ledger forgives them unsaid."""

DELAYS_BY_ARRIVAL = True
"""A delay is judged by when messages arrive: a danger whose end came late, together with its begin, raises nothing.
False once delays are judged by event times (issue 3, stops and deadlines).
"""

REST_S = 4.0
"""Longer than the delay of any rule that dangers are staged for."""


class Books:
    """Reads on where it stopped, so that looking again and again at a long journal costs little."""

    def __init__(self, world: World, steps: Sequence[Step], begun_ms: int) -> None:
        self._world = world
        self._steps = steps
        self._begun_ms = begun_ms
        self._stored: Counter[int] = Counter()
        self._energies: set[int] = set()
        self._transitions: list[tuple[Transition, str, str]] = []
        self._seq = self._number = 0

    def close(self, patience_s: float) -> tuple[History, Verdict]:
        """Let everything come to rest, and judge: early if all is well, else when patience is at its end."""
        time.sleep(REST_S)  # what is raised twice is perhaps raised again only now
        deadline = time.monotonic() + patience_s
        while True:
            history = self.history()
            verdict = judge(history)
            if verdict.kept or time.monotonic() > deadline:
                return history, verdict
            time.sleep(LOOK_AGAIN_S)

    def history(self) -> History:
        """What there is now."""
        world = self._world
        self._read_journal()
        checked, missing = self._in_cloud()
        complaints = list(world.notes.complaints)
        standing: dict[str, tuple[str, int]] = {}
        try:
            health = world.gateway.ask("health")
            if health["status"] == "failed":
                complaints.append(f"it says at the end: {health['reasons']}")
            standing = _board(world.gateway.board())
        except (NodeAwayError, OrderRefusedError, KeyError) as error:
            complaints.append(f"it does not answer at the end: {error}")
        if "\nTraceback" in f"\n{world.gateway.stderr}":
            complaints.append("a traceback in its log")
        with world.journal() as reader:
            gaps = [
                GapRow(gap.lane, gap.count, gap.from_ms, gap.to_ms, gap.reason.value)
                for _, gap in reader.gaps_after(0, 1_000)
            ]
        return History(
            said=[
                Said(each.number, each.lane, each.acknowledged_ms, each.repeatable)
                for each in world.traffic.messages
                if each.acknowledged_ms is not None and not each.garbage
            ]
            + [Said(number, "safety", at, repeatable=True) for number, at in world.stormed.items()],
            stored=self._stored,
            causes=[self._cause(danger) for danger in world.traffic.dangers],
            raises=[
                Raise(key, id_, transition is Transition.RERAISED)
                for transition, key, id_ in self._transitions
                if transition in (Transition.RAISED, Transition.RERAISED)
            ],
            told=[_telling(told) for told in world.ear.heard.alarms],
            orders=_orders(world),
            standing=standing,
            retained=_board(retained_alarms(world.broker.port)),
            ended_by_people=world.notes.by_people,
            forgotten=_forgotten(world),
            gaps=gaps,
            slack_ms=3_000 if world.clock is None else TEN_YEARS_MS,
            cloud_missing=missing,
            cloud_checked=checked,
            reports_expected=Fault.BROKER_KILLED not in PENDING_REPORTS,
            complaints=complaints,
        )

    def _read_journal(self) -> None:
        with self._world.journal() as reader:
            while batches := reader.batches_after(self._seq, 10_000):
                self._seq = batches[-1].seq
                for given in (given for batch in batches for given in batch.inputs):
                    if not isinstance(given, Reading):
                        continue
                    number = (given.extra or {}).get("n")
                    if not isinstance(number, int):
                        continue
                    self._stored[number] += 1
                    if "/charger/" in given.address and "energy" in given.values and not given.retained:
                        self._energies.add(int(given.values["energy"]))
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
        changes = {(transition.value, id_) for transition, _, id_ in self._transitions}
        missing = [f"reading {number}" for number in sorted(self._energies - energies)]
        missing += [f"alarm {id_} {transition}" for transition, id_ in sorted(changes - alarms)]
        return len(self._energies) + len(changes), missing

    def _cause(self, danger: Danger) -> Cause:
        messages = self._world.traffic.messages
        certain = True
        if danger.delay_s and danger.ending and DELAYS_BY_ARRIVAL:
            times = [messages[each].acknowledged_ms for each in (*danger.raising, *danger.ending)]
            known = [each for each in times if each is not None]
            begun, ended = min(known, default=0), max(known, default=0)
            certain = not any(
                target_of(step.fault) in _DISTURBING
                and self._begun_ms + step.at_s * 1000 <= ended
                and self._begun_ms + step.until_s * 1000 + CALM_MS >= begun
                for step in self._steps
            )
        return Cause(
            danger.device,
            danger.keys,
            tuple(danger.raising),
            tuple(danger.ending),
            certain,
            danger.stands_after_end,
        )


def _board(alarms: Mapping[str, dict[str, Any]]) -> dict[str, tuple[str, int]]:
    return {id_: (alarm["key"], alarm["version"]) for id_, alarm in alarms.items()}


def _telling(told: Told) -> Telling:
    alarm_id = told.topic.rpartition("/")[2]
    if told.body is None:
        return Telling(alarm_id, None, 0)
    return Telling(alarm_id, told.body["key"], told.body["version"], told.retained)


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
