"""From a device's message to the alarm topic, with 500 and 5,000 other messages a second."""

import time
from collections.abc import Sequence
from pathlib import Path

from bench.figures import Figure, Tell, at_most, exactly, percentile
from bench.world import Sample, Scale, world

NAME = "latency"
ALARMS_PER_S = 10.0
TARGETS_MS = {500: 25.0, 5_000: 60.0}


def run(folder: Path, scale: Scale, tell: Tell, profile: Path | None) -> None:
    """Measure at each rate with a gateway of its own."""
    for rate, target_ms in TARGETS_MS.items():
        samples: list[Sample] = []
        with world(folder / str(rate), profile) as here:
            here.gateway.start()
            here.gateway.ready()
            with here.publishing(rate):
                time.sleep(scale.settle_s)
                with here.probing(ALARMS_PER_S, samples):
                    time.sleep(scale.background_s)
        tell_latencies(NAME, f"at {rate}/s", samples, target_ms, tell)


def tell_latencies(bench: str, when: str, samples: Sequence[Sample], target_ms: float, tell: Tell) -> None:
    """Percentiles of all alarms, and of each way to one."""
    came = [each.ms for each in samples if each.ms is not None]
    tell(Figure(bench, f"alarms asked for {when}", len(samples), "alarms"))
    tell(Figure(bench, f"alarms that did not come {when}", len(samples) - len(came), "alarms", exactly(0)))
    if not came:
        return
    tell(Figure(bench, f"device to alarm topic {when}, p50", percentile(came, 0.5), "ms"))
    tell(
        Figure(bench, f"device to alarm topic {when}, p99", percentile(came, 0.99), "ms", at_most(target_ms))
    )
    tell(Figure(bench, f"device to alarm topic {when}, max", max(came), "ms"))
    late = percentile([each.late_ms for each in samples], 0.99)
    tell(Figure(bench, f"the probe itself woke late {when}, p99", late, "ms"))
    for kind in sorted({each.kind for each in samples}):
        some = [each.ms for each in samples if each.kind == kind and each.ms is not None]
        if some:
            tell(Figure(bench, f"of these {kind} {when}, p99", percentile(some, 0.99), "ms"))
