"""After kill -9 at any moment the journal holds whole batches, from the first to the last."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from edge.store.reader import JournalReader
from edge.store.records import Gap
from edge.store.recovery import recover, replay
from rules.alarms import AlarmChange
from tests.store_samples import alarm, dead_letter, everything, gap, kept_rules, order, quarantined

SIZE = 40

# Commits one whole batch, then dies before the k-th statement of the second; one child process for each k.
DYING = """
import os, signal, sys
from pathlib import Path
from edge.store.retention import Bounds
from edge.store.writer import Writer
from tests.store_samples import everything

def die_at(path, k):
    left = None
    def trace(_):
        nonlocal left
        if left is not None:
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
    writer = Writer(path, Bounds(2**26), forwarding=True, trace=trace)
    writer.open()
    writer.commit(everything(1))
    left = k
    writer.commit(everything(2))

for k in range(1000):
    pid = os.fork()
    if pid == 0:
        die_at(Path(sys.argv[1]) / f"{k}.db", k)
        os._exit(0)
    if os.waitpid(pid, 0)[1] == 0:
        break
print(k)
"""

# Commits for ever and says after each batch what is on the disk.
COMMITTING = """
import asyncio, sys
from pathlib import Path
from edge.store.journal import Journal
from tests.store_samples import everything

async def main():
    async with Journal(Path(sys.argv[1]), max_bytes=2**26, forwarding=True) as journal:
        seq = journal.recover().last_seq
        waiting = []
        while True:
            while len(waiting) < 8:
                seq += 1
                waiting.append(journal.commit(everything(seq, size=40)))
            print((await waiting.pop(0)).seq, flush=True)

asyncio.run(main())
"""


def whole_batches(path: Path, size: int) -> int:
    """Check that every table tells of the same batches; gives their number."""
    with JournalReader(path) as reader:
        last = reader.last_seq()
        numbers = list(range(1, last + 1))
        expected = [everything(seq, size) for seq in numbers]
        assert [(each.seq, each.inputs) for each in replay(path, 0)] == [
            (b.seq, list(b.inputs)) for b in expected
        ]
        changes: list[tuple[int, AlarmChange]] = []
        while more := reader.changes_after(len(changes), 1_000):
            changes += more
        assert changes == [(seq, expected[seq - 1].changes[0]) for seq in numbers]
        gaps: list[tuple[int, Gap]] = []
        while some := reader.gaps_after(len(gaps), 1_000):
            gaps += some
        assert gaps == [(seq, gap(seq)) for seq in numbers]
        assert reader.dead_letters(100) == [dead_letter(seq) for seq in reversed(numbers)][:100]
        assert reader.quarantine(100) == [quarantined(seq) for seq in reversed(numbers)][:100]
        assert [each.order for seq in numbers for each in reader.orders(alarm(seq).id)] == [
            order(seq) for seq in numbers
        ]
    found = recover(path)
    assert found.alarms == [alarm(seq) for seq in numbers]
    assert found.outgoing == [each for batch in expected for each in batch.outgoing]
    assert dict(found.devices) == {f"c1/charger/{seq}": b"state-%d" % seq for seq in numbers}
    assert found.snapshot_seq == last
    assert found.rules == (kept_rules(last) if last else None)
    assert found.rules_hash == (f"rules-{last}" if last else None)
    if last:
        assert found.positions == {"readings": last - 1, "alarms": last}
        assert found.header == b"header-%d" % last
    return last


def test_a_process_killed_at_any_statement_of_a_commit_leaves_whole_batches(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", DYING, str(tmp_path)], check=True, capture_output=True, text=True
    )
    tries = int(done.stdout)
    assert tries >= 12
    for k in range(tries):
        assert whole_batches(tmp_path / f"{k}.db", 3) == 1
    assert whole_batches(tmp_path / f"{tries}.db", 3) == 2


def test_a_process_killed_under_load_has_kept_all_that_it_reported(tmp_path: Path) -> None:
    reported = 0
    for batches in (1, 13, 40, 77):
        with subprocess.Popen(
            [sys.executable, "-c", COMMITTING, str(tmp_path)], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            for _ in range(batches):
                reported = int(process.stdout.readline())
            os.kill(process.pid, signal.SIGKILL)
            rest = process.stdout.read().split()
        reported = int(rest[-1]) if rest else reported
        kept = whole_batches(tmp_path / "journal.db", SIZE)
        assert reported <= kept <= reported + 8
