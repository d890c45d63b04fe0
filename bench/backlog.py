"""The cloud store comes back: how fast a million points drain, and whether alarms notice."""

import time
from pathlib import Path

from bench.figures import Figure, Tell, at_least, exactly
from bench.gateway import CloudHealth
from bench.latency import tell_latencies
from bench.world import Sample, Scale, World, until, world

NAME = "backlog"
RATE = 500.0
ALARMS_PER_S = 10.0
TARGET_MS = 25.0
REMAINS = 5_000
"""Points that count as drained: one request of the bridge, while new ones keep coming."""


def run(folder: Path, scale: Scale, tell: Tell, profile: Path | None) -> None:
    """Let it pile up with the store away, bring the store back under load, watch."""
    samples: list[Sample] = []
    with world(folder, profile) as here:
        gateway = here.gateway
        gateway.start()
        gateway.ready()
        here.store.stop()
        here.publish(scale.backlog)
        until(lambda: gateway.committed() >= scale.backlog, "all messages in the journal", every_s=0.2)
        with here.publishing(RATE), here.probing(ALARMS_PER_S, samples):
            time.sleep(scale.settle_s)
            waiting, points = _cloud(here), here.waiting("readings")
            here.store.start()
            seen = [(time.monotonic(), waiting.stored)]

            def drained() -> bool:
                cloud = _cloud(here)
                seen.append((time.monotonic(), cloud.stored))
                return cloud.behind.get("readings", 0) < REMAINS and cloud.stored > waiting.stored

            until(drained, "the backlog drained", every_s=0.1)
        here.settle()
        gateway.stop()
        verdict = here.compared(store=True)
    first = next(number for number, (_, stored) in enumerate(seen) if stored > waiting.stored) - 1
    (began, stored_then), (ended, stored_now) = seen[first], seen[-1]
    tell(Figure(NAME, "points that waited", points, "points"))
    tell(Figure(NAME, "store back to first point stored", began - seen[0][0], "s"))
    rate = (stored_now - stored_then) / (ended - began)
    tell(Figure(NAME, "drained", rate, "points/s", at_least(40_000)))
    meanwhile = [each for each in samples if began <= each.at <= ended]
    tell_latencies(NAME, f"at {RATE:.0f}/s while draining", meanwhile, TARGET_MS, tell)
    tell(Figure(NAME, "not in the journal", verdict.missing_in_journal, "messages", exactly(0)))
    tell(Figure(NAME, "not in the store", verdict.missing_in_store or 0, "messages", exactly(0)))


def _cloud(here: World) -> CloudHealth:
    health = here.gateway.health()
    return (health and health.cloud) or CloudHealth("unknown", {})
