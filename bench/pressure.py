"""Alarms at twenty times the normal load, and beside one device that has run wild."""

import time
from pathlib import Path

from bench.community import addresses
from bench.figures import Figure, Tell, at_most, exactly
from bench.latency import ALARMS_PER_S, tell_latencies
from bench.world import Sample, Scale, until, world
from edge.store.reader import JournalReader
from edge.store.schema import FILE

NAME = "pressure"
NORMAL = 500
LOAD = 20 * NORMAL
BABBLE = 1_000
TARGET_MS = 100.0
RECOVERS_S = 15.0


def run(folder: Path, scale: Scale, tell: Tell, profile: Path | None) -> None:
    """A gateway of its own for each."""
    _overload(folder / "load", scale, tell, profile)
    _babbler(folder / "babbler", scale, tell, profile)


def _overload(folder: Path, scale: Scale, tell: Tell, profile: Path | None) -> None:
    samples: list[Sample] = []
    with world(folder, profile) as here:
        here.gateway.start()
        here.gateway.ready()
        with here.publishing(LOAD):
            time.sleep(scale.settle_s)
            with here.probing(ALARMS_PER_S, samples):
                began, before = time.monotonic(), here.gateway.committed()
                time.sleep(scale.background_s)
                taken = (here.gateway.committed() - before) / (time.monotonic() - began)
        throttled = here.gateway.throttled()
        here.settle()
        here.gateway.stop()
        verdict = here.compared(store=True)
    when = f"at {LOAD}/s"
    tell_latencies(NAME, when, samples, TARGET_MS, tell)
    tell(Figure(NAME, f"committed {when}", taken, "messages/s"))
    tell(Figure(NAME, f"throttled {when}", int(throttled is not None), "devices", exactly(0)))
    tell(Figure(NAME, f"not in the journal {when}", verdict.missing_in_journal, "messages", exactly(0)))
    tell(Figure(NAME, f"not in the store {when}", verdict.missing_in_store or 0, "messages", exactly(0)))


def _babbler(folder: Path, scale: Scale, tell: Tell, profile: Path | None) -> None:
    samples: list[Sample] = []
    with world(folder, profile) as here:
        gateway = here.gateway
        gateway.start()
        gateway.ready()
        with here.publishing(NORMAL):
            with here.babbling(BABBLE):
                began = time.monotonic()
                found = until(lambda: gateway.throttled() is not None, "the babbler is found")
                with here.probing(ALARMS_PER_S, samples):
                    time.sleep(scale.background_s)
                named = gateway.throttled() or ""
            ended = time.monotonic()
            over = until(lambda: gateway.throttled() is None, "the babbler is free again", within_s=60)
        here.settle()
        gateway.stop()
        verdict = here.compared(store=True)
        with JournalReader(gateway.data / FILE) as reader:
            lost = sum(gap.count for _, gap in reader.gaps_after(0, 1_000))
    when = f"beside a babbler of {BABBLE}/s"
    tell_latencies(NAME, when, samples, TARGET_MS, tell)
    alone = named == f"too many messages from {addresses('smoke')[-1]}"
    tell(Figure(NAME, "the babbler alone was throttled", int(alone), "(1 is yes)", exactly(1)))
    tell(Figure(NAME, "the babbler was reported after", found - began, "s"))
    tell(Figure(NAME, "the babbler was free again after", over - ended, "s", at_most(RECOVERS_S)))
    tell(Figure(NAME, "messages of the babbler on record as left out", lost, "messages"))
    tell(
        Figure(NAME, f"others' not in the journal {when}", verdict.missing_in_journal, "messages", exactly(0))
    )
    tell(
        Figure(
            NAME, f"others' not in the store {when}", verdict.missing_in_store or 0, "messages", exactly(0)
        )
    )
