"""The web's end of the history: one helper process that answers, started when somebody asks.

Questions take turns, as those to the journal do. A helper that is too slow or has ended costs its question and no
more; one that nobody has asked for a while is let go, and its memory with it. Must not: import pyarrow here.
"""

import asyncio
import logging
import sys
from collections.abc import Mapping
from contextlib import suppress

import msgspec

log = logging.getLogger("anlin.web")

ANSWER_S = 15.0
IDLE_S = 60.0
ANSWER_MAX = 64 * 1024 * 1024
"""Bytes of one page."""

WAITING_MAX = 8
"""Questions that may wait for their turn."""


class HistoryAwayError(Exception):
    """The history cannot be asked now, or not this; the text says what to do."""


class _Refusal(msgspec.Struct, frozen=True):
    error: str | None = None


class HistoryHelper:
    """Asks the helper of one data directory; ``idle_s`` seconds without a question end it."""

    def __init__(self, data_dir: str, *, idle_s: float = IDLE_S) -> None:
        self._data_dir = data_dir
        self._idle_s = idle_s
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._idle: asyncio.Task[None] | None = None

    async def ask(self, question: Mapping[str, object]) -> bytes:
        """The page, as JSON. Raises `HistoryAwayError`."""
        if self._waiting >= WAITING_MAX:
            raise HistoryAwayError("too many questions about the history wait: ask again in a while")
        self._waiting += 1
        try:
            async with self._turn:
                return await self._ask(msgspec.json.encode(question))
        finally:
            self._waiting -= 1

    async def close(self) -> None:
        """End the helper."""
        if self._idle is not None:
            self._idle.cancel()
        async with self._turn:
            await self._end()

    async def _ask(self, line: bytes) -> bytes:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        answered = False
        try:
            async with asyncio.timeout(ANSWER_S):
                process = await self._started()
                assert process.stdin is not None  # noqa: S101 - asked for when it was started
                assert process.stdout is not None  # noqa: S101 - as above
                process.stdin.write(line + b"\n")
                await process.stdin.drain()
                said = await process.stdout.readline()
            answered = said.endswith(b"\n")
        except TimeoutError as error:
            raise HistoryAwayError(f"no answer within {ANSWER_S:.0f} s: ask for a shorter time") from error
        except ValueError as error:  # a line beyond the limit
            raise HistoryAwayError(f"more than {ANSWER_MAX:,} bytes: ask for less with limit") from error
        except OSError as error:
            raise HistoryAwayError(f"the history cannot be asked ({error}): see the gateway's log") from error
        finally:
            if not answered:  # also when cancelled: a late answer must not meet the next question
                await self._end()
        if not answered:
            raise HistoryAwayError("the history's process has ended: see the gateway's log, then ask again")
        self._idle = asyncio.create_task(self._end_when_idle(), name="history-idle")
        refusal = msgspec.json.decode(said, type=_Refusal).error
        if refusal is not None:
            raise HistoryAwayError(refusal)
        return said.rstrip()

    async def _started(self) -> asyncio.subprocess.Process:
        if self._process is None or self._process.returncode is not None:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "edge.history.query_process", self._data_dir),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=ANSWER_MAX,
            )
        return self._process

    async def _end_when_idle(self) -> None:
        await asyncio.sleep(self._idle_s)
        async with self._turn:
            await self._end()

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
