"""Half an hour under load with faults: memory and file descriptors must stay flat, nothing may be lost.

``python -m bench soak`` prints its figures and draws ``bench/soak.svg``; it is not part of ``make bench``.
The node lives through it all, so that what it holds can be seen to stay; what is killed is around it.
"""

import random
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.drawing import Line, draw
from bench.figures import Figure, Tell, at_most, exactly, percentile
from bench.gateway import ROOT, Gateway
from bench.world import Scale, World, until, world
from edge.store.reader import JournalReader
from edge.store.schema import FILE

NAME = "soak"
PICTURE = ROOT / "bench" / "soak.svg"
EVERY_S = 2.0
WHOLE_S = 1_800.0
"""A shorter one draws no picture that is kept."""

FAULT_EVERY_S = 60.0
QUICK_S = 10.0
"""Less than this must not lie between two faults, however short the soak."""

FROZEN_S = 5.0
WARM = 0.2
"""Share of the time after which memory counts as what it costs to be there."""

GROWTH_MB = 10.0
GROWTH_FILES = 10


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at the gateway found; memory in MB."""

    at: float
    memory: Mapping[str, float]
    files: Mapping[str, int]


def run(folder: Path, scale: Scale, tell: Tell, profile: Path | None) -> None:
    """Load, break, look; then compare the ledger with journal and store."""
    rng = random.Random(1)
    looks: list[Look] = []
    struck: list[tuple[float, str]] = []
    with world(folder, profile) as here:
        gateway = here.gateway
        gateway.start()
        gateway.ready()
        pid = gateway.family()["node"].pid
        with here.publishing(scale.soak_rate):
            began = time.monotonic()
            every_s = max(QUICK_S, min(FAULT_EVERY_S, scale.soak_s / 30))
            next_fault = every_s
            while (passed := time.monotonic() - began) < scale.soak_s:
                looks.append(_look(gateway, passed))
                if passed >= next_fault:
                    name = rng.choice(list(_FAULTS))
                    struck.append((passed, name))
                    _FAULTS[name](here)
                    next_fault += every_s
                time.sleep(EVERY_S)
        here.settle()
        same = gateway.family()["node"].pid == pid
        gateway.stop()
        verdict = here.compared(store=True)
        left_out = _on_record(gateway)
    picture = PICTURE if scale.soak_s >= WHOLE_S else folder / PICTURE.name
    picture.write_text(_picture(looks, struck))
    tell(Figure(NAME, "messages", verdict.acknowledged, "messages"))
    tell(Figure(NAME, "time", looks[-1].at / 60, "minutes"))
    for name in sorted({name for _, name in struck}):
        tell(Figure(NAME, f"fault: {name}", sum(each == name for _, each in struck), "times"))
    tell(Figure(NAME, "the node began anew", int(not same), "times", exactly(0)))
    for role in ("node", "web", "bridge"):
        _tell_growth(tell, role, looks)
    recorded = sum(left_out.values())
    for reason, count in sorted(left_out.items()):
        tell(Figure(NAME, f"left out and on record: {reason}", count, "messages"))
    unrecorded = max(0, verdict.missing_in_journal - recorded)
    tell(Figure(NAME, "not in the journal", verdict.missing_in_journal, "messages"))
    tell(Figure(NAME, "not in the journal and on no record", unrecorded, "messages", exactly(0)))
    not_forwarded = (verdict.missing_in_store or 0) - verdict.missing_in_journal
    tell(Figure(NAME, "in the journal, not in the store", not_forwarded, "messages", exactly(0)))


def _on_record(gateway: Gateway) -> Mapping[str, int]:
    """Readings that the gap ledger says are missing, by reason: a disk that hangs for seconds costs some."""
    counts: Counter[str] = Counter()
    with JournalReader(gateway.data / FILE) as reader:
        for _, gap in reader.gaps_after(0, 1_000):
            if gap.lane == "readings":
                counts[gap.reason] += gap.count
    return counts


def _look(gateway: Gateway, at: float) -> Look:
    try:
        now = gateway.memory().now
        return Look(at, {role: size / 1e6 for role, size in now.items()}, gateway.open_files())
    except (psutil.Error, OSError):  # a child ended between two questions
        return Look(at, {}, {})


def _tell_growth(tell: Tell, role: str, looks: list[Look]) -> None:
    """The last fifth against the fifth after warming up, by their medians."""
    span = looks[-1].at
    early = [each for each in looks if WARM * span <= each.at < 2 * WARM * span]
    late = [each for each in looks if each.at >= (1 - WARM) * span]

    def middle(some: list[Look], what: Callable[[Look], Mapping[str, float]]) -> float:
        return percentile([what(each)[role] for each in some if role in what(each)] or [0.0], 0.5)

    memory = middle(late, lambda each: each.memory) - middle(early, lambda each: each.memory)
    files = middle(late, lambda each: each.files) - middle(early, lambda each: each.files)
    tell(Figure(NAME, f"{role} at the end", middle(late, lambda each: each.memory), "MB"))
    limit = at_most(GROWTH_MB) if role == "node" else None
    tell(Figure(NAME, f"{role} grew since it was warm", memory, "MB", limit))
    tell(Figure(NAME, f"{role}'s open files grew since it was warm", files, "files", at_most(GROWTH_FILES)))


def _kill(here: World, role: str) -> None:
    family = here.gateway.family()
    if role in family:
        family[role].kill()
        until(lambda: _back(here, role, family[role].pid), f"{role} is back")


def _back(here: World, role: str, old: int) -> bool:
    now = here.gateway.family().get(role)
    return now is not None and now.pid != old


def _freeze(process: psutil.Process) -> None:
    process.suspend()
    time.sleep(FROZEN_S)
    process.resume()


def _store_away(here: World) -> None:
    here.store.stop()
    time.sleep(FROZEN_S)
    here.store.start()


_FAULTS: Mapping[str, Callable[[World], None]] = {
    "web killed": lambda here: _kill(here, "web"),
    "bridge killed": lambda here: _kill(here, "bridge"),
    "node frozen": lambda here: _freeze(here.gateway.family()["node"]),
    "broker frozen": lambda here: _freeze(psutil.Process(here.broker.pid)),
    "store away": _store_away,
    "store frozen": lambda here: _freeze(psutil.Process(here.store.pid)),
}


def _picture(looks: list[Look], struck: list[tuple[float, str]]) -> str:
    memory = [
        Line(f"{role}, MB", [(look.at / 60, look.memory[role]) for look in looks if role in look.memory])
        for role in ("node", "web", "bridge")
    ]
    files = [
        Line(
            f"{role}, open files", [(look.at / 60, look.files[role]) for look in looks if role in look.files]
        )
        for role in ("node", "web", "bridge")
    ]
    marks = [(at / 60, name) for at, name in struck]
    return draw("Memory and open files under load with faults", "minutes", [memory, files], marks)
