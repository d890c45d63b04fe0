"""Processes beside the node: started, watched, started again.

A child may crash, hang or be slow; the node notices only that it must start it anew. Its standard input is
a pipe from the node: when that closes, the node is gone and the child ends too.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

log = logging.getLogger("anlin.children")

STOP_S = 1.0
"""How long a child may take to end before it is killed; the node has 3 s in all."""

RESTART_FIRST_S = 0.5
RESTART_MOST_S = 30.0
STEADY_S = 30.0
"""A child that ran so long is started again without waiting longer than at first."""

SETTLED_S = 10.0
"""One that was started again counts as mended after so long; one that dies at its start never does."""

LOOK_S = 5.0
MISSES = 3
"""A child that so many times in a row does not answer hangs: it is killed and started again."""

ANSWER_S = 2.0

FATAL = 3
"""A child's exit code for what a restart soon cannot mend (port taken); it has said what to do."""


class Child:
    """One command, kept running. ``answers`` tells whether it does not hang; it must not raise."""

    def __init__(
        self, name: str, command: Sequence[str], answers: Callable[[], Awaitable[bool]] | None = None
    ) -> None:
        self.name = name
        self.up = False
        self.restarts = 0
        self._began = 0.0
        self._command = command
        self._answers = answers

    @property
    def well(self) -> bool:
        """It runs, and not just again."""
        return self.up and (not self.restarts or asyncio.get_running_loop().time() - self._began >= SETTLED_S)

    async def run(self) -> None:
        """Keep it running until cancelled, then end it."""
        pause = RESTART_FIRST_S
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                code = await self._once()
                what = f"ended with code {code}"
            except OSError as error:  # no memory or no room for a process: no reason for the node to end
                code, what = None, f"could not be started ({error})"
            self.restarts += 1
            if loop.time() - began > STEADY_S:
                pause = RESTART_FIRST_S
            elif code == FATAL:
                pause = RESTART_MOST_S
            log.warning("%s %s; starting it again in %.1f s", self.name, what, pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, RESTART_MOST_S)

    async def _once(self) -> int:
        process = await asyncio.create_subprocess_exec(
            *self._command, stdin=asyncio.subprocess.PIPE, start_new_session=True
        )
        self.up, self._began = True, asyncio.get_running_loop().time()
        try:
            return await self._watch(process)
        finally:
            self.up = False
            if process.returncode is None:
                await _end(process)

    async def _watch(self, process: asyncio.subprocess.Process) -> int:
        """Its exit code, when it has ended or been killed."""
        misses = 0
        while self._answers is not None and misses < MISSES:
            with suppress(TimeoutError):
                return await asyncio.wait_for(process.wait(), LOOK_S)
            misses = 0 if await self._answers() else misses + 1
        if misses:
            log.warning("%s does not answer", self.name)
            with suppress(ProcessLookupError):  # it has ended by itself meanwhile
                process.kill()
        return await process.wait()


async def answers_http(host: str, port: int) -> bool:
    """Whether a server answers at all, whatever it says."""
    try:
        async with asyncio.timeout(ANSWER_S):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(b"GET /healthz HTTP/1.0\r\n\r\n")
                return bool(await reader.read(1))
            finally:
                writer.transport.abort()
    except OSError:  # a timeout is one
        return False


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.stdin is not None:
        process.stdin.close()
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), STOP_S)
    except TimeoutError:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
