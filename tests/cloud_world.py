"""A cloud store that says what a test wants, and a journal in memory to be emptied into it."""

import gzip
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import NamedTuple, Self
from urllib.parse import parse_qsl, urlsplit

from cloud_bridge.bridge import BATCH_LINES, Bridge
from cloud_bridge.lines import Lines
from cloud_bridge.source import Feed, GapRow, JournalUnavailableError, State, Status
from cloud_bridge.writer import CloudStore, StoreSettings
from devices.readings import Address, Channel, Reading
from rules.alarms import Alarm, AlarmChange, Severity, Transition
from rules.decisions import Input
from tests.waiting import PATIENCE_S

TOKEN = "a-token"
NOW = 1_790_000_000_000


@dataclass(frozen=True)
class Reply:
    """One answer. ``stores``: the lines are kept, as a store does that answers 204."""

    status: int = 204
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    stores: bool = False
    cut: bool = False
    """The connection ends within the answer."""
    hang: bool = False
    """No answer until the test is over."""


STORED = Reply(stores=True)


class ScriptedStore:
    """Answers in turn what ``script`` says and then ``usual``; ``requests`` and ``stored`` hold what came."""

    def __init__(self, *script: Reply, usual: Callable[[list[bytes]], Reply] = lambda _: STORED) -> None:
        self.script = deque(script)
        self.usual = usual
        self.requests: list[list[bytes]] = []
        self.queries: list[dict[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.stored: list[bytes] = []
        self.came = threading.Event()
        self.over = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, lines: list[bytes]) -> Reply:
        self.requests.append(lines)
        reply = self.script.popleft() if self.script else self.usual(lines)
        if reply.stores:
            self.stored += lines
        self.came.set()
        return reply


def _handler(store: ScriptedStore) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 5
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            store.headers.append({name.lower(): value for name, value in self.headers.items()})
            store.queries.append(dict(parse_qsl(urlsplit(self.path).query)))
            reply = store.answer(body.split(b"\n"))
            if reply.hang:
                store.over.wait()
                self.close_connection = True
                return
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            if reply.status != 204:
                self.send_header("Content-Length", str(len(reply.body) + 100 * reply.cut))
            elif reply.cut:
                self.wfile.write(b"HTTP/1.1 2")
                self.close_connection = True
                return
            self.end_headers()
            self.wfile.write(reply.body)
            self.close_connection = reply.cut or self.close_connection

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            pass

    return Handler


def refusing(*bad: bytes, status: int = 400) -> Callable[[list[bytes]], Reply]:
    """A store that stores nothing of a request with one of these lines in it, and says which."""

    def usual(lines: list[bytes]) -> Reply:
        for line in lines:
            if line in bad:
                return Reply(status, body=b'{"code":"invalid","message":"unable to parse: bad line"}')
        return STORED

    return usual


class Batch(NamedTuple):
    seq: int
    now: int
    inputs: Sequence[Input]


class DeadLetter(NamedTuple):
    feed: Feed
    line: bytes
    status: int
    words: str


class Journal:
    """Source and ledger in one, in memory; what a crash leaves is this object without its bridge."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.changes: list[tuple[int, AlarmChange]] = []
        self.gaps: list[tuple[int, GapRow]] = []
        self.positions: dict[Feed, int] = {}
        self.advances: list[tuple[Feed, int]] = []
        self.dead: list[DeadLetter] = []
        self.reports: list[Status] = []
        self.reported = threading.Condition()
        self.now = NOW
        self.most_batches = 1_000
        """Rows of one answer, however few readings they hold."""
        self.away = 0
        """How many of the next calls fail."""

    # what the node writes

    def commit(self, *inputs: Input) -> None:
        self.batches.append(Batch(len(self.batches) + 1, self.now, inputs))

    def change(self, *changes: AlarmChange) -> None:
        for change in changes:
            self.changes.append((len(self.changes) + 1, change))

    def lose(self, gap: GapRow) -> None:
        self.gaps.append((len(self.gaps) + 1, gap))

    @property
    def emptied(self) -> bool:
        return all(
            self.positions.get(feed, 0) == len(rows)
            for feed, rows in (
                (Feed.ALARMS, self.changes),
                (Feed.GAPS, self.gaps),
                (Feed.READINGS, self.batches),
            )
        )

    # Source

    def readings_after(self, position: int, limit: int) -> Sequence[Batch]:
        self.reach()
        taken: list[Batch] = []
        for batch in self.batches[position:]:
            full = sum(len(each.inputs) for each in taken) + len(batch.inputs) > limit
            if taken and (full or len(taken) == self.most_batches):
                break
            taken.append(batch)
        return taken

    def alarm_changes_after(self, position: int, limit: int) -> Sequence[tuple[int, AlarmChange]]:
        self.reach()
        return self.changes[position : position + limit]

    def gaps_after(self, position: int, limit: int) -> Sequence[tuple[int, GapRow]]:
        self.reach()
        return self.gaps[position : position + limit]

    def behind(self, feed: Feed, position: int) -> int:
        match feed:
            case Feed.ALARMS:
                return len(self.changes) - position
            case Feed.GAPS:
                return len(self.gaps) - position
            case Feed.READINGS:
                return sum(len(batch.inputs) for batch in self.batches[position:])

    # Ledger

    def position(self, feed: Feed) -> int:
        self.reach()
        return self.positions.get(feed, 0)

    def advance(self, feed: Feed, position: int) -> None:
        self.reach()
        assert position > self.positions.get(feed, 0)
        self.positions[feed] = position
        self.advances.append((feed, position))

    def dead_letter(self, feed: Feed, line: bytes, status: int, words: str) -> None:
        self.reach()
        self.dead.append(DeadLetter(feed, line, status, words))

    def report(self, status: Status) -> None:
        with self.reported:
            self.reports.append(status)
            self.reported.notify_all()

    def await_state(self, state: State) -> Status:
        with self.reported:
            assert self.reported.wait_for(
                lambda: self.reports and self.reports[-1].state is state, PATIENCE_S
            )
            return self.reports[-1]

    def reach(self) -> None:
        if self.away:
            self.away -= 1
            raise JournalUnavailableError("the node is starting")


class Forwarding:
    """A bridge from a journal to a store, with a clock of its own: pauses are noted, not slept."""

    def __init__(
        self,
        journal: Journal,
        url: str,
        *,
        batch_lines: int = BATCH_LINES,
        timeout_s: float = 5.0,
        use_gzip: bool | None = None,
        token: str | None = TOKEN,
    ) -> None:
        self.journal = journal
        self.pauses: list[float] = []
        self.at_pause: Callable[[], None] = lambda: None
        """Called in each pause, e.g. to mend something."""
        self.pause_limit = 30
        self.clock = 0.0
        self.store = CloudStore(
            StoreSettings(url, "anlin", "community", token, use_gzip, timeout_s), now=lambda: NOW / 1000
        )
        self.lines = Lines("c1", "gw-1", lambda _: {"building": "3"})
        self.bridge = Bridge(
            journal,
            journal,
            self.store,
            self.lines,
            wait=self._wait,
            now=lambda: NOW / 1000,
            monotonic=lambda: self.clock,
            batch_lines=batch_lines,
        )

    def run(self) -> Self:
        """Until the journal is empty or there was a pause too many."""
        try:
            self.bridge.run()
        finally:
            self.store.close()
        return self

    def _wait(self, seconds: float) -> bool:
        if self.journal.emptied:
            return True
        self.pauses.append(seconds)
        self.clock += seconds
        self.at_pause()
        return len(self.pauses) >= self.pause_limit


def reading(number: int, device: str = "p1", **values: bool | float | str) -> Reading:
    """The ``number``-th of a device, each in a second of its own."""
    at = NOW + number * 1000
    return Reading(
        Channel.TELEMETRY, Address(f"c1/charger/{device}"), dict(values) or {"power": 1.5}, at, at + 1
    )


def fill(journal: Journal, readings: int, per_batch: int = 1000) -> list[bytes]:
    """Commit so many readings; their lines."""
    numbers = range(readings)
    for start in numbers[::per_batch]:
        journal.commit(*map(reading, numbers[start : start + per_batch]))
    return [line(number) for number in numbers]


def line(number: int) -> bytes:
    """Of `reading`, written by hand."""
    return b"charger,site=c1,device=p1,building=3 power=1.5 %d" % (NOW + number * 1000)


def change(number: int, transition: Transition = Transition.RAISED, at: int | None = None) -> AlarmChange:
    """The ``number``-th alarm change; its occurrences are its number."""
    moment = NOW + number if at is None else at
    alarm = Alarm(
        id="01J",
        key="emergency:c1/button/b1",
        rule="emergency",
        severity=Severity.CRITICAL,
        site="c1",
        node="gw-1",
        kind="button",
        device="b1",
        place={"building": "3"},
        text={},
        values={},
        source_time=moment,
        received_at=moment,
        first_raised_at=NOW,
        raised_at=moment,
        occurrences=number,
    )
    return AlarmChange(transition, alarm, moment)
