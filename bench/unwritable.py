"""The store cannot be written for a minute: how soon alarms come meanwhile, and whether every loss is on record."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.figures import Figure, Tell, at_most, exactly, percentile
from bench.gateway import Gateway
from bench.world import Sample, Scale, until, world
from edge.store.reader import JournalReader
from edge.store.schema import FILE
from tools.servers import locate

NAME = "unwritable"
RATE = 500.0
ALARMS_PER_S = 2.0
TARGET_MS = 1_000.0
WAYS = {"fail": "error=EIO", "hang": "delay_enter=20000000"}
"""What strace does to every sync of the node."""


def run(folder: Path, scale: Scale, tell: Tell, profile: Path | None) -> None:
    """Each way with a gateway of its own."""
    for way, injection in WAYS.items():
        samples: list[Sample] = []
        with world(folder / way, profile) as here:
            gateway = here.gateway
            gateway.start()
            gateway.ready()
            with here.publishing(RATE):
                time.sleep(scale.settle_s)
                with (
                    _syncs(gateway.family()["node"].pid, injection),
                    here.probing(ALARMS_PER_S, samples),
                ):
                    time.sleep(scale.background_s)
                began = time.monotonic()
                until(lambda: _takes_all(here.gateway), "the gateway stores everything again", every_s=0.05)
                back = time.monotonic() - began
            here.settle()
            gateway.stop()
            missing = here.compared(store=False).missing_in_journal
            recorded = _recorded(gateway)
        when = f"while syncs {way}"
        came = [each.ms for each in samples if each.ms is not None]
        tell(Figure(NAME, f"alarms asked for {when}", len(samples), "alarms"))
        tell(Figure(NAME, f"alarms that did not come {when}", len(samples) - len(came), "alarms", exactly(0)))
        tell(Figure(NAME, f"device to alarm topic {when}, p50", percentile(came, 0.5), "ms"))
        tell(Figure(NAME, f"device to alarm topic {when}, max", max(came), "ms", at_most(TARGET_MS)))
        tell(Figure(NAME, f"everything stored again after syncs {way}", back, "s"))
        tell(Figure(NAME, f"not stored {when}, and on record", recorded, "messages"))
        unrecorded = max(0, missing - recorded)
        tell(
            Figure(
                NAME, f"not in the journal and on no record, syncs {way}", unrecorded, "messages", exactly(0)
            )
        )


@contextmanager
def _syncs(pid: int, injection: str) -> Iterator[None]:
    """While in the block every sync of the process is tampered with."""
    command = [str(locate("strace")), "-f", "--seccomp-bpf", "-qq", "-e", "trace=fdatasync,fsync"]
    command += ["-o", "/dev/null", "-e", f"inject=fdatasync,fsync:{injection}", "-p", str(pid)]
    tracer = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        status = Path(f"/proc/{pid}/status")
        until(
            lambda: f"TracerPid:\t{tracer.pid}" in status.read_text(), "strace holds the node", every_s=0.01
        )
        yield
    finally:
        tracer.terminate()
        tracer.wait(30)


def _takes_all(gateway: Gateway) -> bool:
    health = gateway.health()
    return health is not None and not {"store_failing", "store_reduced"} & {
        each.code for each in health.reasons
    }


def _recorded(gateway: Gateway) -> int:
    with JournalReader(gateway.data / FILE) as reader:
        return sum(gap.count for _, gap in reader.gaps_after(0, 1_000) if gap.lane == "readings")
