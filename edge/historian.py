"""The node's side of the local history: starts the compaction, remembers what it says, tells when it fails.

Must not: wait for anything, or be waited for. A run that fails is tried again with the next; while the store is in
need there is none, for the disk belongs to the alarms then.
"""

import asyncio
import logging
from contextlib import suppress
from pathlib import Path

import msgspec

from edge.committing.storing import Storing
from edge.health import Code, Lately
from edge.history.catalogue import folder_of, taken
from edge.history.settings import HistorySettings
from edge.node import Node
from edge.store.writer import HISTORY

log = logging.getLogger("anlin.history")

LOOK_S = 1.0
MANY_READINGS = 50_000
"""So many new ones start a run before its time: what lies in the journal only is read slowly."""

LEAST_S = 60.0
"""Between two runs."""

HANGS_S = 1_800.0
MISSED_MS = 600_000
"""Readings that the journal had to drop before they were history are a reason for so long."""


class RunFailedError(Exception):
    """A run of the compaction has come to no good end; the text says why."""


FORESEEN = (RunFailedError, OSError, msgspec.MsgspecError)
"""What a run fails with; anything else is a mistake of ours, and is logged with its traceback."""


class Report(msgspec.Struct, frozen=True):
    """What the last run that came to its end has said (`edge.history.compaction.Outcome`)."""

    taken: int
    behind: int
    readings: int
    bytes: int
    parts: int
    from_ms: int | None
    to_ms: int | None
    damaged: int


class Historian:
    """Runs the compaction of one data directory until cancelled."""

    def __init__(self, settings: HistorySettings, node: Node) -> None:
        self.report: Report | None = None
        self.error: str | None = None
        """Why the last run failed."""
        self.runs = 0
        self._settings = settings
        self._node = node
        self._missed = Lately(node.journal.figures.missed, MISSED_MS)
        self._ended_at = 0.0

    def told(self) -> dict[str, object] | None:
        """What health says of the history; None before the first run has ended."""
        if self.report is None:
            return None
        return msgspec.structs.asdict(self.report) | {
            "age_seconds": round(asyncio.get_running_loop().time() - self._ended_at, 1),
            "missed": self._node.journal.figures.missed,
            "error": self.error,
        }

    async def run(self) -> None:
        """Compact every so often, and as soon as much has come or the journal has no more room."""
        loop = asyncio.get_running_loop()
        self._node.advance(HISTORY, taken(folder_of(Path(self._settings.data_dir))))
        while True:
            began, received = loop.time(), self._received()
            while not self._due(loop.time() - began, self._received() - received):
                await asyncio.sleep(LOOK_S)
                self._tell()
            await self._once()
            self._tell()

    def _received(self) -> int:
        return self._node.intake.counts["received"]

    def _due(self, passed_s: float, received: int) -> bool:
        if self._node.commits.storing is not Storing.ALL:
            return False
        pressed = received >= MANY_READINGS or self._node.journal.figures.history_waited_for
        return passed_s >= self._settings.every_s or (pressed and passed_s >= LEAST_S)

    async def _once(self) -> None:
        try:
            self.report = await self._compacted()
        except Exception as error:  # the task's top: a history that fails must not end the gateway
            self._node.troubles.failures["history"] += 1
            self.error = str(error) or type(error).__name__
            log.warning(
                "the history was not written; it is tried again",
                extra={"reason": self.error},
                exc_info=not isinstance(error, FORESEEN),
            )
        else:
            self.error = None
            self._ended_at = asyncio.get_running_loop().time()
            self._node.advance(HISTORY, self.report.taken)
        self.runs += 1

    async def _compacted(self) -> Report:
        process = await asyncio.create_subprocess_exec(
            *self._settings.command(),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(HANGS_S):
                said, complaint = await _end_of(process)
        except TimeoutError as error:
            raise RunFailedError(f"a run took longer than {HANGS_S:.0f} s") from error
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        if process.returncode:
            lines = complaint.decode("utf-8", "replace").strip().splitlines()
            raise RunFailedError(lines[-1] if lines else f"it ended with code {process.returncode}")
        return msgspec.json.decode(said, type=Report)

    def _tell(self) -> None:
        node, report = self._node, self.report
        missed = node.journal.figures.missed
        if self._missed.grew(missed, node.clock.now_ms()):
            message: str | None = f"{missed} readings left the full journal before they were history"
        else:
            message = self.error
        if message is None and report is not None and report.damaged:
            message = f"{report.damaged} damaged parts were put aside"
        if message is None:
            node.troubles.over(Code.HISTORY_FAILING)
        else:
            node.troubles.say(Code.HISTORY_FAILING, message)


async def _end_of(process: asyncio.subprocess.Process) -> tuple[bytes, bytes]:
    """What it has said and complained of. Its standard input stays open until then."""
    assert process.stdout is not None  # noqa: S101 - asked for when it was started
    assert process.stderr is not None  # noqa: S101 - as above
    said, complaint = await asyncio.gather(process.stdout.read(), process.stderr.read())
    await process.wait()
    return said, complaint
