"""The loop that empties the journal into the cloud store.

* Three feeds, each with a position of its own: alarm transitions go ahead of gaps, gaps ahead of readings,
  and the alarms are looked at again before every batch of readings.
* A request holds up to 5,000 lines. A position advances only when all lines up to it are stored or kept as
  dead letters; after a crash the last request or so is sent again, as the same lines.
* With nothing to send the journal is looked at every second; a reading is in the store a second or two
  after it came. A request that was at least half full, or of readings older than that, is followed at once.
* A failure is answered by waiting 1 to 60 s (doubling, jittered), or as long as the store asks. It is the
  same for one that a person must mend: it is told in the status, and the mending is noticed within a
  minute.
* A line that is refused alone is bad only if the store takes another one: before the first line of a
  request becomes a dead letter, a point of the gateway's own is sent as a trial. If that is refused too, it
  is not the line: everything is kept and a person is asked. So a wrong setting never turns a backlog into
  dead letters.
* What carries provisional times, because the gateway does not know the time, waits until it is known
  (`holding`); what was before it goes at once.
* The request runs in a thread of its own, so `stop` does not wait for a store that hangs; a request that is
  left behind does no harm, because its lines will be sent again.

Memory: one request of lines a feed at most.
"""

import logging
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Final, Protocol, assert_never

from cloud_bridge.holding import Hold
from cloud_bridge.lines import Lines
from cloud_bridge.outcomes import FixNeeded, Halve, Isolate, Outcome, Stored, Wait
from cloud_bridge.source import Feed, JournalUnavailableError, Ledger, Source, State, Status
from rules.alarms import AlarmChange, Transition
from rules.decisions import Input

BATCH_LINES: Final = 5_000
"""InfluxDB's own advice for a request; about 1 MB."""

SMALLEST_BATCH_LINES: Final = 100
"""A store that finds less than this too large is tried with this again in each request."""

POLL_S: Final = 1.0
BACKLOG_MS: Final = 2_000
"""Readings that have waited longer than this are followed by the next at once, however few they were."""

BACKOFF_S: Final = (1.0, 60.0)
REPORT_EVERY_S: Final = 1.0

CONTEXT: Final = {Feed.ALARMS: 256, Feed.GAPS: 16, Feed.READINGS: 16}
"""Rows before the position that are read again at the start: what moves a line to a free millisecond is
what came before it, and the lines after a restart must be the same as without one."""

_log = logging.getLogger(__name__)


class Store(Protocol):
    """Where the lines go."""

    def write(self, body: bytes) -> Outcome:
        """Send lines joined by newlines. Every failure is an outcome. Called in one thread."""


@dataclass(slots=True)
class _Work:
    """Lines of one feed on their way."""

    parts: list[list[bytes]]
    """The next one last."""
    target: int
    """The position when all are through."""
    rows: int
    until: int
    """When the last of its rows was committed (Unix ms)."""
    store_works: bool = False
    """The store has taken a line of this work: a line that it refuses alone is bad."""


def _is_certain(row: tuple[int, AlarmChange]) -> bool:
    """The gateway knew the time, or this was set right since."""
    return not row[1].alarm.provisional


class _Stopped(Exception):
    """`Bridge.stop` was called while a request was under way."""


class Bridge:
    """Forwards from ``source`` to ``store`` and keeps its positions in ``ledger``.

    ``wait`` sleeps for so many seconds and says whether `stop` was called; by default it ends at once then.
    """

    def __init__(  # noqa: PLR0913 - its seams; all but four have defaults
        self,
        source: Source,
        ledger: Ledger,
        store: Store,
        lines: Lines,
        *,
        wait: Callable[[float], bool] | None = None,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        jitter: Callable[[float, float], float] = random.uniform,
        batch_lines: int = BATCH_LINES,
    ) -> None:
        self._source = source
        self._hold = Hold(source)
        self._ledger = ledger
        self._store = store
        self._lines = lines
        self._wait = wait or self._sleep
        self._now = now
        self._monotonic = monotonic
        self._jitter = jitter
        self._batch_lines = batch_lines
        self._requests: SimpleQueue[bytes | None] = SimpleQueue()
        self._answers: SimpleQueue[Outcome | None] = SimpleQueue()
        """None: stop. This queue alone may be spoken to from a signal handler."""
        self._stopping = False
        self._positions: dict[Feed, int] = {}
        self._unrecorded: set[Feed] = set()
        self._work: dict[Feed, _Work] = {}
        self._failures = 0
        self._stored = 0
        self._dead_letters = 0
        self._unforeseen = 0
        """Written by the writer's thread only."""
        self._reported: tuple[State, str | None] | None = None
        self._report_due = 0.0

    def run(self) -> None:
        """Forward until `stop`. Raises only what is a mistake in this program."""
        Thread(target=self._write_requests, name="cloud-writer", daemon=True).start()
        try:
            while not self._stopping:
                if (pause := self._step()) and self._wait(pause):
                    break
        except _Stopped:
            pass
        finally:
            self._requests.put(None)

    def stop(self) -> None:
        """Make `run` return at once. From any thread or signal handler, as often as one likes."""
        self._stopping = True
        self._answers.put(None)

    # --- one step -----------------------------------------------------------------------------------------

    def _step(self) -> float:
        """Send at most one request's worth; the seconds to pause before the next step."""
        try:
            outcome, more = self._forward()
        except JournalUnavailableError as error:
            outcome, more = Wait(f"the gateway does not answer the bridge: {error}"), True
        match outcome:
            case Stored():
                self._failures = 0
                current = State.HOLDING if self._hold.holding else State.CURRENT
                self._report(State.DRAINING if more else current)
                return 0.0 if more else POLL_S
            case Wait(reason, retry_after_s):
                pause = self._backoff(retry_after_s)
                self._report(State.WAITING, reason, pause)
                return pause
            case FixNeeded(reason):
                pause = self._backoff(None)
                self._report(State.FIX_NEEDED, reason, pause)
                return pause

    def _forward(self) -> tuple[Stored | Wait | FixNeeded, bool]:
        """Forward the alarms and gaps that wait, then one request of readings; whether more is worth a request."""
        if not self._positions:
            self._begin()
        self._record()
        more = False
        for feed in Feed:
            while (work := self._work.get(feed) or self._take(feed)) is not None:
                self._work[feed] = work
                outcome = self._deliver(feed, work)
                if not isinstance(outcome, Stored):
                    return outcome, True
                del self._work[feed]
                self._positions[feed] = work.target
                self._unrecorded.add(feed)
                self._record()
                if feed is not Feed.READINGS and work.rows < self._batch_lines:
                    break  # a trickle of alarms that never ends must not keep the readings waiting
                if feed is Feed.READINGS:
                    more = 2 * work.rows >= self._batch_lines or self._now() * 1000 - work.until > BACKLOG_MS
                    break
        return Stored(), more

    def _begin(self) -> None:
        positions = {feed: self._ledger.position(feed) for feed in Feed}
        earlier = {feed: max(0, position - CONTEXT[feed]) for feed, position in positions.items()}
        changes = self._source.alarm_changes_after(earlier[Feed.ALARMS], CONTEXT[Feed.ALARMS])
        gaps = self._source.gaps_after(earlier[Feed.GAPS], CONTEXT[Feed.GAPS])
        said: list[Sequence[Input]] = []
        seq, last = earlier[Feed.READINGS], positions[Feed.READINGS]
        while seq < last and (batches := self._source.readings_after(seq, self._batch_lines)):
            said += [inputs for batch, inputs in self._hold.release(batches) if batch.seq <= last]
            seq = batches[-1].seq
        for _ in self._hold.release(self._source.readings_after(last, self._batch_lines)):
            pass  # now it is known whether the gaps wait
        # Nothing fails from here on: a line that is written twice is moved by a millisecond.
        for number, change in changes:
            if number <= positions[Feed.ALARMS] and change.transition is not Transition.CORRECTED:
                self._lines.alarm(change)
        for number, gap in gaps:
            if number <= positions[Feed.GAPS]:
                self._lines.gap(gap)
        for inputs in said:
            self._lines.readings(inputs)
        self._positions = positions

    def _take(self, feed: Feed) -> _Work | None:
        """The next lines of a feed, or None if there are none."""
        position, limit = self._positions[feed], self._batch_lines
        lines: list[bytes] = []
        until = 0
        match feed:
            case Feed.ALARMS:
                changes = list(takewhile(_is_certain, self._source.alarm_changes_after(position, limit)))
                lines = [
                    self._lines.alarm(change)
                    for _, change in changes
                    if change.transition
                    is not Transition.CORRECTED  # no change: those before it were set right
                ]
                rows, target = len(changes), changes[-1][0] if changes else position
            case Feed.GAPS:
                gaps = [] if self._hold.holding else self._source.gaps_after(position, limit)
                lines = [self._lines.gap(gap) for _, gap in gaps]
                rows, target = len(gaps), gaps[-1][0] if gaps else position
            case Feed.READINGS:
                rows, target = 0, position
                # All are read before the first is written: a line that is written twice is moved by a millisecond.
                for batch, inputs in list(self._hold.release(self._source.readings_after(position, limit))):
                    lines += self._lines.readings(inputs)
                    rows, target, until = rows + len(inputs), batch.seq, batch.now
            case _:
                assert_never(feed)
        if target == position:
            return None
        parts = [lines[start : start + limit] for start in range(0, len(lines), limit)]
        return _Work(parts[::-1], target, rows, until)

    def _record(self) -> None:
        """Write down the positions that are not yet; again and again until the ledger has taken them."""
        for feed in Feed:
            if feed in self._unrecorded:
                self._ledger.advance(feed, self._positions[feed])
                self._unrecorded.discard(feed)

    # --- sending ------------------------------------------------------------------------------------------

    def _deliver(self, feed: Feed, work: _Work) -> Stored | Wait | FixNeeded:
        """Send until all lines of ``work`` are stored or dead letters, or something stands in the way."""
        while work.parts:
            part = work.parts[-1]
            outcome = self._send(part)
            match outcome:
                case Stored():
                    work.store_works = True
                    self._stored += len(part)
                    work.parts.pop()
                case Halve() | Isolate() if len(part) > 1:
                    if isinstance(outcome, Halve):
                        self._batch_lines = max(len(part) // 2, min(SMALLEST_BATCH_LINES, self._batch_lines))
                    middle = len(part) // 2
                    work.parts[-1:] = [part[middle:], part[:middle]]
                case Halve(status, words) | Isolate(status, words):
                    if not work.store_works:
                        if (refused := self._try(status, words)) is not None:
                            return refused
                        work.store_works = True
                    self._ledger.dead_letter(feed, part[0], status, words)
                    self._dead_letters += 1
                    work.parts.pop()
                case Wait() | FixNeeded():
                    return outcome
                case _:
                    assert_never(outcome)
        return Stored()

    def _try(self, status: int, words: str) -> Wait | FixNeeded | None:
        """Whether the store takes a point that cannot be bad; None if it does."""
        trial = self._lines.gateway({"cloud_trial": True}, round(self._now() * 1000))
        match self._send([trial]):
            case Stored():
                return None
            case Halve() | Isolate():
                return FixNeeded(
                    f"the cloud store refuses any line ({status}: {words}): check cloud.org and cloud.bucket"
                )
            case Wait() | FixNeeded() as outcome:
                return outcome

    def _send(self, lines: Sequence[bytes]) -> Outcome:
        self._requests.put(b"\n".join(lines))
        outcome = self._answers.get()
        if outcome is None:
            raise _Stopped
        return outcome

    def _write_requests(self) -> None:
        """The writer's thread: one request at a time, until None comes."""
        while (body := self._requests.get()) is not None:
            try:
                outcome = self._store.write(body)
            except Exception as error:  # noqa: BLE001 - a task's top
                self._unforeseen += 1
                _log.exception("writing to the cloud store failed in an unforeseen way")
                outcome = Wait(f"writing failed in an unforeseen way: {error!r}")
            self._answers.put(outcome)

    # --- waiting and telling ------------------------------------------------------------------------------

    def _backoff(self, retry_after_s: float | None) -> float:
        """Seconds to wait after one more failure in a row."""
        least, most = BACKOFF_S
        top = min(most, least * 2.0 ** min(self._failures + 1, 16))
        self._failures += 1
        pause = max(least, self._jitter(top / 2, top))
        if retry_after_s is not None:
            pause = max(pause, self._jitter(retry_after_s, retry_after_s * 1.1))
        return pause

    def _sleep(self, seconds: float) -> bool:
        """Only `stop` can speak here: no request is under way."""
        try:
            return self._answers.get(timeout=seconds) is None
        except Empty:
            return False

    def _report(self, state: State, error: str | None = None, retry_in_s: float | None = None) -> None:
        """Tell the ledger, and the log when something has changed. A ledger that is away is told later."""
        changed = self._reported != (state, error)
        if not changed and self._monotonic() < self._report_due:
            return
        if changed and error is not None:
            _log.warning("%s", error)
        elif changed and self._reported is not None and self._reported[1] is not None:
            _log.info("the cloud store takes points again")
        self._reported = (state, error)
        self._report_due = self._monotonic() + REPORT_EVERY_S
        try:
            self._ledger.report(
                Status(
                    state=state,
                    behind={feed: self._source.behind(feed, at) for feed, at in self._positions.items()},
                    error=error,
                    retry_in_s=retry_in_s,
                    stored=self._stored,
                    dead_letters=self._dead_letters,
                    failures=self._unforeseen,
                )
            )
        except JournalUnavailableError as unreachable:
            _log.debug("not reported: %s", unreachable)
