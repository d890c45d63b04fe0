"""One or two rule sets run over a time of the gateway's own history, with the engine that serves live traffic.

Before the time itself so much is read that windows and delays which began earlier are there; nothing of that is
counted. Reads only, beside a running gateway or on a copied data directory. Memory is that of the devices' states.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec

from devices.readings import Address, Reading
from edge.replay.source import ends_at, exact_from, told
from edge.undecided import go_on
from rules.decisions import NOTHING, Close, Decision, Input
from rules.definitions import RuleSet
from rules.engine import Engine
from rules.outcomes import Difference, Outcome, Tally, differences

log = logging.getLogger("anlin.replay")


@dataclass(frozen=True, slots=True)
class Span:
    """The time that is counted, and how much is read before it. Unix ms."""

    from_ms: int
    to_ms: int
    warm_up_ms: int

    @property
    def begins_ms(self) -> int:
        """From when on readings are taken."""
        return self.from_ms - self.warm_up_ms


@dataclass(frozen=True, slots=True)
class Trial:
    """What is tried on what. ``engine_of`` makes the engine of a rule set, ``shard_of`` says who judges a device."""

    data_dir: Path
    span: Span
    rule_sets: Sequence[RuleSet]
    """One, or two that are compared."""
    engine_of: Callable[[RuleSet], Engine]
    shard_of: Callable[[Address], int]
    shards: int
    timezone: str = "UTC"


class Progress(msgspec.Struct, frozen=True, tag="progress"):
    """How far a shard has come."""

    readings: int
    at: int
    """Unix ms."""


class Found(msgspec.Struct, tag="found"):
    """What a shard has found."""

    readings: int
    """Of the time itself."""
    warmed: int
    """Before it."""
    outcomes: list[dict[str, Outcome]]
    """Of each rule set, by rule."""
    differences: dict[str, Difference]
    devices: int
    until: int
    """Where the history ended, if before the end of the time (Unix ms)."""
    exact_from: int | None
    """From when on it was also known whether the gateway listened (Unix ms)."""
    unsure: bool
    """There were readings before that."""
    failures: int = 0
    """Inputs at which an engine failed; they are left out, as live."""


class _Run:
    """An engine, its state, what came of it."""

    def __init__(self, engine: Engine, tally: Tally) -> None:
        self.engine = engine
        self.state = engine.new_state()
        self.tally = tally
        self.failures = 0

    def take(self, chunk: Sequence[Input]) -> None:
        """A piece of history, in order."""
        step, state = self.engine.step, self.state
        for given in chunk:
            now = given.received_at if type(given) is Reading else given.at  # type: ignore[union-attr]
            try:
                decision = step(state, given, now)
            except Exception as failure:  # noqa: BLE001 - as live: what fails costs itself only
                self._go_on(given, now, failure)
                continue
            if decision is not NOTHING:
                self._count(decision, now)

    def end(self, until: int) -> None:
        """Nothing more comes until then."""
        try:
            self._count(self.engine.tick(self.state, until), until)
        except Exception as failure:  # noqa: BLE001 - as above
            self._go_on(None, until, failure)
        self.tally.end()

    def _go_on(self, given: Input | None, now: int, failure: Exception) -> None:
        if not self.failures:
            log.error("the engine failed in replay; what it failed at is left out", exc_info=failure)
        self.failures += 1
        for decision in go_on(self.engine, self.state, given, now, failure).decisions:
            self._count(decision, now)

    def _count(self, decision: Decision, now: int) -> None:
        """Nobody acknowledges in a replay, so whatever has cleared is taken off the board."""
        for alarm_id in self.tally.take(self.state, decision):
            closed = self.engine.step(self.state, Close(alarm_id, "replay", "", now), now)
            self.tally.take(self.state, closed)


def run(trial: Trial, shard: int, tell: Callable[[Progress], None]) -> Found:
    """Run one shard of it; ``tell`` is called after each piece. Raises `StoreError`."""
    span = trial.span
    runs = [
        _Run(
            trial.engine_of(rules),
            Tally(
                [rule.id for rule in rules.rules if rule.flood is None], span.from_ms, _days(trial.timezone)
            ),
        )
        for rules in trial.rule_sets
    ]
    readings = warmed = 0
    exact, unsure = exact_from(trial.data_dir), False
    for chunk in told(
        trial.data_dir,
        span.begins_ms,
        span.to_ms,
        shard=shard,
        shards=trial.shards,
        shard_of=trial.shard_of,
    ):
        for each in runs:
            each.take(chunk)
        unsure = unsure or exact is None or runs[0].state.now < exact
        heard = [given.received_at for given in chunk if type(given) is Reading]
        early = sum(at < span.from_ms for at in heard)
        readings += len(heard) - early
        warmed += early
        tell(Progress(readings + warmed, runs[0].state.now))
    until = min(span.to_ms, max(ends_at(trial.data_dir), span.from_ms))
    for each in runs:
        each.end(until)
    tallies = [each.tally for each in runs]
    return Found(
        readings,
        warmed,
        [tally.outcomes for tally in tallies],
        differences(tallies[0], tallies[1]) if len(tallies) > 1 else {},
        len(runs[0].state.devices),
        until,
        exact,
        unsure,
        sum(each.failures for each in runs),
    )


def _days(timezone: str) -> Callable[[int], str]:
    """Which day a moment is on; remembered by quarter hours, at which every zone's days begin."""
    zone = UTC if timezone == "UTC" else ZoneInfo(timezone)
    known: dict[int, str] = {}

    def day_of(at: int) -> str:
        quarter = at // 900_000
        day = known.get(quarter)
        if day is None:
            day = known[quarter] = f"{datetime.fromtimestamp(quarter * 900, zone):%Y-%m-%d}"
        return day

    return day_of
