"""``python -m tests.chaos``: the whole system under faults, and a ledger that decides.

Example: ``python -m tests.chaos --minutes 60``, or ``python -m tests.chaos --seed 7 --only gateway-killed,power-cut``.
"""

import argparse
import json
import random
import resource
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from threading import Event

from tests.chaos.books import Books
from tests.chaos.faults import SMALL_STORM, STORM, Injector
from tests.chaos.ledger import Verdict
from tests.chaos.plan import Fault, Step, faults_of, make_plan
from tests.chaos.world import World

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "promises.md"
BEGIN, END = "<!-- fault suite: begin -->", "<!-- fault suite: end -->"
SHORT_MINUTES = 0.5
LONG_MINUTES = 5.0
"""From here on faults last up to 30 s and a storm has 8,000 devices."""

RATE = 300.0
DANGERS_PER_S = 2.0
TICK_S = 0.05
PROGRESS_EVERY_S = 30.0


@dataclass(frozen=True)
class Run:
    """One run: what is asked, and what came of it."""

    seed: int
    minutes: float
    faults: Sequence[Fault]
    folder: Path
    """Evidence; the caller removes it."""

    @property
    def long(self) -> bool:
        """Faults as long as they may be."""
        return self.minutes >= LONG_MINUTES

    @property
    def command(self) -> str:
        """What repeats it; the plan is made of seed, minutes and kinds of faults."""
        only = "" if self.faults == tuple(Fault) else f" ONLY={','.join(self.faults)}"
        return f"make chaos MINUTES={self.minutes:g} SEED={self.seed}{only}"

    @property
    def plan(self) -> list[Step]:
        """What happens when."""
        return make_plan(
            self.seed,
            self.minutes * 60,
            self.faults,
            longest_s=30.0 if self.long else 3.0,
            pause_s=10.0 if self.long else 2.0,
        )

    def play(self) -> "Outcome":
        """All of it. Takes its minutes and what it needs to come to rest."""
        plan = self.plan
        clock = any(step.fault.startswith("clock") for step in plan)
        with World(self.folder, self.seed, rate=RATE, dangers_per_s=DANGERS_PER_S, with_clock=clock) as world:
            injector = Injector(world, self.seed, storm=STORM if self.long else SMALL_STORM)
            begun, begun_ms = time.monotonic(), time.time_ns() // 1_000_000
            self._inject(world, injector, plan, begun)
            patience_s = 120.0 if self.long else 60.0  # spent only where something is wrong
            world.settle(patience_s)
            history, verdict = Books(world, plan, begun_ms).close(patience_s)
            if not verdict.kept:
                world.keep()
            return Outcome(
                self,
                plan,
                verdict,
                len(history.said),
                len(history.causes),
                world.notes.unsynced,
                world.storms_ms,
            )

    def _inject(self, world: World, injector: Injector, plan: Sequence[Step], begun: float) -> None:
        waiting = list(plan)
        pace = Event()
        progress = 0.0
        while waiting or injector.active:
            now = time.monotonic() - begun
            for step in injector.end_due(now):
                _say(f"{now:7.1f} s  end of {step.fault}")
            while waiting and waiting[0].at_s <= now:
                step = waiting.pop(0)
                _say(f"{now:7.1f} s  {step.fault} for {step.for_s:.1f} s")
                injector.begin(step, now)
            world.watch()
            if now >= progress:
                progress = now + PROGRESS_EVERY_S
                _say(
                    f"{now:7.1f} s  … {len(world.traffic.messages)} said, {len(world.traffic.dangers)} dangers"
                )
            pace.wait(TICK_S)


@dataclass(frozen=True)
class Outcome:
    """What came of a run."""

    run: Run
    plan: Sequence[Step]
    verdict: Verdict
    said: int
    dangers: int
    unsynced: int
    storms_ms: Sequence[int]

    def document(self) -> str:
        """For docs: the verdict and what was injected."""
        counts = Counter(step.fault for step in self.plan)
        faults = ", ".join(f"{fault.value} {count}" for fault, count in sorted(counts.items()))
        only = "" if len(self.run.faults) == len(Fault) else f" of {len(self.run.faults)} kinds"
        return (
            f"{self.run.minutes:g} minutes of faults{only}, seed {self.run.seed} "
            f"(`{self.run.command}`): {self.said:,} acknowledged "
            f"messages, {self.dangers:,} staged dangers, {len(self.plan)} faults; power cuts put "
            f"{self.unsynced:,} unsynced changes in danger.{self._storms()}\n\n"
            f"{self.verdict.table()}\n\nInjected: {faults}.\n"
        )

    def _storms(self) -> str:
        if not self.storms_ms:
            return ""
        usual, worst = median(self.storms_ms) / 1000, max(self.storms_ms) / 1000
        devices = STORM if self.run.long else SMALL_STORM
        return f" {devices:,} devices that reconnect at once were back within {usual:.1f} s (worst {worst:.1f} s)."


def written(page: str, results: str) -> str:
    """``page`` with the results between its two comments. Raises `ValueError` if it has none."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the page lacks {BEGIN} or {END}")
    return f"{before}{BEGIN}\n\n{results}\n{END}{after}"


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - a program that prints


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; 0 when every promise was kept, else 1 with the differences and the evidence kept."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos",
        description="The whole system under seeded faults; a ledger outside the gateway decides.",
        epilog="Example: make chaos MINUTES=60 SEED=7, or python -m tests.chaos --only gateway-killed,power-cut",
    )
    parser.add_argument("--seed", type=int, help="repeat a run (default: a new one)")
    parser.add_argument(
        "--minutes", type=float, default=SHORT_MINUTES, help="of faults (default: %(default)s)"
    )
    parser.add_argument("--only", default="", metavar="FAULT,…", help=f"of {', '.join(Fault)}")
    parser.add_argument(
        "--document", action="store_true", help=f"write the results into {RESULTS.name}, also of a short run"
    )
    given = parser.parse_args(arguments)
    try:
        faults = faults_of([name for name in given.only.split(",") if name])
    except ValueError as error:
        parser.error(str(error))
    seed = given.seed if given.seed is not None else random.SystemRandom().randrange(1_000_000)
    soft, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(most, 20_000)), most))
    folder = Path(tempfile.mkdtemp(prefix="anlin-chaos-"))
    run = Run(seed, given.minutes, faults, folder)
    _say(f"seed {seed}, {given.minutes:g} minutes, {len(faults)} kinds of faults; the plan:")
    for step in run.plan:
        _say(str(step))
    outcome = run.play()
    _say(str(outcome.verdict))
    if given.document or run.long:
        page = RESULTS.read_text(encoding="utf-8")
        RESULTS.write_text(written(page, outcome.document()), encoding="utf-8")
    if outcome.verdict.kept:
        shutil.rmtree(folder)
        return 0
    (folder / "plan.json").write_text(json.dumps([str(step) for step in outcome.plan], indent=1))
    _say(f"evidence: {folder}; again: {run.command}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
