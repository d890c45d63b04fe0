"""What the disk bears and does: bytes a day, syncs, alarms on a slow disk, the start with a full journal."""

import re
import resource
import sqlite3
import time
from pathlib import Path

from bench.figures import Figure, Tell, at_most, percentile
from bench.gateway import Gateway
from bench.latency import tell_latencies
from bench.world import Sample, Scale, until, world
from edge.store.schema import FILE
from tools.servers import locate

NAME = "disk"
RATES: dict[int, float | None] = {11: None, 200: 1.0}
"""Messages a second of a community of 1,000 devices and of a large one, with the goal in GB a day."""

ALARMS_PER_S = 10.0
RATE = 500.0
SLOWER_MS = 20
SLOW_TARGET_MS = 120.0
START_TARGET_S = 5.0
SEED = 40_000
"""Messages of the journal that is copied until it is large."""

_DAY_S = 86_400
_SECTOR = 512  # getrusage counts in sectors, whatever the disk has
_TOOK = re.compile(r"fdatasync\(.*<(\d+\.\d+)>$")


def run(folder: Path, scale: Scale, tell: Tell, profile: Path | None) -> None:
    """Each with a gateway of its own. What a profile can explain is the start: its table of the node is the second."""
    for rate, goal in RATES.items():
        _bytes_a_day(folder / f"bytes-{rate}", scale, tell, rate, goal)
    _syncs(folder / "syncs", scale, tell)
    _slow(folder / "slow", scale, tell)
    _full(folder / "full", scale, tell, profile)


def _bytes_a_day(folder: Path, scale: Scale, tell: Tell, rate: int, goal: float | None) -> None:
    """The checkpoint at the end is counted: without it the log would seem to be all that is written."""
    with world(folder) as here:
        gateway = here.gateway
        gateway.start()
        gateway.ready()
        with here.publishing(rate):
            time.sleep(scale.settle_s)
            before, commits, began = gateway.written(), gateway.commits(), time.monotonic()
            time.sleep(scale.disk_s)
            passed = time.monotonic() - began
            commits = gateway.commits() - commits
        spent = resource.getrusage(resource.RUSAGE_CHILDREN).ru_oublock
        gateway.stop()
        everything = (resource.getrusage(resource.RUSAGE_CHILDREN).ru_oublock - spent) * _SECTOR
    written = everything - before
    target = None if goal is None else at_most(goal)
    tell(Figure(NAME, f"written at {rate} messages/s", written / passed * _DAY_S / 1e9, "GB/day", target))
    tell(Figure(NAME, f"of these a commit at {rate} messages/s", written / max(1, commits) / 1000, "kB"))
    tell(Figure(NAME, f"commits at {rate} messages/s", commits / passed, "commits/s"))


def _syncs(folder: Path, scale: Scale, tell: Tell) -> None:
    trace = folder / "trace"
    folder.mkdir(parents=True)
    watch = [str(locate("strace")), "-D", "-f", "--seccomp-bpf", "-qq", "-T", "-e", "trace=fdatasync"]
    with world(folder, wrapper=[*watch, "-e", "signal=none", "-o", str(trace)]) as here:
        here.gateway.start()
        here.gateway.ready()
        with here.publishing(RATE):
            time.sleep(scale.disk_s)
        here.gateway.stop()
    took = [
        float(found[1]) * 1000 for line in trace.read_text().splitlines() if (found := _TOOK.search(line))
    ]
    tell(Figure(NAME, "a sync of the log, p50", percentile(took, 0.5), "ms"))
    tell(Figure(NAME, "a sync of the log, p99", percentile(took, 0.99), "ms"))


def _slow(folder: Path, scale: Scale, tell: Tell) -> None:
    """As on a worn card: every sync takes longer."""
    samples: list[Sample] = []
    slow = [str(locate("strace")), "-D", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "-e", "signal=none"]
    slow += ["-e", "trace=fdatasync", "-e", f"inject=fdatasync:delay_exit={SLOWER_MS * 1000}"]
    with world(folder, wrapper=slow) as here:
        here.gateway.start()
        here.gateway.ready()
        with here.publishing(RATE):
            time.sleep(scale.settle_s)
            with here.probing(ALARMS_PER_S, samples):
                time.sleep(scale.background_s)
        here.gateway.stop()
    tell_latencies(NAME, f"at {RATE:.0f}/s with syncs {SLOWER_MS} ms longer", samples, SLOW_TARGET_MS, tell)


def _full(folder: Path, scale: Scale, tell: Tell, profile: Path | None) -> None:
    """A journal as large as it may become, all of it forwarded, and messages that wait."""
    with world(folder, profile) as here:
        gateway = here.gateway
        gateway.start()
        gateway.ready()
        here.publish(SEED)
        until(lambda: gateway.committed() >= SEED, "all messages in the journal")
        here.settle()
        gateway.stop()
        size, readings = enlarge(gateway.data / FILE, scale.journal_bytes)
        with here.publishing(RATE):
            began = time.monotonic()
            gateway.start()
            back = until(lambda: _works(gateway), "the gateway works", every_s=0.005) - began
            first = until(lambda: gateway.committed() > readings, "a reading", every_s=0.05) - began
        gateway.stop()
    tell(Figure(NAME, "journal at the start", size / 1e9, "GB"))
    tell(Figure(NAME, "start with it to sessions up", back, "s", at_most(START_TARGET_S)))
    tell(Figure(NAME, "start with it to the first new reading", first, "s", at_most(START_TARGET_S)))


def _works(gateway: Gateway) -> bool:
    health = gateway.health()
    return health is not None and health.status != "failed"


def enlarge(path: Path, size: int) -> tuple[int, int]:
    """Repeat the batches of a stopped gateway's journal until its file has ``size`` bytes.

    What they brought is in its snapshot already, so the state after it stays what it is. Gives the bytes
    and the readings that it holds then.
    """
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA synchronous = OFF")
    columns = [row[1] for row in connection.execute("PRAGMA table_info(batches)")]
    others = ", ".join(name for name in columns if name != "seq")
    while path.stat().st_size < size:
        connection.execute("BEGIN")
        connection.execute(
            f"INSERT INTO batches (seq, {others}) SELECT seq + (SELECT max(seq) FROM batches), {others}"  # noqa: S608 - the names are the table's own
            " FROM batches ORDER BY seq LIMIT 2000"
        )
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.execute("UPDATE snapshot SET seq = (SELECT max(seq) FROM batches)")
    connection.execute("UPDATE positions SET seq = (SELECT max(seq) FROM batches) WHERE name = 'readings'")
    (readings,) = connection.execute("SELECT sum(readings) FROM batches").fetchone()
    connection.close()
    return path.stat().st_size, readings
