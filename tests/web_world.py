"""What tests of the web stand in: the real process, a real journal, a client that sees every byte."""

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from edge.store.journal import Journal
from edge.store.records import Batch, Gap
from edge.web.settings import WebSettings
from rules.alarms import Alarm, AlarmChange, Severity, Transition
from rules.ids import ulid
from tests.waiting import EVERY_S, PATIENCE_S

ROOT = Path(__file__).resolve().parent.parent
START_MS = 1_790_000_000_000


def alarm(number: int = 1, **facts: Any) -> Alarm:
    """An alarm with its facts; ``number`` tells one from another."""
    at = START_MS + number * 1000
    known: dict[str, Any] = {
        "id": ulid(at, number),
        "key": f"smoke-alarm:c1/smoke/sm{number:04}",
        "rule": "smoke-alarm",
        "severity": Severity.CRITICAL,
        "site": "c1",
        "node": "gw-1",
        "kind": "smoke",
        "device": f"sm{number:04}",
        "place": {"building": "3", "unit": "2", "floor": "11", "room": "1102"},
        "text": {"en": f"Smoke at sm{number:04}", "zh": f"烟感 sm{number:04} 报警"},
        "values": {"smoke": True, "density": 0.31},
        "source_time": at,
        "received_at": at + 2,
        "first_raised_at": at,
        "raised_at": at,
    }
    return Alarm(**{**known, **facts})


def raised(one: Alarm) -> AlarmChange:
    return AlarmChange(Transition.RAISED, one, one.raised_at)


def changed(one: Alarm, transition: Transition, **facts: Any) -> AlarmChange:
    after = msgspec.structs.replace(one, **{"version": one.version + 1, **facts})
    return AlarmChange(transition, after, after.raised_at + 1000)


class Book:
    """A real journal that alarm changes are committed to; gives their numbers."""

    def __init__(self, data_dir: Path) -> None:
        self._journal = Journal(data_dir, max_bytes=10**9, forwarding=False)
        self._seq = 0

    async def __aenter__(self) -> Self:
        await self._journal.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._journal.close()

    async def commit(self, *changes: AlarmChange) -> list[int]:
        self._seq += 1
        batch = Batch(self._seq, now=changes[-1].at, changes=list(changes))
        return [number for number, _ in (await self._journal.commit(batch)).changes]

    async def lose(self, *gaps: Gap) -> None:
        self._seq += 1
        await self._journal.commit(Batch(self._seq, now=gaps[-1].at, gaps=list(gaps)))


@dataclass(slots=True)
class Answer:
    """An HTTP answer; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(slots=True)
class Stream:
    """Server-sent events as they come."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    heartbeats: int = 0
    last_id: int | None = None
    """As a browser keeps it."""
    fields: dict[str, str] = field(default_factory=dict)

    async def block(self) -> dict[str, str]:
        """The next block's fields, a comment under the name ``:``."""
        fields: dict[str, str] = {}
        async with asyncio.timeout(PATIENCE_S):
            while (line := (await self.reader.readline()).decode()) not in ("\n", ""):
                name, _, value = line.rstrip("\n").partition(":")
                fields[name or ":"] = value.strip()
        if not line and not fields:
            raise EOFError
        if "id" in fields:
            self.last_id = int(fields["id"])
        self.heartbeats += ":" in fields
        return fields

    async def alarms(self, count: int) -> list[tuple[int, Any]]:
        """The next ``count`` alarm changes."""
        found: list[tuple[int, Any]] = []
        async with asyncio.timeout(PATIENCE_S):
            while len(found) < count:
                fields = await self.block()
                if "data" in fields:
                    found.append((int(fields["id"]), json.loads(fields["data"])))
        return found


@dataclass(slots=True)
class Web:
    """The process and where it serves."""

    process: asyncio.subprocess.Process
    port: int

    async def get(self, path: str, **headers: str) -> Answer:
        reader, writer = await self._ask(path, headers)
        try:
            async with asyncio.timeout(PATIENCE_S):
                status, told = await self._head(reader)
                return Answer(status, told, await reader.read())
        finally:
            writer.close()

    async def eventually(self, path: str, status: int) -> Answer:
        """The first answer with this status."""
        async with asyncio.timeout(PATIENCE_S):
            while (answer := await self.get(path)).status != status:
                await asyncio.sleep(EVERY_S)
        return answer

    async def streams(self, count: int) -> None:
        """Wait until so many event streams are open."""
        async with asyncio.timeout(PATIENCE_S):
            while f"anlin_web_streams {count}\n".encode() not in (await self.get("/metrics")).body:
                await asyncio.sleep(EVERY_S)

    @asynccontextmanager
    async def stream(self, query: str = "", **headers: str) -> AsyncIterator[Stream]:
        reader, writer = await self._ask(f"/api/v1/stream{query}", headers)
        try:
            status, told = await self._head(reader)
            assert status == 200
            assert told["content-type"].startswith("text/event-stream")
            yield Stream(reader, writer)
        finally:
            writer.close()

    async def _ask(
        self, path: str, headers: dict[str, str]
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=2**24)
        told = {"Host": f"127.0.0.1:{self.port}", **headers}
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in told.items())
        # HTTP/1.0: the answer ends with the connection, and nothing is chunked.
        writer.write(f"GET {path} HTTP/1.0\r\n{lines}\r\n".encode())
        return reader, writer

    async def _head(self, reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
        async with asyncio.timeout(PATIENCE_S):
            first, *rest = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        pairs = (line.partition(":") for line in rest if line)
        return int(first.split()[1]), {name.lower(): value.strip() for name, _, value in pairs}


@asynccontextmanager
async def web(data_dir: Path, **settings: Any) -> AsyncIterator[Web]:
    """The web process on a free port, ended with the block."""
    known = WebSettings(**{"data_dir": str(data_dir), "site": "c1", "port": 0, **settings})
    process = await asyncio.create_subprocess_exec(
        *known.command(), cwd=ROOT, stdin=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stderr is not None
    try:
        async with asyncio.timeout(PATIENCE_S):
            said = (await process.stderr.readline()).decode()
        found = re.search(r"url=http://\S+:(\d+)/", said)
        assert found is not None, said
        yield Web(process, int(found[1]))
    finally:
        process.stdin.close()
        with suppress(ProcessLookupError):
            process.terminate()
        async with asyncio.timeout(PATIENCE_S):
            await process.wait()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port
