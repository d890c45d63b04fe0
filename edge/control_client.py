"""The client's end of the node's control socket (docs/control-socket.md), for the web and the command line.

Promises: every call ends within its timeout, with an answer or with a `ControlError` whose text says what to
do; a connection that failed is never used again, the next request opens a new one. Must not: retry an order
(the caller knows whether asking twice is harmless).
"""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import msgspec

SOCKET_NAME = "node.sock"
"""In the data directory."""

ANSWER_MAX = 8 * 1024 * 1024
"""Bytes of one line from the node."""

_SUBSCRIPTION = 0


class ControlError(Exception):
    """Of this module."""


class NodeAwayError(ControlError):
    """No gateway answers on the socket: none runs, it is starting, or it hangs."""


class OrderRefusedError(ControlError):
    """The gateway has understood and says no."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(message)


class Reason(msgspec.Struct, frozen=True):
    """One thing that is wrong, and what to do about it."""

    code: str
    message: str
    remedy: str = ""


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """What the node says of itself."""

    status: Literal["ok", "degraded", "failed"]
    reasons: list[Reason] = []
    embedded_broker: bool | None = None
    version: str = ""
    site: str = ""
    node: str = ""
    uptime_s: float | None = None
    cloud: dict[str, object] | None = None
    history: dict[str, object] | None = None
    counts: dict[str, int] = {}


class Push(msgspec.Struct, frozen=True, tag_field="push", tag="alarm"):
    """A committed alarm change. ``alarm`` is the contract's wire JSON as it came."""

    number: int
    transition: str
    alarm: msgspec.Raw


class _Refusal(msgspec.Struct, frozen=True):
    code: str
    message: str


class _Answer(msgspec.Struct, frozen=True):
    id: int | None
    ok: bool
    result: msgspec.Raw = msgspec.Raw(b"null")
    error: _Refusal | None = None


_encode = msgspec.json.Encoder().encode
_decode_answer = msgspec.json.Decoder(_Answer).decode
_decode_push = msgspec.json.Decoder(Push).decode


class ControlClient:
    """One connection for requests, opened when needed, and one for each subscription."""

    def __init__(self, path: Path, timeout_s: float = 2.0) -> None:
        self.path = path
        self.timeout_s = timeout_s
        self._turn = asyncio.Lock()
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._id = _SUBSCRIPTION

    async def request(self, op: str, **args: object) -> msgspec.Raw:
        """The result of ``op`` as JSON. The timeout covers waiting for one's turn, connecting and the answer.

        Raises:
            NodeAwayError: no answer in time, or no connection.
            OrderRefusedError: the node says no.
        """
        try:
            async with asyncio.timeout(self.timeout_s), self._turn:
                return await self._ask(op, args)
        except TimeoutError as error:
            raise _away(self.path, error) from error

    async def close(self) -> None:
        """Close the connection for requests; the next request opens another."""
        streams, self._streams = self._streams, None
        if streams is not None:
            streams[1].close()

    async def _ask(self, op: str, args: dict[str, object]) -> msgspec.Raw:
        if self._streams is None or self._streams[0].at_eof():
            await self.close()
            self._streams = await self._connect()
        reader, writer = self._streams
        self._id += 1
        answered = False
        try:
            writer.write(_line(self._id, op, args))
            await writer.drain()
            answer = _answer(await reader.readline(), self._id, self.path)
            answered = True
        except (OSError, ValueError) as error:
            raise _away(self.path, error) from error
        finally:
            if not answered:  # also when cancelled: a late answer must not meet the next request
                await self.close()
        return _result(answer)

    @asynccontextmanager
    async def subscribe(self) -> AsyncIterator[AsyncIterator[Push]]:
        """Every alarm change committed from now on, until the node closes the connection.

        Within the block the subscription stands. The iterator ends with `NodeAwayError`.
        """
        try:
            async with asyncio.timeout(self.timeout_s):
                reader, writer = await self._subscription()
        except TimeoutError as error:
            raise _away(self.path, error) from error
        try:
            yield self._pushes(reader)
        finally:
            writer.close()

    async def _subscription(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await self._connect()
        stands = False
        try:
            writer.write(_line(_SUBSCRIPTION, "subscribe", {}))
            await writer.drain()
            _result(_answer(await reader.readline(), _SUBSCRIPTION, self.path))
            stands = True
        except (OSError, ValueError) as error:
            raise _away(self.path, error) from error
        finally:
            if not stands:
                writer.close()
        return reader, writer

    async def _pushes(self, reader: asyncio.StreamReader) -> AsyncIterator[Push]:
        while True:
            try:
                line = await reader.readline()
                push = _decode_push(line) if line else None
            except (OSError, ValueError, msgspec.MsgspecError) as error:
                raise _away(self.path, error) from error
            if push is None:
                raise _away(self.path, None)
            yield push

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        try:
            return await asyncio.open_unix_connection(self.path, limit=ANSWER_MAX)
        except OSError as error:
            raise _away(self.path, error) from error


def request(path: Path, op: str, *, timeout_s: float = 10.0, **args: object) -> msgspec.Raw:
    """`ControlClient.request` for a program without an event loop."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(timeout_s)
            connection.connect(str(path))
            connection.sendall(_line(1, op, args))
            with connection.makefile("rb") as lines:
                answer = _answer(lines.readline(ANSWER_MAX), 1, path)
    except OSError as error:
        raise _away(path, error) from error
    return _result(answer)


def _line(number: int, op: str, args: dict[str, object]) -> bytes:
    given = {name: value for name, value in args.items() if value is not None}
    return _encode({"id": number, "op": op, **given}) + b"\n"


def _answer(line: bytes, number: int, path: Path) -> _Answer:
    if not line:
        raise _away(path, None)
    try:
        answer = _decode_answer(line)
    except msgspec.MsgspecError as error:
        raise _away(path, error) from error
    if answer.id != number and answer.ok:
        raise NodeAwayError(f"the gateway on {path} answers another question: restart it")
    return answer


def _result(answer: _Answer) -> msgspec.Raw:
    if answer.ok:
        return answer.result
    refusal = answer.error or _Refusal("internal", "no reason given")
    raise OrderRefusedError(refusal.code, refusal.message)


def _away(path: Path, error: BaseException | None) -> NodeAwayError:
    match error:
        case FileNotFoundError() | ConnectionRefusedError():
            return NodeAwayError(f"no gateway runs on {path}: start it with `anlin run`")
        case PermissionError():
            return NodeAwayError(f"{path} belongs to another user: run this as the gateway's own user")
        case TimeoutError():
            return NodeAwayError(f"the gateway on {path} does not answer in time: see its log, or restart it")
        case msgspec.MsgspecError():
            return NodeAwayError(f"the gateway on {path} speaks another version: restart it ({error})")
        case None:
            return NodeAwayError(f"the gateway on {path} has closed the connection: see its log")
        case _:
            return NodeAwayError(f"no gateway can be reached on {path} ({error}): start it with `anlin run`")
