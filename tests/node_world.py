"""A node in the test's own process: real rules, real journal, and links that the test plays or real ones."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from devices.readings import Channel, Reading
from devices.registry import Registry
from devices.topics import Lane, Topics
from edge.checking import load_registry, load_rules
from edge.clock import Clock, monotonic_ms, wall_ms
from edge.mqtt.five import mqtt5_link
from edge.mqtt.link import Connected, Delivery, Link, LinkSettings, NotConnected
from edge.node import Identity, Node
from edge.settings import Config
from edge.store.journal import Journal
from edge.store.reader import JournalReader
from edge.store.records import Batch, Committed, KeptRules
from edge.store.schema import FILE
from edge.store.writer import Writer
from rules.definitions import RuleSet
from rules.engine import Engine
from tests.waiting import PATIENCE_S, until

TOPICS = Topics("community", "c1")
NO_LIMIT = 1_073_741_823
BALLAST = 1024 * 1024


class PlayedLink:
    """A link whose broker is the test: what is published is taken at once, acknowledgements are written down."""

    def __init__(self) -> None:
        self.acknowledged: list[tuple[int, int]] = []
        """Connection and packet identifier."""
        self.published: list[tuple[str, bytes]] = []
        self.retained: dict[str, bytes] = {}
        self.expiring: dict[str, int] = {}
        """Seconds that the broker may keep what was published."""
        self.reconnects: list[str] = []
        self.up = True
        self.paused = False

    async def run(self) -> None:
        await asyncio.Event().wait()

    def acknowledge(self, connection: int, packet_ids: Sequence[int]) -> None:
        self.acknowledged += [(connection, packet_id) for packet_id in packet_ids]

    async def publish(
        self, topic: str, payload: bytes, *, retain: bool = False, expires_in_s: int | None = None
    ) -> None:
        if not self.up:
            raise NotConnected("the test has cut it")
        self.published.append((topic, payload))
        if expires_in_s is not None:
            self.expiring[topic] = expires_in_s
        if retain and payload:
            self.retained[topic] = payload
        elif retain:
            self.retained.pop(topic, None)

    async def read_retained(self, topic_filter: str) -> dict[str, bytes]:
        if not self.up:
            raise NotConnected("the test has cut it")
        return {topic: payload for topic, payload in self.retained.items() if topic_filter[:-1] in topic}

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def reconnect(self, reason: str) -> None:
        self.reconnects.append(reason)


class World:
    """A node and, where they are played, its links."""

    def __init__(self, node: Node, played: Mapping[Lane, PlayedLink], journal: Journal) -> None:
        self.node = node
        self.played = played
        self.journal = journal
        self._connections = 0

    def connect(self, *, session_present: bool = True) -> int:
        """Both sessions come up; the connection's number."""
        self._connections += 1
        for lane in Lane:
            self.node.ingest.connected(Connected(lane, self._connections, session_present, 4_096))
        return self._connections

    def cut(self) -> None:
        """Both connections are lost."""
        for lane in Lane:
            self.node.ingest.disconnected(lane, self._connections, "cut by the test")

    def say(
        self, topic: str, payload: bytes, packet_id: int, *, dup: bool = False, retain: bool = False
    ) -> None:
        """One message below the community on the lane that it belongs to."""
        lane = Lane.BULK if "charger" in topic and topic.endswith("telemetry") else Lane.SAFETY
        delivery = Delivery(f"community/c1/{topic}", payload, packet_id, dup, retain)
        self.node.ingest.received(lane, self._connections, [delivery])

    def told(self) -> list[bytes]:
        """What was published about alarms."""
        link = self.played[Lane.SAFETY]
        return [payload for topic, payload in link.published if "/alarm/" in topic]

    def readings(self) -> list[Reading]:
        """What devices have said, as it is on the disk."""
        with JournalReader(self.journal.path) as reader:
            return [
                given
                for batch in reader.batches_after(0, 1_000_000)
                for given in batch.inputs
                if isinstance(given, Reading)
                and given.channel is not Channel.STATUS
                and "/gateway/" not in given.address
            ]


class FastClock(Clock):
    """The real clock, but `ahead` lets time pass at once, by every clock alike."""

    def __init__(self, passed_ms: int = 0) -> None:
        self.passed_ms = passed_ms
        super().__init__(lambda: wall_ms() + self.passed_ms, lambda: monotonic_ms() + self.passed_ms)


def ahead(clock: Clock, passed_ms: int) -> None:
    """So much time has passed."""
    assert isinstance(clock, FastClock)
    clock.passed_ms += passed_ms


@asynccontextmanager
async def node_world(
    folder: Path,
    *,
    broker_port: int | None = None,
    rules: RuleSet | None = None,
    commit_ms: int = 20,
    clock: Clock | None = None,
    kept: KeptRules | None = None,
    registry: Path | None = None,
    embedded: bool = False,
) -> AsyncIterator[World]:
    """A running node on the journal in ``folder``: with a broker on real links, without on played ones.

    It ends without a word, so the next on the same folder starts as after a crash.
    """
    config = Config(data_dir=folder, devices=registry)
    async with Journal(folder, max_bytes=10**9, forwarding=False, ballast_bytes=BALLAST) as journal:
        engine = Engine(
            rules or load_rules(config),
            site="c1",
            node="gw-1",
            place_of=lambda _: {},
            unregistered_max=20_000,
        )
        registered: Registry = load_registry(config)
        who = Identity("c1", "gw-1", TOPICS, commit_ms, embedded_broker=embedded)
        node = Node(who, engine, registered, journal, clock or FastClock(), kept)
        played: dict[Lane, PlayedLink] = {}
        links: dict[Lane, Link] = {}
        for lane in Lane:
            if broker_port is None:
                links[lane] = played[lane] = PlayedLink()
            else:
                settings = LinkSettings("127.0.0.1", broker_port, f"c1-gw-1-{lane}", TOPICS.filters(lane))
                links[lane] = mqtt5_link(lane, settings, node.ingest)
        node.attach(links)
        running = asyncio.create_task(node.run())
        try:
            yield World(node, played, journal)
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running


class FullDisk:
    """While `full`, SQLite finds no page for anything new: the real SQLITE_FULL, by its own limit."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full = False
        commit = Writer.commit

        def bounded(writer: Writer, batch: Batch) -> Committed:
            limit = NO_LIMIT
            if self.full:
                limit = writer.connection.execute("PRAGMA page_count").fetchone()[0]
            writer.connection.execute(f"PRAGMA max_page_count = {limit}")
            return commit(writer, batch)

        monkeypatch.setattr(Writer, "commit", bounded)


class FailingDisk:
    """The next ``fails`` commits end with an error of the disk, whatever they hold; in ``hangs`` they wait."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fails = 0
        self.after = False
        """The error comes after the transaction is on disk, as a failed sync may leave it."""
        self.answers = threading.Event()
        self.answers.set()
        self.hung = threading.Event()
        """A commit waits in it."""
        commit = Writer.commit

        def failing(writer: Writer, batch: Batch) -> Committed:
            if not self.answers.is_set():
                self.hung.set()
                self.answers.wait(PATIENCE_S)
            if self.fails:
                self.fails -= 1
                sure = writer._sure_number  # noqa: SLF001 - what a writer knows whose commit has failed
                if self.after:
                    commit(writer, batch)
                writer._standing, writer._sure_number = None, sure  # noqa: SLF001
                raise sqlite3.OperationalError("disk I/O error")
            return commit(writer, batch)

        monkeypatch.setattr(Writer, "commit", failing)


async def settled(world: World) -> None:
    """All that was said is on the disk."""
    async with asyncio.timeout(PATIENCE_S):
        await world.node.commits.drain()
        await world.node.commits.drain()


async def caught_up(world: World) -> None:
    """What waited in the broker has been read: delays count."""
    await until(lambda: not world.node.intake.state.catching_up)


async def hung(world: World, disk: FailingDisk, topic: str, payload: bytes, packet_id: int) -> None:
    """The message is being written, and the disk does not answer."""
    disk.answers.clear()
    world.say(topic, payload, packet_id)
    await until(disk.hung.is_set)


def climb(monkeypatch: pytest.MonkeyPatch, *, hung_s: float = 0.3, again_s: float = 0.05) -> None:
    """The same ladder of a store that fails (docs/adr/0008), climbed sooner."""
    for name, value in {"TELL_S": 0.1, "HUNG_S": hung_s, "AGAIN_S": again_s, "PROBE_S": (0.1,)}.items():
        monkeypatch.setattr(f"edge.committing.ladder.{name}", value)


def rows(folder: Path, statement: str) -> list[tuple[object, ...]]:
    """What a table of the journal holds."""
    connection = sqlite3.connect(f"{(folder / FILE).absolute().as_uri()}?mode=ro", uri=True)
    try:
        return connection.execute(statement).fetchall()
    finally:
        connection.close()
