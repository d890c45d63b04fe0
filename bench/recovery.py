"""kill -9 under load: how soon the gateway is back, with the same alarms, and whether anything was lost."""

import time
from pathlib import Path

from bench.figures import Figure, Tell, at_most, exactly
from bench.gateway import Gateway
from bench.world import Sample, Scale, until, world
from edge.store.reader import JournalReader
from edge.store.schema import FILE

NAME = "recovery"
ALARMS_PER_S = 10.0
RULE = "smoke-alarm"
"""Its alarms need a person and so stand over the crash; the probe is silent by then."""


def run(folder: Path, scale: Scale, tell: Tell, profile: Path | None) -> None:
    """Kill the node, start it again, compare."""
    samples: list[Sample] = []
    with world(folder, profile) as here:
        gateway = here.gateway
        gateway.start()
        gateway.ready()
        with here.publishing(scale.crash_rate):
            with here.probing(ALARMS_PER_S, samples):
                time.sleep(scale.crash_s)
            gateway.kill9()
            stood, readings = _stood(gateway), gateway.committed()
            began = time.monotonic()
            gateway.start()
            back = until(lambda: _works(gateway), "the gateway is back", every_s=0.005) - began
            first = until(lambda: gateway.committed() > readings, "a reading", every_s=0.005) - began
            stand = gateway.standing(RULE)
            gateway.ready()
            web = time.monotonic() - began
            time.sleep(scale.settle_s)
        here.settle()
        gateway.stop()
        verdict = here.compared(store=True)
    tell(Figure(NAME, "readings in the journal at the crash", readings, "readings"))
    tell(Figure(NAME, "start to sessions up and state replayed", back, "s", at_most(3)))
    tell(Figure(NAME, "start to first new reading committed", first, "s", at_most(3)))
    tell(Figure(NAME, "start to /healthz 200, bridge running", web, "s"))
    tell(Figure(NAME, "alarms that stood at the crash", len(stood), "alarms"))
    tell(Figure(NAME, "alarms that differ afterwards", len(stood ^ stand), "alarms", exactly(0)))
    tell(Figure(NAME, "not in the journal", verdict.missing_in_journal, "messages", exactly(0)))
    tell(Figure(NAME, "not in the store", verdict.missing_in_store or 0, "messages", exactly(0)))
    tell(Figure(NAME, "twice in the journal", verdict.repeated, "messages"))


def _works(gateway: Gateway) -> bool:
    health = gateway.health()
    return health is not None and health.status != "failed"


def _stood(gateway: Gateway) -> set[tuple[object, ...]]:
    with JournalReader(gateway.data / FILE) as reader:
        return {
            (alarm.id, alarm.version, alarm.state.value, alarm.occurrences)
            for alarm in reader.standing_alarms()
            if alarm.rule == RULE
        }
