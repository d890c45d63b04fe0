"""The node's control socket: framing, requests, pushes. The protocol is docs/control-socket.md.

Whoever can open the socket is the gateway's own user (mode 0600). A client that sends nonsense is answered
and dropped; one that does not read is dropped. Neither costs the node more than a line.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

log = logging.getLogger("anlin.control")

REQUEST_MAX = 4 * 1024 * 1024
"""Bytes of a line: rule files are the longest."""
BACKLOG_MAX = 1024 * 1024
"""Bytes that may wait for a client that does not read."""

CLIENTS_MAX = 64


class Refused(Exception):
    """The request cannot be granted; the code is one of docs/control-socket.md."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Request(msgspec.Struct, frozen=True):
    """A line from a client; an operation reads its own arguments from ``line``."""

    op: str
    id: int


Answer = Callable[[Request, bytes], Awaitable[object]]
"""Takes a request and its line; gives what `msgspec` can encode as the result, or raises `Refused`."""

_decode = msgspec.json.Decoder(Request).decode
_encode = msgspec.json.Encoder().encode


class ControlServer:
    """Serves the socket until cancelled."""

    def __init__(self, path: Path, answer: Answer) -> None:
        self._path = path
        self._answer = answer
        self._subscribers: set[asyncio.StreamWriter] = set()
        self._clients = 0
        self.failures = 0
        """Requests that failed by a mistake of ours."""

    async def run(self) -> None:
        """Listen; the socket file is made anew and removed at the end. Raises `OSError` with the remedy."""
        self._path.unlink(missing_ok=True)
        try:
            server = await asyncio.start_unix_server(self._serve, str(self._path), limit=REQUEST_MAX)
        except OSError as error:
            raise OSError(
                f"no control socket {self._path} ({error}): set data_dir to a shorter path"
            ) from error
        self._path.chmod(0o600)
        try:
            async with server:
                await server.serve_forever()
        finally:
            self._path.unlink(missing_ok=True)

    def push(self, change: object) -> None:
        """Send a line to every subscriber; one that does not read is dropped."""
        if not self._subscribers:
            return
        line = _encode(change) + b"\n"
        for writer in list(self._subscribers):
            if writer.transport.get_write_buffer_size() > BACKLOG_MAX or writer.is_closing():
                log.warning("a client of the control socket does not read; dropped")
                self._subscribers.discard(writer)
                writer.transport.abort()
            else:
                writer.write(line)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients += 1
        try:
            if self._clients <= CLIENTS_MAX:
                while await self._one(reader, writer):
                    await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # gone, which is its right
        finally:
            self._clients -= 1
            self._subscribers.discard(writer)
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        try:
            line = await reader.readline()
        except ValueError:
            line = b"-"  # longer than REQUEST_MAX
        if not line:
            return False
        try:
            str(line, "utf-8")  # all of it: a decoder passes over what it does not know
            request = _decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            writer.write(_refusal(None, "bad_request", str(error)))
            return False
        if request.op == "subscribe":
            self._subscribers.add(writer)
            writer.write(_encode({"id": request.id, "ok": True, "result": {}}) + b"\n")
            return True
        try:
            result = await self._answer(request, line)
        except Refused as refused:
            writer.write(_refusal(request.id, refused.code, refused.message))
        except msgspec.MsgspecError as error:
            writer.write(_refusal(request.id, "bad_request", str(error)))
        except Exception:  # the task's top
            self.failures += 1
            log.exception("a request on the control socket failed", extra={"op": request.op})
            writer.write(_refusal(request.id, "internal", "a mistake in the gateway: see its log"))
        else:
            writer.write(_encode({"id": request.id, "ok": True, "result": result}) + b"\n")
        return True


def _refusal(request_id: int | None, code: str, message: str) -> bytes:
    return _encode({"id": request_id, "ok": False, "error": {"code": code, "message": message}}) + b"\n"
